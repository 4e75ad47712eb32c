"""Which entries of a feed are posts we know: by GUID, then link, then content."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from newsletter.models import Feed, Post
from newsletter.posts.entries import Entry
from newsletter.posts.identity import Identity


def match(
    session: Session,
    newsletter_id: int,
    feed: Feed | None,
    entries: Sequence[Entry],
    identities: Sequence[Identity],
) -> dict[int, Post]:
    """Return the known posts by their entries' places; each post is found once.

    All are looked for by the surest rule before any by the next.
    """
    candidates = _candidates(session, newsletter_id, identities)
    found: dict[int, Post] = {}
    taken: set[int] = set()
    for rule in (_same_guid, _same_link, _same_content):
        for index, entry in enumerate(entries):
            if index in found:
                continue
            left = (post for post in candidates if post.id not in taken)
            same = (p for p in left if rule(entry, identities[index], p, feed))
            if post := next(same, None):
                found[index] = post
                taken.add(post.id)
    return found


def _same_guid(
    _entry: Entry, identity: Identity, post: Post, feed: Feed | None
) -> bool:
    ours = feed is None or post.feed_id in {None, feed.id}
    guid = identity.guid if ours else identity.portable_guid
    return bool(guid) and post.guid == guid


def _same_link(
    _entry: Entry, identity: Identity, post: Post, _feed: Feed | None
) -> bool:
    return bool(identity.link_key) and post.link_key == identity.link_key


def _same_content(
    entry: Entry, identity: Identity, post: Post, _feed: Feed | None
) -> bool:
    at = entry.published_at
    sure = identity.telling or at is None or at == post.published_at
    return sure and post.content_hash == identity.content_hash


def _candidates(
    session: Session, newsletter_id: int, identities: Sequence[Identity]
) -> Sequence[Post]:
    return session.scalars(
        select(Post)
        .where(
            Post.newsletter_id == newsletter_id,
            or_(
                Post.guid.in_({i.guid for i in identities if i.guid}),
                Post.link_key.in_({i.link_key for i in identities if i.link_key}),
                Post.content_hash.in_({i.content_hash for i in identities}),
            ),
        )
        .order_by(Post.id)
    ).all()
