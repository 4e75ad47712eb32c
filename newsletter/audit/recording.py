"""Writing the audit log: in the transaction of the change, by no one's remembering.

An edge says who acts in a session (`watch`); from then on every change to a watched
table becomes part of an entry when the session commits. Sessions of readers and of the
worker are watched by nobody: signing up and sending write nothing here.

What is never in it: secrets, whole texts, and of readers anything but their number.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    Delete,
    Select,
    Table,
    Update,
    event,
    insert,
    inspect,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import (
    Mapper,
    ORMExecuteState,
    Session,
    SessionTransaction,
    object_session,
)

from newsletter.audit.watched import WATCHED, Watched
from newsletter.db import Base, utcnow
from newsletter.models import AuditEntry, Editor

MAX_TEXT_CHARACTERS = 200
KEPT_CHARACTERS = 120  # of a longer one
MAX_ENTRY_CHARACTERS = 4000
MAX_ROWS_OF_A_STATEMENT = 100  # read before and after; of more only the number
# Saves of what is being written follow each other closely: they make one entry.
WRITING = timedelta(minutes=10)

CREATED, CHANGED, REMOVED = "created", "changed", "removed"
HIDDEN = "•••"

_INFO = "inkorg.audit"
_SECRET = re.compile(r"token|secret|password|private|nonce|codes|hash|public_key|^key$")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an editor, or (without a number) a command by its name."""

    name: str
    editor_id: int | None = None


_TABLE = cast(Table, AuditEntry.__table__)
_BY_TABLE = {model.__tablename__: model for model in WATCHED}
# Where the name of a thing stands that no change of its own row brought along.
_NAMED_IN = {
    watched.kind: (model, watched.label)
    for model, watched in WATCHED.items()
    if watched.about == "id" and watched.label
} | {"membership": (Editor, "email")}
_WRITING: dict[str, set[str]] = {}
for _watched in WATCHED.values():
    _WRITING.setdefault(_watched.kind, set()).update(_watched.writing)


@dataclass(slots=True)
class _Change:
    """What happened to one thing in one transaction."""

    kind: str
    subject_id: int | None
    newsletter_id: int | None
    what: str = CHANGED
    label: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Log:
    """What a watched session has changed so far."""

    actor: Callable[[], Actor | None]
    newsletter_id: int | None = None
    left_out: set[str] = field(default_factory=set)  # kinds
    changes: list[_Change] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)  # savepoint: changes before


def watch(session: Session, actor: Callable[[], Actor | None]) -> None:
    """Write down from now on what this session changes; `actor` is asked at the end.

    Where it names nobody, an editor's change to their own account is theirs, and
    anything else is left out.
    """
    if _INFO in session.info:
        session.info[_INFO].actor = actor
        return
    session.info[_INFO] = _Log(actor)
    event.listen(session, "do_orm_execute", _on_statement)
    event.listen(session, "before_commit", _write)
    event.listen(session, "after_transaction_create", _on_savepoint)
    event.listen(session, "after_soft_rollback", _on_rollback)


def of_newsletter(session: Session, newsletter_id: int) -> None:
    """Say which newsletter this session works on, for things that belong to none."""
    if log := _log_of(session):
        log.newsletter_id = newsletter_id


def leave_out(session: Session, *kinds: str) -> None:
    """Tell nothing of single things of these kinds: a `note` says it of all at once."""
    if log := _log_of(session):
        log.left_out.update(kinds)


