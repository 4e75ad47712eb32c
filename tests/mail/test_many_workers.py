"""Three workers on one PostgreSQL: one is killed, one is away for a while."""

import signal
from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Delivery
from tests.delivering import through
from tests.mail.sink import SinkProcess
from tests.mail.test_kill import counts, queue, repeats, sending, wait_for
from tests.mail.test_sender import running, until
from tests.smtp_server import SmtpServer

READERS = 2_500
LEASE_SECONDS = 2.0


def resent(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Delivery.resent)) or 0


def test_a_lease_is_renewed_in_time_however_short_it_is(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 4)
    smtp_server.script("dot", stall=1.5)
    place, lease = through(settings, smtp_server, connections=2), timedelta(seconds=1)
    with (
        running(database, place, lease=lease) as one,
        running(database, place, lease=lease) as two,
    ):
        until(lambda: counts(database, issue_id).left == 0, 20)
        assert one.delivered + two.delivered == 4
    assert counts(database, issue_id).resent == 0
    assert set(smtp_server.seen.values()) == {1}


@pytest.mark.slow
def test_who_vanishes_is_replaced_and_who_comes_back_does_no_harm(
    database: Database, database_url: str
) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has one host, which does not vanish in part")
    issue_id = queue(database, READERS)
    with SinkProcess(delay_seconds=0.02) as sink, ExitStack() as stack:
        killed, stopped, third = (
            stack.enter_context(sending(database_url, sink, LEASE_SECONDS))
            for _ in range(3)
        )
        wait_for(sink, 400)
        killed.send_signal(signal.SIGKILL)
        wait_for(sink, 800)
        stopped.send_signal(signal.SIGSTOP)
        before = resent(database)
        until(lambda: resent(database) > before, 20)
        stopped.send_signal(signal.SIGCONT)
        until(lambda: counts(database, issue_id).left == 0, 30)
        for process in (stopped, third):
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=12) == 0
        seen = sink.seen()
    assert counts(database, issue_id).sent == len(seen) == READERS
    with database.reading() as session:
        listed = session.scalars(select(Delivery.address).where(Delivery.resent)).all()
    repeated = repeats(seen)
    assert set(repeated) <= set(listed)
    assert len(listed) < 400  # what two of them had in hand, at most
