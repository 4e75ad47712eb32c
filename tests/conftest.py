"""Fixtures: a real database for each test, the application, its client and runner."""

import functools
import io
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session
from werkzeug.routing import Rule

from newsletter import config, migrate
from newsletter.app import create_app
from newsletter.config import Settings
from newsletter.db import Base, Database, db, engine_options, prepare_engine
from tests.postgres import Postgres
from tests.smtp_server import SmtpServer

SECRET = "test-secret-test-secret-test-secret"
EMPTY = ";".join(
    f'DELETE FROM "{table.name}"' for table in reversed(Base.metadata.sorted_tables)
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run two more tests at a time than there are cores: many of them wait.

    On PostgreSQL one more, since its server has work to do too.
    """
    cores = os.cpu_count() or 1
    return cores + (1 if config.getoption("--database") == "postgresql" else 2)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="the database that the whole suite runs on",
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out, on PostgreSQL, what looks the same there: it ran on SQLite.

    That is what has no database in it, and what looks at pages in a browser.
    """
    if config.getoption("--database") == "sqlite":
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        of_database = "migrated" in getattr(item, "fixturenames", ())
        in_browser = item.get_closest_marker("browser")
        (kept if of_database and not in_browser else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A private PostgreSQL cluster, or a loud skip (a failure in CI)."""
    missing = Postgres.missing()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"PostgreSQL is missing: {missing}")
    if missing:
        pytest.skip(f"PostgreSQL is missing: {missing}")
    with Postgres() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def migrated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The URL of a database with the schema and nothing else."""
    if request.config.getoption("--database") == "postgresql":
        url: str = request.getfixturevalue("postgres").create("suite")
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('schema')}/empty.sqlite3"
    engine = create_engine(url)
    prepare_engine(engine)
    migrate.upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def engine(migrated: str) -> Iterator[Engine]:
    """The engine of all tests in this process: it remembers the SQL it has compiled."""
    url = migrated.replace("empty.sqlite3", "test.sqlite3")
    engine = create_engine(url, **engine_options(url))
    prepare_engine(engine)
    hurry(engine)
    yield engine
    engine.dispose()


def hurry(engine: Engine) -> None:
    """Spare SQLite the wait for the disk: each file is gone after its test."""
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def on_connect(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def database_url(migrated: str, engine: Engine) -> str:
    """The address of a database that holds nothing: a fresh copy, or the emptied one.

    It is the same for all tests in this process, so that they can share what is dear.
    """
    if migrated.startswith("sqlite"):
        empty = migrated.removeprefix("sqlite:///")
        copy = str(engine.url.database)
        for ending in ("", "-wal", "-shm", ".lock"):
            Path(f"{copy}{ending}").unlink(missing_ok=True)
        shutil.copy(empty, copy)
        return f"sqlite:///{copy}"
    with engine.begin() as connection:
        # Three times as fast as TRUNCATE, since hardly any table holds a row.
        connection.exec_driver_sql(EMPTY)
        used = text(
            "SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL"
        )
        for name in connection.scalars(used).all():
            connection.exec_driver_sql(f'ALTER SEQUENCE "{name}" RESTART')
    return migrated


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this process for what an installation keeps beside its database."""
    return tmp_path_factory.mktemp("installation") / "instance"


@pytest.fixture
def settings(database_url: str, instance: Path) -> Settings:
    """Settings as a small installation has them."""
    shutil.rmtree(instance, ignore_errors=True)
    return config.load_settings(
        {
            "NEWSLETTER_SECRET_KEYS": SECRET,
            "NEWSLETTER_DATABASE_URL": database_url,
            "NEWSLETTER_BASE_URL": "http://localhost",
            "NEWSLETTER_INSTANCE_DIR": str(instance),
            "NEWSLETTER_EHLO_NAME": "inkorg.test",
        }
    )


class _Compiled(BytecodeCache):
    """Templates compiled for one application, kept for the next."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if found := self.kept.get(bucket.key):
            bucket.load_bytecode(io.BytesIO(found))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.kept[bucket.key] = bucket.bytecode_to_string()


COMPILED = _Compiled()
# A slow machine is no fault of what is tested.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
ROUTES: dict[tuple[object, ...], Callable[..., tuple[str, str]]] = {}


def _compile_once(rule: Rule, append_unknown: bool = True) -> Any:
    """Write the function that builds a route's addresses, unless it is there already.

    It is most of what an application costs, and each command makes one of its own.
    """
    made = (append_unknown, rule.rule, *rule._trace, *sorted(rule.defaults or ()))
    if rule.defaults or made not in ROUTES:
        ROUTES[made] = _compile_route(rule, append_unknown)
    return ROUTES[made]


_compile_route = Rule._compile_builder
Rule._compile_builder = _compile_once  # type: ignore[method-assign, assignment]


@functools.lru_cache(maxsize=2)
def _built(settings: Settings) -> tuple[Flask, dict[str, Any]]:
    """Build the application; return it with its configuration as it was then."""
    app = create_app(settings)
    app.jinja_env.bytecode_cache = COMPILED
    app.testing = True
    security = app.extensions["security"]  # whose hashes are to be slow, elsewhere
    security.pwd_context.update(
        argon2__time_cost=1, argon2__memory_cost=8, argon2__parallelism=1
    )
    security.hashing_context.update(sha256_crypt__default_rounds=1_000)
    with app.app_context():
        hurry(db.engine)
    return app, dict(app.config)


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application on this test's database; one for all with the same settings."""
    app, configuration = _built(settings)
    forget(app)  # what a late answer to the last test's browser opened
    yield app
    app.config.clear()
    app.config.update(configuration)
    forget(app)


def forget(app: Flask) -> None:
    """Close the connections to a database whose file is replaced."""
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def database(database_url: str, engine: Engine) -> Iterator[Database]:
    """The database as the worker and the commands see it."""
    assert str(engine.url.database) in database_url
    yield Database(engine)
    if engine.dialect.name == "sqlite":  # whose file is replaced
        engine.dispose()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """One transaction, rolled back unless the test ends well."""
    with database.transaction() as session:
        yield session


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser without JavaScript."""
    return app.test_client()


def with_settings(app: Flask, **changes: object) -> Settings:
    """Return the app's settings with some changed."""
    found: Settings = app.extensions["inkorg.settings"]
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.fixture
def smtp_server() -> Iterator[SmtpServer]:
    """A relay that takes everything until it is told otherwise."""
    with SmtpServer() as server:
        yield server
