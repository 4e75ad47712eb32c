"""Text that becomes a mail header: made safe, then encoded. Pure.

Outside text (a post's title, a sender's name) must not end a header, start another or
be decoded into one: Python's own parser, like many others, decodes encoded words that
it finds in text, line breaks included. So control characters and "=?" do not pass.
"""

import base64
import re
import unicodedata
from collections.abc import Iterator, Sequence

import idna

from newsletter.errors import N_, InvalidInput

SUBJECT_LIMIT = 200
NAME_LIMIT = 120
LINE = 76  # of a header line with encoded words in it, RFC 2047 §2
WORD = 75  # of one encoded word, RFC 2047 §2
FOLD = "\r\n "

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_Q_SAFE = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
)
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a1-\U0010ffff-]+(?:\.[^.]+)*")
_LOCAL_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0<>()\[\],;:\\\"@]")
_SHORT = 63  # no part of it is too long
_PLAIN_PATTERN = (  # nearly every address; what it takes the careful way takes too
    r"[A-Za-z0-9_+-]++(?:\.[A-Za-z0-9_+-]++)*+@"
    r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+(?:\.[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+)*+"
)
_PLAIN = re.compile(_PLAIN_PATTERN)
_MANY_PLAIN = re.compile(f"(?:{_PLAIN_PATTERN}\n)*+{_PLAIN_PATTERN}")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
# Joiners that emoji and several scripts need, among characters that are dropped.
_JOINERS = frozenset("\u200c\u200d")


def safe_text(text: str, limit: int) -> str:
    """Return `text` on one line, without anything a header could trip over."""
    kept = "".join(_kept(text[: limit * 4]))
    line = " ".join(unicodedata.normalize("NFC", kept).split())
    line = line.replace("=?", "= ?")
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def encode_text(text: str, column: int) -> str:
    """Encode safe text for an unstructured header that starts at `column`, folded."""
    if text.isascii() and (folded := _fold(text, column)) is not None:
        return folded
    return FOLD.join(_encoded_words(text, column))


def encode_phrase(text: str, column: int) -> str:
    """Encode safe text for the place before an address: a name (RFC 5322 phrase)."""
    if text.isascii() and len(text) <= LINE - column:
        if _ATOMS.fullmatch(text):
            return text
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        if len(escaped) + 2 <= LINE - column:
            return f'"{escaped}"'
    return FOLD.join(_encoded_words(text, column))


def name_and_address(name: str, address: str, column: int) -> str:
    """Write `Name <address>`; the name is safe text, the address checked."""
    if not name:
        return address
    phrase = encode_phrase(name, column)
    last = phrase.rpartition(FOLD)[2]
    used = len(last) + (1 if FOLD in phrase else column)
    fits = used + len(address) + 3 <= LINE
    return f"{phrase}{' ' if fits else FOLD}<{address}>"


def checked_address(address: str) -> str:
    """Return `address` fit for a header and an envelope; its domain as A-labels.

    A local part may hold letters beyond ASCII: such an address needs SMTPUTF8.
    Raises InvalidInput for anything that is not plainly one address.
    """
    if len(address) <= _SHORT and _PLAIN.fullmatch(address):
        return address
    local, at, domain = address.rpartition("@")
    if at and not domain.isascii():
        domain = _ascii_domain(domain)
    if not (at and _is_local(local) and _DOMAIN.fullmatch(domain)):
        raise InvalidInput(
            N_("%(address)s is not an e-mail address."),
            field="email",
            address=ascii(address[:100]),
        )
    return f"{local}@{domain}"


def plain_addresses(addresses: Sequence[str]) -> list[bytes] | None:
    """Encode many addresses; None if one is not so plain as nearly all are."""
    joined = "\n".join(addresses)
    if not _MANY_PLAIN.fullmatch(joined):
        return None
    found = joined.encode().split(b"\n")
    many = len(found) == len(addresses) and max(map(len, found)) <= _SHORT
    return found if many else None


def _is_local(local: str) -> bool:
    return bool(
        len(local.encode(errors="replace")) <= 64
        and _LOCAL.fullmatch(local)
        and not local.endswith(".")
        and not _LOCAL_FORBIDDEN.search(local)
        and local.isprintable()
        and "=?" not in local
    )


def _ascii_domain(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return ""


def _kept(text: str) -> Iterator[str]:
    for char in text:
        category = unicodedata.category(char)
        if category in {"Cc", "Zl", "Zp"}:
            yield " "
        elif category not in {"Cs", "Cf", "Co", "Cn"} or char in _JOINERS:
            yield char


def _fold(text: str, column: int) -> str | None:
    """Fold before spaces, or None where a word is longer than a line."""
    lines = [""]
    for number, word in enumerate(text.split(" ")):
        room = LINE - (column if len(lines) == 1 else 0)
        gap = " " if number else ""
        if len(lines[-1]) + len(gap) + len(word) <= room:
            lines[-1] += gap + word
        elif number and len(word) < LINE:
            lines.append(" " + word)
        else:
            return None
    return "\r\n".join(lines)


def _encoded_words(text: str, column: int) -> list[str]:
    """Cut text into encoded words, never inside a character (RFC 2047 §5)."""
    raw = text.encode()
    letter = (
        "q"
        if sum(byte in _Q_SAFE or byte == 32 for byte in raw) * 2 > len(raw)
        else "b"
    )
    encode = _q if letter == "q" else _b
    words: list[str] = []
    part = ""
    for char in text:
        room = min(WORD, LINE - (1 if words else column)) - len("=?utf-8?q??=")
        if part and len(encode(part + char)) > room:
            words.append(part)
            part = ""
        part += char
    words.append(part)
    return [f"=?utf-8?{letter}?{encode(word)}?=" for word in words]


def _q(text: str) -> str:
    return "".join(
        "_" if byte == 32 else chr(byte) if byte in _Q_SAFE else f"={byte:02X}"
        for byte in text.encode()
    )


def _b(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
