"""Leaving, pausing and cancelling are heard within two seconds, however it is sent."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.mail import ledger
from newsletter.models import Algorithm, Status, Subscription
from tests.delivering import through
from tests.factories import NOW
from tests.mail.test_kill import queue
from tests.mail.test_sender import counts, running, until
from tests.mail.test_signed_sending import switch_on
from tests.smtp_server import SmtpServer

READERS = 9_000
HEARD_SECONDS = 2.0


def pause(session: Session, issue_id: int) -> None:
    ledger.pause(session, issue_id)


def cancel(session: Session, issue_id: int) -> None:
    ledger.cancel(session, issue_id, now=NOW)


def leave(session: Session, issue_id: int) -> None:
    """Let everyone leave."""
    session.execute(update(Subscription).values(status=Status.LEFT))


ACTS = [pause, cancel, leave]
WAYS = ["fast", "signed", "slow"]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_heard_within_two_seconds(
    database: Database,
    settings: Settings,
    act: Callable[[Session, int], None],
    way: str,
) -> None:
    issue_id = queue(database, READERS)
    if way == "signed":
        switch_on(database, settings, Algorithm.RSA)
    with SmtpServer(extensions=("PIPELINING", "CHUNKING"), keep=False) as server:
        if way == "slow":
            server.script("dot", stall=0.7)
        with running(database, through(settings, server, connections=4)):
            server.wait_for(4 if way == "slow" else 150)
            with database.transaction() as session:
                act(session, issue_id)
            time.sleep(HEARD_SECONDS)
            before = server.count
            time.sleep(0.5)
            assert server.count == before < READERS
            until(lambda: counts(database, issue_id).claimed == 0)
        found = counts(database, issue_id)
    assert found.sent == server.count
    assert set(server.seen.values()) == {1}
    if act is pause:
        assert found.queued == READERS - found.sent
