"""A database without the application: what is tested here does not know the web."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine

from newsletter.db import Database, engine_options, prepare_engine


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Open this test's database (building the application takes ten times as long)."""
    engine = create_engine(database_url, **engine_options(database_url))
    prepare_engine(engine)
    yield Database(engine)
    engine.dispose()
