"""The command line's root: collects the commands and turns errors into one line."""

import sys

import click
from sqlalchemy.exc import OperationalError, ProgrammingError

from newsletter.cli import (
    backup,
    dkim,
    doctor,
    editors,
    issues,
    newsletters,
    operations,
    posts,
    relay,
    subscribers,
    themes,
)
from newsletter.errors import InkorgError

MODULES = (
    *(
        operations,
        doctor,
        backup,
        newsletters,
        dkim,
        relay,
        posts,
        editors,
        subscribers,
    ),
    *(issues, themes),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Inkorg: get new posts in your inbox."""


for module in MODULES:
    for command in module.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run the command line: exit 0, 1 with one line on stderr, or 2 on misuse."""
    try:
        cli(prog_name="python -m newsletter")
    except InkorgError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except (OperationalError, ProgrammingError) as error:
        why = next(iter(str(error.orig).splitlines()), "").strip().rstrip(".?")
        click.echo(
            f"The database cannot be used: {why}. Is it running, is"
            " NEWSLETTER_DATABASE_URL right, and is it up to date (python -m newsletter"
            " db upgrade)?",
            err=True,
        )
        sys.exit(1)
