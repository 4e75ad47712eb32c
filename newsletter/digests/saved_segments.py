"""Segments under a name: kept, changed, counted, and chosen for letters and lists.

A letter takes over the conditions, not the name: whom it was written for does not
change behind its back.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter import plaintext
from newsletter.digests import letters, segments
from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.models import Newsletter, SavedSegment

MAX_NAME = 80
MAX_SAVED = 100  # of one newsletter


def of(session: Session, newsletter: Newsletter) -> Sequence[SavedSegment]:
    """Return a newsletter's segments by name."""
    query = select(SavedSegment).where(SavedSegment.newsletter_id == newsletter.id)
    return session.scalars(query.order_by(SavedSegment.name)).all()


def find(session: Session, newsletter: Newsletter, segment_id: int) -> SavedSegment:
    """Return one of a newsletter's segments. Raises NotFound."""
    found = session.get(SavedSegment, segment_id)
    if found is None or found.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such segment here (any more)."))
    return found


def save(
    session: Session,
    newsletter: Newsletter,
    saved: SavedSegment | None,
    name: str,
    text: str,
    *,
    now: datetime,
) -> SavedSegment:
    """Keep a segment, or change one. Raises InvalidInput or Conflict."""
    name = " ".join(plaintext.squeeze(name).split())
    if not name or len(name) > MAX_NAME:
        raise InvalidInput(
            N_("Give it a name of at most %(limit)s characters."),
            field="name",
            limit=MAX_NAME,
        )
    same = select(SavedSegment.id).where(
        SavedSegment.newsletter_id == newsletter.id, SavedSegment.name == name
    )
    if session.scalar(same) not in (None, saved.id if saved else None):
        raise InvalidInput(N_("There is one with that name already."), field="name")
    parsed = segments.parse(text, segments.known(session, newsletter))
    if not parsed.terms:
        raise InvalidInput(
            N_("Write at least one condition: without any it is everybody."),
            field="segment",
        )
    if saved is None:
        _check_number(session, newsletter)
        saved = SavedSegment(newsletter_id=newsletter.id, created_at=now)
        session.add(saved)
    if saved.text != str(parsed):
        saved.readers = saved.counted_at = None
    saved.name, saved.text = name, str(parsed)
    session.flush()
    return saved


def remove(session: Session, saved: SavedSegment) -> None:
    """Forget a segment; letters written for it keep their readers."""
    session.delete(saved)
    session.flush()


def count(session: Session, saved: SavedSegment, *, now: datetime) -> int | None:
    """Count the readers of a segment; None if it no longer makes sense. Writes nothing.

    Looks at every reader: not for a page that only shows it.
    """
    newsletter = session.get_one(Newsletter, saved.newsletter_id)
    try:
        return letters.audience_of(session, newsletter, saved.text, now=now).readers
    except InvalidInput:
        return None


def keep_count(
    session: Session, saved: SavedSegment, readers: int | None, *, now: datetime
) -> None:
    """Write down what was counted, unless it was changed or removed meanwhile."""
    here = session.get(SavedSegment, saved.id)
    if here is not None and here.text == saved.text:
        here.readers, here.counted_at = readers, now
        session.flush()


def _check_number(session: Session, newsletter: Newsletter) -> None:
    query = select(func.count()).where(SavedSegment.newsletter_id == newsletter.id)
    if (session.scalar(query) or 0) >= MAX_SAVED:
        raise Conflict(
            N_("There are %(limit)s segments already. Remove one first."),
            limit=MAX_SAVED,
        )
