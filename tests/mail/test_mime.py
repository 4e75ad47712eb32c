"""Letters as bytes: the standards, read back by a parser that is not ours.

Ids such as STD-004 name a requirement of a mail standard; each test quotes its own.
"""

import base64
import email
import quopri
import re
from datetime import UTC, datetime, timedelta
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.errors import InvalidInput
from newsletter.mail import headers, mime
from newsletter.models import Kind
from tests.factories import NOW
from tests.mail.letters import LEAVE_URL, make_letter

LEAVE_TOKEN = "Ab_-" * 5 + "Zz"
PREFERENCES_TOKEN = "9x-_" * 5 + "Qq"
READER = "anna.oberg@exempel.example"

HOSTILE = [
    "Hej\r\nBcc: evil@x.example",
    "Hej\nBcc: evil@x.example",
    "Hej\rBcc: evil@x.example",
    "=?utf-8?q?Hej=0D=0ABcc:_evil@x.example?=",
    "=?utf-8?b?SGVqDQpCY2M6IGV2aWxAeC5leGFtcGxl?=",
    "a =?utf-8?q?=0D=0A=0D=0A<html>?= b",
    "\x00\x01\x1f\x7f\x85\x9f",
    "rad\u2028ett\u2029två\x0bx\x0cy",
    "=?=?utf-8?q?x?=?=",
    "=\u200b?utf-8?q?=0D=0ABcc:_x?=",
    "\u202eevil\u202c \u2066x\u2069",
    "\ud800 ensam",
    "x" * 10_000,
    "å" * 10_000,
    " ".join(["ord"] * 3000),
    '"; <evil@x.example>, "',
    "evil@x.example, other@x.example",
    "Namn <evil@x.example>",
    "\\",
    '"',
    "(kommentar",
    "",
    " ",
    "=?",
    "?=",
    "a,b;c:d",
]

