"""Commands about editors."""

import click

from newsletter import editors, newsletters
from newsletter.cli.common import (
    Installation,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.db import utcnow
from newsletter.errors import N_, NotFound
from newsletter.models import Role
from newsletter.subscribers import addresses


@click.group()
def editor() -> None:
    """Invite and list editors."""


@editor.command(epilog=example("editor invite anna@example.org --role owner"))
@click.argument("email")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="What they may do: an owner everything, an editor all but the settings and"
    " people, a viewer looks.",
)
@click.option(
    "--newsletter", "slug", help="Only for the newsletter SLUG; otherwise for all."
)
@with_installation
def invite(place: Installation, email: str, role: str, slug: str | None) -> None:
    """Give EMAIL a role and print a link that logs them in, once, within seven days.

    For an editor who is here already: changes the role and makes a new link.
    """
    address = addresses.read_address(email, trial=True)
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug) if slug else None
        url = editors.invite(
            session, place.settings, address.email, Role(role), newsletter, now=utcnow()
        )
    click.echo(url)


@editor.command(
    "forget-second-factor", epilog=example("editor forget-second-factor a@example.org")
)
@click.argument("email")
@with_installation
def forget_second_factor(place: Installation, email: str) -> None:
    """Let EMAIL in with the password alone, when phone and recovery codes are gone."""
    with place.database.transaction() as session:
        found = editors.by_email(session, email)
        if found is None:
            raise NotFound(N_("There is no editor called %(email)s."), email=email)
        editors.forget_second_factor(session, found)
    click.echo(f"{found.email} logs in with the password alone until it is set again.")


@editor.command("list", epilog=example("editor list --json"))
@json_option
@with_installation
def list_(place: Installation, as_json: bool) -> None:
    """List who may do what."""
    with place.database.reading() as session:
        slugs = {n.id: n.slug for n in newsletters.all_newsletters(session)}
        rows = [
            {
                "email": membership.editor.email,
                "name": membership.editor.name,
                "role": membership.name.value,
                "newsletter": slugs.get(membership.newsletter_id or 0),
                "has_logged_in": membership.editor.confirmed_at is not None,
            }
            for membership in editors.members(session)
        ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        where = row["newsletter"] or "(all)"
        click.echo(f"{row['email']}\t{row['role']}\t{where}")


COMMANDS = (editor,)
