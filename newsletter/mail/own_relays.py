"""A newsletter's own relay in the database: written, switched, found.

Whoever owns a newsletter names it, so it is believed less than the operator's: it may
be on the internet alone, at the ports of mail and encrypted, unless the operator allows
its host. Its password is opened for the worker and for a trial of the very same place;
no page shows it again.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from newsletter.config import Relay, Settings
from newsletter.errors import N_, ConfigError, InvalidInput, NotFound, RelayError
from newsletter.mail import keys, relays
from newsletter.mail.relays import Health
from newsletter.models import (
    Kind,
    Message,
    MessageState,
    Newsletter,
    NewsletterRelay,
    RelayHealth,
)
from newsletter.networks import Allowed

log = logging.getLogger(__name__)

PORTS = (465, 587, 25, 2465, 2525, 2587)  # where mail is handed over
SECURITIES = ("tls", "starttls", "plain")
CONNECTIONS = 5  # that a worker keeps open, unless another number is typed
SPARE_CONNECTIONS = 2  # to the installation's relays, where they stand in
_HOST = re.compile(
    r"(?=.{1,200}\Z)([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.?)+|[0-9a-f:.]{2,45}"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Draft:
    """A relay as it is typed; a password of None is the one that is kept."""

    host: str
    port: int
    security: str = "tls"
    user: str = ""
    password: str | None = field(default=None, repr=False)
    connections: int = CONNECTIONS
    rate_per_second: float = 0.0
    per_day: int = 0
    warmup_from: date | None = None
    warmup_first: int = 0
    spare: bool = False


def of(session: Session, newsletter_id: int) -> NewsletterRelay | None:
    """Return a newsletter's own relay, in use or not."""
    return session.get(NewsletterRelay, newsletter_id)


def kept(session: Session, newsletter: Newsletter) -> NewsletterRelay:
    """Return a newsletter's own relay, in use or not. Raises NotFound."""
    row = of(session, newsletter.id)
    if row is None:
        raise NotFound(N_("%(slug)s has no relay of its own."), slug=newsletter.slug)
    return row


def in_use(session: Session, newsletter_id: int) -> NewsletterRelay | None:
    """Return the own relay that a newsletter's mail goes by, if it has one."""
    return session.scalar(
        select(NewsletterRelay).where(
            NewsletterRelay.newsletter_id == newsletter_id, NewsletterRelay.active
        )
    )


def all_in_use(session: Session) -> list[tuple[NewsletterRelay, str]]:
    """Return the own relays that mail goes by, each with its newsletter's slug."""
    rows = session.execute(
        select(NewsletterRelay, Newsletter.slug)
        .join(Newsletter, Newsletter.id == NewsletterRelay.newsletter_id)
        .where(NewsletterRelay.active)
        .order_by(NewsletterRelay.newsletter_id)
    )
    return [(row, slug) for row, slug in rows]


def with_mail(session: Session) -> list[tuple[NewsletterRelay, str]]:
    """Return those of them for which mail is under way."""
    open_ones = exists().where(
        Message.newsletter_id == NewsletterRelay.newsletter_id,
        Message.state == MessageState.OPEN,
    )
    rows = session.execute(
        select(NewsletterRelay, Newsletter.slug)
        .join(Newsletter, Newsletter.id == NewsletterRelay.newsletter_id)
        .where(NewsletterRelay.active, open_ones)
    )
    return [(row, slug) for row, slug in rows]


def relays_of(
    session: Session, settings: Settings, newsletter: Newsletter
) -> tuple[Relay, ...]:
    """Return the relays that a newsletter's mail goes by, its own first.

    Without their passwords: to look at, not to log in with.
    """
    row = in_use(session, newsletter.id)
    if row is None:
        return settings.relays
    return _places(settings, row, _relay(settings, row, newsletter.slug, ""))


def names_of(session: Session, settings: Settings, newsletter: Newsletter) -> list[str]:
    """Return the names of the relays that a newsletter's mail goes by."""
    return [relay.name for relay in relays_of(session, settings, newsletter)]


def place_of(settings: Settings, row: NewsletterRelay, slug: str) -> Settings:
    """Return the settings with a newsletter's own relay in the installation's place.

    Raises ConfigError where no secret key opens its password.
    """
    relay, *more = _places(settings, row, opened(settings, row, slug))
    return replace(settings, relay=relay, more_relays=tuple(more))


