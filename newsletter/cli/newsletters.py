"""Commands about newsletters."""

from collections.abc import Callable
from typing import Any

import click
from sqlalchemy.orm import Session

from newsletter import i18n, links, newsletters
from newsletter.cli.common import (
    Installation,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.digests import planning
from newsletter.models import Mode, Newsletter
from newsletter.posts import health, sources


@click.group()
def newsletter() -> None:
    """Create and list newsletters."""


RHYTHM_OPTIONS = (
    click.option(
        "--mode",
        type=click.Choice([mode.value for mode in Mode]),
        help="Whether digests go by themselves, wait for a yes, or are sent by hand.",
    ),
    click.option(
        "--rhythm",
        "rhythms",
        multiple=True,
        metavar="RHYTHM",
        help="A rhythm readers may choose, as weekly:mon@08:00. May be repeated.",
    ),
    click.option("--default-rhythm", metavar="RHYTHM", help="What readers begin with."),
    click.option("--at-least", type=int, help="Posts; with fewer a digest waits."),
    click.option("--wait-days", type=int, help="How long it waits; 0: without end."),
    click.option(
        "--at-most", type=int, help="Posts shown whole, others as headlines; 0: all."
    ),
    click.option(
        "--by-language/--all-languages",
        default=None,
        help="Whether each reader gets the posts in their language alone.",
    ),
    click.option(
        "--quiet-day",
        "quiet_days",
        multiple=True,
        metavar="DAY",
        help="mon … sun: nothing goes by itself then. May be repeated.",
    ),
    click.option(
        "--holiday",
        "holidays",
        multiple=True,
        metavar="DATE",
        help="Another quiet day, as 2026-12-24. May be repeated.",
    ),
    click.option(
        "--holiday-country",
        metavar="CODE",
        help="Whose public holidays are quiet, as SE.",
    ),
)


def _rhythm_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say when digests go out."""
    for option in reversed(RHYTHM_OPTIONS):
        command = option(command)
    return command


def _read_social(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[dict[str, str]]:
    found = []
    for value in values:
        name, sep, url = value.partition("=")
        if not sep:
            raise click.BadParameter("write it as Instagram=https://…")
        found.append({"name": name, "url": url})
    return found


@newsletter.command(
    epilog=example(
        'newsletter create labbet --title "Innovationslabbet" --language sv \\\n'
        '    --from-name "Innovationslabbet" --from-email labbet@blogg.example \\\n'
        "    --feed https://blogg.example/feed/ \\\n"
        '    --postal-address "Box 474, 101 29 Stockholm"'
    )
)
@click.argument("slug")
@click.option("--title", required=True, help="Its name.")
@click.option(
    "--language",
    type=click.Choice(i18n.available()),
    default="sv",
    show_default=True,
    help="The language of its page; readers may choose another.",
)
@click.option("--from-name", required=True, help="Who the mail is from.")
@click.option("--from-email", required=True, help="The address the mail is from.")
@click.option("--reply-to", help="Where answers go, if not there.")
@click.option(
    "--feed",
    "feeds",
    multiple=True,
    metavar="URL_OR_FILE",
    help="Where its posts come from: RSS, Atom or JSON Feed. May be repeated.",
)
@click.option("--tagline", help="A line below its name.")
@click.option("--publisher", help="Who is behind it.")
@click.option("--about", help="A few words about them.")
@click.option("--postal-address", help="Stands at the foot of every mail.")
@click.option("--phone", help="Their telephone number.")
@click.option("--contact-email", help="Their own e-mail address.")
@click.option("--website", metavar="URL", help="Their web site.")
@click.option(
    "--social",
    multiple=True,
    metavar="NAME=URL",
    callback=_read_social,
    help="A page of theirs elsewhere. May be repeated.",
)
@click.option("--timezone", metavar="ZONE", help="For instance Europe/Stockholm.")
@click.option("--accent", metavar="COLOUR", help="Its colour, for instance #8b2e24.")
@_rhythm_options
@click.option("--posts-on-page", type=int, help="How many posts its page shows.")
@click.option(
    "--public-archive/--no-public-archive",
    default=True,
    help="Whether its issues can be read on the web.",
)
@click.option(
    "--record-network/--no-record-network",
    default=True,
    help="Whether a consent records the reader's shortened network address.",
)
@with_installation
def create(
    place: Installation, slug: str, feeds: tuple[str, ...], **given: Any
) -> None:
    """Create a newsletter at /SLUG/."""
    values = {k: _plain(v) for k, v in given.items() if v not in (None, (), [])}
    with place.database.transaction() as session:
        made = newsletters.create(session, slug, **values)
        for address in feeds:
            sources.add_feed(session, made, address, local=True)
    click.echo(links.newsletter_url(place.settings, slug))
    if not made.postal_address:
        click.echo(
            "It has no postal address yet. The law asks for one in every mail.",
            err=True,
        )


@newsletter.command("set", epilog=example("newsletter set labbet --mode automatic"))
@click.argument("slug")
@_rhythm_options
@click.option(
    "--count-clicks/--no-count-clicks",
    default=None,
    help="Whether clicks on links are counted: sums for each link, never who.",
)
@with_installation
def set_(place: Installation, slug: str, **given: Any) -> None:
    """Change when a newsletter's digests go out, and how; what is left out stays.

    What may be repeated replaces what was there.
    """
    values = {k: _plain(v) for k, v in given.items() if v not in (None, ())}
    if not values:
        raise click.UsageError("Say what to change, for instance --mode automatic.")
    with place.database.transaction() as session:
        found = newsletters.by_slug(session, slug)
        newsletters.change(found, **values)
        click.echo(f"{slug}: {found.mode}, {', '.join(found.rhythms)}")


@newsletter.command("go-ahead", epilog=example("newsletter go-ahead labbet"))
@click.argument("slug")
@with_installation
def go_ahead(place: Installation, slug: str) -> None:
    """Let digests go by themselves again after a backup was restored."""
    with place.database.transaction() as session:
        planning.go_ahead(session, newsletters.by_slug(session, slug))
    click.echo(f"Digests of {slug} go by themselves again, from the next one on.")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@newsletter.command("list", epilog=example("newsletter list --json"))
@json_option
@with_installation
def list_(place: Installation, as_json: bool) -> None:
    """List the newsletters."""
    with place.database.reading() as session:
        rows = [
            _row(session, found, links.newsletter_url(place.settings, found.slug))
            for found in newsletters.all_newsletters(session)
        ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        click.echo(f"{row['slug']}\t{row['title']}\t{row['language']}\t{row['url']}")


NAMES = (
    *("slug", "title", "language", "languages", "timezone", "from_name", "from_email"),
    *("publisher", "postal_address", "phone", "website", "accent", "rhythms"),
    *("default_rhythm", "mode", "at_least", "wait_days", "at_most", "by_language"),
    *("quiet_days", "holidays", "holiday_country", "halted_at", "count_clicks"),
)


def _row(session: Session, found: Newsletter, url: str) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(found, name) for name in NAMES}
    row["url"] = url
    row["feeds"] = [
        {
            "url": feed.url,
            "checked_at": feed.checked_at,
            "failing_since": feed.failing_since,
            "error": health.reason(i18n.language(i18n.SOURCE), feed),
        }
        for feed in sources.feeds(session, found)
    ]
    return row


COMMANDS = (newsletter,)
