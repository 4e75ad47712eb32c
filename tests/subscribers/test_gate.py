"""Limits before every way in, with a clock of their own (SEC-01)."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import TooMany
from newsletter.models import Kind, Newsletter, Rate, Subscription
from newsletter.subscribers import gate, moving, signup
from newsletter.subscribers.consent import Origin
from tests.factories import NOW, make_newsletter, make_subscription
from tests.subscribers.letterbox import FORM, last, mails

VICTIM = "victim@example.org"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def ask(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    at: datetime,
    email: str = VICTIM,
    network: str = "192.0.2.1",
) -> None:
    origin = replace(FORM, network=network)
    signup.request_subscription(
        session, settings, newsletter, email, origin=origin, now=at
    )


def networks() -> Iterator[str]:
    return (f"10.{a}.{b}.1" for a in range(256) for b in range(256))


def test_ten_minutes_pass_between_two_confirmation_mails(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    for at in (NOW, NOW + 5 * MINUTE, NOW + 10 * MINUTE - timedelta(seconds=1)):
        ask(session, settings, newsletter, at)
    assert len(mails(session)) == 1
    ask(session, settings, newsletter, NOW + 11 * MINUTE)
    assert len(mails(session)) == 2


def test_one_address_gets_three_mails_a_day_and_five_a_month(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    source = networks()
    sent: list[int] = []
    for day in range(33):
        for hour in range(0, 24, 5 if day < 2 else 24):
            at = NOW + day * DAY + hour * HOUR
            ask(session, settings, newsletter, at, network=next(source))
        sent.append(len(mails(session)))
    assert sent[0] == 3
    assert sent[1] == 5
    assert sent[29] == 5
    assert 5 < sent[32] <= 10


def test_however_many_sign_a_victim_up_they_get_three_mails_a_day(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    other = make_newsletter(session, "annat")
    source = networks()
    for number in range(40):
        at = NOW + number * 25 * MINUTE
        spelt = VICTIM if number % 3 else VICTIM.replace("@", f"+{number}@").upper()
        target = other if number % 2 else newsletter
        ask(session, settings, target, at, email=spelt, network=next(source))
    assert len(mails(session)) == 3


def test_one_network_is_stopped_and_another_is_not(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    strict = replace(settings, signups_per_network_hour=5)
    for number in range(5):
        email = f"a{number}@example.org"
        ask(session, strict, newsletter, NOW, email, network=f"192.0.2.{number}")
    with pytest.raises(TooMany):
        ask(session, strict, newsletter, NOW, "a6@example.org", network="192.0.2.250")
    ask(session, strict, newsletter, NOW, "a7@example.org", network="192.0.3.1")
    ask(session, strict, newsletter, NOW + 2 * HOUR, "a8@example.org")
    assert len(mails(session)) == 7


def test_a_house_on_ipv6_is_one_network(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    strict = replace(settings, signups_per_network_hour=2)
    for number in range(2):
        network = f"2001:db8:0:{number}::1"
        ask(session, strict, newsletter, NOW, f"a{number}@example.org", network=network)
    with pytest.raises(TooMany):
        ask(session, strict, newsletter, NOW, network="2001:db8:0:ff::9")
    ask(session, strict, newsletter, NOW, network="2001:db8:0:100::9")


def test_the_ceiling_over_all_holds(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    strict = replace(settings, signups_per_hour=12)
    refused = 0
    for number, network in zip(range(18), networks(), strict=False):
        try:
            ask(session, strict, newsletter, NOW, f"a{number}@example.org", network)
        except TooMany:
            refused += 1
    assert (len(mails(session)), refused) == (12, 6)


def test_every_way_that_mails_an_address_passes_the_gate(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter, NOW, email="other@example.org")
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    reader = make_subscription(session, newsletter, "reader@example.org")
    strict = replace(settings, signups_per_network_hour=1)
    with pytest.raises(TooMany):
        ask(session, strict, newsletter, NOW)
    with pytest.raises(TooMany):
        signup.send_again(session, strict, token, origin=FORM, now=NOW)
    with pytest.raises(TooMany):
        moving.request_address_change(
            session, strict, reader, VICTIM, origin=FORM, now=NOW
        )


def test_a_new_address_cannot_be_used_to_flood_someone(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    readers = [make_subscription(session, newsletter) for _ in range(12)]
    for number, reader in enumerate(readers):
        moving.request_address_change(
            session,
            settings,
            reader,
            VICTIM,
            origin=Origin(network=f"10.0.{number}.1"),
            now=NOW + number * HOUR,
        )
    assert len(mails(session)) == 3


def test_silence_writes_nothing_about_the_person(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    for number in range(5):
        ask(session, settings, newsletter, NOW + number * 11 * MINUTE)
    before = session.scalar(select(func.count()).select_from(Subscription))
    other = make_newsletter(session, "annat")
    ask(session, settings, other, NOW + 2 * HOUR)
    assert session.scalar(select(func.count()).select_from(Subscription)) == before


def test_counts_are_keyed_hashes_and_are_forgotten(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter, NOW)
    keys = list(session.scalars(select(Rate.key)))
    assert len(keys) == 4
    assert not any("victim" in key or "192" in key for key in keys)
    gate.purge_counts(session, now=NOW + 25 * HOUR)
    keys = list(session.scalars(select(Rate.key)))
    assert [key.partition(":")[0] for key in keys] == ["mailbox"]
    gate.purge_counts(session, now=NOW + 31 * DAY)
    assert session.scalar(select(func.count()).select_from(Rate)) == 0


def test_only_robots_fill_in_the_trap() -> None:
    assert gate.is_trapped("http://buy.example/")
    assert not gate.is_trapped("")
    assert not gate.is_trapped("  ")
