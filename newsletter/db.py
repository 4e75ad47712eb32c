"""The database: Base, sessions, the writers' line, UTC time.

Reading and writing are kept apart:

- `db.session` reads. On SQLite it runs in autocommit, so that each statement sees what
  is committed, as on PostgreSQL, and no reader ever has to be upgraded to a writer.
- `transaction()` writes: a fresh session that commits at the end or rolls back. On
  SQLite it waits in a line shared by all processes (locks on files: the kernel wakes
  one waiter at a time, where SQLite's own back-off lets writers starve), then begins as
  a writer (BEGIN IMMEDIATE).
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, Dialect, Engine, MetaData, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import DeclarativeBase, Session, registry
from sqlalchemy.types import TypeDecorator

from newsletter.config import Settings

BUSY_TIMEOUT_MS = 30_000
# Of SQLite, in memory: what one connection keeps, and what it may need to write much.
CACHE_KB, LARGE_CACHE_KB = 8_000, 96_000
CHECKPOINT_PAGES = 4_000  # of the log, until they are copied into the file
CHECKPOINT_AFTER = 5  # transactions that wrote much
# A host that is cut off in the middle of a transaction holds its locks no longer.
CUT_OFF_MS = 30_000
# Nothing waits for one that only reads.
PATIENCE_MS = 15 * 60_000
_PATIENCE = f"SET LOCAL idle_in_transaction_session_timeout={PATIENCE_MS}"
EXTENSION = "inkorg.database"


class UTCDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC, on SQLite too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Give back an aware time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value


class Base(DeclarativeBase):
    """What every model inherits; constraint names are the same on both databases."""

    registry = registry(
        metadata=MetaData(
            naming_convention={
                "ix": "ix_%(table_name)s_%(column_0_N_name)s",
                "uq": "uq_%(table_name)s_%(column_0_N_name)s",
                "ck": "ck_%(table_name)s_%(constraint_name)s",
                "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
                "pk": "pk_%(table_name)s",
            }
        ),
        type_annotation_map={datetime: UTCDateTime},
    )


db = SQLAlchemy(
    model_class=Base,
    disable_autonaming=True,
    session_options={"expire_on_commit": False},
)


def utcnow() -> datetime:
    """Return the time now; only the edges call this."""
    return datetime.now(UTC)


class Database:
    """One database as the worker's threads and the commands use it, without Flask."""

    def __init__(self, engine: Engine) -> None:
        """Prepare the engine and, on SQLite, the writers' line beside the file."""
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writer = engine.execution_options(inkorg_writer=True)
        self._line = _Line(engine.url.database) if self.is_sqlite else None
        self._written_much = 0
        self._tidier = ThreadPoolExecutor(1, "tidier")
        self._tidying: Future[None] | None = None
        # What is done with every writing session first; the edges say who acts in it.
        self.on_begin: Callable[[Session], None] | None = None

    @contextmanager
    def transaction(self, *, much: bool = False) -> Iterator[Session]:
        """Open a session that commits at the end, or rolls back if it fails.

        Not to be nested: a second one on the same thread would wait for the first.
        `much` is for one of many that write thousands of rows each.
        """
        if much and (tidying := self._tidying):
            self._tidying = None  # what went wrong is said once
            tidying.result()
        with (
            self._line.held() if self._line else nullcontext(),
            Session(self._writer, expire_on_commit=False) as session,
            self._room(session) if much and self.is_sqlite else nullcontext(),
        ):
            if self.on_begin:
                self.on_begin(session)
            yield session
            session.commit()
        if much and self.is_sqlite:
            self._tidy()

    @contextmanager
    def _room(self, session: Session) -> Iterator[None]:
        """Let SQLite keep in memory what is changed, and its log grow.

        Else a page that is changed time and again is written each time.
        """
        connection = session.connection().connection.driver_connection
        _set_room(connection, LARGE_CACHE_KB, 0)
        try:
            yield
        finally:
            _set_room(connection, CACHE_KB, CHECKPOINT_PAGES)

    def _tidy(self) -> None:
        """Have the log copied into the file, now and then.

        Whoever writes much may do something else meanwhile, on another processor, and
        waits for it before writing on: the log begins anew only when all is copied.
        """
        self._written_much += 1
        if self._written_much % CHECKPOINT_AFTER == 0:
            self._tidying = self._tidier.submit(self._copy_log)

    def _copy_log(self) -> None:
        with self.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").close()

    @contextmanager
    def reading(self, *, slowly: bool = False) -> Iterator[Session]:
        """Open a session for reading only.

        `slowly` is for what is handed over as fast as somebody takes it: between two
        pieces PostgreSQL waits for longer than it lets writers hold their locks.
        """
        with Session(self.engine, expire_on_commit=False) as session:
            if slowly and not self.is_sqlite:
                session.execute(text(_PATIENCE))
            yield session


