"""A real SMTP server in the process of a test, that can be told to misbehave.

    with SmtpServer() as server:
        server.refuse("gone@exempel.example")            # 550 5.1.1 to RCPT, always
        server.defer("busy@exempel.example", times=1)    # 451 4.7.1 to RCPT, once
        server.script("dot", drop=True, times=1)         # takes a message, says nothing
        …
        assert server.received[0].message["Subject"] == "Hej"

Phases, in their order: greeting, ehlo, starttls, auth, mail, rcpt, data, body (the
message is on its way), chunk, dot (it has arrived), rset, quit.
"""

import asyncio
import base64
import datetime
import hmac
import ipaddress
import itertools
import ssl
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIMIT = 50_000_000  # of a line and of a message
PATIENCE_SECONDS = 60  # for what comes within one, on the slowest machine


@dataclass
class Received:
    """A message as it came over the wire."""

    mail_from: str
    rcpt_to: list[str]
    data: bytes
    options: str = ""  # what followed the address in MAIL
    connection: int = 0
    secure: bool = False
    login: str = ""
    rcpt_options: str = ""  # what followed the address in RCPT

    @cached_property
    def message(self) -> EmailMessage:
        parsed = message_from_bytes(self.data, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def to(self) -> str:
        return self.rcpt_to[0]

    @property
    def message_id(self) -> str:
        head = self.data.partition(b"\r\n\r\n")[0]
        found = [x for x in head.split(b"\r\n") if x.lower().startswith(b"message-id:")]
        return found[0].partition(b":")[2].strip().decode()


@dataclass
class Rule:
    """What to do at a phase, instead of the usual."""

    phase: str
    reply: str = ""
    address: str = ""  # empty: any
    times: int | None = None  # None: always
    skip: int = 0  # let so many pass first
    stall: float = 0  # seconds before the reply
    drop: bool = False  # the connection, without a reply
    close: bool = False  # the connection, after the reply
    used: int = field(default=0, init=False)

    def fits(self, phase: str, address: str) -> bool:
        if phase != self.phase or self.address.lower() not in {"", address.lower()}:
            return False
        self.used += 1
        after = self.used - self.skip
        return after > 0 and (self.times is None or after <= self.times)


class SmtpServer:
    """Listen on a free port of the loopback in a thread of its own."""

    def __init__(
        self,
        *,
        port: int = 0,
        tls: bool = False,
        starttls: bool = False,
        certificate_for: str = "localhost",
        login: tuple[str, str] | None = None,
        auth_methods: str = "PLAIN LOGIN",
        smtputf8: bool = True,
        size: int = 0,
        extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"),
        keep: bool = True,  # False: `count` and `seen` only
        drip: bool = False,  # reply octet by octet
    ) -> None:
        self.port = port
        self.tls, self.starttls = tls, starttls
        self.certificate_for = certificate_for
        self.login, self.auth_methods = login, auth_methods
        self.smtputf8, self.size, self.extensions = smtputf8, size, extensions
        self.keep, self.drip = keep, drip
        self.received: list[Received] = []
        self.count = 0
        self.seen: Counter[str] = Counter()  # recipients
        self.commands: list[str] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self._rules: list[Rule] = []
        self._news = threading.Condition()

    # What a test says to it.

    def script(self, phase: str, reply: str = "", **how: object) -> Rule:
        """Do `reply`, or stall or drop, at a phase; see Rule."""
        rule = Rule(phase, reply, **how)  # type: ignore[arg-type]
        self._rules.append(rule)
        return rule

    def refuse(self, address: str = "", reply: str = "", **how: object) -> Rule:
        return self.script(
            "rcpt", reply or "550 5.1.1 No such user", address=address, **how
        )

    def defer(self, address: str = "", reply: str = "", **how: object) -> Rule:
        return self.script(
            "rcpt", reply or "451 4.7.1 Greylisted", address=address, **how
        )

    def behave(self) -> None:
        """Forget every rule."""
        self._rules.clear()

    def wait_for(self, count: int) -> None:
        """Wait until so many messages have come."""
        with self._news:
            if not self._news.wait_for(lambda: self.count >= count, PATIENCE_SECONDS):
                raise AssertionError(f"{self.count} messages came, not {count}")

    def to(self, address: str) -> list[Received]:
        return [mail for mail in self.received if address in mail.rcpt_to]

    @property
    def host(self) -> str:
        return "localhost" if self.tls or self.starttls else "127.0.0.1"

    @property
    def url(self) -> str:
        scheme = "smtps" if self.tls else "smtp+starttls" if self.starttls else "smtp"
        account = "{}:{}@".format(*self.login) if self.login else ""
        return f"{scheme}://{account}{self.host}:{self.port}"

    @property
    def certificate(self) -> str:
        """The file to trust: SSL_CERT_FILE."""
        return str(self._folder_path / "certificate.pem")

    # Its life.

    def __enter__(self) -> "SmtpServer":
        self._folder = tempfile.TemporaryDirectory(prefix="inkorg-smtp-")
        self._folder_path = Path(self._folder.name)
        self._context = None
        if self.tls or self.starttls:
            self._context = make_certificate(self._folder_path, self.certificate_for)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._folder.cleanup()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            server = await asyncio.start_server(
                self._accept,
                self.host,
                self.port,
                limit=LIMIT,
                ssl=self._context if self.tls else None,
            )
        except BaseException as failure:
            self._failure = failure
            self._ready.set()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._closing.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await _Talk(self, reader, writer, self.connections).run()
        except (_Drop, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self.open -= 1
            writer.transport.abort()

    def _rule(self, phase: str, address: str) -> Rule | None:
        fitting = [rule for rule in self._rules if rule.fits(phase, address)]
        return fitting[0] if fitting else None

    def _take(self, mail: Received) -> None:
        with self._news:
            if self.keep:
                self.received.append(mail)
            self.seen.update(mail.rcpt_to)
            self.count += 1
            self._news.notify_all()


class _Drop(Exception):
    pass


class _Talk:
    """One connection."""

    def __init__(
        self,
        server: SmtpServer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.number = number
        self.secure = server.tls
        self.login = ""
        self.mail_from: str | None = None
        self.options = ""
        self.rcpt_to: list[str] = []
        self.rcpt_options = ""
        self.chunks = b""

    async def run(self) -> None:
        await self.answer("greeting", "220 sink.example ESMTP")
        while line := await self.reader.readline():
            text = line.decode(errors="surrogateescape").rstrip("\r\n")
            self.server.commands.append(text)
            verb, _, rest = text.partition(" ")
            reply = getattr(self, f"on_{verb.lower()}", None)
            if reply is None:
                await self.say("502 5.5.1 What?")
            else:
                await reply(rest)

    async def on_ehlo(self, rest: str) -> None:
        lines = ["sink.example", *self.server.extensions]
        if self.server.smtputf8:
            lines.append("SMTPUTF8")
        if self.server.size:
            lines.append(f"SIZE {self.server.size}")
        if self.server.starttls and not self.secure:
            lines.append("STARTTLS")
        if self.server.login:
            lines.append(f"AUTH {self.server.auth_methods}")
        text = "".join(f"250-{line}\r\n" for line in lines[:-1])
        await self.answer("ehlo", f"{text}250 {lines[-1]}")

    async def on_helo(self, rest: str) -> None:
        await self.answer("ehlo", "250 sink.example")

    async def on_starttls(self, rest: str) -> None:
        if await self.answer("starttls", "220 2.0.0 Go ahead"):
            assert self.server._context
            await self.writer.start_tls(self.server._context)
            self.secure = True

    async def on_auth(self, rest: str) -> None:
        method, _, initial = rest.partition(" ")
        if method.upper() == "PLAIN":
            text = initial or await self.ask("334 ")
            _, name, password = base64.b64decode(text).decode().split("\0")
        elif method.upper() == "CRAM-MD5":
            challenge = b"<1896.697170952@sink.example>"
            asked = f"334 {base64.b64encode(challenge).decode()}"
            name, digest = base64.b64decode(await self.ask(asked)).decode().split()
            known, password = self.server.login or ("", "")
            expected = hmac.new(password.encode(), challenge, "md5").hexdigest()
            password = password if digest == expected and name == known else "wrong"
        else:
            name = base64.b64decode(
                initial or await self.ask("334 VXNlcm5hbWU6")
            ).decode()
            password = base64.b64decode(await self.ask("334 UGFzc3dvcmQ6")).decode()
        right = (name, password) == self.server.login
        self.login = name if right else ""
        await self.answer("auth", "235 2.7.0 Fine" if right else "535 5.7.8 Wrong")

    async def on_mail(self, rest: str) -> None:
        address, _, self.options = rest.partition(":")[2].partition(">")
        address = address.strip().lstrip("<")
        if self.mail_from is not None:
            await self.say("503 5.5.1 Nested MAIL")
            return
        default = "250 2.1.0 Ok"
        if self.server.login and not self.login:
            default = "530 5.7.0 Authentication required"
        if await self.answer("mail", default, address):
            self.mail_from, self.rcpt_to, self.chunks = address, [], b""

    async def on_rcpt(self, rest: str) -> None:
        address, _, self.rcpt_options = rest.partition(":")[2].partition(">")
        address = address.strip().lstrip("<")
        if self.mail_from is None:
            await self.say("503 5.5.1 MAIL first")
        elif await self.answer("rcpt", "250 2.1.5 Ok", address):
            self.rcpt_to.append(address)

    async def on_data(self, rest: str) -> None:
        if self.mail_from is None or not self.rcpt_to:
            await self.say("554 5.5.1 No valid recipients")
            return
        address = self.rcpt_to[0]
        if not await self.answer("data", "354 End with a lone dot", address):
            return
        await self.answer("body", "", address)
        lines = []
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                raise _Drop
            lines.append(line.removeprefix(b"."))
        await self.take(b"".join(lines))

    async def on_bdat(self, rest: str) -> None:
        """Take a chunk (RFC 3030): its octets come whatever the answer is."""
        size, _, last = rest.partition(" ")
        self.chunks += await self.reader.readexactly(int(size))
        if self.mail_from is None or not self.rcpt_to:
            await self.say("503 5.5.1 No valid recipients")
        elif not last:
            await self.answer("chunk", f"250 2.0.0 {size} octets", self.rcpt_to[0])
        else:
            await self.answer("body", "", self.rcpt_to[0])
            await self.take(self.chunks)

    async def take(self, data: bytes) -> None:
        mail = Received(
            self.mail_from or "",
            self.rcpt_to,
            data,
            self.options.strip(),
            self.number,
            self.secure,
            self.login,
            self.rcpt_options.strip(),
        )
        self.mail_from = None
        await self.answer("dot", "250 2.0.0 Ok: queued as 4F2", mail.to, mail)

    async def on_rset(self, rest: str) -> None:
        self.mail_from = None
        await self.answer("rset", "250 2.0.0 Ok")

    async def on_noop(self, rest: str) -> None:
        await self.say("250 2.0.0 Ok")

    async def on_quit(self, rest: str) -> None:
        await self.answer("quit", "221 2.0.0 Bye")
        raise _Drop

    async def ask(self, prompt: str) -> str:
        await self.say(prompt)
        return (await self.reader.readline()).decode().strip()

    async def answer(
        self, phase: str, usual: str, address: str = "", mail: Received | None = None
    ) -> bool:
        """Say the usual or what the script wants; tell whether it was positive.

        A message counts as received when its reply is a good one, or none: a server
        that drops the connection after the final dot may have taken it.
        """
        rule = self.server._rule(phase, address)
        reply = usual
        if rule:
            if rule.stall:
                await asyncio.sleep(rule.stall)
            reply = rule.reply or usual
        if mail and (reply.startswith("2") or (rule and rule.drop)):
            self.server._take(mail)
        if rule and rule.drop:
            raise _Drop
        if reply:
            await self.say(reply)
        if rule and rule.close:
            raise _Drop
        return reply[:1] in {"2", "3"}

    async def say(self, text: str) -> None:
        octets = f"{text}\r\n".encode()
        size = 1 if self.server.drip else len(octets)
        for start in range(0, len(octets), size):
            self.writer.write(octets[start : start + size])
            await self.writer.drain()
            if self.server.drip:
                await asyncio.sleep(0)


_serials = itertools.count(int(time.time()))


def make_certificate(folder: Path, host: str) -> ssl.SSLContext:
    """Write a self-made certificate for `host` into the folder; return its context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    today = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host == "localhost":
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(next(_serials))
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context
