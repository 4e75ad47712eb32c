"""The sender: everyone once, whatever the relay, readers or signals do meanwhile."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import ledger, limits, mime, outbox, relays
from newsletter.mail.desk import Errand, Words
from newsletter.mail.dispatch import MOST_UNWRITTEN
from newsletter.mail.sender import Sender
from newsletter.models import (
    Delivery,
    Kind,
    Message,
    MessageState,
    RelayHealth,
    Status,
    Subscription,
    Worker,
)
from tests.delivering import deliver, through
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.letters import make_letter, queue_issue
from tests.ports import free_port
from tests.smtp_server import PATIENCE_SECONDS, SmtpServer


def queue(database: Database, readers: int, name: str = "r", **over: Any) -> int:
    """Queue an issue to so many readers; return the issue's id."""
    with database.transaction() as session:
        newsletter = make_newsletter(session, **over)
        for number in range(readers):
            make_subscription(session, newsletter, f"{name}{number}@exempel.example")
        return queue_issue(session, newsletter).issue_id or 0


def queue_single(database: Database, address: str = "ny@exempel.example") -> None:
    with database.transaction() as session:
        outbox.queue_single(
            session, make_letter(Kind.CONFIRM), address=address, occasion="x", now=NOW
        )


def counts(database: Database, issue_id: int) -> ledger.Counts:
    with database.reading() as session:
        return ledger.counts(session, issue_id=issue_id)


def deliveries(database: Database) -> list[Delivery]:
    with database.reading() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


@contextmanager
def running(database: Database, settings: Settings, **over: Any) -> Iterator[Sender]:
    """A sender at work in a thread; stopped, and checked to stop, at the end."""
    sender: list[Sender] = []
    stops: list[Callable[[], object]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        sender.append(Sender(database, settings, **over))
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        await sender[0].run(stop)

    thread = Thread(target=lambda: asyncio.run(main()))
    thread.start()
    until(lambda: bool(stops))
    try:
        yield sender[0]
    finally:
        stops[0]()
        thread.join(timeout=PATIENCE_SECONDS)
        assert not thread.is_alive()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def test_everyone_gets_the_issue_once(database: Database, settings: Settings) -> None:
    issue_id = queue(database, 30)
    received = deliver(database, settings)
    assert sorted(m.to for m in received) == sorted(
        f"r{n}@exempel.example" for n in range(30)
    )
    assert all(m.message["To"] == m.to for m in received)
    assert len({m.message_id for m in received}) == 30
    assert counts(database, issue_id) == ledger.Counts(total=30, sent=30)
    assert deliveries(database)[0].reply == "250 2.0.0 Ok: queued as 4F2"
    with database.reading() as session:
        assert session.scalars(select(Message.state)).all() == [MessageState.DONE]
        assert session.scalars(select(Worker)).all() == []


def test_each_reader_gets_their_own_links(
    database: Database, settings: Settings
) -> None:
    queue(database, 2)
    received = deliver(database, settings)
    with database.reading() as session:
        tokens = {
            s.subscriber.email: s.leave_token
            for s in session.scalars(select(Subscription))
        }
    for mail in received:
        url = f"https://post.example/unsubscribe/{tokens[mail.to]}"
        assert mail.message["List-Unsubscribe"] == f"<{url}>"
        for part in ("plain", "html"):
            body = mail.message.get_body((part,))
            assert body and url in body.get_content()


def test_a_second_run_sends_nothing(database: Database, settings: Settings) -> None:
    queue(database, 3)
    assert len(deliver(database, settings)) == 3
    assert deliver(database, settings) == []


def test_a_refused_reader_bounces_with_the_reply(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 3)
    smtp_server.refuse("r1@exempel.example")
    deliver(database, settings, smtp_server)
    found = counts(database, issue_id)
    assert (found.sent, found.bounced) == (2, 1)
    bounced = deliveries(database)[1]
    assert bounced.reply == "550 5.1.1 No such user"
    assert bounced.reason == "unknown_mailbox"


def test_a_deferred_reader_is_tried_again_later(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 2)
    smtp_server.defer("r0@exempel.example", times=1)
    deliver(database, settings, smtp_server, now=NOW)
    found = counts(database, issue_id)
    assert (found.sent, found.deferred) == (1, 1)
    waiting = deliveries(database)[0]
    assert waiting.reply == "451 4.7.1 Greylisted"
    assert waiting.next_attempt_at
    minutes = (waiting.next_attempt_at - NOW) / timedelta(minutes=1)
    assert 4 <= minutes <= 6
    deliver(database, settings, smtp_server, now=NOW + timedelta(minutes=3))
    assert counts(database, issue_id).deferred == 1
    deliver(database, settings, smtp_server, now=NOW + timedelta(minutes=7))
    assert counts(database, issue_id).sent == 2
    assert smtp_server.seen["r0@exempel.example"] == 1


def test_who_is_deferred_for_three_days_is_given_up(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 1)
    smtp_server.defer()
    now, tries = NOW, 0
    while counts(database, issue_id).left:
        deliver(database, settings, smtp_server, now=now, connections=1)
        now += timedelta(hours=5)
        tries += 1
    assert 15 <= tries <= 30
    assert deliveries(database)[0].reason == "greylisted"
    assert counts(database, issue_id).failed == 1


def test_a_relay_that_is_down_loses_nothing(
    database: Database, settings: Settings
) -> None:
    issue_id = queue(database, 5)
    with SmtpServer() as server:
        gone = through(settings, server)
    asyncio.run(Sender(database, gone).send_until_idle())
    assert counts(database, issue_id).queued == 5
    with database.transaction() as session:
        health = session.scalars(select(RelayHealth)).one()
        assert "cannot be reached" in health.reason
        assert health.blocked_until and health.failures == 1
        relays.beat(session, "someone", 0, now=health.updated_at)
        progress = relays.progress(session, issue_id, health.updated_at)
        assert "cannot be reached" in progress.waiting_reason
    assert len(deliver(database, settings)) == 5


def test_a_sender_goes_on_by_itself_when_the_relay_is_back(
    database: Database, settings: Settings
) -> None:
    issue_id = queue(database, 5)
    with SmtpServer(port=free_port()) as server:
        port = server.port
        gone = through(settings, server)
    with running(database, gone) as sender:
        until(lambda: sender.routes[0].access.failures > 0)
        with SmtpServer(port=port) as server:
            server.wait_for(5)
            until(lambda: counts(database, issue_id).sent == 5)
    with database.reading() as session:
        assert session.scalars(select(RelayHealth)).all() == []


@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        ("greeting", "421 4.3.2 Shutting down"),
        ("greeting", "554 5.7.1 Go away"),
        ("ehlo", "550 5.7.1 Bad name"),
        ("mail", "530 5.7.0 Authentication required"),
        ("mail", "421 4.7.0 Not now"),
        ("mail", "452 4.3.1 Out of memory"),
    ],
)
def test_trouble_with_the_relay_burns_no_reader(
    database: Database,
    settings: Settings,
    smtp_server: SmtpServer,
    phase: str,
    reply: str,
) -> None:
    issue_id = queue(database, 5)
    smtp_server.script(phase, reply, close=reply.startswith("421"))
    deliver(database, settings, smtp_server)
    assert counts(database, issue_id).queued == 5
    assert all(d.attempts == 0 for d in deliveries(database))
    with database.reading() as session:
        assert reply in session.scalars(select(RelayHealth)).one().reason
    smtp_server.behave()
    deliver(database, settings, smtp_server)
    assert counts(database, issue_id).sent == 5


