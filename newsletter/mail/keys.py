"""DKIM keys: made, signing, written for the DNS, kept encrypted. Pure.

In the database a private key, like a relay's password, is encrypted with a key derived
from the newest of the secret keys, and opens with any of them. The DNS holds the public
half, as RFC 6376 §3.6.1 and, for Ed25519, RFC 8463 §4 write it.
"""

import base64
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils

from newsletter.config import Settings, subkeys
from newsletter.errors import N_, ConfigError, InvalidInput
from newsletter.models import Algorithm

RSA_BITS = 2048
STRING_OCTETS = 255  # of one string in a TXT record, RFC 1035 §3.3

Private = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_PURPOSE = "dkim"
_PASSWORDS = "relay"
_PADDING = padding.PKCS1v15()
_HASHED = utils.Prehashed(hashes.SHA256())
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SELECTOR = re.compile(rf"(?=.{{1,63}}\Z){_LABEL}(?:\.{_LABEL})*")
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})+")


@dataclass(frozen=True, slots=True)
class Key:
    """A private key and the name under which the DNS has its public half."""

    domain: str
    selector: str
    algorithm: Algorithm
    private: Private = field(repr=False)

    @property
    def public(self) -> str:
        """Return the public half as a record's p= holds it."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            return _base64(
                public.public_bytes(
                    serialization.Encoding.DER,
                    serialization.PublicFormat.SubjectPublicKeyInfo,
                )
            )
        return _base64(public.public_bytes_raw())

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest (RFC 6376 §3.3.2, RFC 8463 §3)."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(digest, _PADDING, _HASHED)
        return self.private.sign(digest)


def make(domain: str, selector: str, algorithm: Algorithm) -> Key:
    """Make a new key. Raises InvalidInput for a name that cannot stand in the DNS."""
    if not _SELECTOR.fullmatch(selector):
        raise InvalidInput(
            N_("A selector may hold a-z, 0-9, hyphens and dots, 63 characters at most.")
        )
    if not _DOMAIN.fullmatch(domain):
        raise InvalidInput(N_("%(domain)s is not a domain."), domain=ascii(domain[:99]))
    if algorithm is Algorithm.RSA:
        private: Private = rsa.generate_private_key(65537, RSA_BITS)
    else:
        private = ed25519.Ed25519PrivateKey.generate()
    return Key(domain, selector, algorithm, private)


def covers(domain: str, sender_domain: str) -> bool:
    """Tell whether a signature of `domain` speaks for mail from `sender_domain`.

    It must be that domain or one above it (alignment, RFC 9989).
    """
    sender = sender_domain.lower()
    return sender == domain or sender.endswith(f".{domain}")


# At rest


def encrypt(settings: Settings, key: Key) -> bytes:
    """Write the private half for the database."""
    plain = key.private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Fernet(_wrappers(settings)[0]).encrypt(plain)


def decrypt(settings: Settings, encrypted: bytes) -> Private:
    """Open what `encrypt` wrote. Raises ConfigError if no secret key opens it."""
    return _opened(bytes(encrypted), _wrappers(settings))


def renewed(settings: Settings, encrypted: bytes) -> bytes | None:
    """Encrypt again with the newest secret key; None if that has been done.

    Raises ConfigError if no secret key opens it.
    """
    wrappers = _wrappers(settings)
    if _is_newest(encrypted, wrappers):
        return None
    _opened(bytes(encrypted), wrappers)
    return _all_of(wrappers).rotate(encrypted)


def encrypt_password(settings: Settings, password: str) -> bytes:
    """Write a relay's password for the database; nothing stays nothing."""
    if not password:
        return b""
    return Fernet(_wrappers(settings, _PASSWORDS)[0]).encrypt(password.encode())


