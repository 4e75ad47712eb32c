"""Commands about DKIM: keys that sign a newsletter's mail, and their DNS records."""

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
from newsletter.cli.doctor import check_key, txt_lookup
from newsletter.db import utcnow
from newsletter.errors import N_, Conflict
from newsletter.mail import keyring, keys
from newsletter.models import Algorithm, DkimKey

ALGORITHMS = {
    "rsa": [Algorithm.RSA],
    "ed25519": [Algorithm.ED25519],
    "both": [Algorithm.RSA, Algorithm.ED25519],
}
selector_option = click.option(
    "--selector", default="", metavar="NAME", help="Only the key of this name."
)


@click.group()
def dkim() -> None:
    """Sign a newsletter's mail, where the relay does not (DKIM)."""


@dkim.command(epilog=example("dkim create labbet --algorithm both"))
@click.argument("slug")
@click.option(
    "--selector",
    default="",
    metavar="NAME",
    help="The key's name in the DNS; otherwise made of SLUG and the month. With both"
    " algorithms, -ed is added for Ed25519.",
)
@click.option(
    "--algorithm",
    type=click.Choice(list(ALGORITHMS)),
    default="rsa",
    show_default=True,
    help="Everybody knows RSA (2048 bits). Ed25519 only beside it: few receivers check"
    " it yet.",
)
@click.option(
    "--domain", default="", help="A domain above the sender's, to sign for instead."
)
@json_option
@with_installation
def create(
    place: Installation,
    slug: str,
    selector: str,
    algorithm: str,
    domain: str,
    as_json: bool,
) -> None:
    """Make keys for the newsletter SLUG and print their DNS records.

    They sign nothing before they are switched on: dkim on SLUG.
    """
    made = []
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        for kind in ALGORITHMS[algorithm]:
            second = kind is Algorithm.ED25519 and algorithm == "both"
            row = keyring.create(
                session,
                place.settings,
                newsletter,
                kind,
                selector=f"{selector}-ed" if selector and second else selector,
                domain=domain,
                now=utcnow(),
            )
            made.append(_row(slug, row))
    if as_json:
        show_json(made)
        return
    for record in made:
        click.echo(_instructions(record))
    click.echo(f"When the DNS has that: python -m newsletter dkim on {slug}")


@dkim.command(epilog=example("dkim on labbet"))
@click.argument("slug")
@selector_option
@click.option("--force", is_flag=True, help="Whatever the DNS says.")
@with_installation
def on(place: Installation, slug: str, selector: str, force: bool) -> None:
    """Sign the mail of SLUG with its newest keys, if the DNS has their records.

    An older key of the same algorithm is switched off.
    """
    with place.database.reading() as session:
        newsletter = newsletters.by_slug(session, slug)
        rows = (
            keyring.named(session, newsletter, selector)
            if selector
            else keyring.newest(session, newsletter)
        )
    if not force:
        _look_up(rows)
    looked_up = {row.id for row in rows}
    said = []
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        found = keyring.all_keys(session, newsletter)
        for row in (row for row in found if row.id in looked_up):
            replaced = keyring.switch_on(session, newsletter, row)
            said += [_state(other, "off") for other in replaced] + [_state(row, "on")]
    click.echo("\n".join(said))
    if Algorithm.RSA not in {row.algorithm for row in found if row.active}:
        click.echo("Few receivers check Ed25519: add an RSA key.", err=True)


@dkim.command(epilog=example("dkim off labbet"))
@click.argument("slug")
@selector_option
@with_installation
def off(place: Installation, slug: str, selector: str) -> None:
    """Stop signing the mail of SLUG. Leave the records in the DNS for some weeks."""
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        found = keyring.named(session, newsletter, selector)
        rows = [row for row in found if row.active]
        for row in rows:
            row.active = False
    for row in rows:
        click.echo(_state(row, "off"))


@dkim.command("list", epilog=example("dkim list labbet --json"))
@click.argument("slug", required=False)
@json_option
@with_installation
def list_(place: Installation, slug: str | None, as_json: bool) -> None:
    """List the keys of SLUG, or of every newsletter; --json has their DNS records."""
    with place.database.reading() as session:
        chosen = newsletters.by_slug(session, slug) if slug else None
        slugs = {n.id: n.slug for n in newsletters.all_newsletters(session)}
        rows = [
            _row(slugs[row.newsletter_id], row)
            for row in keyring.all_keys(session, chosen)
        ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        state = "on" if row["active"] else "off"
        made = row["created_at"].date()
        click.echo(
            f"{row['newsletter']}\t{row['algorithm']}\t{state}\t{made}\t{row['name']}"
        )


def _look_up(rows: list[DkimKey]) -> None:
    """Ask the DNS for each key. Raises Conflict if it has not what it should."""
    lookup = txt_lookup()
    for row in rows:
        finding = check_key(row, lookup)
        if finding.state != "good":
            raise Conflict(
                N_(
                    "%(finding)s A new record can take hours to be seen. What it should"
                    " hold: dkim list --json. To switch on all the same: --force"
                ),
                finding=finding.words,
            )


def _row(slug: str, row: DkimKey) -> dict[str, Any]:
    name = keys.record_name(row.domain, row.selector)
    value = keys.record(row.algorithm, row.public)
    return {
        "newsletter": slug,
        "domain": row.domain,
        "selector": row.selector,
        "algorithm": row.algorithm.value,
        "active": row.active,
        "created_at": row.created_at,
        "name": name,
        "type": "TXT",
        "value": value,
        "zone_line": keys.zone_line(name, value),
    }


def _instructions(row: dict[str, Any]) -> str:
    return (
        f"Publish this TXT record ({row['algorithm']}).\n\n"
        f"In a form, name and value:\n\n{row['name']}\n{row['value']}\n\n"
        f"Or in a zone file, as one line:\n\n{row['zone_line']}\n"
    )


def _state(row: DkimKey, state: str) -> str:
    return f"{state}\t{row.algorithm}\t{keys.record_name(row.domain, row.selector)}"


COMMANDS = (dkim,)
