"""What a DKIM signature costs for a digest of 30 kB, beside dkimpy.

    .venv/bin/python -m benchmarks.dkim

Medians of seven rounds, in microseconds, on one thread; then rates on two.
"""

import base64
import hashlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import dkim
from cryptography.hazmat.primitives import serialization

from newsletter.mail import keys, mime
from newsletter.mail.dkim import Seal
from newsletter.models import Algorithm, Kind

ROUNDS = 7
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LEAVE = f"https://post.example/unsubscribe/{mime.LEAVE}"
CHOICE = f"https://post.example/preferences/{mime.PREFERENCES}"
WORDS = "Mötesplatsen i Lina Hage arrangerade nyligen en egen kväll för tjejer. "
DOMAIN = "blogg.example"


def microseconds(work: Callable[[], object], times: int) -> float:
    """Return the median time of one call."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(found)


def per_second(work: Callable[[], object], times: int, threads: int) -> float:
    """Return how many calls a second that many threads manage together."""

    def repeat() -> None:
        for _ in range(times):
            work()

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(repeat) for _ in range(threads)]:
            future.result()
    return times * threads / (time.perf_counter() - began)


def digest() -> mime.Frozen:
    """Freeze a digest of about 30 kB with the usual personal links."""
    return mime.freeze(
        mime.Letter(
            kind=Kind.DIGEST,
            language="sv",
            subject="Nya inlägg från labbet",
            from_name="Labbet",
            from_email=f"brev@{DOMAIN}",
            text=f"{WORDS * 80}\n\n{LEAVE}\n{CHOICE}\n",
            html=f'<p>{WORDS * 240}</p><a href="{LEAVE}">-</a><a href="{CHOICE}">-</a>',
            list_id="labbet.post.example",
            leave_url=LEAVE,
            feedback_id="i1:labbet:digest:inkorg",
        )
    )


def main() -> None:
    """Measure and print."""
    frozen = digest()
    values = frozen.values(
        address="anna@exempel.example",
        delivery_id=1,
        nonce="n",
        leave_token="a" * 22,
        preferences_token="b" * 22,
        at=NOW,
    )
    message = frozen.join(values)
    rsa = keys.make(DOMAIN, "r", Algorithm.RSA)
    ed = keys.make(DOMAIN, "e", Algorithm.ED25519)
    pem = rsa.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    seed = base64.b64encode(ed.private.private_bytes_raw())  # type: ignore[union-attr]
    sealed = {"Ed25519": Seal(frozen, [ed]), "RSA-2048": Seal(frozen, [rsa])}
    sealed["both"] = Seal(frozen, [rsa, ed])

    def theirs(algorithm: bytes, selector: bytes, private: bytes) -> object:
        return dkim.sign(
            message,
            selector,
            DOMAIN.encode(),
            private,
            canonicalize=(b"relaxed", b"relaxed"),
            signature_algorithm=algorithm,
        )

    rows = {
        "join": microseconds(lambda: frozen.join(values), 2000),
        "SHA-256 of it": microseconds(lambda: hashlib.sha256(message).digest(), 2000),
        "Ed25519 alone": microseconds(lambda: ed.sign(b"0" * 32), 2000),
        "RSA-2048 alone": microseconds(lambda: rsa.sign(b"0" * 32), 300),
        "prepare a Seal": microseconds(lambda: Seal(frozen, [rsa, ed]), 200),
    }
    for name, seal in sealed.items():
        rows[f"sign, {name}"] = microseconds(lambda s=seal: s.sign(values, NOW), 500)
    rows["dkimpy, Ed25519"] = microseconds(
        lambda: theirs(b"ed25519-sha256", b"e", seed), 100
    )
    rows["dkimpy, RSA-2048"] = microseconds(
        lambda: theirs(b"rsa-sha256", b"r", pem), 10
    )
    print(f"a digest of {len(message)} bytes, {len(frozen.fields)} fields")
    for name, cost in rows.items():
        print(f"{name:20} {cost:8.1f} µs")
    for name in ("Ed25519", "RSA-2048"):
        ours = rows[f"sign, {name}"]
        rates = [
            per_second(lambda s=sealed[name]: s.sign(values, NOW), 1500, threads)
            for threads in (1, 2)
        ]
        print(
            f"{name}: dkimpy takes {rows[f'dkimpy, {name}'] / ours:.0f} times as long;"
            f" {rates[0]:,.0f}/s on one thread, {rates[1]:,.0f}/s on two"
        )


if __name__ == "__main__":
    main()