def decrypt_password(settings: Settings, encrypted: bytes) -> str:
    """Open what `encrypt_password` wrote. Raises ConfigError if no secret key does."""
    if not encrypted:
        return ""
    try:
        plain = _all_of(_wrappers(settings, _PASSWORDS)).decrypt(bytes(encrypted))
    except InvalidToken:
        raise ConfigError(
            N_(
                "The relay's password was encrypted with a secret key that is no longer"
                " in NEWSLETTER_SECRET_KEYS. Put that back, behind the newest, or type"
                " the password again."
            )
        ) from None
    return plain.decode()


def renewed_password(settings: Settings, encrypted: bytes) -> bytes | None:
    """Encrypt again with the newest secret key; None if that has been done.

    Raises ConfigError if no secret key opens it.
    """
    if not encrypted or _is_newest(encrypted, _wrappers(settings, _PASSWORDS)):
        return None
    return encrypt_password(settings, decrypt_password(settings, encrypted))


def _wrappers(settings: Settings, purpose: str = _PURPOSE) -> tuple[bytes, ...]:
    return tuple(map(base64.urlsafe_b64encode, subkeys(settings, purpose)))


def _all_of(wrappers: tuple[bytes, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in wrappers])


def _is_newest(encrypted: bytes, wrappers: tuple[bytes, ...]) -> bool:
    try:
        Fernet(wrappers[0]).decrypt(encrypted)
    except InvalidToken:
        return False
    return True


@functools.lru_cache(maxsize=64)
def _opened(encrypted: bytes, wrappers: tuple[bytes, ...]) -> Private:
    try:
        plain = _all_of(wrappers).decrypt(encrypted)
    except InvalidToken:
        raise ConfigError(
            N_(
                "A DKIM key was encrypted with a secret key that is no longer in"
                " NEWSLETTER_SECRET_KEYS. Put that back, behind the newest, or make a"
                " new DKIM key."
            )
        ) from None
    # Nobody but us can have written it, so it need not be proved a key again.
    private = serialization.load_der_private_key(
        plain, None, unsafe_skip_rsa_key_validation=True
    )
    assert isinstance(private, Private)  # noqa: S101 (for the type checker)
    return private


# In the DNS


def record_name(domain: str, selector: str) -> str:
    """Return where the DNS has a key."""
    return f"{selector}._domainkey.{domain}"


def record(algorithm: Algorithm, public: str) -> str:
    """Return what the DNS says of a key."""
    return f"v=DKIM1; k={algorithm}; p={public}"


def zone_line(name: str, text: str) -> str:
    """Write a TXT record as zone files do, cut into strings that it can hold."""
    strings = [
        f'"{text[start : start + STRING_OCTETS]}"'
        for start in range(0, len(text), STRING_OCTETS)
    ]
    return f"{name}. 3600 IN TXT {' '.join(strings)}"


def flaw(records: Sequence[str], algorithm: Algorithm, public: str) -> str:
    """Say what is wrong with the TXT records at a key's name; nothing if they serve.

    The answer is a message with the field %(name)s.
    """
    found = [tags for tags in map(_tags, records) if "p" in tags]
    if not found:
        return N_("There is no DKIM record at %(name)s.")
    if len(found) > 1:
        return N_("There are several DKIM records at %(name)s. Leave one.")
    tags = found[0]
    if not tags["p"]:
        return N_("The DKIM record at %(name)s says that its key is revoked.")
    same = (
        tags["p"] == public
        and tags.get("k", Algorithm.RSA) == algorithm
        and tags.get("v", "DKIM1") == "DKIM1"
        and _allows(tags, "h", {"sha256"})
        and _allows(tags, "s", {"*", "email"})
    )
    return "" if same else N_("The DKIM record at %(name)s differs from the key here.")


def _allows(tags: dict[str, str], tag: str, wanted: Iterable[str]) -> bool:
    return tag not in tags or bool({*tags[tag].split(":")} & {*wanted})


def _tags(text: str) -> dict[str, str]:
    """Read tag=value pairs; white space within a value means nothing here."""
    pairs = (pair.partition("=") for pair in text.split(";"))
    return {name.strip(): "".join(value.split()) for name, sep, value in pairs if sep}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
