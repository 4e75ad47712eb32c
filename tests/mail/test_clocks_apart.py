"""Hosts whose clocks differ by a minute: nobody is sent to twice, none is lost."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import ledger
from newsletter.models import Delivery, DeliveryState, Worker
from tests.delivering import through
from tests.mail.test_sender import counts, queue, running, until
from tests.smtp_server import SmtpServer

APART = timedelta(seconds=60)
LEASE = timedelta(seconds=6)  # much shorter than the clocks are apart


@pytest.fixture
def place(settings: Settings, smtp_server: SmtpServer, database: Database) -> Settings:
    if database.is_sqlite:
        pytest.skip("SQLite has one host, and one clock")
    return through(settings, smtp_server, connections=3)


def clock(seconds: float) -> Callable[[], datetime]:
    return lambda: utcnow() + timedelta(seconds=seconds)


def claimed_until(database: Database) -> list[timedelta]:
    """Return how long leases have to go, by the true time."""
    with database.reading() as session:
        ends = session.scalars(
            select(Delivery.lease_until).where(Delivery.state == DeliveryState.CLAIMED)
        ).all()
    return [end - utcnow() for end in ends if end]


def test_no_lease_is_stolen_from_a_worker_whose_clock_is_behind(
    database: Database, place: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 60)
    smtp_server.script("dot", stall=0.1)
    with ExitStack() as stack:
        for seconds in (-60, 60, 0):
            stack.enter_context(
                running(database, place, clock=clock(seconds), lease=LEASE)
            )
        until(lambda: counts(database, issue_id).sent > 5)
        assert all(abs(left) < 2 * LEASE for left in claimed_until(database))
        until(lambda: counts(database, issue_id).left == 0)
    assert counts(database, issue_id) == ledger.Counts(total=60, sent=60)
    assert set(smtp_server.seen.values()) == {1}


@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_dead_workers_claims_are_taken_over_after_the_lease(
    database: Database, place: Settings, smtp_server: SmtpServer, seconds: float
) -> None:
    issue_id = queue(database, 6)
    lease, begun = timedelta(seconds=2), time.monotonic()
    with database.transaction() as session:
        [message] = ledger.open_messages(session)
        ledger.claim(
            session,
            worker="dead",
            limit=4,
            now=utcnow(),
            lease=lease,
            message_id=message,
        )
    with running(database, place, clock=clock(seconds), lease=LEASE):
        smtp_server.wait_for(3)
        assert time.monotonic() - begun > lease.total_seconds() - 0.1
        until(lambda: counts(database, issue_id).sent == 6)
    assert counts(database, issue_id).resent == 4
    assert set(smtp_server.seen.values()) == {1}


def test_workers_whose_clocks_differ_see_each_other(
    database: Database, place: Settings
) -> None:
    with (
        running(database, place, clock=clock(-60)),
        running(database, place, clock=clock(60)),
    ):
        until(lambda: len(seen_at(database)) == 2)
        assert all(abs(at - utcnow()) < APART / 2 for at in seen_at(database))


def test_nothing_is_taken_over_before_the_time_is_known(
    database: Database, place: Settings, smtp_server: SmtpServer
) -> None:
    """Also where the database could not be asked for it at first."""
    issue_id = queue(database, 3)
    with database.transaction() as session:
        [message] = ledger.open_messages(session)
        ledger.claim(
            session,
            worker="alive",
            limit=2,
            now=utcnow(),
            lease=APART / 2,
            message_id=message,
        )
    failed: list[str] = []

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if len(failed) < 3:
            failed.append(statement)
            raise OperationalError(statement, {}, Exception("gone for a moment"))

    event.listen(database.engine, "before_cursor_execute", fail)
    try:
        with running(database, place, clock=clock(60)):
            smtp_server.wait_for(1)
            until(lambda: len(seen_at(database)) == 1)
    finally:
        event.remove(database.engine, "before_cursor_execute", fail)
    found = counts(database, issue_id)
    assert (found.claimed, found.sent, found.resent) == (2, 1, 0)


def seen_at(database: Database) -> list[datetime]:
    with database.reading() as session:
        return list(session.scalars(select(Worker.seen_at)))


def test_a_time_of_the_callers_own_is_left_as_it_is(
    database: Database, place: Settings
) -> None:
    long_ago = datetime.fromisoformat("2024-11-22T12:00+00:00")
    with running(database, place, now=lambda: long_ago) as sender:
        until(lambda: len(seen_at(database)) == 1)
        assert sender.now() == long_ago
