"""What became of issues, in sums: counted by the clock, kept, and compared.

Counting a million deliveries takes longer than a page may. So the clock counts an issue
when it is done, and again while bounces, complaints and farewells still come: often at
first, then daily, and after a month no more. Pages read the sums.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from newsletter.mail import ledger, outcomes
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueReport,
    IssueState,
    Message,
    Newsletter,
    Subscription,
)
from newsletter.subscribers.directory import Growth

REACHED = (DeliveryState.SENT, DeliveryState.COMPLAINED)
LEAVES_WITHIN = timedelta(days=7)
COMPARED = 10  # issues before it
AT_ONCE = 20  # issues that one tick counts
STREAM_BATCH = 200
MEASURES = ("delivered", "deferred", "bounced", "failed", "skipped")
AFTERWARDS = ("complained", "left")
# Up to this age, counted anew this often.
PACE = (
    (timedelta(hours=2), timedelta(minutes=10)),
    (timedelta(days=2), timedelta(hours=1)),
    (timedelta(days=8), timedelta(hours=6)),
    (timedelta(days=30), timedelta(days=1)),
)


@dataclass(frozen=True, slots=True)
class Usual:
    """The issues before one, of its kind, rhythm and audience: the mean of each sum."""

    issues: int
    readers: float
    sums: dict[str, float]
    shares: dict[str, float]
    seconds: float | None
    rate: float | None


class Month(NamedTuple):
    """A month: who came, who left, and how many deliveries bounced."""

    first: date
    joined: int
    left: int
    bounced: int
    readers: int  # at its end


def due(session: Session, *, now: datetime) -> list[int]:
    """Return the issues that are to be counted, the newest first."""
    query = (
        select(Issue.id)
        .outerjoin(IssueReport, IssueReport.issue_id == Issue.id)
        .where(
            is_out(),
            or_(
                IssueReport.issue_id.is_(None),
                IssueReport.next_at <= now,
                IssueReport.counted_at < Issue.finished_at,  # tried again meanwhile
            ),
        )
        .order_by(Issue.id.desc())
        .limit(AT_ONCE)
    )
    return list(session.scalars(query))


def is_out() -> ColumnElement[bool]:
    """Tell of an `Issue` whether it has gone out, to all or until it was cancelled."""
    return and_(
        Issue.state.in_((IssueState.SENT, IssueState.CANCELLED)),
        Issue.started_at.is_not(None),
        Issue.number.is_not(None),
    )


def count(session: Session, issue_id: int, *, now: datetime) -> IssueReport:
    """Count what became of an issue. Takes its time with many readers."""
    issue = session.get_one(Issue, issue_id)
    counts = ledger.counts(session, issue_id=issue_id)
    found = outcomes.reasons(session, issue_id=issue_id, states=outcomes.LISTED)
    started = issue.started_at or now
    return IssueReport(
        issue_id=issue_id,
        readers=counts.total,
        delivered=counts.sent + counts.complained,
        deferred=counts.deferred,
        bounced=counts.bounced,
        failed=counts.failed,
        skipped=counts.skipped,
        complained=counts.complained,
        left=_left(session, issue, started),
        reasons=[[why.state.value, why.reason, why.readers] for why in found],
        passed_at=_passed(session, issue_id),
        counted_at=now,
        next_at=_next(started, issue.finished_at, now),
    )


def keep(session: Session, counted: IssueReport) -> None:
    """Keep what was counted, in place of what there is, while the issue exists."""
    if session.get(Issue, counted.issue_id) is not None:
        session.merge(counted)
        session.flush()


def of_issue(session: Session, issue: Issue) -> IssueReport | None:
    """Return the sums of an issue; None until the clock has counted them."""
    return session.get(IssueReport, issue.id)


def page(
    session: Session, newsletter: Newsletter, *, before: int | None, size: int
) -> list[tuple[Issue, IssueReport | None]]:
    """Return issues that have gone out, newest first, below number `before`."""
    query = _with_sums(newsletter).options(selectinload(Issue.posts))
    if before is not None:
        query = query.where(Issue.number < before)
    rows = session.execute(query.order_by(Issue.number.desc()).limit(size))
    return [(row[0], row[1]) for row in rows]


def every(
    session: Session, newsletter: Newsletter
) -> Iterator[tuple[Issue, IssueReport | None]]:
    """Yield all issues that have gone out, newest first, and forget them."""
    before: int | None = None
    while rows := page(session, newsletter, before=before, size=STREAM_BATCH):
        before = rows[-1][0].number
        yield from rows
        session.expunge_all()
        newsletter = session.get_one(Newsletter, newsletter.id)


def compared(session: Session, issue: Issue) -> Sequence[IssueReport]:
    """Return the reports of the issues that one is compared with, the newest first."""
    query = (
        select(IssueReport)
        .join(Issue, Issue.id == IssueReport.issue_id)
        .options(joinedload(IssueReport.issue))
        .where(
            Issue.newsletter_id == issue.newsletter_id,
            Issue.kind == issue.kind,
            Issue.rhythm == issue.rhythm,
            Issue.segment == issue.segment,
            Issue.state == IssueState.SENT,
            Issue.number < (issue.number or 0),
            IssueReport.readers > 0,
        )
        .order_by(Issue.number.desc())
        .limit(COMPARED)
    )
    return session.scalars(query).all()


def usual(session: Session, issue: Issue) -> Usual | None:
    """Return the mean of the issues before one; None if it is the first of its kind."""
    found = compared(session, issue)
    if not found:
        return None
    readers = sum(report.readers for report in found)
    sums = {
        name: sum(getattr(report, name) for report in found)
        for name in (*MEASURES, *AFTERWARDS)
    }
    return Usual(
        issues=len(found),
        readers=readers / len(found),
        sums={name: number / len(found) for name, number in sums.items()},
        shares={name: number / readers for name, number in sums.items()},
        seconds=_mean([seconds(report) for report in found]),
        rate=_mean([rate(report) for report in found]),
    )


def seconds(report: IssueReport) -> float | None:
    """Return how long it took until each reader had been tried once."""
    started = report.issue.started_at
    if started is None or report.passed_at is None:
        return None
    return max((report.passed_at - started).total_seconds(), 0.0)


def rate(report: IssueReport) -> float | None:
    """Return how many a second were delivered; None of what took no time to tell."""
    took = seconds(report)
    return report.delivered / took if took and took >= 1 else None


def share(report: IssueReport, name: str) -> float:
    """Return one of its sums as a share of its readers."""
    return float(getattr(report, name)) / report.readers if report.readers else 0.0


def months(
    session: Session,
    newsletter: Newsletter,
    growth: Sequence[Growth],
    readers: int,
) -> list[Month]:
    """Return each month of `growth` with what bounced; `readers` is how many now.

    What bounced belongs to the month in which its issue began.
    """
    if not growth:
        return []
    zone = ZoneInfo(newsletter.timezone)
    first = growth[0].since.replace(day=1)
    query = (
        select(Issue.started_at, IssueReport.bounced)
        .join(IssueReport, IssueReport.issue_id == Issue.id)
        .where(
            Issue.newsletter_id == newsletter.id,
            Issue.started_at >= datetime(first.year, first.month, 1, tzinfo=zone),
            IssueReport.bounced > 0,
        )
    )
    bounced: dict[date, int] = {}
    for started, number in session.execute(query):
        if started is None:
            continue
        month = started.astimezone(zone).date().replace(day=1)
        bounced[month] = bounced.get(month, 0) + number
    found: list[Month] = []
    for step in reversed(growth):
        at_end = max(readers, 0)
        lost = bounced.get(step.since, 0)
        found.append(Month(step.since, step.joined, step.left, lost, at_end))
        readers -= step.net
    return found[::-1]


def _with_sums(newsletter: Newsletter) -> Select[Issue, IssueReport]:
    return (
        select(Issue, IssueReport)
        .outerjoin(IssueReport, IssueReport.issue_id == Issue.id)
        .where(Issue.newsletter_id == newsletter.id, is_out())
    )


def _left(session: Session, issue: Issue, started: datetime) -> int:
    """Count who left within a week of an issue, and got no later one before.

    A link to leave tells no issue apart, so it is the last one they had got.
    """
    later, other = aliased(Message), aliased(Issue)
    got = exists().where(
        Delivery.subscription_id == Subscription.id,
        Delivery.message_id == Message.id,
        Message.issue_id == issue.id,
        Delivery.state.in_(REACHED),
    )
    newer = aliased(Delivery)
    got_later = exists().where(
        newer.subscription_id == Subscription.id,
        newer.state.in_(REACHED),
        newer.message_id == later.id,
        later.issue_id == other.id,
        other.started_at > started,
        other.started_at <= Subscription.left_at,
    )
    query = select(func.count()).where(
        Subscription.newsletter_id == issue.newsletter_id,
        Subscription.left_at >= started,
        Subscription.left_at < started + LEAVES_WITHIN,
        got,
        ~got_later,
    )
    return session.scalar(query.select_from(Subscription)) or 0


def _passed(session: Session, issue_id: int) -> datetime | None:
    """Return when the last of those who took it at once had it."""
    messages = select(Message.id).where(Message.issue_id == issue_id)
    return session.scalar(
        select(func.max(Delivery.settled_at)).where(
            Delivery.message_id.in_(messages),
            Delivery.state.in_(REACHED),
            Delivery.attempts <= 1,
        )
    )


def _next(
    started: datetime, finished: datetime | None, now: datetime
) -> datetime | None:
    age = now - max(started, finished or started)
    return next((now + pace for most, pace in PACE if age < most), None)


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None
