"""What only others can tell of an issue: its links, its sender's DNS, SpamAssassin.

In three steps, so that nobody holds the database while others think: `questions` reads
what to ask, `ask` asks it within some seconds, `store` keeps the answers. `findings`
says what is known, without asking anybody.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.digests.preflight import addresses, page, sender, spam
from newsletter.digests.preflight.addresses import Answer
from newsletter.digests.preflight.findings import Finding, Level
from newsletter.digests.preflight.page import Page
from newsletter.errors import N_
from newsletter.mail import keyring, mime, probing
from newsletter.mail.mime import Letter
from newsletter.mail.probing import Lookup
from newsletter.models import DkimKey, Issue, OutsideCheck
from newsletter.posts import fetching
from newsletter.posts.download import Client

SECONDS = 5.0  # as long as a person waits for a page


@dataclass(frozen=True, slots=True)
class Questions:
    """What to ask about an issue."""

    issue_id: int
    urls: list[str]
    domain: str
    keys: list[DkimKey]
    mail: bytes


@dataclass(frozen=True, slots=True)
class Answers:
    """What others said of an issue."""

    issue_id: int
    links: list[Answer]
    findings: list[Finding]


def questions(
    session: Session, settings: Settings, issue: Issue, letter: Letter, *, now: datetime
) -> Questions:
    """Gather what to ask; links that have just answered are left alone."""
    urls = addresses.of(page.read(letter.html), settings.base_url)
    keys = [
        key
        for key in keyring.all_keys(session)
        if key.active and key.newsletter_id == issue.newsletter_id
    ]
    domain = keyring.domain_of(issue.newsletter)
    mail = mime.freeze(letter).splice(
        address=f"reader@{domain}",
        delivery_id=0,
        nonce="preflight",
        leave_token=mime.NOBODY,
        preferences_token=mime.NOBODY,
        at=now,
    )
    return Questions(
        issue_id=issue.id,
        urls=addresses.stale(session, urls, now=now),
        domain=domain,
        keys=keys,
        mail=mail,
    )


def ask(
    settings: Settings,
    about: Questions,
    *,
    client: Client | None = None,
    lookup: Lookup | None = None,
    seconds: float = SECONDS,
) -> Answers:
    """Ask everybody at once, for so many seconds. The demo asks nobody outside."""
    client = client or fetching.make_client(settings)
    client.seconds = seconds * 0.8
    lookup = lookup or probing.txt_lookup(within=seconds)
    with ThreadPoolExecutor(2, thread_name_prefix="preflight") as pool:
        junk = pool.submit(lambda: list(spam.ask(about.mail)))
        if settings.demo:
            return Answers(about.issue_id, [], junk.result())
        belief = pool.submit(
            lambda: list(sender.check(about.domain, about.keys, lookup))
        )
        links = addresses.ask(about.urls, client, seconds=seconds)
        return Answers(about.issue_id, links, [*belief.result(), *junk.result()])


def store(session: Session, answers: Answers, *, now: datetime) -> None:
    """Keep what others said, in place of what they said before."""
    addresses.store(session, answers.links, now=now)
    session.merge(
        OutsideCheck(
            issue_id=answers.issue_id,
            findings=[finding.kept() for finding in answers.findings],
            checked_at=now,
        )
    )
    session.flush()


def looked_at(session: Session, issue: Issue) -> datetime | None:
    """Return when others were last asked about an issue."""
    row = session.get(OutsideCheck, issue.id)
    return row.checked_at if row else None


def findings(
    session: Session, settings: Settings, issue: Issue, mail: Page
) -> Sequence[Finding]:
    """Return what is known from others. Asks nobody."""
    row = session.get(OutsideCheck, issue.id)
    if row is None:
        return [
            Finding(
                "outside",
                Level.UNKNOWN,
                N_("Links and the sender's domain have not been tried yet."),
            )
        ]
    if settings.demo:
        demo = Finding(
            "outside",
            Level.UNKNOWN,
            N_("The demo asks nobody outside, so links and DNS are not tried."),
        )
        return [demo, *map(Finding.read, row.findings)]
    urls = addresses.of(mail, settings.base_url)
    known = addresses.kept(session, urls)
    pictures = [picture.url for picture in mail.pictures]
    return [
        *map(Finding.read, row.findings),
        *addresses.check(urls, pictures, known),
    ]