def note(
    session: Session,
    what: str,
    kind: str,
    subject_id: int | None = None,
    *,
    newsletter_id: int | None = None,
    label: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write down an act that the changed rows do not show by themselves."""
    if log := _log_of(session):
        change = _Change(kind, subject_id, newsletter_id or log.newsletter_id, what)
        change.label = label
        change.before = {k: _told(v) for k, v in (before or {}).items()}
        change.after = {k: _told(v) for k, v in (after or {}).items()}
        log.changes.append(change)


def is_secret(column: str) -> bool:
    """Tell by a column's name that what it holds is never told."""
    return bool(_SECRET.search(column))


def _log_of(session: Session | None) -> _Log | None:
    return session.info.get(_INFO) if session is not None else None


def _on_insert(mapper: Mapper[Any], _connection: object, target: Base) -> None:
    if log := _log_of(object_session(target)):
        row = _row(mapper, target)
        _add(log, type(target), row, {}, row, CREATED)


def _on_delete(mapper: Mapper[Any], _connection: object, target: Base) -> None:
    if log := _log_of(object_session(target)):
        row = _row(mapper, target)
        _add(log, type(target), row, row, {}, REMOVED)


def _on_update(mapper: Mapper[Any], _connection: object, target: Base) -> None:
    log = _log_of(object_session(target))
    if log is None:
        return
    before, after = {}, {}
    attributes = inspect(target).attrs
    for column in mapper.column_attrs:
        history = attributes[column.key].history
        if history.has_changes():
            before[column.key] = next(iter(history.deleted), None)
            after[column.key] = next(iter(history.added), None)
    if after:
        _add(log, type(target), _row(mapper, target), before, after, CHANGED)


for _model in WATCHED:
    event.listen(_model, "after_insert", _on_insert)
    event.listen(_model, "after_update", _on_update)
    event.listen(_model, "after_delete", _on_delete)


def _row(mapper: Mapper[Any], target: Base) -> dict[str, Any]:
    """Return the columns of a row that are loaded."""
    loaded = vars(target)
    return {c.key: loaded[c.key] for c in mapper.column_attrs if c.key in loaded}


def _on_statement(state: ORMExecuteState) -> Any:
    """Read what an UPDATE or DELETE is about to touch, and what came of it."""
    statement = state.statement
    if not isinstance(statement, Update | Delete):
        return None
    table: Any = statement.table
    model = _BY_TABLE.get(table.name)
    log = _log_of(state.session)
    if model is None or log is None or not _tells(statement, WATCHED[model]):
        return None
    session, columns = state.session, model.__table__
    where = statement.whereclause
    touched = select(columns) if where is None else select(columns).where(where)
    with session.no_autoflush:
        before = _rows(session, touched.limit(MAX_ROWS_OF_A_STATEMENT + 1))
    result: Any = state.invoke_statement()
    is_delete = isinstance(statement, Delete)
    if len(before) > MAX_ROWS_OF_A_STATEMENT:
        change = _Change(WATCHED[model].kind, None, log.newsletter_id)
        change.what = REMOVED if is_delete else CHANGED
        change.after = {"rows": max(result.rowcount, len(before))}
        log.changes.append(change)
    elif is_delete:
        for row in before:
            _add(log, model, row, row, {}, REMOVED)
    elif before:
        _compare(session, log, model, before)
    return result


def _tells(statement: Update | Delete, watched: Watched) -> bool:
    """Tell whether a statement changes more than what follows from other changes."""
    if isinstance(statement, Delete):
        return True
    values: dict[Any, Any] = getattr(statement, "_values", None) or {}
    names = {getattr(column, "key", column) for column in values}
    return not names or not names <= watched.quiet


def _rows(session: Session, query: Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in session.connection().execute(query).mappings()]


def _compare(
    session: Session, log: _Log, model: type[Base], before: list[dict[str, Any]]
) -> None:
    table = cast(Table, model.__table__)
    keys = [column.name for column in table.primary_key.columns]
    known = {tuple(row[key] for key in keys): row for row in before}
    columns = [table.c[key] for key in keys]
    of_these = (
        tuple_(*columns).in_(known)
        if len(keys) > 1
        else columns[0].in_([key for (key,) in known])
    )
    for row in _rows(session, select(table).where(of_these)):
        old = known[tuple(row[key] for key in keys)]
        changed = {name for name in row if row[name] != old[name]}
        _add(
            log,
            model,
            row,
            {name: old[name] for name in changed},
            {name: row[name] for name in changed},
            CHANGED,
        )


def _add(
    log: _Log,
    model: type[Base],
    row: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    what: str,
) -> None:
    """Put a row's change to what is known of the thing it is about."""
    watched = WATCHED[model]
    names = sorted((before.keys() | after.keys()) - watched.untold)
    if (what == CHANGED and not names) or watched.kind in log.left_out:
        return
    change = _Change(
        watched.kind,
        row.get(watched.about),
        row.get(watched.newsletter),
        what if watched.own else CHANGED,
        _line(row.get(watched.label)) if watched.own else "",
    )
    if what != CREATED:
        change.before = _side(watched, row, names, before, whole=what != CHANGED)
    if what != REMOVED:
        change.after = _side(watched, row, names, after, whole=what != CHANGED)
    log.changes.append(change)


def _side(
    watched: Watched,
    row: dict[str, Any],
    names: Iterable[str],
    values: dict[str, Any],
    *,
    whole: bool,
) -> dict[str, Any]:
    """Tell values; of something new or gone only those that it has."""
    part = f"{watched.part_word} {row.get(watched.part)}" if watched.part else ""
    told = {
        f"{part}.{name}" if part else name: _tell(watched, name, values.get(name))
        for name in names
        if not whole or values.get(name)
    }
    return told or ({part: True} if whole and part else {})


def _tell(watched: Watched, name: str, value: Any) -> Any:
    if name in watched.private or is_secret(name):
        return HIDDEN if value else None
    return _told(value)


def _told(value: Any) -> Any:
    """Return a value as it stands in an entry: short, and without credentials."""
    match value:
        case None | bool() | int() | float():
            return value
        case bytes():
            return f"({len(value):,} bytes)"
        case datetime():
            return value.isoformat(timespec="seconds")
        case date():
            return value.isoformat()
        case str():
            return _line(value)
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False, default=str)
            return value if len(text) <= MAX_TEXT_CHARACTERS else _line(text)
    return None  # an expression that the database works out


def _line(value: Any) -> str:
    text = _CREDENTIALS.sub("•••@", "" if value is None else str(value))
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    return f"{text[:KEPT_CHARACTERS]}… ({len(text):,})"


