"""Finding addresses by any part of them, among a million: an index of three letters.

It follows behind: what is added costs nothing when it is added, `catch_up` takes it in
later, and what is newer than the index is read as it stands. What is erased or changed
is taken out at once, by the database itself. On SQLite it is a virtual table (FTS5), on
PostgreSQL a table under an index over a function of ours: nothing that an operator
would have to install. Both come with a migration and are named `address_search`.

Where there is none (an SQLite without FTS5), every address is newer than the index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    cast,
    column,
    func,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.orm import Session

from newsletter.models import Subscriber

PART = 3  # characters; a shorter text stands in too many addresses to be looked up
MAX_PARTS = 24  # of one text; more would not find fewer addresses
NEWER = 20_000  # addresses read as they stand, at once
MERGED_PAGES = 300  # of the index, at once
# PostgreSQL's numbers may come to light out of order: what is younger waits.
SETTLED = timedelta(minutes=10)

_PLAIN = table("address_search", column("id"), column("email_key"))
_VIRTUAL = table("address_search", column("rowid"), column("address_search"))
_THERE = text("SELECT 1 FROM sqlite_master WHERE name = 'address_search'")
_LAST = "SELECT max(id) FROM address_search"
_LAST_ON_SQLITE = "SELECT max(id) FROM address_search_docsize"
_TAKE_IN = (
    "INSERT INTO address_search (id, email_key)"
    " SELECT id, email_key FROM subscriber WHERE id > :after AND id <= :last"
)
_TAKE_IN_ON_SQLITE = _TAKE_IN.replace("(id,", "(rowid,")
_CHANGES = text("SELECT total_changes()")
_MERGE = text(
    "INSERT INTO address_search (address_search, rank) VALUES ('merge', :pages)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """The subscribers whose address holds a text, of all those from `floor` on."""

    ids: list[int]  # the newest first
    floor: int  # 0: there are no older ones


def can_look_up(needles: Sequence[str]) -> bool:
    """Tell whether an index helps to find some texts."""
    return bool(needles) and all(len(needle) >= PART for needle in needles)


def holds(needles: Sequence[str]) -> ColumnElement[bool]:
    """Hold for subscribers whose address has one of some texts in it."""
    return or_(*(Subscriber.email_key.contains(n, autoescape=True) for n in needles))


def look_up(
    session: Session, needles: Sequence[str], *, before: int, limit: int
) -> Found:
    """Return the newest subscribers before one whose address holds one of some texts.

    Of each text `limit` at most. Only for texts that `can_look_up`.
    """
    if before > (indexed := _indexed(session)) + 1:
        return _read(session, needles, before, indexed, limit)
    found = [
        list(session.scalars(_query(session, needle, before).limit(limit)))
        for needle in needles
    ]
    floor = max((ids[-1] for ids in found if len(ids) == limit), default=0)
    ids = {one for ids in found for one in ids if one >= floor}
    return Found(sorted(ids, reverse=True), floor)


def catch_up(session: Session, *, now: datetime, limit: int) -> int:
    """Take the next addresses into the index; return how many."""
    sqlite = _is_sqlite(session)
    if sqlite and session.scalar(_THERE) is None:
        return 0
    before = _indexed(session)
    query = select(Subscriber.id, Subscriber.created_at).where(Subscriber.id > before)
    ids = []
    for subscriber_id, came in session.execute(query.order_by("id").limit(limit)):
        if came > now - SETTLED and not sqlite:
            break
        ids.append(subscriber_id)
    if ids:
        take_in = text(_TAKE_IN_ON_SQLITE if sqlite else _TAKE_IN)
        session.execute(take_in, {"after": before, "last": ids[-1]})
    return len(ids)


def merge(session: Session, *, first: bool) -> bool:
    """Write some of the index anew, without what was taken out; tell if more is left.

    SQLite only marks as gone: until then, parts of an erased address stand in the file.
    Call it once with `first`, then until it says that nothing is left.
    """
    if not _is_sqlite(session) or session.scalar(_THERE) is None:
        return False
    before = session.scalar(_CHANGES) or 0
    session.execute(_MERGE, {"pages": -MERGED_PAGES if first else MERGED_PAGES})
    return (session.scalar(_CHANGES) or 0) - before > 1


def _read(
    session: Session, needles: Sequence[str], before: int, indexed: int, limit: int
) -> Found:
    """Read addresses that are newer than the index, as many as go at once."""
    newer = (
        select(Subscriber.id)
        .where(Subscriber.id < before, Subscriber.id > indexed)
        .order_by(Subscriber.id.desc())
    )
    last = session.scalar(newer.offset(NEWER - 1).limit(1))
    floor = last or (indexed and indexed + 1)
    query = newer.where(Subscriber.id >= floor, holds(needles)).limit(limit)
    ids = list(session.scalars(query))
    return Found(ids, ids[-1] if len(ids) == limit else floor)


def _query(session: Session, needle: str, before: int) -> Select[int]:
    """Return the query of the index, the newest first."""
    if _is_sqlite(session):
        searched, at = _VIRTUAL, _VIRTUAL.c.rowid
        asked = _VIRTUAL.c.address_search.bool_op("MATCH")(_parts(needle))
    else:
        searched, at = _PLAIN, _PLAIN.c.id
        parts = func.address_parts(cast(needle, Text))
        # As the index sorts them; under another collation it would not be asked.
        stored = func.address_parts(_PLAIN.c.email_key).collate("C")
        asked = stored.bool_op("@>")(parts)
    query = select(Subscriber.id).join(searched, at == Subscriber.id)
    return query.where(asked, at < before, holds([needle])).order_by(at.desc())


def _parts(needle: str) -> str:
    """Write a text's parts as FTS5 wants them: each a string, all of them there."""
    parts = dict.fromkeys(
        needle[at : at + PART] for at in range(len(needle) - PART + 1)
    )
    quoted = ['"{}"'.format(part.replace('"', '""')) for part in parts]
    return " AND ".join(quoted[:MAX_PARTS])


def _indexed(session: Session) -> int:
    """Return up to which subscriber the index has come."""
    if not _is_sqlite(session):
        return session.scalar(text(_LAST)) or 0
    if session.scalar(_THERE) is None:
        return 0
    return session.scalar(text(_LAST_ON_SQLITE)) or 0


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
