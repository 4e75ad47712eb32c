"""Fixtures: a real database for each test, the application, its client and runner."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

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


@pytest.fixture
def database_url(migrated: str, tmp_path: Path) -> str:
    """A database of this test's own: a copy, or the emptied one."""
    if migrated.startswith("sqlite"):
        copy = tmp_path / "test.sqlite3"
        shutil.copy(migrated.removeprefix("sqlite:///"), copy)
        return f"sqlite:///{copy}"
    engine = create_engine(migrated)
    with engine.begin() as connection:
        # Three times as fast as TRUNCATE, since hardly any table holds a row.
        connection.exec_driver_sql(EMPTY)
        used = text(
            "SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL"
        )
        for name in connection.scalars(used).all():
            connection.exec_driver_sql(f'ALTER SEQUENCE "{name}" RESTART')
    engine.dispose()
    return migrated


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings as a small installation has them."""
    return config.load_settings(
        {
            "NEWSLETTER_SECRET_KEYS": SECRET,
            "NEWSLETTER_DATABASE_URL": database_url,
            "NEWSLETTER_BASE_URL": "http://localhost",
            "NEWSLETTER_INSTANCE_DIR": str(tmp_path / "instance"),
            "NEWSLETTER_EHLO_NAME": "inkorg.test",
        }
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application on this test's database."""
    app = create_app(settings)
    app.testing = True
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The database as the worker and the commands see it.

    Without the application: building that takes ten times as long.
    """
    engine = create_engine(database_url, **engine_options(database_url))
    prepare_engine(engine)
    yield Database(engine)
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
