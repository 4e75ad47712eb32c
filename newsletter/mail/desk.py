"""What a worker has in hand: claimed deliveries, single mails on top, and the pace.

Claims grow stale. What has lain here for longer than `FRESH_SECONDS` is not sent but
given back, so that whoever leaves, pauses or cancels is heard within two seconds, also
where the relay is slow.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from newsletter.mail.ledger import SINGLE, Claim
from newsletter.mail.mime import Frozen

FRESH_SECONDS = 1.0
RATE_WINDOW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Words:
    """A message as it is loaded for sending."""

    frozen: Frozen
    sender: str
    nonce: str
    hold_unknown: bool


@dataclass(frozen=True, slots=True)
class Errand:
    """A claim with the words it carries, and when it was claimed."""

    claim: Claim
    words: Words
    since: float


class Pace:
    """N messages a second, in small bursts; 0 is as fast as it goes."""

    def __init__(self, rate_per_second: float, clock: Callable[[], float]) -> None:
        """Start with one message's worth."""
        self._clock = clock
        self._at = clock()
        self._credit = 1.0
        self.rate = rate_per_second

    def wait_seconds(self) -> float:
        """Return how long until the next message may go."""
        if not self.rate:
            return 0.0
        self._earn()
        return max(0.0, (1.0 - self._credit) / self.rate)

    def single_may_go(self) -> bool:
        """Tell whether a single mail may go: it may draw on two seconds to come."""
        return self.wait_seconds() < max(2.0, 5.0 / self.rate if self.rate else 0.0)

    def spend(self) -> None:
        """Count a message, also one that did not wait for its turn."""
        if self.rate:
            self._earn()
            self._credit -= 1.0

    def _earn(self) -> None:
        now = self._clock()
        most = 1.0 + self.rate * 0.05
        self._credit = min(most, self._credit + (now - self._at) * self.rate)
        self._at = now


class Speed:
    """Messages a second over the last moments."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start at nothing."""
        self._clock = clock
        self._at = clock()
        self._value = 0.0

    def add(self, messages: int) -> None:
        """Count messages."""
        self._value = self.now() + messages / RATE_WINDOW_SECONDS

    def now(self) -> float:
        """Return the speed."""
        now = self._clock()
        self._value *= math.exp((self._at - now) / RATE_WINDOW_SECONDS)
        self._at = now
        return self._value


class Desk:
    """Errands in hand and the couriers who wait for one."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        """Start with an empty desk."""
        self.pace = pace
        self.closed = False  # for good
        self.held = False  # nothing is handed out for now
        self.on_idle: Callable[[], None] = lambda: None
        self.stale: list[int] = []  # to be given back
        self._clock = clock
        self._singles: deque[Errand] = deque()
        self._bulk: deque[Errand] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """Return how many errands lie here."""
        return len(self._singles) + len(self._bulk)

    @property
    def bulk(self) -> int:
        """Return how many errands of the second lane lie here."""
        return len(self._bulk)

    @property
    def idle(self) -> int:
        """Return how many couriers wait for an errand."""
        return len(self._waiters)

    def put(self, errands: Iterable[Errand]) -> None:
        """Lay errands down and wake as many couriers."""
        for errand in errands:
            lane = self._singles if errand.claim.lane == SINGLE else self._bulk
            lane.append(errand)
        self.wake(len(self))

    def take(self, *, bulk: bool = True) -> Errand | None:
        """Return the next errand that is fresh and may go now."""
        if self.closed or self.held:
            return None
        self.drop_stale()
        if self._singles and self.pace.single_may_go():
            self.pace.spend()
            return self._singles.popleft()
        if bulk and self._bulk and not self.pace.wait_seconds():
            self.pace.spend()
            return self._bulk.popleft()
        return None

    async def next(self, *, bulk: Callable[[], bool], seconds: float) -> Errand | None:
        """Wait for an errand; None when there was none for so long."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and not self.closed:
            if errand := self.take(bulk=bulk()):
                return errand
            if self._bulk and (pause := self.pace.wait_seconds()):
                left = min(left, pause)
            await self._wait(left)
        return None

    def drop_stale(self) -> None:
        """Set aside what has lain here too long."""
        limit = self._clock() - FRESH_SECONDS
        for lane in (self._singles, self._bulk):
            while lane and lane[0].since < limit:
                self.stale.append(lane.popleft().claim.id)

    def clear(self) -> None:
        """Set everything aside."""
        for lane in (self._singles, self._bulk):
            self.stale += [errand.claim.id for errand in lane]
            lane.clear()

    def wake(self, couriers: int | None = None) -> None:
        """Wake so many waiting couriers, or all."""
        count = len(self._waiters) if couriers is None else couriers
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    async def _wait(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.on_idle()
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
