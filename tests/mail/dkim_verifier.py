"""DKIM as a receiver sees it: dkimpy, and a DNS that knows the keys it is given."""

import re
from collections.abc import Sequence

import dkim

from newsletter.mail import keys
from newsletter.mail.keys import Key


def verdicts(message: bytes, known: Sequence[Key]) -> list[bool]:
    """Return what dkimpy says of each signature, the topmost first."""
    zone = {
        f"{keys.record_name(key.domain, key.selector)}.": keys.record(
            key.algorithm, key.public
        ).encode()
        for key in known
    }

    def lookup(name: bytes | str, timeout: float = 5) -> bytes | None:
        return zone.get(name.decode() if isinstance(name, bytes) else name)

    def verdict(number: int) -> bool:
        try:
            return bool(dkim.DKIM(message).verify(idx=number, dnsfunc=lookup))
        except dkim.DKIMException:
            return False

    found = re.findall(rb"(?mi)^DKIM-Signature:", message.partition(b"\r\n\r\n")[0])
    return [verdict(number) for number in range(len(found))]
