"""E-mail addresses: reading what someone typed, and the keyed hash that outlives it."""

import functools
import hmac
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from email_validator import (
    SPECIAL_USE_DOMAIN_NAMES,
    EmailNotValidError,
    validate_email,
)

from newsletter.config import Settings
from newsletter.errors import N_, InvalidInput

MAX_OCTETS = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
ACE = "xn--"  # begins a domain's label that has other letters than a to z
ENCODED_WORD = "=?"  # RFC 2047: would be decoded into another address in a header

# What people mean. Only names that cannot be anybody's real address stand here: a
# typing mistake that happens to be a working domain must not be refused.
PROVIDERS = {
    "gmail": {"com"},
    "googlemail": {"com"},
    "hotmail": {"com", "se", "no", "dk", "fi", "co.uk", "de", "fr", "es", "it"},
    "outlook": {"com", "se", "dk", "de", "fr", "es", "it"},
    "live": {"com", "se", "no", "dk", "fi", "co.uk"},
    "msn": {"com"},
    "yahoo": {"com", "se", "no", "dk", "co.uk", "de", "fr", "es", "it"},
    "icloud": {"com"},
    "telia": {"com"},
    "bredband": {"net"},
    "spray": {"se"},
    "protonmail": {"com"},
}
MISSPELT = {
    "gmail": "gmial gmal gmali gmai gmil gmaill gmaile gnail gmaol gamil gmqil ggmail",
    "hotmail": "hotmial hotmal hotmai hotmil hotmali hotmaill hotmeil homail hotamil"
    " hormail htomail hotnail hotmaol hptmail",
    "outlook": "outlok outloook outllok outloo oulook outook outlokk outlock",
    "yahoo": "yaho yahooo yhaoo yahho uahoo",
    "icloud": "iclod icoud iclould iclud icluod iclooud",
    "bredband": "bredbnad bredand brdband",
    "protonmail": "protonmial protonmal",
}
RIGHT_NAME = {
    wrong: right for right, many in MISSPELT.items() for wrong in many.split()
}
# Endings that no domain has.
RIGHT_ENDING = {
    **dict.fromkeys(("con", "cmo", "ocm", "comm", "coom", "vom", "cim", "clm"), "com"),
    **dict.fromkeys(("see", "sse", "ses"), "se"),
    **dict.fromkeys(("nett", "ner", "nte"), "net"),
    **dict.fromkeys(("nuu", "nnu"), "nu"),
    "ogr": "org",
}
# What nearly all addresses look like. Stricter than the validator, and twenty times as
# fast; what does not fit is not refused, but read by the validator.
_PLAIN = re.compile(
    r"([A-Za-z0-9_]+(?:[.+-][A-Za-z0-9_]+)*)@([A-Za-z0-9.-]+)", re.ASCII
)
_PLAIN_DOMAIN = re.compile(
    r"(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z](?:[a-z0-9-]*[a-z])", re.ASCII
)
# One of many that stand each on a line; whatever is not plain is a line of nothing.
_PLAIN_LINE = re.compile(rf"^(?:{_PLAIN.pattern}|.*)$", re.ASCII | re.MULTILINE)
MAX_LOCAL, MAX_LABEL, MAX_DOMAIN = 64, 63, 253  # RFC 5321 §4.5.3.1, RFC 1035 §2.3.4
_TYPED_AROUND = re.compile(r"(?:mailto:|[^<>]*<)?([^<>]*)>?", re.IGNORECASE)


class Address(NamedTuple):
    """An address: as we write to it, as we know it again, and where it lives."""

    email: str  # as typed (NFC), the domain as an A-label
    key: str  # casefolded: what makes two spellings one subscriber
    domain: str


def read_address(text: str, *, trial: bool = False) -> Address:
    """Read an address that someone typed.

    `trial` (a demo) also accepts the domains set aside for tests, RFC 6761.

    Raises InvalidInput with field "email", saying what is wrong; where we can guess
    what was meant, `values["suggestion"]` is that address.
    """
    if address := read_plain(text):
        return address
    if len(text.encode(errors="replace")) > 2 * MAX_OCTETS:
        raise _wrong(N_("That is longer than an e-mail address can be."))
    text = unicodedata.normalize("NFC", text.strip(" \t\r\n\u200b\ufeff.,;"))
    if match := _TYPED_AROUND.fullmatch(text):
        text = match[1].strip()
    if len(text.encode(errors="replace")) > MAX_OCTETS:
        raise _wrong(N_("That is longer than an e-mail address can be."))
    address = _validate(text, trial=trial)
    if address is None:
        raise _explained(text)
    if meant := _what_was_meant(address):
        raise _did_you_mean(meant)
    return address


def readable(email: str) -> str:
    """Return an address as people write it: its domain in its own letters."""
    if ACE not in email.casefold():
        return email
    try:
        found = validate_email(
            email, check_deliverability=False, strict=True, test_environment=True
        )
    except (EmailNotValidError, UnicodeError):
        return email
    return f"{found.local_part}@{found.domain}"


def spellings(text: str) -> set[str]:
    """Return what a part of an address may look like in a key."""
    text = unicodedata.normalize("NFC", text.strip().casefold())
    local, at, domain = text.rpartition("@")
    try:
        return {text, f"{local}{at}{domain.encode('idna').decode()}"}
    except UnicodeError:  # not a domain, or not a whole one
        return {text}


def address_hash(settings: Settings, key: str) -> str:
    """Return the keyed hash that stays when the address itself is gone."""
    return hasher(settings)(key)


