"""`doctor`: is everything there that mail needs to leave and to be believed?"""

import smtplib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import click
import dns.exception
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from newsletter import i18n, migrate, newsletters
from newsletter.cli.common import (
    Installation,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.config import Relay, Settings
from newsletter.db import utcnow
from newsletter.digests import design, theme_check, themes
from newsletter.digests.look import Look
from newsletter.errors import ConfigError, ThemeError
from newsletter.mail import destinations, keyring, limits, own_relays
from newsletter.mail.keys import covers, decrypt, flaw, record_name
from newsletter.mail.probing import (
    FREE_MAIL,
    Lookup,
    Probe,
    dmarc_probe,
    greet,
    is_made_up,
    own_relay_probe,
    spf_probe,
)
from newsletter.mail.probing import txt_lookup as txt_lookup
from newsletter.models import Algorithm, DkimKey, Job, Newsletter
from newsletter.posts import health, sources

MARKS = {"good": "✓", "note": "·", "wrong": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: good, worth a note, or wrong, with what to do."""

    about: str
    state: str  # good | note | wrong
    words: str


@click.command(epilog=example("doctor labbet"))
@click.argument("slug", required=False)
@click.option("--dkim-selector", help="Also look up this DKIM key of the domain.")
@json_option
@with_installation
def doctor(
    place: Installation, slug: str | None, dkim_selector: str | None, as_json: bool
) -> None:
    """Look for what stands in the way of mail. Exits 1 if something is wrong.

    Without SLUG, every newsletter is looked at.
    """
    found = [*check_settings(place.settings), *check_database(place)]
    if _schema_stands(found):
        with place.database.reading() as session:
            chosen = (
                [newsletters.by_slug(session, slug)]
                if slug
                else newsletters.all_newsletters(session)
            )
            looks = {n.id: design.look_of(place.settings, n) for n in chosen}
            keys = [key for key in keyring.all_keys(session) if key.active]
        lookup = txt_lookup()
        for newsletter in chosen:
            own = [key for key in keys if key.newsletter_id == newsletter.id]
            found += check_newsletter(newsletter)
            found += check_feeds(place, newsletter)
            found += check_theme(place.settings, looks[newsletter.id])
            found += check_keys(place.settings, newsletter, own)
            found += check_domain(newsletter, lookup, dkim_selector, own)
            found += check_own_relay(place, newsletter)
        found += check_limits(place)
    for relay in place.settings.relays:
        found += check_relay(relay)
    if as_json:
        show_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            click.echo(f"{MARKS[finding.state]} {finding.about}: {finding.words}")
    if any(finding.state == "wrong" for finding in found):
        raise SystemExit(1)


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Look at what the environment says."""
    count = len(settings.secret_keys)
    yield Finding("secret keys", "good", f"{count}, the newest signs")
    if not settings.address_pepper:
        yield Finding(
            "address pepper",
            "note",
            "NEWSLETTER_ADDRESS_PEPPER is not set, so the oldest secret key stands in:"
            " never remove that key, or suppressed addresses are forgotten.",
        )
    if settings.demo:
        yield Finding("base URL", "note", f"{settings.base_url} (the demo's)")
    elif settings.secure and not is_made_up(settings.host):
        yield Finding("base URL", "good", settings.base_url)
    else:
        yield Finding(
            "base URL",
            "wrong",
            f"{settings.base_url} cannot be reached from a mail. Set"
            " NEWSLETTER_BASE_URL to the https:// address readers use.",
        )


def check_database(place: Installation) -> Iterator[Finding]:
    """Look at the database, its schema and whether a worker's clock runs."""
    kind = "SQLite" if place.database.is_sqlite else "PostgreSQL"
    try:
        current, newest = migrate.revisions(place.database.engine)
        if current != newest:
            yield Finding(
                "database",
                "wrong",
                f"{kind}, at {current or 'nothing'} instead of {newest}."
                " Run: python -m newsletter db upgrade",
            )
            return
        yield Finding("database", "good", f"{kind}, schema {current}")
        with place.database.reading() as session:
            jobs = list(session.scalars(select(Job)))
    except SQLAlchemyError as error:
        yield Finding("database", "wrong", f"{kind}: {str(error).splitlines()[0]}")
        return
    ran = max((job.ran_at for job in jobs if job.ran_at), default=None)
    if ran and utcnow() - ran < timedelta(minutes=1):
        yield Finding("worker", "good", "its clock ticks")
    else:
        yield Finding(
            "worker", "wrong", "none is running. Start: python -m newsletter work"
        )
    for job in jobs:
        if job.error:
            yield Finding(f"job {job.name}", "wrong", job.error)


def check_newsletter(newsletter: Newsletter) -> Iterator[Finding]:
    """Look at what the law and the big providers ask of a newsletter."""
    about = f"{newsletter.slug}, postal address"
    if newsletter.postal_address.strip():
        yield Finding(about, "good", " · ".join(newsletter.postal_address.split("\n")))
    else:
        yield Finding(about, "wrong", "missing; the law asks for it in every issue.")
    about = f"{newsletter.slug}, sender"
    domain = newsletter.from_email.rpartition("@")[2].lower()
    if domain in FREE_MAIL:
        yield Finding(
            about,
            "wrong",
            f"{domain} does not let others send in its name. Use a domain of your own.",
        )
    elif newsletter.from_email.lower().startswith(("noreply@", "no-reply@")):
        yield Finding(about, "note", "readers cannot answer; a real mailbox is better.")
    else:
        yield Finding(about, "good", f"mail comes from {domain}")


def check_feeds(place: Installation, newsletter: Newsletter) -> Iterator[Finding]:
    """Look at whether the feeds can be read."""
    words, now = i18n.language(i18n.SOURCE), utcnow()
    with place.database.reading() as session:
        feeds = sources.feeds(session, newsletter)
        latest = health.last_posts(session, feeds)
    for feed in feeds:
        line = health.line(words, feed, newsletter.timezone, latest, now=now)
        state = {"good": "good", "bad": "wrong", "quiet": "note"}[line.state]
        text = f"{line.text} {line.reason}".strip()
        yield Finding(f"{newsletter.slug}, feed {feed.url}", state, text)


def check_theme(settings: Settings, look: Look) -> Iterator[Finding]:
    """Look at whether a newsletter's theme is there and can be sent; ours can."""
    about = f"theme {look.theme}"
    try:
        theme = themes.find(settings, look.theme)
    except ThemeError as error:
        yield Finding(about, "wrong", str(error))
        return
    if not theme.own:
        yield Finding(about, "good", "built in")
        return
    flaws, _cases = theme_check.check(theme, base=settings)
    for one in flaws:
        yield Finding(about, "wrong", one)
    if not flaws:
        yield Finding(about, "good", f"{theme.folder}")


def check_keys(
    settings: Settings, newsletter: Newsletter, keys: Sequence[DkimKey]
) -> Iterator[Finding]:
    """Look at whether the DKIM keys that are on can sign; the DNS comes later."""
    domain = keyring.domain_of(newsletter)
    for key in keys:
        about = f"{newsletter.slug}, DKIM key {key.selector}"
        if not covers(key.domain, domain):
            yield Finding(
                about,
                "wrong",
                f"it is for {key.domain}, and mail comes from {domain}: nothing is"
                " signed. Make another: python -m newsletter dkim create"
                f" {newsletter.slug}",
            )
            continue
        try:
            decrypt(settings, key.private)
        except ConfigError as error:
            yield Finding(about, "wrong", str(error))
        else:
            yield Finding(about, "good", f"signs with {key.algorithm}")
    if keys and all(key.algorithm is Algorithm.ED25519 for key in keys):
        about = f"{newsletter.slug}, DKIM keys"
        yield Finding(about, "wrong", "few receivers check Ed25519: add an RSA key.")


def check_key(key: DkimKey, lookup: Lookup) -> Finding:
    """Look up whether the DNS has a DKIM key as it is here."""
    name = record_name(key.domain, key.selector)
    about = f"{key.domain}, DKIM"
    try:
        wrong = flaw(lookup(name), key.algorithm, key.public)
    except dns.exception.DNSException as error:
        return Finding(about, "note", f"The DNS does not answer now: {error}")
    if wrong:
        return Finding(about, "wrong", wrong % {"name": name})
    return Finding(about, "good", f"the key at {name} is the one that signs")


def check_domain(
    newsletter: Newsletter,
    lookup: Lookup,
    dkim_selector: str | None = None,
    keys: Sequence[DkimKey] = (),
) -> Iterator[Finding]:
    """Look up what lets others believe mail from the sender's domain."""
    domain = newsletter.from_email.rpartition("@")[2].lower()
    if is_made_up(domain):
        yield Finding(domain, "note", "a made-up domain: not looked up in the DNS.")
        return
    try:
        yield _about_domain(domain, spf_probe(domain, lookup))
        yield _about_domain(domain, dmarc_probe(domain, lookup))
        if dkim_selector or not keys:
            yield _check_dkim(domain, lookup, dkim_selector)
    except dns.exception.DNSException as error:
        yield Finding(domain, "note", f"the DNS does not answer now: {error}")
    for key in keys:
        yield check_key(key, lookup)


def check_relay(relay: Relay) -> Iterator[Finding]:
    """Say hello to the relay, without sending anything."""
    about = f"relay {relay.name}"
    try:
        with greet(relay) as server:
            offers = sorted(name.upper() for name in server.esmtp_features)
            if relay.user:
                server.login(relay.user, relay.password)
    except smtplib.SMTPAuthenticationError:
        yield Finding(about, "wrong", "it refuses the user name or the password.")
        return
    except (OSError, smtplib.SMTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        yield Finding(about, "wrong", f"{why}. Look at NEWSLETTER_SMTP_URL.")
        return
    yield Finding(about, "good", f"answers, and offers {', '.join(offers) or 'little'}")
    local = relay.host in {"127.0.0.1", "::1", "localhost"}
    if relay.security == "plain" and not local:
        yield Finding(
            about,
            "wrong",
            "mail would travel unencrypted. Use smtp+starttls:// or smtps://.",
        )


def check_own_relay(place: Installation, newsletter: Newsletter) -> Iterator[Finding]:
    """Say hello to a newsletter's own relay, if it has one, as the sender would."""
    settings, now = place.settings, utcnow()
    with place.database.reading() as session:
        row = own_relays.in_use(session, newsletter.id)
        if row is None:
            return
        about = f"{newsletter.slug}, relay {row.host}:{row.port}"
        try:
            relay = own_relays.opened(settings, row, newsletter.slug)
        except ConfigError as error:
            yield Finding(about, "wrong", str(error))
            return
        yield from _today(session, relay, f"{about}, today", now)
    probe = own_relay_probe(relay, settings.ehlo_name)
    yield Finding(about, probe.state, probe.message % probe.values)


def check_limits(place: Installation) -> Iterator[Finding]:
    """Look at what is left of the day's limits, and who asked us to slow down."""
    now = utcnow()
    with place.database.reading() as session:
        for relay in place.settings.relays:
            yield from _today(session, relay, f"relay {relay.name}, today", now)
        for slowed in destinations.describe(session, now=now):
            yield Finding(
                f"relay {slowed.relay}",
                "note",
                f"{slowed.domain} asked us to slow down; next try"
                f" {slowed.until:%H:%M} UTC. It said: {slowed.reply}",
            )


def _today(
    session: Session, relay: Relay, about: str, now: datetime
) -> Iterator[Finding]:
    limit = limits.day_limit(relay, now.date())
    left = limits.left_today(session, relay, now=now, single=True)
    if limit is not None:
        yield Finding(
            about,
            "good" if left else "note",
            f"{left} of {limit} mails left until midnight (UTC)",
        )


def _schema_stands(found: list[Finding]) -> bool:
    return any(f.about == "database" and f.state == "good" for f in found)


def _about_domain(domain: str, probe: Probe) -> Finding:
    words = probe.message % probe.values
    mend = f" {probe.name}: {probe.text}" if probe.text else ""
    return Finding(f"{domain}, {probe.about}", probe.state, words + mend)


def _check_dkim(domain: str, lookup: Lookup, selector: str | None) -> Finding:
    about = f"{domain}, DKIM"
    if not selector:
        return Finding(
            about,
            "note",
            "your relay signs, or should. Name its selector to look the key up:"
            " --dkim-selector",
        )
    name = f"{selector}._domainkey.{domain}"
    records = lookup(name)
    keys = [part for text in records for part in text.split(";") if "p=" in part]
    if not any(key.split("p=", 1)[1].strip() for key in keys):
        return Finding(about, "wrong", f"no key at {name}.")
    return Finding(about, "good", f"a key at {name}")


COMMANDS = (doctor,)
