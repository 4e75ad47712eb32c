"""Settings from the environment; the only reader of os.environ.

Every variable starts with NEWSLETTER_. One that is unknown or malformed stops the start
and is named. `docs/settings.md` lists them; a test keeps the two equal.
"""

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from newsletter.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "NEWSLETTER_"
DEMO_FILE = "demo.env"
MIN_SECRET_CHARACTERS = 32
_BETWEEN_URLS = re.compile(r"\s+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_NOT_IN_A_HOST = re.compile(r"[\s,;]")
_WHOLE = re.compile(r"[0-9]{1,12}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# First path segments that belong to Inkorg: no newsletter may take them as its slug.
RESERVED_SLUGS = frozenset(
    {
        *("address", "api", "assets", "confirm", "data", "editor", "embed", "erase"),
        *("favicon.ico", "healthz", "issues", "mailbox", "metrics", "never"),
        *("preferences", "robots.txt", "sitemap.xml", "static", "subscribe"),
        *("unsubscribe", "posts", "ping", "portraits", "websub", "l"),
        # the second segment of the workspace's own pages
        *("account", "invite", "login", "logout", "new"),
    }
)


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mail is handed over, how fast and how much."""

    host: str
    port: int
    security: str = "plain"  # plain | starttls | tls
    user: str = ""
    password: str = field(default="", repr=False)
    connections: int = 10
    rate_per_second: float = 0.0  # 0: as fast as the relay takes it
    weight: int = 1  # its share among several; 0: used while no other can be
    per_day: int = 0  # 0: no limit
    warmup_from: date | None = None  # the first day of the plan, in UTC
    warmup_first: int = 0  # how many on that day; twice as many each day after it
    per_domain: int = 0  # connections at once to one destination; 0: no limit
    mark: str = ""  # tells it from another one at the same host and port
    # Private hosts and networks it may be at; None: anywhere, the operator named it.
    inside: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Name the relay without its secrets; a user name can be one of them."""
        return f"{self.host}:{self.port}{self.mark}"


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
    more_relays: tuple[Relay, ...] = ()
    confirm_hours: int = 72
    audit_days: int = 730  # how long it is known who changed what
    signups_per_network_hour: int = 60
    signups_per_hour: int = 5000
    import_megabytes: int = 300  # of a file of readers that is uploaded
    # Hosts and networks a feed may come from although they are private: "*" is all.
    fetch_allow: tuple[str, ...] = ()
    # The same for a relay that a newsletter's owner names.
    relay_allow: tuple[str, ...] = ()
    mailbox_dir: Path | None = None  # the local mailbox of `demo`
    themes_dir: Path | None = None  # mail themes of one's own
    demo: bool = False

    @property
    def relays(self) -> tuple[Relay, ...]:
        """Return every relay, in the order of the setting."""
        return (self.relay, *self.more_relays)

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
    relay, *more_relays = parse_relays(get.text("SMTP_URL") or "smtp://127.0.0.1:25")
    return Settings(
        secret_keys=_secret_keys(get.text("SECRET_KEYS")),
        database_url=_database_url(get.text("DATABASE_URL"), instance),
        base_url=_base_url(get.text("BASE_URL") or "http://127.0.0.1:8000"),
        relay=relay,
        more_relays=tuple(more_relays),
        instance_dir=instance,
        trusted_proxies=get.number("TRUSTED_PROXIES", 0, 0, 10),
        address_pepper=get.text("ADDRESS_PEPPER"),
        ehlo_name=get.text("EHLO_NAME") or socket.getfqdn(),
        audit_days=get.number("AUDIT_DAYS", 730, 30, 36_500),
        confirm_hours=get.number("CONFIRM_HOURS", 72, 1, 24 * 30),
        signups_per_network_hour=get.number("SIGNUPS_PER_NETWORK_HOUR", 60, 1, 10**6),
        signups_per_hour=get.number("SIGNUPS_PER_HOUR", 5000, 1, 10**8),
        import_megabytes=get.number("IMPORT_MEGABYTES", 300, 1, 10_000),
        fetch_allow=get.words("FETCH_ALLOW"),
        relay_allow=get.words("RELAY_ALLOW"),
        mailbox_dir=Path(d) if (d := get.text("MAILBOX_DIR")) else None,
        themes_dir=get.folder("THEMES"),
        demo=demo,
    )


VARIABLES = frozenset(
    {
        *("NEWSLETTER_ADDRESS_PEPPER", "NEWSLETTER_AUDIT_DAYS", "NEWSLETTER_BASE_URL"),
        *("NEWSLETTER_CONFIRM_HOURS", "NEWSLETTER_DATABASE_URL", "NEWSLETTER_DEMO"),
        *("NEWSLETTER_EHLO_NAME", "NEWSLETTER_FETCH_ALLOW"),
        *("NEWSLETTER_IMPORT_MEGABYTES",),
        *("NEWSLETTER_INSTANCE_DIR", "NEWSLETTER_MAILBOX_DIR"),
        *("NEWSLETTER_RELAY_ALLOW",),
        *("NEWSLETTER_SECRET_KEYS", "NEWSLETTER_SIGNUPS_PER_HOUR"),
        *("NEWSLETTER_SIGNUPS_PER_NETWORK_HOUR", "NEWSLETTER_SMTP_URL"),
        *("NEWSLETTER_THEMES", "NEWSLETTER_TRUSTED_PROXIES"),
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


def parse_relays(text: str) -> tuple[Relay, ...]:
    """Read one relay's URL, or several separated by spaces.

    Two at the same host and port need different users. The later one gets a mark made
    from its user, so that its name stays the same wherever it stands among the later.

    Raises ConfigError.
    """
    found: dict[str, Relay] = {}
    for url in _BETWEEN_URLS.split(text.strip()):
        relay = parse_relay(url)
        if relay.name in found:
            mark = hashlib.blake2b(relay.user.encode(), digest_size=3).hexdigest()
            relay = replace(relay, mark=f"#{mark}")
        twins = (
            r for r in found.values() if (r.host, r.port) == (relay.host, relay.port)
        )
        if relay.name in found or relay.user in {twin.user for twin in twins}:
            raise ConfigError(
                "NEWSLETTER_SMTP_URL: relay %(relay)s is there twice with the same"
                " user.",
                relay=f"{relay.host}:{relay.port}",
            )
        found[relay.name] = relay
    return tuple(found.values())


def parse_relay(url: str) -> Relay:
    """Read smtp://, smtp+starttls:// or smtps://user:password@host:port?options.

    Raises ConfigError, naming the relay and the option.
    """
    parts = urlsplit(url)
    security = {"smtp": "plain", "smtp+starttls": "starttls", "smtps": "tls"}.get(
        parts.scheme
    )
    host = parts.hostname
    if security is None or not host or _NOT_IN_A_HOST.search(host):
        raise ConfigError(
            "NEWSLETTER_SMTP_URL must look like smtp://host:25,"
            " smtp+starttls://user:password@host:587 or smtps://user:password@host:465."
            " Several are separated by spaces."
        )
    try:
        port = parts.port or {"plain": 25, "starttls": 587, "tls": 465}[security]
    except ValueError:
        raise ConfigError(
            "NEWSLETTER_SMTP_URL, relay %(relay)s: the port must be a number from 1 to"
            " 65535.",
            relay=host,
        ) from None
    options = _RelayOptions(f"{host}:{port}", parts.query)
    warmup_from, warmup_first = options.warmup()
    return Relay(
        host=host,
        port=port,
        security=security,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        connections=options.whole("connections", 10, 1, 200),
        rate_per_second=options.rate(),
        weight=options.whole("weight", 1, 0, 1000),
        per_day=options.whole("per_day", 0, 0, 100_000_000),
        warmup_from=warmup_from,
        warmup_first=warmup_first,
        per_domain=options.whole("per_domain", 0, 0, 200),
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

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(self.text(name).replace(",", " ").split())

    def flag(self, name: str) -> bool:
        value = self.text(name).lower()
        if value not in {"", "0", "1", "no", "yes", "false", "true"}:
            raise ConfigError("%(name)s must be 0 or 1.", name=PREFIX + name)
        return value in {"1", "yes", "true"}

    def folder(self, name: str) -> Path | None:
        text = self.text(name)
        if text and not Path(text).is_dir():
            raise ConfigError(
                "%(name)s: there is no folder %(folder)s.",
                name=PREFIX + name,
                folder=text,
            )
        return Path(text) if text else None

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


class _RelayOptions:
    """What stands behind the ? in a relay's URL."""

    KNOWN = ("connections", "rate", "weight", "per_day", "warmup", "per_domain")

    def __init__(self, relay: str, query: str) -> None:
        self.relay = relay
        self.values: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in self.KNOWN:
                raise ConfigError(
                    "NEWSLETTER_SMTP_URL, relay %(relay)s: unknown option %(name)s; it"
                    " knows %(known)s.",
                    relay=relay,
                    name=name,
                    known=", ".join(self.KNOWN),
                )
            if name in self.values:
                raise self.wrong(name, "is there twice.")
            self.values[name] = value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        text = self.values.get(name, str(default))
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise self.wrong(name, f"must be a whole number from {low} to {high}.")
        return int(text)

    def rate(self) -> float:
        try:
            rate = float(self.values.get("rate", "0"))
        except ValueError:
            rate = -1.0
        if not 0 <= rate <= 1_000_000:
            raise self.wrong("rate", "must be a number from 0 (no limit) to 1000000.")
        return rate

    def warmup(self) -> tuple[date | None, int]:
        if "warmup" not in self.values:
            return None, 0
        day, _, first = self.values["warmup"].partition(":")
        try:
            start = date.fromisoformat(day if _DAY.fullmatch(day) else "")
        except ValueError:
            start = None
        if not start or not _WHOLE.fullmatch(first) or not 1 <= int(first) <= 1_000_000:
            raise self.wrong(
                "warmup",
                "must be a day and how many mails go on it, from 1 to 1000000, such as"
                " 2026-01-31:50.",
            )
        return start, int(first)

    def wrong(self, name: str, why: str) -> ConfigError:
        return ConfigError(
            "NEWSLETTER_SMTP_URL, relay %(relay)s: %(name)s %(why)s",
            relay=self.relay,
            name=name,
            why=why,
        )


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
