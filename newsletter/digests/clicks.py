"""Clicks in sums: for each link of an issue and each day, and nothing of whose.

A month after an issue went out it is no longer counted; its links go on leading there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.digests import outgoing, reports
from newsletter.digests.machines import Clicks, Opened
from newsletter.models import CountedLink, Issue, LinkClicks, Newsletter

COUNTED_FOR = timedelta(days=30)  # like everything else in a report
NOBODY_YET = timedelta(seconds=5)  # as soon as this nobody can have read it


@dataclass(frozen=True, slots=True)
class Target:
    """Where a link leads, and how it is counted."""

    link_id: int
    issue_id: int
    url: str
    day: date
    counts: bool
    too_soon: bool  # for a person


@dataclass(frozen=True, slots=True)
class Link:
    """A link of an issue, and how often it was opened."""

    place: int
    url: str
    words: str
    clicks: int
    machines: int


@dataclass(frozen=True, slots=True)
class Sums:
    """How often the links of an issue were opened, all together."""

    clicks: int
    machines: int


def find(session: Session, token: str, *, now: datetime) -> Target | None:
    """Return where a link of a mail leads: one look by an index, behind no writer."""
    if not links.looks_like_link_token(token):
        return None
    row = session.execute(
        select(
            CountedLink.id,
            CountedLink.issue_id,
            CountedLink.url,
            Issue.started_at,
            Newsletter.count_clicks,
            Newsletter.timezone,
        )
        .join(Issue, Issue.id == CountedLink.issue_id)
        .join(Newsletter, Newsletter.id == Issue.newsletter_id)
        .where(CountedLink.token == token)
    ).one_or_none()
    if row is None or not outgoing.is_whole(row.url):
        return None
    started = row.started_at or now
    return Target(
        link_id=row.id,
        issue_id=row.issue_id,
        url=row.url,
        day=now.astimezone(ZoneInfo(row.timezone)).date(),
        counts=row.count_clicks and now < started + COUNTED_FOR,
        too_soon=now < started + NOBODY_YET,
    )


def keep(session: Session, gathered: Mapping[Opened, Clicks]) -> None:
    """Add clicks to the sums. Those of an issue that is gone are dropped."""
    if not gathered:
        return
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    of_link = select(
        CountedLink.id,
        bindparam("on_day", type_=LinkClicks.day.type),
        bindparam("people", type_=LinkClicks.clicks.type),
        bindparam("likely", type_=LinkClicks.machines.type),
    ).where(CountedLink.id == bindparam("link"))
    statement = dialect.insert(LinkClicks).from_select(
        ["link_id", "day", "clicks", "machines"], of_link
    )
    statement = statement.on_conflict_do_update(
        index_elements=["link_id", "day"],
        set_={
            "clicks": LinkClicks.clicks + statement.excluded.clicks,
            "machines": LinkClicks.machines + statement.excluded.machines,
        },
    )
    rows = [
        {
            "link": opened.link_id,
            "on_day": opened.day,
            "people": clicks.people,
            "likely": clicks.machines,
        }
        for opened, clicks in sorted(gathered.items())  # two writers in one order
    ]
    session.connection().execute(statement, rows)


def of_issue(session: Session, issue: Issue) -> list[Link]:
    """Return the links of an issue, the most opened first; none if none is counted."""
    clicks = func.coalesce(func.sum(LinkClicks.clicks), 0)
    machines = func.coalesce(func.sum(LinkClicks.machines), 0)
    query = (
        select(CountedLink.place, CountedLink.url, CountedLink.words, clicks, machines)
        .outerjoin(LinkClicks, LinkClicks.link_id == CountedLink.id)
        .where(CountedLink.issue_id == issue.id)
        .group_by(CountedLink.id)
        .order_by(clicks.desc(), CountedLink.place)
    )
    return [Link(*row) for row in session.execute(query)]


def by_day(session: Session, issue: Issue) -> list[tuple[date, int, int]]:
    """Return each day from the first to the last with a click: clicks and machines."""
    query = (
        select(
            LinkClicks.day, func.sum(LinkClicks.clicks), func.sum(LinkClicks.machines)
        )
        .join(CountedLink, CountedLink.id == LinkClicks.link_id)
        .where(CountedLink.issue_id == issue.id)
        .group_by(LinkClicks.day)
        .order_by(LinkClicks.day)
    )
    found = {
        day: (clicks, machines) for day, clicks, machines in session.execute(query)
    }
    if not found:
        return []
    first, last = min(found), max(found)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [(day, *found.get(day, (0, 0))) for day in days]


def by_link_and_day(
    session: Session, issue: Issue
) -> list[tuple[int, str, str, date | str, int, int]]:
    """Return place, address, words, day, clicks and machines of every link and day.

    A link that nobody opened has one line without a day.
    """
    query = (
        select(
            CountedLink.place,
            CountedLink.url,
            CountedLink.words,
            LinkClicks.day,
            func.coalesce(LinkClicks.clicks, 0),
            func.coalesce(LinkClicks.machines, 0),
        )
        .outerjoin(LinkClicks, LinkClicks.link_id == CountedLink.id)
        .where(CountedLink.issue_id == issue.id)
        .order_by(CountedLink.place, LinkClicks.day)
    )
    return [
        (place, url, words, day or "", clicks, machines)
        for place, url, words, day, clicks, machines in session.execute(query)
    ]


def of_issues(session: Session, issue_ids: Iterable[int]) -> dict[int, Sums]:
    """Return the sums of those issues whose links are counted."""
    query = (
        select(
            CountedLink.issue_id,
            func.coalesce(func.sum(LinkClicks.clicks), 0),
            func.coalesce(func.sum(LinkClicks.machines), 0),
        )
        .outerjoin(LinkClicks, LinkClicks.link_id == CountedLink.id)
        .where(CountedLink.issue_id.in_(list(issue_ids)))
        .group_by(CountedLink.issue_id)
    )
    return {row[0]: Sums(row[1], row[2]) for row in session.execute(query)}


def usual_share(session: Session, issue: Issue) -> float | None:
    """Return the clicks for each mail delivered of the issues it is compared with.

    None if the links of none of them were counted.
    """
    compared = reports.compared(session, issue)
    sums = of_issues(session, [report.issue_id for report in compared])
    delivered = sum(r.delivered for r in compared if r.issue_id in sums)
    clicks = sum(found.clicks for found in sums.values())
    return clicks / delivered if delivered else None
