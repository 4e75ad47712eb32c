"""The ledger of deliveries: the only writer of `delivery.state`.

                    ┌──────────── release ───────────┐
                    ▼                                │
    outbox ──▶ queued ──────── claim ──────────▶ claimed ──▶ sent ──▶ complained
                 │ ▲            │                  │ │ │
                 │ │            │ no longer wanted │ │ ├────▶ bounced  the address
                 │ │ due        ▼                  │ │ └────▶ failed   anything else
                 │ └───────── skipped ◀─ cancel    │ │
                 │             ▲                   │ └─ lease over: queued, resent
                 └─────────────┘                   └──▶ deferred (until next_attempt_at)

What a crash after each commit means:

- after `claim`: nobody knows whether the relay has the message. When the lease is over
  it is queued again, marked `resent`, with the Message-ID it had; or it is failed, as
  "unknown", where the newsletter would rather hold back than repeat.
- after `settle`, `release`, `skip_subscription`, `cancel`: nothing, they say it all.
- before `settle`, with the relay's yes in hand: as after `claim`. Outcomes are written
  without delay, so that this is what was on the wire and one write.

Claiming looks once more, in the same statement, at whether the reader still wants mail.
"""

import functools
import json
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
    exists,
    func,
    literal,
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
    Delivery,
    DeliveryState,
    Kind,
    Message,
    MessageState,
    Newsletter,
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
) -> Claimed:
    """Take up to `limit` queued deliveries: single mails, or those of one message.

    Looks, with the rows locked, whether each reader still wants mail, and skips, with
    the reason, who does not. On PostgreSQL two workers never wait for each other.
    `after` leaves out the deliveries up to that id, which spares the database what has
    been dealt with.
    """
    single = message_id is None
    values = {
        "most": limit,
        "of_message": message_id,
        "moment": now,
        "until": now + lease,
        "by": worker,
        "after": after,
    }
    connection = session.connection()
    rows: Sequence[Sequence[Any]]
    if connection.dialect.name == "postgresql":
        rows = connection.execute(_claiming(single=single), values).all()
    else:
        rows = _claim_on_sqlite(connection, values, single=single)
    claims = [Claim._make(row[:7]) for row in rows if row[7] is None]
    claims.sort()  # by id, which comes first
    if len(claims) < len(rows):
        close_settled(session, {row[1] for row in rows if row[7] is not None})
    return Claimed(claims, len(rows) - len(claims))


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
    if connection.dialect.name == "postgresql":
        connection.execute(_SETTLE_MANY, _columns(outcomes, worker, now))
    else:
        _settle_on_sqlite(connection, worker, outcomes, now)
    if close:
        close_settled(session, {outcome.message_id for outcome in outcomes})


