"""A newsletter's feeds: adding, listing, pausing, removing; and pings for them."""

from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.links import looks_like_token, new_token
from newsletter.markup import is_web
from newsletter.models import Feed, Newsletter
from newsletter.plaintext import clean
from newsletter.posts import websub

MAX_FEEDS = 50
PING_GAP = timedelta(seconds=20)
MAX_URL_CHARACTERS = 2000


def feeds(session: Session, newsletter: Newsletter) -> list[Feed]:
    """Return a newsletter's feeds in the order they were added."""
    return list(
        session.scalars(
            select(Feed).where(Feed.newsletter_id == newsletter.id).order_by(Feed.id)
        )
    )


def find(session: Session, newsletter: Newsletter, feed_id: int) -> Feed:
    """Return one of a newsletter's feeds. Raises NotFound."""
    feed = session.get(Feed, feed_id) if 0 < feed_id < 2**31 else None
    if feed is None or feed.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such feed here."))
    return feed


def add_feed(
    session: Session, newsletter: Newsletter, address: str, *, local: bool = False
) -> Feed:
    """Add a feed by its address, to be fetched when the clock next looks.

    `local` also takes the path of a file: only for who may read this machine's files
    anyway. Raises InvalidInput or Conflict.
    """
    url = clean(address).strip()
    if local and "://" not in url:
        url = _file(url)
    else:
        _check_url(url)
    _check_room(session, newsletter, url)
    feed = Feed(newsletter_id=newsletter.id, url=url)
    session.add(feed)
    session.flush()
    return feed


def remove_feed(session: Session, feed: Feed, *, now: datetime) -> None:
    """Remove a feed; its posts stay, and its hub is told to push no more."""
    websub.part(session, feed, now=now)
    session.delete(feed)
    session.flush()


def pause_feed(feed: Feed) -> None:
    """Leave a feed alone until it is resumed; its posts stay."""
    feed.paused = True


def resume_feed(feed: Feed) -> None:
    """Fetch a feed again, also one that has said that it is gone."""
    feed.paused = feed.gone = False
    fetch_soon(feed)


def fetch_soon(feed: Feed) -> None:
    """Have the clock fetch a feed at its next look, also one that has been failing."""
    feed.next_check_at = None


def make_ping_token(newsletter: Newsletter) -> str:
    """Give the newsletter a new ping address; the one before is void."""
    newsletter.ping_token = new_token()
    return newsletter.ping_token


def ping(session: Session, token: str, *, now: datetime) -> timedelta | None:
    """Have the feeds of the newsletter with that token fetched at once.

    Within `PING_GAP` of the last one they are fetched when it is over: a ping is never
    lost, and a thousand cost no more than two. Returns how long it is until then; None
    if that was said already. Raises NotFound.
    """
    query = select(Newsletter).where(Newsletter.ping_token == token).with_for_update()
    newsletter = session.scalar(query) if looks_like_token(token) else None
    if newsletter is None:
        raise NotFound(N_("There is no such address. Look it up on the feeds' page."))
    due = max(now, (newsletter.pinged_at or now - PING_GAP) + PING_GAP)
    if newsletter.pinged_at and newsletter.pinged_at > now:
        return None
    newsletter.pinged_at = due
    for feed in feeds(session, newsletter):
        if not feed.paused and not feed.gone:
            feed.next_check_at = due
    return due - now


def check(session: Session, newsletter: Newsletter, url: str) -> None:
    """Refuse what `add_feed` would refuse, before the feed is looked at."""
    _check_url(url)
    _check_room(session, newsletter, url)


def _check_room(session: Session, newsletter: Newsletter, url: str) -> None:
    present = feeds(session, newsletter)
    if any(feed.url == url for feed in present):
        raise Conflict(N_("That feed is already there."))
    if len(present) >= MAX_FEEDS:
        raise Conflict(
            N_("A newsletter takes %(count)s feeds at most."), count=MAX_FEEDS
        )


def _file(text: str) -> str:
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise InvalidInput(
            N_("There is no feed file at %(path)s."), field="feed", path=str(path)
        )
    return str(path)


def _check_url(url: str) -> None:
    if not is_web(url) or len(url) > MAX_URL_CHARACTERS:
        raise InvalidInput(
            N_("A feed's address looks like https://blog.example/feed/"), field="feed"
        )
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            N_("A feed's address may not hold a user name or a password."),
            field="feed",
        )
