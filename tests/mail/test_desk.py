"""The desk, the pace and the speed, on a clock that the test turns."""

from dataclasses import replace
from typing import Any

import pytest

from newsletter.mail import mime
from newsletter.mail.desk import (
    FRESH_SECONDS,
    Desk,
    Errand,
    Pace,
    Speed,
    Words,
    errands_for,
)
from newsletter.mail.dkim import Seal
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


@pytest.mark.parametrize("odd", ["", "address", "token", "nobody"])
def test_errands_of_one_message_are_filled_at_once(odd: str) -> None:
    """One that is odd leaves all of its message for a careful look, and no other's."""
    claims = [
        Claim(number, message, 1, f"r{number}@b.example", 0, "a" * 22, "b" * 22)
        for number, message in ((1, 7), (2, 7), (3, 8))
    ]
    change: dict[str, dict[str, Any]] = {
        "address": {"address": "å@b.example"},
        "token": {"leave_token": "kort"},
        "nobody": {"preferences_token": None},
    }
    claims[1] = claims[1]._replace(**change.get(odd, {}))
    errands = errands_for(claims, {7: WORDS, 8: WORDS}, since=1000.0, at=NOW)
    assert [one.claim for one in errands] == claims
    assert [bool(one.values) for one in errands] == [not odd, not odd, True]
    assert errands[0].pieces() == Errand(claims[0], WORDS, 1000.0, NOW).pieces()


def test_what_was_signed_ahead_is_not_signed_again() -> None:
    words = replace(WORDS, seal=Seal(WORDS.frozen, []))
    claim = Claim(1, 1, 1, "a@b.example", 0, "a" * 22, "b" * 22)
    signed = Errand(claim, words, 1000.0, NOW)
    signed.signature = b"DKIM-Signature: made ahead\r\n"
    plain = Errand(claim, WORDS, 1000.0, NOW).pieces()
    assert signed.pieces() == [b"DKIM-Signature: made ahead\r\n", *plain]


def test_bulk_that_is_stale_is_passed() -> None:
    clock = Clock()
    desk = Desk(clock)
    desk.put([errand(1), errand(2, since=clock.now + 5)])
    clock.now += 5 + FRESH_SECONDS / 2
    taken = desk.next_bulk()
    assert (taken and taken.claim.id, desk.stale) == (2, [1])
    assert desk.next_bulk() is None


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
