"""kill -9 in the middle of a send: nobody is lost, and repeats can be recognised."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import insert, select

from newsletter import links
from newsletter.config import Settings, parse_relay
from newsletter.db import Database
from newsletter.mail import ledger
from newsletter.mail.dispatch import MOST_UNWRITTEN
from newsletter.mail.exchange import FLIGHTS
from newsletter.mail.sender import Sender
from newsletter.models import Delivery, Status, Subscriber, Subscription
from tests.factories import make_newsletter
from tests.mail.letters import queue_issue
from tests.mail.sink import SinkProcess
from tests.smtp_server import PATIENCE_SECONDS

READERS = 900
LEASE_SECONDS = 1
CONNECTIONS = 4
KILLS = (100, 400)  # when so many have been reached
FEW = 40  # outcomes, of which a kill may catch so many unwritten


def queue(
    database: Database, readers: int = READERS, *, slug: str = "labbet", after: int = 0
) -> int:
    """Queue an issue to many readers, numbered from `after`; return its id."""
    with database.transaction() as session:
        newsletter = make_newsletter(session, slug)
        numbers = range(after + 1, after + readers + 1)
        people = [
            {
                "id": n,
                "email": f"r{n}@exempel.example",
                "email_key": f"r{n}@exempel.example",
                "address_hash": f"{n:064d}",
            }
            for n in numbers
        ]
        bonds = [
            {
                "newsletter_id": newsletter.id,
                "subscriber_id": n,
                "status": Status.ACTIVE,
                "language": "sv",
                "rhythm": "each",
                "leave_token": links.new_token(),
                "preferences_token": links.new_token(),
            }
            for n in numbers
        ]
        session.execute(insert(Subscriber), people)
        session.execute(insert(Subscription), bonds)
        return queue_issue(session, newsletter).issue_id or 0


@contextmanager
def sending(
    database_url: str,
    sink: SinkProcess,
    lease_seconds: float = LEASE_SECONDS,
    *,
    relay: str = f"connections={CONNECTIONS}",
    most_unwritten: int = MOST_UNWRITTEN,
) -> Iterator[subprocess.Popen[bytes]]:
    place = (database_url, f"{sink.url}?{relay}")
    arguments = (*place, str(lease_seconds), str(most_unwritten))
    process = subprocess.Popen([sys.executable, "-m", "tests.mail.sending", *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def counts(database: Database, issue_id: int) -> ledger.Counts:
    with database.reading() as session:
        return ledger.counts(session, issue_id=issue_id)


def wait_for(sink: SinkProcess, count: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while len(sink.seen()) < count:
        assert time.monotonic() < end, "nothing is being sent"
        time.sleep(0.005)


def repeats(seen: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return who got more than one mail, under which name: one and the same."""
    repeated = {reader: ids for reader, ids in seen.items() if len(ids) > 1}
    assert all(len(set(ids)) == 1 for ids in repeated.values())
    return repeated


@pytest.mark.slow
@pytest.mark.parametrize("chunking", [False, True], ids=["pipelining", "chunking"])
def test_a_killed_sender_loses_nobody(
    database: Database, database_url: str, settings: Settings, chunking: bool
) -> None:
    issue_id = queue(database)
    with SinkProcess(chunking=chunking) as sink:
        for so_far in KILLS:
            with sending(database_url, sink, most_unwritten=FEW) as process:
                wait_for(sink, so_far)
                process.send_signal(signal.SIGKILL)
                process.wait()
        place = replace(settings, relay=parse_relay(sink.url))
        end = time.monotonic() + PATIENCE_SECONDS
        while counts(database, issue_id).left:
            assert time.monotonic() < end
            asyncio.run(Sender(database, place).send_until_idle())
            time.sleep(0.1)
        seen = sink.seen()
    found = counts(database, issue_id)
    assert found.sent == len(seen) == READERS
    repeated = repeats(seen)
    with database.reading() as session:
        listed = session.scalars(select(Delivery.address).where(Delivery.resent)).all()
    assert set(repeated) <= set(listed)
    # What was on the wire and what had not been written, at each kill.
    assert len(repeated) <= len(KILLS) * (CONNECTIONS * (FLIGHTS + 1) + FEW)


@pytest.mark.slow
def test_a_sender_that_is_asked_to_stop_leaves_nothing_unknown(
    database: Database, database_url: str, settings: Settings
) -> None:
    issue_id = queue(database)
    with SinkProcess() as sink:
        for so_far in (100, 400):
            with sending(database_url, sink) as process:
                wait_for(sink, so_far)
                process.send_signal(signal.SIGTERM)
                begun = time.monotonic()
                assert process.wait(timeout=PATIENCE_SECONDS) == 0
                assert time.monotonic() - begun < 10
            found = counts(database, issue_id)
            assert found.claimed == 0
            assert found.sent == len(sink.seen())
        place = replace(settings, relay=parse_relay(sink.url))
        asyncio.run(Sender(database, place).send_until_idle())
        seen = sink.seen()
    assert counts(database, issue_id) == ledger.Counts(total=READERS, sent=READERS)
    assert {len(ids) for ids in seen.values()} == {1}
