"""Bring the database's schema up to date; safe to call twice, and by two at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from newsletter.db import locked

SCRIPTS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x1D6B0E6


def alembic_config() -> Config:
    """Return Alembic's settings; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run every migration up to `revision`."""
    config = alembic_config()
    with _alone(engine), engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """Return the revision the database stands at and the newest one there is."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(alembic_config()).get_current_head()
    return current, newest


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Let one process migrate at a time."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execute(
                text("SELECT pg_advisory_lock(:k)"), {"k": ADVISORY_LOCK}
            )
            yield
            connection.execute(
                text("SELECT pg_advisory_unlock(:k)"), {"k": ADVISORY_LOCK}
            )
        return
    path = engine.url.database
    if not path or path == ":memory:":
        yield
        return
    with locked(Path(f"{path}.migrate.lock")):
        yield
