"""Leaving, pausing and cancelling are heard within two seconds, however it is sent."""

import time

import pytest
from sqlalchemy import select, update

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.mail import ledger
from newsletter.models import Algorithm, Newsletter, Status, Subscription
from tests.delivering import through
from tests.factories import NOW
from tests.mail.test_kill import queue
from tests.mail.test_sender import counts, running, until
from tests.mail.test_signed_sending import switch_on
from tests.smtp_server import SmtpServer

READERS = 3_000  # of each of three newsletters
HEARD_SECONDS = 2.0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fast", "signed", "slow"])
def test_it_is_heard_within_two_seconds(
    database: Database, settings: Settings, way: str
) -> None:
    slugs = ("paused", "cancelled", "left")
    issues = [
        queue(database, READERS, slug=slug, after=number * READERS)
        for number, slug in enumerate(slugs)
    ]
    if way == "signed":
        for slug in slugs:
            switch_on(database, settings, Algorithm.RSA, slug=slug)
    with SmtpServer(extensions=("PIPELINING", "CHUNKING"), keep=False) as server:
        if way == "slow":
            server.script("dot", stall=0.7)
        with running(database, through(settings, server, connections=4)):
            server.wait_for(8 if way == "slow" else 150)
            stop_all(database, issues)
            time.sleep(HEARD_SECONDS)
            before = server.count
            time.sleep(0.5)
            assert server.count == before < 3 * READERS
            until(lambda: not any(counts(database, i).claimed for i in issues))
    paused, cancelled, left = (counts(database, issue_id) for issue_id in issues)
    assert paused.sent + cancelled.sent + left.sent == server.count
    assert set(server.seen.values()) == {1}
    assert paused.queued == READERS - paused.sent
    assert cancelled.skipped == READERS - cancelled.sent
    assert left.queued == 0 or left.skipped > 0


def stop_all(database: Database, issues: list[int]) -> None:
    """Pause the first issue, cancel the second, let all readers of the third leave."""
    with database.transaction() as session:
        ledger.pause(session, issues[0])
        ledger.cancel(session, issues[1], now=NOW)
        theirs = select(Newsletter.id).where(Newsletter.slug == "left")
        session.execute(
            update(Subscription)
            .where(Subscription.newsletter_id == theirs.scalar_subquery())
            .values(status=Status.LEFT)
        )
