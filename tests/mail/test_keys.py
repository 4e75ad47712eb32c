"""DKIM keys: encrypted at rest, and written for the DNS so that it can be pasted."""

import base64
from dataclasses import replace
from pathlib import Path

import dns.rdata
import dns.zone
import pytest
from cryptography.hazmat.primitives import serialization

from newsletter.config import Settings, load_settings, subkey, subkeys
from newsletter.errors import ConfigError, InvalidInput
from newsletter.mail import keys
from newsletter.mail.keys import Key
from newsletter.models import Algorithm

OLD, NEW = "old-secret-" * 4, "new-secret-" * 4
RSA = keys.make("blogg.se", "rsa1", Algorithm.RSA)
ED = keys.make("blogg.se", "ed1", Algorithm.ED25519)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with one secret key, and no database."""
    return load_settings(
        {"NEWSLETTER_SECRET_KEYS": OLD, "NEWSLETTER_INSTANCE_DIR": str(tmp_path)}
    )


def test_a_subkey_is_the_newest_of_the_subkeys(settings: Settings) -> None:
    both = replace(settings, secret_keys=(NEW, OLD))
    assert subkey(both, "dkim") == subkeys(both, "dkim")[0]
    assert subkeys(both, "dkim")[1:] == subkeys(settings, "dkim")
    assert subkey(both, "dkim") != subkey(both, "session")


@pytest.mark.parametrize("key", [RSA, ED], ids=["rsa", "ed25519"])
def test_at_rest_nothing_of_a_private_key_can_be_read(
    settings: Settings, key: Key
) -> None:
    encrypted = keys.encrypt(settings, key)
    raw = key.private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    assert raw[40:60] not in base64.urlsafe_b64decode(encrypted)
    assert b"PRIVATE" not in encrypted
    opened = keys.decrypt(settings, encrypted)
    assert replace(key, private=opened).public == key.public
    assert encrypted != keys.encrypt(settings, key)


def test_secret_keys_can_change(settings: Settings) -> None:
    encrypted = keys.encrypt(settings, ED)
    both = replace(settings, secret_keys=(NEW, OLD))
    assert keys.decrypt(both, encrypted)
    again = keys.renewed(both, encrypted)
    assert again is not None
    assert keys.renewed(both, again) is None
    only_new = replace(settings, secret_keys=(NEW,))
    assert replace(ED, private=keys.decrypt(only_new, again)).public == ED.public
    for open_it in (keys.decrypt, keys.renewed):
        with pytest.raises(ConfigError, match="NEWSLETTER_SECRET_KEYS"):
            open_it(only_new, encrypted)


def test_a_damaged_key_is_not_opened(settings: Settings) -> None:
    encrypted = bytearray(keys.encrypt(settings, ED))
    encrypted[-5] ^= 1
    with pytest.raises(ConfigError):
        keys.decrypt(settings, bytes(encrypted))


def test_a_key_does_not_show_its_secret() -> None:
    assert "private" not in repr(ED).lower()


@pytest.mark.parametrize("key", [RSA, ED], ids=["rsa", "ed25519"])
def test_the_zone_line_is_what_a_name_server_reads(key: Key) -> None:
    name = keys.record_name(key.domain, key.selector)
    text = keys.record(key.algorithm, key.public)
    line = keys.zone_line(name, text)
    zone = dns.zone.from_text(line, origin="se.", relativize=False, check_origin=False)
    (record,) = zone.find_rdataset(f"{name}.", "TXT")
    assert all(len(string) <= 255 for string in record.strings)
    assert b"".join(record.strings).decode() == text
    assert len(record.strings) == (2 if key is RSA else 1)
    assert keys.flaw([text], key.algorithm, key.public) == ""


def test_rsa_keys_have_2048_bits_and_ed25519_records_the_bare_key() -> None:
    public = serialization.load_der_public_key(base64.b64decode(RSA.public))
    assert public.key_size == 2048  # type: ignore[union-attr]
    assert len(base64.b64decode(ED.public)) == 32


P = ED.public
FLAWS = [
    ([], "no DKIM record"),
    (["v=spf1 -all"], "no DKIM record"),
    ([f"v=DKIM1; k=ed25519; p={P}"] * 2, "several"),
    (["v=DKIM1; k=ed25519; p="], "revoked"),
    ([f"v=DKIM1; k=ed25519; p={P[:-5]}AAAA="], "differs"),
    ([f"v=DKIM1; p={P}"], "differs"),  # RSA, where k= is missing
    ([f"v=DKIM2; k=ed25519; p={P}"], "differs"),
    ([f"v=DKIM1; k=ed25519; h=sha1; p={P}"], "differs"),
    ([f"v=DKIM1; k=ed25519; s=tlsrpt; p={P}"], "differs"),
    ([f"v=DKIM1;k=ed25519;p={P[:9]} \t{P[9:]};"], ""),
    ([f"k=ed25519; t=y; h=sha1:sha256; s=email; n=hello; p={P}"], ""),
    (["v=spf1 -all", f"v=DKIM1; k=ed25519; p={P}"], ""),
]


@pytest.mark.parametrize(("records", "words"), FLAWS)
def test_a_record_that_does_not_serve_is_told_from_one_that_does(
    records: list[str], words: str
) -> None:
    said = keys.flaw(records, Algorithm.ED25519, P)
    assert words in said if words else said == ""


@pytest.mark.parametrize(
    ("domain", "selector"),
    [
        *[("blogg.se", s) for s in ("", "-a", "a-", "a..b", "å", "a b", "a;b", "%d")],
        *[(d, "s1") for d in ("", "se", "a_b.se", "blogg.se\r\n", "-.se", "ö.se")],
        ("blogg.se", "x" * 64),
    ],
)
def test_names_that_cannot_stand_in_the_dns_are_refused(
    domain: str, selector: str
) -> None:
    with pytest.raises(InvalidInput):
        keys.make(domain, selector, Algorithm.ED25519)


def test_a_domain_speaks_for_itself_and_those_below() -> None:
    assert keys.covers("blogg.se", "blogg.se")
    assert keys.covers("blogg.se", "Brev.Blogg.SE")
    assert not keys.covers("brev.blogg.se", "blogg.se")
    assert not keys.covers("blogg.se", "enblogg.se")
