"""Commands about newsletters."""

import click

from newsletter import newsletters
from newsletter.cli.common import (
    Installation,
    example,
    json_option,
    show_json,
    with_installation,
)


@click.group()
def newsletter() -> None:
    """Create and list newsletters."""


@newsletter.command("list", epilog=example("newsletter list --json"))
@json_option
@with_installation
def list_(place: Installation, as_json: bool) -> None:
    """List the newsletters."""
    with place.database.reading() as session:
        rows = [
            {"slug": n.slug, "title": n.title, "language": n.language}
            for n in newsletters.all_newsletters(session)
        ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        click.echo(f"{row['slug']}\t{row['title']}\t{row['language']}")


COMMANDS = (newsletter,)
