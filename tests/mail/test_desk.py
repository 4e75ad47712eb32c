"""The desk, the pace and the speed, on a clock that the test turns."""

import asyncio

import pytest

from newsletter.mail import mime
from newsletter.mail.desk import FRESH_SECONDS, Desk, Errand, Pace, Speed, Words
from newsletter.mail.ledger import Claim
from tests.mail.letters import make_letter

WORDS = Words(mime.freeze(make_letter()), "a@b.example", "n", False)


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def errand(number: int, *, lane: int = 1, since: float = 1000.0) -> Errand:
    claim = Claim(number, 1, lane, f"r{number}@exempel.example", 0, None, None)
    return Errand(claim, WORDS, since)


def taken(desk: Desk, *, bulk: bool = True) -> list[int]:
    found = []
    while one := desk.take(bulk=bulk):
        found.append(one.claim.id)
    return found


def test_single_mails_go_first() -> None:
    clock = Clock()
    desk = Desk(Pace(0, clock), clock)
    desk.put([errand(1), errand(2), errand(3, lane=0)])
    assert taken(desk) == [3, 1, 2]


def test_what_has_lain_too_long_is_set_aside() -> None:
    clock = Clock()
    desk = Desk(Pace(0, clock), clock)
    desk.put([errand(1), errand(2, lane=0)])
    clock.now += FRESH_SECONDS + 0.1
    desk.put([errand(3, since=clock.now)])
    assert taken(desk) == [3]
    assert sorted(desk.stale) == [1, 2]


def test_a_held_desk_hands_nothing_out() -> None:
    clock = Clock()
    desk = Desk(Pace(0, clock), clock)
    desk.put([errand(1)])
    desk.held = True
    assert taken(desk) == []
    desk.clear()
    assert (desk.stale, len(desk)) == ([1], 0)


def test_a_courier_kept_free_takes_no_bulk() -> None:
    clock = Clock()
    desk = Desk(Pace(0, clock), clock)
    desk.put([errand(1), errand(2, lane=0)])
    assert taken(desk, bulk=False) == [2]


def test_a_waiting_courier_is_woken() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        desk = Desk(Pace(0, loop.time), loop.time)
        waiting = asyncio.create_task(desk.next(bulk=lambda: True, seconds=5))
        await asyncio.sleep(0)
        assert desk.idle == 1
        desk.put([errand(7, since=loop.time())])
        found = await waiting
        assert desk.idle == 0
        return found.claim.id if found else 0

    assert asyncio.run(main()) == 7


@pytest.mark.parametrize("rate", [1.0, 14.0, 100.0])
def test_the_pace_lets_through_so_many_a_second(rate: float) -> None:
    clock = Clock()
    desk = Desk(Pace(rate, clock), clock)
    sent = 0
    for _ in range(1000):  # ten seconds
        clock.now += 0.01
        desk.put([errand(1, since=clock.now)])
        sent += len(taken(desk))
        desk.clear()
    assert rate * 10 - 1 <= sent <= rate * 10.1 + 1


def test_single_mails_draw_on_the_pace_to_come() -> None:
    clock = Clock()
    desk = Desk(Pace(2, clock), clock)
    desk.put([errand(n, lane=0) for n in range(1, 4)])
    desk.put([errand(n) for n in range(4, 7)])
    assert taken(desk) == [1, 2, 3]
    clock.now += 0.9
    assert taken(desk) == []  # the bulk pays for them
    for _ in range(6):
        clock.now += 0.1
    assert taken(desk) == []  # stale by now, and still owed for


def test_the_speed_follows_what_is_sent() -> None:
    clock = Clock()
    speed = Speed(clock)
    for _ in range(100):
        clock.now += 0.1
        speed.add(10)
    assert 90 <= speed.now() <= 110
    clock.now += 20
    assert speed.now() < 1
