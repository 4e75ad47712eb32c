"""Commands that run and keep the installation: database, servers, backup."""

import click

from newsletter import migrate
from newsletter.cli.common import Installation, example, with_installation


@click.group()
def db() -> None:
    """Look after the database."""


@db.command(epilog=example("db upgrade"))
@with_installation
def upgrade(place: Installation) -> None:
    """Create or migrate the database. Safe to call twice."""
    migrate.upgrade(place.database.engine)
    click.echo("The database is up to date.")


COMMANDS = (db,)
