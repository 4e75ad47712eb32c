"""A relay's budget in the sender's hands: shared, told, and not wasted."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import ledger, limits, relays
from newsletter.mail.sender import Sender
from newsletter.models import RelayBudget
from tests.delivering import deliver, through
from tests.mail.test_sender import (
    counts,
    deliveries,
    queue,
    queue_single,
    running,
    until,
)
from tests.smtp_server import SmtpServer

# In the past: PostgreSQL holds whoever is ahead of it to its own clock.
NOON = datetime(2024, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def budget(database: Database) -> RelayBudget:
    with database.reading() as session:
        return session.scalars(select(RelayBudget)).one()


@pytest.mark.slow
def test_two_senders_share_the_rate(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 400)
    rate = 40
    place = through(settings, smtp_server, rate_per_second=rate)
    begun = time.monotonic()
    with running(database, place), running(database, place):
        smtp_server.wait_for(2 * rate)
        taken, took = smtp_server.count, time.monotonic() - begun
    assert taken <= rate * took + limits.burst(place.relay) + 1
    assert took < 20  # nor is it held back: it is due after two


def test_what_a_day_does_not_hold_waits_and_is_told(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 30)
    with running(database, through(settings, smtp_server, per_day=20)):
        smtp_server.wait_for(20)
        until(lambda: "reached its limit for today" in waiting(database, issue_id))
        until(lambda: counts(database, issue_id).sent == 20)
        assert "20 mails" in waiting(database, issue_id)


def waiting(database: Database, issue_id: int) -> str:
    with database.reading() as session:
        return relays.progress(session, issue_id, utcnow()).waiting_reason


def test_a_day_that_is_used_up_ends_the_run_and_the_next_goes_on(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 50)
    for day, sent in enumerate((20, 40, 50)):
        now = NOON + day * DAY
        begun = time.monotonic()
        deliver(database, settings, smtp_server, now=now, per_day=20, connections=2)
        assert time.monotonic() - begun < 60  # not until midnight
        assert smtp_server.count == counts(database, issue_id).sent == sent
    assert counts(database, issue_id) == ledger.Counts(total=50, sent=50)
    assert all(delivery.attempts == 1 for delivery in deliveries(database))


def test_a_cold_relay_gets_twice_as_many_each_day(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 60)
    for day, sent in enumerate((10, 30, 60)):
        deliver(
            database,
            settings,
            smtp_server,
            now=NOON + day * DAY,
            warmup_from=NOON.date(),
            warmup_first=10,
        )
        assert smtp_server.count == sent


def test_a_confirmation_goes_when_bulk_has_used_its_share_of_the_day(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 60)
    with running(database, through(settings, smtp_server, per_day=50)):
        smtp_server.wait_for(49)
        until(lambda: "limit for today" in waiting(database, issue_id))
        queue_single(database)
        until(lambda: smtp_server.seen["ny@exempel.example"] == 1)
        assert smtp_server.count == 50
        assert "limit for today" in waiting(database, issue_id)  # as before


@pytest.mark.parametrize("readers", [5, 500])
def test_what_was_granted_and_not_used_is_given_back(
    database: Database, settings: Settings, smtp_server: SmtpServer, readers: int
) -> None:
    queue(database, readers)
    smtp_server.script("dot", stall=0.05)
    with running(database, through(settings, smtp_server, per_day=100_000)):
        smtp_server.wait_for(5)
    assert budget(database).used_today == smtp_server.count


def test_two_senders_together_stay_within_the_day(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    """What one was granted and gave back, the other takes."""
    queue(database, 100)
    place = through(settings, smtp_server, per_day=40, connections=3)
    with running(database, place):
        asyncio.run(Sender(database, place).send_until_idle())
    asyncio.run(Sender(database, place).send_until_idle())
    assert smtp_server.count == 40
    assert set(smtp_server.seen.values()) == {1}


@contextmanager
def failing_to_ask_for_singles(database: Database) -> Iterator[list[str]]:
    """Let the database fail once, when a budget is asked for single mails."""
    failed: list[str] = []

    def fail(
        conn: object,
        clauseelement: object,
        multiparams: list[dict[str, object]],
        params: dict[str, object],
        execution_options: object,
    ) -> None:
        if not failed and any(one.get("ahead") for one in (*multiparams, params)):
            failed.append(str(clauseelement))
            raise OperationalError("relay_budget", {}, Exception("gone for a moment"))

    event.listen(database.engine, "before_execute", fail)
    try:
        yield failed
    finally:
        event.remove(database.engine, "before_execute", fail)


def test_a_budget_that_cannot_be_asked_leaves_nothing_claimed_and_forgotten(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    place = through(settings, smtp_server, per_day=100)
    with database.transaction() as session:
        assert limits.take(session, place.relay, 100, now=utcnow()) == 98
    with (
        failing_to_ask_for_singles(database) as failed,
        running(database, place),
    ):
        queue_single(database)
        smtp_server.wait_for(1)
    assert failed
    [delivery] = deliveries(database)
    assert (delivery.attempts, delivery.resent) == (1, False)


def test_a_rate_with_a_day_holds_for_one_relay_of_two(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    """The other carries what the one with the small day does not."""
    issue_id = queue(database, 60)
    with SmtpServer() as other:
        place = through(settings, smtp_server, per_day=10)
        free = through(settings, other).relay
        with running(database, replace(place, more_relays=(free,))):
            until(lambda: counts(database, issue_id).sent == 60)
        assert smtp_server.count <= 10
        assert smtp_server.count + other.count == 60