swedish = st.text(
    alphabet=st.one_of(
        st.sampled_from("abcåäöÅÄÖéü –—”’… .,:;!?=_-\"'()<>@[]\\/%&+#*"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=300,
)


def splice(letter: mime.Letter, **over: Any) -> bytes:
    values: dict[str, Any] = {
        "address": READER,
        "delivery_id": 7,
        "nonce": "n0nce",
        "leave_token": LEAVE_TOKEN,
        "preferences_token": PREFERENCES_TOKEN,
        "at": NOW,
    }
    return mime.freeze(letter).splice(**{**values, **over})


def parse(data: bytes) -> EmailMessage:
    message = email.message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def read(letter: mime.Letter, **over: Any) -> EmailMessage:
    return parse(splice(letter, **over))


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def header_lines(data: bytes) -> list[bytes]:
    return data.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_a_digest_has_the_headers_of_the_contract() -> None:
    message = read(make_letter(reply_to="svar@allmannyttan.example"))
    found = {name: str(value) for name, value in message.items()}
    assert re.fullmatch(
        r'multipart/alternative; boundary="=_\w+"', found["Content-Type"]
    )
    del found["Content-Type"]
    assert found == {
        "From": "Innovationslabbet <labbet@allmannyttan.example>",
        "To": READER,
        "Subject": "Nya inlägg från Innovationslabbet",
        "Date": "Sun, 22 Nov 2026 12:00:00 +0000",
        "Message-ID": "<d7.n0nce@allmannyttan.example>",
        "Reply-To": "svar@allmannyttan.example",
        "List-Id": "Allmännyttans innovationslabb <labbet.post.example>",
        "List-Unsubscribe": f"<https://post.example/unsubscribe/{LEAVE_TOKEN}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Archive": "<https://post.example/labbet/issues/>",
        "List-Post": "NO",
        "Feedback-ID": "i1:labbet:digest:inkorg",
        "Precedence": "list",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "Content-Language": "sv",
        "MIME-Version": "1.0",
    }


@pytest.mark.parametrize("kind", [k for k in Kind if k not in {Kind.DIGEST, Kind.TEST}])
def test_single_mails_have_no_list_headers(kind: Kind) -> None:
    """STD-037."""
    message = read(make_letter(kind))
    assert message["Auto-Submitted"] == "auto-generated"
    assert not [name for name in message if name.startswith(("List-", "Precedence"))]


def test_a_message_is_a_readers_fields_put_between_the_segments() -> None:
    frozen = mime.freeze(make_letter())
    reader: dict[str, Any] = {
        "address": "anna@räksmörgås.example",
        "delivery_id": 7,
        "nonce": "n0nce",
        "leave_token": LEAVE_TOKEN,
        "preferences_token": PREFERENCES_TOKEN,
        "at": NOW,
    }
    values = frozen.values(**reader)
    assert values == (
        LEAVE_TOKEN.encode(),
        PREFERENCES_TOKEN.encode(),
        b"anna@xn--rksmrgs-5wao1o.example",
        b"Sun, 22 Nov 2026 12:00:00 +0000",
        b"<d7.n0nce@allmannyttan.example>",
    )
    assert frozen.join(values) == frozen.splice(**reader)


def test_each_header_stands_once() -> None:
    """STD-001."""
    message = read(make_letter())
    assert len(message.keys()) == len(set(message.keys()))
    assert "Bcc" not in message


@pytest.mark.parametrize("text", [*HOSTILE, "En lång svensk rubrik, åäö. " * 12])
def test_lines_are_short_and_end_in_crlf(text: str) -> None:
    """STD-002, STD-007, F2."""
    data = splice(make_letter(subject=text, from_name=text, list_name=text, text=text))
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert b"\r" not in data.replace(b"\r\n", b"")
    for line in data.split(b"\r\n"):
        assert len(line) <= 78
        assert not line.startswith(b".")
    assert data.isascii()
    assert data.endswith(b"\r\n")


def test_the_message_id_names_the_delivery_and_nothing_else() -> None:
    """STD-003."""
    letter = make_letter()
    first = read(letter)["Message-ID"]
    later = read(letter, at=NOW + timedelta(days=1), address="b@c.example")
    assert first == later["Message-ID"]
    assert first != read(letter, delivery_id=8)["Message-ID"]
    assert READER not in first


@settings(deadline=None)
@given(text=swedish)
def test_any_subject_reads_back_as_it_was_made_safe(text: str) -> None:
    """STD-004, STD-005."""
    data = splice(make_letter(subject=text))
    assert parse(data)["Subject"] == headers.safe_text(text, headers.SUBJECT_LIMIT)
    assert_encoded_words_are_right(data)


@settings(deadline=None)
@given(text=swedish)
def test_any_sender_name_reads_back_as_it_was_made_safe(text: str) -> None:
    data = splice(make_letter(from_name=text, list_name=text))
    message = parse(data)
    [sender] = message["From"].addresses
    safe = headers.safe_text(text, headers.NAME_LIMIT)
    assert sender.addr_spec == "labbet@allmannyttan.example"
    assert "".join(sender.display_name.split()) == "".join(safe.split())
    assert decoded(data, "From") in names(safe, "labbet@allmannyttan.example")
    assert decoded(data, "List-Id") in names(safe, "labbet.post.example")
    assert_encoded_words_are_right(data)


def decoded(data: bytes, name: str) -> str:
    """Decode a header the old way, which knows names of several encoded words."""
    raw = email.message_from_bytes(data)[name]
    return str(make_header(decode_header(raw)))


def names(name: str, address: str) -> set[str]:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    bare = address if "@" in address else f"<{address}>"
    return {f"{name} <{address}>", f'"{quoted}" <{address}>', bare if not name else ""}


def assert_encoded_words_are_right(data: bytes) -> None:
    """RFC 2047: 75 characters a word, 76 a line, whole characters in each."""
    for line in header_lines(data):
        words = re.findall(rb"=\?utf-8\?([qb])\?([^?]*)\?=", line)
        assert not words or len(line) <= 76
        for letter, text in words:
            assert len(text) + len("=?utf-8?q??=") <= 75
            if letter == b"q":
                quopri.decodestring(text, header=True).decode()
            else:
                base64.b64decode(text).decode()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_inside_its_header(text: str) -> None:
    """F3, SEC-08: whatever a post is called, the headers are ours."""
    usual = read(make_letter()).keys()
    message = read(make_letter(subject=text, from_name=text, list_name=text))
    assert message.keys() == usual
    assert len(str(message["Subject"])) <= headers.SUBJECT_LIMIT
    assert len(message["From"].addresses) == 1
    for value in message.values():
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]", str(value))


@pytest.mark.parametrize(
    "base", ["https://post.example", "https://" + "x" * 60 + ".se"]
)
def test_the_link_to_leave_is_raw_ascii_on_one_line(base: str) -> None:
    """STD-030, F1: a folded or encoded link shows no button."""
    data = splice(make_letter(leave_url=f"{base}/unsubscribe/{mime.LEAVE}"))
    wanted = f"List-Unsubscribe: <{base}/unsubscribe/{LEAVE_TOKEN}>"
    assert wanted.encode() in header_lines(data)
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click" in header_lines(data)


def test_a_long_archive_link_is_not_folded_either() -> None:
    url = "https://post.example/" + "a" * 200 + "/issues/"
    lines = header_lines(splice(make_letter(archive_url=url)))
    assert f"List-Archive: <{url}>".encode() in lines


def test_text_comes_first_then_html_both_quoted_printable() -> None:
    """STD-006, STD-007."""
    message = read(make_letter())
    text, html = message.iter_parts()
    assert [p.get_content_type() for p in (text, html)] == ["text/plain", "text/html"]
    for part in (text, html):
        assert part["Content-Transfer-Encoding"] == "quoted-printable"
        assert part.get_content_charset() == "utf-8"
        assert f"https://post.example/unsubscribe/{LEAVE_TOKEN}" in part.get_content()


body_text = st.text(
    alphabet=st.one_of(
        st.sampled_from("ab.=\n\r\t åäö🎉-_From"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=400,
)


@settings(deadline=None)
@given(before=body_text, between=body_text, after=body_text)
def test_any_body_reads_back_with_its_fields(
    before: str, between: str, after: str
) -> None:
    text = f"{before}{mime.LEAVE}{between}{mime.PREFERENCES}{after}"
    data = splice(make_letter(text=text, html=text))
    wanted = (
        f"{before}{LEAVE_TOKEN}{between}{PREFERENCES_TOKEN}{after}".replace(
            "\r\n", "\n"
        )
        .replace("\r", "\n")
        .rstrip("\n")
    )
    parts = data.split(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n")[1:]
    for part in parts:
        encoded = part.partition(b"\r\n--=_")[0]
        decoded = quopri.decodestring(encoded).decode().replace("\r\n", "\n")
        assert decoded.rstrip("\n") == wanted
    lines = data.split(b"\r\n")
    assert all(len(line) <= 76 and not line.startswith(b".") for line in lines)
    # A field has a line to itself, so nothing can have cut it.
    for token in (LEAVE_TOKEN, PREFERENCES_TOKEN):
        assert sum(line.rstrip(b"=") == token.encode() for line in lines) == 2


def test_words_at_the_start_of_a_line_that_mail_programs_trip_over() -> None:
    data = splice(make_letter(text="From here\n.\n..\n.x\n--\n"))
    assert b"\r\nFrom here" not in data
    assert body(parse(data), "plain") == "From here\n.\n..\n.x\n--\n"


def test_what_is_frozen_survives_the_database() -> None:
    frozen = mime.freeze(make_letter())
    assert mime.Frozen.unpack(frozen.pack()) == frozen


def test_freezing_the_same_letter_gives_the_same_bytes() -> None:
    assert splice(make_letter()) == splice(make_letter())


BAD_TOKENS = [
    "",
    "kort",
    "a" * 21,
    "a" * 23,
    "a" * 21 + "\n",
    "å" * 22,
    "a" * 20 + "\r\n",
    "a b" * 8,
    f"{LEAVE_TOKEN}\n{LEAVE_TOKEN}",
]


@pytest.mark.parametrize("token", BAD_TOKENS)
@pytest.mark.parametrize("field", ["leave_token", "preferences_token"])
def test_a_token_that_is_none_is_refused(field: str, token: str) -> None:
    with pytest.raises(InvalidInput):
        splice(make_letter(), **{field: token})


def test_two_tokens_have_each_their_length() -> None:
    with pytest.raises(InvalidInput):
        splice(make_letter(), leave_token="a" * 21, preferences_token="b" * 23)


BAD_ADDRESSES = [
    "",
    "a",
    "@b.example",
    "a@",
    "a@b.example\r\nBcc: c@d.example",
    "a@b.example\n",
    "a@b.example>",
    "<a@b.example>",
    "a@b.example, c@d.example",
    "a b@c.example",
    '"a b"@c.example',
    "a@[127.0.0.1]",
    "a@b_c.example",
    "a@-b.example",
    "a..b@c.example",
    ".a@b.example",
    "a.@b.example",
    "=?utf-8?q?a=40b.se?=@example.org",  # F4
    "a\x00@b.example",
    "a\u2028@b.example",
    "a\ud800@b.example",
    "a" * 65 + "@b.example",
    "å" * 33 + "@b.example",
    "a@" + "b" * 64 + ".example",
    "a@" + "b." * 130 + "example",
]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """STD-020, STD-054."""
    with pytest.raises(InvalidInput):
        splice(make_letter(), address=address)
    with pytest.raises(InvalidInput):
        mime.freeze(make_letter(from_email=address))


def plain_values(
    frozen: mime.Frozen, *readers: tuple[str, str, str]
) -> list[tuple[bytes, ...]] | None:
    addresses, leave, preferences = zip(*readers, strict=True)
    return frozen.plain_values(
        addresses=addresses,
        delivery_ids=range(len(readers)),
        nonce="n",
        leave_tokens=leave,
        preferences_tokens=preferences,
        at=NOW,
    )


ANNA = (READER, LEAVE_TOKEN, PREFERENCES_TOKEN)
ODD_READERS = [
    *((address, LEAVE_TOKEN, PREFERENCES_TOKEN) for address in BAD_ADDRESSES),
    ("åsa@b.example", LEAVE_TOKEN, PREFERENCES_TOKEN),
    ("a@b.example\nc@d.example", LEAVE_TOKEN, PREFERENCES_TOKEN),
    *((READER, token, PREFERENCES_TOKEN) for token in BAD_TOKENS),
    *((READER, LEAVE_TOKEN, token) for token in BAD_TOKENS),
]


@pytest.mark.parametrize("odd", ODD_READERS)
def test_of_many_readers_nothing_is_said_if_one_is_odd(
    odd: tuple[str, str, str],
) -> None:
    frozen = mime.freeze(make_letter())
    for readers in ([odd], [odd, ANNA], [ANNA, odd], [ANNA, odd, ANNA]):
        assert plain_values(frozen, *readers) is None


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.emails(), st.from_regex(r"[a-z0-9.+_@-]{1,70}", fullmatch=True)
            ),
            st.sampled_from([LEAVE_TOKEN, PREFERENCES_TOKEN]),
            st.sampled_from([LEAVE_TOKEN, PREFERENCES_TOKEN]),
        ),
        max_size=2,
    )
)
def test_many_readers_fields_are_those_of_each(
    readers: list[tuple[str, str, str]],
) -> None:
    frozen = mime.freeze(make_letter())
    readers.append(ANNA)
    found = plain_values(frozen, *readers)
    assert found is None or found == [
        frozen.values(
            address=address,
            delivery_id=number,
            nonce="n",
            leave_token=leave_token,
            preferences_token=preferences_token,
            at=NOW,
        )
        for number, (address, leave_token, preferences_token) in enumerate(readers)
    ]
    assert plain_values(frozen, ANNA, ANNA)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("anna@exempel.example", "anna@exempel.example"),
        ("Anna.Öberg+nytt@exempel.example", "Anna.Öberg+nytt@exempel.example"),
        ("asa@exämple.example", "asa@xn--exmple-cua.example"),
        ("o'hara@b.example", "o'hara@b.example"),
        ("a@localhost", "a@localhost"),
    ],
)
def test_addresses_people_have(address: str, written: str) -> None:
    """STD-021."""
    assert f"\r\nTo: {written}\r\n".encode() in splice(make_letter(), address=address)


