"""Settings from the environment; the only reader of os.environ.

Every variable starts with NEWSLETTER_. One that is unknown or malformed stops the start
and is named. `docs/settings.md` lists them; a test keeps the two equal.
"""

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from newsletter.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "NEWSLETTER_"
DEMO_FILE = "demo.env"
MIN_SECRET_CHARACTERS = 32

# First path segments that belong to Inkorg: no newsletter may take them as its slug.
RESERVED_SLUGS = frozenset(
    {
        *("address", "api", "assets", "confirm", "data", "editor", "embed", "erase"),
        *("favicon.ico", "healthz", "issues", "mailbox", "metrics", "never"),
        *("preferences", "robots.txt", "sitemap.xml", "static", "subscribe"),
        *("unsubscribe", "posts"),
        # the second segment of the workspace's own pages
        *("account", "invite", "login", "logout", "new"),
    }
)


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mail is handed over, and how fast."""

    host: str
    port: int
    security: str = "plain"  # plain | starttls | tls
    user: str = ""
    password: str = field(default="", repr=False)
    connections: int = 10
    rate_per_second: float = 0.0  # 0: as fast as the relay takes it

    @property
    def name(self) -> str:
        """Name the relay without its secrets."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is decided outside the code; built once, passed down."""

    secret_keys: tuple[str, ...] = field(repr=False)
    database_url: str = field(repr=False)
    base_url: str
    relay: Relay
    instance_dir: Path
    trusted_proxies: int = 0
    address_pepper: str = field(default="", repr=False)
    ehlo_name: str = ""
    confirm_hours: int = 72
    signups_per_network_hour: int = 60
    signups_per_hour: int = 5000
    # Hosts and networks a feed may come from although they are private: "*" is all.
    fetch_allow: tuple[str, ...] = ()
    mailbox_dir: Path | None = None  # the local mailbox of `demo`
    demo: bool = False

    @property
    def pepper(self) -> bytes:
        """Return the key of address hashes: its own, or the oldest secret key's."""
        return (self.address_pepper or self.secret_keys[-1]).encode()

    @property
    def secure(self) -> bool:
        """Tell whether readers reach this installation over https."""
        return self.base_url.startswith("https://")

    @property
    def host(self) -> str:
        """Return the host name in the base URL."""
        return urlsplit(self.base_url).hostname or "localhost"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings.

    Where no secret key is set and `make run` has left its settings in the instance
    folder, those are used: commands typed beside a running demo reach the demo.

    Raises ConfigError, naming the variable.
    """
    source = dict(os.environ if environ is None else environ)
    values = {k: v for k, v in source.items() if k.startswith(PREFIX)}
    instance = Path(values.get("NEWSLETTER_INSTANCE_DIR") or ROOT / "instance")
    if "NEWSLETTER_SECRET_KEYS" not in values:
        values = {**read_env_file(instance / DEMO_FILE), **values}
    _refuse_unknown(values)
    get = _Reader(values)
    demo = get.flag("DEMO")
    return Settings(
        secret_keys=_secret_keys(get.text("SECRET_KEYS")),
        database_url=_database_url(get.text("DATABASE_URL"), instance),
        base_url=_base_url(get.text("BASE_URL") or "http://127.0.0.1:8000"),
        relay=parse_relay(get.text("SMTP_URL") or "smtp://127.0.0.1:25"),
        instance_dir=instance,
        trusted_proxies=get.number("TRUSTED_PROXIES", 0, 0, 10),
        address_pepper=get.text("ADDRESS_PEPPER"),
        ehlo_name=get.text("EHLO_NAME") or socket.getfqdn(),
        confirm_hours=get.number("CONFIRM_HOURS", 72, 1, 24 * 30),
        signups_per_network_hour=get.number("SIGNUPS_PER_NETWORK_HOUR", 60, 1, 10**6),
        signups_per_hour=get.number("SIGNUPS_PER_HOUR", 5000, 1, 10**8),
        fetch_allow=tuple(get.text("FETCH_ALLOW").replace(",", " ").split()),
        mailbox_dir=Path(d) if (d := get.text("MAILBOX_DIR")) else None,
        demo=demo,
    )


VARIABLES = frozenset(
    {
        *("NEWSLETTER_ADDRESS_PEPPER", "NEWSLETTER_BASE_URL"),
        *("NEWSLETTER_CONFIRM_HOURS", "NEWSLETTER_DATABASE_URL", "NEWSLETTER_DEMO"),
        *("NEWSLETTER_EHLO_NAME", "NEWSLETTER_FETCH_ALLOW"),
        *("NEWSLETTER_INSTANCE_DIR", "NEWSLETTER_MAILBOX_DIR"),
        *("NEWSLETTER_SECRET_KEYS", "NEWSLETTER_SIGNUPS_PER_HOUR"),
        *("NEWSLETTER_SIGNUPS_PER_NETWORK_HOUR", "NEWSLETTER_SMTP_URL"),
        "NEWSLETTER_TRUSTED_PROXIES",
    }
)


def read_env_file(path: Path) -> dict[str, str]:
    """Read NAME=value lines; an absent file is an empty one."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name.strip(): value.strip() for name, sep, value in pairs if sep}


