"""Reading the audit log, and forgetting what is old."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from newsletter.models import AuditEntry, Editor, Membership, Newsletter

BATCH = 1000


def forget_old(
    session: Session, *, now: datetime, days: int, limit: int = BATCH
) -> int:
    """Delete entries older than so many days, the oldest first; return how many."""
    old = (
        select(AuditEntry.id)
        .where(AuditEntry.at < now - timedelta(days=days))
        .order_by(AuditEntry.at)
        .limit(limit)
    )
    ids = session.scalars(old).all()
    session.execute(delete(AuditEntry).where(AuditEntry.id.in_(ids)))
    return len(ids)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries somebody looks for."""

    editor_id: int | None = None
    commands: bool = False  # those by commands
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None  # before it


def entries(
    session: Session,
    newsletter: Newsletter,
    wanted: Filter,
    *,
    everything: bool,
    before: int | None = None,
    limit: int = 50,
) -> list[AuditEntry]:
    """Return the newest entries about a newsletter and its people, older than `before`.

    With `everything` also those that belong to no newsletter.
    """
    own = _filtered(wanted, before, limit).where(
        AuditEntry.newsletter_id == newsletter.id
    )
    nobodys = _filtered(wanted, before, limit).where(AuditEntry.newsletter_id.is_(None))
    if not everything:
        people = select(Membership.editor_id).where(
            Membership.newsletter_id == newsletter.id
        )
        nobodys = nobodys.where(
            AuditEntry.kind == "editor", AuditEntry.subject_id.in_(people)
        )
    found = [*session.scalars(own), *session.scalars(nobodys)]
    return sorted(found, key=lambda entry: entry.id, reverse=True)[:limit]


def all_entries(
    session: Session, newsletter: Newsletter, wanted: Filter, *, everything: bool
) -> Iterator[AuditEntry]:
    """Yield them all, a batch at a time."""
    before: int | None = None
    while True:
        batch = entries(
            session,
            newsletter,
            wanted,
            everything=everything,
            before=before,
            limit=BATCH,
        )
        yield from batch
        if len(batch) < BATCH:
            return
        before = batch[-1].id
        session.expunge_all()


def people(session: Session, newsletter: Newsletter) -> list[Editor]:
    """Return the editors who stand in a newsletter's log, by address."""
    acted = (
        select(AuditEntry.id)
        .where(
            AuditEntry.newsletter_id == newsletter.id,
            AuditEntry.editor_id == Editor.id,
        )
        .exists()
    )
    return list(session.scalars(select(Editor).where(acted).order_by(Editor.email)))


def _filtered(wanted: Filter, before: int | None, limit: int) -> Select[AuditEntry]:
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    if wanted.editor_id is not None:
        query = query.where(AuditEntry.editor_id == wanted.editor_id)
    if wanted.commands:
        query = query.where(AuditEntry.editor_id.is_(None))
    if wanted.kind:
        query = query.where(AuditEntry.kind == wanted.kind)
    # Days by the numbers at their ends: no index has to be walked to get there.
    at, number = AuditEntry.at, AuditEntry.id
    if wanted.since is not None:
        first = select(number).where(at >= wanted.since).order_by(at, number).limit(1)
        query = query.where(number >= first.scalar_subquery())
    if wanted.until is not None:
        last = select(number).where(at < wanted.until)
        last = last.order_by(at.desc(), number.desc()).limit(1)
        query = query.where(number <= last.scalar_subquery())
    return query
