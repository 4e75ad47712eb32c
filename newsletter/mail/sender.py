"""The sender: takes mail from the ledger to the relay, as long as it is told to.

Couriers carry, one connection each. One loop keeps the ledger: while one write is under
way the next outcomes gather, and the next write takes them all, with the claims that
are needed by then. Nothing waits for a timer and nothing gathers for longer than a
write, so that a kill leaves unknown what was in flight and no more.

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
from time import monotonic
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import ledger
from newsletter.mail.access import Access
from newsletter.mail.clerk import Clerk, Turn
from newsletter.mail.couriers import Courier
from newsletter.mail.desk import Desk, Errand, Pace, Speed
from newsletter.mail.ledger import Outcome
from newsletter.mail.smtp import Connection, Deadlines
from newsletter.models import DeliveryState

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # between looks for work when there is none
AHEAD_SECONDS = 0.25  # of work claimed before it can be begun
AHEAD_AT_MOST = 2_000
SINGLES_AT_ONCE = 50
SINGLES_SECONDS = 0.1
QUICK_SECONDS = 0.5  # a relay that takes longer keeps a courier free
CHORES_SECONDS = 2.0
DRAIN_SECONDS = 8.0  # for what is on the wire when told to stop

T = TypeVar("T")


class Sender:
    """Sends what is queued over one relay; run as many as you like."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        name: str = "",
        now: Callable[[], datetime] = utcnow,
        lease: timedelta = ledger.LEASE,
        deadlines: Deadlines | None = None,
    ) -> None:
        """Prepare; nothing happens before `run`."""
        host, token = socket.gethostname()[:40], secrets.token_hex(3)
        self.name = name or f"{host}-{os.getpid()}-{token}"
        self.relay = settings.relay
        self.now = now
        self.latency = 0.0
        self.refusals = 0
        self.lost: dict[int, int] = {}
        self.delivered = 0
        self._ehlo_name = settings.ehlo_name
        self._deadlines = deadlines or Deadlines()
        self._clerk = Clerk(
            database, worker=self.name, relay=self.relay.name, lease=lease
        )
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._pace = Pace(self.relay.rate_per_second, monotonic)
        self._speed = Speed(monotonic)
        self.desk = Desk(self._pace, monotonic)
        self.desk.on_idle = self._ring
        self.access = Access(self.relay, self.desk, monotonic, self._ring)
        self.busy = 0
        self._chores_at = self._look_at = self._singles_at = 0.0
        self._dry = True  # nothing was left to claim
        self._gone = False  # every courier has left
        self._last_try = 0.0  # to write, when told to stop
        self._bell = asyncio.Event()  # there is news for the ledger
        self._outcomes: list[Outcome] = []
        self._in_hand: set[int] = set()

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

    def takes_bulk(self) -> bool:
        """Keep one courier free for single mails where the relay is slow."""
        most = self.relay.connections
        return self.busy < most - 1 or most == 1 or self.latency < QUICK_SECONDS

    def settle(self, outcome: Outcome) -> None:
        """Hand in what became of an errand."""
        self._outcomes.append(outcome)
        self.lost.pop(outcome.delivery_id, None)
        self.delivered += outcome.state is DeliveryState.SENT
        self._ring()

    def give_back(self, errand: Errand) -> None:
        """Hand in an errand that comes back unused."""
        self.desk.stale.append(errand.claim.id)
        self._ring()

    # Its own life.

    async def _work(self, stop: asyncio.Event, *, until_idle: bool) -> None:
        couriers = {
            asyncio.create_task(Courier(self, self._connect).run())
            for _ in range(self.relay.connections)
        }
        books = asyncio.create_task(self._keep_books(until_idle=until_idle))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({books, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await self._close(couriers, books)

    async def _close(
        self, couriers: set[asyncio.Task[None]], books: asyncio.Task[None]
    ) -> None:
        """Let what is on the wire arrive, give the rest back, write it all down."""
        self.desk.closed = True
        self.desk.clear()
        self.desk.wake()
        self._last_try = monotonic() + DRAIN_SECONDS
        self.access.close()
        self._ring()
        _, late = await asyncio.wait(couriers, timeout=DRAIN_SECONDS)
        for courier in late:
            courier.cancel()
        ends = await asyncio.gather(*couriers, return_exceptions=True)
        self._gone = True
        self._ring()
        try:
            await books
            await self._in_thread(self._clerk.sign_off)
        finally:
            self._threads.shutdown(wait=False)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _connect(self) -> Connection:
        return await Connection.open(
            self.relay, ehlo_name=self._ehlo_name, deadlines=self._deadlines
        )

    # The ledger.

    async def _keep_books(self, *, until_idle: bool) -> None:
        """Write turn after turn; between them wait for news or look for work."""
        while True:
            self._bell.clear()
            if turn := self._next_turn():
                await self._take(turn)
            elif self._gone or (until_idle and await self._is_idle()):
                return
            else:
                await self._wait_or_look()

    def _next_turn(self) -> Turn | None:
        """Gather what there is to write now; None if nothing."""
        now = monotonic()
        self.access.look_at_the_clock()
        self.desk.drop_stale()
        turn = Turn(
            outcomes=self._outcomes,
            unused=self.desk.stale,
            chores=now >= self._chores_at,
            trouble=self.access.news,
            failures=self.access.failures,
            recovered=self.access.recovered,
        )
        if not (self.desk.closed or self.desk.held or self._dry):
            turn.bulk = self._bulk_needed()
            turn.singles = self._singles_needed(now)
        if not turn.anything:
            return None
        self._outcomes, self.desk.stale = [], []
        self.access.news, self.access.recovered = None, False
        if turn.chores:
            quiet = self._speed.now() < 0.1
            self._chores_at = now + CHORES_SECONDS * (5 if quiet else 1)
            turn.in_hand = tuple(self._in_hand)
            turn.rate_per_second = self._speed.now()
        return turn

    def _singles_needed(self, now: float) -> int:
        """Look for single mails several times a second, however busy it is."""
        if now < self._singles_at:
            return 0
        if not self.desk.idle and self.latency >= QUICK_SECONDS:
            return 0  # nobody could take one before it grows stale
        self._singles_at = now + SINGLES_SECONDS
        return SINGLES_AT_ONCE

    def _bulk_needed(self) -> int:
        idle = self.desk.idle
        if not self.takes_bulk():
            idle = 0
        ahead = min(self._speed.now() * AHEAD_SECONDS, AHEAD_AT_MOST)
        if self.latency < AHEAD_SECONDS / 2:
            ahead = max(ahead, self.relay.connections)
        if self._pace.rate:
            if self._pace.wait_seconds() > LOOK_SECONDS:
                return 0
            ahead = min(ahead, self._pace.rate * AHEAD_SECONDS)
            idle = min(idle, 1 + int(self._pace.rate * AHEAD_SECONDS))
        # A little at a time is not worth a statement.
        needed = idle + int(ahead) - self.desk.bulk
        return needed if idle > self.desk.bulk or needed > ahead / 4 else 0

    async def _take(self, turn: Turn) -> None:
        try:
            result = await self._in_thread(self._clerk.write, turn, self.now())
        except SQLAlchemyError as error:
            log.error("ledger: %s", error)
            self._put_back(turn)
            if self._gone and monotonic() > self._last_try:
                raise
            await self.access.pause(1.0)
            return
        self._in_hand.difference_update(turn.unused)
        self._in_hand.difference_update(o.delivery_id for o in turn.outcomes)
        self._in_hand.update(claim.id for claim in result.claims)
        self._speed.add(len(turn.outcomes))
        if result.workers and self.relay.rate_per_second:
            self._pace.rate = self.relay.rate_per_second / result.workers
        if turn.singles or turn.bulk:
            self._dry = not result.more and (self._dry or turn.bulk > 0)
        if result.more:
            self.access.want(self.relay.connections)
        self.desk.put(
            Errand(claim, result.words[claim.message_id], result.since)
            for claim in result.claims
        )
        if self.desk.closed or self.desk.held:
            self.desk.clear()

    def _put_back(self, turn: Turn) -> None:
        self._outcomes = turn.outcomes + self._outcomes
        self.desk.stale += turn.unused
        self.access.news = self.access.news or turn.trouble
        self.access.recovered = self.access.recovered or turn.recovered

    async def _wait_or_look(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._bell.wait()
        now = monotonic()
        if now >= self._look_at and not self.desk.closed:
            self._look_at = now + LOOK_SECONDS
            await self._look()

    async def _look(self) -> int:
        """See whether there is work; want as many connections as it needs."""
        most = self.relay.connections + 1
        try:
            found, due = await self._in_thread(self._clerk.look, most, self.now())
        except SQLAlchemyError as error:
            log.error("ledger: %s", error)
            return 1
        self._dry = not found
        wanted = self.busy + found + len(self.desk)
        self.access.want(wanted, idle=self.desk.idle)
        if due:
            self._chores_at = 0.0
        return found + due

    async def _is_idle(self) -> bool:
        """Tell whether nothing is left that could be sent now."""
        if self.busy or len(self.desk):
            return False
        return bool(self.access.failures) or await self._look() == 0

    def _ring(self) -> None:
        """Say that there is news for the ledger."""
        self._bell.set()

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *args)
