"""Positions: the order in which posts could first be sent. Cursors compare to it."""

from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from newsletter.models import Issue, IssuePost, MessagePost, Newsletter, Post, PostState


def lock(session: Session, newsletter_id: int) -> Newsletter:
    """Return the newsletter, its row locked: nobody else gives out positions now.

    What belongs to it may come meanwhile: a sign-up does not wait for an issue.
    """
    session.flush()  # what is read anew below must hold what we gave out ourselves
    return session.get_one(
        Newsletter,
        newsletter_id,
        with_for_update={"key_share": True},
        populate_existing=True,
    )


def publish(locked: Newsletter, post: Post) -> None:
    """Make a post public, and to be sent once.

    One that has a position keeps it, unless it was withdrawn: digests may have passed
    it by since. Who has had it does not get it again; the ledger knows.
    """
    anew = post.state is PostState.WITHDRAWN
    post.state = PostState.PUBLISHED
    if post.position is None or anew:
        locked.last_position += 1
        post.position = locked.last_position


def was_sent(session: Session, post: Post) -> bool:
    """Tell whether any reader may have got a post."""
    return bool(session.scalar(select(sent(post.id))))


def sent(post_id: int | InstrumentedAttribute[int]) -> ColumnElement[bool]:
    """Return the condition that a post stands in an issue or a mail that was frozen."""
    in_issue = exists().where(
        IssuePost.post_id == post_id,
        Issue.id == IssuePost.issue_id,
        Issue.number.is_not(None),
    )
    return or_(in_issue, exists().where(MessagePost.post_id == post_id))


def take_out_of_drafts(session: Session, post: Post) -> None:
    """Take a post out of the issues that have not gone out: it gets another place."""
    drafts = select(Issue.id).where(Issue.number.is_(None))
    session.execute(
        delete(IssuePost).where(
            IssuePost.post_id == post.id, IssuePost.issue_id.in_(drafts)
        )
    )