def parse_relay(url: str) -> Relay:
    """Read smtp://, smtp+starttls:// or smtps://user:password@host:port?connections=&rate=.

    Raises ConfigError.
    """
    parts = urlsplit(url)
    security = {"smtp": "plain", "smtp+starttls": "starttls", "smtps": "tls"}.get(
        parts.scheme
    )
    if security is None or not parts.hostname:
        raise ConfigError(
            "NEWSLETTER_SMTP_URL must look like smtp://host:25,"
            " smtp+starttls://user:password@host:587 or smtps://user:password@host:465."
        )
    query = parse_qs(parts.query)
    if unknown := set(query) - {"connections", "rate"}:
        raise ConfigError(
            "NEWSLETTER_SMTP_URL: unknown option %(name)s; it knows connections and"
            " rate.",
            name=min(unknown),
        )
    try:
        port = parts.port or {"plain": 25, "starttls": 587, "tls": 465}[security]
        connections = int(query.get("connections", ["10"])[0])
        rate = float(query.get("rate", ["0"])[0])
    except ValueError:
        raise ConfigError(
            "NEWSLETTER_SMTP_URL: port, connections and rate must be numbers."
        ) from None
    if not (1 <= connections <= 200 and 0 <= rate <= 1_000_000):
        raise ConfigError(
            "NEWSLETTER_SMTP_URL: connections goes from 1 to 200, rate from 0 (no"
            " limit) to 1000000."
        )
    return Relay(
        host=parts.hostname,
        port=port,
        security=security,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        connections=connections,
        rate_per_second=rate,
    )


def subkey(settings: Settings, purpose: str) -> bytes:
    """Derive a key for one purpose from the newest secret."""
    return subkeys(settings, purpose)[0]


def subkeys(settings: Settings, purpose: str) -> list[bytes]:
    """Derive a key for one purpose from each secret, the newest first."""
    return [
        hashlib.blake2b(
            secret.encode(), digest_size=32, person=purpose.encode()[:16]
        ).digest()
        for secret in settings.secret_keys
    ]


class _Reader:
    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def text(self, name: str) -> str:
        return self.values.get(PREFIX + name, "").strip()

    def flag(self, name: str) -> bool:
        value = self.text(name).lower()
        if value not in {"", "0", "1", "no", "yes", "false", "true"}:
            raise ConfigError("%(name)s must be 0 or 1.", name=PREFIX + name)
        return value in {"1", "yes", "true"}

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ConfigError(
                "%(name)s must be a whole number from %(low)s to %(high)s.",
                name=PREFIX + name,
                low=low,
                high=high,
            )
        return int(text)


def _refuse_unknown(values: Mapping[str, str]) -> None:
    if unknown := sorted(set(values) - VARIABLES):
        raise ConfigError(
            "%(name)s is not a setting of Inkorg. docs/settings.md lists them all.",
            name=unknown[0],
        )


def _secret_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys:
        raise ConfigError(
            "NEWSLETTER_SECRET_KEYS is not set. Make one with: python3 -c"
            ' "import secrets; print(secrets.token_urlsafe(32))"'
        )
    if any(len(key) < MIN_SECRET_CHARACTERS for key in keys):
        raise ConfigError(
            "NEWSLETTER_SECRET_KEYS: each key needs at least %(count)s characters.",
            count=MIN_SECRET_CHARACTERS,
        )
    return keys


def _database_url(text: str, instance: Path) -> str:
    if not text:
        return f"sqlite:///{instance.resolve() / 'inkorg.sqlite3'}"
    scheme, sep, rest = text.partition("://")
    if sep and scheme in {"postgres", "postgresql"}:
        return f"postgresql+psycopg://{rest}"
    if sep and scheme in {"sqlite", "postgresql+psycopg"}:
        return text
    raise ConfigError(
        "NEWSLETTER_DATABASE_URL must start with sqlite:/// or postgresql://."
    )


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise ConfigError(
            "NEWSLETTER_BASE_URL must be the address readers use, such as"
            " https://news.example.org"
        )
    return text.rstrip("/")
