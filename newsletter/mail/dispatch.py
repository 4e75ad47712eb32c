"""Which errand goes over which relay now: lanes, pace, weights, providers. No database.

Single mails go first. Where a provider has asked one relay to slow down, what is for it
waits until then, or goes over another.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from time import monotonic

from newsletter.mail.desk import Desk, Errand
from newsletter.mail.destinations import HOLD_MINUTES, group_of
from newsletter.mail.ledger import Outcome
from newsletter.mail.replies import Verdict
from newsletter.mail.route import QUICK_SECONDS, Route
from newsletter.mail.routing import Router
from newsletter.models import DeliveryState

MOST_UNWRITTEN = 2_000  # outcomes: what a kill could make unknown
SEARCHED = 200  # errands looked at for one that may go now
PROVIDERS_AT_ONCE = 3  # that slow us down, one after the other: then it is the relay


class Dispatch:
    """Hands errands from the desk to couriers."""

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        now: Callable[[], datetime],
        settle: Callable[[Outcome], None],
        on_want: Callable[[], None],
        most_unwritten: int = MOST_UNWRITTEN,
    ) -> None:
        """Start with an empty desk; `on_want` is called when it runs out."""
        self.routes = list(routes)
        self.desk = Desk(monotonic)
        self.most_unwritten = most_unwritten
        self.unwritten = 0  # outcomes that the ledger does not hold yet
        self.slowed: dict[tuple[str, str], datetime] = {}  # by relay and provider
        self.strikes: dict[str, dict[str, str]] = {}  # to be written down, by relay
        self._router: Router | None = None
        if len(self.routes) > 1:
            relays = [route.relay for route in self.routes]
            self._router = Router(relays, monotonic)
        self._now = now
        self._settle = settle
        self._want = on_want

    @property
    def all_held(self) -> bool:
        """Tell whether no relay can be used."""
        return all(route.access.held for route in self.routes)

    def there_is_work(self) -> bool:
        """Tell whether anything lies on the desk."""
        return len(self.desk) > 0

    def lay_down(self, errands: Iterable[Errand]) -> None:
        """Put errands on the desk and let idle couriers look."""
        self.desk.put(errands)
        if self.desk.closed or self.all_held:
            self.desk.clear()
        self.wake()

    def wake(self) -> None:
        """Let the idle couriers of all relays look for something to carry."""
        if self._router:
            self._look_at_relays(self._router)
        for route in self.routes:
            if self.desk:
                route.wake(self.there_is_work)

    def needs(self, route: Route) -> bool:
        """Tell whether a relay is to be used: not if it stands by and another works."""
        return bool(route.relay.weight) or not any(
            one.usable and one.relay.weight for one in self.routes
        )

    def next_errand(self, route: Route) -> Errand | None:
        """Hand out the next errand that is fresh and may go this way now."""
        desk = self.desk
        if desk.closed or route.access.held or self.unwritten >= self.most_unwritten:
            return None
        if desk.bulk and not desk.singles and self._is_plain(route):
            errand = desk.next_bulk()
            if errand is not None:
                return errand
        return self._weighed(route)

    def _weighed(self, route: Route) -> Errand | None:
        desk = self.desk
        desk.drop_stale()
        if self._router:
            self._look_at_relays(self._router)
        errand = None
        if desk.singles and self._may_take_single(route):
            errand = self._pick(desk.singles, route)
        if errand is None and self._may_take_bulk(route):
            errand = self._pick_bulk(route)
        if errand is not None:
            route.spend()
            if self._router:
                self._router.took(route.name)
        elif not desk.bulk:
            self._want()
        return errand

    def ended(self, route: Route, errand: Errand, *, sent: bool) -> None:
        """Hear that an errand is no longer under way."""
        route.concurrency.end(errand.provider)
        if sent:
            route.concurrency.succeeded(errand.provider)
            route.recovered.add(errand.provider)

    def slow(self, route: Route, address: str, reply: str) -> bool:
        """Hold back what is for an address's provider; False if it is the relay.

        Several providers one after the other, and no success between: the relay itself
        asks to slow down.
        """
        provider = group_of(address)
        route.throttled.add(provider)
        if len(route.throttled) >= PROVIDERS_AT_ONCE:
            route.throttled.clear()
            return False
        until = self._now() + timedelta(minutes=HOLD_MINUTES[0])
        self.slowed.setdefault((route.name, provider), until)
        self.strikes.setdefault(route.name, {})[provider] = reply
        route.concurrency.slowed(provider)
        return True

    def refresh(self, slowed: Mapping[tuple[str, str], datetime]) -> None:
        """Take over what all workers have heard."""
        unwritten = {
            (relay, provider): self.slowed[relay, provider]
            for relay, providers in self.strikes.items()
            for provider in providers
            if (relay, provider) in self.slowed
        }
        self.slowed = {**slowed, **unwritten}

    def _is_plain(self, route: Route) -> bool:
        """Tell whether nothing limits what goes this way: nothing is to be weighed."""
        return (
            route.unlimited
            and self._router is None
            and route.latency < QUICK_SECONDS
            and not self.slowed
            and not route.concurrency.watchful
        )

    def _look_at_relays(self, router: Router) -> None:
        for route in self.routes:
            router.set_usable(route.name, route.usable)

    def _may_take_single(self, route: Route) -> bool:
        return route.has_credit and route.pace.single_may_go()

    def _may_take_bulk(self, route: Route) -> bool:
        if not (self.desk.bulk or self.desk.parked):
            return False
        if not (route.takes_bulk() and route.has_credit):
            return False
        if self._router and not self._router.may_take(route.name):
            return False
        if wait := route.pace.wait_seconds():
            route.wake_later(wait, self.there_is_work)
            return False
        return True

    def _pick_bulk(self, route: Route) -> Errand | None:
        """Take the first errand whose provider takes mail this way now.

        Those it passes are parked, so that the others are found at once.
        """
        desk = self.desk
        if not (self.slowed or route.concurrency.watchful or desk.parked):
            return desk.bulk.popleft()
        if (errand := self._pick_parked(route)) is not None:
            return errand
        for _ in range(min(len(desk.bulk), SEARCHED)):
            errand = desk.bulk.popleft()
            provider = group_of(errand.claim.address)
            if self._takes(route, provider):
                return self._begun(route, errand, provider)
            self._park(route, errand, provider)
        if self._router:
            self._router.passes(route.name)
        return None

    def _pick_parked(self, route: Route) -> Errand | None:
        desk = self.desk
        for provider in list(islice(desk.parked, SEARCHED)):
            if self._takes(route, provider):
                return self._begun(route, desk.unpark(provider), provider)
            if until := self._slowed_everywhere(route, provider):
                while provider in desk.parked:
                    self._put_off(desk.unpark(provider), until)
        return None

    def _pick(self, lane: deque[Errand], route: Route) -> Errand | None:
        """Do so among single mails, which are few and keep their place."""
        if not (self.slowed or route.concurrency.watchful):
            return lane.popleft()
        passed: list[Errand] = []
        found = None
        while lane and found is None and len(passed) < SEARCHED:
            errand = lane.popleft()
            provider = group_of(errand.claim.address)
            if self._takes(route, provider):
                found = self._begun(route, errand, provider)
            elif until := self._slowed_everywhere(route, provider):
                self._put_off(errand, until)
            else:
                passed.append(errand)
        lane.extendleft(reversed(passed))
        return found

    def _park(self, route: Route, errand: Errand, provider: str) -> None:
        if until := self._slowed_everywhere(route, provider):
            self._put_off(errand, until)
        else:
            self.desk.park(errand, provider)

    def _begun(self, route: Route, errand: Errand, provider: str) -> Errand:
        route.concurrency.begin(provider)
        errand.provider = provider
        return errand

    def _takes(self, route: Route, provider: str) -> bool:
        if self._slowed_until(route, provider):
            return False
        return route.concurrency.may_begin(provider)

    def _slowed_until(self, route: Route, provider: str) -> datetime | None:
        """Return how long a provider is held back; what is over is forgotten."""
        until = self.slowed.get((route.name, provider))
        if until and until <= self._now():
            del self.slowed[route.name, provider]
            return None
        return until

    def _slowed_everywhere(self, asking: Route, provider: str) -> datetime | None:
        """Return until when no relay may carry a provider's mail; None if one may."""
        first = None
        for route in self.routes:
            if route is asking or (route.usable and self.needs(route)):
                until = self._slowed_until(route, provider)
                if until is None:
                    return None
                first = min(first or until, until)
        return first

    def _put_off(self, errand: Errand, until: datetime) -> None:
        claim = errand.claim
        self._settle(
            Outcome(
                claim.id,
                claim.message_id,
                DeliveryState.DEFERRED,
                reason=Verdict.THROTTLED.value,
                next_attempt_at=until + timedelta(seconds=claim.id % 60),  # spread
                tried=False,
            )
        )
