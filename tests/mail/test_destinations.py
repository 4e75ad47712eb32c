"""Who asked us to slow down, for how long, and how many at once after that."""

import threading
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.db import Database
from newsletter.mail import destinations
from newsletter.mail.destinations import Concurrency, group_of
from newsletter.models import Destination
from tests.factories import NOW

RELAY = "relay.example:25"
SAID = "421 4.7.28 Our system has detected an unusual rate"
MINUTE = timedelta(minutes=1)


def slow(session: Session, *groups: str, now: datetime = NOW) -> None:
    destinations.slow(session, RELAY, dict.fromkeys(groups, SAID), now=now)


def until(session: Session, group: str = "gmail.com", now: datetime = NOW) -> datetime:
    return destinations.held(session, now=now)[RELAY, group]


def strikes(session: Session) -> int:
    session.expire_all()
    return session.scalars(select(Destination.strikes)).one()


# Groups


@pytest.mark.parametrize(
    ("domains", "group"),
    [
        ("gmail.com googlemail.com GMAIL.COM gmail.com.", "gmail.com"),
        (
            "outlook.com outlook.fr outlook.com.br hotmail.com hotmail.se hotmail.co.uk"
            " live.com live.se msn.com windowslive.com",
            "outlook.com",
        ),
        (
            "yahoo.com yahoo.se yahoo.co.uk yahoo.com.br ymail.com aol.com aol.de",
            "yahoo.com",
        ),
        ("icloud.com me.com mac.com", "icloud.com"),
        ("telia.com", "telia.com"),
        ("live.example", "live.example"),
        ("notgmail.com", "notgmail.com"),
        ("mail.gmail.com", "mail.gmail.com"),
        ("home.se", "home.se"),
    ],
)
def test_domains_of_one_provider_are_one_group(domains: str, group: str) -> None:
    for domain in domains.split():
        assert group_of(f"asa@{domain}") == group


def test_an_address_may_hold_more_than_one_at_sign() -> None:
    assert group_of('"a@gmail.com"@lund.example') == "lund.example"


# Holding


def test_a_group_is_held_for_a_quarter_of_an_hour_first(session: Session) -> None:
    slow(session, "gmail.com", "telia.com")
    assert NOW + 15 * MINUTE <= until(session) <= NOW + 18 * MINUTE
    assert len(destinations.held(session, now=NOW)) == 2
    assert destinations.held(session, now=NOW + 18 * MINUTE) == {}


def test_each_strike_within_a_day_holds_it_twice_as_long(session: Session) -> None:
    now = NOW
    for minutes in (15, 30, 60, 120, 240, 240):
        slow(session, "gmail.com", now=now)
        held = until(session, now=now) - now
        assert minutes * MINUTE <= held <= minutes * 1.2 * MINUTE
        now += held
    slow(session, "gmail.com", now=now + timedelta(days=1.1))
    assert strikes(session) == 1


def test_replies_to_what_was_under_way_are_one_strike(session: Session) -> None:
    slow(session, "gmail.com")
    first = until(session)
    slow(session, "gmail.com", "telia.com", now=NOW + MINUTE)
    assert until(session) == first
    assert until(session, "telia.com") > first - 4 * MINUTE
    assert destinations.describe(session, now=NOW)[0].reply == SAID


def test_relays_are_held_apart(session: Session) -> None:
    slow(session, "gmail.com")
    destinations.slow(session, "other:25", {"gmail.com": SAID}, now=NOW)
    assert {relay for relay, _ in destinations.held(session, now=NOW)} == {
        RELAY,
        "other:25",
    }


def test_nothing_to_hold_is_no_statement(session: Session) -> None:
    destinations.slow(session, RELAY, {}, now=NOW)
    destinations.recover(session, RELAY, set(), now=NOW)
    assert destinations.held(session, now=NOW) == {}


def test_a_strike_is_forgiven_for_each_quiet_quarter_with_mail(
    session: Session,
) -> None:
    slow(session, "gmail.com")
    second = until(session)
    slow(session, "gmail.com", now=second)
    over = until(session, now=second)
    for minutes, left in ((0, 2), (14, 2), (16, 1), (17, 1), (32, 0), (60, 0)):
        now = over + minutes * MINUTE
        destinations.recover(session, RELAY, {"gmail.com", "telia.com"}, now=now)
        assert strikes(session) == left, minutes


def test_what_counts_no_more_is_forgotten(session: Session) -> None:
    slow(session, "gmail.com")
    assert destinations.forget_old(session, now=NOW + timedelta(hours=20)) == 0
    assert destinations.forget_old(session, now=NOW + timedelta(days=1.1)) == 1


