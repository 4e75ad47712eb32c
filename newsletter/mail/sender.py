"""The sender: takes mail from the ledger to the relay, as long as it is told to.

Couriers carry, one connection each. One loop keeps the ledger: while one write is under
way the next outcomes gather, and the next write takes them all, with the claims that
are needed by then. Between writes it takes a breath, so that the processor is the
wire's. When two thousand are not yet written nothing new begins, and they are written
at once: a kill leaves unknown what was in flight and one write. The thread that writes
needs Python's lock at each step: see `serving.make_ready` for how soon it gets it.

Claims follow need: what the couriers can begin at once and a quarter of a second's
worth ahead. Single mails are looked for in every turn and go before everything else.

A relay that cannot be used burns nothing: what was claimed is given back, the reason is
written down, and after a pause one courier tries again.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import ledger, precedence
from newsletter.mail.clerk import Ask, Clerk, Result, Turn
from newsletter.mail.couriers import Courier
from newsletter.mail.desk import Errand, errands_for
from newsletter.mail.dispatch import MOST_UNWRITTEN, Dispatch
from newsletter.mail.ledger import Outcome
from newsletter.mail.route import IDLE_SECONDS, Route
from newsletter.mail.shelf import RELOAD_SECONDS, Shelf
from newsletter.mail.signing import Signers
from newsletter.mail.smtp import Connection, Deadlines
from newsletter.models import DeliveryState

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # between looks for work when there is none
SINGLES_AT_ONCE = 50
SINGLES_SECONDS = 0.1
CHORES_SECONDS = 2.0
FIRST_WORD_SECONDS = 0.5  # after work was found, until its speed is told
BREATH_SECONDS = 0.1  # from one write to the next, while little has gathered
SHORT_BREATH_SECONDS = 0.02  # while couriers wait for something to carry
LEARN_SECONDS = 60.0
PARKED, PARKED_AT_MOST = 200, 2_000  # that wait for their provider, to find others
CLOCKS_AGREE = timedelta(seconds=1)
DRAIN_SECONDS = 8.0  # for what is on the wire when told to stop

_SENT = DeliveryState.SENT
T = TypeVar("T")


class Sender:
    """Sends what is queued over the relays; run as many as you like."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        name: str = "",
        pool: int = 0,
        now: Callable[[], datetime] | None = None,
        clock: Callable[[], datetime] = utcnow,
        lease: timedelta = ledger.LEASE,
        deadlines: Deadlines | None = None,
        reload_seconds: float = RELOAD_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        most_unwritten: int = MOST_UNWRITTEN,
    ) -> None:
        """Prepare; nothing happens before `run`.

        `clock` is this host's; it is put right by the database's. `now` is a time of
        the caller's own, in its place, and is left as it is. `pool` is whose mail it
        takes: a newsletter's with a relay of its own, 0 for what goes by `settings`'.
        """
        host, token = socket.gethostname()[:40], secrets.token_hex(3)
        self.name = name or f"{host}-{os.getpid()}-{token}"
        self.lost: dict[int, int] = {}
        self.delivered = 0
        self.routes = [Route(relay, self._held) for relay in settings.relays]
        self.dispatch = Dispatch(
            self.routes,
            now=self.now,
            settle=self.settle,
            on_want=self._want,
            most_unwritten=most_unwritten,
        )
        self.desk = self.dispatch.desk
        self._clock = now or clock
        self._clock_is_ours = now is not None
        self._clock_offset = timedelta()
        self._ehlo_name = settings.ehlo_name
        self._deadlines = deadlines or Deadlines()
        self._idle_seconds = idle_seconds
        shelf = Shelf(settings, reload_seconds=reload_seconds)
        self._clerk = Clerk(database, shelf, worker=self.name, lease=lease, pool=pool)
        self._signers = Signers(self.dispatch.lay_down)
        self._threads = ThreadPoolExecutor(
            1, thread_name_prefix="ledger", initializer=precedence.step_back
        )
        self._couriers: list[Courier] = []
        self._chores_at = self._look_at = self._singles_at = self._learn_at = 0.0
        self._arriving = self._dry = True  # nobody knows of it; nothing left to claim
        self._gives_way = True  # as `serving.make_ready` leaves it
        self._in_vain = self._gone = False  # nothing came of it; every courier has left
        self._written_at = 0.0  # when the last write began
        self._last_try = 0.0  # to write, when told to stop
        self._bell = asyncio.Event()  # there is news for the ledger
        self._outcomes: list[Outcome] = []
        self._much = asyncio.Event()  # they are worth a write

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set, then finish what is on the wire (10 s at most)."""
        await self._work(stop, until_idle=False)

    async def send_until_idle(self) -> int:
        """Send what can be sent now; return how many the relay took.

        Ends early when the relay cannot be used.
        """
        await self._work(asyncio.Event(), until_idle=True)
        return self.delivered

    # What couriers call.

    def now(self) -> datetime:
        """Return the time, which is the database's where this host's is another."""
        return self._clock() + self._clock_offset

    def settle(self, outcome: Outcome) -> None:
        """Hand in what became of an errand."""
        outcomes = self._outcomes
        if not outcomes:  # or they know of it
            self._ring()
        outcomes.append(outcome)
        dispatch = self.dispatch
        dispatch.unwritten += 1
        if len(outcomes) == dispatch.most_unwritten:
            self._much.set()
        if self.lost:
            self.lost.pop(outcome.delivery_id, None)
        self.delivered += outcome.state is _SENT

    def give_back(self, errand: Errand) -> None:
        """Hand in an errand that comes back unused."""
        self.desk.stale.append(errand.claim.id)
        self._ring()

    # Its own life.

    async def _work(self, stop: asyncio.Event, *, until_idle: bool) -> None:
        self._couriers = [
            Courier(self, route, partial(self._connect, route))
            for route in self.routes
            for _ in range(route.relay.connections)
        ]
        tasks = {asyncio.create_task(courier.run()) for courier in self._couriers}
        books = asyncio.create_task(self._keep_books(until_idle=until_idle))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({books, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await self._close(tasks, books)

    async def _close(
        self, couriers: set[asyncio.Task[None]], books: asyncio.Task[None]
    ) -> None:
        """Let what is on the wire arrive, give the rest back, write it all down."""
        self.desk.closed = True
        self.desk.clear()
        self._last_try = monotonic() + DRAIN_SECONDS
        for route in self.routes:
            route.access.close()
            route.close_idle(older_than=0)
        self._ring()
        _, late = await asyncio.wait(couriers, timeout=DRAIN_SECONDS)
        for courier in late:
            courier.cancel()
        ends = await asyncio.gather(*couriers, return_exceptions=True)
        await self._signers.finish()
        self._gone = True
        self._ring()
        try:
            await books
            unused = [Ask(route.relay, route.refund()) for route in self.routes]
            await self._in_thread(self._clerk.sign_off, unused, self.now())
        finally:
            self._threads.shutdown(wait=False)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _connect(self, route: Route) -> Connection:
        return await Connection.open(
            route.relay,
            ehlo_name=self._ehlo_name,
            deadlines=self._deadlines,
            trust=route.trust,
        )

    def _held(self) -> None:
        """Put everything back where no relay can be used."""
        if self.dispatch.all_held:
            self.desk.clear()
        else:
            self.dispatch.wake()
        self._ring()

    async def _learn(self) -> None:
        """Take over what all workers have in common; the time above all."""
        names = [route.name for route in self.routes]
        known = await self._in_thread(self._clerk.learn, names, self.now(), self._clock)
        self._learn_at = monotonic() + LEARN_SECONDS
        self._put_right(known.clock_offset)
        for route in self.routes:
            if not route.trust.changed:  # what it learnt itself is news to the others
                trust = known.trust[route.name]
                route.trust.pipelining = trust.pipelining
                route.trust.chunking = trust.chunking
        self.dispatch.refresh(known.slowed)

    def _put_right(self, offset: timedelta) -> None:
        """Keep the database's time, whichever way this host's has gone since."""
        if self._clock_is_ours:
            return
        if abs(offset) <= CLOCKS_AGREE:
            offset = timedelta()
        elif not self._clock_offset:
            log.warning("clock offset=%.1fs", offset.total_seconds())
        self._clock_offset = offset

    # The ledger.

    async def _keep_books(self, *, until_idle: bool) -> None:
        """Write turn after turn; between them wait for news or look for work."""
        try:
            await self._learn()
        except SQLAlchemyError as error:  # to be made up for before anything is claimed
            log.error("ledger: %s", error)
        await self._look()
        if not self._dry:  # the mail first
            self._chores_at = monotonic() + FIRST_WORD_SECONDS
        while True:
            await self._breathe()
            self._bell.clear()
            if turn := self._next_turn():
                await self._take(turn)
            elif self._gone or (until_idle and await self._is_idle()):
                return
            else:
                await self._wait_or_look()

    async def _breathe(self) -> None:
        """Leave the processor to the wire for a moment, unless no more may gather."""
        self._much.clear()
        most = self.dispatch.most_unwritten
        for seconds in (SHORT_BREATH_SECONDS, BREATH_SECONDS):
            pause = self._written_at + seconds - monotonic()
            if self.desk.closed or len(self._outcomes) >= most:
                return
            if pause > 0 and (seconds == SHORT_BREATH_SECONDS or self.desk.bulk):
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._much.wait()

    def _next_turn(self) -> Turn | None:
        """Gather what there is to write now; None if nothing."""
        now = monotonic()
        for route in self.routes:
            route.access.look_at_the_clock()
            route.close_idle(older_than=self._idle_seconds)
            route.measure()
        self._give_way_or_not()
        self.desk.drop_stale()
        turn = Turn(
            outcomes=self._outcomes,
            unused=self.desk.stale,
            arriving=self._arriving,
            chores=now >= self._chores_at,
            closing=self._dry,
            health=[h for route in self.routes if (h := route.health())],
            strikes=self.dispatch.strikes,
            recovered={r.name: r.recovered for r in self.routes if r.recovered},
            trust={r.name: r.trust for r in self.routes if r.trust.changed},
        )
        if not (self.desk.closed or self._dry or self.dispatch.all_held):
            turn.bulk = self._bulk_needed()
            turn.singles = self._singles_needed(now)
        if not turn.anything:
            return None
        self._outcomes, self.desk.stale = [], []
        self._arriving = False
        self.dispatch.strikes = {}
        for route in self.routes:
            route.recovered, route.trust.changed = set(), False
        if turn.chores:
            speed = self._speed()
            quiet = speed < 0.1 and self._dry
            seconds = CHORES_SECONDS * (5 if quiet else 1)
            most = self._clerk.renews_after.total_seconds()
            self._chores_at = now + min(seconds, most)
            turn.in_hand = self._in_hand()
            turn.rate_per_second = speed
        return turn

    def _give_way_or_not(self) -> None:
        """Be there when a relay answers, unless it is too quick for that to pay."""
        gives_way = any(route.rushes for route in self.routes)
        if gives_way is not self._gives_way:
            self._gives_way = gives_way
            precedence.be_batch(gives_way)

    def _in_hand(self) -> list[int]:
        errands = [e for courier in self._couriers for e in courier.errands()]
        errands += self._signers.waiting
        return [*self.desk.ids(), *(errand.claim.id for errand in errands)]

    def _speed(self) -> float:
        return sum(route.speed.now() for route in self.routes)

    def _singles_needed(self, now: float) -> int:
        """Look for single mails several times a second, however busy it is."""
        if now < self._singles_at:
            return 0
        if not any(route.idle or route.is_quick for route in self.routes):
            return 0  # nobody could take one before it grows stale
        self._singles_at = now + SINGLES_SECONDS
        return SINGLES_AT_ONCE

    def _bulk_needed(self) -> int:
        needed = filter(self.dispatch.needs, self.routes)
        appetites = [(0, 0.0), *(route.appetite() for route in needed)]
        idle, ahead = (sum(part) for part in zip(*appetites, strict=True))
        if self.desk.parking >= min(max(PARKED, 8 * self._speed()), PARKED_AT_MOST):
            return 0
        # A little at a time is not worth a statement.
        here = len(self.desk.bulk) + len(self._signers.waiting)
        more = int(idle + ahead) - here
        return more if idle > here or more > ahead / 4 else 0

    async def _take(self, turn: Turn) -> None:
        try:
            if monotonic() >= self._learn_at:
                await self._learn()
            await self._ask_for(turn)
            self._written_at = monotonic()
            result = await self._in_thread(self._clerk.write, turn, self.now)
        except SQLAlchemyError as error:
            log.error("ledger: %s", error)
            self._put_back(turn)
            if self._gone and monotonic() > self._last_try:
                raise
            await self.routes[0].access.pause(1.0)
            return
        self.dispatch.unwritten -= len(turn.outcomes)
        await self._ask_for_singles(result)
        if turn.bulk:
            self._in_vain = not (result.claims or result.more)
        if turn.singles or turn.bulk:
            self._dry = not result.more and (self._dry or turn.bulk > 0)
        self._hand_out(result)

    async def _ask_for(self, turn: Turn) -> None:
        """Claim no more than the relays' budgets give."""
        useful = [r for r in self.routes if r.may_claim and self.dispatch.needs(r)]
        limited = [route for route in useful if route.limited]
        if not (turn.bulk and limited):
            return
        asks = []
        for route in limited:
            if (wanted := int(sum(route.appetite())) - route.credit) > 0:
                asks.append(Ask(route.relay, wanted))
        await self._ask(asks)
        if len(limited) == len(useful):
            room = sum(max(route.credit, 0) for route in limited)
            room -= len(self.desk) - self.desk.parking
            turn.bulk = max(0, min(turn.bulk, room))

    async def _ask_for_singles(self, result: Result) -> None:
        """Ask one relay after the other that works, until all could go."""
        singles = sum(claim.lane == ledger.SINGLE for claim in result.claims)
        working = [r for r in self.routes if r.works and self.dispatch.needs(r)]
        if not all(route.limited for route in working):
            return
        missing = singles - sum(route.credit for route in working)
        for route in working:
            if missing <= 0:
                return
            had = route.credit
            try:
                await self._ask([Ask(route.relay, missing, single=True)])
            except SQLAlchemyError as error:  # what has been claimed is in hand
                log.error("ledger: %s", error)
            missing -= route.credit - had

    async def _ask(self, asks: list[Ask]) -> None:
        if not asks:
            return
        by_name = {route.name: route for route in self.routes}
        grants = await self._in_thread(self._clerk.ask, asks, self.now())
        for asked, grant in zip(asks, grants, strict=True):
            route = by_name[grant.relay]
            if asked.single:  # which says nothing of what bulk may take
                route.credit += grant.count
            else:
                route.granted(grant.count, grant.wait_seconds)

    def _hand_out(self, result: Result) -> None:
        for route in self.routes:
            if result.workers:
                route.concurrency.share(result.workers)
            if result.more and self.dispatch.needs(route):
                route.access.want(route.relay.connections)
        if result.slowed is not None:
            self.dispatch.refresh(result.slowed)
        errands = errands_for(
            result.claims, result.words, since=result.since, at=self.now()
        )
        self.dispatch.lay_down(self._signers.take(errands))

    def _put_back(self, turn: Turn) -> None:
        self._outcomes = turn.outcomes + self._outcomes
        self.desk.stale += turn.unused
        self._arriving |= turn.arriving
        if turn.chores:
            self._chores_at = 0.0
        for health in turn.health:
            for route in self.routes:
                route.tell_again(health)
        for name, replies in turn.strikes.items():
            self.dispatch.strikes.setdefault(name, {}).update(replies)
        for route in self.routes:
            route.recovered |= turn.recovered.get(route.name, set())
            route.trust.changed |= route.name in turn.trust

    async def _wait_or_look(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._bell.wait()
        now = monotonic()
        if now >= self._look_at and not self.desk.closed:
            self._look_at = now + LOOK_SECONDS
            await self._look()

    async def _look(self) -> int:
        """See whether there is work; want as many connections as it needs.

        Returns 0 also where all there is has to wait, for a key that can be opened.
        """
        most = 1 + sum(route.relay.connections for route in self.routes)
        try:
            found, due = await self._in_thread(self._clerk.look, most, self.now())
        except SQLAlchemyError as error:
            log.error("ledger: %s", error)
            return 1
        if found and self._dry:  # say how fast it goes before long
            self._chores_at = min(self._chores_at, monotonic() + FIRST_WORD_SECONDS)
        self._dry = not found
        for route in self.routes:
            needs = self.dispatch.needs(route)
            wanted = route.busy + found + len(self.desk) if needs else 0
            route.access.want(wanted, idle=len(route.idle))
        if due:
            self._chores_at = 0.0
        return due if self._in_vain else found + due

    async def _is_idle(self) -> bool:
        """Tell whether nothing is left that could be sent now."""
        busy = any(route.busy for route in self.routes)
        if busy or len(self.desk) or self._signers.waiting:
            return False
        no_way = all(route.access.failures or route.spent for route in self.routes)
        return no_way or await self._look() == 0

    def _want(self) -> None:
        """Hear that a courier finds nothing to carry."""
        if monotonic() >= self._written_at + SHORT_BREATH_SECONDS:
            self._much.set()
        self._ring()

    def _ring(self) -> None:
        """Say that there is news for the ledger."""
        if not self._bell.is_set():
            self._bell.set()

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *args)
