"""Readers as editors see them: search, counts, growth. Reads only."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import Newsletter, Status, Subscriber, Subscription
from newsletter.subscribers.addresses import read_address, readable, spellings

MAX_PAGE = 200
STREAM_BATCH = 1000
MANY = 5000


@dataclass(frozen=True, slots=True)
class Page:
    """Some subscriptions in the order of their addresses, and where the next begin."""

    subscriptions: list[Subscription]
    next_after: str | None  # give it back as `after`


@dataclass(frozen=True, slots=True)
class Counts:
    """How many subscriptions stand where."""

    pending: int = 0
    active: int = 0
    paused: int = 0
    left: int = 0
    suppressed: int = 0

    @property
    def total(self) -> int:
        """Return how many there are."""
        return sum((self.pending, self.active, self.paused, self.left, self.suppressed))

    @property
    def readers(self) -> int:
        """Return how many subscribe: those on a pause do."""
        return self.active + self.paused


@dataclass(frozen=True, slots=True)
class Growth:
    """Who came and went in a day or a month, told by its first day."""

    since: date
    joined: int
    left: int

    @property
    def net(self) -> int:
        """Return by how many the readers grew."""
        return self.joined - self.left


def search(
    session: Session,
    newsletter: Newsletter,
    *,
    text: str = "",
    status: Status | None = None,
    after: str = "",
    limit: int = 50,
) -> Page:
    """Return subscriptions whose address contains `text`, by address.

    Keyset-paged: the tenth thousandth page costs what the first does.
    """
    limit = max(1, min(limit, MAX_PAGE))
    rows = _by_address(session, newsletter, text, status, after, limit + 1)
    more = len(rows) > limit
    return Page(rows[:limit], rows[limit - 1].subscriber.email_key if more else None)


def newest(
    session: Session, newsletter: Newsletter, limit: int = 10
) -> list[Subscription]:
    """Return the readers who joined last."""
    query = (
        select(Subscription)
        .where(
            Subscription.newsletter_id == newsletter.id,
            Subscription.confirmed_at.is_not(None),
        )
        .order_by(Subscription.confirmed_at.desc())
        .limit(limit)
    )
    return list(session.scalars(query))


def find(session: Session, email: str) -> Subscriber:
    """Return the subscriber with an address. Raises InvalidInput or NotFound."""
    address = read_address(email, trial=True)
    query = select(Subscriber).where(Subscriber.email_key == address.key)
    found = session.scalar(query)
    if found is None:
        raise NotFound(
            N_("Nobody with the address %(email)s."), email=readable(address.email)
        )
    return found


def by_email(
    session: Session, newsletter: Newsletter, email: str
) -> Subscription | None:
    """Return a newsletter's subscription of an address; None if there is none."""
    try:
        key = read_address(email, trial=True).key
    except InvalidInput:
        return None
    query = select(Subscription).join(Subscriber).where(Subscriber.email_key == key)
    return session.scalar(query.where(Subscription.newsletter_id == newsletter.id))


def subscription(
    session: Session, newsletter: Newsletter, subscription_id: int
) -> Subscription:
    """Return one subscription of a newsletter. Raises NotFound."""
    found = session.get(Subscription, subscription_id)
    if found is None or found.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such reader here (any more)."))
    return found


def counts(session: Session, newsletter: Newsletter) -> Counts:
    """Return how many subscriptions stand where."""
    query = (
        select(Subscription.status, func.count())
        .where(Subscription.newsletter_id == newsletter.id)
        .group_by(Subscription.status)
    )
    return Counts(**{status.value: n for status, n in session.execute(query)})


def growth(
    session: Session,
    newsletter: Newsletter,
    *,
    since: datetime,
    until: datetime,
    by: Literal["day", "month"] = "day",
) -> list[Growth]:
    """Return who came and went, for every day or month from `since` to `until`.

    Days are the newsletter's own. Erased readers are gone from the past as well.
    """
    zone = ZoneInfo(newsletter.timezone)
    span = newsletter.id, since, until, zone, by
    joined = _by_period(session, Subscription.confirmed_at, *span)
    left = _by_period(session, Subscription.left_at, *span)
    return [
        Growth(day, joined.get(day, 0), left.get(day, 0))
        for day in _periods(since.astimezone(zone).date(), until, zone, by)
    ]


def export_batches(
    session: Session, newsletter: Newsletter, status: Status | None = None
) -> Iterator[list[Subscription]]:
    """Yield all subscriptions by address, a thousand at a time, and forget them."""
    after = ""
    while True:
        rows = _by_address(session, newsletter, "", status, after, STREAM_BATCH)
        if not rows:
            return
        after = rows[-1].subscriber.email_key
        yield rows
        for row in rows:
            session.expunge(row)
            if row.subscriber in session:
                session.expunge(row.subscriber)


def _by_address(
    session: Session,
    newsletter: Newsletter,
    text: str,
    status: Status | None,
    after: str,
    limit: int,
) -> list[Subscription]:
    """Return the next subscriptions by address.

    Many: walk along the addresses and stop when there are enough, at any size. Few:
    fetch and sort them, where the walk would pass a million others.
    """
    theirs = [Subscription.newsletter_id == newsletter.id]
    if status is not None:
        theirs.append(Subscription.status == status)
    wanted = [Subscriber.email_key > after]
    if text := text.strip()[:254]:
        found = (
            Subscriber.email_key.contains(spelling, autoescape=True)
            for spelling in sorted(spellings(text))
        )
        wanted.append(or_(*found))
    query = select(Subscription).join(Subscription.subscriber).where(*theirs)
    if _are_many(session, theirs):
        is_theirs = exists().where(Subscription.subscriber_id == Subscriber.id, *theirs)
        walk = select(Subscriber.id).where(*wanted, is_theirs)
        ids = list(session.scalars(walk.order_by(Subscriber.email_key).limit(limit)))
        wanted = [Subscription.subscriber_id.in_(ids)]
    query = query.where(*wanted).order_by(Subscriber.email_key).limit(limit)
    return list(session.scalars(query))


def _are_many(session: Session, theirs: list[ColumnElement[bool]]) -> bool:
    some = select(Subscription.id).where(*theirs).limit(MANY + 1).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) > MANY


def _by_period(
    session: Session,
    column: InstrumentedAttribute[datetime | None],
    newsletter_id: int,
    since: datetime,
    until: datetime,
    zone: ZoneInfo,
    by: str,
) -> dict[date, int]:
    """Count by the hour in the database, then by the newsletter's own days here."""
    hour = _hour(session, column).label("hour")
    query = (
        select(hour, func.count())
        .where(
            Subscription.newsletter_id == newsletter_id,
            column >= since,
            column < until,
        )
        .group_by(hour)
    )
    found: dict[date, int] = {}
    for text, number in session.execute(query):
        moment = datetime.fromisoformat(f"{text}:00+00:00").astimezone(zone)
        day = _first(moment.date(), by)
        found[day] = found.get(day, 0) + number
    return found


def _hour(session: Session, column: Any) -> ColumnElement[str]:
    if session.get_bind().dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24")
    return func.strftime("%Y-%m-%d %H", column)


def _periods(day: date, until: datetime, zone: ZoneInfo, by: str) -> Iterator[date]:
    day = _first(day, by)
    last = until.astimezone(zone).date()
    while day <= last:
        yield day
        if by == "month":
            day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
        else:
            day = date.fromordinal(day.toordinal() + 1)


def _first(day: date, by: str) -> date:
    return day.replace(day=1) if by == "month" else day
