"""Storing what a feed says: known posts are updated, new ones published or held.

Importing twice changes nothing. What an editor has edited or withdrawn stays as it is.

A newsletter's first fetch publishes all the feed has: no digest has gone out yet, and
the first one takes only the recent posts. After that a fetch that brings many new posts
at once, or old ones, is more likely an accident of the blog's (a move, changed GUIDs)
than news: they are held until an editor decides. An import by hand holds nothing.

A post that its feed dates ahead waits for that date as a draft, a new one as well as
one that has not gone out yet. What has been sent keeps its place, whatever its date.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from newsletter.models import Author, Feed, Newsletter, Post, PostState
from newsletter.posts import authors, categories, matching, positions
from newsletter.posts.entries import Entry, Parsed
from newsletter.posts.identity import Identity, identify

FLOOD = 20  # more new posts than this in one fetch are held
TOO_OLD = timedelta(days=60)
# A post that has gone from its feed this soon, or before it was sent, was taken back;
# more than a few at once are a feed in trouble.
TAKEN_BACK = timedelta(days=14)
MOST_TAKEN_BACK = 3
# The clocks of blogs go wrong by minutes, and calendars by years.
SKEW = timedelta(minutes=15)
TOO_FAR = timedelta(days=366)


@dataclass(slots=True)
class Report:
    """What an import did; reasons and warnings are message ids."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    held: int = 0
    waiting: int = 0  # for the date that the feed gives
    withdrawn: int = 0  # gone from the feed
    refused: list[tuple[str, str]] = field(default_factory=list)  # (title, reason)
    warnings: list[str] = field(default_factory=list)


def import_entries(
    session: Session,
    newsletter: Newsletter,
    parsed: Parsed,
    *,
    feed: Feed | None = None,
    by_hand: bool = False,
    partial: bool = False,
    now: datetime,
) -> Report:
    """Store a feed's entries and report what that changed. Safe to call twice.

    `partial`: these are some of the feed's entries, so what is missing is not gone.
    """
    locked = positions.lock(session, newsletter.id)
    run = _Run(session, locked, feed, now, Report(refused=list(parsed.refused)))
    run.report.warnings.extend(parsed.warnings)
    fresh = run.update_known(parsed)
    guarded = feed is not None and not by_hand and not _is_first(locked, feed)
    run.store(fresh, guarded=guarded)
    if feed is not None and not by_hand and not partial:
        run.report.withdrawn = run.take_back(feed, parsed)
    session.flush()
    return run.report


def _is_first(newsletter: Newsletter, feed: Feed) -> bool:
    return feed.new_at is None and newsletter.last_number == 0


