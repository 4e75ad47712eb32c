"""The ledger of deliveries: the only writer of `delivery.state`.

                    ┌──────────── release ───────────┐
                    ▼                                │
    outbox ──▶ queued ─────── claim ───────────▶ in hand ──▶ sent ──▶ complained
                 │ ▲            │                  │ │ │
                 │ │            │ no longer wanted │ │ ├────▶ bounced  the address
                 │ │ due        ▼                  │ │ └────▶ failed   anything else
                 │ └───────── skipped ◀─ cancel    │ │
                 │             ▲                   │ └─ lease over: queued, resent
                 └─────────────┘                   └──▶ deferred (until next_attempt_at)

    bounced, failed ── retry, by a person's wish ──▶ queued

There are two ways to be in hand, so that an issue costs one change of a row a reader:

- An issue's readers are claimed by ranges. A mark says up to which delivery, and each
  claim moves it on and writes one lease: from this id to that, this worker, until then.
  The rows stay `queued` until their outcome is written. The mark never goes back.
- Single mails, and what is queued again, are claimed row by row and become `claimed`.
  Of an issue, `next_attempt_at` tells what is queued again: put off and due, released,
  left by a worker that died, or tried again (`retry`). It is set there, and in no row
  that a lease is about.

So a row at or below the mark that is `queued` without `next_attempt_at` is in the hands
of the one worker whose lease holds it. A lease is deleted when it holds no such row.

What a crash after each commit means:

- after `claim`: nobody knows whether the relay has the message. When the lease is over
  it is queued again, marked `resent`, with the Message-ID it had; or it is failed, as
  "unknown", where the newsletter would rather hold back than repeat.
- after `settle`, `release`, `skip_subscription`, `cancel`, `retry`: nothing, they say
  it all.
- before `settle`, with the relay's yes in hand: as after `claim`. Outcomes are written
  without delay, so that this is what was on the wire and one write.

Claiming looks once more, in the statement that finds the rows, at whether the reader
still wants mail. On PostgreSQL someone may be taken out at the very moment of a claim
and be sent to all the same; then the row says `sent`, which is true.
"""

import functools
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    CTE,
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    CursorResult,
    Integer,
    Select,
    String,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.orm import Session, aliased

from newsletter.db import UTCDateTime
from newsletter.models import (
    AGAIN,
    UNUSUAL,
    ClaimMark,
    Delivery,
    DeliveryState,
    Kind,
    Lease,
    Message,
    MessageState,
    Newsletter,
    NewsletterRelay,
    Status,
    Subscriber,
    Subscription,
    Suppression,
)

_TABLE = cast(Table, Delivery.__table__)
LEASE = timedelta(seconds=60)
SINGLE, BULK = 0, 1  # lanes; single mails go first
UNSETTLED = (DeliveryState.QUEUED, DeliveryState.CLAIMED, DeliveryState.DEFERRED)
WAITING = (DeliveryState.QUEUED, DeliveryState.DEFERRED)
AT_ONCE = 5_000  # rows that one statement changes at most
LEASES_AT_ONCE = 20  # that are recovered in one transaction
# Not to someone who has left, bounced or been erased. A confirmation, a link to one's
# data: those are asked for anew, by the person, and may be how they come back.
_NEED_READER = (Kind.DIGEST, Kind.WELCOME)
_FORBIDDEN = ("never", "complained")  # these hold back every mail


class Claim(NamedTuple):
    """A delivery that is this worker's to make, with what splicing needs."""

    id: int
    message_id: int
    lane: int
    address: str
    attempts: int
    leave_token: str | None
    preferences_token: str | None


_claim = functools.partial(tuple.__new__, Claim)  # `_make`, for a third of its time


class Outcome(NamedTuple):
    """What became of a claimed delivery."""

    delivery_id: int
    message_id: int
    state: DeliveryState  # sent, deferred, bounced or failed
    reply: str = ""
    reason: str = ""
    next_attempt_at: datetime | None = None
    unknown: bool = False  # the relay may have it all the same
    tried: bool = True  # it was an attempt


