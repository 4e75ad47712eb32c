"""Where a reader begins: after the last issue that their rhythm, or everybody, got."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter.models import (
    Issue,
    IssueKind,
    IssueState,
    Mode,
    Newsletter,
    Post,
    PostState,
)
from newsletter.subscribers import choices

RECENT_POSTS = 30  # a blog's whole past is not news
GONE_OUT = (IssueState.SENDING, IssueState.PAUSED, IssueState.SENT)


def starting_position(session: Session, newsletter: Newsletter, rhythm: str) -> int:
    """Return where a new reader with a rhythm begins.

    So that their first digest is the one that everybody gets. Where none has gone out,
    it holds the recent posts.
    """
    query = select(func.max(Issue.last_position)).where(
        Issue.newsletter_id == newsletter.id,
        Issue.kind == IssueKind.DIGEST,
        Issue.state.in_(GONE_OUT),
        Issue.rhythm.in_(("", choices.effective_rhythm(newsletter, rhythm))),
    )
    if newsletter.mode is not Mode.HAND:  # picked from where another rhythm stood
        query = query.where(Issue.picked.is_(False))
    last = session.scalar(query)
    return recent_position(session, newsletter.id) if last is None else last


def recent_position(session: Session, newsletter_id: int) -> int:
    """Return the position after which the recent posts begin."""
    query = (
        select(Post.position)
        .where(
            Post.newsletter_id == newsletter_id,
            Post.state == PostState.PUBLISHED,
            Post.position.is_not(None),
        )
        .order_by(Post.position.desc())
        .offset(RECENT_POSTS)
        .limit(1)
    )
    return session.scalar(query) or 0
