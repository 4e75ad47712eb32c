"""One conversation with a relay, each step of which can go wrong."""

import asyncio
import smtplib
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from newsletter.config import parse_relay
from newsletter.errors import RelayError
from newsletter.mail.exchange import Answer, Broken
from newsletter.mail.replies import Phase, Reply
from newsletter.mail.smtp import Connection, Deadlines
from tests.mail.hand import Hand
from tests.smtp_server import SmtpServer

T = TypeVar("T")
DATA = b"From: a@b.example\r\nSubject: hej\r\n\r\nHej!\r\n"
FROM, TO = "a@b.example", "c@d.example"


def talk(
    server: SmtpServer,
    act: Callable[[Hand], Awaitable[T]],
    *,
    deadlines: Deadlines | None = None,
    **relay: Any,
) -> T:
    """Open a connection, do something with it, take leave."""

    async def main() -> T:
        place = replace(parse_relay(server.url), **relay)
        context = None
        if server.tls or server.starttls:
            context = ssl.create_default_context(cafile=server.certificate)
        connection = await Connection.open(
            place, ehlo_name="inkorg.test", deadlines=deadlines, context=context
        )
        hand = Hand(connection)
        try:
            return await act(hand)
        finally:
            await hand.quit()

    return asyncio.run(main())


async def send(hand: Hand) -> Answer:
    return await hand.send(FROM, TO, DATA)


async def nothing(hand: Hand) -> None:
    pass


def test_a_message_arrives_as_it_was(smtp_server: SmtpServer) -> None:
    answer = talk(smtp_server, send)
    assert answer == Answer(Phase.DOT, Reply(250, "2.0.0", "Ok: queued as 4F2"))
    [received] = smtp_server.received
    assert (received.mail_from, received.rcpt_to) == (FROM, [TO])
    assert received.data == DATA
    assert smtp_server.commands == [
        "EHLO inkorg.test",
        f"MAIL FROM:<{FROM}>",
        f"RCPT TO:<{TO}>",
        "DATA",
        "QUIT",
    ]


def test_one_connection_takes_many_messages(smtp_server: SmtpServer) -> None:
    async def act(hand: Hand) -> None:
        for _ in range(20):
            await send(hand)

    talk(smtp_server, act)
    assert (smtp_server.count, smtp_server.connections) == (20, 1)


@pytest.mark.parametrize(
    "body", [b".\r\n", b"..\r\n", b"a\r\n.\r\nb\r\n", b".\r\n.\r\n", b"\r\n.b\r\n"]
)
def test_lone_and_leading_dots_arrive_as_they_were(
    smtp_server: SmtpServer, body: bytes
) -> None:
    data = b"Subject: x\r\n\r\n" + body

    async def act(hand: Hand) -> None:
        await hand.send(FROM, TO, data)
        await hand.send(FROM, TO, body)
        await send(hand)

    talk(smtp_server, act)
    assert [m.data for m in smtp_server.received] == [data, body, DATA]


@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        ("mail", "550 5.7.1 No"),
        ("rcpt", "550 5.1.1 No such user"),
        ("data", "451 4.3.0 Later"),
        ("dot", "554 5.6.0 Malformed"),
    ],
)
def test_after_a_refusal_the_next_message_goes_on(
    smtp_server: SmtpServer, phase: str, reply: str
) -> None:
    smtp_server.script(phase, reply, times=1)

    async def act(hand: Hand) -> list[Answer]:
        return [await send(hand), await send(hand)]

    first, second = talk(smtp_server, act)
    assert first.phase == phase
    assert str(first.reply) == reply
    assert second.reply.code == 250
    assert smtp_server.connections == 1


def test_a_reply_of_many_lines_is_read_whole(smtp_server: SmtpServer) -> None:
    smtp_server.refuse(
        reply="550-5.1.1 The account\r\n550-5.1.1 that you\r\n550 5.1.1 x"
    )
    answer = talk(smtp_server, send)
    assert answer.reply == Reply(550, "5.1.1", "The account\nthat you\nx")


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
def test_421_anywhere_closes_the_connection(
    smtp_server: SmtpServer, phase: str
) -> None:
    smtp_server.script(phase, "421 4.3.2 Closing", close=True)

    async def act(hand: Hand) -> tuple[Answer, bool]:
        return await send(hand), hand.closed

    answer, closed = talk(smtp_server, act)
    assert (answer.reply.code, answer.phase, closed) == (421, phase, True)


