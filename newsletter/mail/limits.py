"""How much a relay may be given: per second, per day, and while it is warmed up.

One row for each relay, which all workers on all hosts draw on. A worker takes before it
claims and gives back what it did not use. The day is UTC's.

The row lives by one time that never runs backwards. On PostgreSQL a host whose clock is
ahead of the database's is held to the database's; one that is behind earns nothing
while others ask. A clock that jumps brings no more than one burst.
"""

import functools
from datetime import UTC, date, datetime
from typing import Any, cast

from sqlalchemy import (
    CursorResult,
    Float,
    Integer,
    Table,
    Update,
    bindparam,
    case,
    func,
    select,
    type_coerce,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from newsletter.config import Relay
from newsletter.errors import N_, RelayError
from newsletter.models import RelayBudget

WARM = 1_000_000  # a day: a relay that has come so far is not cold any more
DAY_SECONDS = 86_400
# Further back than hosts' clocks are apart: the clock was set, not another one asked.
SET_BACK_SECONDS = 120.0
# After midnight nothing is given back to the day: it may have been the last day's.
MIDNIGHT_SECONDS = 120.0
KEPT_FOR_SINGLES = 50  # one in so many of a day's limit, which bulk leaves
KEPT_AT_MOST = 1_000
NO_LIMIT = 2**31 - 1
NO_RATE = 2.0**30  # a second: what is to come may be added, and it is an integer
_TABLE = cast(Table, RelayBudget.__table__)
_EPOCH = date(1970, 1, 1)


def is_limited(relay: Relay) -> bool:
    """Tell whether a relay has any limit that workers must share."""
    return bool(relay.rate_per_second or relay.per_day or relay.warmup_from)


def day_limit(relay: Relay, day: date) -> int | None:
    """Return how many messages a relay may take on a day; None: any number.

    Before its first day a plan is as strict as on it.
    """
    limit = relay.per_day or None
    if relay.warmup_from is None:
        return limit
    days = max((day - relay.warmup_from).days, 0)
    planned = relay.warmup_first << min(days, 20)  # 2 to the 20th is more than WARM
    if planned > WARM:
        return limit
    return planned if limit is None else min(planned, limit)


def burst(relay: Relay) -> float:
    """Return how many messages may go at once after a pause: a second's worth."""
    return max(1.0, relay.rate_per_second)


def take(
    session: Session, relay: Relay, wanted: int, *, now: datetime, single: bool = False
) -> int:
    """Grant up to `wanted` messages and return how many.

    Bulk leaves a fiftieth of the day's limit to single mails, which may also draw on
    two seconds to come. No statement where the relay has no limits, else one, which
    locks the relay's row to the transaction's end: keep that short.
    """
    if wanted <= 0 or not is_limited(relay):
        return max(wanted, 0)
    values = _values(relay, now, single=single) | {"wanted": wanted}
    granted = _run(session, _taking, values)
    if granted is None:
        _open_account(session, relay.name)
        granted = _run(session, _taking, values)
    return granted or 0


def give_back(session: Session, relay: Relay, unused: int, *, now: datetime) -> None:
    """Return what was granted and not used."""
    if unused > 0 and is_limited(relay):
        _run(session, _giving, _values(relay, now) | {"unused": unused})


def left_today(
    session: Session, relay: Relay, *, now: datetime, single: bool = False
) -> int | None:
    """Return how many messages the relay may still take today; None: any number."""
    limit = _limit(relay, now.astimezone(UTC).date(), single=single)
    if limit is None:
        return None
    return max(limit - _used(_account(session, relay), now), 0)


def seconds_until(
    session: Session, relay: Relay, *, now: datetime, single: bool = False
) -> float:
    """Return how long it makes no sense to ask again; 0 if something can be had.

    Until the next message has been earned, or until midnight.
    """
    if not is_limited(relay):
        return 0.0
    account = _account(session, relay)
    moment = now.timestamp()
    limit = _limit(relay, now.astimezone(UTC).date(), single=single)
    if limit is not None and limit <= _used(account, now):
        return DAY_SECONDS - moment % DAY_SECONDS
    if account is None or not relay.rate_per_second:
        return 0.0
    earned = max(moment - account.credited_at, 0.0) * relay.rate_per_second
    missing = 1.0 - min(burst(relay), account.credit + earned)
    if missing <= 0:
        return 0.0
    behind = min(max(account.credited_at - moment, 0.0), SET_BACK_SECONDS)
    return missing / relay.rate_per_second + behind + 0.001


def used_up(session: Session, relay: Relay, *, now: datetime) -> RelayError | None:
    """Return why bulk waits until midnight, to be told to editors, if it does."""
    if left_today(session, relay, now=now) != 0:
        return None
    return RelayError(
        N_(
            "The relay %(relay)s has reached its limit for today, %(count)s mails."
            " It goes on at midnight (UTC)."
        ),
        relay=relay.name,
        count=day_limit(relay, now.astimezone(UTC).date()),
    )


def _limit(relay: Relay, day: date, *, single: bool) -> int | None:
    limit = day_limit(relay, day)
    if limit is None or single:
        return limit
    return limit - min(limit // KEPT_FOR_SINGLES, KEPT_AT_MOST)


def _account(session: Session, relay: Relay) -> RelayBudget | None:
    return session.scalar(
        select(RelayBudget)
        .where(RelayBudget.name == relay.name)
        .execution_options(populate_existing=True)
    )


def _used(account: RelayBudget | None, now: datetime) -> int:
    if account is None or account.day < now.timestamp() // DAY_SECONDS:
        return 0
    return account.used_today


def _values(relay: Relay, now: datetime, *, single: bool = False) -> dict[str, Any]:
    """Return what the statements ask for; the day may be another one by the row."""
    today = (now.astimezone(UTC).date() - _EPOCH).days
    days = {"yesterday": today - 1, "today": today, "tomorrow": today + 1}
    values: dict[str, Any] = dict(days)
    for name, day in days.items():
        limit = _limit(relay, date.fromordinal(day + _EPOCH.toordinal()), single=single)
        values[f"{name}_limit"] = NO_LIMIT if limit is None else limit
    return values | {
        "relay": relay.name,
        "ahead": max(2 * relay.rate_per_second, 5.0) if single else 0.0,
        "now": now.timestamp(),
        "rate": relay.rate_per_second or NO_RATE,
        "burst": burst(relay) if relay.rate_per_second else NO_RATE,
    }


def _run(session: Session, make: Any, values: dict[str, Any]) -> int | None:
    connection = session.connection()
    statement = make(connection.dialect.name == "postgresql")
    result = cast(CursorResult[Any], connection.execute(statement, values))
    row = result.one_or_none()
    return None if row is None else int(row.granted)


def _open_account(session: Session, name: str) -> None:
    """Begin at nothing, long ago: the first to ask finds a whole burst."""
    postgresql = session.connection().dialect.name == "postgresql"
    insert = postgresql_insert if postgresql else sqlite_insert
    empty = {"day": 0, "used_today": 0, "credit": 0.0, "credited_at": 0.0, "granted": 0}
    session.execute(insert(_TABLE).values(name=name, **empty).on_conflict_do_nothing())


class _Reckoning:
    """The row brought up to the moment, as SQL: credit earned, a new day begun."""

    def __init__(self, *, postgresql: bool) -> None:
        row = _TABLE.c
        self.least = func.least if postgresql else func.min
        most = func.greatest if postgresql else func.max
        moment: Any = bindparam("now", type_=Float)
        clock: Any = moment
        if postgresql:  # a statement's time is one and the same all through it
            clock = sql_cast(func.extract("epoch", func.statement_timestamp()), Float)
            moment = func.least(moment, clock)
        was_set_back = row.credited_at > clock + SET_BACK_SECONDS
        self.at = case((was_set_back, moment), else_=most(row.credited_at, moment))
        earned = most(moment - row.credited_at, 0.0) * bindparam("rate", type_=Float)
        self.burst = bindparam("burst", type_=Float)
        self.credit = self.least(self.burst, row.credit + earned)
        today = _whole(moment / DAY_SECONDS, postgresql=postgresql)
        is_new = (row.day < today) | (row.day * DAY_SECONDS > clock + DAY_SECONDS)
        self.day = case((is_new, today), else_=row.day)
        self.used = case((is_new, 0), else_=row.used_today)
        self.limit = case(
            *(
                (self.day == _number(name), _number(f"{name}_limit"))
                for name in ("yesterday", "tomorrow")
            ),
            else_=_number("today_limit"),
        )
        self.since_midnight = moment - self.day * DAY_SECONDS
        may_go = most(self.credit + bindparam("ahead", type_=Float), 0.0)
        whole = _whole(may_go, postgresql=postgresql)
        free = most(self.limit - self.used, 0)
        self.granted = self.least(_number("wanted"), whole, free)


def _number(name: str) -> Any:
    return bindparam(name, type_=Integer)


def _whole(value: Any, *, postgresql: bool) -> Any:
    """Cut off what is behind the point; PostgreSQL's cast would round it."""
    return sql_cast(func.floor(value) if postgresql else value, Integer)


@functools.cache
def _taking(postgresql: bool) -> Update:
    now = _Reckoning(postgresql=postgresql)
    return (
        update(_TABLE)
        .where(_TABLE.c.name == bindparam("relay"))
        .values(
            day=now.day,
            used_today=now.used + now.granted,
            credit=now.credit - now.granted,
            credited_at=now.at,
            granted=now.granted,
        )
        .returning(_TABLE.c.granted)
    )


@functools.cache
def _giving(postgresql: bool) -> Update:
    now = _Reckoning(postgresql=postgresql)
    most = func.greatest if postgresql else func.max
    unused = _number("unused")
    back = most(type_coerce(_TABLE.c.used_today, Integer) - unused, 0)
    may = (_TABLE.c.day == now.day) & (now.since_midnight >= MIDNIGHT_SECONDS)
    return (
        update(_TABLE)
        .where(_TABLE.c.name == bindparam("relay"))
        .values(
            used_today=case((may, back), else_=_TABLE.c.used_today),
            credit=now.least(now.burst, _TABLE.c.credit + unused),
        )
        .returning(_TABLE.c.granted)
    )