@dataclass(frozen=True, slots=True)
class Counts:
    """How many deliveries stand where."""

    total: int = 0
    queued: int = 0
    claimed: int = 0
    sent: int = 0
    deferred: int = 0
    bounced: int = 0
    failed: int = 0
    skipped: int = 0
    complained: int = 0
    resent: int = 0

    @property
    def left(self) -> int:
        """Return how many are not settled."""
        return self.queued + self.claimed + self.deferred


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought, and how many more it looked at and skipped."""

    claims: list[Claim]
    skipped: int = 0
    last_again: int = 0  # the last delivery looked at that was queued again
    is_busy: bool = False  # somebody else is claiming from it at this moment

    @property
    def looked_at(self) -> int:
        """Return how many deliveries it took off the queue."""
        return len(self.claims) + self.skipped


def claim(
    session: Session,
    *,
    worker: str,
    limit: int,
    now: datetime,
    lease: timedelta = LEASE,
    message_id: int | None = None,
    after: int = 0,
    pool: int = 0,
) -> Claimed:
    """Take up to `limit` queued deliveries: single mails, or those of one message.

    Looks whether each reader still wants mail, and skips, saying why, who does not.
    On PostgreSQL two workers never wait for each other. Of what is queued again `after`
    leaves out the deliveries up to that id, which spares the database what has been
    dealt with. Single mails are those of a `pool`: one newsletter's that has a relay of
    its own, or (0) what goes by the installation's.
    """
    values = {
        "most": limit,
        "of_message": message_id,
        "moment": now,
        "until": now + lease,
        "by": worker,
        "after": after,
        "pool": pool,
    }
    fresh = Claimed([])
    if message_id is not None:
        fresh = _claim_range(session, message_id, values)
        values["most"] = limit - fresh.looked_at
    if not values["most"]:
        return fresh
    again = _claim_rows(session, values, single=message_id is None)
    return Claimed(
        again.claims + fresh.claims,
        again.skipped + fresh.skipped,
        again.last_again,
        fresh.is_busy,
    )


def _claim_range(session: Session, message_id: int, values: dict[str, Any]) -> Claimed:
    """Claim what lies next above the mark, with one lease.

    On PostgreSQL the mark's row is the turnstile: who finds it locked goes elsewhere.
    """
    connection = session.connection()
    mark = connection.execute(_ASK_MARK, values).scalar_one_or_none()
    if mark is None:
        return Claimed([], is_busy=bool(connection.execute(_HAS_MARK, values).all()))
    rows = _look(connection, "fresh", {**values, "after": mark})
    if not rows:
        return Claimed([])
    claims = _wanted(rows)
    last_id = max(row[0] for row in rows)
    connection.execute(_MOVE_MARK, {**values, "last": last_id})
    if claims:
        ends = {"first": claims[0].id, "last": claims[-1].id}
        connection.execute(_LEASE, {**values, **ends})
    _leave_out(session, rows, values["moment"])
    return Claimed(claims, len(rows) - len(claims))


def _claim_rows(session: Session, values: dict[str, Any], *, single: bool) -> Claimed:
    """Claim row by row: single mails, or what is queued again of a message."""
    connection = session.connection()
    rows: Sequence[Sequence[Any]]
    if connection.dialect.name == "postgresql":
        rows = connection.execute(_claiming(single=single), values).all()
    else:
        rows = _claim_on_sqlite(connection, values, single=single)
    claims = _wanted(rows)
    if len(claims) < len(rows):
        close_settled(session, {row[1] for row in rows if row[7] is not None})
    last = 0 if single else max((row[0] for row in rows), default=0)
    return Claimed(claims, len(rows) - len(claims), last)


def _wanted(rows: Sequence[Sequence[Any]]) -> list[Claim]:
    """Return the claims among what was looked at, by id."""
    claims = [_claim(row[:7]) for row in rows if row[7] is None]
    claims.sort()
    return claims


def settle(
    session: Session,
    worker: str,
    outcomes: Sequence[Outcome],
    *,
    now: datetime,
    close: bool = True,
) -> None:
    """Write what became of claimed deliveries, many at once.

    Closes messages that are through, unless that is left to `close_settled`. One that
    is not this worker's any more stays as it is, except that a late yes from the relay
    keeps a queued one from being sent twice.
    """
    if not outcomes:
        return
    connection = session.connection()
    sent, rest = _sorted(outcomes)
    if sent:  # which is most
        values = {"rows": json.dumps(sent), "by": worker, "moment": now}
        connection.execute(_SETTLE_SENT[connection.dialect.name], values)
    if rest:
        if connection.dialect.name == "postgresql":
            connection.execute(_SETTLE_MANY, _columns(rest, worker, now))
        else:
            _settle_on_sqlite(connection, worker, rest, now)
    if close:
        close_settled(session, {outcome.message_id for outcome in outcomes})


def release(session: Session, worker: str, delivery_ids: Collection[int]) -> None:
    """Give back claims that were not used, as if they had never been made."""
    if not delivery_ids:
        return
    held = and_(_in_range(), _held_by(Lease.worker == worker))
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(delivery_ids), or_(and_(*_own(worker)), held))
        .values(
            state=case(
                (_cancelled(), _as(DeliveryState.SKIPPED)),
                else_=_as(DeliveryState.QUEUED),
            ),
            reason=case((_cancelled(), "cancelled")),
            next_attempt_at=case((~_cancelled(), Delivery.created_at)),
            worker=None,
            lease_until=None,
        )
        .execution_options(synchronize_session=False)
    )


def renew(
    session: Session,
    worker: str,
    delivery_ids: Collection[int],
    *,
    now: datetime,
    lease: timedelta = LEASE,
) -> None:
    """Say that this worker is alive and still has these claims in hand."""
    if not delivery_ids:
        return
    until = now + lease
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(delivery_ids), *_own(worker))
        .values(lease_until=until)
        .execution_options(synchronize_session=False)
    )
    ids = sorted(delivery_ids)
    mine = select(Lease.id, Lease.first_id, Lease.last_id).where(Lease.worker == worker)
    session.execute(
        update(Lease)
        .where(
            Lease.id.in_(
                key
                for key, first, last in session.execute(mine).all()
                if bisect_left(ids, first) < bisect_right(ids, last)
            )
        )
        .values(lease_until=until)
        .execution_options(synchronize_session=False)
    )


def forget_leases(session: Session, worker: str) -> None:
    """Delete a worker's leases that hold nothing any more."""
    session.execute(
        delete(Lease)
        .where(Lease.worker == worker, ~_holds_something())
        .execution_options(synchronize_session=False)
    )


