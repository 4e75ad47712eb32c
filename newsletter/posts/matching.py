"""Which entries of a feed are posts we know: by GUID, link, content, title and date.

The last rule is for a blog that moves and edits at once: everything that identifies its
posts is new, but hardly ever does it publish two of one name in the same second.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from newsletter.models import Feed, Post, PostState
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

    def look(rule: Rule, among: Sequence[Post]) -> None:
        for index, entry in enumerate(entries):
            if index in found:
                continue
            left = (post for post in among if post.id not in taken)
            same = (p for p in left if rule(entry, identities[index], p, feed))
            if post := next(same, None):
                found[index] = post
                taken.add(post.id)

    for rule in (_same_guid, _same_link, _same_content):
        look(rule, candidates)
    left = [entry for index, entry in enumerate(entries) if index not in found]
    if left:
        look(_same_title_and_date, _of_those_dates(session, newsletter_id, left))
    return found


Rule = Callable[[Entry, Identity, Post, Feed | None], bool]


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


def _same_title_and_date(
    entry: Entry, _identity: Identity, post: Post, feed: Feed | None
) -> bool:
    ours = feed is None or post.feed_id in {None, feed.id}
    same = post.title.casefold() == entry.title.casefold()
    return ours and same and post.published_at == entry.published_at


def _of_those_dates(
    session: Session, newsletter_id: int, entries: Sequence[Entry]
) -> Sequence[Post]:
    dates = {entry.published_at for entry in entries if entry.published_at}
    return session.scalars(
        select(Post)
        .where(
            Post.newsletter_id == newsletter_id,
            Post.state.in_(PostState),  # all of them: `ix_post_latest` begins so
            Post.published_at.in_(dates),
        )
        .order_by(Post.id)
    ).all()


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
