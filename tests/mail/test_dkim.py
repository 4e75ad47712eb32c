"""Signatures, verified by a program that is not ours (dkimpy)."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.mail import keys, mime
from newsletter.mail.dkim import Seal
from newsletter.mail.keys import Key
from newsletter.mail.mime import Frozen
from newsletter.models import Algorithm, Kind
from tests.factories import NOW
from tests.mail.dkim_verifier import verdicts
from tests.mail.letters import LEAVE_URL, make_letter

DOMAIN = "allmannyttan.example"
RSA = keys.make(DOMAIN, "rsa1", Algorithm.RSA)
ED = keys.make(DOMAIN, "ed1", Algorithm.ED25519)
CHOICES = {"rsa": [RSA], "ed25519": [ED], "both": [RSA, ED]}
PREFERENCES_URL = f"https://post.example/preferences/{mime.PREFERENCES}"
READER = "anna.oberg@exempel.example"

in_letters = st.text(
    alphabet=st.one_of(
        st.characters(min_codepoint=32, max_codepoint=126),
        st.sampled_from("åäöÅÄÖé–…’”\n\t  =.😀"),
    ),
    max_size=400,
)
local_parts = st.text(alphabet="abcåäöüñ漢ก.-+_", min_size=1, max_size=20).filter(
    lambda text: ".." not in text and not text.startswith(".") and text[-1] != "."
)


def fields(frozen: Frozen, number: int = 1, address: str = READER) -> tuple[bytes, ...]:
    return frozen.values(
        address=address,
        delivery_id=number,
        nonce="n0",
        leave_token=f"{number:022d}",
        preferences_token=f"{number:021d}x",
        at=NOW + timedelta(seconds=number),
    )


def signed(frozen: Frozen, chosen: list[Key], number: int = 1, **over: str) -> bytes:
    values = fields(frozen, number, **over)
    return Seal(frozen, chosen).sign(values, NOW) + frozen.join(values)


def digest() -> Frozen:
    return mime.freeze(
        make_letter(
            text=f"Hej  du\tdär \n\n{LEAVE_URL}\n{PREFERENCES_URL}\n\n\n",
            html=f'<a href="{LEAVE_URL}">bort</a>  <a href="{PREFERENCES_URL}">val</a>',
            reply_to="svar@allmannyttan.example",
        )
    )


def header_of(message: bytes) -> dict[str, str]:
    unfolded = re.sub(rb"\r\n[ \t]+", b" ", message.partition(b"\r\n\r\n")[0])
    first = unfolded.split(b"\r\n")[0].decode()
    assert first.startswith("DKIM-Signature: ")
    tags = first.removeprefix("DKIM-Signature: ").split(";")
    return {
        name.strip(): "".join(value.split())
        for name, _, value in (tag.partition("=") for tag in tags)
    }


@pytest.mark.parametrize("kind", CHOICES)
def test_an_independent_verifier_believes_the_signatures(kind: str) -> None:
    chosen = CHOICES[kind]
    assert verdicts(signed(digest(), chosen), chosen) == [True] * len(chosen)


@pytest.mark.parametrize("kind", [Kind.CONFIRM, Kind.WELCOME, Kind.NOTICE, Kind.TEST])
def test_every_kind_of_mail_can_be_signed(kind: Kind) -> None:
    frozen = mime.freeze(make_letter(kind))
    assert verdicts(signed(frozen, [RSA, ED]), [RSA, ED]) == [True, True]


def test_what_is_put_before_a_message_is_fit_for_the_wire() -> None:
    frozen = digest()
    block = Seal(frozen, [RSA, ED]).sign(fields(frozen), NOW)
    assert block.endswith(b"\r\n")
    lines = block.removesuffix(b"\r\n").split(b"\r\n")
    assert all(0 < len(line) <= 78 and not line.startswith(b".") for line in lines)
    assert b"\n" not in b"".join(lines)
    assert sum(line.startswith(b"DKIM-Signature:") for line in lines) == 2
    message = block + frozen.join(fields(frozen))
    assert message.endswith(frozen.join(fields(frozen)))


def test_the_signature_says_what_it_covers() -> None:
    tags = header_of(signed(digest(), [ED]))
    assert tags["a"] == "ed25519-sha256"
    assert tags["c"] == "relaxed/relaxed"
    assert (tags["d"], tags["s"]) == (DOMAIN, "ed1")
    assert tags["t"] == str(int(NOW.timestamp()))
    assert not {"l", "x"} & set(tags)
    names = tags["h"].lower().split(":")
    assert sorted(names) == sorted(
        [
            *("from", "from", "subject", "subject", "date", "date", "to"),
            *("message-id", "mime-version", "content-type", "reply-to", "list-id"),
            *("list-unsubscribe", "list-unsubscribe-post", "feedback-id"),
            "auto-submitted",
        ]
    )


def test_headers_that_are_not_there_are_not_named() -> None:
    tags = header_of(signed(mime.freeze(make_letter(Kind.CONFIRM)), [ED]))
    assert "list-" not in tags["h"].lower()
    assert "reply-to" not in tags["h"].lower()


@pytest.mark.parametrize("given_keys", [[RSA, ED], [ED, RSA]])
def test_rsa_stands_first_for_verifiers_that_look_at_one(
    given_keys: list[Key],
) -> None:
    message = signed(digest(), given_keys)
    assert header_of(message)["a"] == "rsa-sha256"
    assert Seal(digest(), given_keys).slow


def test_only_rsa_is_slow() -> None:
    assert not Seal(digest(), [ED]).slow
    assert Seal(digest(), [RSA]).slow
    assert not Seal(digest(), []).slow


def first(pattern: str, replacement: str) -> Callable[[bytes], bytes]:
    def tamper(message: bytes) -> bytes:
        changed, times = re.subn(
            pattern.encode(), replacement.encode(), message, count=1
        )
        assert times == 1
        return changed

    return tamper


TAMPERINGS = {
    "a word of the body": first(r"(?s)(\r\n\r\n.*?)Hej", r"\1Nej"),
    "a reader's link in the body": first(
        r"(?s)(\r\n\r\n.*)0{21}1", "\\1" + "0" * 21 + "2"
    ),
    "more at the end": lambda message: message + b"<p>och mer</p>\r\n",
    "the end cut off": lambda message: message[:-40],
    "another From": first(r"\r\nFrom: [^\r]*", "\r\nFrom: evil@x.example"),
    "a second From above": first(r"^", "From: evil@x.example\r\n"),
    "a second From below": first(r"\r\n\r\n", "\r\nFrom: evil@x.example\r\n\r\n"),
    "a second Subject": first(r"^", "Subject: Vinst!\r\n"),
    "a second Date": first(r"^", "Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n"),
    "another Subject": first(r"\r\nSubject: ", "\r\nSubject: x"),
    "another To": first(r"\r\nTo: anna", "\r\nTo: bert"),
    "another Date": first(r"\r\nDate: Sun", "\r\nDate: Mon"),
    "another Message-ID": first(r"<d1\.n0", "<d2.n0"),
    "another Reply-To": first(r"Reply-To: svar", "Reply-To: evil"),
    "no Reply-To": first(r"\r\nReply-To: [^\r]*", ""),
    "no List-Unsubscribe-Post": first(r"\r\nList-Unsubscribe-Post: [^\r]*", ""),
    "no List-Unsubscribe": first(r"\r\nList-Unsubscribe: [^\r]*", ""),
    "another List-Unsubscribe": first(r"(List-Unsubscribe: <https://)post", r"\1evil"),
    "another boundary": first(r'boundary="', 'boundary="x'),
    "another time in the signature": first(r"t=\d", "t=9"),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_what_was_tampered_with_is_not_believed(what: str) -> None:
    message = TAMPERINGS[what](signed(digest(), [RSA, ED]))
    assert verdicts(message, [RSA, ED])[0] is False
    if what != "another time in the signature":  # that of the topmost alone
        assert verdicts(message, [RSA, ED]) == [False, False]


def test_white_space_that_relays_touch_changes_nothing() -> None:
    message = signed(digest(), [RSA, ED])
    head, _, body = message.partition(b"\r\n\r\n")
    head = head.replace(b"\r\nSubject: ", b"\r\nSUBJECT:   ")
    head = head.replace(b"\r\nReply-To: ", b"\r\nReply-To:\r\n\t")
    touched = head + b"\r\n\r\n" + body.replace(b"\r\n", b" \t\r\n") + b"\r\n\r\n"
    assert verdicts(touched, [RSA, ED]) == [True, True]


def test_one_seal_signs_for_many_readers() -> None:
    frozen = digest()
    seal = Seal(frozen, [ED])
    blocks = {}
    for number in range(50):
        values = fields(frozen, number, address=f"reader{number}@exempel.example")
        blocks[number] = seal.sign(values, NOW + timedelta(seconds=number))
        assert verdicts(blocks[number] + frozen.join(values), [ED]) == [True]
    assert len(set(blocks.values())) == 50
    assert verdicts(blocks[1] + frozen.join(fields(frozen, 2)), [ED]) == [False]


def test_threads_share_a_seal() -> None:
    frozen = digest()
    seal = Seal(frozen, [RSA, ED])

    def sign(number: int) -> bytes:
        values = fields(frozen, number)
        return seal.sign(values, NOW) + frozen.join(values)

    with ThreadPoolExecutor(8) as threads:
        messages = list(threads.map(sign, range(80)))
    assert messages == [sign(number) for number in range(80)]  # both are deterministic
    assert all(verdicts(message, [RSA, ED]) == [True, True] for message in messages)


def test_a_letter_from_the_database_is_signed_alike() -> None:
    frozen = digest()
    unpacked = Frozen.unpack(frozen.pack())
    values = fields(frozen)
    assert Seal(unpacked, [ED]).sign(values, NOW) == Seal(frozen, [ED]).sign(
        values, NOW
    )


def test_without_a_key_nothing_is_put_before_the_message() -> None:
    frozen = digest()
    assert Seal(frozen, []).sign(fields(frozen), NOW) == b""


def test_a_key_of_another_domain_does_not_sign() -> None:
    frozen = digest()
    strangers = [
        keys.make(domain, "s", Algorithm.ED25519)
        for domain in ("other.example", f"x.{DOMAIN}", f"x{DOMAIN}")
    ]
    assert Seal(frozen, strangers).sign(fields(frozen), NOW) == b""


def test_a_key_of_the_domain_above_signs() -> None:
    frozen = mime.freeze(make_letter(from_email="brev@Nyheter.Allmannyttan.Example"))
    message = signed(frozen, [ED])
    assert verdicts(message, [ED]) == [True]
    assert header_of(message)["d"] == DOMAIN


@settings(max_examples=60, deadline=None)
@given(
    text=in_letters,
    html=in_letters,
    subject=in_letters,
    name=in_letters,
    local=local_parts,
)
def test_whatever_is_written_to_whomever_the_signature_holds(
    text: str, html: str, subject: str, name: str, local: str
) -> None:
    frozen = mime.freeze(
        make_letter(
            text=f"{text}{LEAVE_URL} {text}\n{PREFERENCES_URL}",
            html=f"{html}{LEAVE_URL}{html}{PREFERENCES_URL}{text}",
            subject=subject,
            from_name=name,
            list_name=name,
        )
    )
    message = signed(frozen, [ED], address=f"{local}@räksmörgås.example")
    assert verdicts(message, [ED]) == [True]


blanks = st.text(alphabet=" \tab\n", max_size=12).map(
    lambda text: text.replace("\n", "\r\n").encode()
)


@settings(max_examples=200, deadline=None)
@given(segments=st.lists(blanks, min_size=1, max_size=5), subject=blanks)
def test_any_white_space_around_fields_is_read_as_the_verifier_reads_it(
    segments: list[bytes], subject: bytes
) -> None:
    subject = re.sub(rb"\r\n(?![ \t]*[ab])[ \t]*", b"", subject).replace(
        b"\r\n", b"\r\n "
    )
    head = b"From:  a@" + DOMAIN.encode() + b"\r\nSubject: x" + subject + b"\r\nTo: \t"
    middle = b" \r\nDate:\t"
    segments[0] = b"\r\n\r\n" + segments[0]
    frozen = Frozen(
        (head, middle, *segments[:-1], segments[-1] + b"\r\n"),
        (2, 3, *[0] * (len(segments) - 1)),
        DOMAIN,
    )
    values = fields(frozen)
    message = Seal(frozen, [ED]).sign(values, NOW) + frozen.join(values)
    assert verdicts(message, [ED]) == [True]


def test_the_moment_is_that_of_the_clock_not_of_the_place() -> None:
    frozen = digest()
    stockholm = datetime.fromisoformat("2026-11-22T13:00:00+01:00")
    same = datetime(2026, 11, 22, 12, tzinfo=UTC)
    seal = Seal(frozen, [ED])
    values = fields(frozen)
    assert seal.sign(values, stockholm) == seal.sign(values, same)


def test_dkimpy_signs_the_same_bytes_the_same() -> None:
    """RSA with PKCS #1 v1.5 is deterministic: two programs, one body hash."""
    frozen = digest()
    message = frozen.join(fields(frozen))
    theirs = dkim.sign(
        message,
        b"s",
        DOMAIN.encode(),
        _pem(RSA),
        canonicalize=(b"relaxed", b"relaxed"),
    )
    ours = header_of(signed(frozen, [RSA]))
    assert header_of(theirs + message)["bh"] == ours["bh"]


def _pem(key: Key) -> bytes:
    return key.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