def recover_expired(
    session: Session, *, now: datetime, over: datetime | None = None
) -> int:
    """Take up what a dead worker left; return how many deliveries that were.

    A worker is dead whose lease ended before `over`, which is `now` unless given.
    Each may or may not have been sent. It is queued again, marked `resent`; where the
    newsletter holds unknown ones, or the message is cancelled, it is failed instead.
    """
    holds = exists(
        select(Message.id)
        .outerjoin(Newsletter, Newsletter.id == Message.newsletter_id)
        .where(
            Message.id == Delivery.message_id,
            or_(
                Message.state == MessageState.CANCELLED,
                Newsletter.hold_unknown.is_(True),
            ),
        )
    )
    unknown = (
        update(Delivery)
        .values(
            state=case(
                (holds, _as(DeliveryState.FAILED)), else_=_as(DeliveryState.QUEUED)
            ),
            reason=case((holds, "unknown")),
            settled_at=case((holds, literal(now, Delivery.settled_at.type))),
            resent=case((holds, Delivery.resent), else_=True),
            attempts=Delivery.attempts + 1,
            next_attempt_at=case((~holds, literal(now, Delivery.settled_at.type))),
            worker=None,
            lease_until=None,
        )
        .execution_options(synchronize_session=False)
    )
    over = over or now
    claimed = and_(_is(DeliveryState.CLAIMED), Delivery.lease_until < over)
    rows = session.execute(unknown.where(claimed).returning(Delivery.message_id)).all()
    found, messages = len(rows), {row.message_id for row in rows}
    leases = select(Lease).where(Lease.lease_until < over).order_by(Lease.id)
    leases = leases.limit(LEASES_AT_ONCE).with_for_update(skip_locked=True)
    for lease in session.scalars(leases).all():
        held = Delivery.id.between(lease.first_id, lease.last_id)
        of_message = Delivery.message_id == lease.message_id
        found += _changed(session, unknown.where(of_message, held, _in_range()))
        messages.add(lease.message_id)
        session.execute(delete(Lease).where(Lease.id == lease.id))
    close_settled(session, messages)
    return found