def test_a_relay_that_refuses_us_does_not_burn_the_readers(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 200)
    smtp_server.refuse(reply="550 5.7.1 Relaying denied")
    deliver(database, settings, smtp_server, connections=4)
    found = counts(database, issue_id)
    assert found.failed <= 3 + 4
    assert found.bounced == 0
    assert found.queued >= 180


def test_connections_closed_with_421_are_made_anew(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 20)
    smtp_server.script("mail", "421 4.7.0 Enough", skip=5, times=1, close=True)
    deliver(database, settings, smtp_server, connections=1)
    assert counts(database, issue_id) == ledger.Counts(total=20, sent=20)
    assert smtp_server.connections == 2


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data"])
def test_a_connection_dropped_on_the_way_repeats_nothing(
    database: Database, settings: Settings, smtp_server: SmtpServer, phase: str
) -> None:
    issue_id = queue(database, 10)
    smtp_server.script(phase, drop=True, skip=3, times=1)
    received = deliver(database, settings, smtp_server, connections=2)
    assert counts(database, issue_id) == ledger.Counts(total=10, sent=10)
    assert len(received) == 10


def test_a_reader_who_costs_every_connection_does_not_stop_the_others(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 10)
    smtp_server.script("rcpt", address="r3@exempel.example", drop=True)
    deliver(database, settings, smtp_server, connections=2)
    found = counts(database, issue_id)
    assert (found.sent, found.deferred) == (9, 1)


