"""Every page of a newsletter with 1,000,000 subscribers: how long each takes.

Each address of the URL map that answers a GET is asked for at least twenty times, as an
owner who is logged in, in the process and after a first request that warms it up. The
time is the server's: from the request to the last byte of the answer (of what is
streamed, to the first). Database and program share the machine.

    python -m benchmarks.pages sqlite:////tmp/large.sqlite3     one that `seeded` made
"""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks import postgres, report, seeded
from benchmarks.contenders import Bench
from benchmarks.installation import opened, settings_for
from benchmarks.report import Goal, Section, Spread
from newsletter import editors, links, newsletters
from newsletter.app import create_app
from newsletter.config import Settings
from newsletter.models import (
    Author,
    Design,
    Feed,
    Issue,
    IssueKind,
    IssueState,
    Membership,
    Message,
    Newsletter,
    Post,
    Status,
    Subscriber,
    Subscription,
    Topic,
)

TIMES, FEWEST, PATIENCE = 20, 3, 10.0  # of one that takes long, fewer
SLOW_MS = 100.0
QUICK_READERS, QUICK_ISSUES = 20_000, 50
READERS = 200_000  # a million takes minutes to seed
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
# Pages that look different with more in their address.
VARIANTS = {
    "overview.start": ("", "?all=1"),
    "subscribers.index": (
        "", "?status=left", "?q=lindqvist", "?q=sara.gren7", "?q=nobody-at-all",
        "?q=sara&status=paused", "?q=nn", "?q=w", "?q=exempel.se&status=suppressed",
        "?after=500000", "?q=berg&after=500000", "?segment=language:en",
        "?segment=silent:365d+-language:en&status=active", "?segment=since:2099-01-01",
    ),
    "posts.index": ("", "?q=gången", "?state=draft"),
    "issues.index": ("", "?before=250"),
    "archive.index": ("", "?before=250"),
    "reports.index": ("", "?before=250"),
    "sending.readers": ("", "?which=bounced", "?who=anna"),
    "design.accent_sample": ("?accent=%23245c8b",),
    "settings.accent_sample": ("?accent=%23245c8b",),
    "calls.confirm": (),  # for hubs
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its rule, what was asked for, and what that cost."""

    name: str
    path: str
    status: int
    least_ms: float
    middle_ms: float
    late_ms: float  # the 95th percentile
    times: int

    @property
    def is_slow(self) -> bool:
        """Tell whether it takes longer than it may."""
        return self.late_ms > SLOW_MS


def measure(bench: Bench, *, rounds: int, whole: bool = False) -> Section:
    """Seed each database, if `whole` with a million, and ask for every page of it."""
    readers, issues = (
        (QUICK_READERS, QUICK_ISSUES) if bench.quick
        else (seeded.READERS if whole else READERS, seeded.ISSUES)
    )  # fmt: skip
    section = Section(
        "pages", f"Every page, {readers:,} subscribers and {issues} issues"
    )
    found: dict[str, list[Page]] = {}
    for dialect in ("sqlite", "postgresql"):
        if dialect == "postgresql" and not postgres.available():
            section.notes.append(f"Left out, PostgreSQL: {postgres.MISSING}.")
            continue
        if dialect == "sqlite":
            url = f"sqlite:///{bench.stock.folder / 'seeded.sqlite3'}"
        else:
            url = bench.stock.cluster.create("seeded")
        seeded.seed(url, readers, issues)
        found[dialect], left_out = ask_all(url, TIMES * rounds)
        if left_out:
            note = f"Not asked for, {NAMES[dialect]}: {', '.join(left_out)}."
            section.notes.append(note)
        section.data[dialect] = [_as_data(page) for page in found[dialect]]
        section.goals.append(_goal(dialect, found[dialect]))
    _tabulate(section, found)
    return section


def ask_all(url: str, times: int) -> tuple[list[Page], list[str]]:
    """Ask for every page; return them, slowest first, and rules without an example."""
    settings = settings_for(url)
    app = create_app(settings)
    client = login(app, settings, url)
    with opened(url) as database:
        seeded.reckon(database, settings)  # as of now, however old it is
        with database.reading() as session:
            values = examples(session, settings)
    asked, left_out = [], []
    for name, paths in addresses(app, values):
        if not paths and VARIANTS.get(name) != ():
            left_out.append(name)
        for path in paths:
            asked.append(ask(client, name, path, times))
            said = asked[-1]
            print(
                f"  {said.late_ms:9.1f} ms  {said.status}  {said.path[:90]}", flush=True
            )
    return sorted(asked, key=lambda page: -page.late_ms), left_out


def ask(client: FlaskClient, name: str, path: str, times: int) -> Page:
    """Ask for a page some times; a very slow one less often."""
    status = _once(client, path) if times > 1 else 0  # warms it up
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < times:
        if len(took) >= FEWEST and time.perf_counter() - began > PATIENCE:
            break
        before = time.perf_counter()
        status = _once(client, path)
        took.append((time.perf_counter() - before) * 1000)
    late = quantiles(took, n=20, method="inclusive")[-1] if took[1:] else took[0]
    return Page(name, path, status, min(took), median(took), late, len(took))


def login(app: Flask, settings: Settings, url: str) -> FlaskClient:
    """Log the owner in, as a browser does."""
    with opened(url) as database, database.transaction() as session:
        owner = editors.by_email(session, seeded.OWNER)
        assert owner
        link = editors.new_link(session, settings, owner)
    client, path = app.test_client(), urlsplit(link).path
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get(path).text)
    assert token
    answer = client.post(path, data={"csrf_token": token[1]})
    assert answer.status_code == 302, answer.text
    return client


def addresses(app: Flask, values: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each rule that answers a GET, and its addresses."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if "GET" not in (rule.methods or ()):
            continue
        paths = [rule.rule]
        for name in re.findall(r"<(?:\w+:)?(\w+)>", rule.rule):
            known = values.get(f"{rule.endpoint}.{name}", values.get(name, []))
            paths = [
                re.sub(rf"<(?:\w+:)?{name}>", str(value), path)
                for path in paths
                for value in known
            ]
        more = VARIANTS.get(rule.endpoint, ("",))
        yield rule.endpoint, [path + query for path in paths for query in more]


def examples(session: Session, settings: Settings) -> dict[str, list[Any]]:
    """Return what the variables of the rules stand for."""
    newsletter = newsletters.by_slug(session, seeded.SLUG)
    issues = _issues(session, newsletter)
    reader = session.scalars(
        select(Subscription)
        .where(
            Subscription.newsletter_id == newsletter.id,
            Subscription.status == Status.ACTIVE,
        )
        .order_by(Subscription.id.desc())
        .limit(1)
    ).one()
    waiting = session.scalars(
        select(Subscription)
        .where(Subscription.status == Status.PENDING)
        .order_by(Subscription.id)
        .limit(1)
    ).one()
    view = session.scalar(select(func.max(Message.view_token)))
    sign = partial(links.sign, settings)
    about = [reader.id, reader.subscriber.address_hash[:16]]
    asked = [waiting.id, waiting.round, waiting.subscriber.address_hash[:16]]
    first = partial(_first, session, newsletter)
    return {
        "slug": [newsletter.slug],
        "post_id": [first(Post)],
        "topic_id": [first(Topic)],
        "feed_id": [first(Feed)],
        "author_id": [first(Author)],
        "subscription_id": [reader.id],
        "subscriber_id": [session.scalar(select(func.max(Subscriber.id)))],
        "membership_id": [session.scalar(select(func.max(Membership.id)))],
        "number": [session.scalar(select(func.max(Design.number)))],
        "archive.show.number": [newsletter.last_number - 1, 1],
        **{
            f"issue_versions.{page}.{name}": value
            for page in ("show", "mail")
            for name, value in (("issue_id", issues[-1:]), ("number", [1]))
        },
        "issue_id": issues,
        "sending.ask_cancel.issue_id": issues[:1],
        "sending.ask.issue_id": issues[-1:],
        "letter_id": [_draft(session, newsletter, IssueKind.LETTER)],
        "filename": ["tokens.css"],
        "archive.view.token": [view],
        "leaving.show.token": [reader.leave_token],
        "preferences.show.token": [reader.preferences_token],
        "signup_by_token.look.token": [sign(links.CONFIRM, asked)],
        "signup_by_token.look_at_never.token": [
            sign(links.NEVER, [reader.subscriber.address_hash])
        ],
        "rights.look_at_address.token": [
            sign(links.ADDRESS, [*about, "ny@exempel.example", links.new_token()])
        ],
        "rights.look_at_data.token": [sign(links.DATA, about)],
        "rights.look_at_erase.token": [sign(links.ERASE, about)],
        "invitations.show.token": [links.new_token()],
        "security.reset_password.token": [links.new_token()],
    }


def _issues(session: Session, newsletter: Newsletter) -> list[int]:
    """Return an issue under way, a large one, one of hundreds, and a draft."""
    numbered = session.scalars(
        select(Issue.id)
        .where(Issue.newsletter_id == newsletter.id, Issue.number.is_not(None))
        .order_by(Issue.number.desc())
        .limit(seeded.IN_FULL + 2)
    ).all()
    draft = _draft(session, newsletter, IssueKind.DIGEST)
    return [numbered[0], numbered[1], numbered[-1], draft]


def _draft(session: Session, newsletter: Newsletter, kind: IssueKind) -> int:
    return session.scalars(
        select(func.max(Issue.id)).where(
            Issue.newsletter_id == newsletter.id,
            Issue.kind == kind,
            Issue.state == IssueState.DRAFT,
        )
    ).one()


def _first(session: Session, newsletter: Newsletter, model: Any) -> int | None:
    query = select(func.max(model.id)).where(model.newsletter_id == newsletter.id)
    return session.scalar(query)


def _once(client: FlaskClient, path: str) -> int:
    """Ask for a page and take all of it; of a stream, the beginning."""
    answer = client.get(path)
    if answer.is_streamed:
        next(iter(answer.response), b"")
    else:
        answer.get_data()
    answer.close()
    return answer.status_code


def _as_data(page: Page) -> dict[str, Any]:
    return {
        "page": page.name,
        "path": page.path,
        "status": page.status,
        "least_ms": round(page.least_ms, 1),
        "median_ms": round(page.middle_ms, 1),
        "p95_ms": round(page.late_ms, 1),
        "times": page.times,
        "slow": page.is_slow,
    }


def _goal(dialect: str, pages: list[Page]) -> Goal:
    late = [page.late_ms for page in pages]
    worst = Spread(max(late), min(late), max(late), len(late))
    what = f"the slowest of {len(late)} pages at the 95th percentile, {NAMES[dialect]}"
    return Goal(what, worst, at_most=SLOW_MS, unit="ms")


def _tabulate(section: Section, found: dict[str, list[Page]]) -> None:
    """Write one row for each address, with both databases beside each other."""
    section.columns = ["page"]
    for dialect in found:
        section.columns += [f"{NAMES[dialect]}, median ms", "p95 ms", ""]
    by_place = {
        dialect: {_shape(page): page for page in pages}
        for dialect, pages in found.items()
    }
    order: dict[str, None] = {}
    for pages in found.values():
        order.update(dict.fromkeys(map(_shape, pages)))
    for shape in order:
        row = [shape]
        for there in by_place.values():
            page = there.get(shape)
            row += (
                [f"{page.middle_ms:.1f}", f"{page.late_ms:.1f}",
                 "slow" if page.is_slow else ""]
                if page else ["", "", ""]
            )  # fmt: skip
        section.rows.append(row)


def _shape(page: Page) -> str:
    """Return an address without the tokens that are drawn anew each time."""
    path = re.sub(r"(?<=/)[\w.-]{20,}(?=/|$)", "…", page.path)
    return path if page.status == 200 else f"{path} ({page.status})"


def main() -> None:
    """Ask for every page of a database that is seeded already."""
    pages, left_out = ask_all(sys.argv[1], TIMES)
    section = Section("pages", "Every page")
    _tabulate(section, {sys.argv[1].partition("+")[0].partition(":")[0]: pages})
    section.notes = [f"Not asked for: {', '.join(left_out)}"] if left_out else []
    print(report.on_terminal(section))


if __name__ == "__main__":
    main()
