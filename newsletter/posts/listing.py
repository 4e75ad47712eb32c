"""Posts as an editor looks through them: by state, by words in the title, in pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from newsletter.models import Issue, IssuePost, Newsletter, Post, PostState

PAGE = 50
SEARCH_CHARACTERS = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Page:
    """Some posts, newest first; `older` begins the next page, if there is one."""

    posts: Sequence[Post]
    older: str = ""


def page(
    session: Session,
    newsletter: Newsletter,
    *,
    state: PostState | None = None,
    search: str = "",
    before: str = "",
    limit: int = PAGE,
) -> Page:
    """Return a page of posts; `before` is an earlier page's `older`, else ignored."""
    query = (
        _of(newsletter, state)
        .order_by(Post.published_at.desc(), Post.id.desc())
        .limit(limit + 1)
    )
    if search := search.strip()[:SEARCH_CHARACTERS]:
        query = query.where(_in_title(search))
    if place := _place(before):
        moment, post_id = place
        query = query.where(
            or_(
                Post.published_at < moment,
                and_(Post.published_at == moment, Post.id < post_id),
            )
        )
    found = list(session.scalars(query))
    more = len(found) > limit
    found = found[:limit]
    return Page(found, _name(found[-1]) if more else "")


def counts(session: Session, newsletter: Newsletter) -> dict[str, int]:
    """Return how many posts are in each state that has any."""
    rows = session.execute(
        select(Post.state, func.count())
        .where(Post.newsletter_id == newsletter.id)
        .group_by(Post.state)
    )
    return {str(state): count for state, count in rows}


def held(session: Session, newsletter: Newsletter) -> list[Post]:
    """Return all posts that a feed's flood brought, oldest first."""
    query = _of(newsletter, PostState.HELD).order_by(Post.published_at, Post.id)
    return list(session.scalars(query))


def counts_by_author(session: Session, newsletter: Newsletter) -> dict[int, int]:
    """Return how many posts each author has, by the author's id."""
    rows = session.execute(
        select(Post.author_id, func.count())
        .where(Post.newsletter_id == newsletter.id, Post.author_id.is_not(None))
        .group_by(Post.author_id)
    )
    return {author_id: count for author_id, count in rows if author_id is not None}


def carried_in(session: Session, post: Post) -> list[int]:
    """Return the numbers of the issues in which a post has gone out."""
    return list(
        session.scalars(
            select(Issue.number)
            .join(IssuePost, IssuePost.issue_id == Issue.id)
            .where(
                IssuePost.post_id == post.id,
                IssuePost.hidden.is_(False),
                Issue.number.is_not(None),
            )
            .order_by(Issue.number)
        )
    )


def _of(newsletter: Newsletter, state: PostState | None) -> Select[Post]:
    query = select(Post).where(Post.newsletter_id == newsletter.id)
    return query if state is None else query.where(Post.state == state)


def _in_title(search: str) -> ColumnElement[bool]:
    """Match in capitals or not; SQLite's own lower() knows A to Z alone."""
    forms = {form(search) for form in (str.lower, str.title, str.upper)}
    plain = {"".join(c.lower() if c.isascii() else c for c in f) for f in forms}
    title = func.lower(Post.title)
    return or_(*(title.contains(f, autoescape=True) for f in plain | {search.lower()}))


def _name(post: Post) -> str:
    return f"{(post.published_at - EPOCH) // MICROSECOND}_{post.id}"


def _place(text: str) -> tuple[datetime, int] | None:
    microseconds, _, post_id = text[:60].partition("_")
    try:
        return EPOCH + int(microseconds) * MICROSECOND, int(post_id)
    except (ValueError, OverflowError):
        return None