def opened(settings: Settings, row: NewsletterRelay, slug: str) -> Relay:
    """Return a newsletter's own relay, ready to log in. Raises ConfigError."""
    password = keys.decrypt_password(settings, row.password)
    return _relay(settings, row, slug, password)


def checked(settings: Settings, draft: Draft) -> Draft:
    """Return what is typed as it is kept. Raises InvalidInput."""
    host, user = draft.host.strip().rstrip(".").lower(), draft.user.strip()
    if not _HOST.fullmatch(host):
        raise InvalidInput(
            N_("Write the server's name, such as smtp.example.org."), field="host"
        )
    if draft.security not in SECURITIES:
        raise InvalidInput(N_("Choose one of the list."), field="security")
    if len(user) > 320 or _CONTROL.search(user):
        raise InvalidInput(
            N_("A user name is one line of at most 320 characters."), field="user"
        )
    _check_place(settings, host, draft)
    _check_numbers(draft)
    return replace(draft, host=host, user=user)


def drafted(
    session: Session, settings: Settings, newsletter: Newsletter, draft: Draft
) -> Relay:
    """Return a relay as it is typed, to be tried. Raises InvalidInput, ConfigError.

    The kept password goes to no other place than it was typed for.
    """
    wanted = checked(settings, draft)
    password = _password(session, settings, newsletter, wanted)
    return _relay(settings, wanted, newsletter.slug, password)


def save(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    draft: Draft,
    *,
    now: datetime,
) -> NewsletterRelay:
    """Let a newsletter's mail go by a relay of its own. Raises InvalidInput.

    Running workers take it up by themselves, within a second or two.
    """
    wanted = checked(settings, draft)
    password = _password(session, settings, newsletter, wanted)
    make_ready(session, newsletter)
    row = of(session, newsletter.id)
    if row is None:
        row = NewsletterRelay(newsletter_id=newsletter.id)
    for name in Draft.__slots__:
        if name != "password":
            setattr(row, name, getattr(wanted, name))
    if draft.password is not None or not wanted.user:
        row.password = keys.encrypt_password(settings, password)
    row.active, row.changed_at = True, now
    session.add(row)
    session.flush()
    return row


def switch(session: Session, newsletter: Newsletter, *, on: bool, now: datetime) -> str:
    """Use the own relay that is kept, or the installation's again; return its host.

    Raises NotFound where none is kept.
    """
    row = kept(session, newsletter)
    make_ready(session, newsletter)
    row.active, row.changed_at = on, now
    session.flush()
    return row.host


def forget(session: Session, newsletter: Newsletter) -> None:
    """Delete the own relay and its password. Raises NotFound where none is kept."""
    row = kept(session, newsletter)
    make_ready(session, newsletter)
    session.delete(row)
    session.flush()


def make_ready(session: Session, newsletter: Newsletter) -> None:
    """Make ready for another relay: what was known of the last one is old.

    Notices to editors that still wait go by the installation's relays: some hold the
    key to an account, and must not pass through the hands of who names a relay.

    Nobody may refer to the newsletter meanwhile: `may_send_accounts` relies on it.
    """
    session.execute(
        select(Newsletter.id).where(Newsletter.id == newsletter.id).with_for_update()
    )
    session.execute(
        delete(RelayHealth).where(
            RelayHealth.name.endswith(f"{relays.OWN}{newsletter.slug}", autoescape=True)
        )
    )
    if in_use(session, newsletter.id) is None:
        session.execute(
            update(Message)
            .where(
                Message.newsletter_id == newsletter.id,
                Message.state == MessageState.OPEN,
                Message.kind == Kind.NOTICE,
            )
            .values(newsletter_id=None)
        )


def may_send_accounts(session: Session, newsletter: Newsletter) -> bool:
    """Tell whether a mail with the key to an account may go in a newsletter's name.

    By its own relay it would pass through the hands of whoever named that. The answer
    holds until the transaction ends.
    """
    session.execute(
        select(Newsletter.id)
        .where(Newsletter.id == newsletter.id)
        .with_for_update(read=True, key_share=True)
    )
    return in_use(session, newsletter.id) is None


def renew(session: Session, settings: Settings) -> int:
    """Encrypt with the newest secret key what an older one encrypted; return how many.

    Leaves alone what no secret key opens.
    """
    renewed = 0
    for row in session.scalars(select(NewsletterRelay)).all():
        try:
            again = keys.renewed_password(settings, row.password)
        except ConfigError as error:
            log.error("relay of newsletter id=%d: %s", row.newsletter_id, error)
            continue
        if again is not None:
            row.password = again
            renewed += 1
    return renewed