class _Line:
    """A line of writers, threads and processes alike: locks on two files.

    Whoever is next holds the second while waiting for the first. With one alone, a
    thread that writes time and again is back sooner than another can be woken, which
    then waits for as long as that goes on.
    """

    def __init__(self, database: str | None) -> None:
        in_memory = not database or database == ":memory:"
        self.path = None if in_memory else Path(f"{database}.lock")
        self.local = threading.local()
        self.mutex = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        if getattr(self.local, "held", False):
            raise RuntimeError("transaction() inside transaction()")
        with self.mutex if self.path is None else _first_in_line(self.path):
            self.local.held = True
            try:
                yield
            finally:
                self.local.held = False


@contextmanager
def _first_in_line(path: Path) -> Iterator[None]:
    with ExitStack() as mine:
        with locked(path.with_suffix(".next.lock")):
            mine.enter_context(locked(path))
        yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a file's lock and hold it, alone among threads and processes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def count_anew(session: Session, *tables: str) -> None:
    """Let PostgreSQL look at tables that have just got many rows.

    Its planner would take them for what they were until autovacuum comes by, and could
    choose to compare each new row with every other.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"ANALYZE {', '.join(tables)}"))


def engine_options(url: str) -> dict[str, Any]:
    """Return how Flask-SQLAlchemy should open `url`."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": BUSY_TIMEOUT_MS / 1000}}
    return {"pool_size": 10, "max_overflow": 20, "pool_pre_ping": True}


def prepare_engine(engine: Engine) -> None:
    """Set SQLite's pragmas and take over when its transactions begin.

    On PostgreSQL, let the server end a transaction from which nothing more comes.
    """
    if engine.dialect.name != "sqlite":

        @event.listens_for(engine, "connect")
        def on_connect_to_server(connection: Any, _record: object) -> None:
            connection.execute(f"SET idle_in_transaction_session_timeout={CUT_OFF_MS}")
            # Statements are many and short: to compile one takes longer than it does.
            connection.execute("SET jit=off")
            connection.commit()

        return

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin by itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        # What a statement may have to take back, else written to a file and deleted.
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.close()
        _set_room(connection, CACHE_KB, CHECKPOINT_PAGES)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("inkorg_writer"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_room(connection: Any, cache_kb: int, checkpoint_pages: int) -> None:
    connection.execute(f"PRAGMA cache_size=-{cache_kb}").close()
    connection.execute(f"PRAGMA wal_autocheckpoint={checkpoint_pages}").close()


def init_app(app: Flask, settings: Settings) -> Database:
    """Attach the database to the application and return it."""
    url = settings.database_url
    if url.startswith("sqlite:///") and (path := url.removeprefix("sqlite:///")):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(url)
    db.init_app(app)
    with app.app_context():
        prepare_engine(db.engine)
        database = Database(db.engine)
    app.extensions[EXTENSION] = database
    return database


def current_database() -> Database:
    """Return the running application's database."""
    database: Database = current_app.extensions[EXTENSION]
    return database


@contextmanager
def transaction() -> Iterator[Session]:
    """Open a writing session on the running application's database."""
    with current_database().transaction() as session:
        yield session
