"""Three workers on one PostgreSQL: one is killed, one is away for a while."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import ledger
from newsletter.mail.clerk import Clerk, Turn, Watch
from newsletter.mail.shelf import Shelf
from newsletter.models import Delivery, Lease
from tests.delivering import through
from tests.factories import NOW
from tests.mail.sink import SinkProcess
from tests.mail.test_kill import counts, queue, repeats, sending, wait_for
from tests.mail.test_sender import running, until
from tests.smtp_server import PATIENCE_SECONDS, SmtpServer

READERS = 2_500
LEASE_SECONDS = 4.0
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
CUT_OFF = "idle_in_transaction_session_timeout"


def resent(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Delivery.resent)) or 0


@contextmanager
def two_with_mail_in_hand(
    database: Database, settings: Settings, smtp_server: SmtpServer, stall: float
) -> Iterator[int]:
    """Two workers with leases of three seconds, at a relay that takes its time.

    In the end everybody was sent to once, and nobody was taken for dead. Gives the
    issue, to four readers.
    """
    issue_id = queue(database, 4)
    smtp_server.script("dot", stall=stall)
    place, lease = through(settings, smtp_server, connections=2), timedelta(seconds=3)
    with (
        running(database, place, lease=lease) as one,
        running(database, place, lease=lease) as two,
    ):
        yield issue_id
        until(lambda: counts(database, issue_id).left == 0)
        assert one.delivered + two.delivered == 4
    assert counts(database, issue_id).resent == 0
    assert set(smtp_server.seen.values()) == {1}


def test_a_lease_is_renewed_in_time_however_short_it_is(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    with two_with_mail_in_hand(database, settings, smtp_server, stall=4):
        pass


def test_a_database_that_is_away_for_longer_than_a_lease_costs_no_second_mail(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    """All are held up together, and none takes another for dead."""
    if not database.is_sqlite:
        pytest.skip("on PostgreSQL they come back at once: see the two clerks")
    with two_with_mail_in_hand(database, settings, smtp_server, stall=7) as issue_id:
        until(lambda: counts(database, issue_id).claimed == 4)
        with database.transaction():
            time.sleep(5)


def test_who_comes_back_first_gives_the_others_a_third_of_a_lease(
    database: Database, settings: Settings
) -> None:
    issue_id, shelf = queue(database, 4), Shelf(settings)
    clerks = [Clerk(database, shelf, worker=who, lease=MINUTE) for who in "ab"]
    one, two = (
        [claim.id for claim in clerk.write(Turn(bulk=2), lambda: NOW).claims]
        for clerk in clerks
    )

    def says_it_is_there(clerk: Clerk, hand: list[int], seconds: int) -> int:
        later = NOW + seconds * SECOND
        clerk.write(Turn(chores=True, in_hand=hand), lambda: later)
        return counts(database, issue_id).resent

    first, second = clerks
    assert says_it_is_there(first, one, 100) == 0  # both were away
    assert says_it_is_there(second, two, 110) == 0
    for seconds in (121, 140, 160):  # and from here on the first is alone
        assert says_it_is_there(first, one, seconds) == 0
    assert says_it_is_there(first, one, 180) == len(two) == 2


def test_a_turn_has_the_time_at_which_it_may_write(
    database: Database, settings: Settings
) -> None:
    if not database.is_sqlite:
        pytest.skip("only SQLite has a line of writers")
    queue(database, 2)
    clerk = Clerk(database, Shelf(settings), worker="a", lease=MINUTE)
    moment = [NOW]
    with ThreadPoolExecutor(1) as thread:
        with database.transaction():
            turn = thread.submit(clerk.write, Turn(bulk=2), lambda: moment[0])
            time.sleep(0.2)  # it waits for its turn
            moment[0] = NOW + MINUTE
        assert turn.result().claims
    with database.reading() as session:
        assert session.scalar(select(Lease.lease_until)) == NOW + 2 * MINUTE


def test_who_was_dead_before_a_hold_up_gains_nothing_by_it() -> None:
    watch = Watch(SECOND * 20)
    assert watch.look(NOW) == NOW
    for minutes in range(1, 4):  # away for a minute, time and again
        back = NOW + minutes * MINUTE
        assert watch.look(back) == back - MINUTE
    assert watch.look(back + SECOND * 19) == back - MINUTE
    assert watch.look(back + SECOND * 20) == back + SECOND * 20


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
        until(lambda: resent(database) > before)
        stopped.send_signal(signal.SIGCONT)
        until(lambda: counts(database, issue_id).left == 0)
        for process in (stopped, third):
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE_SECONDS) == 0
        seen = sink.seen()
    assert counts(database, issue_id).sent == len(seen) == READERS
    with database.reading() as session:
        listed = session.scalars(select(Delivery.address).where(Delivery.resent)).all()
    repeated = repeats(seen)
    assert set(repeated) <= set(listed)
    assert len(listed) < 400  # what two of them had in hand, at most


def test_a_host_that_is_cut_off_in_a_transaction_does_not_hold_up_the_others(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    """PostgreSQL ends what it does not hear of any more; here after a second."""
    if database.is_sqlite:
        pytest.skip("on SQLite a host's lock ends with its process")
    issue_id = queue(database, 20)
    long_ago = utcnow() - timedelta(hours=1)
    with database.transaction() as session:
        assert session.scalar(text(f"SHOW {CUT_OFF}")) == "30s"
        [message] = ledger.open_messages(session)
        ledger.claim(session, worker="x", limit=2, now=long_ago, message_id=message)
    with database.engine.connect() as cut_off:
        cut_off.execute(text(f"SET {CUT_OFF}=1000"))
        cut_off.execute(select(Delivery.id).with_for_update())
        with running(database, through(settings, smtp_server)):
            until(lambda: counts(database, issue_id).sent == 20)
        cut_off.invalidate()
    assert counts(database, issue_id).resent == 2
