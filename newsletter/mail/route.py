"""One relay as a worker uses it: its connections, its pace, what it bears."""

import asyncio
from collections.abc import Callable
from time import monotonic, sleep
from typing import Protocol

from newsletter.config import Relay
from newsletter.mail import limits
from newsletter.mail.access import Access
from newsletter.mail.desk import Pace, Speed
from newsletter.mail.destinations import Concurrency
from newsletter.mail.exchange import Trust
from newsletter.mail.relays import Health

AHEAD_SECONDS = 0.25  # of work claimed before it can be begun
AHEAD_AT_MOST = 2_000
FIRST_EACH = 20  # messages for each connection, before anything is known
QUICK_SECONDS = 0.5  # a relay that takes longer keeps a courier free
SOON_SECONDS = 15.0
NAP_SHARE = 0.25  # of the time that a message takes
NAP_SECONDS = 0.0008  # at most
WORTH_A_NAP = 3  # replies
RUSH_RATE = 10_000  # messages a second that leave no time for a nap
RUSH_SECONDS = 0.2  # over which that is looked at
IDLE_SECONDS = 20.0  # then a connection is closed


class Idler(Protocol):
    """A courier who has a connection and nothing to carry."""

    idle_since: float

    def pull(self) -> None:
        """Look for something to carry."""

    def finish(self) -> None:
        """Close the connection."""


