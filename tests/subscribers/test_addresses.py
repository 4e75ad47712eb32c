"""Addresses: what is accepted, what is refused and how, who is the same as whom."""

import time
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.config import Settings
from newsletter.errors import InvalidInput
from newsletter.subscribers.addresses import (
    address_hash,
    mailbox_hash,
    read_address,
    readable,
    spellings,
)


@pytest.mark.parametrize(
    ("typed", "email", "key", "domain"),
    [
        ("anna@example.org", "anna@example.org", "anna@example.org", "example.org"),
        ("  Anna@Example.ORG\n", "Anna@example.org", "anna@example.org", "example.org"),
        ("mailto:anna@example.org", "anna@example.org", "anna@example.org", None),
        ("Anna <anna@example.org>", "anna@example.org", "anna@example.org", None),
        ("anna@example.org.", "anna@example.org", "anna@example.org", None),
        ("åsa@räksmörgås.se", "åsa@xn--rksmrgs-5wao1o.se", None, None),
        ("asa@xn--rksmrgs-5wao1o.se", "asa@xn--rksmrgs-5wao1o.se", None, None),
        ("Ö@example.org", "Ö@example.org", "ö@example.org", None),
        ("A\u030asa@example.org", "Åsa@example.org", "åsa@example.org", None),
        ("a+blogg@example.org", "a+blogg@example.org", "a+blogg@example.org", None),
    ],
)
def test_addresses_are_read_as_people_type_them(
    typed: str, email: str, key: str | None, domain: str | None
) -> None:
    address = read_address(typed)
    assert address.email == email
    assert key in (None, address.key)
    assert domain in (None, address.domain)


def test_two_spellings_of_a_domain_are_one_subscriber() -> None:
    written = read_address("Asa@Räksmörgås.se")
    assert written.key == read_address("asa@XN--rksmrgs-5wao1o.se").key


@pytest.mark.parametrize(
    "written",
    ["anna@example.org", "åsa@räksmörgås.se", "asa@straße.de", "x", "", "å@xn--", "@"],
)
def test_an_address_is_shown_as_people_write_it(written: str) -> None:
    kept = read_address(written).email if "." in written else written
    assert readable(kept) == written
    assert readable(written) == written


def test_a_part_of_an_address_is_looked_for_in_both_spellings() -> None:
    assert spellings(" Åsa@Räksmörgås.se ") == {
        "åsa@räksmörgås.se",
        "åsa@xn--rksmrgs-5wao1o.se",
    }
    assert "xn--rksmrgs-5wao1o.se" in spellings("räksmörgås.se")
    assert "å.svensson" in spellings("Å.Svensson")
    assert spellings("anna@") == {"anna@"}
    assert spellings("å..b") == {"å..b"}


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("anna@gmial.com", "anna@gmail.com"),
        ("anna@gmail.con", "anna@gmail.com"),
        ("anna@hotmial.se", "anna@hotmail.se"),
        ("anna@hotmial.con", "anna@hotmail.com"),
        ("anna@outlok.com", "anna@outlook.com"),
        ("anna@telia.con", "anna@telia.com"),
        ("anna@example.see", "anna@example.se"),
        ("anna@mail.example.ocm", "anna@mail.example.com"),
        ("anna@example,org", "anna@example.org"),
        ("åsa@räksmörgås,se", "åsa@räksmörgås.se"),
        ("anna @example.org", "anna@example.org"),
        ("anna@ example.org", "anna@example.org"),
        ("anna(at)example.org", "anna@example.org"),
        ("anna..berg@example.org", "anna.berg@example.org"),
        ("anna@gmial,com", "anna@gmail.com"),
        ('anna"example.org', "anna@example.org"),
        ("ａnna@example.org", "anna@example.org"),
    ],
)
def test_a_typing_mistake_gets_a_suggestion(typed: str, suggestion: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_address(typed)
    assert caught.value.values["suggestion"] == suggestion
    assert caught.value.field == "email"
    assert str(caught.value) == f"Did you mean {suggestion}?"
    assert readable(read_address(suggestion).email) == suggestion


@pytest.mark.parametrize(
    "typed",
    [
        "a@gmail.com",
        "a@mail.com",
        "a@ymail.com",
        "a@live.se",
        "a@five.se",
        "a@gmil.example.org",
        "a@company.co",
        "a@example.cm",
        "a@hotmail.ee",
    ],
)
def test_a_domain_that_may_be_real_is_not_doubted(typed: str) -> None:
    assert read_address(typed).email == typed


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "Write your e-mail address"),
        ("   ", "Write your e-mail address"),
        ("anna", "There is no @"),
        ("anna@example.org, bo@example.org", "one address"),
        ("@example.org", "before the @"),
        ("anna@localhost", "ending"),
        ("anna@", "ending"),
        ("a" * 65 + "@example.org", "typing mistake"),
        ("a@" + "b" * 300 + ".se", "longer"),
        ("anna@[127.0.0.1]", "ending|typing"),
        ('"anna berg"@example.org', "typing mistake|mean"),
        ("anna@example.test", "typing mistake"),
        ("=?utf-8?q?a=40b.se?=@example.org", "typing mistake"),
        ("anna\x00@example.org", "typing mistake"),
        ("anna\r\nBcc:x@example.org", "typing mistake"),
    ],
)
def test_what_is_no_address_is_refused_with_a_reason(typed: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        read_address(typed)
    assert caught.value.field == "email"


def test_a_demo_takes_the_domains_set_aside_for_tests() -> None:
    assert read_address("a@reader.test", trial=True).email == "a@reader.test"


@given(st.text(max_size=600))
def test_any_text_is_an_address_or_refused_and_never_a_header(text: str) -> None:
    try:
        address = read_address(text)
    except InvalidInput as error:
        assert str(error)
        return
    assert len(address.email.encode()) <= 254
    assert "=?" not in address.email
    assert not any(unicodedata.category(c).startswith("C") for c in address.email)
    assert not any(c.isspace() for c in address.email)
    assert read_address(address.email) == address


def test_a_megabyte_is_refused_at_once() -> None:
    start = time.thread_time()  # others' work is not counted
    for text in ("a" * 10**6, "@" * 10**6, "a@" + "b." * 500_000):
        with pytest.raises(InvalidInput):
            read_address(text)
    assert time.thread_time() - start < 0.5


def test_the_hash_depends_on_the_address_and_on_the_pepper(settings: Settings) -> None:
    one = address_hash(settings, "anna@example.org")
    assert len(one) == 64
    assert one == address_hash(settings, "anna@example.org")
    assert one != address_hash(settings, "bo@example.org")
    peppered = replace(settings, address_pepper="another")
    assert one != address_hash(peppered, "anna@example.org")


def test_limits_know_the_spellings_of_one_mailbox(settings: Settings) -> None:
    spellings = (
        "anna.berg@gmail.com",
        "annaberg+x@gmail.com",
        "AnnaBerg@googlemail.com",
    )
    assert len({mailbox_hash(settings, read_address(s)) for s in spellings}) == 1
    others = ("anna.berg@example.org", "annaberg@example.org")
    assert len({mailbox_hash(settings, read_address(s)) for s in others}) == 2
