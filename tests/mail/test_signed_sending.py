"""DKIM through the whole sender, verified from what the server has received."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.mail import keyring, ledger, outbox, relays
from newsletter.mail.keys import Key
from newsletter.mail.sender import Sender
from newsletter.models import (
    Algorithm,
    DeliveryState,
    DkimKey,
    Kind,
    Newsletter,
)
from tests.delivering import deliver, through
from tests.factories import NOW
from tests.mail.dkim_verifier import verdicts
from tests.mail.letters import make_letter
from tests.mail.test_sender import counts, deliveries, queue, running, until
from tests.smtp_server import SmtpServer

BOTH = (Algorithm.RSA, Algorithm.ED25519)
MANNERS = {
    "one at a time": (),
    "pipelining": ("PIPELINING",),
    "chunking": ("PIPELINING", "CHUNKING"),
}


def switch_on(
    database: Database, settings: Settings, *algorithms: Algorithm, slug: str = "labbet"
) -> list[Key]:
    """Make keys for a newsletter and let them sign."""
    with database.transaction() as session:
        newsletter = find(session, slug)
        for algorithm in algorithms:
            row = keyring.create(session, settings, newsletter, algorithm, now=NOW)
            keyring.switch_on(session, newsletter, row)
        session.flush()
        return keyring.keys_of(session, settings, newsletter.id)


def find(session: Session, slug: str = "labbet") -> Newsletter:
    return session.scalars(select(Newsletter).where(Newsletter.slug == slug)).one()


def lock(database: Database, slug: str = "labbet") -> None:
    """Make a newsletter's key one that no secret key opens."""
    with database.transaction() as session:
        newsletter = find(session, slug)
        for row in session.scalars(
            select(DkimKey).where(DkimKey.newsletter_id == newsletter.id)
        ):
            row.private = row.private[:-8] + bytes(8)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("algorithms", [BOTH[:1], BOTH[1:], BOTH], ids=str)
def test_what_arrives_is_signed(
    database: Database,
    settings: Settings,
    algorithms: tuple[Algorithm, ...],
    manner: str,
) -> None:
    issue_id = queue(database, 12)
    signing = switch_on(database, settings, *algorithms)
    with SmtpServer(extensions=MANNERS[manner]) as server:
        received = deliver(database, settings, server, connections=2)
    assert counts(database, issue_id) == ledger.Counts(total=12, sent=12)
    assert len({mail.to for mail in received}) == 12
    for mail in received:
        assert verdicts(mail.data, signing) == [True] * len(algorithms)


def test_a_key_that_is_switched_on_or_off_counts_after_a_while(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 2_000)
    smtp_server.script("dot", stall=0.01)
    place = through(settings, smtp_server, connections=2)
    with running(database, place, reload_seconds=0.3):
        smtp_server.wait_for(3)
        signing = switch_on(database, settings, Algorithm.ED25519)
        until(lambda: bool(signatures(smtp_server, signing)))
        with database.transaction() as session:
            for row in session.scalars(select(DkimKey)):
                row.active = False
        until(lambda: not signatures(smtp_server, signing))
    assert counts(database, issue_id).left > 0  # it was while they went out


def signatures(server: SmtpServer, signing: list[Key]) -> list[bool]:
    """Return what a verifier says of the mail that came last."""
    return verdicts(server.received[-1].data, signing)


def test_mail_whose_key_cannot_be_opened_waits_and_the_reason_is_told(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    locked = queue(database, 20)
    switch_on(database, settings, Algorithm.ED25519)
    lock(database)
    other = queue(database, 200, "annan", slug="annat")
    place = through(settings, smtp_server, connections=2)
    with running(database, place, reload_seconds=0.3):
        until(lambda: counts(database, other).sent == 200)
        until(lambda: "DKIM key" in waiting(database, locked))
        more = queue(database, 5, "till", slug="tredje")
        until(lambda: counts(database, more).sent == 5)
        assert counts(database, locked).queued == 20
        with database.transaction() as session:
            for row in session.scalars(select(DkimKey)):
                row.active = False
        until(lambda: counts(database, locked).sent == 20)
        until(lambda: not waiting(database, locked))
    assert all(delivery.attempts == 1 for delivery in deliveries(database))


def test_a_single_mail_that_waits_for_its_key_has_not_been_tried(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 0)
    switch_on(database, settings, Algorithm.ED25519)
    lock(database)
    with database.transaction() as session:
        outbox.queue_single(
            session,
            make_letter(Kind.CONFIRM),
            address="ny@exempel.example",
            occasion="x",
            newsletter_id=session.scalars(select(Newsletter.id)).one(),
            now=utcnow(),
        )
    with running(database, through(settings, smtp_server), reload_seconds=60):
        until(lambda: deliveries(database)[-1].state is DeliveryState.DEFERRED)
    [delivery] = deliveries(database)
    assert (delivery.attempts, smtp_server.count) == (0, 0)


def waiting(database: Database, issue_id: int) -> str:
    with database.reading() as session:
        return relays.progress(session, issue_id, utcnow()).waiting_reason


def test_another_newsletter_is_not_said_to_wait_for_the_key(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    locked = queue(database, 5)
    switch_on(database, settings, Algorithm.ED25519)
    lock(database)
    other = queue(database, 3_000, "annan", slug="annat")
    smtp_server.script("dot", stall=0.02)
    with running(database, through(settings, smtp_server, connections=2)):
        until(lambda: "DKIM key" in waiting(database, locked))
        assert counts(database, other).left > 0
        assert waiting(database, other) == ""


def test_a_run_ends_where_all_that_is_left_cannot_be_signed(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    locked = queue(database, 5)
    switch_on(database, settings, Algorithm.ED25519)
    lock(database)

    async def main() -> None:
        async with asyncio.timeout(60):
            sender = Sender(database, through(settings, smtp_server))
            await sender.send_until_idle()

    asyncio.run(main())
    assert counts(database, locked).queued == 5


@pytest.mark.parametrize("rate", [0, 30])
def test_stopping_while_mail_is_being_signed_leaves_nothing_claimed(
    database: Database, settings: Settings, smtp_server: SmtpServer, rate: int
) -> None:
    issue_id = queue(database, 600)
    switch_on(database, settings, *BOTH)
    place = through(settings, smtp_server, rate_per_second=rate)
    with running(database, replace(place)):
        smtp_server.wait_for(15)
    found = counts(database, issue_id)
    assert (found.claimed, found.resent) == (0, 0)
    assert found.sent == smtp_server.count
    assert found.queued == 600 - found.sent > 0
