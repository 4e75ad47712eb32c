"""Fetching feeds: which are due, downloading and reading them, storing what they say.

Network and database take turns: due feeds are claimed in one transaction, downloaded
and read in none, and each is stored in one of its own.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import N_, FeedError
from newsletter.models import Feed, Newsletter
from newsletter.plaintext import one_line
from newsletter.posts import health, sources, websub
from newsletter.posts.download import MAX_BODY_BYTES, Client, Download
from newsletter.posts.entries import MAX_NAME_CHARACTERS, MAX_URL_CHARACTERS, Parsed
from newsletter.posts.feeds import Reader
from newsletter.posts.guard import Guard
from newsletter.posts.importer import Report, import_entries

# How long a permanent redirect has to stand before the address is changed.
MOVE_STANDS = timedelta(hours=24)
# How long a claimed feed is left to its claimer: longer than a batch can take.
LEASE = timedelta(minutes=30)
BATCH = 40
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the fetching of one feed went."""

    newsletter: str
    url: str
    report: Report | None = None  # None: nothing new since last time, or it failed
    error: FeedError | None = None


@dataclass(frozen=True, slots=True)
class _Due:
    feed_id: int
    newsletter: str
    url: str
    etag: str
    last_modified: str


@dataclass(frozen=True, slots=True)
class _Fetched:
    download: Download | None = None  # None: it failed
    parsed: Parsed | None = None  # None: unchanged, or it failed
    error: FeedError | None = None
    unreadable: bool = False  # something came, but it was not a feed


def fetch_due(
    database: Database,
    settings: Settings,
    *,
    now: datetime,
    client: Client | None = None,
) -> list[Outcome]:
    """Fetch the feeds whose time has come; those that fail are tried again later.

    Safe to call from several processes: each feed is claimed by one.
    """
    with database.transaction() as session:
        due = _claim(session, _due(now), now=now)
    return list(_fetch_all(database, settings, client, due, now))


def fetch_now(
    database: Database,
    settings: Settings,
    *,
    slug: str = "",
    feed_id: int | None = None,
    now: datetime,
    client: Client | None = None,
) -> Iterator[Outcome]:
    """Fetch one feed, those of one newsletter, or all; due or not.

    A paused feed, or one that is gone, is fetched only if it is named.
    """
    query = select(Feed, Newsletter.slug)
    if feed_id is not None:
        query = query.where(Feed.id == feed_id)
    else:
        query = query.where(Feed.paused.is_(False), Feed.gone.is_(False))
    if slug:
        query = query.where(Newsletter.slug == slug)
    with database.transaction() as session:
        due = _claim(session, query, now=now)
    return _fetch_all(database, settings, client, due, now, by_hand=True)


def look_at(
    settings: Settings, url: str, *, client: Client | None = None
) -> tuple[Download, Parsed]:
    """Download and read a feed that is not one of ours yet. Raises FeedError."""
    client = client or make_client(settings)
    download = client.get(url)
    with Reader() as reader:
        parsed = reader.read(
            download.body, url=download.url, content_type=download.content_type
        )
    return download, parsed


def add(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    url: str,
    seen: tuple[Download, Parsed],
    *,
    now: datetime,
) -> Report:
    """Add a feed that `look_at` has seen, with what it holds. Raises as `add_feed`."""
    feed = sources.add_feed(session, newsletter, url)
    feed.checked_at = now
    download, parsed = seen
    return _take(session, settings, feed, newsletter, download, parsed, now)


def make_client(settings: Settings) -> Client:
    """Return what downloads feeds as the settings allow."""
    return Client(Guard(settings.fetch_allow), agent=f"Inkorg (+{settings.base_url})")


def read_file(path: Path) -> bytes:
    """Return a feed file's bytes. Raises FeedError."""
    try:
        if not path.is_file():
            raise FeedError(N_("There is no feed file at %(path)s."), path=str(path))
        with path.open("rb") as file:
            body = file.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise FeedError(
            N_("%(path)s cannot be read: %(reason)s"),
            path=str(path),
            reason=error.strerror,
        ) from None
    return body


def _due(now: datetime) -> Select[Feed, str]:
    return (
        select(Feed, Newsletter.slug)
        .where(
            Feed.paused.is_(False),
            Feed.gone.is_(False),
            or_(Feed.next_check_at.is_(None), Feed.next_check_at <= now),
        )
        .limit(BATCH)
    )


