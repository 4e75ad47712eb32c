"""How many readers there are: counted when asked, or kept and dated where many are.

Counting a million takes longer than a page may. So the clock counts the readers of a
large newsletter every few minutes, and whoever shows such a number says when it is from
(`at`), however long ago that was. Of the others, and until a clock has come by for the
first time, everything is counted on the spot and `at` is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from newsletter.models import (
    Newsletter,
    Reckoning,
    Status,
    Subscription,
    SubscriptionTopic,
)
from newsletter.subscribers import directory
from newsletter.subscribers.directory import Counts, Growth

MANY = 20_000  # subscriptions: what is counted within a page's time
EVERY = timedelta(minutes=5)
KEPT_DAYS = 400
ALL, STATUS, RHYTHM, TOPIC = "all", "status", "rhythm", "topic"
JOINED, LEFT = "joined", "left"
COUNTED = (ALL, STATUS, RHYTHM, TOPIC, JOINED, LEFT)  # at one go

Found = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Overview:
    """How many subscribe, and who came and went since a day."""

    counts: Counts
    days: list[Growth]
    at: datetime | None  # null: now

    @property
    def months(self) -> list[Growth]:
        """Return who came and went by the month."""
        found: dict[date, list[Growth]] = {}
        for day in self.days:
            found.setdefault(day.since.replace(day=1), []).append(day)
        return [
            Growth(first, sum(d.joined for d in days), sum(d.left for d in days))
            for first, days in found.items()
        ]


def is_large(session: Session, newsletter: Newsletter) -> bool:
    """Tell whether a newsletter has too many subscriptions to count them in passing."""
    counted = session.get(Reckoning, (newsletter.id, ALL, ""))
    return counted is not None or _has_many(session, newsletter)


def overview(
    session: Session, newsletter: Newsletter, *, since: datetime, now: datetime
) -> Overview:
    """Return how many subscribe, and the growth by the day from `since`."""
    kept, at = read(session, newsletter)
    if at is None:
        days = directory.growth(session, newsletter, since=since, until=now)
        return Overview(directory.counts(session, newsletter), days, None)
    first = max(since, at - timedelta(days=KEPT_DAYS))
    days = [
        Growth(
            day,
            kept.get((JOINED, day.isoformat()), 0),
            kept.get((LEFT, day.isoformat()), 0),
        )
        for day in directory.days(newsletter, since=first, until=at)
    ]
    return Overview(_counts(kept, at), days, at)


def counts(session: Session, newsletter: Newsletter) -> Counts:
    """Return how many subscriptions stand where."""
    kept, at = read(session, newsletter, kind=STATUS)
    return directory.counts(session, newsletter) if at is None else _counts(kept, at)


def active_by_rhythm(
    session: Session, newsletter: Newsletter
) -> tuple[dict[str, int], datetime | None]:
    """Return how many active readers have each rhythm, as stored, and as of when."""
    kept, at = read(session, newsletter, kind=RHYTHM)
    if at is not None:
        return {name: number for (_, name), number in kept.items()}, at
    return _by_rhythm(session, newsletter), None


def choosers(
    session: Session, newsletter: Newsletter
) -> tuple[dict[int, int] | None, datetime | None]:
    """Return how many have chosen each topic, and as of when, where that is kept."""
    kept, at = read(session, newsletter, kind=TOPIC)
    if at is None:
        return None, None
    return {int(name): number for (_, name), number in kept.items()}, at


def read(
    session: Session, newsletter: Newsletter, *, kind: str = ""
) -> tuple[Found, datetime | None]:
    """Return what is kept, of one kind or of all, and as of when; None: nothing is."""
    query = select(
        Reckoning.kind, Reckoning.name, Reckoning.number, Reckoning.counted_at
    ).where(
        Reckoning.newsletter_id == newsletter.id,
        Reckoning.kind == kind if kind else Reckoning.kind.in_(COUNTED),
    )
    rows = session.execute(query).all()
    if not rows:
        return {}, None
    return {(row[0], row[1]): row[2] for row in rows}, rows[0].counted_at


def are_due(session: Session, newsletter: Newsletter, *, now: datetime) -> bool:
    """Tell whether a newsletter's readers are to be counted, or forgotten."""
    query = select(func.max(Reckoning.counted_at)).where(
        Reckoning.newsletter_id == newsletter.id, Reckoning.kind == ALL
    )
    last = session.scalar(query)
    if last is not None and last <= now < last + EVERY:
        return False
    return last is not None or _has_many(session, newsletter)


def count(session: Session, newsletter: Newsletter, *, now: datetime) -> Found:
    """Count everything of a large newsletter; nothing of one that is small (again)."""
    if not _has_many(session, newsletter):
        return {}
    counts = directory.counts(session, newsletter)
    found = {(ALL, ""): counts.total}
    for status in Status:
        found[STATUS, status.value] = getattr(counts, status.value)
    for rhythm, number in _by_rhythm(session, newsletter).items():
        found[RHYTHM, rhythm] = number
    for topic_id, number in _by_topic(session, newsletter).items():
        found[TOPIC, str(topic_id)] = number
    since = now - timedelta(days=KEPT_DAYS)
    for day in directory.growth(session, newsletter, since=since, until=now):
        if day.joined:
            found[JOINED, day.since.isoformat()] = day.joined
        if day.left:
            found[LEFT, day.since.isoformat()] = day.left
    return found


def store(
    session: Session,
    newsletter_id: int,
    found: Found,
    *,
    kinds: tuple[str, ...] = COUNTED,
    now: datetime,
) -> None:
    """Keep what was counted, in place of what there is of these kinds."""
    session.execute(
        delete(Reckoning).where(
            Reckoning.newsletter_id == newsletter_id, Reckoning.kind.in_(kinds)
        )
    )
    rows = [
        {
            "newsletter_id": newsletter_id,
            "kind": kind,
            "name": name,
            "number": number,
            "counted_at": now,
        }
        for (kind, name), number in found.items()
    ]
    if rows:
        session.execute(insert(Reckoning), rows)


def _counts(kept: Found, at: datetime) -> Counts:
    numbers = {name: number for (kind, name), number in kept.items() if kind == STATUS}
    return Counts(**numbers, counted_at=at)


def _has_many(session: Session, newsletter: Newsletter) -> bool:
    query = select(Subscription.id).where(Subscription.newsletter_id == newsletter.id)
    some = query.limit(MANY + 1).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) > MANY


def _by_rhythm(session: Session, newsletter: Newsletter) -> dict[str, int]:
    rows = session.execute(
        select(Subscription.rhythm, func.count())
        .where(
            Subscription.newsletter_id == newsletter.id,
            Subscription.status == Status.ACTIVE,
        )
        .group_by(Subscription.rhythm)
    )
    return {row[0]: row[1] for row in rows}


def _by_topic(session: Session, newsletter: Newsletter) -> dict[int, int]:
    rows = session.execute(
        select(SubscriptionTopic.topic_id, func.count())
        .join(Subscription, Subscription.id == SubscriptionTopic.subscription_id)
        .where(
            Subscription.newsletter_id == newsletter.id,
            Subscription.status == Status.ACTIVE,
            Subscription.all_topics.is_(False),
        )
        .group_by(SubscriptionTopic.topic_id)
    )
    return {row[0]: row[1] for row in rows}