class Route:
    """A relay's connections, pace, budget and health."""

    def __init__(self, relay: Relay, on_news: Callable[[], None]) -> None:
        """Start with nobody connected."""
        self.relay = relay
        self.name = relay.name
        self.access = Access(relay, monotonic, on_news)
        self.pace = Pace(relay.rate_per_second, monotonic)
        self.speed = Speed(monotonic)
        self.rush = Speed(monotonic, RUSH_SECONDS)  # the speed of this moment
        self.trust = Trust()
        self.concurrency = Concurrency(relay.per_domain, relay.connections)
        self.latency = 0.0  # seconds a message takes, lately; 0: not known yet
        self.refusals = 0  # of the sender, in a row
        self.throttled: set[str] = set()  # providers, since the last success
        self.recovered: set[str] = set()  # providers that take mail again
        self.answered = 0  # messages, since `measure`
        self.lately = 0  # messages answered between the last two measurements
        self.connected = 0  # couriers with a connection
        self.idle: dict[Idler, None] = {}  # of these, with nothing to carry
        self.unlimited = not relay.rate_per_second and not limits.is_limited(relay)
        self.limited = limits.is_limited(relay)
        self.credit = 0  # messages granted and not begun
        self.dry_until = 0.0  # nothing more is granted before
        self.dry_seconds = 0.0  # so long, when it was asked
        self._alarm: asyncio.TimerHandle | None = None
        self._is_drowsy = False  # a nap is to come
        self._awake_at = 0  # what `answered` was then

    @property
    def busy(self) -> int:
        """Return how many couriers carry something."""
        return self.connected - len(self.idle)

    @property
    def has_credit(self) -> bool:
        """Tell whether the budget lets a message begin."""
        return not self.limited or self.credit > 0

    @property
    def spent(self) -> bool:
        """Tell whether the budget gives nothing for a good while."""
        return not self.has_credit and self.dry_seconds > SOON_SECONDS

    @property
    def works(self) -> bool:
        """Tell whether mail can be handed over, as far as is known.

        After a failure not before there is a connection again: to wait for one can
        take as long as its deadline.
        """
        access = self.access
        return not access.held and (not access.failures or self.connected > 0)

    @property
    def usable(self) -> bool:
        """Tell whether others need not carry what is this relay's share."""
        return self.works and not self.spent

    @property
    def may_claim(self) -> bool:
        """Tell whether what is claimed for it could begin, or a budget be asked."""
        return self.works and (self.has_credit or monotonic() >= self.dry_until)

    @property
    def is_quick(self) -> bool:
        """Tell whether what is claimed now can be begun soon."""
        return self.latency < QUICK_SECONDS

    @property
    def rushes(self) -> bool:
        """Tell whether it takes more than leaves time for anything."""
        return self.rush.latest > RUSH_RATE

    def health(self) -> Health | None:
        """Return what is to be written down about the relay, once."""
        access = self.access
        if not (access.news or access.recovered):
            return None
        health = Health(self.name, access.news, access.failures)
        access.news, access.recovered = None, False
        return health

    def tell_again(self, health: Health) -> None:
        """Take back what could not be written down."""
        if health.relay == self.name:
            self.access.news = self.access.news or health.trouble
            self.access.recovered = self.access.recovered or not health.trouble

    def took(self, seconds: float) -> None:
        """Learn from a message that was answered."""
        if not self._is_drowsy:  # once for all that came at once
            self._is_drowsy, self._awake_at = True, self.answered
            asyncio.get_running_loop().call_soon(self._nap)
        self.answered += 1
        if self.latency:
            self.latency += 0.1 * (seconds - self.latency)
        else:
            self.latency = seconds

    def nap_seconds(self, heard: int) -> float:
        """Return how long to let replies gather, when so few came at once; 0: not.

        To wake for each costs as much as half of sending a message. A relay that has
        the other connections' mail to go through meanwhile is not kept waiting; where a
        reply takes a round trip, as much would not come in that time. A very quick one
        would wait for us.
        """
        rate = self.rush.latest
        seconds = min(self.latency * NAP_SHARE, NAP_SECONDS)
        is_worth_it = rate * seconds >= WORTH_A_NAP and not self.rushes
        return seconds if is_worth_it and 2 * heard < self.connected else 0.0

    def _nap(self) -> None:
        self._is_drowsy = False
        if seconds := self.nap_seconds(self.answered - self._awake_at):
            sleep(seconds)

    def measure(self) -> None:
        """Bring the speed up to date."""
        self.speed.add(self.answered)
        self.rush.add(self.answered)
        self.lately, self.answered = self.answered, 0

    def may_hurry(self) -> bool:
        """Tell whether a message may begin before the last is answered.

        Not where that takes long: what has begun cannot be taken back, whoever leaves.
        """
        return 0.0 < self.latency < QUICK_SECONDS

    def takes_bulk(self) -> bool:
        """Keep one courier free for single mails where the relay is slow."""
        most = self.relay.connections
        return self.is_quick or most == 1 or self.busy < most - 1

    def spend(self) -> None:
        """Count a message that begins."""
        self.pace.spend()
        if self.limited:
            self.credit -= 1

    def appetite(self) -> tuple[int, float]:
        """Return how many messages could begin now, and how many more soon."""
        if not self.may_claim:
            return 0, 0.0
        idle = len(self.idle) if self.takes_bulk() else 0
        # Three times what went lately: a desk that runs dry fills up in a few turns.
        ahead = max(self.speed.now() * AHEAD_SECONDS, 3 * self.lately)
        ahead = min(ahead, AHEAD_AT_MOST)
        if self.latency < AHEAD_SECONDS / 2:
            known = self.latency > 0
            ahead = max(ahead, self.relay.connections * (1 if known else FIRST_EACH))
        if rate := self.pace.rate:
            if self.pace.wait_seconds() > AHEAD_SECONDS:
                return 0, 0.0
            ahead = min(ahead, rate * AHEAD_SECONDS)
            idle = min(idle, 1 + int(rate * AHEAD_SECONDS))
        return idle, ahead

    def granted(self, count: int, wait_seconds: float) -> None:
        """Take what the budget gives; without any, wait before asking again."""
        self.credit += count
        self.dry_seconds = wait_seconds
        if wait_seconds:
            self.dry_until = monotonic() + wait_seconds

    def refund(self) -> int:
        """Return what was granted and is not needed."""
        unused, self.credit = max(self.credit, 0), min(self.credit, 0)
        return unused

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

    def close_idle(self, *, older_than: float) -> None:
        """Close the connections that have had nothing to carry for so long."""
        limit = monotonic() - older_than
        for courier in list(self.idle):
            if courier.idle_since <= limit:
                courier.finish()

    def _ring(self, there_is_work: Callable[[], bool]) -> None:
        self._alarm = None
        self.wake(there_is_work)
