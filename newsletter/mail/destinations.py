"""Providers that ask us to slow down: who, until when, and how many at once after that.

What is held is kept for each relay and each group of domains that one provider answers
for, since that is how providers count. The rows are few: a worker keeps them in memory
and looks again every few seconds.
"""

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, cast

from sqlalchemy import (
    CursorResult,
    Integer,
    Table,
    case,
    delete,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from newsletter.db import UTCDateTime
from newsletter.i18n import Language
from newsletter.mail.replies import TEXT_LIMIT
from newsletter.models import Destination

HOLD_MINUTES = (15, 30, 60, 120, 240)  # by strikes; and 240 from then on
STRIKES_COUNT = timedelta(days=1)
QUIET = timedelta(minutes=15)  # without a new strike: then one is forgiven
SUCCESSES_A_STEP = 100
_TABLE = cast(Table, Destination.__table__)

_COUNTRY = r"(com?\.)?[a-z]{2}"
_PROVIDERS = (
    ("gmail.com", r"(gmail|googlemail)\.com"),
    ("outlook.com", rf"(outlook|hotmail|live|msn)\.(com|{_COUNTRY})|windowslive\.com"),
    ("yahoo.com", rf"(yahoo|aol)\.(com|{_COUNTRY})|(ymail|rocketmail|aim)\.com"),
    ("icloud.com", r"(icloud|me|mac)\.com"),
)
_ADDRESS = re.compile(r"[^\s<>]+@[^\s<>]+")  # a reader's: not kept here
_PATTERNS = tuple((group, re.compile(pattern)) for group, pattern in _PROVIDERS)


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A provider that asked us to slow down, as it is told to people."""

    relay: str
    domain: str
    until: datetime
    reply: str

    def words(self, language: Language, zone: str) -> str:
        """Say it in a sentence, with the time as it is in `zone`."""
        return language.gettext(
            "%(domain)s asked us to slow down; next try %(time)s.",
            domain=self.domain,
            time=language.clock(self.until, zone),
        )


def group_of(address: str) -> str:
    """Return the domain that stands for all domains of an address's provider."""
    return _group(address[address.rfind("@") + 1 :])


@functools.lru_cache(maxsize=20_000)
def _group(domain: str) -> str:
    domain = domain.lower().rstrip(".")
    for group, pattern in _PATTERNS:
        if pattern.fullmatch(domain):
            return group
    return domain


def slow(
    session: Session, relay_name: str, groups: Mapping[str, str], *, now: datetime
) -> None:
    """Hold groups, each with the reply that asked for it.

    Longer with each strike within a day. What was under way when the first reply came
    and is answered in the same way while the group is held is not another strike.
    """
    if not groups:
        return
    connection = session.connection()
    postgresql = connection.dialect.name == "postgresql"
    insert = postgresql_insert if postgresql else sqlite_insert
    untils = [now + pause for pause in _pauses(relay_name, now)]
    # In one order everywhere, so that two workers never wait for each other.
    statement: Any = insert(_TABLE).values(
        [
            {
                "relay": relay_name,
                "domain": group,
                "held_until": untils[0],
                "strikes": 1,
                "reply": _ADDRESS.sub("…", groups[group])[:TEXT_LIMIT],
                "updated_at": now,
            }
            for group in sorted(groups)
        ]
    )
    forgotten = _TABLE.c.updated_at < now - STRIKES_COUNT
    strikes = case((forgotten, 1), else_=_TABLE.c.strikes + 1)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["relay", "domain"],
            set_={
                "strikes": strikes,
                "held_until": case(
                    *(
                        (strikes == number, literal(until, UTCDateTime))
                        for number, until in enumerate(untils[:-1], start=1)
                    ),
                    else_=literal(untils[-1], UTCDateTime),
                ),
                "reply": statement.excluded.reply,
                "updated_at": now,
            },
            where=_TABLE.c.held_until <= now,
        )
    )


def recover(
    session: Session, relay_name: str, groups: Collection[str], *, now: datetime
) -> None:
    """Forgive one strike where mail is taken again and nothing was said for a while.

    Safe to call at every success: it changes a row once in a quarter of an hour.
    """
    if not groups:
        return
    quiet = now - QUIET
    session.execute(
        update(_TABLE)
        .where(
            _TABLE.c.relay == relay_name,
            _TABLE.c.domain.in_(sorted(groups)),
            _TABLE.c.strikes > 0,
            _TABLE.c.held_until <= quiet,
            _TABLE.c.updated_at <= quiet,
        )
        .values(strikes=_TABLE.c.strikes - literal(1, Integer), updated_at=now)
    )


