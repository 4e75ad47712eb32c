"""The one who writes for a worker: each turn is one transaction.

A turn writes the outcomes that have gathered, gives back what was not used, claims what
is needed next and looks after what time brings. Runs in a thread; knows no sockets.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic

from sqlalchemy.orm import Session

from newsletter.config import Relay
from newsletter.db import Database
from newsletter.mail import clocks, destinations, ledger, limits, relays
from newsletter.mail.desk import Words
from newsletter.mail.exchange import Trust
from newsletter.mail.ledger import Claim, Claimed, Outcome
from newsletter.mail.relays import Health
from newsletter.mail.replies import Verdict
from newsletter.mail.shelf import Shelf
from newsletter.models import DeliveryState

LOOK_SECONDS = 0.2  # between looks for other open issues
RENEWALS = 3  # of a lease, before it would end
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 30.0  # seconds between asking a budget in vain


@dataclass(slots=True)
class Turn:
    """What is to be written, and how much to claim."""

    outcomes: list[Outcome] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)
    singles: int = 0
    bulk: int = 0
    arriving: bool = False  # nobody knows of this worker yet
    chores: bool = False
    closing: bool = False  # nothing is left to claim: messages may be through
    in_hand: Sequence[int] = ()
    rate_per_second: float = 0.0
    health: Sequence[Health] = ()
    strikes: dict[str, dict[str, str]] = field(default_factory=dict)  # by relay
    recovered: dict[str, set[str]] = field(default_factory=dict)
    trust: dict[str, Trust] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(
            self.outcomes
            or self.unused
            or self.arriving
            or self.chores
            or self.singles
            or self.bulk
            or self.health
            or self.strikes
            or self.trust
        )


@dataclass(slots=True)
class Result:
    """What a turn brought."""

    claims: list[Claim] = field(default_factory=list)
    words: dict[int, Words] = field(default_factory=dict)  # by message
    more: bool = False  # where that came from
    workers: int = 0  # alive, counted when there were chores, and on arrival
    slowed: dict[tuple[str, str], datetime] | None = None  # likewise
    since: float = 0.0  # when the claims were true


@dataclass(frozen=True, slots=True)
class Ask:
    """How many messages a relay could take."""

    relay: Relay
    wanted: int
    single: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """How many it may take, and how long not to ask again."""

    relay: str
    count: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What all workers have in common: the time, and what they know of relays."""

    clock_offset: timedelta
    trust: dict[str, Trust]
    slowed: dict[tuple[str, str], datetime]


class Watch:
    """Tells until when others had the time to renew their leases.

    What holds one worker up may hold up all of them: a database that is away, a host
    that sleeps. Back again they need a moment to say that they are alive. Who was dead
    before does not gain by it, however often that happens.
    """

    def __init__(self, patience: timedelta) -> None:
        """Call whatever takes longer than `patience` a hold-up, and wait as long."""
        self._patience = patience
        self._seen: datetime | None = None  # when the database was there last
        self._before = self._waits_until = datetime.min.replace(tzinfo=UTC)

    def look(self, now: datetime) -> datetime:
        """Return the time before which a lease must have ended to be over."""
        if self._seen and now - self._seen > self._patience:
            self._before, self._waits_until = self._seen, now + self._patience
        self._seen = now
        return self._before if now < self._waits_until else now


