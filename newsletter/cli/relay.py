"""Commands about relays: which one each newsletter's mail goes by."""

import sys
from datetime import datetime
from typing import Any

import click

from newsletter import newsletters
from newsletter.cli.common import (
    Installation,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.db import utcnow
from newsletter.errors import N_, Conflict
from newsletter.mail import own_relays, probing
from newsletter.mail.own_relays import CONNECTIONS, SECURITIES, Draft
from newsletter.models import NewsletterRelay

USUAL_PORTS = {"tls": 465, "starttls": 587, "plain": 25}


@click.group()
def relay() -> None:
    """Let a newsletter's mail go by a relay of its own."""


@relay.command(
    "set", epilog=example("relay set labbet --host smtp.example.org --user labbet")
)
@click.argument("slug")
@click.option("--host", required=True, help="The server.")
@click.option("--port", type=int, help="Otherwise the usual one: 465, 587 or 25.")
@click.option(
    "--security",
    type=click.Choice(SECURITIES),
    default="tls",
    show_default=True,
    help="plain only for what NEWSLETTER_RELAY_ALLOW names.",
)
@click.option("--user", default="", help="Asks for the password, or reads a line.")
@click.option("--keep-password", is_flag=True, help="Use the one that is kept.")
@click.option("--rate", type=float, default=0.0, help="Mails a second; 0: no limit.")
@click.option("--per-day", type=int, default=0, help="Mails a day; 0: no limit.")
@click.option("--connections", type=int, default=CONNECTIONS, show_default=True)
@click.option("--warmup-first", type=int, default=0, help="Mails on the first day.")
@click.option(
    "--warmup-from",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The first day of that plan; otherwise today.",
)
@click.option(
    "--spare/--no-spare",
    default=False,
    help="While it cannot be used, send by the installation's relays.",
)
@click.option("--force", is_flag=True, help="Whatever it answers.")
@with_installation
def set_(
    place: Installation,
    slug: str,
    host: str,
    port: int | None,
    security: str,
    user: str,
    keep_password: bool,
    rate: float,
    per_day: int,
    connections: int,
    warmup_first: int,
    warmup_from: datetime | None,
    spare: bool,
    force: bool,
) -> None:
    """Use a relay of its own for the mail of SLUG, if it takes mail.

    Running workers take it up within a second or two.
    """
    begins = (warmup_from or utcnow()).date() if warmup_first else None
    draft = Draft(
        host=host,
        port=USUAL_PORTS[security] if port is None else port,
        security=security,
        user=user,
        password=None if keep_password or not user else _ask_password(),
        connections=connections,
        rate_per_second=rate,
        per_day=per_day,
        warmup_from=begins,
        warmup_first=warmup_first,
        spare=spare,
    )
    if not force:
        _try(place, slug, draft)
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        row = own_relays.save(session, place.settings, newsletter, draft, now=utcnow())
    click.echo(_line(slug, row))


@relay.command(epilog=example("relay on labbet"))
@click.argument("slug")
@with_installation
def on(place: Installation, slug: str) -> None:
    """Use SLUG's own relay again, which is kept."""
    _switch(place, slug, on=True)


@relay.command(epilog=example("relay off labbet"))
@click.argument("slug")
@with_installation
def off(place: Installation, slug: str) -> None:
    """Send the mail of SLUG by the installation's relays; its own is kept."""
    _switch(place, slug, on=False)


@relay.command(epilog=example("relay forget labbet"))
@click.argument("slug")
@with_installation
def forget(place: Installation, slug: str) -> None:
    """Delete SLUG's own relay and its password."""
    with place.database.transaction() as session:
        own_relays.forget(session, newsletters.by_slug(session, slug))
    click.echo(f"{slug}: {_shared(place)}")


@relay.command("list", epilog=example("relay list --json"))
@json_option
@with_installation
def list_(place: Installation, as_json: bool) -> None:
    """List by which relay each newsletter's mail goes; passwords are never shown."""
    with place.database.reading() as session:
        rows = [
            (newsletter.slug, own_relays.of(session, newsletter.id))
            for newsletter in newsletters.all_newsletters(session)
        ]
    if as_json:
        show_json([_row(place, slug, row) for slug, row in rows])
        return
    for slug, row in rows:
        click.echo(_line(slug, row) if row else f"{slug}\t{_shared(place)}")


def _ask_password() -> str:
    """Ask for the password where somebody sits; else read a line."""
    if sys.stdin.isatty():
        found: str = click.prompt("Password", hide_input=True, err=True)
        return found
    return sys.stdin.readline().rstrip("\r\n")


def _try(place: Installation, slug: str, draft: Draft) -> None:
    """Say hello and log in. Raises Conflict if it would not take mail."""
    with place.database.reading() as session:
        newsletter = newsletters.by_slug(session, slug)
        typed = own_relays.drafted(session, place.settings, newsletter, draft)
    probe = probing.own_relay_probe(typed, place.settings.ehlo_name)
    if probe.state == probing.WRONG:
        raise Conflict(
            N_("%(said)s Nothing is changed. To use it all the same: --force"),
            said=probe.message % probe.values,
        )


def _switch(place: Installation, slug: str, *, on: bool) -> None:
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        own_relays.switch(session, newsletter, on=on, now=utcnow())
        row = own_relays.of(session, newsletter.id)
    click.echo(_line(slug, row) if on and row else f"{slug}\t{_shared(place)}")


def _shared(place: Installation) -> str:
    names = ", ".join(relay.name for relay in place.settings.relays)
    return f"the installation's\t{names}"


def _line(slug: str, row: NewsletterRelay) -> str:
    state = "its own" if row.active else "its own, off"
    return f"{slug}\t{state}\t{row.host}:{row.port}\t{row.security}"


def _row(place: Installation, slug: str, row: NewsletterRelay | None) -> dict[str, Any]:
    own = None
    if row is not None:
        names = (
            *("active", "host", "port", "security", "user", "connections"),
            *("rate_per_second", "per_day", "warmup_from", "warmup_first", "spare"),
            "changed_at",
        )
        own = {name: getattr(row, name) for name in names}
    return {
        "newsletter": slug,
        "own": own,
        "goes_by": [f"{row.host}:{row.port}"]
        if row and row.active
        else [relay.name for relay in place.settings.relays],
    }


COMMANDS = (relay,)
