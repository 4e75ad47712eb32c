"""Readers as editors see them: search, counts, growth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager

from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import Newsletter, Status, Subscriber, Subscription
from newsletter.subscribers import finding
from newsletter.subscribers.addresses import read_address, readable, spellings

MAX_PAGE = 200
STREAM_BATCH = 1000
FEW = 10_000  # subscriptions that are all looked at for one page
# How many are looked at, the newest first, before a page is shown as it is.
STEPS = (200, 2_000, 6_000)
NEWEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Page:
    """Some subscriptions, the newest first, and where the next begin."""

    subscriptions: list[Subscription]
    next_after: int | None  # give it back as `after`; None: there are no more
    # When the last that was looked at came, where that was as far as it went at once.
    looked_back_to: datetime | None = None

    @property
    def unfinished(self) -> bool:
        """Tell whether the page is not full, though there may be more."""
        return self.looked_back_to is not None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many subscriptions stand where."""

    pending: int = 0
    active: int = 0
    paused: int = 0
    left: int = 0
    suppressed: int = 0
    counted_at: datetime | None = None  # where it is not counted anew every time

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
    conditions: Sequence[ColumnElement[bool]] = (),
    after: int | None = None,
    limit: int = 50,
) -> Page:
    """Return subscriptions whose address contains `text`, the newest first.

    `conditions` are about the Subscription, as `segments.conditions` gives them.

    Costs the same at any size: what cannot be found by an index is looked for among
    some thousands, and the page says how far that went (`looked_back_to`).
    """
    limit = max(1, min(limit, MAX_PAGE))
    needles = sorted(spellings(text[:254])) if text.strip() else []
    wanted = [finding.holds(needles)] if needles else []
    look = _Look(session, newsletter, status, [*wanted, *conditions])
    before = NEWEST if after is None else after
    rows: list[Subscription] = []
    for size in (FEW + 1,) if look.are_few() else STEPS:
        if size == STEPS[-1] and finding.can_look_up(needles):
            found = finding.look_up(session, needles, before=before, limit=size)
            rows += look.among(found.ids, limit + 1 - len(rows))
            before = found.floor
        else:
            floor = look.floor(before, size)
            rows += look.between(floor, before, size, limit + 1 - len(rows))
            before = floor
        if len(rows) > limit or not before:
            break
    if len(rows) > limit:
        return Page(rows[:limit], rows[limit - 1].subscriber_id)
    return Page(rows, before or None, look.moment(before) if before else None)


class _Look:
    """Subscriptions of one newsletter, in the order of their subscribers."""

    def __init__(
        self,
        session: Session,
        newsletter: Newsletter,
        status: Status | None,
        wanted: Sequence[ColumnElement[bool]],
    ) -> None:
        self.session = session
        self.wanted = wanted
        self.theirs = [Subscription.newsletter_id == newsletter.id]
        if status is not None:
            self.theirs.append(Subscription.status == status)

    def are_few(self) -> bool:
        """Tell whether all can be looked at, each time."""
        some = select(Subscription.id).where(*self.theirs).limit(FEW + 1).subquery()
        number = self.session.scalar(select(func.count()).select_from(some)) or 0
        return number <= FEW

    def floor(self, before: int, size: int) -> int:
        """Return the last of the next `size` subscribers; 0: they are fewer."""
        query = self._next(before, Subscription.subscriber_id).offset(size - 1)
        return self.session.scalar(query.limit(1)) or 0

    def between(
        self, floor: int, before: int, size: int, limit: int
    ) -> list[Subscription]:
        """Return those who are wanted of the next `size`."""
        # Read in the order of the index, whatever else is asked of them.
        some = self._next(before, Subscription.id).limit(size)
        some = some.where(Subscription.subscriber_id >= floor)
        return self._those(Subscription.id.in_(select(some.subquery().c.id)), limit)

    def among(self, subscriber_ids: list[int], limit: int) -> list[Subscription]:
        """Return those who are wanted of some subscribers."""
        return self._those(Subscription.subscriber_id.in_(subscriber_ids), limit)

    def moment(self, subscriber_id: int) -> datetime | None:
        """Return when a subscriber, or the next newer one here, came."""
        query = select(Subscription.created_at).where(*self.theirs)
        query = query.where(Subscription.subscriber_id >= subscriber_id)
        return self.session.scalar(query.order_by(Subscription.subscriber_id).limit(1))

    def _next(self, before: int, what: InstrumentedAttribute[int]) -> Select[int]:
        query = select(what).where(*self.theirs, Subscription.subscriber_id < before)
        return query.order_by(Subscription.subscriber_id.desc())

    def _those(self, some: ColumnElement[bool], limit: int) -> list[Subscription]:
        query = (
            select(Subscription)
            .join(Subscription.subscriber)
            .options(contains_eager(Subscription.subscriber))
            .where(*self.theirs, some, *self.wanted)
            .order_by(Subscription.subscriber_id.desc())
            .limit(limit)
        )
        return list(self.session.scalars(query))


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
    """Count how many subscriptions stand where, now."""
    query = (
        select(Subscription.status, func.count())
        .where(Subscription.newsletter_id == newsletter.id)
        .group_by(Subscription.status)
    )
    found: dict[str, Any] = {row[0].value: row[1] for row in session.execute(query)}
    return Counts(**found)


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


def days(newsletter: Newsletter, *, since: datetime, until: datetime) -> Iterator[date]:
    """Yield the newsletter's own days between two moments, both included."""
    zone = ZoneInfo(newsletter.timezone)
    return _periods(since.astimezone(zone).date(), until, zone, "day")


def export_batches(
    session: Session, newsletter: Newsletter, status: Status | None = None
) -> Iterator[list[Subscription]]:
    """Yield all subscriptions by address, a thousand at a time, and forget them."""
    after = ""
    while True:
        rows = _by_address(session, newsletter, status, after)
        if not rows:
            return
        after = rows[-1].subscriber.email_key
        yield rows
        for row in rows:
            session.expunge(row)
            if row.subscriber in session:
                session.expunge(row.subscriber)


def _by_address(
    session: Session, newsletter: Newsletter, status: Status | None, after: str
) -> list[Subscription]:
    """Return the next subscriptions by address.

    Many: walk along the addresses and stop when there are enough, at any size. Few:
    fetch and sort them, where the walk would pass a million others.
    """
    theirs = [Subscription.newsletter_id == newsletter.id]
    if status is not None:
        theirs.append(Subscription.status == status)
    wanted = [Subscriber.email_key > after]
    query = select(Subscription).join(Subscription.subscriber).where(*theirs)
    if _are_many(session, theirs):
        is_theirs = exists().where(Subscription.subscriber_id == Subscriber.id, *theirs)
        walk = select(Subscriber.id).where(*wanted, is_theirs)
        walk = walk.order_by(Subscriber.email_key).limit(STREAM_BATCH)
        wanted = [Subscription.subscriber_id.in_(list(session.scalars(walk)))]
    query = query.where(*wanted).order_by(Subscriber.email_key).limit(STREAM_BATCH)
    return list(session.scalars(query))


def _are_many(session: Session, theirs: list[ColumnElement[bool]]) -> bool:
    some = select(Subscription.id).where(*theirs).limit(FEW + 1).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) > FEW


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
