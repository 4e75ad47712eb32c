"""One connection to a relay: the project's only SMTP client. No database.

A `Connection` is opened (greeted, secured, logged in) and then given a carrier. From
there on replies go straight from the socket to `exchange.Exchange`, which writes what
comes next in the same callback: no task, no future, no timer for each message. One slow
pulse watches the deadlines (RFC 5321 §4.5.3.2).
"""

import asyncio
import base64
import contextlib
import functools
import hmac
import ipaddress
import re
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from newsletter.config import Relay
from newsletter.errors import N_, RelayError
from newsletter.mail.exchange import (
    Broken,
    Carrier,
    Doubtful,
    Exchange,
    Mail,
    Manner,
    Trust,
)
from newsletter.mail.replies import Phase, Reply, parse_reply
from newsletter.networks import Allowed

LINE_LIMIT = 65_536  # octets of an unfinished reply; RFC 5321 asks for 512
SLOWEST_PULSE = 1.0  # seconds
_FIRST_DIGITS = b"2345"
_PATH_LIMIT = 320
_PATH = re.compile(rf"[^\s<>\x00-\x20\x7f]{{0,{_PATH_LIMIT}}}")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")  # RFC 3461 §4
# Apart from the others', so that a slow DNS of one's own holds up nobody else.
_LOOK_UPS = ThreadPoolExecutor(4, thread_name_prefix="look-up")
_SIGNS_UP = "PLAIN", "LOGIN", "CRAM-MD5"  # what we know, where it is encrypted


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each step may take, in seconds (RFC 5321 §4.5.3.2)."""

    connect: float = 30
    command: float = 300
    data: float = 120
    dot: float = 600  # shorter ones make duplicates
    quit: float = 2
    group: float = 20  # where a relay may have lost what was written ahead
    farewell: float = 5  # after 421, for what it answers still

    def of(self, phase: Phase) -> float:
        """Return how long the reply of a phase may take."""
        if phase is Phase.DOT:
            return self.dot
        return self.data if phase is Phase.DATA else self.command

    def pulse(self) -> float:
        """Return how often to look whether one has passed."""
        shortest = min(self.command, self.data, self.dot, self.group)
        return min(SLOWEST_PULSE, shortest / 4)


def manner_for(trust: Trust, extensions: Mapping[str, str]) -> Manner:
    """Choose how to speak to a relay: by what it offers and is known to keep."""
    if not (trust.pipelining and "PIPELINING" in extensions):
        return Manner.ONE_AT_A_TIME
    if trust.chunking and "CHUNKING" in extensions:
        return Manner.CHUNKED
    return Manner.PIPELINED


class Unsendable(Exception):
    """The relay's greeting says that it would refuse this message."""

    def __init__(self, reply: Reply) -> None:
        """Say it as the relay would."""
        super().__init__(str(reply))
        self.reply = reply


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return a context that checks certificates and host names."""
    return ssl.create_default_context()


class Connection(asyncio.Protocol):
    """An open, greeted and authenticated connection to a relay."""

    def __init__(
        self, relay: Relay, ehlo_name: str, deadlines: Deadlines, trust: Trust
    ) -> None:
        """Prepare; `open` is what callers use."""
        self.relay = relay
        self.ehlo_name = ehlo_name
        self.deadlines = deadlines
        self.trust = trust
        self.extensions: Mapping[str, str] = {}
        self.closed = False  # no further message can be sent
        self.exchange: Exchange | None = None
        self._size_limit = 0  # of a message, in octets; 0: none
        self._is_frugal = False  # it takes envelopes without parameters
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._buffer = b""
        self._lines: list[bytes] = []  # of a reply that goes on
        self._last_words = "the relay closed the connection"
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._heard = 0.0
        self._beat: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls,
        relay: Relay,
        *,
        ehlo_name: str,
        deadlines: Deadlines | None = None,
        context: ssl.SSLContext | None = None,
        trust: Trust | None = None,
    ) -> "Connection":
        """Connect, secure, log in. Raises RelayError saying what stood in the way."""
        connection = cls(relay, ehlo_name, deadlines or Deadlines(), trust or Trust())
        try:
            await connection._open(context or tls_context())
        except RelayError:
            connection.abort()
            raise
        except (OSError, Broken, TimeoutError) as error:
            connection.abort()
            raise _unreachable(relay, error) from error
        except BaseException:
            connection.abort()
            raise
        return connection

    def offers(self, extension: str) -> bool:
        """Tell whether the relay offers an extension."""
        return extension in self.extensions

    def prepare(
        self,
        sender: str,
        recipient: str,
        pieces: list[bytes],
        *,
        envelope_id: str = "",
        dotless: bool = False,
        load: Any = None,
    ) -> Mail:
        """Address a message, given in pieces that belong to it alone from then on.

        It has CRLF line ends and ends with one. `dotless` is one of which no line
        begins with a dot; `load` is for the carrier, to know it by.

        Raises Unsendable where the relay has said that it would not take it.
        """
        plain = sender.isascii() and recipient.isascii()
        if plain and self._is_frugal:
            # What a relay offers most often, at the price of a few characters.
            mail_from, path = _mail_from(sender), _path(recipient)
            envelope = b"%b\r\nRCPT TO:<%b>\r\n" % (mail_from, path)
        else:
            size = sum(map(len, pieces))
            self._check(not plain, size)
            envelope = self._envelope(sender, recipient, not plain, size, envelope_id)
        return Mail(envelope, pieces, dotless=dotless, load=load)

    def _envelope(
        self, sender: str, recipient: str, utf8: bool, size: int, envelope_id: str
    ) -> bytes:
        offered, to = self.extensions, b""
        options = b" SIZE=%d" % size if "SIZE" in offered else b""
        if utf8:
            options += b" SMTPUTF8"
            options += b" BODY=8BITMIME" if "8BITMIME" in offered else b""
        path = _path(recipient)
        if "DSN" in offered:
            options += b" RET=HDRS"
            options += b" ENVID=%b" % _xtext(envelope_id) if envelope_id else b""
            to = b" NOTIFY=FAILURE"
            to += b"" if utf8 else b" ORCPT=rfc822;%b" % _xtext(recipient, path)
        return b"%b%b\r\nRCPT TO:<%b>%b\r\n" % (_mail_from(sender), options, path, to)

    async def carry(self, carrier: Carrier) -> None:
        """Hand over what the carrier has, until `finish`, a 421 or the end.

        The carrier is told about every message it gave, before this returns.
        """
        if self.closed or self._transport is None:
            return
        manner = manner_for(self.trust, self.extensions)
        self.exchange = Exchange(
            carrier, self._transport.writelines, manner, proven=self.trust.proven
        )
        self._beat = self._loop.call_later(self.deadlines.pulse(), self._look)
        try:
            self.pull()
            await self._over
        except asyncio.CancelledError:
            self._give_up("this worker was stopped")
            raise
        finally:
            self._beat.cancel()
            exchange, self.exchange = self.exchange, None
            if not exchange.empty:
                self.abort()
                exchange.lost(self._last_words)

    def pull(self) -> None:
        """Ask the carrier whether there is something to begin."""
        over = self.closed or self._over.done()
        if self.exchange and not over:
            if not self.exchange.busy:
                self._heard = self._loop.time()
            self.exchange.pull()

    def finish(self) -> None:
        """End `carry`; what is under way is given up."""
        if not self._over.done():
            self._over.set_result(None)

    async def quit(self) -> None:
        """Take leave; never fails."""
        if not self.closed:
            with contextlib.suppress(Broken):
                await self._ask("QUIT", self.deadlines.quit)
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        if self._transport:
            self._transport.abort()

    # Opening.

    async def _open(self, context: ssl.SSLContext) -> None:
        implicit = self.relay.security == "tls"
        greeting = self._expect()
        async with asyncio.timeout(self.deadlines.connect):
            await self._loop.create_connection(
                lambda: self,
                await self._address(),
                self.relay.port,
                ssl=context if implicit else None,
                server_hostname=self.relay.host if implicit else None,
            )
        reply = await self._wait(greeting, self.deadlines.command)
        self._demand(reply, 220)
        await self._hello()
        if self.relay.security == "starttls":
            await self._start_tls(context)
        if self.relay.user:
            await self._login(secure=self.relay.security != "plain")
        if self.closed:
            raise Broken(Phase.CONNECT, self._last_words)

    async def _address(self) -> str:
        """Return what to dial: the host, or where it is now, if it may not be inside.

        All addresses of the name are checked, and one of them is dialled.
        """
        relay = self.relay
        if relay.inside is None:
            return relay.host
        allowed = Allowed(relay.inside)
        if allowed.names(relay.host):
            return relay.host
        found = await self._loop.run_in_executor(
            _LOOK_UPS, socket.getaddrinfo, relay.host, relay.port
        )
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or any(map(allowed.denies, addresses)):
            raise RelayError(
                N_(
                    "%(host)s is on a private network, where a newsletter's own relay"
                    " may not be. Whoever runs Inkorg can allow it with"
                    " NEWSLETTER_RELAY_ALLOW."
                ),
                host=relay.host,
            )
        return addresses[0]

    async def _hello(self) -> None:
        reply = await self._ask(f"EHLO {self.ehlo_name}")
        if reply.code in {500, 502, 504}:
            reply = await self._ask(f"HELO {self.ehlo_name}")
        self._demand(reply, 250)
        lines = (line.partition(" ") for line in reply.text.split("\n")[1:])
        self.extensions = {name.upper(): value.strip() for name, _, value in lines}
        limit = self.extensions.get("SIZE", "")
        self._size_limit = int(limit) if limit.isdecimal() else 0
        self._is_frugal = not self.extensions.keys() & {"SIZE", "DSN"}

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        if not self.offers("STARTTLS"):
            raise RelayError(
                N_("The relay %(relay)s offers no encryption (STARTTLS)."),
                relay=self.relay.name,
            )
        self._demand(await self._ask("STARTTLS"), 220)
        if self._buffer or self._lines or self._transport is None:
            self.abort()
            raise Broken(Phase.CONNECT, "something was slipped in before TLS")
        async with asyncio.timeout(self.deadlines.connect):
            transport = await self._loop.start_tls(
                self._transport, self, context, server_hostname=self.relay.host
            )
        if transport is None:
            raise Broken(Phase.CONNECT, "TLS failed")
        self._transport = transport
        await self._hello()  # what was said in the clear does not count, RFC 3207 §4.2

    async def _login(self, *, secure: bool) -> None:
        if not secure and not self._to_loopback():
            raise RelayError(
                N_(
                    "The password for %(relay)s would travel unencrypted. Use"
                    " smtp+starttls:// or smtps://."
                ),
                relay=self.relay.name,
            )
        offered = self.extensions.get("AUTH", "").upper().split()
        known = _SIGNS_UP if secure else tuple(reversed(_SIGNS_UP))
        method = next((method for method in known if method in offered), "")
        if method == "PLAIN":
            secret = _b64(f"\0{self.relay.user}\0{self.relay.password}")
            reply = await self._ask(f"AUTH PLAIN {secret}")
        elif method == "LOGIN":
            reply = await self._ask("AUTH LOGIN")
            for word in (self.relay.user, self.relay.password):
                if reply.code == 334:
                    reply = await self._ask(_b64(word))
        elif method == "CRAM-MD5":
            reply = await self._answer_challenge()
        else:
            raise RelayError(
                N_("The relay %(relay)s offers no way to log in that Inkorg knows."),
                relay=self.relay.name,
            )
        self._demand(reply, 235)

    async def _answer_challenge(self) -> Reply:
        """Prove to know the password without saying it (RFC 2195)."""
        reply = await self._ask("AUTH CRAM-MD5")
        if reply.code != 334:
            return reply
        try:
            challenge = base64.b64decode(reply.text, validate=True)
        except ValueError:
            raise Broken(Phase.CONNECT, "its challenge cannot be read") from None
        digest = hmac.new(self.relay.password.encode(), challenge, "md5").hexdigest()
        return await self._ask(_b64(f"{self.relay.user} {digest}"))

    def _demand(self, reply: Reply, code: int) -> None:
        if reply.code != code:
            raise RelayError(
                N_("The relay %(relay)s says: %(reply)s"),
                relay=self.relay.name,
                reply=str(reply),
            )

    def _check(self, utf8: bool, size: int) -> None:
        if utf8 and "SMTPUTF8" not in self.extensions:
            raise Unsendable(
                Reply(550, "5.6.7", "The relay takes no international addresses")
            )
        limit = self._size_limit
        if 0 < limit < size:
            raise Unsendable(
                Reply(552, "5.3.4", f"Larger than the {limit} octets the relay takes")
            )

    def _to_loopback(self) -> bool:
        """Tell whether the other end is this machine."""
        if self._transport is None:
            return False
        host: str = self._transport.get_extra_info("peername")[0]
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback

    async def _ask(self, line: str, seconds: float | None = None) -> Reply:
        """Say a line and wait for the reply. Raises Broken."""
        if self.closed or self._transport is None:
            raise Broken(Phase.CONNECT, self._last_words)
        future = self._expect()
        self._transport.write(line.encode() + b"\r\n")
        return await self._wait(future, seconds or self.deadlines.command)

    def _expect(self) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append(future)
        return future

    async def _wait(self, future: asyncio.Future[Reply], seconds: float) -> Reply:
        timer = self._loop.call_later(seconds, self._expire, seconds)
        try:
            return await future
        finally:
            timer.cancel()

    # What the socket brings.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits."""
        if not self.closed and self.exchange and self.exchange.outrun:
            self._doubt(self.exchange.manner)
        self.closed = True
        if exc:
            self._last_words = str(exc)
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Broken(Phase.CONNECT, self._last_words))
        self.finish()

    def eof_received(self) -> None:
        """Close at once: a relay that has said its last word answers nothing more."""
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Cut what comes into replies and pass each on."""
        data = data.replace(b"\0", b"?")  # PostgreSQL keeps none
        exchange = self.exchange
        if (
            exchange is not None
            and not (self._buffer or self._lines)
            and exchange.in_stride(data)
        ):
            self._heard = self._loop.time()
            self.trust.proven = True
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._heard = self._loop.time()
        for raw in lines:
            line = raw[:-1] if raw.endswith(b"\r") else raw
            after = line[3:4]
            if not (line[:3].isdigit() and line[0] in _FIRST_DIGITS):
                self._give_up("the relay does not speak SMTP")
            elif after == b" " or not after:
                self._reply(line)
            elif after == b"-":
                self._lines.append(line)
            else:
                self._give_up("the relay does not speak SMTP")
            if self.closed:
                return
        if len(self._buffer) + sum(map(len, self._lines)) > LINE_LIMIT:
            self._give_up("the relay's reply has no end")

    def _reply(self, line: bytes) -> None:
        before, self._lines = self._lines, []
        exchange = self.exchange
        if exchange is None:
            self._answer(parse_reply(line, before))
            return
        try:
            exchange.reply(line, before)
        except Doubtful as doubt:
            if exchange.misunderstood:
                self._doubt(exchange.manner)
            self._give_up(str(doubt))
            return
        if exchange.leaving or exchange.misunderstood:
            self._notice(exchange, line, before)
        elif exchange.proven and exchange.manner is not Manner.ONE_AT_A_TIME:
            self.trust.proven = True

    def _notice(self, exchange: Exchange, line: bytes, before: list[bytes]) -> None:
        """See what a reply says about the relay: 421, or a chunk not understood."""
        if exchange.misunderstood:
            self._doubt(Manner.CHUNKED)
            exchange.misunderstood = False
        if not exchange.leaving:
            return
        self._last_words = str(parse_reply(line, before))
        if exchange.empty:
            self.abort()
        else:  # hear what it answers still
            self._loop.call_later(self.deadlines.farewell, self.abort)

    def _doubt(self, manner: Manner) -> None:
        """Do without what the relay offers and does not keep."""
        trust = self.trust
        if manner is Manner.CHUNKED:
            trust.changed |= trust.chunking
            trust.chunking = False
        else:
            trust.changed |= trust.pipelining
            trust.pipelining = False

    def _answer(self, reply: Reply) -> None:
        if self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(reply)
        else:  # out of turn: a relay that takes its leave
            self._give_up(str(reply))

    def _look(self) -> None:
        """See whether a deadline has passed."""
        exchange = self.exchange
        if exchange is None or self.closed:
            return
        self._beat = self._loop.call_later(self.deadlines.pulse(), self._look)
        if not exchange.busy:
            return
        seconds = self.deadlines.of(exchange.phase)
        if suspicious := exchange.suspicious and seconds > self.deadlines.group:
            seconds = self.deadlines.group
        if self._loop.time() - self._heard >= seconds:
            if suspicious:
                self._doubt(exchange.manner)
            self._expire(seconds)

    def _expire(self, seconds: float) -> None:
        self._give_up(f"no reply within {seconds:g} s")

    def _give_up(self, reason: str) -> None:
        self._last_words = reason
        self.abort()


def _path(address: str) -> bytes:
    if not (_is_plain(address) or _PATH.fullmatch(address)):
        raise ValueError("not an address for an envelope")
    return address.encode()


def _is_plain(address: str) -> bool:
    """Tell what the pattern tells of nearly every address, in half of its time."""
    return (
        address.isascii()
        and address.isprintable()
        and not (" " in address or "<" in address or ">" in address)
        and len(address) <= _PATH_LIMIT
    )


@functools.lru_cache(maxsize=64)
def _mail_from(sender: str) -> bytes:
    return b"MAIL FROM:<%b>" % _path(sender)


def _xtext(text: str, encoded: bytes = b"") -> bytes:
    """Escape what has to be; `encoded` is the text in bytes, where they are at hand."""
    if _NOT_XTEXT.search(text) is None:
        return encoded or text.encode()
    return _NOT_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}", text).encode()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _unreachable(relay: Relay, error: Exception) -> RelayError:
    """Say why a connection cannot be made, in a reader's words where it is common."""
    if isinstance(error, ConnectionRefusedError):
        message = N_("The relay %(relay)s cannot be reached: nothing listens there.")
    elif isinstance(error, socket.gaierror):
        message = N_("The relay %(relay)s cannot be reached: its name is not known.")
    elif isinstance(error, TimeoutError):
        message = N_("The relay %(relay)s cannot be reached: it does not answer.")
    else:
        message = N_("The relay %(relay)s cannot be reached: %(reason)s")
    return RelayError(message, relay=relay.name, reason=_reason(error))


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, Broken):
        return error.reason
    return str(error) or type(error).__name__
