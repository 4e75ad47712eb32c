"""Whether the links of a mail answer, and how large its pictures are.

Each address is asked once, a few at a time, and what it said is kept for all issues
that hold it. A site that turns programs away (403, 429 …) answers people: no flaw.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from newsletter.digests.preflight.findings import Finding, Level, few
from newsletter.digests.preflight.page import Page
from newsletter.errors import N_, FeedError
from newsletter.mail import mime
from newsletter.models import LinkCheck
from newsletter.posts.download import Client
from newsletter.posts.guard import Denied, NoSuchHost

MOST = 80  # of one mail
AT_ONCE = 6
FRESH = timedelta(minutes=30)  # what answered is not asked again within that
KEPT = timedelta(days=30)
LARGE_PICTURE = 1_000_000  # bytes
SHY = frozenset({401, 403, 405, 406, 429, 451, 999})  # not for programs
SAID = {
    "links.broken": (
        Level.WARNING,
        N_("Links that lead nowhere: %(count)s."),
        N_("Correct them, or hide the post they stand in."),
    ),
    "links.silent": (
        Level.WARNING,
        N_("Links whose site does not answer: %(count)s."),
        N_("Try them yourself, and look again in a while."),
    ),
    "pictures.large": (
        Level.WARNING,
        N_("Pictures of more than a megabyte: %(count)s."),
        N_("Phones are slow to load them. Make them smaller."),
    ),
    "links.unknown": (
        Level.UNKNOWN,
        N_("Links that have not been tried: %(count)s."),
        "",
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of asking an address; status 0 is no answer, `unasked` our fault."""

    url: str
    status: int = 0
    size: int = 0
    unasked: bool = False


def of(page: Page, own: str) -> list[str]:
    """Return the addresses in a mail, each once; not those of this installation."""
    found = [*page.links, *(picture.url for picture in page.pictures)]
    return list(
        dict.fromkeys(
            url
            for url in found
            if url.startswith(("https://", "http://"))
            and not url.startswith(f"{own}/")
            and url != own
            and len(url) <= 2000
            and mime.LEAVE not in url
            and mime.PREFERENCES not in url
        )
    )


def stale(session: Session, urls: Sequence[str], *, now: datetime) -> list[str]:
    """Return which addresses to ask: not those that answered well just now."""
    known = kept(session, urls)
    return [
        url
        for url in urls[:MOST]
        if (row := known.get(url)) is None
        or not 200 <= row.status < 400
        or now - row.checked_at > FRESH
    ]


def ask(urls: Iterable[str], client: Client, *, seconds: float) -> list[Answer]:
    """Ask addresses, for so long at most; those without an answer then are silent.

    Where not one host can be found, it is this machine that cannot look.
    """
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="links")
    asked = {pool.submit(_ask_one, client, url): url for url in urls}
    done, late = wait(asked, timeout=seconds)
    pool.shutdown(wait=False, cancel_futures=True)
    answers = [future.result() for future in done]
    lost = [found for found, no_host in answers if no_host]
    alone = bool(lost) and len(lost) == len(answers)
    return [
        *(
            Answer(found.url, unasked=True) if alone else found
            for found, _no_host in answers
        ),
        *(Answer(asked[future], unasked=True) for future in late),
    ]


def _ask_one(client: Client, url: str) -> tuple[Answer, bool]:
    """Return what an address said, and whether its host could not be found."""
    try:
        seen = client.look(url)
    except Denied:
        return Answer(url, unasked=True), False
    except NoSuchHost:
        return Answer(url), True
    except FeedError:
        return Answer(url), False
    return Answer(url, status=seen.status, size=seen.size), False


def store(session: Session, answers: Iterable[Answer], *, now: datetime) -> None:
    """Keep what addresses said."""
    for answer in answers:
        session.merge(
            LinkCheck(
                url_hash=_hash(answer.url),
                url=answer.url,
                status=answer.status,
                size_bytes=answer.size,
                unasked=answer.unasked,
                checked_at=now,
            )
        )
    session.flush()


def kept(session: Session, urls: Sequence[str]) -> dict[str, LinkCheck]:
    """Return what is known of addresses."""
    hashes = [_hash(url) for url in urls]
    query = select(LinkCheck).where(LinkCheck.url_hash.in_(hashes))
    return {row.url: row for row in session.scalars(query)}


def forget_old(session: Session, *, now: datetime) -> None:
    """Forget what was asked a month ago."""
    session.execute(delete(LinkCheck).where(LinkCheck.checked_at < now - KEPT))


def check(
    urls: Sequence[str], pictures: Iterable[str], known: Mapping[str, LinkCheck]
) -> Iterator[Finding]:
    """Yield what there is to say of a mail's links and pictures."""
    if not urls:
        return
    rows = {url: known.get(url) for url in urls}
    broken = [
        f"{row.status} {url}"
        for url, row in rows.items()
        if row and row.status >= 400 and row.status not in SHY
    ]
    silent = [
        u for u, row in rows.items() if row and not row.status and not row.unasked
    ]
    unasked = [url for url, row in rows.items() if row is None or row.unasked]
    large = [
        f"{row.size_bytes / 1_000_000:.1f} MB {url}"
        for url in pictures
        if (row := rows.get(url)) and row.size_bytes > LARGE_PICTURE
    ]
    for code, places in (
        ("links.broken", broken),
        ("links.silent", silent),
        ("pictures.large", large),
        ("links.unknown", unasked),
    ):
        if places:
            level, what, advice = SAID[code]
            count = {"count": len(places)}
            yield Finding(code, level, what, advice, count, few(places))
    if not broken and not silent and not unasked:
        yield Finding(
            "links",
            Level.PASSED,
            N_("Every link answers: %(count)s of them."),
            values={"count": len(urls)},
        )


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode(errors="replace")).hexdigest()
