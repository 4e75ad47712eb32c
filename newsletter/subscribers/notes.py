"""Notes that editors keep about a reader: who wrote what, and when.

They are facts about a person like any other: the reader's export has them, and erasing
takes them away.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from newsletter import plaintext
from newsletter.errors import N_, Conflict, Forbidden, InvalidInput, NotFound
from newsletter.models import Note, Subscription

MAX_CHARACTERS = 2000
MAX_NOTES = 200
REMOVED_STAY = timedelta(hours=1)


def of(session: Session, subscription: Subscription) -> list[Note]:
    """Return the notes about a reader, newest first."""
    query = select(Note).where(
        Note.subscription_id == subscription.id, Note.removed_at.is_(None)
    )
    return list(session.scalars(query.order_by(Note.id.desc())))


def add(
    session: Session, subscription: Subscription, text: str, *, by: str, now: datetime
) -> Note:
    """Write a note; `by` is the editor's address. Raises InvalidInput or Conflict."""
    text = plaintext.clean(text).strip()
    if not text:
        raise InvalidInput(N_("The note is empty. Write it first."), field="note")
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(
            N_("That note has %(length)s characters; %(limit)s fit. Shorten it."),
            field="note",
            length=len(text),
            limit=MAX_CHARACTERS,
        )
    query = select(func.count()).where(
        Note.subscription_id == subscription.id, Note.removed_at.is_(None)
    )
    if (session.scalar(query) or 0) >= MAX_NOTES:
        raise Conflict(
            N_("There are %(limit)s notes already. Remove an old one first."),
            limit=MAX_NOTES,
        )
    note = Note(
        subscription_id=subscription.id, text=text, written_by=by, created_at=now
    )
    session.add(note)
    session.flush()
    return note


def remove(
    session: Session,
    subscription: Subscription,
    note_id: int,
    *,
    by: str,
    any_: bool,
    now: datetime,
) -> None:
    """Remove a note: one's own, or `any_`. Raises NotFound or Forbidden.

    `put_back` works for an hour; then it is gone for good.
    """
    note = session.get(Note, note_id)
    if note is None or note.removed_at or note.subscription_id != subscription.id:
        raise NotFound(N_("That note is gone already."))
    if note.written_by != by and not any_:
        raise Forbidden(N_("Somebody else wrote that note. Ask them, or an owner."))
    note.removed_at = now
    session.flush()


def put_back(session: Session, subscription: Subscription, note_id: int) -> None:
    """Bring a removed note back. Raises NotFound."""
    note = session.get(Note, note_id)
    if note is None or note.subscription_id != subscription.id:
        raise NotFound(N_("That note is gone already."))
    note.removed_at = None
    session.flush()


def forget_removed(session: Session, *, now: datetime) -> None:
    """Delete the notes that were removed an hour ago."""
    session.execute(delete(Note).where(Note.removed_at <= now - REMOVED_STAY))
