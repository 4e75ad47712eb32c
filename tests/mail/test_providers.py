"""Providers that ask us to slow down: theirs waits, all others go on."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import relays
from newsletter.mail.destinations import group_of
from newsletter.models import Delivery, DeliveryState, Destination
from tests.delivering import deliver, through
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.letters import queue_issue
from tests.mail.test_sender import counts, running, until
from tests.smtp_server import SmtpServer

HOURS = timedelta(hours=1)
SLOW_DOWN = ["450 4.7.28 Unusual rate", "421 4.7.0 Try later", "451 4.7.28 Too fast"]


@pytest.fixture
def other() -> Iterator[SmtpServer]:
    """A second relay."""
    with SmtpServer() as server:
        yield server


def queue_to(database: Database, readers: int, *domains: str) -> int:
    """Queue an issue to so many readers, by turns at these domains."""
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        for number in range(readers):
            domain = domains[number % len(domains)]
            make_subscription(session, newsletter, f"r{number}@{domain}")
        return queue_issue(session, newsletter).issue_id or 0


def slow_down(server: SmtpServer, readers: int, domain: str, reply: str) -> None:
    """Answer so to every reader at a domain."""
    close = reply.startswith("421")
    for number in range(readers):
        server.defer(f"r{number}@{domain}", reply, close=close)


def at(database: Database, domain: str) -> list[Delivery]:
    with database.reading() as session:
        found = session.scalars(select(Delivery).order_by(Delivery.id)).all()
    return [one for one in found if one.address.endswith(f"@{domain}")]


def tried(server: SmtpServer, domain: str) -> int:
    return sum(c.startswith("RCPT") and f"@{domain}>" in c for c in server.commands)


@pytest.mark.parametrize("reply", SLOW_DOWN)
def test_a_provider_that_asks_is_left_alone_and_the_others_are_not(
    database: Database, settings: Settings, smtp_server: SmtpServer, reply: str
) -> None:
    issue_id = queue_to(database, 120, "gmail.com", "googlemail.com", "telia.example")
    for domain in ("gmail.com", "googlemail.com"):
        slow_down(smtp_server, 120, domain, reply)
    deliver(database, settings, smtp_server, now=NOW, connections=4)
    found = counts(database, issue_id)
    assert (found.sent, found.deferred) == (40, 80)
    google = at(database, "gmail.com") + at(database, "googlemail.com")
    assert sum(one.attempts for one in google) <= 4  # what was under way already
    assert {one.reason for one in google} == {"throttled"}
    put_off = [one for one in google if one.attempts == 0]
    assert all(one.next_attempt_at for one in put_off)
    waits = [one.next_attempt_at - NOW for one in put_off if one.next_attempt_at]
    assert min(waits) >= 0.25 * HOURS and max(waits) < 0.5 * HOURS


def test_they_go_when_the_hold_is_over(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue_to(database, 40, "gmail.com")
    slow_down(smtp_server, 40, "gmail.com", SLOW_DOWN[0])
    deliver(database, settings, smtp_server, now=NOW, connections=3)
    smtp_server.behave()
    asked = tried(smtp_server, "gmail.com")
    deliver(database, settings, smtp_server, now=NOW + 0.1 * HOURS)
    assert tried(smtp_server, "gmail.com") == asked
    deliver(database, settings, smtp_server, now=NOW + 1 * HOURS, connections=3)
    assert counts(database, issue_id).sent == 40
    assert set(smtp_server.seen.values()) == {1}


def test_a_second_strike_holds_for_longer(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue_to(database, 20, "gmail.com")
    slow_down(smtp_server, 20, "gmail.com", SLOW_DOWN[0])
    now = NOW
    for strikes, minutes in ((1, 15), (2, 30), (3, 60)):
        deliver(database, settings, smtp_server, now=now, connections=1)
        with database.reading() as session:
            row = session.scalars(select(Destination)).one()
        assert row.strikes == strikes
        held = (row.held_until - now) / timedelta(minutes=1)
        assert minutes <= held <= minutes * 1.2 + 1
        now = row.held_until + timedelta(minutes=2)


def test_three_providers_in_a_row_are_the_relay(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    domains = [f"d{number}.example" for number in range(20)]
    issue_id = queue_to(database, 200, *domains)
    smtp_server.defer(reply="450 4.7.28 Too fast")
    deliver(database, settings, smtp_server, now=NOW, connections=1)
    found = counts(database, issue_id)
    assert found.queued >= 150
    assert sum(tried(smtp_server, domain) for domain in domains) <= 4
    smtp_server.behave()
    deliver(database, settings, smtp_server, now=NOW + 1 * HOURS)
    assert counts(database, issue_id).sent == 200


def test_another_relay_takes_a_providers_mail(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    issue_id = queue_to(database, 200, "gmail.com", "telia.example")
    slow_down(smtp_server, 200, "gmail.com", SLOW_DOWN[0])
    place = through(settings, smtp_server, connections=2)
    second = through(settings, other, connections=2).relay
    with running(database, replace(place, more_relays=(second,))):
        until(lambda: counts(database, issue_id).sent >= 198)
        until(lambda: counts(database, issue_id).queued == 0)
    assert counts(database, issue_id).deferred <= 2  # those who were told
    assert sum(one.attempts for one in at(database, "gmail.com")) <= 100
    assert smtp_server.count + other.count >= 198


@pytest.mark.parametrize("weights", [(9, 1), (1, 9)])
def test_weights_do_not_keep_a_providers_mail_from_the_other_relay(
    database: Database,
    settings: Settings,
    smtp_server: SmtpServer,
    other: SmtpServer,
    weights: tuple[int, int],
) -> None:
    issue_id = queue_to(database, 300, *["gmail.com"] * 9, "telia.example")
    slow_down(smtp_server, 300, "gmail.com", SLOW_DOWN[0])
    place = through(settings, smtp_server, connections=2, weight=weights[0])
    second = through(settings, other, connections=2, weight=weights[1]).relay
    with running(database, replace(place, more_relays=(second,))):
        # What lies here for too long is given back and claimed anew.
        until(lambda: (now := counts(database, issue_id)).sent + now.deferred == 300)
    assert counts(database, issue_id).deferred <= 2


def test_a_relay_that_stands_by_does_not_take_it(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    """It waits, as it would with one relay, and is not claimed over and over."""
    issue_id = queue_to(database, 60, "gmail.com", "telia.example")
    slow_down(smtp_server, 60, "gmail.com", SLOW_DOWN[0])
    place = through(settings, smtp_server, connections=2)
    spare = through(settings, other, weight=0).relay
    with running(database, replace(place, more_relays=(spare,))):
        until(lambda: counts(database, issue_id).deferred == 30)
        until(lambda: counts(database, issue_id).sent == 30)
    assert other.count == 0


class Counting(SmtpServer):
    """Counts how many are under way to each provider at once."""

    def __init__(self, domain: str, stall: float, readers: int) -> None:
        super().__init__()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        for number in range(readers):
            self.script("dot", address=f"r{number}@{domain}", stall=stall)

    def __enter__(self) -> "Counting":
        super().__enter__()
        return self

    def _rule(self, phase, address):  # type: ignore[no-untyped-def]
        provider = group_of(address)
        if phase == "rcpt":
            self.now[provider] += 1
            self.most[provider] = max(self.most[provider], self.now[provider])
        return super()._rule(phase, address)

    def _take(self, mail):  # type: ignore[no-untyped-def]
        self.now[group_of(mail.to)] -= 1
        super()._take(mail)


def test_no_more_at_once_to_one_domain_than_its_limit(
    database: Database, settings: Settings
) -> None:
    issue_id = queue_to(database, 90, "gmail.com", "googlemail.com", "telia.example")
    with Counting("gmail.com", 0.02, 90) as server:
        deliver(database, settings, server, per_domain=2, connections=8)
        assert server.most["gmail.com"] == 2
    assert counts(database, issue_id).sent == 90


def test_a_domains_limit_is_divided_from_the_first_message_on(
    database: Database, settings: Settings
) -> None:
    queue_to(database, 20, "gmail.com")
    with database.transaction() as session:
        relays.beat(session, "another", 0.0, now=utcnow())
    with Counting("gmail.com", 0.02, 20) as server:
        deliver(database, settings, server, per_domain=2, connections=8)
        assert server.most["gmail.com"] == 1


@pytest.mark.parametrize("share", [2, 5])
def test_others_are_not_held_up_by_the_limit_of_one_domain(
    database: Database, settings: Settings, share: int
) -> None:
    """All but one in so many are at one domain, whose mails take long."""
    domains = ["slow.example"] * (share - 1) + ["telia.example"]
    issue_id = queue_to(database, 400, *domains)
    with Counting("slow.example", 0.5, 400) as server:
        place = through(settings, server, per_domain=2, connections=8)
        with running(database, place):
            done = 400 // share
            until(lambda: quick(database) == done)
            assert server.most["slow.example"] <= 2
            assert server.count - done < 40  # of the slow ones
    assert counts(database, issue_id).claimed == 0


def quick(database: Database) -> int:
    sent = DeliveryState.SENT
    return sum(one.state == sent for one in at(database, "telia.example"))
