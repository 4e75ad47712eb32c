"""DKIM signatures for frozen letters, at the speed of splicing. No database.

Everything that a letter's readers share is done once, when a `Seal` is made: the
segments are canonicalised, and what lies before the first personal field of the body is
hashed, as are the headers that are the same for all. A reader's fields hold no white
space that canonicalisation would touch, so for each reader only hashing and signing
remain. A `Seal` is never changed, so that threads may share one.

The signature is `relaxed/relaxed`, which costs nothing extra here. RSA stands first:
some verifiers look at one signature alone, and others do not know Ed25519. Neither
length (l=) nor expiry (x=) is given: one lets anybody append, the other dates a mail
that waits.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from newsletter.mail.keys import Key, covers
from newsletter.mail.mime import Frozen
from newsletter.models import Algorithm

SIGNED = (
    *("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"),
    *("Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Id"),
    *("Feedback-ID", "Auto-Submitted"),
)
# Signed once more than they are there, so that nobody can add one (RFC 6376 §8.15).
SIGNED_ABSENT = ("From", "Subject", "Date")

_GAP = re.compile(rb"\0(\d+)\0")
_LINE = 72  # of h= and b=


class Seal:
    """What signs one frozen letter, for any number of readers."""

    def __init__(self, frozen: Frozen, keys: Sequence[Key]) -> None:
        """Prepare all that readers share; keys of other senders' domains stay out."""
        head, body = _canonical(frozen)
        chosen = [name for name in SIGNED if name.lower() in head]
        # Those with a reader's fields last: what is before them is hashed once.
        chosen.sort(key=lambda name: b"\0" in head[name.lower()])
        signed = b"".join(head[name.lower()] for name in chosen)
        self._head = _Hashed(signed, frozen.domain)
        self._body = _Hashed(body, frozen.domain)
        self._signatures = [
            _Signature(key, [*chosen, *SIGNED_ABSENT])
            for key in sorted(keys, key=_is_slow, reverse=True)
            if covers(key.domain, frozen.domain)
        ]
        self.slow = any(_is_slow(signature.key) for signature in self._signatures)

    def sign(self, values: tuple[bytes, ...], at: datetime) -> bytes:
        """Return the headers to put before one reader's message.

        `values` are those that `Frozen.values` returned for it.
        """
        if not self._signatures:
            return b""
        body_hash = base64.b64encode(self._body.filled(values).digest())
        head = self._head.filled(values)
        seconds = int(at.timestamp())
        return b"".join(
            signature.written(head.copy(), seconds, body_hash)
            for signature in self._signatures
        )


class _Signature:
    """One key's header, ready but for the time, the body's hash and the signature."""

    def __init__(self, key: Key, names: Sequence[str]) -> None:
        self.key = key
        self._written = (
            f"DKIM-Signature: v=1; a={key.algorithm}-sha256; c=relaxed/relaxed;\r\n"
            f" d={key.domain}; s={key.selector};\r\n"
            f" h={_folded(names)};\r\n"
            " t=%d; bh=%s;\r\n"
            " b="
        ).encode()
        name, _, value = _unfolded(self._written).partition(b":")
        self._canonical = name.lower() + b":" + _relaxed(value).strip()

    def written(self, head: "hashlib._Hash", seconds: int, body_hash: bytes) -> bytes:
        head.update(self._canonical % (seconds, body_hash))
        signature = base64.b64encode(self.key.sign(head.digest()))
        lines = (
            signature[start : start + _LINE]
            for start in range(0, len(signature), _LINE)
        )
        start = self._written % (seconds, body_hash)
        return start + b"\r\n ".join(lines) + b"\r\n"


class _Hashed:
    """Canonical bytes with gaps, hashed up to the first of them."""

    def __init__(self, gapped: bytes, domain: str) -> None:
        pieces = _GAP.split(gapped)
        first, *segments = pieces[::2]
        self._rest = Frozen((b"", *segments), tuple(map(int, pieces[1::2])), domain)
        self._hash = hashlib.sha256(first)

    def filled(self, values: tuple[bytes, ...]) -> "hashlib._Hash":
        found = self._hash.copy()
        found.update(self._rest.join(values))
        return found


def _canonical(frozen: Frozen) -> tuple[dict[str, bytes], bytes]:
    """Return the headers by name and the body, relaxed, with marks for the gaps."""
    marks = (b"\0%d\0" % number for number in frozen.fields)
    pieces = [frozen.segments[0]]
    for mark, segment in zip(marks, frozen.segments[1:], strict=True):
        pieces += (mark, segment)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    headers = {}
    for line in _unfolded(head).split(b"\r\n"):
        name, _, value = line.partition(b":")
        key = name.strip().lower()
        headers[key.decode()] = key + b":" + _relaxed(value).strip() + b"\r\n"
    kept = _relaxed(body).rstrip(b" \r\n")  # RFC 6376 §3.4.4: no empty lines at the end
    return headers, kept + b"\r\n" if kept else b""


def _relaxed(data: bytes) -> bytes:
    """Reduce white space as RFC 6376 §3.4.2 and §3.4.4 tell."""
    data = data.replace(b"\t", b" ")
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data.replace(b" \r\n", b"\r\n")


def _unfolded(data: bytes) -> bytes:
    return data.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")


def _folded(names: Iterable[str]) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) >= _LINE:
            lines.append("")
        lines[-1] += f"{name}:"
    return "\r\n ".join(lines).rstrip(":")


def _is_slow(key: Key) -> bool:
    return key.algorithm is Algorithm.RSA