def _claim(session: Session, query: Select[Feed, str], *, now: datetime) -> list[_Due]:
    query = (
        query.join(Newsletter, Newsletter.id == Feed.newsletter_id)
        .order_by(Feed.next_check_at.asc().nulls_first(), Feed.id)
        .with_for_update(of=Feed, skip_locked=True)
    )
    due = []
    for feed, slug in session.execute(query):
        feed.next_check_at = now + LEASE
        due.append(_Due(feed.id, slug, feed.url, feed.etag, feed.last_modified))
    return due


def _fetch_all(
    database: Database,
    settings: Settings,
    client: Client | None,
    due: Sequence[_Due],
    now: datetime,
    *,
    by_hand: bool = False,
) -> Iterator[Outcome]:
    if not due:
        return
    client = client or make_client(settings)
    with ThreadPoolExecutor(AT_ONCE) as pool, Reader() as reader:
        for start in range(0, len(due), AT_ONCE):
            batch = due[start : start + AT_ONCE]
            downloads = pool.map(partial(_download, client), batch)
            for one, download in zip(batch, downloads, strict=True):
                fetched = _read(reader, download)
                with database.transaction() as session:
                    outcome = _store(
                        session, settings, one, fetched, now, by_hand=by_hand
                    )
                yield outcome


def _download(client: Client, due: _Due) -> Download | FeedError:
    try:
        if "://" in due.url:
            return client.get(due.url, etag=due.etag, last_modified=due.last_modified)
        return Download(read_file(Path(due.url)), url="")
    except FeedError as error:
        return error


def _read(reader: Reader, download: Download | FeedError) -> _Fetched:
    if isinstance(download, FeedError):
        return _Fetched(error=download)
    if download.unchanged:
        return _Fetched(download)
    try:
        parsed = reader.read(
            download.body, url=download.url, content_type=download.content_type
        )
    except FeedError as error:
        return _Fetched(error=error, unreadable=True)
    return _Fetched(download, parsed)


def _store(
    session: Session,
    settings: Settings,
    due: _Due,
    fetched: _Fetched,
    now: datetime,
    *,
    by_hand: bool,
) -> Outcome:
    feed = session.get(Feed, due.feed_id, with_for_update=True)
    if feed is None:  # removed while it was being fetched
        return Outcome(due.newsletter, due.url)
    newsletter = session.get_one(Newsletter, feed.newsletter_id)
    feed.checked_at = now
    if fetched.error or fetched.download is None:
        error = fetched.error or FeedError()
        health.note_failure(
            session,
            settings,
            feed,
            newsletter,
            error,
            unreadable=fetched.unreadable,
            by_hand=by_hand,
            now=now,
        )
        return Outcome(due.newsletter, due.url, error=error)
    _follow_move(session, newsletter, feed, fetched.download, now)
    if fetched.parsed is None:
        health.note_success(session, settings, feed, newsletter, now)
        return Outcome(due.newsletter, due.url)
    report = _take(
        session, settings, feed, newsletter, fetched.download, fetched.parsed, now
    )
    if report.held:
        health.tell_held(session, settings, feed, newsletter, report.held, now=now)
    return Outcome(due.newsletter, due.url, report=report)


def _take(
    session: Session,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    download: Download,
    parsed: Parsed,
    now: datetime,
) -> Report:
    health.note_success(session, settings, feed, newsletter, now)
    report = import_entries(session, newsletter, parsed, feed=feed, now=now)
    feed.title = one_line(parsed.title, MAX_NAME_CHARACTERS)
    feed.etag = download.etag
    feed.last_modified = download.last_modified
    hub = download.hub or parsed.hub
    topic = download.topic or parsed.topic or download.url
    websub.discover(session, settings, feed, hub=hub, topic=topic, now=now)
    return report


def _follow_move(
    session: Session,
    newsletter: Newsletter,
    feed: Feed,
    download: Download,
    now: datetime,
) -> None:
    """Take over the address that permanent redirects lead to, once that is sure.

    It has to stand for a day, lead to a feed all that time, and not lose https: a
    mistake, or someone in between, would otherwise keep the feed for good.
    """
    to = download.moved_to
    unsafe = feed.url.startswith("https:") and not to.startswith("https:")
    if not to or unsafe or len(to) > MAX_URL_CHARACTERS:
        feed.moved_to, feed.moved_at = "", None
    elif to != feed.moved_to or feed.moved_at is None:
        feed.moved_to, feed.moved_at = to, now
    elif now - feed.moved_at >= MOVE_STANDS:
        if to not in {other.url for other in sources.feeds(session, newsletter)}:
            feed.url = to
        feed.moved_to, feed.moved_at = "", None
