"""Mails frozen once and finished for each reader in microseconds. Pure.

`freeze` renders a letter's headers and both parts into segments of bytes; `splice` puts
a reader's own fields between them. In a body, a field stands on a line of its own,
between soft line breaks (RFC 2045 §6.7), so nothing can ever cut it; every field is
checked, so it cannot carry a header with it.

The spliced bytes are at once the message and the SMTP data: no line of it begins with a
dot (a leading one is written =2E), so there is nothing to stuff (RFC 5321 §4.5.2).

Templates put `LEAVE` and `PREFERENCES` where the reader's tokens go. They are drawn
afresh in each process: a post that came from outside cannot hold them, and so cannot
have a reader's token written into a link of its own. A stored letter has `NOBODY` in
their place (`without_fields`).
"""

import functools
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from itertools import repeat
from operator import itemgetter

from newsletter.errors import N_, InvalidInput
from newsletter.mail import headers
from newsletter.models import Kind

TOKEN_CHARACTERS = 22
LEAVE = "leave0" + secrets.token_hex(8)
PREFERENCES = "choice" + secrets.token_hex(8)
NOBODY = "nobody" + "-" * 16  # a token that is no reader's: in tests and stored copies

_ADDRESS = "tofold" + secrets.token_hex(8)
_DATE = "dateof" + secrets.token_hex(8)
_MESSAGE_ID = "idwith" + secrets.token_hex(8)
_FIELDS = (LEAVE, PREFERENCES, _ADDRESS, _DATE, _MESSAGE_ID)
_FIELD = re.compile("(" + "|".join(_FIELDS) + ")")
_TWO_TOKENS = re.compile(r"[A-Za-z0-9_-]{44}")
_MANY_TOKENS = re.compile(r"(?:[A-Za-z0-9_-]{22}\n)*+[A-Za-z0-9_-]{22}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_ESCAPED = re.compile(r"[^\t -<>-~]{1,8}")  # in runs short enough to remember
_FEEDBACK_ID = re.compile(r"[\w.-]*(:[\w.-]*){2}:[\w.-]{1,40}", re.ASCII)
_LIST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,249}")
_URL = re.compile(r"(https?://|mailto:)[!#-;=?-~]{1,900}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LARGE = 8_192  # bytes of a segment that is not worth copying
_BODY_LINE = 75  # and the "=" of a soft line break makes 76
_WITH_LIST_HEADERS = frozenset({Kind.DIGEST, Kind.TEST})


Pick = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be said, to whom it does not say; text and HTML may hold fields."""

    kind: Kind
    language: str
    subject: str
    from_name: str
    from_email: str
    text: str
    html: str
    reply_to: str = ""
    envelope_sender: str = ""  # empty: from_email
    list_id: str = ""  # slug.host
    list_name: str = ""
    leave_url: str = ""  # with the field LEAVE in it
    archive_url: str = ""
    feedback_id: str = ""  # issue:list:type:sender
    preview_text: str = ""  # what mailboxes show beside the subject; also in the HTML

    @property
    def sender(self) -> str:
        """Return the envelope sender."""
        return headers.checked_address(self.envelope_sender or self.from_email)


@dataclass(frozen=True, slots=True)
class Frozen:
    """A letter as bytes with gaps; `fields[n]` goes between segments n and n + 1."""

    segments: tuple[bytes, ...]
    fields: tuple[int, ...]
    domain: str  # of the Message-ID
    _runs: tuple[Pick, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lay out once what `pieces` does for each reader."""
        runs = tuple(_runs(self.segments, self.fields))
        object.__setattr__(self, "_runs", runs)

    @property
    def size(self) -> int:
        """Return about how many bytes a spliced message has."""
        return sum(map(len, self.segments)) + 40 * len(self.fields)

    def splice(
        self,
        *,
        address: str,
        delivery_id: int,
        nonce: str,
        leave_token: str,
        preferences_token: str,
        at: datetime,
    ) -> bytes:
        """Return the message for one reader, ready for the wire and for an .eml file.

        Raises InvalidInput for a field that is not what it should be.
        """
        return self.join(
            self.values(
                address=address,
                delivery_id=delivery_id,
                nonce=nonce,
                leave_token=leave_token,
                preferences_token=preferences_token,
                at=at,
            )
        )

    def values(
        self,
        *,
        address: str,
        delivery_id: int,
        nonce: str,
        leave_token: str,
        preferences_token: str,
        at: datetime,
    ) -> tuple[bytes, ...]:
        """Return one reader's fields, encoded and checked, as `join` takes them.

        The Message-ID depends on the delivery and the nonce alone, so that a message
        sent again can be recognised. Raises InvalidInput for a field that is not what
        it should be.
        """
        return (
            *_tokens(leave_token, preferences_token),
            headers.checked_address(address).encode(),
            _date(at),
            b"<d%d%b" % (delivery_id, _id_after(nonce, self.domain)),
        )

    def plain_values(
        self,
        *,
        addresses: Sequence[str],
        delivery_ids: Sequence[int],
        nonce: str,
        leave_tokens: Sequence[str],
        preferences_tokens: Sequence[str],
        at: datetime,
    ) -> list[tuple[bytes, ...]] | None:
        """Return the fields of many readers, each as `values` does, at half the price.

        What is checked there one by one is checked here in one look. None if anything
        is unusual, which `values` then tells from what is wrong.
        """
        columns = [
            _plain_tokens(leave_tokens),
            _plain_tokens(preferences_tokens),
            headers.plain_addresses(addresses),
        ]
        if None in columns:
            return None
        leave, preferences, to = filter(None, columns)
        date, after = _date(at), _id_after(nonce, self.domain)
        named = [b"<d%d%b" % (number, after) for number in delivery_ids]
        return list(zip(leave, preferences, to, repeat(date), named, strict=False))

    def pieces(self, values: tuple[bytes, ...]) -> list[bytes]:
        """Put one reader's fields, from `values`, between the segments.

        What is small becomes one piece. The large ones are the same for all readers and
        are not copied before the wire: joined alone, bytes stay what they are.
        """
        parts = values + self.segments
        return [b"".join(run(parts)) for run in self._runs]

    def join(self, values: tuple[bytes, ...]) -> bytes:
        """Return one reader's message whole."""
        return b"".join(self.pieces(values))

    def pack(self) -> bytes:
        """Write it down for the database."""
        index = {
            "version": 1,
            "lengths": [len(segment) for segment in self.segments],
            "fields": self.fields,
            "domain": self.domain,
        }
        return json.dumps(index).encode() + b"\n" + b"".join(self.segments)

    @classmethod
    def unpack(cls, packed: bytes) -> "Frozen":
        """Read what `pack` wrote."""
        head, _, body = bytes(packed).partition(b"\n")
        index = json.loads(head)
        segments, start = [], 0
        for length in index["lengths"]:
            segments.append(body[start : start + length])
            start += length
        return cls(tuple(segments), tuple(index["fields"]), index["domain"])


def _runs(segments: Sequence[bytes], fields: Sequence[int]) -> Iterator[Pick]:
    """Yield what picks the parts of each piece out of the fields and the segments.

    A piece is one large segment, or what stands between two of them.
    """
    run: list[int] = []
    for number, segment in enumerate(segments):
        if len(segment) >= _LARGE:
            yield from _picking(run)
            yield from _picking([len(_FIELDS) + number])
            run = []
        else:
            run.append(len(_FIELDS) + number)
        run += fields[number : number + 1]
    yield from _picking(run)


def _picking(run: Sequence[int]) -> Iterator[Pick]:
    if len(run) == 1:
        yield itemgetter(slice(run[0], run[0] + 1))  # a tuple, as of several
    elif run:
        yield itemgetter(*run)


def freeze(letter: Letter) -> Frozen:
    """Turn a letter into segments. Raises InvalidInput if a header would not hold."""
    sender = headers.checked_address(letter.from_email)
    if not sender.isascii():
        raise InvalidInput(
            N_("The sender's address may hold only a-z, 0-9 and the usual signs."),
            field="from_email",
        )
    boundary = _boundary(letter)
    head = _header_block(letter, sender, boundary)
    body = (
        f"--{boundary}\r\n{_part('plain', letter.text)}\r\n"
        f"--{boundary}\r\n{_part('html', letter.html)}\r\n"
        f"--{boundary}--\r\n"
    )
    pieces = _FIELD.split(f"{head}\r\n{body}")
    frozen = Frozen(
        segments=tuple(piece.encode("ascii") for piece in pieces[::2]),
        fields=tuple(_FIELDS.index(piece) for piece in pieces[1::2]),
        domain=sender.rpartition("@")[2],
    )
    _check_headers(letter, frozen)
    return frozen


def message_id(delivery_id: int, nonce: str, domain: str) -> str:
    """Return the Message-ID of a delivery: the same each time, and nothing personal."""
    return f"<d{delivery_id:d}{_id_after(nonce, domain).decode()}"


def without_fields(text: str) -> str:
    """Return text or HTML whose personal links are nobody's."""
    return text.replace(LEAVE, NOBODY).replace(PREFERENCES, NOBODY)


def quoted_printable(text: str) -> str:
    """Encode a body part; each field in it gets a line to itself."""
    normal = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    return "\r\n".join("=\r\n".join(_pieces(line)) for line in normal.split("\n"))


def _pieces(line: str) -> list[str]:
    """Cut one line into what stands between its soft line breaks."""
    if line[-1:] in {" ", "\t"}:
        line, tail = line[:-1], f"={ord(line[-1]):02X}"
    else:
        tail = ""
    found: list[str] = []
    for part in _FIELD.split(line):
        if part in _FIELDS:
            found.append(part)
        elif part:
            found += _cut(_ESCAPED.sub(lambda run: _escape(run[0]), part))
    if tail:
        found.append(tail)
    return found or [""]


def _cut(encoded: str) -> list[str]:
    found, start = [], 0
    while start < len(encoded):
        head = ""
        if encoded[start] == "." or encoded.startswith("From ", start):
            head, start = f"={ord(encoded[start]):02X}", start + 1
        end = min(start + _BODY_LINE - len(head), len(encoded))
        if end < len(encoded) and (cut := encoded.rfind("=", end - 2, end)) >= 0:
            end = cut
        found.append(head + encoded[start:end])
        start = end
    return found


@functools.lru_cache(maxsize=4096)
def _escape(run: str) -> str:
    return "".join(f"={byte:02X}" for byte in run.encode(errors="replace"))


def _part(subtype: str, text: str) -> str:
    return (
        f"Content-Type: text/{subtype}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n"
        f"\r\n{quoted_printable(text)}\r\n"
    )


def _boundary(letter: Letter) -> str:
    """Return a boundary that quoted-printable text cannot hold ("=_")."""
    content = f"{letter.subject}\0{letter.text}\0{letter.html}"
    hashed = hashlib.blake2b(content.encode(errors="replace"), digest_size=12)
    return f"=_{hashed.hexdigest()}"


def _header_block(letter: Letter, sender: str, boundary: str) -> str:
    subject = headers.safe_text(letter.subject, headers.SUBJECT_LIMIT)
    name = headers.safe_text(letter.from_name, headers.NAME_LIMIT)
    lines = [
        ("From", headers.name_and_address(name, sender, len("From: "))),
        ("To", _ADDRESS),
        ("Subject", headers.encode_text(subject, len("Subject: "))),
        ("Date", _DATE),
        ("Message-ID", _MESSAGE_ID),
    ]
    if letter.reply_to:
        lines.append(("Reply-To", headers.checked_address(letter.reply_to)))
    if letter.kind in _WITH_LIST_HEADERS:
        lines += _list_headers(letter)
    lines += [
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
        ("Content-Language", _checked(_LANGUAGE, letter.language)),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/alternative;\r\n boundary="{boundary}"'),
    ]
    return "".join(f"{name}: {value}\r\n" for name, value in lines)


def _list_headers(letter: Letter) -> list[tuple[str, str]]:
    """Return the headers of a list's mail, URLs raw and unfolded (RFC 2369, 8058)."""
    lines = []
    if letter.list_id:
        name = headers.safe_text(letter.list_name, headers.NAME_LIMIT)
        list_id = _checked(_LIST_ID, letter.list_id)
        named = headers.name_and_address(name, list_id, len("List-Id: "))
        lines.append(("List-Id", named if name else f"<{list_id}>"))
    if letter.leave_url:
        if LEAVE not in letter.leave_url:
            raise InvalidInput(N_("The link to leave names no reader."))
        lines += [
            ("List-Unsubscribe", f"<{_checked(_URL, letter.leave_url)}>"),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ]
    if letter.archive_url:
        lines.append(("List-Archive", f"<{_checked(_URL, letter.archive_url)}>"))
    if letter.feedback_id:
        lines.append(("Feedback-ID", _checked(_FEEDBACK_ID, letter.feedback_id)))
    return [*lines, ("List-Post", "NO"), ("Precedence", "list")]


def _checked(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise InvalidInput(
            N_("%(value)s cannot stand in a mail's header."), value=ascii(value[:100])
        )
    return value


def _check_headers(letter: Letter, frozen: Frozen) -> None:
    """Read the block back as a receiver does; it must say what was meant, no more."""
    sample = frozen.splice(
        address="reader@example.org",
        delivery_id=1,
        nonce="n",
        leave_token=NOBODY,
        preferences_token=NOBODY,
        at=datetime.fromtimestamp(0, UTC),
    )
    block = sample.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0].decode() for line in _unfolded(block)]
    seen = BytesHeaderParser(policy=policy.default).parsebytes(block + b"\r\n\r\n")
    sender = seen["From"].addresses
    held = (
        names == seen.keys()
        and len(names) == len(set(names))
        and not seen.defects
        and str(seen["Subject"])
        == headers.safe_text(letter.subject, headers.SUBJECT_LIMIT)
        and len(sender) == 1
        and sender[0].addr_spec == headers.checked_address(letter.from_email)
        and _solid(sender[0].display_name)
        == _solid(headers.safe_text(letter.from_name, headers.NAME_LIMIT))
        and all("\n" not in value and "\r" not in value for value in seen.values())
    )
    if not held:
        raise InvalidInput(
            N_("The subject or the sender's name cannot stand in a mail's header."),
            field="subject",
        )