def test_dropped_within_the_message_is_sent_again_later(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 4)
    smtp_server.script("body", drop=True, skip=1, times=1)
    deliver(database, settings, smtp_server, connections=1, now=NOW)
    assert counts(database, issue_id).deferred == 1
    deliver(database, settings, smtp_server, now=NOW + timedelta(minutes=10))
    assert counts(database, issue_id).sent == 4
    assert set(smtp_server.seen.values()) == {1}


def test_dropped_after_the_final_dot_is_sent_again_under_the_same_name(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 4)
    smtp_server.script("dot", drop=True, skip=1, times=1)
    deliver(database, settings, smtp_server, connections=1, now=NOW)
    found = counts(database, issue_id)
    assert (found.sent, found.deferred, found.resent) == (3, 1, 1)
    deliver(database, settings, smtp_server, now=NOW + timedelta(minutes=10))
    assert counts(database, issue_id).sent == 4
    [twice] = [a for a, times in smtp_server.seen.items() if times == 2]
    first, second = smtp_server.to(twice)
    assert first.message_id == second.message_id


def test_a_newsletter_can_hold_what_is_unknown_instead(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 2, hold_unknown=True)
    smtp_server.script("dot", drop=True, times=1)
    deliver(database, settings, smtp_server, connections=1)
    found = counts(database, issue_id)
    assert (found.sent, found.failed, found.resent) == (1, 1, 0)
    assert smtp_server.count == 2


def test_leaving_counts_until_the_moment_of_sending(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 30)
    smtp_server.script("dot", stall=0.06)
    with running(database, through(settings, smtp_server, connections=1)):
        smtp_server.wait_for(1)
        with database.transaction() as session:
            for reader in session.scalars(select(Subscription)):
                if reader.id > 20:
                    reader.status = Status.LEFT
        until(lambda: counts(database, issue_id).left == 0)
    found = counts(database, issue_id)
    assert found.skipped >= 10
    assert found.sent == smtp_server.count
    assert {d.reason for d in deliveries(database) if d.reason} == {"left"}


def test_those_who_have_left_do_not_slow_the_others_down(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 200)
    with database.transaction() as session:
        for reader in session.scalars(select(Subscription)):
            if reader.id % 2:
                reader.status = Status.LEFT
    begun = time.monotonic()
    deliver(database, settings, smtp_server)
    assert time.monotonic() - begun < 15  # it takes no second
    assert counts(database, issue_id) == ledger.Counts(total=200, sent=100, skipped=100)


@pytest.mark.parametrize("stopped", ["pause", "cancel"])
def test_pausing_and_cancelling_take_effect_within_two_seconds(
    database: Database, settings: Settings, smtp_server: SmtpServer, stopped: str
) -> None:
    issue_id = queue(database, 100)
    smtp_server.script("dot", stall=0.1)
    with running(database, through(settings, smtp_server, connections=2)):
        smtp_server.wait_for(3)
        with database.transaction() as session:
            if stopped == "pause":
                ledger.pause(session, issue_id)
            else:
                ledger.cancel(session, issue_id, now=NOW)
        time.sleep(2)
        before = smtp_server.count
        time.sleep(0.3)
        assert smtp_server.count == before < 100
    found = counts(database, issue_id)
    assert found.claimed == 0
    assert found.sent == smtp_server.count
    left = found.queued if stopped == "pause" else found.skipped
    assert left == 100 - found.sent


def test_a_confirmation_overtakes_an_issue(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 400)
    smtp_server.script("dot", stall=0.05)
    with running(database, through(settings, smtp_server, connections=4)):
        smtp_server.wait_for(20)
        before = smtp_server.count
        queue_single(database)
        until(lambda: smtp_server.seen["ny@exempel.example"] == 1)
        assert smtp_server.count < before + 2 * 80  # what goes in two seconds


def test_a_confirmation_does_not_wait_for_a_slow_relay(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 40)
    for number in range(40):
        smtp_server.script("dot", address=f"r{number}@exempel.example", stall=6)
    with running(database, through(settings, smtp_server, connections=2)) as sender:
        sender.routes[0].latency = 3.0
        until(lambda: sender.routes[0].busy == 1)
        queue_single(database)
        until(lambda: smtp_server.seen["ny@exempel.example"] == 1)
        assert smtp_server.count == 1  # before the first slow one


def test_a_confirmation_does_not_wait_for_the_pace(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 20)
    with running(database, through(settings, smtp_server, rate_per_second=0.1)):
        smtp_server.wait_for(1)
        queue_single(database)
        until(lambda: smtp_server.seen["ny@exempel.example"] == 1)
        assert smtp_server.count <= 3