def release(session: Session, worker: str, delivery_ids: Collection[int]) -> None:
    """Give back claims that were not used, as if they had never been made."""
    if not delivery_ids:
        return
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(delivery_ids), *_own(worker))
        .values(
            state=case(
                (_cancelled(), _as(DeliveryState.SKIPPED)),
                else_=_as(DeliveryState.QUEUED),
            ),
            reason=case((_cancelled(), "cancelled")),
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
    if delivery_ids:
        session.execute(
            update(Delivery)
            .where(Delivery.id.in_(delivery_ids), *_own(worker))
            .values(lease_until=now + lease)
            .execution_options(synchronize_session=False)
        )


def recover_expired(session: Session, *, now: datetime) -> int:
    """Take up what a dead worker left; return how many deliveries that were.

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
    found = session.execute(
        update(Delivery)
        .where(
            _is(DeliveryState.CLAIMED),
            Delivery.lease_until < now,
        )
        .values(
            state=case(
                (holds, _as(DeliveryState.FAILED)), else_=_as(DeliveryState.QUEUED)
            ),
            reason=case((holds, "unknown")),
            settled_at=case((holds, literal(now, Delivery.settled_at.type))),
            resent=case((holds, Delivery.resent), else_=True),
            attempts=Delivery.attempts + 1,
            worker=None,
            lease_until=None,
        )
        .returning(Delivery.message_id)
        .execution_options(synchronize_session=False)
    ).all()
    close_settled(session, {row.message_id for row in found})
    return len(found)


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
        .values(state=DeliveryState.QUEUED, next_attempt_at=None),
    )


def skip_subscription(
    session: Session, subscription_id: int, *, reason: str, now: datetime
) -> int:
    """Take everything that waits for a subscription out; return how much that was."""
    found = session.execute(
        _skip(reason, now)
        .where(Delivery.subscription_id == subscription_id, Delivery.state.in_(WAITING))
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
    left = session.scalar(
        select(func.count())
        .select_from(Delivery)
        .where(
            Delivery.message_id.in_(_messages(issue_id)), Delivery.state.in_(WAITING)
        )
    )
    sweep_cancelled(session, now=now)
    return left or 0


def sweep_cancelled(session: Session, *, now: datetime) -> int:
    """Write some of what was cancelled as skipped; return how many, 0 when done."""
    messages = select(Message.id).where(Message.state == MessageState.CANCELLED)
    some = (
        select(Delivery.id)
        .where(Delivery.message_id.in_(messages), Delivery.state.in_(WAITING))
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return _changed(
        session, _skip("cancelled", now).where(Delivery.id.in_(_picked_once(some)))
    )


def counts(session: Session, *, issue_id: int) -> Counts:
    """Count an issue's deliveries by state; only indexes are read, for a page that asks
    each second while a million are on their way.
    """
    of_issue = Delivery.message_id.in_(_messages(issue_id))
    cancelled = set(
        session.scalars(
            _messages(issue_id).where(Message.state == MessageState.CANCELLED)
        )
    )
    found = Counter[str]()
    for message_id, state, count in session.execute(
        select(Delivery.message_id, Delivery.state, func.count())
        .where(of_issue)
        .group_by(Delivery.message_id, Delivery.state)
    ):
        dropped = message_id in cancelled and state in WAITING
        found[DeliveryState.SKIPPED if dropped else state] += count
        found["total"] += count
    resent = select(func.count()).where(of_issue, Delivery.resent.is_(True))
    found["resent"] = session.scalar(resent) or 0
    return Counts(**found)


def open_messages(session: Session) -> list[int]:
    """Return the bulk messages that may be claimed from, oldest first."""
    return list(
        session.scalars(
            select(Message.id)
            .where(Message.state == MessageState.OPEN, Message.lane == BULK)
            .order_by(Message.id)
        )
    )


def waiting(session: Session, limit: int) -> int:
    """Return how many deliveries could be claimed now, counting to `limit` at most."""
    queued = _is(DeliveryState.QUEUED)
    single = select(Delivery.id).where(_single(), queued, _in_open_message())
    found = _count(session, single, limit)
    for message_id in open_messages(session):
        if found >= limit:
            break
        query = select(Delivery.id).where(Delivery.message_id == message_id, queued)
        found += _count(session, query, limit - found)
    return found


def is_due(session: Session, *, now: datetime) -> bool:
    """Tell whether a deferred delivery or an expired lease waits to be queued."""
    deferred = select(Delivery.id).where(
        _is(DeliveryState.DEFERRED), Delivery.next_attempt_at <= now
    )
    expired = select(Delivery.id).where(
        _is(DeliveryState.CLAIMED), Delivery.lease_until < now
    )
    return bool(_count(session, deferred, 1) or _count(session, expired, 1))


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


def _is_through() -> ColumnElement[bool]:
    """Tell whether a message has deliveries, all of them settled.

    Of an issue the last rows are asked for: where the first ones were, PostgreSQL keeps
    what they used to be until it is vacuumed, and would walk through all of it. CASE
    goes on only where it has to.
    """
    single = Message.lane == SINGLE
    queued = _one_delivery(Delivery.id.desc(), _is(DeliveryState.QUEUED))
    claimed = _one_delivery(Delivery.lease_until.desc(), _is(DeliveryState.CLAIMED))
    deferred = _one_delivery(Delivery.next_attempt_at, _is(DeliveryState.DEFERRED))
    unsettled = _one_delivery(Delivery.state, Delivery.state.in_(UNSETTLED))
    anything = _one_delivery(Delivery.state.desc())
    return case(
        (and_(single, unsettled.is_not(None)), False),
        (and_(~single, queued.is_not(None)), False),
        (and_(~single, claimed.is_not(None)), False),
        (and_(~single, deferred.is_not(None)), False),
        else_=anything.is_not(None),
    )


@functools.cache
def _claiming(*, single: bool) -> Update:
    """Build the claim on PostgreSQL, once: making it takes longer than running it."""
    chosen = _chosen(single=single).subquery("chosen")
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
) -> list[list[Any]]:
    """Claim with few steps: each one has to wait for Python's lock.

    This is the only writer, so that nothing changes between the looking and the taking.
    """
    rows: list[list[Any]] = json.loads(
        connection.execute(_looking(single=single), values).scalar_one()
    )
    taken = json.dumps([row[0] for row in rows if row[7] is None])
    connection.execute(_taking(), {**values, "ids": taken})
    for reason in {row[7] for row in rows} - {None}:
        left_out = json.dumps([row[0] for row in rows if row[7] == reason])
        connection.execute(
            _leaving_out(), {**values, "ids": left_out, "because": reason}
        )
    return rows


@functools.cache
def _looking(*, single: bool) -> Select[str]:
    chosen = _chosen(single=single).subquery("chosen")
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


def _chosen(*, single: bool) -> Select[*tuple[Any, ...]]:
    """Select the deliveries to claim, as `Claim` has them, and why one is unwanted.

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
        .with_for_update(skip_locked=True, of=Delivery)
    )
    if single:
        query = query.where(_single(), _in_open_message())
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


