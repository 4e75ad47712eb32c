"""Migrations: they make what the models say, on both databases."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from newsletter import migrate
from newsletter.db import Base, prepare_engine
from tests.postgres import Postgres


def is_of_the_models(name: str | None, *_about: object) -> bool:
    """Leave out the index of parts of addresses: each database has its own kind."""
    return not (name or "").startswith("address_search")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new.sqlite3"
    cluster: Postgres = request.getfixturevalue("postgres")
    return cluster.create(f"migrate_{tmp_path.name}")


def test_migrations_make_what_the_models_say(empty_url: str) -> None:
    engine = create_engine(empty_url)
    prepare_engine(engine)
    migrate.upgrade(engine)
    with engine.connect() as connection:
        opts = {"compare_type": True, "include_name": is_of_the_models}
        context = MigrationContext.configure(connection, opts=opts)
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert differences == []


def test_upgrading_twice_is_harmless(empty_url: str) -> None:
    engine = create_engine(empty_url)
    prepare_engine(engine)
    migrate.upgrade(engine)
    migrate.upgrade(engine)
    tables = set(inspect(engine).get_table_names())
    engine.dispose()
    assert {name for name in tables if is_of_the_models(name)} == {
        *Base.metadata.tables,
        "alembic_version",
    }


def test_constraints_have_the_same_names_as_the_models(empty_url: str) -> None:
    engine = create_engine(empty_url)
    prepare_engine(engine)
    migrate.upgrade(engine)
    found = {
        (table, constraint["name"])
        for table in Base.metadata.tables
        for constraint in inspect(engine).get_unique_constraints(table)
    }
    engine.dispose()
    expected = {
        (table.name, constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if str(constraint.name).startswith("uq_")
    }
    assert found == expected
