"""Which of several relays may take the next message. Pure.

Couriers pull: one that is free asks whether its relay may take a message.

- Relays of the same weight take what they can: the faster one takes more.
- Where weights differ they hold: each relay has a count, what it took divided by its
  weight, and none may be ahead of the one furthest behind by more than a window, in
  which the heaviest relay takes `WINDOW` messages. So none lags by more than that.
- A relay that is behind and takes nothing at all for `PATIENCE_SECONDS` while another
  waits for it holds nobody up any longer. When it takes a message again it is as far
  behind as the window is wide, and no further.
- A relay that could not be used has nothing to catch up with when it can; nor has one
  to which nothing of what lay here might go.
- One of weight 0 takes messages while no other can be used.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from newsletter.config import Relay

WINDOW = 50  # messages
PATIENCE_SECONDS = 5.0
FORGET_SECONDS = 2.0  # nobody has asked for so long: nobody waits


@dataclass(slots=True)
class _Lane:
    """A relay as the router sees it."""

    weight: int
    usable: bool = True
    count: float = 0.0  # messages taken, divided by the weight
    missed: bool = False  # it was waited for long enough
    passes: bool = False  # or may carry nothing of what there is
    waited_for_since: float = -math.inf
    asked_for_at: float = -math.inf  # the last time that another had to wait


class Router:
    """Shares messages among relays by their weights; one for each worker."""

    def __init__(self, relays: Iterable[Relay], clock: Callable[[], float]) -> None:
        """Start with all relays usable and even."""
        self._clock = clock
        self._lanes = {relay.name: _Lane(relay.weight) for relay in relays}
        self._window = 0.0  # in counts; 0: weights are the same
        self._look_at_weights()

    def may_take(self, name: str) -> bool:
        """Tell whether a relay may take the next message.

        To be asked again when another relay has taken one or has changed, and at least
        every second: one that is waited for in vain is passed over after a while.
        """
        lane = self._lanes[name]
        if not lane.usable:
            return False
        if not lane.weight:
            return not any(one.usable and one.weight for one in self._lanes.values())
        if not self._window:
            return True
        behind = [
            one for one in self._counted() if lane.count - one.count >= self._window
        ]
        return not self._are_waited_for(behind)

    def took(self, name: str) -> None:
        """Count a message that a relay took, whether or not it had asked."""
        lane = self._lanes[name]
        lane.asked_for_at = -math.inf
        if not lane.weight:
            return
        if lane.missed:
            self._catch_up(lane, 0.0 if lane.passes else self._window)
            lane.missed = lane.passes = False
        lane.count += 1 / lane.weight

    def passes(self, name: str) -> None:
        """Hear that a relay may carry nothing of what there is: nobody waits for it.

        It has nothing to catch up with either.
        """
        self._lanes[name].missed = self._lanes[name].passes = True

    def set_usable(self, name: str, usable: bool) -> None:
        """Say whether a relay can be used: works, and has something left to take."""
        lane = self._lanes[name]
        if usable == lane.usable:
            return
        lane.usable, lane.asked_for_at = usable, -math.inf
        lane.missed = lane.passes = False
        if usable:
            self._catch_up(lane, 0.0)
        self._look_at_weights()

    def usable(self, name: str) -> bool:
        """Tell whether a relay can be used."""
        return self._lanes[name].usable

    @property
    def any_usable(self) -> bool:
        """Tell whether any relay can be used."""
        return any(lane.usable for lane in self._lanes.values())

    def _counted(self) -> list[_Lane]:
        """Return the relays that others wait for."""
        return [
            lane
            for lane in self._lanes.values()
            if lane.usable and lane.weight and not lane.missed
        ]

    def _are_waited_for(self, behind: list[_Lane]) -> bool:
        """Tell whether any of these is waited for; pass over those long enough."""
        now = self._clock()
        for lane in behind:
            if now - lane.asked_for_at > FORGET_SECONDS:
                lane.waited_for_since = now
            lane.asked_for_at = now
            lane.missed = now - lane.waited_for_since >= PATIENCE_SECONDS
        return any(not lane.missed for lane in behind)

    def _catch_up(self, lane: _Lane, window: float) -> None:
        """Leave a relay at most a window behind the others."""
        others = [one.count for one in self._counted() if one is not lane]
        if others:
            lane.count = max(lane.count, min(others) - window)

    def _look_at_weights(self) -> None:
        """Set how far ahead a relay may be. Those that meet anew begin even."""
        weights = [one.weight for one in self._lanes.values() if one.usable]
        weights = [weight for weight in weights if weight]
        if len(set(weights)) > 1:
            if not self._window:
                self._begin_even()
            self._window = WINDOW / max(weights)
        else:
            self._window = 0.0

    def _begin_even(self) -> None:
        for lane in self._lanes.values():
            lane.count = 0.0
