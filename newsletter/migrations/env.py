"""Alembic's entry: runs on the connection `migrate.py` hands over."""

from typing import Any, Literal

from alembic import context
from flask_security import AsaList

from newsletter import models  # noqa: F401  (fills the metadata)
from newsletter.db import Base, UTCDateTime


def render_item(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Write our own column types as what they are in the database."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, AsaList):
        return "sa.UnicodeText()"
    return False


def is_of_the_models(name: str | None, *_about: object) -> bool:
    """Leave out the index of parts of addresses: each database has its own kind."""
    return not (name or "").startswith("address_search")


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=render_item,
    include_name=is_of_the_models,
)
with context.begin_transaction():
    context.run_migrations()
