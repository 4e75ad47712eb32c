"""Many rows at once: as tuples into SQLite, as arrays into PostgreSQL.

The unit of work knows rows one by one, at thirty microseconds each and table. Here a
row's id is given before it is written, so that rows of several tables can name each
other without asking back.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import ARRAY, Select, Text, any_, bindparam, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import TableValuedAlias

from newsletter.db import UTCDateTime

ROWS_AT_ONCE = 400  # of a statement on SQLite: each begins by opening every index


def is_postgresql(session: Session) -> bool:
    """Tell which of the two databases this is."""
    return session.get_bind().dialect.name == "postgresql"


def stored(session: Session) -> Callable[[datetime | None], Any]:
    """Return how to write moments for `insert`."""
    dialect = session.get_bind().dialect
    process = UTCDateTime().dialect_impl(dialect).bind_processor(dialect)
    if process is None:
        return lambda moment: moment
    return functools.lru_cache(maxsize=4096)(process)


def among(
    session: Session, attribute: InstrumentedAttribute[str], values: Sequence[str]
) -> ColumnElement[bool]:
    """Hold where a column is one of many values; one parameter, however many."""
    if is_postgresql(session):
        array = bindparam(None, list(values), type_=ARRAY(Text), unique=True)
        return attribute == any_(array)
    return attribute.in_(select(_each(values).c.value))


def _each(values: Sequence[str]) -> TableValuedAlias:
    return func.json_each(json.dumps(values)).table_valued("value")


def looked_up(
    session: Session,
    query: Select[*tuple[Any, ...]],
    attribute: InstrumentedAttribute[str],
    values: Sequence[str],
) -> Select[*tuple[Any, ...]]:
    """Ask only for the rows of a table in which a column is one of many values.

    Those must differ. SQLite would sort them first to ask whether one is `among` them.
    """
    if is_postgresql(session):
        return query.where(among(session, attribute, values))
    each = _each(values)
    return query.select_from(each).join(attribute.class_, attribute == each.c.value)


def new_ids(session: Session, model: Any, count: int) -> Sequence[int]:
    """Return ids that nobody else will give to rows of a table.

    On SQLite that holds in a transaction that began as a writer.
    """
    table = model.__tablename__
    if is_postgresql(session):
        following = text(
            "SELECT nextval(pg_get_serial_sequence(:table, 'id'))"
            " FROM generate_series(1, :count)"
        )
        return list(session.scalars(following, {"table": table, "count": count}))
    last = session.scalar(select(func.max(model.id))) or 0
    return range(last + 1, last + 1 + count)


def insert(
    session: Session,
    model: Any,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    same: Mapping[str, Any] | None = None,
) -> set[Any]:
    """Write rows; one that breaks a unique constraint is left out.

    `same` is what they have in common, which is handed over once and not with each.
    Values must be as the database has them: moments through `stored`, JSON as text.
    Returns the first column of the rows that were left out.
    """
    if not rows:
        return set()
    if is_postgresql(session):
        return _insert_arrays(session, model, names, rows, same or {})
    whole = len(rows) - len(rows) % ROWS_AT_ONCE
    _insert_values(session, model, names, rows[:whole], same or {}, ROWS_AT_ONCE)
    _insert_values(session, model, names, rows[whole:], same or {}, 1)
    # Nobody else writes meanwhile: whoever looked before finds that nothing was there.
    return set()


def _insert_values(
    session: Session,
    model: Any,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    same: Mapping[str, Any],
    at_once: int,
) -> None:
    """Write rows, some in each statement.

    What fails here fails the transaction (OR FAIL), so that SQLite need not keep what
    it would take to undo a statement.
    """
    if not rows:
        return
    common = tuple(same.values())
    # The first parameters are the ones in common, named in every row by their numbers.
    row = ", ".join([*(f"?{n + 1}" for n in range(len(common))), *("?" * len(names))])
    session.connection().exec_driver_sql(
        f"INSERT OR FAIL INTO {model.__tablename__}"  # noqa: S608
        f" ({', '.join([*same, *names])})"
        f" VALUES {', '.join([f'({row})'] * at_once)} ON CONFLICT DO NOTHING",
        [
            (*common, *chain.from_iterable(rows[at : at + at_once]))
            for at in range(0, len(rows), at_once)
        ],
    )


def _insert_arrays(
    session: Session,
    model: Any,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    same: Mapping[str, Any],
) -> set[Any]:
    columns = model.__table__.columns
    dialect = session.get_bind().dialect
    types = {n: columns[n].type.compile(dialect) for n in (*same, *names)}
    common = "".join(f"CAST(%s AS {types[name]}), " for name in same)
    arrays = ", ".join(f"CAST(%s AS {types[name]}[])" for name in names)
    found = session.connection().exec_driver_sql(
        f"INSERT INTO {model.__tablename__} ({', '.join([*same, *names])})"  # noqa: S608
        f" SELECT {common}theirs.* FROM unnest({arrays}) AS theirs"
        f" ON CONFLICT DO NOTHING RETURNING {names[0]}",
        (*same.values(), *(list(cells) for cells in zip(*rows, strict=True))),
    )
    written = set(found.scalars())
    return {row[0] for row in rows if row[0] not in written}