def _in_open_message() -> ColumnElement[bool]:
    """Ask after the message row by row: from it, SQLite would walk a whole issue."""
    message = aliased(Message)
    return (
        select(message.id)
        .where(message.id == Delivery.message_id, message.state == MessageState.OPEN)
        .correlate(Delivery)
        .exists()
    )


def _one_delivery(order: Any, *which: ColumnElement[bool]) -> ColumnElement[int | None]:
    """Return one delivery's id; limited, or PostgreSQL looks at all it could be.

    The order is an index's: without one it may choose to walk through the table until
    it meets the message.
    """
    return (
        select(Delivery.id)
        .where(Delivery.message_id == Message.id, *which)
        .order_by(order)
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
    return Delivery.state == bindparam(
        None, state, type_=Delivery.state.type, unique=True, literal_execute=True
    )


def _own(worker: str) -> tuple[ColumnElement[bool], ...]:
    return (_is(DeliveryState.CLAIMED), Delivery.worker == worker)


def _single() -> ColumnElement[bool]:
    return Delivery.lane == bindparam(
        None, SINGLE, type_=Delivery.lane.type, unique=True, literal_execute=True
    )


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
    """Write what was sent, which is most, in one step, and the rest row by row."""
    sent = {o.delivery_id: o.reply for o in outcomes if _plainly_sent(o)}
    if sent:
        connection.execute(
            _SETTLE_SENT, {"rows": json.dumps(sent), "by": worker, "moment": now}
        )
    if len(sent) < len(outcomes):
        rest = [o for o in outcomes if not _plainly_sent(o)]
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
                for outcome in rest
            ],
        )


def _plainly_sent(outcome: Outcome) -> bool:
    return outcome.state is DeliveryState.SENT and not outcome.unknown


_SETTLE_SENT = text("""
    UPDATE delivery SET
        state = 'sent', reply = each.value, reason = NULL, settled_at = :moment,
        next_attempt_at = NULL, attempts = attempts + 1,
        worker = NULL, lease_until = NULL
    FROM json_each(:rows) AS each
    WHERE delivery.id = CAST(each.key AS INTEGER)
    AND (delivery.state = 'claimed' AND delivery.worker = :by
         OR delivery.state = 'queued')
""").bindparams(bindparam("moment", type_=UTCDateTime()))


@functools.cache
def _settle_one() -> Update:
    """Build what SQLite runs for each outcome that is not plainly sent."""
    columns = _TABLE.c
    new_state = bindparam("new_state", type_=columns.state.type)
    own = and_(
        columns.state == DeliveryState.CLAIMED, columns.worker == bindparam("by")
    )
    late_yes = and_(
        columns.state == DeliveryState.QUEUED, new_state == DeliveryState.SENT
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


# PostgreSQL takes all outcomes as arrays, in one statement. CASE keeps its planner from
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
        WHEN 'queued' THEN new.state = 'sent'
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
