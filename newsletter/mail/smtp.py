"""One conversation with a relay: the project's only SMTP client. No database.

A `Connection` is opened, takes messages one after the other and is closed. Every step
has its deadline (RFC 5321 §4.5.3.2) and every reply is attributed to the command it
answers: replies resolve a queue of waiters in the order of the commands, so that
sending several commands ahead changes the inside of `send` only.
"""

import asyncio
import base64
import contextlib
import functools
import ipaddress
import re
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from newsletter.config import Relay
from newsletter.errors import N_, RelayError
from newsletter.mail.replies import Phase, Reply

LINE_LIMIT = 65_536  # octets of an unfinished reply; RFC 5321 asks for 512
_REPLY = re.compile(rb"([2-5]\d\d)([ -]|$)(.*)", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
_PATH = re.compile(r"[^\s<>\x00-\x20\x7f]{0,320}")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each step may take, in seconds (RFC 5321 §4.5.3.2)."""

    connect: float = 30
    command: float = 300
    data: float = 120
    dot: float = 600  # shorter ones make duplicates
    quit: float = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply that decided about a message, and where it came."""

    phase: Phase
    reply: Reply


class Broken(Exception):
    """The connection broke while a message was on its way."""

    def __init__(self, phase: Phase, reason: str) -> None:
        """Note how far it had come."""
        super().__init__(f"{phase}: {reason}")
        self.phase = phase
        self.reason = reason

    @property
    def unknown(self) -> bool:
        """Tell whether the relay may have taken the message."""
        return self.phase is Phase.DOT


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return a context that checks certificates and host names."""
    return ssl.create_default_context()


class Connection:
    """An open, greeted and authenticated connection to a relay."""

    def __init__(self, relay: Relay, ehlo_name: str, deadlines: Deadlines) -> None:
        """Prepare; `open` is what callers use."""
        self.relay = relay
        self.ehlo_name = ehlo_name
        self.deadlines = deadlines
        self.extensions: Mapping[str, str] = {}
        self.phase = Phase.CONNECT  # of the message under way
        self.messages = 0  # answered on this connection
        self._wire = _Wire()

    @classmethod
    async def open(
        cls,
        relay: Relay,
        *,
        ehlo_name: str,
        deadlines: Deadlines | None = None,
        context: ssl.SSLContext | None = None,
    ) -> "Connection":
        """Connect, secure, log in. Raises RelayError saying what stood in the way."""
        connection = cls(relay, ehlo_name, deadlines or Deadlines())
        try:
            await connection._open(context or tls_context())
        except RelayError:
            connection.abort()
            raise
        except (OSError, Broken, TimeoutError) as error:
            connection.abort()
            raise RelayError(
                N_("The relay %(relay)s cannot be reached: %(reason)s"),
                relay=relay.name,
                reason=_reason(error),
            ) from error
        except BaseException:
            connection.abort()
            raise
        return connection

    @property
    def closed(self) -> bool:
        """Tell whether no further message can be sent."""
        return self._wire.closed

    def offers(self, extension: str) -> bool:
        """Tell whether the relay offers an extension."""
        return extension in self.extensions

    async def send(self, sender: str, recipient: str, data: bytes) -> Answer:
        """Hand over one message and return the relay's word on it.

        Raises Broken if the connection ends before that. The data has CRLF line ends
        and ends with one. After a 421 the connection is closed.
        """
        utf8 = not (sender.isascii() and recipient.isascii())
        if refusal := self._refusal(utf8, len(data)):
            return Answer(Phase.MAIL, refusal)
        steps = (
            (Phase.MAIL, f"MAIL FROM:<{_path(sender)}>{self._options(utf8, data)}"),
            (Phase.RCPT, f"RCPT TO:<{_path(recipient)}>"),
            (Phase.DATA, "DATA"),
        )
        for phase, command in steps:
            seconds = self.deadlines
            reply = await self._ask(
                phase, command, seconds.data if phase is Phase.DATA else seconds.command
            )
            if not 200 <= reply.code < 400:
                return await self._refused(phase, reply)
        self.phase = Phase.DOT
        reply = await self._wire.ask(
            Phase.DOT, (_stuffed(data), b".\r\n"), self.deadlines.dot
        )
        if reply.code == 421:
            self.abort()
        else:
            self.messages += 1
        return Answer(Phase.DOT, reply)

    async def quit(self) -> None:
        """Take leave; never fails."""
        if not self.closed:
            with contextlib.suppress(Broken):
                await self._ask(Phase.CONNECT, "QUIT", self.deadlines.quit)
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._wire.abort()

    async def _open(self, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        implicit = self.relay.security == "tls"
        greeting = self._wire.expect(Phase.CONNECT)
        async with asyncio.timeout(self.deadlines.connect):
            await loop.create_connection(
                lambda: self._wire,
                self.relay.host,
                self.relay.port,
                ssl=context if implicit else None,
                server_hostname=self.relay.host if implicit else None,
            )
        reply = await self._wire.wait(greeting, self.deadlines.command)
        self._demand(reply, 220)
        await self._hello()
        if self.relay.security == "starttls":
            await self._start_tls(context)
        if self.relay.user:
            await self._login(secure=self.relay.security != "plain")

    async def _hello(self) -> None:
        reply = await self._ask(Phase.CONNECT, f"EHLO {self.ehlo_name}")
        if reply.code in {500, 502, 504}:
            reply = await self._ask(Phase.CONNECT, f"HELO {self.ehlo_name}")
        self._demand(reply, 250)
        lines = (line.partition(" ") for line in reply.text.split("\n")[1:])
        self.extensions = {name.upper(): value.strip() for name, _, value in lines}

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        if not self.offers("STARTTLS"):
            raise RelayError(
                N_("The relay %(relay)s offers no encryption (STARTTLS)."),
                relay=self.relay.name,
            )
        self._demand(await self._ask(Phase.CONNECT, "STARTTLS"), 220)
        async with asyncio.timeout(self.deadlines.connect):
            await self._wire.start_tls(context, self.relay.host)
        await self._hello()  # what was said in the clear does not count, RFC 3207 §4.2

    async def _login(self, *, secure: bool) -> None:
        if not secure and not self._wire.to_loopback:
            raise RelayError(
                N_(
                    "The password for %(relay)s would travel unencrypted. Use"
                    " smtp+starttls:// or smtps://."
                ),
                relay=self.relay.name,
            )
        methods = self.extensions.get("AUTH", "").upper().split()
        user, password = self.relay.user, self.relay.password
        if "PLAIN" in methods:
            secret = _b64(f"\0{user}\0{password}")
            reply = await self._ask(Phase.CONNECT, f"AUTH PLAIN {secret}")
        elif "LOGIN" in methods:
            reply = await self._ask(Phase.CONNECT, "AUTH LOGIN")
            for word in (user, password):
                if reply.code == 334:
                    reply = await self._ask(Phase.CONNECT, _b64(word))
        else:
            raise RelayError(
                N_("The relay %(relay)s offers no way to log in that Inkorg knows."),
                relay=self.relay.name,
            )
        self._demand(reply, 235)

    def _demand(self, reply: Reply, code: int) -> None:
        if reply.code != code:
            raise RelayError(
                N_("The relay %(relay)s says: %(reply)s"),
                relay=self.relay.name,
                reply=str(reply),
            )

    def _refusal(self, utf8: bool, size: int) -> Reply | None:
        """Say what the relay would say, where its greeting has said it already."""
        if utf8 and not self.offers("SMTPUTF8"):
            return Reply(550, "5.6.7", "The relay takes no international addresses")
        limit = self.extensions.get("SIZE", "")
        if limit.isdecimal() and 0 < int(limit) < size:
            return Reply(
                552, "5.3.4", f"Larger than the {limit} octets the relay takes"
            )
        return None

    def _options(self, utf8: bool, data: bytes) -> str:
        options = f" SIZE={len(data)}" if self.offers("SIZE") else ""
        if utf8:
            options += " SMTPUTF8"
            options += " BODY=8BITMIME" if self.offers("8BITMIME") else ""
        return options

    async def _ask(
        self, phase: Phase, command: str, seconds: float | None = None
    ) -> Reply:
        line = command.encode() + b"\r\n"
        self.phase = phase
        return await self._wire.ask(phase, (line,), seconds or self.deadlines.command)

    async def _refused(self, phase: Phase, reply: Reply) -> Answer:
        """Clear the table for the next message, or leave if asked to."""
        if reply.code == 421:
            self.abort()
            return Answer(phase, reply)
        self.messages += 1
        try:
            if (await self._ask(Phase.CONNECT, "RSET")).code != 250:
                self.abort()
        except Broken:
            self.abort()
        return Answer(phase, reply)


class _Wire(asyncio.Protocol):
    """Bytes in, replies out, in the order of their commands."""

    def __init__(self) -> None:
        self.closed = False
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Phase, asyncio.Future[Reply]]] = deque()
        self._buffer = b""
        self._lines: list[bytes] = []
        self._last_words = "the relay closed the connection"

    @property
    def to_loopback(self) -> bool:
        """Tell whether the other end is this machine."""
        if self.transport is None:
            return False
        host: str = self.transport.get_extra_info("peername")[0]
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback

    def expect(self, phase: Phase) -> asyncio.Future[Reply]:
        """Line up for the next reply that nobody waits for yet."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append((phase, future))
        return future

    async def ask(
        self, phase: Phase, parts: tuple[bytes, ...], seconds: float
    ) -> Reply:
        """Write and wait for the reply. Raises Broken."""
        if self.closed or self.transport is None:
            # Nothing of this message has been written: as good as not begun.
            raise Broken(Phase.MAIL, self._last_words)
        future = self.expect(phase)
        self.transport.writelines(parts)
        return await self.wait(future, seconds)

    async def wait(self, future: asyncio.Future[Reply], seconds: float) -> Reply:
        """Wait for a reply until its deadline."""
        timer = self._loop.call_later(seconds, self._expire, seconds)
        try:
            return await future
        finally:
            timer.cancel()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on encrypted. What came in the clear after the 220 breaks it off."""
        if self._buffer or self._lines or self.transport is None:
            self.abort()
            raise Broken(Phase.CONNECT, "something was slipped in before TLS")
        transport = await self._loop.start_tls(
            self.transport, self, context, server_hostname=host
        )
        if transport is None:
            raise Broken(Phase.CONNECT, "TLS failed")
        self.transport = transport

    def abort(self) -> None:
        """Close without another word."""
        self.closed = True
        if self.transport:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        reason = str(exc) if exc else self._last_words
        while self._waiting:
            phase, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Broken(phase, reason))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))
        if len(self._buffer) + sum(map(len, self._lines)) > LINE_LIMIT:
            self._give_up("the relay's reply has no end")

    def _line(self, line: bytes) -> None:
        match = _REPLY.match(line)
        if match is None:
            self._give_up("the relay does not speak SMTP")
            return
        self._lines.append(match[3])
        if match[2] == b"-":
            return
        reply = _reply(int(match[1]), self._lines)
        self._lines = []
        if self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_result(reply)
        else:  # out of turn: a relay that takes its leave
            self._give_up(str(reply))

    def _expire(self, seconds: float) -> None:
        self._give_up(f"no reply within {seconds:g} s")

    def _give_up(self, reason: str) -> None:
        self._last_words = reason
        self.abort()


def _reply(code: int, lines: list[bytes]) -> Reply:
    texts = [line.decode(errors="replace").strip() for line in lines]
    match = _ENHANCED.match(texts[-1])
    if match is None:
        return Reply(code, "", "\n".join(texts))
    plain = [text.removeprefix(match[1]).strip() for text in texts]
    return Reply(code, match[1], "\n".join(plain))


def _stuffed(data: bytes) -> bytes:
    """Double leading dots (RFC 5321 §4.5.2); mails of `mime.py` have none."""
    if data.startswith(b"."):
        data = b"." + data
    return data.replace(b"\r\n.", b"\r\n..") if b"\r\n." in data else data


def _path(address: str) -> str:
    if not _PATH.fullmatch(address):
        raise ValueError("not an address for an envelope")
    return address


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, Broken):
        return error.reason
    return str(error) or type(error).__name__