def unopened(session: Session, settings: Settings) -> list[tuple[str, ConfigError]]:
    """Return the newsletters whose relay's password cannot be opened, and why."""
    found = []
    for row, slug in all_in_use(session):
        try:
            keys.decrypt_password(settings, row.password)
        except ConfigError as error:
            found.append((slug, error))
    return found


def report_unopened(
    session: Session,
    row: NewsletterRelay,
    slug: str,
    error: ConfigError,
    *,
    now: datetime,
) -> None:
    """Say why a newsletter's mail waits: its relay's password cannot be opened."""
    trouble = RelayError(error.message, **error.values)
    name = relays.own_name(row, slug)
    relays.report(session, Health(name, trouble, failures=1), now=now)


def _relay(
    settings: Settings, place: NewsletterRelay | Draft, slug: str, password: str
) -> Relay:
    return Relay(
        host=place.host,
        port=place.port,
        security=place.security,
        user=place.user,
        password=password,
        connections=place.connections,
        rate_per_second=place.rate_per_second,
        per_day=place.per_day,
        warmup_from=place.warmup_from,
        warmup_first=place.warmup_first,
        mark=f"{relays.OWN}{slug}",
        inside=settings.relay_allow,
    )


def _places(settings: Settings, row: NewsletterRelay, own: Relay) -> tuple[Relay, ...]:
    if not row.spare:
        return (own,)
    return (
        own,
        *(
            replace(
                relay,
                weight=0,
                connections=min(relay.connections, SPARE_CONNECTIONS),
            )
            for relay in settings.relays
        ),
    )


def _password(
    session: Session, settings: Settings, newsletter: Newsletter, draft: Draft
) -> str:
    if not draft.user:
        return ""
    if draft.password is not None:
        return _checked_password(draft.password)
    row = of(session, newsletter.id)
    if row is None or not row.password:
        raise InvalidInput(N_("Type the password."), field="password")
    same = ("host", "port", "security", "user")
    if any(getattr(row, name) != getattr(draft, name) for name in same):
        raise InvalidInput(
            N_(
                "Type the password. The one that is kept is only for the server, the"
                " encryption and the user it was typed for."
            ),
            field="password",
        )
    return keys.decrypt_password(settings, row.password)


def _checked_password(password: str) -> str:
    if not password or len(password) > 1000 or _CONTROL.search(password):
        raise InvalidInput(
            N_("A password is one line of 1 to 1000 characters."), field="password"
        )
    return password


def _check_place(settings: Settings, host: str, draft: Draft) -> None:
    """Let outside hosts be reached at the ports of mail alone, and encrypted."""
    is_trusted = _is_trusted(settings, host)
    if not 1 <= draft.port <= 65_535 or not (is_trusted or draft.port in PORTS):
        raise InvalidInput(
            N_("Mail is handed over at port 465 or 587; %(ports)s are possible too."),
            field="port",
            ports=", ".join(map(str, PORTS[2:])),
        )
    if draft.security == "plain" and not is_trusted:
        raise InvalidInput(
            N_(
                "Mail and password would travel unencrypted. Whoever runs Inkorg can"
                " allow that for a host with NEWSLETTER_RELAY_ALLOW."
            ),
            field="security",
        )


def _is_trusted(settings: Settings, host: str) -> bool:
    allowed = Allowed(settings.relay_allow)
    if allowed.names(host):
        return True
    try:
        return allowed.holds(host)
    except ValueError:  # a name: where it is shows when it is dialled
        return False


def _check_numbers(draft: Draft) -> None:
    limits: Mapping[str, tuple[float, int, int]] = {
        "connections": (draft.connections, 1, 50),
        "rate_per_second": (draft.rate_per_second, 0, 1_000_000),
        "per_day": (draft.per_day, 0, 100_000_000),
        "warmup_first": (draft.warmup_first, 0, 1_000_000),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise InvalidInput(
                N_("Write a number from %(low)s to %(high)s."),
                field=name,
                low=low,
                high=high,
            )
    if draft.warmup_first and draft.warmup_from is None:
        raise InvalidInput(N_("Say on which day the plan begins."), field="warmup_from")
