"""Several relays: weights hold, nobody is held up for ever, one stands by."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.config import Relay
from newsletter.mail.routing import PATIENCE_SECONDS, WINDOW, Router


class World:
    """Relays with weights, and time that passes when told to."""

    def __init__(self, **weights: int) -> None:
        self.time = 0.0
        self.names = {key: f"{key}:25" for key in weights}
        relays = [Relay(key, 25, weight=weight) for key, weight in weights.items()]
        self.router = Router(relays, lambda: self.time)
        self.taken: Counter[str] = Counter()

    def take(self, key: str) -> bool:
        name = self.names[key]
        if may := self.router.may_take(name):
            self.router.took(name)
            self.taken[key] += 1
        return may

    def take_all(self, key: str, most: int = 10_000) -> int:
        """Let one relay take until it may not; return how many that was."""
        return next((n for n in range(most) if not self.take(key)), most)

    def usable(self, key: str, usable: bool) -> None:
        self.router.set_usable(self.names[key], usable)

    def run(self, seconds: float, **speeds: float) -> Counter[str]:
        """Let each relay ask as often in a second as it could take messages."""
        self.taken.clear()
        step = 0.01
        owed = dict.fromkeys(speeds, 0.0)
        for _ in range(round(seconds / step)):
            self.time += step
            for key, speed in speeds.items():
                owed[key] = min(owed[key] + speed * step, 10.0)
                while owed[key] >= 1 and self.take(key):
                    owed[key] -= 1
        return self.taken


def test_one_relay_takes_everything() -> None:
    assert World(a=1).take_all("a") == 10_000


def test_relays_of_one_weight_take_what_they_can() -> None:
    taken = World(a=5, b=5).run(10, a=1000, b=10)
    assert taken["a"] == pytest.approx(10_000, abs=1)
    assert taken["b"] == pytest.approx(100, abs=1)


def test_weights_hold_where_both_can_keep_up() -> None:
    taken = World(a=9, b=1).run(10, a=100, b=100)
    assert taken["a"] == 1000
    assert taken["b"] == pytest.approx(1000 / 9, abs=WINDOW / 9 + 1)


def test_a_relay_too_slow_for_its_weight_lags_by_a_window_at_most() -> None:
    world = World(slow=2, fast=1)
    assert world.take_all("fast") <= WINDOW / 2 + 1
    taken = world.run(20, slow=10, fast=1000)
    assert taken["slow"] == pytest.approx(200, abs=1)
    assert taken["fast"] == pytest.approx(100, abs=WINDOW)


def test_a_relay_that_takes_nothing_holds_nobody_up_for_ever() -> None:
    world = World(stuck=9, fast=1)
    world.run(PATIENCE_SECONDS - 0.5, fast=100)
    assert world.taken["fast"] <= WINDOW
    assert world.run(PATIENCE_SECONDS + 1, fast=100)["fast"] >= 500
    # When it takes mail again it has no more than a window to catch up with.
    world.run(1, stuck=1)
    assert world.take_all("fast") <= 1
    assert world.take_all("stuck") <= 2 * WINDOW + 9


def test_an_hour_without_mail_is_no_reason_to_pass_a_relay_over() -> None:
    world = World(heavy=9, light=1)
    world.take_all("light")
    world.time += 3600
    assert not world.take("light")
    assert world.take("heavy")


def test_a_relay_that_cannot_be_used_is_not_waited_for() -> None:
    world = World(heavy=9, light=1)
    world.usable("heavy", False)
    assert not world.take("heavy")
    assert world.take_all("light") == 10_000
    world.usable("heavy", True)
    assert world.take_all("heavy") <= WINDOW + 9  # nothing to catch up with
    assert world.router.usable(world.names["heavy"])


def test_a_relay_that_may_carry_nothing_of_what_there_is_is_not_waited_for() -> None:
    world = World(heavy=9, light=1)
    assert 0 < world.take_all("light") < 100
    world.router.passes(world.names["heavy"])
    assert world.take_all("light", 1_000) == 1_000
    assert world.take("heavy")  # there is something again
    assert 0 < world.take_all("light") < 100
    assert world.take_all("heavy") <= 2 * WINDOW + 9  # nothing to catch up with


def test_a_relay_that_stands_by_is_used_while_no_other_can_be() -> None:
    world = World(main=1, other=3, spare=0)
    assert not world.take("spare")
    world.usable("main", False)
    assert not world.take("spare")
    world.usable("other", False)
    assert world.take("spare")
    assert world.take_all("spare") == 10_000
    world.usable("main", True)
    assert not world.take("spare")
    for key in ("main", "spare"):
        world.usable(key, False)
    assert not world.router.any_usable


def test_where_all_stand_by_all_are_used() -> None:
    world = World(a=0, b=0)
    assert world.take("a")
    assert world.take("b")


def test_a_message_taken_without_asking_counts() -> None:
    world = World(a=9, b=1)
    for _ in range(100):
        world.router.took("b:25")
    assert not world.take("b")
    assert world.take_all("a") >= 900


@given(
    weights=st.lists(st.integers(1, 20), min_size=2, max_size=4),
    seed=st.integers(0, 2**32),
    turns=st.integers(0, 3_000),
)
def test_whoever_asks_how_often_nobody_is_ahead_by_more_than_the_window(
    weights: list[int], seed: int, turns: int
) -> None:
    world = World(**{f"r{n}": weight for n, weight in enumerate(weights)})
    keys, chance = list(world.names), Random(seed)
    eager = [chance.random() ** 3 for _ in keys]
    for key in chance.choices(keys, eager, k=turns):
        world.take(key)
        counts = [world.taken[k] / w for k, w in zip(keys, weights, strict=True)]
        if len(set(weights)) > 1:
            most = WINDOW / max(weights) + 1 / min(weights)
            assert max(counts) - min(counts) <= most + 1e-6


@given(
    weights=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["take", "on", "off", "wait"]))
    ),
)
def test_while_any_relay_can_be_used_one_of_them_may_take(
    weights: list[int], steps: list[tuple[int, str]]
) -> None:
    world = World(**{f"r{n}": weight for n, weight in enumerate(weights)})
    keys = list(world.names)
    for number, step in steps:
        key = keys[number % len(keys)]
        if step == "take":
            world.take(key)
        elif step == "wait":
            world.time += 1
        else:
            world.usable(key, step == "on")
        may = [world.router.may_take(name) for name in world.names.values()]
        assert any(may) == world.router.any_usable
