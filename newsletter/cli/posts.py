"""Commands about posts: from feeds, from files, and which there are."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from newsletter import i18n, newsletters
from newsletter.cli.common import (
    Installation,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.db import utcnow
from newsletter.errors import FeedError
from newsletter.models import Feed, FeedPush, Post, PostState
from newsletter.posts import fetching, health, importer, listing, sources, topics
from newsletter.posts.feeds import read_feed
from newsletter.posts.importer import Report

MOST_LISTED = 1000


@click.group()
def posts() -> None:
    """Fetch, import and list posts."""


@posts.command(epilog=example("posts fetch labbet"))
@click.argument("slug", required=False, default="")
@json_option
@with_installation
def fetch(place: Installation, slug: str, as_json: bool) -> None:
    """Fetch the feeds of one newsletter, or of all of them, now.

    Many new posts at once, or old ones, are held until an editor decides.
    """
    if slug:
        with place.database.reading() as session:
            newsletters.by_slug(session, slug)
    rows, failed = [], 0
    for outcome in fetching.fetch_now(
        place.database, place.settings, slug=slug, now=utcnow()
    ):
        error = str(outcome.error or "")
        failed += bool(error)
        report = outcome.report or Report()
        rows.append({"url": outcome.url, "error": error, **asdict(report)})
        if not as_json:
            click.echo(f"{outcome.url}: {error or _summary(report)}")
            _show_details(report)
    if as_json:
        show_json(rows)
    elif not rows:
        click.echo(
            "There are no feeds to fetch. Add one with newsletter create --feed, or in"
            " the workspace; a paused one is followed again there."
        )
    if failed:
        raise FeedError(
            "%(failed)s of %(count)s feeds failed; they are tried again by themselves.",
            failed=failed,
            count=len(rows),
        )


@posts.command("import", epilog=example("posts import labbet feed.xml"))
@click.argument("slug")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@with_installation
def import_(place: Installation, slug: str, file: Path, as_json: bool) -> None:
    """Import posts from a feed FILE: RSS, Atom or JSON Feed.

    Nothing is held back, however old. Importing twice changes nothing.
    """
    with place.database.reading() as session:
        newsletters.by_slug(session, slug)
    parsed = read_feed(fetching.read_file(file))
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        report = importer.import_entries(
            session, newsletter, parsed, by_hand=True, now=utcnow()
        )
    if as_json:
        show_json(asdict(report))
        return
    click.echo(_summary(report))
    _show_details(report)


@posts.command("list", epilog=example("posts list labbet --json"))
@click.argument("slug")
@click.option(
    "--state",
    type=click.Choice([state.value for state in PostState]),
    help="Only posts in this state.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_LISTED),
    default=50,
    show_default=True,
    help="How many, newest first.",
)
@json_option
@with_installation
def list_(
    place: Installation, slug: str, state: str | None, limit: int, as_json: bool
) -> None:
    """List a newsletter's posts, newest first."""
    with place.database.reading() as session:
        newsletter = newsletters.by_slug(session, slug)
        wanted = PostState(state) if state else None
        page = listing.page(session, newsletter, state=wanted, limit=limit)
        rows = [
            _row(post, [topic.name for topic in topics.topics_of(session, post)])
            for post in page.posts
        ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        day = row["published_at"].date().isoformat()
        click.echo(f"{row['id']}\t{day}\t{row['state']}\t{row['title']}")


@posts.command("feeds", epilog=example("posts feeds labbet --json"))
@click.argument("slug")
@json_option
@with_installation
def feeds_(place: Installation, slug: str, as_json: bool) -> None:
    """List a newsletter's feeds and how each of them is."""
    words, now = i18n.language(i18n.SOURCE), utcnow()
    with place.database.reading() as session:
        newsletter = newsletters.by_slug(session, slug)
        found = sources.feeds(session, newsletter)
        latest = health.last_posts(session, found)
        rows = [
            {
                "id": feed.id,
                "url": feed.url,
                "title": feed.title,
                "paused": feed.paused,
                "gone": feed.gone,
                "checked_at": feed.checked_at,
                "next_check_at": feed.next_check_at,
                "last_post_at": latest.get(feed.id),
                "failing_since": feed.failing_since,
                "failures": feed.failures,
                "error": health.reason(words, feed),
                "pushed": _is_pushed(session, feed, now),
                "health": health.line(
                    words, feed, newsletter.timezone, latest, now=now
                ).text,
            }
            for feed in found
        ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        click.echo(f"{row['id']}\t{row['url']}\t{row['health']}")
    if not rows:
        click.echo("There are no feeds. Add one in the workspace, under Feeds.")


def _is_pushed(session: Session, feed: Feed, now: datetime) -> bool:
    push = session.get(FeedPush, feed.id)
    return bool(push and push.lease_until and push.lease_until > now)


def _row(post: Post, topic_names: list[str]) -> dict[str, Any]:
    author = post.author
    return {
        "id": post.id,
        "state": post.state,
        "position": post.position,
        "publish_at": post.publish_at,
        "published_at": post.published_at,
        "title": post.title,
        "excerpt": post.excerpt,
        "author": author.shown_name if author else "",
        "byline": author.byline if author else "",
        "link": post.link,
        "topics": topic_names,
        "edited": post.edited,
    }


def _summary(report: Report) -> str:
    parts = [
        f"{report.new} new",
        f"{report.changed} changed",
        f"{report.unchanged} unchanged",
    ]
    if report.held:
        parts.append(f"{report.held} held for an editor")
    if report.waiting:
        parts.append(f"{report.waiting} waiting for their date")
    if report.withdrawn:
        parts.append(f"{report.withdrawn} withdrawn")
    if report.refused:
        parts.append(f"{len(report.refused)} refused")
    return ", ".join(parts)


def _show_details(report: Report) -> None:
    for warning in report.warnings:
        click.echo(f"  {warning}")
    for title, reason in report.refused:
        click.echo(f"  refused: {title or '(no title)'}: {reason}")


COMMANDS = (posts,)