@pytest.mark.parametrize(
    ("phase", "unknown"),
    [("mail", False), ("rcpt", False), ("data", False), ("body", True), ("dot", True)],
)
def test_a_dropped_connection_says_how_far_it_had_come(
    smtp_server: SmtpServer, phase: str, unknown: bool
) -> None:
    smtp_server.script(phase, drop=True)
    with pytest.raises(Broken) as raised:
        talk(smtp_server, send)
    assert raised.value.unknown is unknown


def test_a_relay_that_takes_its_leave_between_messages_is_noticed(
    smtp_server: SmtpServer,
) -> None:
    smtp_server.script("dot", "250 Ok\r\n421 4.4.2 Idle too long", close=True)

    async def act(hand: Hand) -> None:
        await send(hand)
        for _ in range(6_000):
            if hand.closed:
                break
            await asyncio.sleep(0.01)
        await send(hand)

    with pytest.raises(Broken, match=r"421|closed") as raised:
        talk(smtp_server, act)
    assert not raised.value.unknown


@pytest.mark.parametrize(
    ("phase", "unknown"), [("mail", False), ("data", False), ("dot", True)]
)
def test_each_step_has_its_deadline(
    smtp_server: SmtpServer, phase: str, unknown: bool
) -> None:
    smtp_server.script(phase, stall=60)
    begun = time.monotonic()
    with pytest.raises(Broken, match="no reply within") as raised:
        talk(smtp_server, send, deadlines=Deadlines(command=0.5, data=0.5, dot=0.5))
    assert time.monotonic() - begun < 30
    assert raised.value.unknown is unknown


def test_a_relay_that_never_greets_cannot_be_used(smtp_server: SmtpServer) -> None:
    smtp_server.script("greeting", stall=60)
    with pytest.raises(RelayError, match="no reply within"):
        talk(smtp_server, nothing, deadlines=Deadlines(command=0.1))


def test_nobody_there() -> None:
    with SmtpServer() as server:
        pass
    with pytest.raises(RelayError, match="cannot be reached"):
        talk(server, nothing)


@pytest.mark.parametrize("greeting", ["554 5.7.1 Go away", "SSH-2.0-OpenSSH_9.2"])
def test_a_relay_that_does_not_want_us(smtp_server: SmtpServer, greeting: str) -> None:
    smtp_server.script("greeting", greeting)
    with pytest.raises(RelayError):
        talk(smtp_server, nothing)


def test_a_relay_that_never_stops_talking_is_left(smtp_server: SmtpServer) -> None:
    smtp_server.script("greeting", "220-" + "x" * 200_000)
    with pytest.raises(RelayError, match="no end"):
        talk(smtp_server, nothing)


def test_an_old_relay_gets_helo(smtp_server: SmtpServer) -> None:
    smtp_server.script("ehlo", "502 5.5.1 What?", times=1)
    assert talk(smtp_server, send).reply.code == 250
    assert smtp_server.commands[:2] == ["EHLO inkorg.test", "HELO inkorg.test"]


# Security.


def test_starttls_comes_before_everything_else() -> None:
    with SmtpServer(starttls=True, login=("anna", "hemligt")) as server:
        talk(server, send)
        assert server.received[0].secure
        assert server.received[0].login == "anna"
        assert server.commands[:3] == [
            "EHLO inkorg.test",
            "STARTTLS",
            "EHLO inkorg.test",
        ]


def test_implicit_tls() -> None:
    with SmtpServer(tls=True) as server:
        talk(server, send)
        assert server.received[0].secure


def test_a_relay_without_starttls_is_refused(smtp_server: SmtpServer) -> None:
    with pytest.raises(RelayError, match="no encryption"):
        talk(smtp_server, send, security="starttls")
    assert not any(c.startswith(("MAIL", "AUTH")) for c in smtp_server.commands)