def held(session: Session, *, now: datetime) -> dict[tuple[str, str], datetime]:
    """Return until when which groups are held, by relay and group."""
    rows = session.execute(
        select(Destination.relay, Destination.domain, Destination.held_until).where(
            Destination.held_until > now
        )
    )
    return {(relay, domain): until for relay, domain, until in rows}


def describe(
    session: Session, *, relays: Collection[str] | None = None, now: datetime
) -> list[Slowdown]:
    """Return who asked us to slow down, in the order in which they are tried again.

    All of them, or those who asked one of some relays.
    """
    query = (
        select(Destination)
        .where(Destination.held_until > now)
        .order_by(Destination.held_until, Destination.domain, Destination.relay)
    )
    if relays is not None:
        query = query.where(Destination.relay.in_(relays))
    rows = session.scalars(query)
    return [Slowdown(r.relay, r.domain, r.held_until, r.reply) for r in rows]


def forget_old(session: Session, *, now: datetime) -> int:
    """Delete what is neither held nor counts any more; return how much."""
    result = session.execute(
        delete(_TABLE).where(
            _TABLE.c.held_until <= now, _TABLE.c.updated_at < now - STRIKES_COUNT
        )
    )
    return cast(CursorResult[Any], result).rowcount


def _pauses(relay_name: str, now: datetime) -> list[timedelta]:
    """Return how long to hold by strikes, spread by a fifth, never below the least."""
    spread = blake2b(f"{relay_name}.{now.isoformat()}".encode(), digest_size=2).digest()
    factor = 1.0 + 0.2 * int.from_bytes(spread) / 0xFFFF
    return [timedelta(minutes=minutes * factor) for minutes in HOLD_MINUTES]


class Concurrency:
    """How many at once one worker has under way to each group over one relay. Pure.

    A group that asks us to slow down is given half as many from then on, and one more
    for each hundred that it takes, up to what there was.
    """

    def __init__(self, per_domain: int, connections: int) -> None:
        """Start with nothing under way. A `per_domain` of 0 is no limit."""
        self._most = per_domain or connections
        self.per_domain = per_domain
        self.connections = connections
        self._under_way: dict[str, int] = {}
        self._learned: dict[str, int] = {}  # only where it is lower
        self._taken: dict[str, int] = {}  # since the last step up
        self._struck: set[str] = set()  # and nothing has gone there since

    def share(self, workers: int) -> None:
        """Divide the limit among so many workers."""
        if self.per_domain:
            self._most = max(1, self.per_domain // max(workers, 1))

    @property
    def watchful(self) -> bool:
        """Tell whether any group is limited: only then need they be counted."""
        return bool(self.per_domain or self._learned)

    def limit(self, group: str) -> int | None:
        """Return how many may be under way at once; None: any number."""
        learned = self._learned.get(group)
        if learned is None:
            return self._most if self.per_domain else None
        return min(learned, self._most)

    def may_begin(self, group: str) -> bool:
        """Tell whether one more may go."""
        limit = self.limit(group)
        return limit is None or self._under_way.get(group, 0) < limit

    def begin(self, group: str) -> None:
        """Count one that goes."""
        self._struck.discard(group)
        self._under_way[group] = self._under_way.get(group, 0) + 1

    def end(self, group: str) -> None:
        """Count one that is settled, or came back."""
        left = self._under_way.get(group, 0) - 1
        if left > 0:
            self._under_way[group] = left
        else:
            self._under_way.pop(group, None)

    def slowed(self, group: str) -> None:
        """Give a group half as many at once.

        Replies to what was under way already when the first one came change nothing.
        """
        if group in self._struck:
            return
        self._struck.add(group)
        now = min(self._learned.get(group, self._most), self._most)
        self._learned[group] = max(1, now // 2)
        self._taken[group] = 0

    def succeeded(self, group: str) -> None:
        """Count one that was taken."""
        if group not in self._learned:
            return
        self._taken[group] += 1
        if self._taken[group] < SUCCESSES_A_STEP:
            return
        self._taken[group] = 0
        self._learned[group] += 1
        if self._learned[group] >= self._most:
            del self._learned[group], self._taken[group]