def test_a_readers_address_in_a_reply_is_not_kept(session: Session) -> None:
    said = {"gmail.com": "421 4.7.0 <asa@gmail.com>: Too many for asa@gmail.com today"}
    destinations.slow(session, RELAY, said, now=NOW)
    kept = destinations.describe(session, now=NOW)[0].reply
    assert kept == "421 4.7.0 <…>: Too many for … today"


def test_a_long_reply_is_kept_short(session: Session) -> None:
    destinations.slow(session, RELAY, {"gmail.com": "421 " + "x" * 9_000}, now=NOW)
    assert len(destinations.describe(session, now=NOW)[0].reply) == 500


def test_people_are_told_who_and_until_when(session: Session) -> None:
    slow(session, "gmail.com")
    (told,) = destinations.describe(session, now=NOW)
    clock = i18n.language("sv").clock(told.until, "Europe/Stockholm")
    assert told.words(i18n.language("sv"), "Europe/Stockholm") == (
        f"gmail.com bad oss ta det lugnare. Nästa försök kl. {clock}."
    )
    assert "asked us to slow down" in told.words(i18n.language("en"), "UTC")
    assert destinations.describe(session, now=told.until) == []


def test_workers_that_are_told_at_once_make_one_strike(database: Database) -> None:
    groups = [f"d{number}.example" for number in range(30)]
    failed: list[BaseException] = []

    def tell(turn: int) -> None:
        order = groups if turn % 2 else groups[::-1]
        try:
            for _ in range(5):
                with database.transaction() as session:
                    slow(session, *order)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=tell, args=(turn,)) for turn in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with database.reading() as session:
        assert session.scalars(select(Destination.strikes)).all() == [1] * 30


# At once


def test_without_a_limit_anything_may_go_until_somebody_objects() -> None:
    now = Concurrency(0, connections=10)
    for _ in range(50):
        assert now.may_begin("gmail.com")
        now.begin("gmail.com")
    now.slowed("gmail.com")
    assert now.limit("gmail.com") == 5
    assert not now.may_begin("gmail.com")
    assert now.limit("telia.com") is None


def test_a_limit_is_kept_and_shared_among_workers() -> None:
    now = Concurrency(4, connections=10)
    now.begin("gmail.com")
    now.share(2)
    assert now.may_begin("gmail.com")
    now.begin("gmail.com")
    assert not now.may_begin("gmail.com")
    assert now.may_begin("telia.com")
    now.end("gmail.com")
    assert now.may_begin("gmail.com")
    now.share(9)
    assert now.limit("telia.com") == 1


def test_ten_replies_to_what_was_under_way_halve_it_once() -> None:
    now = Concurrency(8, connections=10)
    for _ in range(8):
        now.begin("gmail.com")
    for _ in range(8):
        now.slowed("gmail.com")
        now.end("gmail.com")
    assert now.limit("gmail.com") == 4
    for limit in (2, 1, 1):
        now.begin("gmail.com")
        now.slowed("gmail.com")
        now.end("gmail.com")
        assert now.limit("gmail.com") == limit


def test_a_hundred_taken_bring_one_more_up_to_the_limit() -> None:
    now = Concurrency(3, connections=10)
    now.slowed("gmail.com")
    assert now.limit("gmail.com") == 1
    for limit in (2, 3):
        for _ in range(99):
            now.succeeded("gmail.com")
        assert now.limit("gmail.com") == limit - 1
        now.succeeded("gmail.com")
        assert now.limit("gmail.com") == limit
    now.succeeded("gmail.com")
    assert now.limit("gmail.com") == 3


steps = st.lists(
    st.tuples(
        st.sampled_from(["try", "end", "slowed", "succeeded", "share"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 4),
    )
)


@given(steps=steps, per_domain=st.integers(0, 5))
def test_no_more_are_begun_than_the_limit_says(
    steps: list[tuple[str, str, int]], per_domain: int
) -> None:
    now = Concurrency(per_domain, connections=6)
    under_way = {"a": 0, "b": 0}
    for step, group, number in steps:
        if step == "try" and now.may_begin(group):
            now.begin(group)
            under_way[group] += 1
            assert under_way[group] <= (now.limit(group) or 10**9)
        elif step == "end" and under_way[group]:
            now.end(group)
            under_way[group] -= 1
        elif step == "slowed":
            now.slowed(group)
        elif step == "succeeded":
            now.succeeded(group)
        elif step == "share":
            now.share(number)
        assert (now.limit(group) or 1) >= 1
        assert (now.limit(group) or 1) <= (per_domain or 6)