class Clerk:
    """Writes in the ledger for one worker."""

    def __init__(
        self,
        database: Database,
        shelf: Shelf,
        *,
        worker: str,
        lease: timedelta,
        pool: int = 0,
    ) -> None:
        """Start with nothing claimed."""
        self.database = database
        self.worker = worker
        self.pool = pool  # whose mail: see `ledger.claim`
        self.lease = lease
        self.renews_after = lease / RENEWALS  # at the latest
        self._watch = Watch(self.renews_after)
        self._shelf = shelf
        self._locked: dict[int, float] = {}  # messages that cannot be signed; until
        self._used: set[str] = set()  # relays that have had their day's mail
        self._messages: list[int] = []  # bulk that may be claimed from
        self._looked_at = 0.0
        self._first = 0  # the bulk message served last
        self._after: dict[int, int] = {}  # the last one claimed again of each

    def look(self, limit: int, now: datetime) -> tuple[int, bool]:
        """Return how many could be claimed, up to `limit`, and whether more is due.

        Reads only: an idle worker holds nobody up.
        """
        with self.database.reading() as session:
            waiting = ledger.waiting(session, limit, self.pool)
            over = self._watch.look(now)
            due = not self.pool and ledger.is_due(session, now=now, over=over)
            return waiting, due

    def write(self, turn: Turn, clock: Callable[[], datetime]) -> Result:
        """Do a turn, at the time at which it is this worker's."""
        result = Result()
        with self.database.transaction() as session:
            result.since, now = monotonic(), clock()
            over = self._watch.look(now)
            ledger.settle(session, self.worker, turn.outcomes, now=now, close=False)
            ledger.release(session, self.worker, turn.unused)
            self._note(session, turn, now)
            if turn.chores:
                self._do_chores(session, turn, now, over)
                result.slowed = destinations.held(session, now=now)
            if turn.chores or turn.arriving:
                rate = turn.rate_per_second
                result.workers = relays.beat(
                    session, self.worker, rate, pool=self.pool, now=now
                )
            if turn.singles:
                found = self._claim(session, turn.singles, now)
                result.claims += found.claims
                result.more = found.looked_at >= turn.singles
            self._claim_bulk(session, turn.bulk, now, result)
            wanted = {claim.message_id for claim in result.claims}
            result.words = self._shelf.words(session, wanted, now=now)
            self._set_aside(session, result, now)
            asked = bool(turn.singles or turn.bulk)
            if (turn.closing or asked) and not result.claims:
                ledger.forget_leases(session, self.worker)
                ids = {outcome.message_id for outcome in turn.outcomes}
                ledger.close_settled(session, ids)
        return result

    def learn(
        self, names: Iterable[str], now: datetime, clock: Callable[[], datetime]
    ) -> Knowledge:
        """Return what is known when a worker begins, and from time to time."""
        with self.database.reading() as session:
            return Knowledge(
                clocks.offset(session, now=clock()),
                {name: relays.trust(session, name, now=now) for name in names},
                destinations.held(session, now=now),
            )

    def ask(self, asks: Sequence[Ask], now: datetime) -> list[Grant]:
        """Take from the budgets, in a short transaction: it locks their rows."""
        grants = []
        with self.database.transaction() as session:
            for asked in asks:
                relay, single = asked.relay, asked.single
                count = limits.take(
                    session, relay, asked.wanted, now=now, single=single
                )
                wait = 0.0
                if not count and not single:
                    wait = self._used_up(session, relay, now)
                elif not single and relay.name in self._used:
                    self._used.discard(relay.name)
                    relays.report(session, Health(relay.name), now=now)
                grants.append(Grant(relay.name, count, wait))
        return grants

    def sign_off(self, unused: Sequence[Ask], now: datetime) -> None:
        """Say that the worker has stopped, and give back what it was granted."""
        with self.database.transaction() as session:
            for back in unused:
                limits.give_back(session, back.relay, back.wanted, now=now)
            ledger.forget_leases(session, self.worker)
            relays.sign_off(session, self.worker)

    def _used_up(self, session: Session, relay: Relay, now: datetime) -> float:
        """Return how long a relay has nothing to give; say so if it is for the day."""
        if reason := limits.used_up(session, relay, now=now):
            self._used.add(relay.name)
            relays.report(session, Health(relay.name, reason), now=now)
        wait = limits.seconds_until(session, relay, now=now)
        return min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)

    def _note(self, session: Session, turn: Turn, now: datetime) -> None:
        """Write down what was learnt about relays and providers."""
        for health in turn.health:
            relays.report(session, health, now=now)
        for name, replies in turn.strikes.items():
            destinations.slow(session, name, replies, now=now)
        for name, providers in turn.recovered.items():
            destinations.recover(session, name, providers, now=now)
        for name, trust in turn.trust.items():
            relays.remember(session, name, trust, now=now)

    def _do_chores(
        self, session: Session, turn: Turn, now: datetime, over: datetime
    ) -> None:
        ledger.renew(session, self.worker, turn.in_hand, now=now, lease=self.lease)
        ledger.forget_leases(session, self.worker)
        if not self.pool:  # what is done for all is done by one
            ledger.recover_expired(session, now=now, over=over)
            ledger.requeue_due(session, now=now)
            ledger.sweep_cancelled(session, now=now)
            ledger.close_settled(session)

    def _claim_bulk(
        self, session: Session, wanted: int, now: datetime, result: Result
    ) -> None:
        """Claim from the open issues in turn, so that a small one need not wait."""
        if not wanted:
            return
        clock = monotonic()
        self._locked = {m: end for m, end in self._locked.items() if end > clock}
        if not self._messages or clock >= self._looked_at + LOOK_SECONDS:
            self._messages, self._looked_at = (
                ledger.open_messages(session, self.pool),
                clock,
            )
        messages = [m for m in self._messages if m not in self._locked]
        self._after = {m: self._after.get(m, 0) for m in messages}
        later = [message for message in messages if message > self._first]
        for message_id in later + [m for m in messages if m <= self._first]:
            wanted -= self._claim_of(session, message_id, wanted, now, result)
            if wanted <= 0:
                result.more = True
                return

    def _claim_of(
        self,
        session: Session,
        message_id: int,
        limit: int,
        now: datetime,
        result: Result,
    ) -> int:
        """Claim what is next; then what is queued again, from where that ended."""
        after = self._after[message_id]
        found = self._claim(session, limit, now, message_id=message_id, after=after)
        if after and not found.looked_at:
            found = self._claim(session, limit, now, message_id=message_id)
        if found.claims:
            self._first = message_id
        self._after[message_id] = found.last_again
        result.claims += found.claims
        result.more = result.more or found.is_busy
        return found.looked_at

    def _claim(
        self, session: Session, limit: int, now: datetime, **which: int
    ) -> Claimed:
        return ledger.claim(
            session,
            worker=self.worker,
            limit=limit,
            now=now,
            lease=self.lease,
            pool=self.pool,
            **which,
        )

    def _set_aside(self, session: Session, result: Result, now: datetime) -> None:
        """Let wait what cannot be signed: better late than taken for a forgery."""
        waiting = [c for c in result.claims if c.message_id not in result.words]
        if not waiting:
            return
        later = now + timedelta(seconds=self._shelf.reload_seconds)
        single = [claim for claim in waiting if claim.lane == ledger.SINGLE]
        reason = Verdict.RELAY_TROUBLE.value
        ledger.settle(
            session,
            self.worker,
            [
                Outcome(
                    claim.id,
                    claim.message_id,
                    DeliveryState.DEFERRED,
                    reason=reason,
                    next_attempt_at=later,
                    tried=False,
                )
                for claim in single
            ],
            now=now,
        )
        bulk = [claim for claim in waiting if claim.lane != ledger.SINGLE]
        ledger.release(session, self.worker, [claim.id for claim in bulk])
        until = monotonic() + self._shelf.reload_seconds
        self._locked.update({claim.message_id: until for claim in bulk})
        result.claims = [c for c in result.claims if c.message_id in result.words]