@pytest.mark.parametrize("tls", [True, False])
def test_a_certificate_for_another_host_is_refused(tls: bool) -> None:
    with (
        SmtpServer(
            tls=tls, starttls=not tls, certificate_for="other.example"
        ) as server,
        pytest.raises(RelayError, match="certificate is not valid"),
    ):
        talk(server, send)
    assert not any(c.startswith(("MAIL", "AUTH")) for c in server.commands)


@pytest.mark.parametrize("tls", [True, False])
def test_a_certificate_nobody_vouches_for_is_refused(tls: bool) -> None:
    async def main(url: str) -> None:
        await Connection.open(parse_relay(url), ehlo_name="x.test")

    with (
        SmtpServer(tls=tls, starttls=not tls) as server,
        pytest.raises(RelayError, match="certificate is not valid"),
    ):
        asyncio.run(main(server.url))


def test_what_is_slipped_in_before_tls_breaks_it_off() -> None:
    with SmtpServer(starttls=True) as server:
        server.script("starttls", "220 Go ahead\r\n250 injected")
        with pytest.raises(RelayError, match=r"slipped|reached"):
            talk(server, send)


@pytest.mark.parametrize("methods", ["PLAIN LOGIN", "PLAIN", "LOGIN", "CRAM-MD5"])
def test_logging_in_on_the_loopback(methods: str) -> None:
    with SmtpServer(login=("anna", "hem ligt"), auth_methods=methods) as server:
        talk(server, send, user="anna", password="hem ligt")
        assert server.received[0].login == "anna"


def test_a_wrong_password_is_the_relays_trouble_and_is_not_told() -> None:
    with (
        SmtpServer(login=("anna", "hemligt")) as server,
        pytest.raises(RelayError, match="535") as raised,
    ):
        talk(server, send, password="fel-lösenord")
    assert "fel-l" not in str(raised.value)


def test_a_relay_that_knows_no_login_of_ours() -> None:
    with (
        SmtpServer(login=("anna", "hemligt"), auth_methods="GSSAPI") as server,
        pytest.raises(RelayError, match="no way to log in"),
    ):
        talk(server, send)


# What the relay offers.


def test_size_is_told_and_the_limit_kept() -> None:
    with SmtpServer(size=1000) as server:
        assert talk(server, send).reply.code == 250
        assert server.received[0].options == f"SIZE={len(DATA)}"

        async def large(hand: Hand) -> Answer:
            return await hand.send(FROM, TO, DATA + b"x" * 1000 + b"\r\n")

        answer = talk(server, large)
        assert (answer.phase, answer.reply.code) == (Phase.MAIL, 552)
        assert server.count == 1


def test_an_international_address_needs_smtputf8(smtp_server: SmtpServer) -> None:
    async def act(hand: Hand) -> Answer:
        return await hand.send(FROM, "åsa@d.example", DATA)

    assert talk(smtp_server, act).reply.code == 250
    assert smtp_server.received[0].to == "åsa@d.example"
    assert smtp_server.received[0].options == "SMTPUTF8 BODY=8BITMIME"
    with SmtpServer(smtputf8=False) as old:
        assert talk(old, act).reply.enhanced == "5.6.7"
        assert not any("MAIL" in command for command in old.commands)


@pytest.mark.parametrize(
    "address",
    [
        "a@x.se>\r\nRCPT TO:<b@x.se",
        "a@x.se SIZE=1",
        "a@x.se\r\nDATA",
        "a<b@x.se",
        "a@x.se\n",
        "a@x.se\x00",
        "a" * 316 + "@x.se",
    ],
)
def test_an_address_cannot_carry_a_command(
    smtp_server: SmtpServer, address: str
) -> None:
    async def act(hand: Hand) -> None:
        with pytest.raises(ValueError):
            await hand.send(FROM, address, DATA)
        with pytest.raises(ValueError):
            await hand.send(address, TO, DATA)

    talk(smtp_server, act)
    assert smtp_server.commands == ["EHLO inkorg.test", "QUIT"]


def test_the_test_server_agrees_with_another_client(smtp_server: SmtpServer) -> None:
    with smtplib.SMTP(smtp_server.host, smtp_server.port) as client:
        client.sendmail(FROM, [TO], DATA)
    assert smtp_server.received[0].data == DATA
