"""The desk, the pace and the speed, on a clock that the test turns."""

import pytest

from newsletter.mail import mime
from newsletter.mail.desk import FRESH_SECONDS, Desk, Errand, Pace, Speed, Words
from newsletter.mail.ledger import Claim
from tests.factories import NOW
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
    return Errand(claim, WORDS, since, NOW)


def test_single_mails_lie_apart() -> None:
    clock = Clock()
    desk = Desk(clock)
    desk.put([errand(1), errand(2), errand(3, lane=0)])
    assert [one.claim.id for one in desk.singles] == [3]
    assert [one.claim.id for one in desk.bulk] == [1, 2]
    assert (len(desk), list(desk.ids())) == (3, [3, 1, 2])


def test_what_has_lain_too_long_is_set_aside() -> None:
    clock = Clock()
    desk = Desk(clock)
    desk.put([errand(1), errand(2, lane=0)])
    clock.now += FRESH_SECONDS + 0.1
    desk.put([errand(3, since=clock.now)])
    desk.drop_stale()
    assert list(desk.ids()) == [3]
    assert sorted(desk.stale) == [1, 2]


def test_a_cleared_desk_gives_everything_back() -> None:
    desk = Desk(Clock())
    desk.put([errand(1), errand(2, lane=0)])
    desk.clear()
    assert (sorted(desk.stale), len(desk)) == ([1, 2], 0)


@pytest.mark.parametrize("rate", [1.0, 14.0, 100.0])
def test_the_pace_lets_through_so_many_a_second(rate: float) -> None:
    clock = Clock()
    pace = Pace(rate, clock)
    sent = 0
    for _ in range(1000):  # ten seconds
        clock.now += 0.01
        while not pace.wait_seconds():
            pace.spend()
            sent += 1
    assert rate * 10 - 1 <= sent <= rate * 10.1 + 1


def test_single_mails_draw_on_the_pace_to_come() -> None:
    clock = Clock()
    pace = Pace(2, clock)
    for _ in range(3):
        assert pace.single_may_go()
        pace.spend()
    clock.now += 0.9
    assert pace.wait_seconds()  # the bulk pays for them
    clock.now += 0.6
    assert not pace.wait_seconds()


def test_the_speed_follows_what_is_sent() -> None:
    clock = Clock()
    speed = Speed(clock)
    for _ in range(100):
        clock.now += 0.1
        speed.add(10)
    assert 90 <= speed.now() <= 110
    clock.now += 20
    assert speed.now() < 1