@dataclass(slots=True)
class _Run:
    """One import: where it stores, for which feed, and what it has seen."""

    session: Session
    newsletter: Newsletter
    feed: Feed | None
    now: datetime
    report: Report
    seen: set[int] = field(default_factory=set)  # ids of posts the feed has
    people: dict[str, Author | None] = field(default_factory=dict)

    def update_known(self, parsed: Parsed) -> list[tuple[Entry, Identity]]:
        """Update the posts we know and return the entries that are new, oldest first.

        In the order of publication, so that positions and bylines follow it.
        """
        identities = identify(parsed.entries)
        known = matching.match(
            self.session, self.newsletter.id, self.feed, parsed.entries, identities
        )
        fresh: list[tuple[Entry, Identity]] = []
        for index in _by_age(parsed.entries, self.now):
            entry, identity = parsed.entries[index], identities[index]
            if post := known.get(index):
                self.seen.add(post.id)
                changed = self.update(post, entry, identity)
                self.report.changed += changed
                self.report.unchanged += not changed
            elif _is_repeated(identity, identities[:index]):
                self.report.unchanged += 1
            else:
                fresh.append((entry, identity))
        return fresh

    def update(self, post: Post, entry: Entry, identity: Identity) -> bool:
        """Bring a post up to date with its own feed; tell whether that shows."""
        if self.feed and post.feed_id not in {None, self.feed.id}:
            if post.edited or post.state is not PostState.WITHDRAWN:
                return False  # another feed of ours has it, perhaps at full length
            post.feed_id = self.feed.id  # the other one has it no longer
        post.guid = identity.guid or post.guid
        post.link_key = identity.link_key or post.link_key
        post.feed_id = post.feed_id or (self.feed.id if self.feed else None)
        if post.edited:
            return False
        wanted = self.wanted(post, entry, identity)
        differing = {n: v for n, v in wanted.items() if getattr(post, n) != v}
        if differing.get("state") is PostState.PUBLISHED:
            positions.publish(self.newsletter, post)
        if "position" in differing:
            positions.take_out_of_drafts(self.session, post)
        for name, value in differing.items():
            setattr(post, name, value)
        changed = self.describe(post, entry) or bool(differing)
        if changed:
            post.updated_at = self.now
        return changed

    def wanted(self, post: Post, entry: Entry, identity: Identity) -> dict[str, object]:
        """Return what the feed wants a post to be."""
        wanted = _words(entry) | {"content_hash": identity.content_hash}
        if author := self.person(entry.author):
            wanted["author"] = author
        if post.state is PostState.WITHDRAWN and self.feed:  # had gone from the feed
            wanted["state"] = PostState.PUBLISHED if post.position else PostState.HELD
        return wanted | self.dated(post, entry.published_at)

    def dated(self, post: Post, at: datetime | None) -> dict[str, Any]:
        """Return what a date in the feed makes of a post."""
        waits = post.publish_at is not None
        if at is not None and self.is_ahead(at):
            if not waits and (
                post.state is PostState.HELD or positions.was_sent(self.session, post)
            ):
                return {}
            return {
                "state": PostState.DRAFT,
                "position": None,
                "published_at": at,
                "publish_at": at,
            }
        if at is None or at > self.now:
            return {}
        # One that waited has its date now: the clock publishes it.
        return {"published_at": at} | ({"publish_at": at} if waits else {})

    def is_ahead(self, at: datetime | None) -> bool:
        """Tell whether a date is one to wait for."""
        return at is not None and SKEW < at - self.now < TOO_FAR

    def describe(self, post: Post, entry: Entry) -> bool:
        """Take over the byline and the topics; tell whether the topics changed."""
        if post.author:
            authors.learn_byline(
                self.session, post.author, entry.byline, at=post.published_at
            )
        return categories.take(self.session, self.newsletter, post, entry.topics)

    def store(self, fresh: list[tuple[Entry, Identity]], *, guarded: bool) -> None:
        """Store new entries; where there is a guard, a flood and old ones are held."""
        flood = len(fresh) > FLOOD
        made = [self.create(entry, identity) for entry, identity in fresh]
        self.session.add_all(made)
        self.session.flush()
        for post, (entry, _identity) in zip(made, fresh, strict=True):
            self.seen.add(post.id)
            self.describe(post, entry)
            if guarded and (flood or self.is_odd(entry.published_at)):
                self.report.held += 1
            elif self.is_ahead(entry.published_at):
                post.state, post.publish_at = PostState.DRAFT, post.published_at
                self.report.waiting += 1
            else:
                positions.publish(self.newsletter, post)
                self.report.new += 1
        if fresh and self.feed:
            self.feed.new_at = self.now

    def is_odd(self, at: datetime | None) -> bool:
        """Tell whether a date is no news: long past, or more than a year ahead."""
        return at is not None and not -TOO_OLD <= at - self.now < TOO_FAR

    def create(self, entry: Entry, identity: Identity) -> Post:
        """Return an entry as a held post."""
        return Post(
            newsletter_id=self.newsletter.id,
            feed_id=self.feed.id if self.feed else None,
            author=self.person(entry.author),
            state=PostState.HELD,
            guid=identity.guid,
            link_key=identity.link_key,
            content_hash=identity.content_hash,
            published_at=entry.published_at
            if entry.published_at and self.is_ahead(entry.published_at)
            else min(entry.published_at or self.now, self.now),
            created_at=self.now,
            updated_at=self.now,
            **_words(entry),
        )

    def person(self, name: str) -> Author | None:
        """Return the author of that name, looked up once."""
        if name not in self.people:
            self.people[name] = authors.named(self.session, self.newsletter, name)
        return self.people[name]

    def take_back(self, feed: Feed, parsed: Parsed) -> int:
        """Withdraw recent posts that the blog has deleted: they drop out of digests."""
        oldest = _oldest_of_all_newer(parsed)
        if oldest is None:
            return 0
        gone = self.session.scalars(
            select(Post).where(
                Post.feed_id == feed.id,
                or_(
                    Post.state.in_((PostState.PUBLISHED, PostState.HELD)),
                    and_(Post.state == PostState.DRAFT, Post.publish_at.is_not(None)),
                ),
                Post.edited.is_(False),
                Post.published_at > oldest,
                or_(Post.created_at > self.now - TAKEN_BACK, ~positions.sent(Post.id)),
                Post.id.not_in(self.seen),
            )
        ).all()
        if len(gone) > MOST_TAKEN_BACK:  # a clean-up long ago hides no fresh one
            gone = [p for p in gone if p.created_at > self.now - TAKEN_BACK]
        if len(gone) > MOST_TAKEN_BACK:
            return 0
        for post in gone:
            post.state, post.publish_at = PostState.WITHDRAWN, None
            post.updated_at = self.now
        return len(gone)


def _oldest_of_all_newer(parsed: Parsed) -> datetime | None:
    """Return the date since when the feed has every post, if it is sure to.

    It is where a whole feed lists its posts newest first; one in the order of their
    last edits leaves out posts that are neither deleted nor the oldest.
    """
    dates = [entry.published_at for entry in parsed.entries if entry.published_at]
    in_order = dates == sorted(dates, reverse=True)
    complete = parsed.whole and len(dates) == len(parsed.entries)
    return dates[-1] if dates and in_order and complete else None


def _by_age(entries: Sequence[Entry], now: datetime) -> list[int]:
    """Return the entries' places, oldest first; feeds list the newest first."""
    return sorted(
        range(len(entries)), key=lambda i: (entries[i].published_at or now, -i)
    )


def _is_repeated(identity: Identity, others: Iterable[Identity]) -> bool:
    """Tell whether an entry that nothing but its content tells apart came before."""
    if identity.guid or identity.link_key:
        return False
    return any(other.content_hash == identity.content_hash for other in others)


def _words(entry: Entry) -> dict[str, object]:
    return {
        "title": entry.title,
        "link": entry.link,
        "html": entry.html,
        "excerpt": entry.excerpt,
        "image_url": entry.image_url,
        "image_alt": entry.image_alt,
        "enclosures": [asdict(one) for one in entry.enclosures],
        "language": entry.language,
    }
