"""The local mailbox: an SMTP server that keeps each mail in a folder, sends nothing.

Each mail is one file, `<id>.eml`, as it came over the wire, with its envelope on top as
a final delivery writes it (RFC 5321 §4.4): `Return-Path`, `Delivered-To`, `Received`.
Ids sort by time.
"""

import asyncio
import email
import email.policy
import re
import secrets
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from itertools import islice
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from newsletter.errors import N_, ConfigError, NotFound

KEEP = 5000
PRUNE_EVERY = 250  # mails between two clearings-out
MAX_MAIL_BYTES = 32 * 1024 * 1024
CLOSING_SECONDS = 0.05
HEAD_BYTES = 16 * 1024  # enough for the headers of any mail of ours
ID = re.compile(r"\d{8}T\d{12}-[0-9a-f]{6}")
_TIME = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True, slots=True)
class Kept:
    """One mail in the mailbox, as a list shows it."""

    id: str
    at: datetime
    sender: str  # of the envelope
    recipients: tuple[str, ...]  # of the envelope
    subject: str
    message_id: str
    size_bytes: int


class Mailbox:
    """The folder of kept mails."""

    def __init__(self, folder: Path, keep: int = KEEP) -> None:
        """Use `folder`, and let it hold at most about `keep` mails."""
        self.folder = folder
        self.keep = keep
        self._since_pruning = 0

    def store(
        self, content: bytes, *, sender: str, recipients: list[str], now: datetime
    ) -> str:
        """Keep a mail and return its id. A reader never sees half of one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{now.astimezone(UTC).strftime(_TIME)}-{secrets.token_hex(3)}"
        lines = [f"Return-Path: <{sender}>"]
        lines += [f"Delivered-To: {recipient}" for recipient in recipients]
        head = "".join(f"{line}\r\n" for line in lines).encode()
        unfinished = self.folder / f"{name}.part"
        unfinished.write_bytes(head + content)
        unfinished.replace(self._path(name))
        self._since_pruning += 1
        if self._since_pruning >= PRUNE_EVERY:
            self.prune()
        return name

    def prune(self) -> None:
        """Remove the oldest mails above the limit."""
        self._since_pruning = 0
        for name in self.ids()[self.keep :]:
            self._path(name).unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Return the ids of all mails, the newest first."""
        found = (path.stem for path in self.folder.glob("*.eml"))
        return sorted((name for name in found if ID.fullmatch(name)), reverse=True)

    def newest(self, limit: int, *, to: str = "", skip: int = 0) -> list[Kept]:
        """Return mails, the newest first, perhaps only those whose address has `to`."""
        wanted = to.casefold()
        found = (
            kept
            for kept in self._read_heads()
            if not wanted or any(wanted in r.casefold() for r in kept.recipients)
        )
        return list(islice(found, skip, skip + limit))

    def raw(self, name: str) -> bytes:
        """Return a mail's bytes. Raises NotFound."""
        try:
            if ID.fullmatch(name):
                return self._path(name).read_bytes()
        except FileNotFoundError:
            pass
        raise NotFound(N_("This mail is no longer in the mailbox."))

    def _read_heads(self) -> Iterator[Kept]:
        for name in self.ids():
            try:
                with self._path(name).open("rb") as file:
                    head = file.read(HEAD_BYTES)
                    size = file.seek(0, 2)
            except FileNotFoundError:  # pruned meanwhile
                continue
            yield _summary(name, parse(head), size)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.eml"


def parse(raw: bytes) -> EmailMessage:
    """Read a mail apart; damage in it is borne."""
    message = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    assert isinstance(message, EmailMessage)  # noqa: S101  (this policy makes them)
    return message


def summary(name: str, raw: bytes) -> Kept:
    """Return what a list shows of the mail `name`."""
    return _summary(name, parse(raw), len(raw))


def body(message: EmailMessage, kind: str) -> str:
    """Return the mail's text in `kind`, "plain" or "html"; empty if it has none."""
    part = message.get_body((kind,))
    if part is None:
        return ""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)  # noqa: S101  (a leaf part has bytes)
    try:
        return payload.decode(part.get_content_charset("utf-8"), errors="replace")
    except LookupError:  # a charset nobody knows
        return payload.decode("utf-8", errors="replace")


def _summary(name: str, message: EmailMessage, size: int) -> Kept:
    return Kept(
        id=name,
        at=datetime.strptime(name.partition("-")[0], _TIME).replace(tzinfo=UTC),
        sender=str(message.get("Return-Path", "")).strip("<> "),
        recipients=tuple(str(to) for to in message.get_all("Delivered-To", [])),
        subject=str(message.get("Subject", "")),
        message_id=str(message.get("Message-ID", "")).strip(),
        size_bytes=size,
    )


class _Keeper:
    """What aiosmtpd asks for each mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    async def handle_DATA(
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Store it."""
        content = envelope.original_content or b""
        name = self.mailbox.store(
            content,
            sender=envelope.mail_from or "",
            recipients=envelope.rcpt_tos,
            now=datetime.now(UTC),
        )
        return f"250 2.0.0 kept as {name}"


class _Receiver(SMTP):
    """A connection that closes when the other side has gone."""

    def eof_received(self) -> bool:
        """Let the transport close; aiosmtpd would leave it to the garbage collector."""
        super().eof_received()
        return False


async def receive(mailbox: Mailbox, host: str, port: int, stop: asyncio.Event) -> None:
    """Receive mail until `stop` is set. Raises ConfigError if the port is taken."""
    loop = asyncio.get_running_loop()
    connections: weakref.WeakSet[SMTP] = weakref.WeakSet()

    def connection() -> SMTP:
        protocol = _Receiver(
            _Keeper(mailbox),
            hostname="mailbox.localhost",
            ident="Inkorg's local mailbox",
            enable_SMTPUTF8=True,
            data_size_limit=MAX_MAIL_BYTES,
            loop=loop,
        )
        connections.add(protocol)
        return protocol

    try:
        server = await loop.create_server(connection, host, port)
    except OSError:
        raise ConfigError(
            N_("Port %(port)s is taken. Choose another for the mailbox."), port=port
        ) from None
    async with server:
        await stop.wait()
        await asyncio.sleep(CLOSING_SECONDS)  # asyncio drops what it has just accepted
    for protocol in list(connections):
        if protocol.transport is not None:
            protocol.transport.close()
    await asyncio.sleep(CLOSING_SECONDS)
