"""Positions: the order in which posts could first be sent. Cursors compare to it."""

from sqlalchemy.orm import Session

from newsletter.models import Newsletter, Post, PostState


def lock(session: Session, newsletter_id: int) -> Newsletter:
    """Return the newsletter, its row locked: nobody else gives out positions now."""
    session.flush()  # what is read anew below must hold what we gave out ourselves
    return session.get_one(
        Newsletter, newsletter_id, with_for_update=True, populate_existing=True
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
