"""Handing over through a real relay, many at once: encrypted, cut to bytes, stalled."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from newsletter.config import Settings, parse_relay
from newsletter.db import Database
from newsletter.mail.exchange import Trust
from newsletter.mail.sender import Sender
from newsletter.mail.smtp import Connection, Deadlines, tls_context
from tests.delivering import deliver, through
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.hand import Hand
from tests.mail.letters import queue_issue
from tests.mail.test_sender import counts, deliveries, queue
from tests.smtp_server import PATIENCE_SECONDS, SmtpServer

DATA = b"From: a@b.example\r\nSubject: hej\r\n\r\nHej!\r\n"
FROM, TO = "a@b.example", "c@d.example"
AHEAD = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN")
CHUNKS = (*AHEAD, "CHUNKING")


def test_a_relay_that_leaves_right_after_its_greeting_is_left_alone(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 3)
    smtp_server.script("ehlo", "250 sink.example\r\n421 4.3.2 Busy", close=True)
    sender = Sender(database, through(settings, smtp_server))
    asyncio.run(asyncio.wait_for(sender.send_until_idle(), PATIENCE_SECONDS))
    assert smtp_server.connections < 10
    assert counts(database, issue_id).queued == 3


def test_one_host_without_pipelining_proves_nothing_about_the_others(
    smtp_server: SmtpServer,
) -> None:
    async def main() -> Trust:
        trust = Trust()
        relay = parse_relay(smtp_server.url)
        smtp_server.extensions = ()
        connection = await Connection.open(relay, ehlo_name="x.test", trust=trust)
        hand = Hand(connection)
        assert (await hand.send(FROM, TO, DATA)).reply.code == 250
        await hand.quit()
        return trust

    assert not asyncio.run(main()).proven


def test_without_chunks_it_is_still_trusted_to_take_what_is_written_ahead(
    smtp_server: SmtpServer,
) -> None:
    async def main() -> Trust:
        trust = Trust()
        relay = parse_relay(smtp_server.url)
        smtp_server.extensions = CHUNKS
        smtp_server.script("chunk", "502 5.5.1 What?", times=1)
        smtp_server.script("dot", "250 Ok\r\n421 4.4.2 Enough", skip=2, close=True)
        connection = await Connection.open(relay, ehlo_name="x.test", trust=trust)
        hand = Hand(connection)
        fates = [hand.give(FROM, TO, DATA) for _ in range(3)]
        hand.go()
        answers = await asyncio.gather(*fates)
        assert all(answer.reply.code == 250 for answer in answers)
        while not hand.closed:
            await asyncio.sleep(0.01)
        await hand.quit()
        return trust

    assert asyncio.run(main()) == Trust(pipelining=True, chunking=False, proven=True)


def test_a_connection_that_is_finished_begins_nothing(smtp_server: SmtpServer) -> None:
    async def main() -> None:
        connection = await Connection.open(
            parse_relay(smtp_server.url), ehlo_name="x.test"
        )
        hand = Hand(connection)
        assert (await hand.send(FROM, TO, DATA)).reply.code == 250
        connection.finish()
        late = hand.give(FROM, TO, DATA)
        connection.pull()
        await hand.quit()
        assert not late.done(), "it was begun, and broken off"

    asyncio.run(main())
    assert smtp_server.count == 1


# Through the sender.


@contextmanager
def trusted(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trust the server's certificate as an operator would: by SSL_CERT_FILE."""
    if not (server.tls or server.starttls):
        yield
        return
    monkeypatch.setenv("SSL_CERT_FILE", server.certificate)
    tls_context.cache_clear()
    try:
        yield
    finally:
        tls_context.cache_clear()


@pytest.mark.parametrize("offered", [(), AHEAD, CHUNKS])
@pytest.mark.parametrize("security", ["", "tls", "starttls"])
def test_everyone_gets_the_issue_however_it_travels(
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    offered: tuple[str, ...],
    security: str,
) -> None:
    issue_id = queue(database, 40)
    with (
        SmtpServer(
            extensions=offered,
            drip=True,
            tls=security == "tls",
            starttls=security == "starttls",
        ) as server,
        trusted(server, monkeypatch),
    ):
        server.refuse("r3@exempel.example")
        server.script("dot", "554 5.6.0 No", address="r5@exempel.example")
        server.script("mail", "451 4.7.1 Later", skip=10, times=1)
        received = deliver(database, settings, server, connections=2, now=NOW)
        if counts(database, issue_id).queued:  # that trouble ends a run that is idle
            received = deliver(database, settings, server, connections=2, now=NOW)
        assert all(mail.secure is bool(security) for mail in received)
        assert any(c.endswith("LAST") for c in server.commands) is (offered is CHUNKS)
    found = counts(database, issue_id)
    assert (found.bounced, found.failed) == (1, 1)
    assert found.sent == len(received) >= 37
    assert set(server.seen.values()) == {1}
    assert all(mail.message["To"] == mail.to for mail in received)


@pytest.mark.parametrize("offered", [(), AHEAD, CHUNKS])
@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "chunk", "dot"])
def test_a_relay_that_stalls_holds_up_one_connection_and_no_reader_twice(
    database: Database, settings: Settings, offered: tuple[str, ...], phase: str
) -> None:
    issue_id = queue(database, 10)
    deadlines = Deadlines(command=0.8, data=0.8, dot=0.8, group=0.5)
    with SmtpServer(extensions=offered) as server:
        server.script(phase, stall=60, skip=2, times=1)
        for minutes in (0, 15, 45):
            now = NOW + timedelta(minutes=minutes)
            sender = Sender(
                database,
                through(settings, server, connections=2),
                now=lambda now=now: now,  # type: ignore[misc]
                deadlines=deadlines,
            )
            asyncio.run(asyncio.wait_for(sender.send_until_idle(), PATIENCE_SECONDS))
        assert counts(database, issue_id).sent == 10
        assert set(server.seen.values()) == {1}
        assert len(server.seen) == 10


@pytest.mark.parametrize("offered", [AHEAD, CHUNKS])
def test_the_relay_hears_what_a_bounce_report_needs(
    database: Database, settings: Settings, offered: tuple[str, ...]
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        for address in ("anna+nytt=x@exempel.example", "bo@exempel.example"):
            make_subscription(session, newsletter, address)
        queue_issue(session, newsletter)
    with SmtpServer(extensions=offered) as server:
        received = deliver(database, settings, server)
    found = {mail.to: mail for mail in received}
    for delivery in deliveries(database):
        options = found[delivery.address].options.split()
        [envelope_id] = [o for o in options if o.startswith("ENVID=")]
        assert envelope_id.startswith(f"ENVID={delivery.id}.")
        assert "RET=HDRS" in options
    assert found["bo@exempel.example"].rcpt_options == (
        "NOTIFY=FAILURE ORCPT=rfc822;bo@exempel.example"
    )
    assert found["anna+nytt=x@exempel.example"].rcpt_options == (
        "NOTIFY=FAILURE ORCPT=rfc822;anna+2Bnytt+3Dx@exempel.example"
    )


def test_a_reply_with_a_nul_in_it_can_be_written_down(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 3)
    smtp_server.script("dot", "250 2.0.0 Ok: \0\x1b", times=1)
    smtp_server.refuse("r2@exempel.example", "550 5.1.1 No\0 such user")
    sender = Sender(database, through(settings, smtp_server))
    asyncio.run(asyncio.wait_for(sender.send_until_idle(), PATIENCE_SECONDS))
    found = counts(database, issue_id)
    assert (found.sent, found.bounced) == (2, 1)
