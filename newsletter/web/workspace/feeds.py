"""Feeds: how they are, adding one after a look at it, pausing, removing; the ping."""

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter import undoing
from newsletter.db import current_database, db, utcnow
from newsletter.errors import N_, FeedError, InkorgError
from newsletter.models import FeedPush, Newsletter, Role
from newsletter.plaintext import clean
from newsletter.posts import fetching, health, sources
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    undoable,
    writing,
)
from newsletter.web.workspace.fetching import tell

bp = Blueprint("feeds", __name__)


@bp.get("/editor/<slug>/feeds/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """List the feeds and how they are."""
    return _page(newsletter)


@bp.post("/editor/<slug>/feeds/")
@needs(Role.EDITOR)
def add(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Look at a feed and add it, with its posts, if it is one."""
    url, settings, now = (
        clean(request.form.get("url", "")).strip(),
        current_settings(),
        utcnow(),
    )
    try:
        sources.check(db.session(), newsletter, url)
        seen = fetching.look_at(settings, url)
        with writing(newsletter) as (session, here):
            report = fetching.add(session, settings, here, url, seen, now=now)
    except InkorgError as error:
        refused = 400 if isinstance(error, FeedError) else status_of(error)
        return _page(newsletter, url, error), refused
    title = seen[1].title or url
    say(
        N_("The feed “%(title)s” is added and followed from now on."), title=title[:200]
    )
    tell([fetching.Outcome(newsletter.slug, url, report=report)])
    return _back(newsletter)


@bp.post("/editor/<slug>/feeds/<int:feed_id>/check")
@needs(Role.EDITOR)
def check(newsletter: Newsletter, feed_id: int) -> AnyResponse:
    """Fetch one feed now, and say what came of it."""
    feed = sources.find(db.session(), newsletter, feed_id)
    outcomes = fetching.fetch_now(
        current_database(), current_settings(), feed_id=feed.id, now=utcnow()
    )
    tell(list(outcomes))
    return _back(newsletter)


@bp.post("/editor/<slug>/feeds/<int:feed_id>/pause")
@needs(Role.EDITOR)
def pause(newsletter: Newsletter, feed_id: int) -> AnyResponse:
    """Leave a feed alone until further notice."""
    with writing(newsletter) as (session, here):
        sources.pause_feed(sources.find(session, here, feed_id))
        undo = undoable(session, here, "feed-paused", {"feed": feed_id})
    say_done(
        N_("The feed is paused. Nothing new comes from it until you resume it."), undo
    )
    return _back(newsletter)


@bp.post("/editor/<slug>/feeds/<int:feed_id>/resume")
@needs(Role.EDITOR)
def resume(newsletter: Newsletter, feed_id: int) -> AnyResponse:
    """Follow a feed again."""
    with writing(newsletter) as (session, here):
        sources.resume_feed(sources.find(session, here, feed_id))
    say(N_("The feed is followed again, and fetched within a minute."))
    return _back(newsletter)


@bp.post("/editor/<slug>/feeds/<int:feed_id>/remove")
@needs(Role.EDITOR)
def remove(newsletter: Newsletter, feed_id: int) -> AnyResponse:
    """Remove a feed; its posts stay."""
    with writing(newsletter) as (session, here):
        feed = sources.find(session, here, feed_id)
        kept = undoing.keep(session, "feed", feed.id)
        sources.remove_feed(session, feed, now=utcnow())
        undo = undoable(session, here, "feed", kept)
    say_done(N_("The feed is removed. The posts it brought stay."), undo)
    return _back(newsletter)


@bp.post("/editor/<slug>/feeds/ping")
@needs(Role.EDITOR)
def make_ping(newsletter: Newsletter) -> AnyResponse:
    """Make a new ping address; the one before is void."""
    with writing(newsletter) as (_session, here):
        sources.make_ping_token(here)
    say(N_("Here is the new address. Give it to your blog."))
    return _back(newsletter, "ping")


def _page(
    newsletter: Newsletter, typed: str = "", error: InkorgError | None = None
) -> str:
    session, words, now = db.session(), rendering.words(), utcnow()
    feeds = sources.feeds(session, newsletter)
    latest = health.last_posts(session, feeds)
    token = newsletter.ping_token
    return render(
        "editor/feeds.html",
        newsletter,
        feeds=feeds,
        lines={
            feed.id: health.line(words, feed, newsletter.timezone, latest, now=now)
            for feed in feeds
        },
        pushes={feed.id: session.get(FeedPush, feed.id) for feed in feeds},
        now=now,
        typed=typed,
        suggested=str(error.values.get("url", "")) if error else "",
        errors={"url": words.error(error)} if error else {},
        ping_url=f"{current_settings().base_url}/ping/{token}" if token else "",
    )


def _back(newsletter: Newsletter, anchor: str = "") -> AnyResponse:
    place = url_for("feeds.index", slug=newsletter.slug, _anchor=anchor or None)
    return redirect(place)