def hasher(settings: Settings) -> Callable[[str], str]:
    """Return `address_hash` for many keys.

    The beginning, alike for all of them, is worked out once.
    """
    keyed = hmac.new(settings.pepper, None, "sha256")

    def hash_of(key: str) -> str:
        mac = keyed.copy()
        mac.update(key.encode())
        return mac.hexdigest()

    return hash_of


def mailbox_hash(settings: Settings, address: Address) -> str:
    """Return a hash alike for the spellings that reach one mailbox: for limits only.

    a.b+c@gmail.com and ab@gmail.com are two subscribers but one victim.
    """
    local, _, domain = address.key.rpartition("@")
    local = local.partition("+")[0] or local
    if domain in {"gmail.com", "googlemail.com"}:
        local, domain = local.replace(".", ""), "gmail.com"
    return address_hash(settings, f"{local}@{domain}")


def read_plain(text: str) -> Address | None:
    """Read an address of letters, digits and few signs; None if it is anything else."""
    match = _PLAIN.fullmatch(text) if len(text) <= MAX_OCTETS else None
    if match is None or len(match[1]) > MAX_LOCAL:
        return None
    domain = match[2].lower()
    if not _is_plain(domain):
        return None
    email = f"{match[1]}@{domain}"
    return Address(email, email.lower(), domain)


def read_many_plain(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Read as `read_plain` does, all at once: return addresses and keys.

    Both are "" for what is anything but a plain address.
    """
    fit = [t if len(t) <= MAX_OCTETS and "\n" not in t else "" for t in texts]
    parts = _PLAIN_LINE.findall("\n".join(fit)) if fit else []
    small = {domain: domain.lower() for domain in {domain for _, domain in parts}}
    plain = {
        domain: as_small for domain, as_small in small.items() if _is_plain(as_small)
    }
    emails = [
        f"{local}@{plain[domain]}"
        if domain in plain and len(local) <= MAX_LOCAL
        else ""
        for local, domain in parts
    ]
    return emails, "\n".join(emails).lower().split("\n") if emails else []


@functools.lru_cache(maxsize=50_000)
def _is_plain(domain: str) -> bool:
    """Tell whether a domain in small letters needs no closer look."""
    labels = domain.split(".")
    if len(domain) > MAX_DOMAIN or max(map(len, labels)) > MAX_LABEL:
        return False
    if not _PLAIN_DOMAIN.fullmatch(domain) or "--" in domain:
        return False
    if any(f".{domain}".endswith(f".{name}") for name in SPECIAL_USE_DOMAIN_NAMES):
        return False
    return _what_was_meant(Address("", "", domain)) is None


def _validate(text: str, *, trial: bool) -> Address | None:
    local = text.rpartition("@")[0]
    # Full-width letters and the like look right and are another address.
    if ENCODED_WORD in local or unicodedata.normalize("NFKC", local) != local:
        return None
    try:
        found = validate_email(
            text, check_deliverability=False, strict=True, test_environment=trial
        )
    except (EmailNotValidError, UnicodeError):
        return None
    email = f"{found.local_part}@{found.ascii_domain}"
    if len(email.encode()) > MAX_OCTETS:
        return None
    key = unicodedata.normalize("NFC", email.casefold())
    return Address(email, key, found.ascii_domain)


def _explained(text: str) -> InvalidInput:
    """Say what is wrong, most telling fault first."""
    if not text:
        return _wrong(N_("Write your e-mail address."))
    for repaired in _repaired(text):
        if address := _validate(repaired, trial=False):
            return _did_you_mean(_what_was_meant(address) or address.email)
    local, at, domain = text.rpartition("@")
    if not at:
        return _wrong(
            N_("There is no @ in the address. It should look like anna@example.org.")
        )
    if "@" in local:
        return _wrong(N_("Write one address at a time."))
    if not local:
        return _wrong(N_("Something is missing before the @ sign."))
    if "." not in domain.strip("."):
        return _wrong(
            N_("The part after the @ sign needs an ending, like .se or .com.")
        )
    return _wrong(
        N_("That does not look like an e-mail address. Look for a typing mistake.")
    )


def _repaired(text: str) -> list[str]:
    """Return guesses at what was meant by something that is not an address."""
    return [
        re.sub(r"\s+", "", text),
        re.sub(r"\s+", "", text).replace(",", "."),
        re.sub(r"\s*(?:\(at\)|\[at\]| at )\s*", "@", text),
        re.sub(r"\.{2,}", ".", text).replace(".@", "@").replace("@.", "@"),
        text.replace('"', "@") if "@" not in text else text,  # Shift+2 elsewhere
        unicodedata.normalize("NFKC", text),
    ]


def _what_was_meant(address: Address) -> str | None:
    name, _, ending = address.domain.partition(".")
    right_ending = ending
    head, dot, last = ending.rpartition(".")
    if last in RIGHT_ENDING:
        right_ending = f"{head}{dot}{RIGHT_ENDING[last]}"
    right_name = name
    if right_ending in PROVIDERS.get(RIGHT_NAME.get(name, ""), ()):
        right_name = RIGHT_NAME[name]
    domain = f"{right_name}.{right_ending}"
    if domain == address.domain:
        return None
    return f"{address.email.rpartition('@')[0]}@{domain}"


def _did_you_mean(suggestion: str) -> InvalidInput:
    return InvalidInput(
        N_("Did you mean %(suggestion)s?"),
        field="email",
        suggestion=readable(suggestion),
    )


def _wrong(message: str) -> InvalidInput:
    return InvalidInput(message, field="email")
