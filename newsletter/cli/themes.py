"""`theme`: which ones there are, and whether one's own can be sent."""

from pathlib import Path

import click

from newsletter import newsletters
from newsletter.cli.common import (
    Installation,
    counted,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.digests import design, theme_check, themes
from newsletter.digests.theme_check import Case


@click.group()
def theme() -> None:
    """Themes of the mail: list them, check one of your own."""


@theme.command("list", epilog=example("theme list"))
@json_option
@with_installation
def list_(place: Installation, as_json: bool) -> None:
    """List the themes, and which newsletters use each."""
    with place.database.reading() as session:
        used = {
            newsletter.slug: design.look_of(place.settings, newsletter).theme
            for newsletter in newsletters.all_newsletters(session)
        }
    rows = [
        {
            "name": found.name,
            "title": found.title,
            "own": found.own,
            "folder": str(found.folder),
            "newsletters": [slug for slug, name in used.items() if name == found.name],
        }
        for found in themes.available(place.settings)
    ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        where = row["folder"] if row["own"] else "built in"
        slugs = row["newsletters"]
        assert isinstance(slugs, list)  # noqa: S101 (for the type checker)
        click.echo(f"{row['name']}\t{row['title']}\t{where}\t{', '.join(slugs)}")


@theme.command(epilog=example("theme check /srv/inkorg/themes/ours"))
@click.argument(
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the sample mails there, to look at.",
)
def check(folder: Path, out: Path | None) -> None:
    """Check the theme in DIR: exits 1 and says what is missing.

    It writes mails of 0, 1, 3 and 30 made-up posts in every language, with short and
    with long names. Needs no installation.
    """
    found = themes.load(folder)
    flaws, cases = theme_check.check(found)
    if out:
        _write(out, cases)
    for flaw in flaws:
        click.echo(f"✗ {flaw}")
    if flaws:
        raise SystemExit(1)
    click.echo(f"✓ {found.name}: {counted(len(cases), 'sample mail')}, nothing amiss.")


def _write(out: Path, cases: list[Case]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        name = case.name.replace(", ", "-").replace(" ", "-")
        (out / f"{name}.html").write_text(case.letter.html, encoding="utf-8")
        (out / f"{name}.txt").write_text(case.letter.text, encoding="utf-8")


COMMANDS = (theme,)
