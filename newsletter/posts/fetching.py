"""Fetching feeds: which are due, downloading and reading them, storing what they say.

Network and database take turns: due feeds are claimed in one transaction, downloaded
and read in none, and each is stored in one of its own.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import N_, FeedError
from newsletter.i18n import language
from newsletter.models import Feed, Newsletter
from newsletter.posts.download import MAX_BODY_BYTES, Client, Download, Refused
from newsletter.posts.entries import Parsed
from newsletter.posts.feeds import Reader
from newsletter.posts.guard import Guard
from newsletter.posts.importer import Report, import_entries

POLL = timedelta(minutes=30)
FIRST_BACKOFF = timedelta(minutes=5)  # doubled with each failure in a row
LONGEST_BACKOFF = timedelta(hours=24)
GONE = 410
# How long a claimed feed is left to its claimer: longer than a batch can take.
LEASE = timedelta(minutes=30)
BATCH = 40
AT_ONCE = 8
MAX_ERROR_CHARACTERS = 1000


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
    download: Download | None = None  # None: unchanged, or failed
    parsed: Parsed | None = None
    error: FeedError | None = None


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
        due = _claim(session, now=now, all_of=None)
    return list(_fetch_all(database, client or make_client(settings), due, now))


def fetch_now(
    database: Database,
    settings: Settings,
    *,
    slug: str = "",
    now: datetime,
    client: Client | None = None,
) -> Iterator[Outcome]:
    """Fetch all feeds of one newsletter, or of all of them, due or not."""
    with database.transaction() as session:
        due = _claim(session, now=now, all_of=slug)
    return _fetch_all(database, client or make_client(settings), due, now)


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


def _claim(session: Session, *, now: datetime, all_of: str | None) -> list[_Due]:
    query = (
        select(Feed, Newsletter.slug)
        .join(Newsletter, Newsletter.id == Feed.newsletter_id)
        .order_by(Feed.next_check_at.asc().nulls_first(), Feed.id)
        .with_for_update(of=Feed, skip_locked=True)
    )
    if all_of is None:
        is_due = or_(Feed.next_check_at.is_(None), Feed.next_check_at <= now)
        query = query.where(is_due).limit(BATCH)
    elif all_of:
        query = query.where(Newsletter.slug == all_of)
    due = []
    for feed, slug in session.execute(query):
        feed.next_check_at = now + LEASE
        due.append(_Due(feed.id, slug, feed.url, feed.etag, feed.last_modified))
    return due


def _fetch_all(
    database: Database, client: Client, due: Sequence[_Due], now: datetime
) -> Iterator[Outcome]:
    if not due:
        return
    with ThreadPoolExecutor(AT_ONCE) as pool, Reader() as reader:
        for start in range(0, len(due), AT_ONCE):
            batch = due[start : start + AT_ONCE]
            downloads = pool.map(lambda one: _download(client, one), batch)
            for one, download in zip(batch, downloads, strict=True):
                fetched = _read(reader, download)
                with database.transaction() as session:
                    outcome = _store(session, one, fetched, now)
                yield outcome


def _download(client: Client, due: _Due) -> Download | FeedError | None:
    try:
        if "://" in due.url:
            return client.get(due.url, etag=due.etag, last_modified=due.last_modified)
        return Download(read_file(Path(due.url)), url="")
    except FeedError as error:
        return error


def _read(reader: Reader, download: Download | FeedError | None) -> _Fetched:
    if isinstance(download, FeedError):
        return _Fetched(error=download)
    if download is None:
        return _Fetched()
    try:
        parsed = reader.read(
            download.body, url=download.url, content_type=download.content_type
        )
    except FeedError as error:
        return _Fetched(error=error)
    return _Fetched(download, parsed)


def _store(session: Session, due: _Due, fetched: _Fetched, now: datetime) -> Outcome:
    feed = session.get(Feed, due.feed_id, with_for_update=True)
    if feed is None:  # removed while it was being fetched
        return Outcome(due.newsletter, due.url)
    newsletter = session.get_one(Newsletter, feed.newsletter_id)
    feed.checked_at = now
    if fetched.error:
        _note_failure(feed, newsletter, fetched.error, now)
        return Outcome(due.newsletter, due.url, error=fetched.error)
    feed.failing_since, feed.failures, feed.error = None, 0, ""
    feed.next_check_at = now + POLL
    if fetched.download is None or fetched.parsed is None:
        return Outcome(due.newsletter, due.url)
    report = import_entries(session, newsletter, fetched.parsed, feed=feed, now=now)
    feed.etag = fetched.download.etag
    feed.last_modified = fetched.download.last_modified
    return Outcome(due.newsletter, due.url, report=report)


def _note_failure(
    feed: Feed, newsletter: Newsletter, error: FeedError, now: datetime
) -> None:
    feed.failures += 1
    feed.failing_since = feed.failing_since or now
    feed.error = language(newsletter.language).error(error)[:MAX_ERROR_CHARACTERS]
    wait = min(FIRST_BACKOFF * 2 ** min(feed.failures - 1, 20), LONGEST_BACKOFF)
    if isinstance(error, Refused):
        wait = LONGEST_BACKOFF if error.status == GONE else max(wait, error.wait)
    feed.next_check_at = now + wait
