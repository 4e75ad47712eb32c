"""Who may connect to a relay, and when: as many as there is work for and as it bears,
nobody while it cannot be used, and one alone to try it again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from newsletter.config import Relay
from newsletter.errors import RelayError
from newsletter.mail import relays

log = logging.getLogger(__name__)

ONE_MORE_SECONDS = 60.0  # after a connection too many, until one more is tried


class Access:
    """Counts connections and the relay's failures."""

    def __init__(
        self, relay: Relay, clock: Callable[[], float], on_news: Callable[[], None]
    ) -> None:
        """Start with nobody connected; `on_news` is called when the relay fails."""
        self.relay = relay
        self.held = False  # nothing is handed over for now
        self.failures = 0  # in a row
        self.news: RelayError | None = None  # a failure that is not yet written down
        self.recovered = True  # what was written about the relay before is old
        self.most = relay.connections  # that it bears
        self._clock = clock
        self._on_news = on_news
        self._wanted = 0
        self._open = 0  # and attempts at one
        self._established = 0
        self._held_until = 0.0
        self._one_more_at = 0.0
        self._closing = asyncio.Event()
        self._call = asyncio.Event()

    async def may_connect(self) -> bool:
        """Wait until one more connection is wanted; False when it is time to go."""
        while not self._closing.is_set():
            wanted = min(self._wanted, 1) if self.failures else self._wanted
            if self._open < min(wanted, self.most) and not self.held:
                self._open += 1
                return True
            await self._call.wait()
        return False

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Count a connection while it is used."""
        self._established += 1
        try:
            yield
        finally:
            self._established -= 1

    def disconnected(self) -> None:
        """Count a connection, or the attempt at one, less."""
        self._open -= 1
        self._wake()

    def rest(self) -> None:
        """Hear that a connection ended for want of work: none is to take its place."""
        self._wanted = min(self._wanted, self._open - 1)

    def want(self, connections: int, *, idle: int = 0) -> None:
        """Say how many connections there is work for."""
        self._wanted = min(connections, self.relay.connections)
        if self._open - idle < self._wanted:
            self._wake()

    def works(self) -> None:
        """Forget the relay's failures."""
        if self.failures:
            log.info("relay name=%s works again", self.relay.name)
            self.failures, self.news, self.recovered = 0, None, True
            self.held = False
            self._wake()

    @property
    def closing(self) -> bool:
        """Tell whether it is time to go."""
        return self._closing.is_set()

    def refused(self, error: RelayError, *, connected: bool = False) -> None:
        """Hear that a connection was turned away, before or after it was made.

        Where others are used this was one too many; else the relay is left alone.
        """
        others = self._established - connected
        if others < 1:
            self.trouble(error)
            return
        self.most = max(1, min(self.most - 1, others))
        self._one_more_at = self._clock() + ONE_MORE_SECONDS
        log.info("relay name=%s connections=%d", self.relay.name, self.most)

    def trouble(self, error: RelayError) -> None:
        """Leave the relay alone for a while, longer each time; say why."""
        if self.held:
            return
        self.failures += 1
        seconds = relays.back_off_seconds(self.failures)
        log.warning("relay name=%s pause=%.0fs: %s", self.relay.name, seconds, error)
        self.held = True
        self._held_until = self._clock() + seconds
        self.news = error
        self._on_news()

    def look_at_the_clock(self) -> None:
        """End a pause that is over; try one connection more after a while."""
        now = self._clock()
        if self.held and now >= self._held_until:
            self.held = False
            self._wake()
        if self.most < self.relay.connections and now >= self._one_more_at:
            self.most += 1
            self._one_more_at = now + ONE_MORE_SECONDS
            self._wake()

    async def pause(self, seconds: float) -> None:
        """Wait, unless it is time to go."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def close(self) -> None:
        """Let nobody connect any more."""
        self._closing.set()
        self._wake()

    def _wake(self) -> None:
        self._call.set()
        self._call = asyncio.Event()