def requeue_due(session: Session, *, now: datetime) -> int:
    """Queue what was deferred until now or earlier; return how many."""
    due = (
        select(Delivery.id)
        .where(_is(DeliveryState.DEFERRED), Delivery.next_attempt_at <= now)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return _changed(
        session,
        update(Delivery)
        .where(Delivery.id.in_(_picked_once(due)), _is(DeliveryState.DEFERRED))
        .values(state=DeliveryState.QUEUED),
    )


def skip_subscription(
    session: Session, subscription_id: int, *, reason: str, now: datetime
) -> int:
    """Take everything that waits for a subscription out; return how much that was."""
    found = session.execute(
        _skip(reason, now)
        .where(
            Delivery.subscription_id == subscription_id,
            Delivery.state.in_(WAITING),
            ~and_(_in_range(), _held_by()),
        )
        .returning(Delivery.message_id)
    ).all()
    close_settled(session, {row.message_id for row in found})
    return len(found)


def pause(session: Session, issue_id: int) -> None:
    """Claim nothing more of an issue; what is on the wire still arrives."""
    _turn(session, issue_id, MessageState.OPEN, MessageState.PAUSED)


def resume(session: Session, issue_id: int) -> None:
    """Go on with a paused issue."""
    _turn(session, issue_id, MessageState.PAUSED, MessageState.OPEN)


def cancel(session: Session, issue_id: int, *, now: datetime) -> int:
    """Stop an issue for good; return how many readers will not get it.

    Of many readers the first are written as skipped here, the others by
    `sweep_cancelled`; nobody claims them meanwhile and `counts` counts them as skipped.
    """
    for state in (MessageState.OPEN, MessageState.PAUSED):
        _turn(session, issue_id, state, MessageState.CANCELLED)
    figures = _figures(session, issue_id).values()
    left = sum(one["queued"] + one["deferred"] for one in figures)
    sweep_cancelled(session, now=now)
    return left


def sweep_cancelled(session: Session, *, now: datetime) -> int:
    """Write some of what was cancelled as skipped; return how many, 0 when done."""
    swept = _sweep_ranges(session, now)
    messages = select(Message.id).where(Message.state == MessageState.CANCELLED)
    queued_single = and_(_single(), _is(DeliveryState.QUEUED))
    deferred = and_(unusual(), Delivery.state == DeliveryState.DEFERRED)
    for which in (_again(), deferred, queued_single):
        some = (
            select(Delivery.id)
            .where(Delivery.message_id.in_(messages), which)
            .limit(AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        swept += _changed(
            session, _skip("cancelled", now).where(Delivery.id.in_(_picked_once(some)))
        )
    return swept


def _sweep_ranges(session: Session, now: datetime) -> int:
    """Move the marks of cancelled messages over what is above them."""
    above = and_(
        Delivery.message_id == ClaimMark.message_id, Delivery.id > ClaimMark.last_id
    )
    marks = session.execute(
        select(ClaimMark.message_id, ClaimMark.last_id)
        .join(Message, Message.id == ClaimMark.message_id)
        .where(Message.state == MessageState.CANCELLED, exists().where(above))
        .order_by(ClaimMark.message_id)
        .with_for_update(skip_locked=True, of=ClaimMark)
    ).all()
    swept = 0
    for message_id, mark in marks:
        if swept < AT_ONCE:
            swept += _sweep_range(session, message_id, mark, AT_ONCE - swept, now)
    return swept


def _sweep_range(
    session: Session, message_id: int, mark: int, limit: int, now: datetime
) -> int:
    above = and_(Delivery.message_id == message_id, Delivery.id > mark)
    some = select(Delivery.id).where(above).order_by(Delivery.id).limit(limit)
    last_id = session.scalar(select(func.max(some.subquery().c.id)))
    queued = and_(above, Delivery.id <= last_id, _is(DeliveryState.QUEUED))
    swept = _changed(session, _skip("cancelled", now).where(queued))
    values = {"of_message": message_id, "last": last_id}
    session.connection().execute(_MOVE_MARK, values)
    return swept


def retry(
    session: Session, issue_id: int, delivery_ids: Collection[int], *, now: datetime
) -> int:
    """Queue bounced or failed deliveries of an issue again; return how many.

    With the Message-ID they had; their attempts count anew. What was failed as unknown
    is marked `resent`. That a reader still wants it is the caller's to see to.
    """
    queued = _changed(
        session,
        update(Delivery)
        .where(
            Delivery.id.in_(delivery_ids),
            Delivery.message_id.in_(_messages(issue_id)),
            Delivery.state.in_((DeliveryState.BOUNCED, DeliveryState.FAILED)),
        )
        .values(
            state=DeliveryState.QUEUED,
            attempts=0,
            resent=case((Delivery.reason == "unknown", True), else_=Delivery.resent),
            reason=None,
            reply=None,
            settled_at=None,
            next_attempt_at=now,
        ),
    )
    if queued:
        again = _one_delivery(Delivery.id, _again()).is_not(None)
        session.execute(
            update(Message)
            .where(
                Message.issue_id == issue_id,
                Message.state == MessageState.DONE,
                again,
            )
            .values(state=MessageState.OPEN)
            .execution_options(synchronize_session="fetch")
        )
    return queued


def counts(session: Session, *, issue_id: int) -> Counts:
    """Count an issue's deliveries by state, those in hand as claimed.

    For a page that asks each second while a million are on their way: those below the
    mark are sent, those above it wait, all but the few that are looked at. Neither are
    counted: the mark says how many it has passed, the issue how many there are.
    """
    cancelled = set(
        session.scalars(
            _messages(issue_id).where(Message.state == MessageState.CANCELLED)
        )
    )
    found = Counter[str]()
    figures_of = _figures(session, issue_id, each=bool(cancelled))
    for message_id, figures in figures_of.items():
        if message_id in cancelled:
            for state in WAITING:
                figures[DeliveryState.SKIPPED] += figures.pop(state, 0)
        found.update(figures)
    found["total"] = found.total()
    resent = select(func.count()).where(
        Delivery.message_id.in_(_messages(issue_id)), Delivery.resent.is_(True)
    )
    found["resent"] = session.scalar(resent) or 0
    return Counts(**found)


def _figures(
    session: Session, issue_id: int, *, each: bool = True
) -> dict[int, Counter[str]]:
    """Count the deliveries of an issue's messages by state, as of one moment.

    Without `each`, what waits above the marks is right for all messages together alone:
    it follows from the issue's total, which stands here as a message 0.
    """
    found: dict[int, Counter[str]] = {}
    rows = session.connection().execute(_COUNT, {"issue": issue_id, "each": each})
    for message_id, what, below, above in rows:
        figures = found.setdefault(message_id, Counter())
        if what != ALL:  # they are neither sent nor queued
            figures[what] += below + above
            below, above = -below, -above
        figures[DeliveryState.SENT] += below
        figures[DeliveryState.QUEUED] += above
    return found


def next_attempt(session: Session, *, issue_id: int) -> datetime | None:
    """Return when the first of an issue's deferred deliveries is tried again."""
    return session.scalar(
        select(func.min(Delivery.next_attempt_at)).where(
            Delivery.message_id.in_(_messages(issue_id)),
            unusual(),
            Delivery.state == DeliveryState.DEFERRED,
        )
    )


def open_messages(session: Session, pool: int = 0) -> list[int]:
    """Return the bulk messages of a pool that may be claimed from, oldest first."""
    return list(
        session.scalars(
            select(Message.id)
            .where(
                Message.state == MessageState.OPEN,
                Message.lane == BULK,
                _pool_of(Message) == pool,
            )
            .order_by(Message.id)
        )
    )


def waiting(session: Session, limit: int, pool: int = 0) -> int:
    """Return how many deliveries could be claimed now, counting to `limit` at most."""
    queued = _is(DeliveryState.QUEUED)
    single = select(Delivery.id).where(_single(), queued, _in_open_message(pool))
    found = _count(session, single, limit)
    for message_id in open_messages(session, pool):
        of_message = Delivery.message_id == message_id
        mark = select(ClaimMark.last_id).where(ClaimMark.message_id == message_id)
        fresh = and_(queued, Delivery.id > mark.scalar_subquery())
        for which in (fresh, _again()):
            if found < limit:
                query = select(Delivery.id).where(of_message, which)
                found += _count(session, query, limit - found)
    return found


def is_due(session: Session, *, now: datetime, over: datetime | None = None) -> bool:
    """Tell whether a deferred delivery or an expired lease waits to be queued.

    `over` as in `recover_expired`.
    """
    over = over or now
    deferred = select(Delivery.id).where(
        _is(DeliveryState.DEFERRED), Delivery.next_attempt_at <= now
    )
    expired = select(Delivery.id).where(
        _is(DeliveryState.CLAIMED), Delivery.lease_until < over
    )
    leases = select(Lease.id).where(Lease.lease_until < over)
    return any(_count(session, query, 1) for query in (deferred, expired, leases))


def close_settled(session: Session, message_ids: Iterable[int] | None = None) -> None:
    """Close the open messages, of those or of all, that have nothing left to send."""
    if message_ids is None:
        session.connection().execute(_closing(every=True))
    elif which := list(message_ids):
        session.connection().execute(_closing(every=False), {"which": which})


@functools.cache
def _closing(*, every: bool) -> Update:
    table = cast(Table, Message.__table__)
    statement = update(table).where(table.c.state == MessageState.OPEN, _is_through())
    if not every:
        statement = statement.where(table.c.id.in_(bindparam("which", expanding=True)))
    return statement.values(state=MessageState.DONE)


def has_queued() -> ColumnElement[bool]:
    """Tell of a bulk `Message` whether a delivery is queued, in hand or not.

    By indexes, and CASE goes on only where it has to.
    """
    mark = select(ClaimMark.last_id).where(ClaimMark.message_id == Message.id)
    above = Delivery.id > mark.correlate(Message).scalar_subquery()
    fresh = _one_delivery(Delivery.id, above, _is(DeliveryState.QUEUED))
    again = _one_delivery(Delivery.id, _again())
    held = exists().where(Lease.message_id == Message.id, _holds_something())
    return case(
        (fresh.is_not(None), True),
        (again.is_not(None), True),
        else_=held.correlate(Message),
    )


def has_unsettled() -> ColumnElement[bool]:
    """Tell of a bulk `Message` whether a delivery is not settled."""
    which = Delivery.state.in_((DeliveryState.CLAIMED, DeliveryState.DEFERRED))
    taken = _one_delivery(Delivery.state, unusual(), which)
    return case((taken.is_not(None), True), else_=has_queued())


def in_hand(delivery: type[Delivery]) -> ColumnElement[bool]:
    """Tell of a `Delivery`, or another name for it, whether a worker has it."""
    held = exists().where(
        Lease.message_id == delivery.message_id,
        delivery.id.between(Lease.first_id, Lease.last_id),
    )
    return or_(
        delivery.state == DeliveryState.CLAIMED,
        and_(
            delivery.state == DeliveryState.QUEUED,
            delivery.next_attempt_at.is_(None),
            held.correlate(delivery),
        ),
    )


def unusual() -> ColumnElement[bool]:
    """Leave out what is queued or sent, so that an index holds what is left."""
    return literal_column(f"delivery.{UNUSUAL}")


def _is_through() -> ColumnElement[bool]:
    """Tell whether a message has deliveries, all of them settled."""
    single = Message.lane == SINGLE
    unsettled = _one_delivery(Delivery.id, Delivery.state.in_(UNSETTLED))
    return case(
        (and_(single, unsettled.is_not(None)), False),
        (and_(~single, has_unsettled()), False),
        else_=_one_delivery(Delivery.id).is_not(None),
    )


@functools.cache
def _claiming(*, single: bool) -> Update:
    """Build the claim on PostgreSQL, once: making it takes longer than running it."""
    chosen = _chosen("single" if single else "again").subquery("chosen")
    unwanted = chosen.c.unwanted.is_not(None)
    claimed = ~unwanted
    return (
        update(_TABLE)
        .where(_TABLE.c.id == chosen.c.id)
        .values(
            state=case(
                (unwanted, _as(DeliveryState.SKIPPED)),
                else_=_as(DeliveryState.CLAIMED),
            ),
            reason=chosen.c.unwanted,
            settled_at=case((unwanted, bindparam("moment", type_=UTCDateTime()))),
            worker=case((claimed, bindparam("by", type_=String()))),
            lease_until=case((claimed, bindparam("until", type_=UTCDateTime()))),
            next_attempt_at=None,
        )
        .returning(*chosen.c)
    )


def _claim_on_sqlite(
    connection: Connection, values: dict[str, Any], *, single: bool
) -> Sequence[Sequence[Any]]:
    """Claim with few steps: each one has to wait for Python's lock.

    This is the only writer, so that nothing changes between the looking and the taking.
    """
    rows = _look(connection, "single" if single else "again", values)
    if not rows:
        return rows
    taken = json.dumps([row[0] for row in rows if row[7] is None])
    connection.execute(_taking(), {**values, "ids": taken})
    for reason in {row[7] for row in rows} - {None}:
        left_out = json.dumps([row[0] for row in rows if row[7] == reason])
        connection.execute(
            _leaving_out(), {**values, "ids": left_out, "because": reason}
        )
    return rows


def _look(
    connection: Connection, which: str, values: dict[str, Any]
) -> Sequence[Sequence[Any]]:
    """Return what could be claimed, as `_chosen` has it."""
    found = connection.execute(_looking(which, connection.dialect.name), values)
    if connection.dialect.name == "postgresql":
        return found.all()
    rows: list[list[Any]] = json.loads(found.scalar_one())
    return rows


@functools.cache
def _looking(which: str, dialect: str) -> Select[*tuple[Any, ...]]:
    chosen = _chosen(which).subquery("chosen")
    if dialect == "postgresql":
        return select(*chosen.c)
    return select(func.json_group_array(func.json_array(*chosen.c)))


@functools.cache
def _taking() -> Update:
    return (
        update(_TABLE)
        .where(_TABLE.c.id.in_(_listed_ids()))
        .values(
            state=_as(DeliveryState.CLAIMED),
            worker=bindparam("by"),
            lease_until=bindparam("until"),
            next_attempt_at=None,
        )
    )


@functools.cache
def _leaving_out() -> Update:
    return (
        update(_TABLE)
        .where(_TABLE.c.id.in_(_listed_ids()))
        .values(
            state=_as(DeliveryState.SKIPPED),
            reason=bindparam("because"),
            settled_at=bindparam("moment"),
            next_attempt_at=None,
        )
    )


def _listed_ids() -> Select[int]:
    each = func.json_each(bindparam("ids", type_=String())).table_valued("value")
    return select(each.c.value)


def _leave_out(session: Session, rows: Sequence[Sequence[Any]], now: datetime) -> None:
    """Write who is skipped of a range, and why."""
    for reason in {row[7] for row in rows} - {None}:
        ids = [row[0] for row in rows if row[7] == reason]
        which = and_(Delivery.id.in_(ids), _is(DeliveryState.QUEUED))
        session.execute(_skip(reason, now).where(which))
    close_settled(session, {row[1] for row in rows if row[7] is not None})


def _chosen(which: str) -> Select[*tuple[Any, ...]]:
    """Select the deliveries to claim, as `Claim` has them, and why one is unwanted.

    `which` is "single", or of a message "fresh" or "again".

    Picked from the ledger alone first: joined with the readers before the limit,
    PostgreSQL could choose to walk through everyone.
    """
    query = (
        select(
            Delivery.id,
            Delivery.message_id,
            Delivery.lane,
            Delivery.address,
            Delivery.attempts,
            Delivery.subscription_id,
        )
        .where(_is(DeliveryState.QUEUED), Delivery.id > bindparam("after"))
        .order_by(Delivery.id)
        .limit(bindparam("most", type_=Integer()))
    )
    if which != "fresh":
        query = query.with_for_update(skip_locked=True, of=Delivery)
    if which == "again":
        query = query.where(_again())
    if which == "single":
        query = query.where(_single(), _in_open_message(bindparam("pool")))
    else:
        message_id: BindParameter[int] = bindparam("of_message")
        is_open = select(Message.id).where(
            Message.id == message_id, Message.state == MessageState.OPEN
        )
        query = query.where(Delivery.message_id == message_id, is_open.exists())
    picked = _once(query)
    return (
        select(
            *(column for column in picked.c if column.name != "subscription_id"),
            Subscription.leave_token,
            Subscription.preferences_token,
            _unwanted().label("unwanted"),
        )
        .select_from(picked)
        .join(Message, Message.id == picked.c.message_id)
        .outerjoin(Subscription, Subscription.id == picked.c.subscription_id)
        .outerjoin(Subscriber, Subscriber.id == Subscription.subscriber_id)
    )


def _once(query: Select[*tuple[Any, ...]]) -> CTE:
    """Pick rows before the statement that changes them, and once.

    PostgreSQL may run a plain subquery again for each row it is compared with. With
    SKIP LOCKED each run picks other rows, and more change than the limit says. Nested,
    because Python's sqlite3 counts no rows for a statement that begins with WITH.
    """
    picked = query.cte("picked", nesting=True)
    return picked.prefix_with("MATERIALIZED", dialect="postgresql")


def _picked_once(query: Select[int]) -> Select[int]:
    return select(_once(query).c.id)


def _in_open_message(pool: int | BindParameter[int]) -> ColumnElement[bool]:
    """Ask after the message row by row: from it, SQLite would walk a whole issue."""
    message = aliased(Message)
    return (
        select(message.id)
        .where(
            message.id == Delivery.message_id,
            message.state == MessageState.OPEN,
            _pool_of(message) == pool,
        )
        .correlate(Delivery)
        .exists()
    )


def _pool_of(message: type[Message]) -> ColumnElement[int]:
    """Return by whose relays a `Message` goes: a newsletter's own, or 0."""
    own = (
        select(NewsletterRelay.newsletter_id)
        .where(
            NewsletterRelay.newsletter_id == message.newsletter_id,
            NewsletterRelay.active,
        )
        .correlate(message)
        .scalar_subquery()
    )
    return func.coalesce(own, 0)


def _one_delivery(order: Any, *which: ColumnElement[bool]) -> ColumnElement[int | None]:
    """Return one delivery's id; limited, or PostgreSQL looks at all it could be.

    The order is an index's that begins with the message, and the message is asked for
    as a range: as an equal it would drop out of the order. Then PostgreSQL, where it
    takes every delivery for this message's, walks through all of the ledger by id.
    SQLite is told that it is an equal, or goes through all that lies before.
    """
    return (
        select(Delivery.id)
        .where(
            Delivery.message_id >= Message.id,
            Delivery.message_id <= Message.id,
            Delivery.message_id.is_not_distinct_from(Message.id),
            *which,
        )
        .order_by(Delivery.message_id, order)
        .limit(1)
        .correlate(Message)
        .scalar_subquery()
    )


def _unwanted() -> ColumnElement[str | None]:
    suppressed = exists().where(
        Suppression.address_hash == Subscriber.address_hash,
        or_(
            Suppression.newsletter_id.is_(None),
            Suppression.newsletter_id == Message.newsletter_id,
        ),
        or_(Message.kind.in_(_NEED_READER), Suppression.reason.in_(_FORBIDDEN)),
    )
    digest = Message.kind == Kind.DIGEST
    unwilling = or_(
        and_(digest, Subscription.status != Status.ACTIVE),
        and_(
            Message.kind == Kind.WELCOME,
            Subscription.status.in_([Status.LEFT, Status.SUPPRESSED]),
        ),
    )
    return case(
        (suppressed, literal("suppressed")),
        (and_(digest, Subscription.id.is_(None)), literal("erased")),
        (unwilling, type_coerce(Subscription.status, String)),
        else_=null(),
    )


def _is(state: DeliveryState) -> ColumnElement[bool]:
    """Compare as the partial indexes do: with the word itself, not with a parameter."""
    return Delivery.state == literal_column(f"'{state}'", Delivery.state.type)


def _again() -> ColumnElement[bool]:
    """Tell whether a delivery is queued again."""
    return and_(_is(DeliveryState.QUEUED), Delivery.next_attempt_at.is_not(None))


def _in_range() -> ColumnElement[bool]:
    """Tell whether a delivery of an issue is not yet dealt with, in hand or not."""
    return and_(_is(DeliveryState.QUEUED), Delivery.next_attempt_at.is_(None))


def _held_by(*whose: ColumnElement[bool]) -> ColumnElement[bool]:
    """Tell whether a lease holds a delivery; or one of those leases."""
    return exists().where(
        Lease.message_id == Delivery.message_id,
        Delivery.id.between(Lease.first_id, Lease.last_id),
        *whose,
    )


def _holds_something() -> ColumnElement[bool]:
    """Tell of a `Lease` whether a delivery is in hand by it."""
    return (
        exists()
        .where(
            Delivery.message_id == Lease.message_id,
            Delivery.id.between(Lease.first_id, Lease.last_id),
            _in_range(),
        )
        .correlate(Lease)
    )


def _own(worker: str) -> tuple[ColumnElement[bool], ...]:
    return (_is(DeliveryState.CLAIMED), Delivery.worker == worker)


def _single() -> ColumnElement[bool]:
    return Delivery.lane == literal_column(str(SINGLE), Delivery.lane.type)


def _as(state: DeliveryState) -> ColumnElement[DeliveryState]:
    return literal(state, Delivery.state.type)


def _messages(issue_id: int) -> Select[int]:
    return select(Message.id).where(Message.issue_id == issue_id)


def _cancelled() -> ColumnElement[bool]:
    return exists().where(
        Message.id == Delivery.message_id, Message.state == MessageState.CANCELLED
    )


def _turn(
    session: Session, issue_id: int, old: MessageState, new: MessageState
) -> None:
    session.execute(
        update(Message)
        .where(Message.issue_id == issue_id, Message.state == old)
        .values(state=new)
        .execution_options(synchronize_session="fetch")
    )


def _skip(reason: str, now: datetime) -> Update:
    return (
        update(Delivery)
        .values(
            state=DeliveryState.SKIPPED,
            reason=reason,
            settled_at=now,
            next_attempt_at=None,
        )
        .execution_options(synchronize_session=False)
    )


def _changed(session: Session, statement: Update) -> int:
    result = session.execute(
        statement,
        execution_options={"synchronize_session": False, "preserve_rowcount": True},
    )
    return cast("CursorResult[Any]", result).rowcount


def _count(session: Session, query: Select[int], limit: int) -> int:
    some = query.limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def _settle_on_sqlite(
    connection: Connection, worker: str, outcomes: Sequence[Outcome], now: datetime
) -> None:
    """Write row by row what was not plainly sent."""
    connection.execute(
        _settle_one(),
        [
            {
                "key": outcome.delivery_id,
                "new_state": outcome.state,
                "new_reply": outcome.reply or None,
                "new_reason": outcome.reason or None,
                "next_at": outcome.next_attempt_at,
                "doubt": outcome.unknown,
                "tries": int(outcome.tried),
                "settled": None if outcome.state is DeliveryState.DEFERRED else now,
                "by": worker,
            }
            for outcome in outcomes
        ],
    )


def _sorted(outcomes: Sequence[Outcome]) -> tuple[dict[int, str], list[Outcome]]:
    """Return the replies to what is plainly sent, and what became of the others."""
    sent, rest, plainly = {}, [], DeliveryState.SENT
    for outcome in outcomes:
        delivery_id, _, state, reply, _, _, unknown, _ = outcome
        if state is plainly and not unknown:
            sent[delivery_id] = reply
        else:
            rest.append(outcome)
    return sent, rest


_ASK_MARK = (
    select(ClaimMark.last_id)
    .where(ClaimMark.message_id == bindparam("of_message"))
    .with_for_update(skip_locked=True)
)
_HAS_MARK = select(literal(1)).where(ClaimMark.message_id == bindparam("of_message"))
_MOVE_MARK = text("""
    UPDATE claim_mark SET last_id = :last, passed = passed + (
        SELECT count(*) FROM delivery WHERE message_id = claim_mark.message_id
            AND id > claim_mark.last_id AND id <= :last
    )
    WHERE message_id = :of_message
""")
_LEASE = text("""
    INSERT INTO lease (message_id, first_id, last_id, worker, lease_until)
    VALUES (:of_message, :first, :last, :by, :until)
""").bindparams(bindparam("until", type_=UTCDateTime()))

# How many are below the mark and how many above it, of all and of each state that is
# not queued or sent; and who is queued or in hand below it. All are, without a mark.
ALL = "all"
_COUNT = text(f"""
    WITH mine AS (
        SELECT message.id, claim_mark.last_id AS mark, coalesce(claim_mark.passed, (
            SELECT count(*) FROM delivery WHERE message_id = message.id
        )) AS passed
        FROM message LEFT JOIN claim_mark ON claim_mark.message_id = message.id
        WHERE message.issue_id = :issue
    )
    SELECT id, '{ALL}', passed,
        CASE WHEN :each THEN
            (SELECT count(*) FROM delivery WHERE message_id = mine.id AND id > mark)
        ELSE 0 END
    FROM mine
    UNION ALL
    SELECT mine.id, delivery.state,
        sum(CASE WHEN delivery.id > mine.mark THEN 0 ELSE 1 END),
        sum(CASE WHEN delivery.id > mine.mark THEN 1 ELSE 0 END)
    FROM mine JOIN delivery ON delivery.message_id = mine.id
    WHERE delivery.{UNUSUAL}
    GROUP BY mine.id, delivery.state
    UNION ALL
    SELECT mine.id, 'queued', count(*), 0
    FROM mine JOIN delivery ON delivery.message_id = mine.id
    WHERE mine.mark IS NOT NULL AND {AGAIN.replace("state", "delivery.state")}
    GROUP BY mine.id
    UNION ALL
    SELECT mine.id, 'queued', (
        SELECT count(*) FROM delivery WHERE message_id = mine.id AND state = 'queued'
    ), 0
    FROM mine WHERE mine.mark IS NULL
    UNION ALL
    SELECT mine.id, 'claimed', count(*), 0
    FROM mine JOIN lease ON lease.message_id = mine.id
    JOIN delivery ON delivery.message_id = lease.message_id
        AND delivery.id BETWEEN lease.first_id AND lease.last_id
    WHERE delivery.state = 'queued' AND delivery.next_attempt_at IS NULL
    GROUP BY mine.id
    UNION ALL
    SELECT 0, '{ALL}', 0, total - (SELECT CAST(sum(passed) AS bigint) FROM mine)
    FROM issue
    WHERE id = :issue AND NOT :each
        AND EXISTS (SELECT 1 FROM mine WHERE mark IS NOT NULL)
""")  # noqa: S608 (made of constants)

# A row that is queued without `next_attempt_at` is its claimer's: see above. A late yes
# is written over `skipped` too, since it is true.
_MAY_BE_SENT = """
    CASE delivery.state
        WHEN 'queued' THEN true
        WHEN 'claimed' THEN delivery.worker = :by
        WHEN 'skipped' THEN true
        ELSE false END
"""
_SENT = """
    UPDATE delivery SET
        state = 'sent', reply = new.value, reason = NULL, settled_at = :moment,
        next_attempt_at = NULL, attempts = attempts + 1,
        worker = NULL, lease_until = NULL
"""
_SETTLE_SENT = {
    dialect: text(
        f"{_SENT} FROM {source} AS new"
        f" WHERE delivery.id = CAST(new.key AS {number}) AND {_MAY_BE_SENT}"
    ).bindparams(bindparam("moment", type_=UTCDateTime()))
    for dialect, source, number in (
        ("sqlite", "json_each(:rows)", "INTEGER"),
        ("postgresql", "json_each_text(CAST(:rows AS json))", "bigint"),
    )
}


@functools.cache
def _settle_one() -> Update:
    """Build what SQLite runs for each outcome that is not plainly sent."""
    columns = _TABLE.c
    new_state = bindparam("new_state", type_=columns.state.type)
    own = or_(
        and_(columns.state == DeliveryState.CLAIMED, columns.worker == bindparam("by")),
        and_(columns.state == DeliveryState.QUEUED, columns.next_attempt_at.is_(None)),
    )
    late_yes = and_(
        or_(
            columns.state == DeliveryState.QUEUED,
            columns.state == DeliveryState.SKIPPED,
        ),
        new_state == DeliveryState.SENT,
    )
    return (
        update(_TABLE)
        .where(columns.id == bindparam("key"), or_(own, late_yes))
        .values(
            state=new_state,
            reply=bindparam("new_reply"),
            reason=bindparam("new_reason"),
            next_attempt_at=bindparam("next_at"),
            settled_at=bindparam("settled"),
            resent=or_(columns.resent, bindparam("doubt", type_=Boolean())),
            attempts=columns.attempts + bindparam("tries", type_=Integer()),
            worker=None,
            lease_until=None,
        )
    )


# PostgreSQL takes all others as arrays, in one statement. CASE keeps its planner from
# looking for queued rows where it should look for these ids.
_SETTLE_MANY = text("""
    UPDATE delivery SET
        state = new.state, reply = new.reply, reason = new.reason,
        next_attempt_at = new.next_at, settled_at = new.settled,
        resent = resent OR new.doubt, attempts = attempts + new.tries,
        worker = NULL, lease_until = NULL
    FROM unnest(
        CAST(:key AS bigint[]), CAST(:new_state AS text[]),
        CAST(:new_reply AS text[]), CAST(:new_reason AS text[]),
        CAST(:next_at AS timestamptz[]), CAST(:settled AS timestamptz[]),
        CAST(:doubt AS boolean[]), CAST(:tries AS integer[])
    ) AS new (id, state, reply, reason, next_at, settled, doubt, tries)
    WHERE delivery.id = new.id
    AND CASE delivery.state
        WHEN 'claimed' THEN delivery.worker = :by
        WHEN 'queued' THEN new.state = 'sent' OR delivery.next_attempt_at IS NULL
        WHEN 'skipped' THEN new.state = 'sent'
        ELSE false END
""")


def _columns(outcomes: Sequence[Outcome], worker: str, now: datetime) -> dict[str, Any]:
    deferred = DeliveryState.DEFERRED
    return {
        "key": [o.delivery_id for o in outcomes],
        "new_state": [o.state.value for o in outcomes],
        "new_reply": [o.reply or None for o in outcomes],
        "new_reason": [o.reason or None for o in outcomes],
        "next_at": [o.next_attempt_at for o in outcomes],
        "settled": [None if o.state is deferred else now for o in outcomes],
        "doubt": [o.unknown for o in outcomes],
        "tries": [int(o.tried) for o in outcomes],
        "by": worker,
    }