def test_the_pace_is_kept(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 200)
    place = through(settings, smtp_server, rate_per_second=40)
    begun = time.monotonic()
    with running(database, place):
        smtp_server.wait_for(60)
        taken, took = smtp_server.count, time.monotonic() - begun
    assert taken <= 40 * took + limits.burst(place.relay) + 1
    assert took < 15  # nor is it held back: 60 are due after one and a half


def test_a_stopped_sender_leaves_nothing_claimed(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 300)
    smtp_server.script("dot", stall=0.02)
    with running(database, through(settings, smtp_server)):
        smtp_server.wait_for(20)
    found = counts(database, issue_id)
    assert found.claimed == 0
    assert found.sent == smtp_server.count
    assert found.queued == 300 - found.sent > 0


def test_the_wire_does_not_wait_while_another_writes(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 300)
    smtp_server.script("dot", stall=0.02)
    with running(database, through(settings, smtp_server, connections=5)):
        smtp_server.wait_for(60)
        with database.transaction():
            before = smtp_server.count
            time.sleep(0.05)  # what has gathered is due to be written
            smtp_server.wait_for(before + 20)
        smtp_server.wait_for(300)
    assert counts(database, issue_id).sent == 300


def test_two_senders_at_once_never_send_twice(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 120)
    place = through(settings, smtp_server, connections=4)
    with running(database, place), running(database, place):
        until(lambda: counts(database, issue_id).left == 0)
    assert smtp_server.count == 120
    assert set(smtp_server.seen.values()) == {1}


def test_a_dead_workers_claims_are_taken_over(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 3)
    with database.transaction() as session:
        [message] = ledger.open_messages(session)
        long_ago = NOW - timedelta(hours=1)
        ledger.claim(session, worker="dead", limit=2, now=long_ago, message_id=message)
    deliver(database, settings, smtp_server, now=NOW)
    found = counts(database, issue_id)
    assert (found.sent, found.resent) == (3, 2)


def test_what_cannot_be_mailed_fails_alone(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 3)
    with database.transaction() as session:
        session.get_one(Delivery, 2).address = "a@b.example>\r\nRCPT TO:<c@d.example"
    deliver(database, settings, smtp_server)
    found = counts(database, issue_id)
    assert (found.sent, found.failed) == (2, 1)
    assert not any("d.example" in command for command in smtp_server.commands)


def test_an_international_address_needs_a_relay_that_takes_it(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        make_subscription(session, newsletter, "åsa@exempel.example")
        make_subscription(session, newsletter, "bo@exempel.example")
        issue_id = queue_issue(session, newsletter).issue_id or 0
    with SmtpServer(smtputf8=False) as server:
        deliver(database, settings, server)
        assert list(server.seen) == ["bo@exempel.example"]
    found = counts(database, issue_id)
    assert (found.sent, found.failed) == (1, 1)
    assert deliveries(database)[0].reason == "smtputf8_lacking"


def test_an_international_address_gets_its_mail(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        make_subscription(session, newsletter, "åsa@exempel.example")
        queue_issue(session, newsletter)
    [mail] = deliver(database, settings)
    assert "SMTPUTF8" in mail.options
    assert mail.to == "åsa@exempel.example"
    assert "To: åsa@exempel.example\r\n".encode() in mail.data


def test_a_quiet_sender_closes_its_connections(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 3)
    with running(database, through(settings, smtp_server)):
        smtp_server.wait_for(3)
    until(lambda: smtp_server.open == 0)
    assert smtp_server.commands[-1] == "QUIT"


def test_nothing_new_begins_while_two_thousand_outcomes_are_not_written(
    database: Database, settings: Settings
) -> None:
    sender = Sender(database, settings)
    [route] = sender.routes
    sender.dispatch.unwritten = MOST_UNWRITTEN
    words = Words(mime.freeze(make_letter()), "a@b.example", "n", False)
    claim = ledger.Claim(1, 1, 1, "r@exempel.example", 0, None, None)
    sender.desk.put([Errand(claim, words, time.monotonic(), NOW)])
    assert sender.dispatch.next_errand(route) is None
    sender.dispatch.unwritten -= 1
    assert sender.dispatch.next_errand(route) is not None


def test_how_fast_it_goes_is_told_soon_after_an_idle_sender_has_found_work(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    smtp_server.script("dot", stall=0.05)

    def rate() -> float:
        with database.reading() as session:
            return relays.rate(session, now=utcnow())

    def workers() -> int:
        with database.reading() as session:
            return relays.live_workers(session, now=utcnow())

    with running(database, through(settings, smtp_server, connections=2)):
        until(lambda: workers() == 1)
        queue(database, 400)
        until(lambda: rate() > 1)