def _write(session: Session) -> None:
    """Write the entries of what was changed, as the last thing before the commit."""
    log: _Log = session.info[_INFO]
    session.flush()
    changes, log.changes = _merged(log.changes), []
    if not changes:
        return
    actor, now, rows = log.actor(), utcnow(), []
    for change in changes:
        _complete(session, log, change)
        by = actor or _oneself(change)
        if by and not _joined(session, change, by, now):
            rows.append(
                {
                    "at": now,
                    "newsletter_id": change.newsletter_id,
                    "editor_id": by.editor_id,
                    "who": by.name,
                    "what": change.what,
                    "kind": change.kind,
                    "subject_id": change.subject_id,
                    "label": change.label,
                    "before": _limited(change.before),
                    "after": _limited(change.after),
                }
            )
    if rows:
        session.connection().execute(insert(_TABLE), rows)


def _merged(changes: Iterable[_Change]) -> list[_Change]:
    """Make one of all that happened to a thing; leave out what came to nothing."""
    found: dict[Any, _Change] = {}
    for change in changes:
        is_act = change.what not in {CREATED, CHANGED, REMOVED}
        alone = is_act or change.subject_id is None
        key = id(change) if alone else (change.kind, change.subject_id)
        first = found.setdefault(key, change)
        if first is change:
            continue
        first.newsletter_id = first.newsletter_id or change.newsletter_id
        first.label = change.label or first.label
        first.before = {**change.before, **first.before}
        first.after = {**first.after, **change.after}
        if change.what == REMOVED or first.what == CHANGED:
            first.what = change.what if change.what != CHANGED else first.what
    for change in found.values():
        if change.what == CHANGED:
            _leave_out_what_stayed(change)
    return [
        change
        for change in found.values()
        if change.what != CHANGED or change.before or change.after
    ]


def _leave_out_what_stayed(change: _Change) -> None:
    before, after = change.before, change.after
    for name in before.keys() & after.keys():
        # What is hidden may well have changed though it looks the same.
        if before[name] == after[name] and after[name] != HIDDEN:
            del before[name], after[name]


def _complete(session: Session, log: _Log, change: _Change) -> None:
    """Find what a change did not bring along: its name and its newsletter."""
    model, label = _NAMED_IN.get(change.kind, (None, ""))
    if model is not None and change.subject_id is not None and not change.label:
        table = model.__table__
        query = select(table).where(table.c.id == change.subject_id)
        for row in _rows(session, query):
            change.label = _line(row[label])
            change.newsletter_id = change.newsletter_id or row.get("newsletter_id")
    if change.kind != "membership":
        change.newsletter_id = change.newsletter_id or log.newsletter_id


def _oneself(change: _Change) -> Actor | None:
    """Return whom an account belongs to: who logs in is nobody until they are in."""
    if change.kind != "editor" or change.subject_id is None:
        return None
    return Actor(change.label, change.subject_id)


def _joined(session: Session, change: _Change, by: Actor, now: datetime) -> bool:
    """Add a save to the entry of the one before it, while somebody writes."""
    if not _is_writing(change.kind, change.what, change.before, change.after):
        return False
    query = (
        select(_TABLE)
        .where(_TABLE.c.kind == change.kind, _TABLE.c.subject_id == change.subject_id)
        .order_by(_TABLE.c.id.desc())
        .limit(1)
    )
    for row in _rows(session, query):
        if (
            row["at"] > now - WRITING
            and (row["editor_id"], row["who"]) == (by.editor_id, by.name)
            and _is_writing(row["kind"], row["what"], row["before"], row["after"])
        ):
            session.connection().execute(
                update(_TABLE)
                .where(_TABLE.c.id == row["id"])
                .values(
                    before=_limited({**change.before, **row["before"]}),
                    after=_limited({**row["after"], **change.after}),
                )
            )
            return True
    return False


def _is_writing(
    kind: str, what: str, before: dict[str, Any], after: dict[str, Any]
) -> bool:
    names = {name.rpartition(".")[2] for name in (*before, *after)}
    return what == CHANGED and bool(names) and names <= _WRITING.get(kind, set())


def _limited(values: dict[str, Any]) -> dict[str, Any]:
    """Keep an entry short, however many things were changed at once."""
    kept: dict[str, Any] = {}
    room = MAX_ENTRY_CHARACTERS
    for name, value in values.items():
        room -= len(json.dumps([name, value], ensure_ascii=False, default=str))
        if room < 0:
            return {**kept, "…": len(values) - len(kept)}
        kept[name] = value
    return kept


def _on_savepoint(session: Session, part: SessionTransaction) -> None:
    if part.nested and (log := _log_of(session)):
        log.marks[id(part)] = len(log.changes)


def _on_rollback(session: Session, part: SessionTransaction) -> None:
    """Forget what was taken back."""
    if log := _log_of(session):
        del log.changes[log.marks.pop(id(part), 0) :]
