"""What was just done and how it was before, kept for an hour so that it can be undone.

A page that removes or changes something keeps a row here with the change, in the same
transaction; the page that follows has a button for it. `take` gives a row out once, to
who did it. Rows that were removed come back with what hung on them: `keep`, `put_back`.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import Date, LargeBinary, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from newsletter.db import Base, UTCDateTime
from newsletter.errors import N_, Conflict, NotFound
from newsletter.models import (
    Category,
    DraftVersion,
    Feed,
    Issue,
    IssuePost,
    Membership,
    NewsletterRelay,
    Occurrence,
    Post,
    Role,
    SavedSegment,
    Topic,
    Undo,
)

LIVES = timedelta(hours=1)
MOST_LINKED = 20_000  # rows that name what is removed

N_GONE = N_("That has been undone already, or it is longer ago than an hour.")
N_TAKEN = N_(
    "It cannot come back: something has its name or its place by now. Change that"
    " first, then press Undo on the page before this one."
)


@dataclass(frozen=True, slots=True)
class _Link:
    """Rows that stay, and name what is removed in a column."""

    model: type[Base]
    column: str
    also: str = ""  # a column that removing changes too


@dataclass(frozen=True, slots=True)
class _Shape:
    """What goes with a row when it is removed."""

    model: type[Base]
    parts: tuple[tuple[type[Base], str], ...] = ()  # removed with it: table, column
    links: tuple[_Link, ...] = ()
    key: str = "id"  # another one is not given to anything else meanwhile


# Where the feed's hub is told to push is not kept: it is asked anew. A relay's password
# is kept as it lies in its table: encrypted.
SHAPES = {
    "topic": _Shape(Topic, links=(_Link(Category, "topic_id"),)),
    "segment": _Shape(SavedSegment),
    "feed": _Shape(Feed, links=(_Link(Post, "feed_id"),)),
    "membership": _Shape(Membership),
    "relay": _Shape(NewsletterRelay, key="newsletter_id"),
    "issue": _Shape(
        Issue,
        parts=((IssuePost, "issue_id"), (DraftVersion, "issue_id")),
        links=(_Link(Occurrence, "issue_id", "state"),),
    ),
}


def offer(
    session: Session,
    newsletter_id: int,
    kind: str,
    data: Mapping[str, Any],
    *,
    editor_id: int,
    role: Role = Role.EDITOR,
    now: datetime,
) -> int:
    """Keep how to undo something; return its number. `data` holds nothing of readers.

    `role` is what undoing it needs.
    """
    row = Undo(
        newsletter_id=newsletter_id,
        editor_id=editor_id,
        role=role,
        kind=kind,
        data=dict(data),
        offered_at=now,
    )
    session.add(row)
    session.flush()
    return row.id


def take(
    session: Session, newsletter_id: int, number: int, *, editor_id: int, now: datetime
) -> Undo:
    """Give out what `offer` kept, once. Raises NotFound, and Conflict later."""
    row = session.get(Undo, number)
    if row is None or (row.newsletter_id, row.editor_id) != (newsletter_id, editor_id):
        raise NotFound(N_("There is nothing to undo here, or it is long ago."))
    taken = session.execute(
        update(Undo)
        .where(
            Undo.id == number,
            Undo.undone_at.is_(None),
            Undo.offered_at > now - LIVES,
        )
        .values(undone_at=now)
        .returning(Undo.id)
        .execution_options(synchronize_session=False)
    ).scalar()
    if taken is None:
        raise Conflict(N_GONE)
    return session.get_one(Undo, taken, populate_existing=True)


def forget_old(session: Session, *, now: datetime) -> None:
    """Delete what can no longer be undone."""
    session.execute(delete(Undo).where(Undo.offered_at <= now - LIVES))


def keep(session: Session, kind: str, row_id: int) -> dict[str, Any]:
    """Return a row that is about to be removed, with what hangs on it, as JSON."""
    session.flush()
    shape = SHAPES[kind]
    found: dict[str, Any] = {"parts": {}, "links": {}}
    found["row"] = _rows(session, shape.model, shape.key, row_id)[0]
    for model, column in shape.parts:
        name = model.__tablename__
        found["parts"][name] = _rows(session, model, column, row_id)
    for link in shape.links:
        table = _table(link.model)
        wanted = [table.c.id, table.c[link.also or "id"]]
        rows = session.execute(
            select(*wanted).where(table.c[link.column] == row_id).limit(MOST_LINKED)
        )
        found["links"][table.name] = [[one[0], str(one[1])] for one in rows]
    return found


def put_back(session: Session, kind: str, kept: Mapping[str, Any]) -> int:
    """Store what `keep` returned; return its number, which may be another.

    Raises Conflict if something has its name or its place by now.
    """
    try:
        with session.begin_nested():
            return _put_back(session, SHAPES[kind], kept)
    except IntegrityError:
        raise Conflict(N_TAKEN) from None


def _put_back(session: Session, shape: _Shape, kept: Mapping[str, Any]) -> int:
    table, row = _table(shape.model), dict(kept["row"])
    if shape.key == "id" and session.get(shape.model, row["id"]) is not None:
        del row["id"]  # given to another one meanwhile
    values = _read(table, row)
    query = insert(table).values(values).returning(table.c[shape.key])
    number = int(session.execute(query).scalar_one())
    for model, column in shape.parts:
        part = _table(model)
        rows = [_read(part, one) | {column: number} for one in kept["parts"][part.name]]
        for one in rows:
            one.pop("id", None)
        if rows:
            session.execute(insert(part), rows)
    for link in shape.links:
        _link_again(session, link, kept["links"][link.model.__tablename__], number)
    session.expire_all()
    return number


def _link_again(
    session: Session, link: _Link, rows: Sequence[Sequence[Any]], number: int
) -> None:
    """Let rows name again what is back, where they name nothing else by now."""
    table = _table(link.model)
    free = table.c[link.column].is_(None)
    if not link.also:
        ids = [one[0] for one in rows]
        for start in range(0, len(ids), 500):
            session.execute(
                update(table)
                .where(table.c.id.in_(ids[start : start + 500]), free)
                .values({link.column: number})
            )
        return
    for row_id, was in rows:
        session.execute(
            update(table)
            .where(table.c.id == row_id, free)
            .values({link.column: number, link.also: was})
        )


def _rows(
    session: Session, model: type[Base], column: str, value: int
) -> list[dict[str, Any]]:
    table = _table(model)
    found = session.execute(select(table).where(table.c[column] == value))
    return [
        {name: _written(cell) for name, cell in row.items()} for row in found.mappings()
    ]


def _written(cell: Any) -> Any:
    if isinstance(cell, date):  # or a moment
        return cell.isoformat()
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    return cell


def _read(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _cell(table, name, cell) for name, cell in row.items()}


def _cell(table: Table, name: str, cell: Any) -> Any:
    kind = table.c[name].type
    if isinstance(cell, str) and isinstance(kind, UTCDateTime):
        return datetime.fromisoformat(cell)
    if isinstance(cell, str) and isinstance(kind, Date):
        return date.fromisoformat(cell)
    if isinstance(cell, str) and isinstance(kind, LargeBinary):
        return base64.b64decode(cell)
    return cell


def _table(model: type[Base]) -> Table:
    return cast(Table, model.__table__)