@pytest.mark.parametrize(
    "over",
    [
        {"from_email": "åsa@b.example"},
        {"reply_to": "a@b.example\r\nBcc: c@d.example"},
        {"list_id": "a b"},
        {"list_id": "å.example"},
        {"list_id": "a" * 251},
        {"leave_url": "https://post.example/unsubscribe/"},
        {"leave_url": f"https://post.example/ {mime.LEAVE}"},
        {"leave_url": f"javascript:{mime.LEAVE}"},
        {"leave_url": f"https://post.example/>{mime.LEAVE}"},
        {"archive_url": "https://post.example/\r\nBcc: x"},
        {"feedback_id": "only:three:fields"},
        {"feedback_id": "a:b:c:d\r\n"},
        {"feedback_id": "a:b:c:d:e"},
        {"language": "sv\r\nBcc: x"},
    ],
)
def test_what_is_no_header_value_is_refused(over: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        mime.freeze(make_letter(Kind.DIGEST, **over))


def test_a_post_cannot_have_a_readers_token_written_into_its_own_link() -> None:
    """The fields are drawn anew in each process; text from outside cannot know them."""
    guesses = ["leave0", "{{ leave_token }}", "leave00000000000000000", "%leave%"]
    letter = make_letter(text="\n".join(guesses), html="\n".join(guesses))
    data = splice(letter)
    assert data.count(LEAVE_TOKEN.encode()) == 1  # the header alone
    assert len(mime.LEAVE) == len(mime.PREFERENCES) == mime.TOKEN_CHARACTERS


def test_a_stored_copy_holds_nobodys_links() -> None:
    stored = mime.without_fields(f"{LEAVE_URL} {mime.PREFERENCES}")
    assert mime.LEAVE not in stored and mime.PREFERENCES not in stored
    assert stored.count(mime.NOBODY) == 2
    assert len(mime.NOBODY) == mime.TOKEN_CHARACTERS


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        splice(make_letter(), at=datetime(2026, 11, 22))  # noqa: DTZ001


def test_the_date_is_that_of_the_attempt() -> None:
    at = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert read(make_letter(), at=at)["Date"].datetime == at


@pytest.mark.parametrize("address", ["a@b.example", "bounces+b7-x@b.example"])
def test_the_envelope_sender(address: str) -> None:
    assert make_letter(envelope_sender=address).sender == address
    assert make_letter().sender == "labbet@allmannyttan.example"
