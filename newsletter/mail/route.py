"""One relay as a worker uses it: its connections, its pace, what it bears."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from newsletter.config import Relay
from newsletter.mail.access import Access
from newsletter.mail.desk import Pace, Speed
from newsletter.mail.relays import Health
from newsletter.mail.smtp import Trust

AHEAD_SECONDS = 0.25  # of work claimed before it can be begun
AHEAD_AT_MOST = 2_000
QUICK_SECONDS = 0.5  # a relay that takes longer keeps a courier free
IDLE_SECONDS = 20.0  # then a connection is closed


class Idler(Protocol):
    """A courier who has a connection and nothing to carry."""

    idle_since: float

    def pull(self) -> None:
        """Look for something to carry."""

    def finish(self) -> None:
        """Close the connection."""


class Route:
    """A relay's connections, pace and health."""

    def __init__(self, relay: Relay, on_news: Callable[[], None]) -> None:
        """Start with nobody connected."""
        self.relay = relay
        self.access = Access(relay, monotonic, on_news)
        self.pace = Pace(relay.rate_per_second, monotonic)
        self.speed = Speed(monotonic)
        self.trust = Trust()
        self.latency = 0.0  # seconds a message takes, lately; 0: not known yet
        self.refusals = 0  # of the sender, in a row
        self.answered = 0  # messages, since `measure`
        self.connected = 0  # couriers with a connection
        self.idle: dict[Idler, None] = {}  # of these, with nothing to carry
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """Return how many couriers carry something."""
        return self.connected - len(self.idle)

    @property
    def is_quick(self) -> bool:
        """Tell whether what is claimed now can be begun soon."""
        return self.latency < QUICK_SECONDS

    def health(self) -> Health | None:
        """Return what is to be written down about the relay, once."""
        access = self.access
        if not (access.news or access.recovered):
            return None
        health = Health(self.relay.name, access.news, access.failures)
        access.news, access.recovered = None, False
        return health

    def tell_again(self, health: Health) -> None:
        """Take back what could not be written down."""
        if health.relay == self.relay.name:
            self.access.news = self.access.news or health.trouble
            self.access.recovered = self.access.recovered or not health.trouble

    def took(self, seconds: float) -> None:
        """Learn from a message that was answered."""
        self.answered += 1
        if self.latency:
            self.latency += 0.1 * (seconds - self.latency)
        else:
            self.latency = seconds

    def measure(self) -> None:
        """Bring the speed up to date."""
        self.speed.add(self.answered)
        self.answered = 0

    def may_hurry(self) -> bool:
        """Tell whether a message may begin before the last is answered.

        Not where that takes long: what has begun cannot be taken back, whoever leaves.
        """
        return 0.0 < self.latency < QUICK_SECONDS

    def takes_bulk(self) -> bool:
        """Keep one courier free for single mails where the relay is slow."""
        most = self.relay.connections
        return self.busy < most - 1 or most == 1 or self.latency < QUICK_SECONDS

    def appetite(self) -> tuple[int, float]:
        """Return how many messages could begin now, and how many more soon."""
        if self.access.held:
            return 0, 0.0
        idle = len(self.idle) if self.takes_bulk() else 0
        ahead = min(self.speed.now() * AHEAD_SECONDS, AHEAD_AT_MOST)
        if self.latency < AHEAD_SECONDS / 2:
            ahead = max(ahead, self.relay.connections)
        if rate := self.pace.rate:
            if self.pace.wait_seconds() > AHEAD_SECONDS:
                return 0, 0.0
            ahead = min(ahead, rate * AHEAD_SECONDS)
            idle = min(idle, 1 + int(rate * AHEAD_SECONDS))
        return idle, ahead

    def wake(self, there_is_work: Callable[[], bool]) -> None:
        """Let idle couriers look for something to carry, while there is any."""
        for courier in list(self.idle):
            if not there_is_work():
                return
            courier.pull()

    def wake_later(self, seconds: float, there_is_work: Callable[[], bool]) -> None:
        """Do so when the pace allows the next message."""
        if self._alarm is None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(seconds, self._ring, there_is_work)

    def close_idle(self, *, older_than: float = IDLE_SECONDS) -> None:
        """Close the connections that have had nothing to carry for so long."""
        limit = monotonic() - older_than
        for courier in list(self.idle):
            if courier.idle_since <= limit:
                courier.finish()

    def _ring(self, there_is_work: Callable[[], bool]) -> None:
        self._alarm = None
        self.wake(there_is_work)