def _solid(text: str) -> str:
    """Drop spaces: Python's parser leaves one between encoded words of a name."""
    return "".join(text.split())


def _unfolded(block: bytes) -> list[bytes]:
    return re.sub(rb"\r\n[ \t]", b" ", block).split(b"\r\n")


def _tokens(leave: str, preferences: str) -> tuple[bytes, bytes]:
    """Encode two tokens, looked at together."""
    if len(leave) != TOKEN_CHARACTERS or not _TWO_TOKENS.fullmatch(leave + preferences):
        raise InvalidInput(N_("This is not a reader's token."), field="token")
    return leave.encode(), preferences.encode()


def _plain_tokens(tokens: Sequence[str]) -> list[bytes] | None:
    """Encode many tokens; None if one of them is none."""
    joined = "\n".join(tokens)
    if not _MANY_TOKENS.fullmatch(joined):
        return None
    found = joined.encode().split(b"\n")
    return found if len(found) == len(tokens) else None


@functools.lru_cache(maxsize=64)
def _id_after(nonce: str, domain: str) -> bytes:
    """Return what follows the delivery in a Message-ID."""
    if not _NONCE.fullmatch(nonce):
        raise InvalidInput(N_("This message cannot be named."), field="nonce")
    return f".{nonce}@{domain}>".encode()


@functools.lru_cache(maxsize=64)
def _date(at: datetime) -> bytes:
    if at.tzinfo is None:
        raise ValueError("naive datetime")
    return format_datetime(at.astimezone(UTC)).encode()
