"""Addresses found by any part of them, lists by status, and counts that are kept

The index of parts, `address_search`, is not in the models: each database has its own
kind, with triggers that take out what is erased (`subscribers/finding.py`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ON_SQLITE = (
    "CREATE VIRTUAL TABLE address_search USING fts5 (email_key,"
    " content='subscriber', content_rowid='id', tokenize='trigram', detail=none)",
    """
    CREATE TRIGGER subscriber_erased AFTER DELETE ON subscriber
    WHEN EXISTS (SELECT 1 FROM address_search_docsize WHERE id = old.id)
    BEGIN
      INSERT INTO address_search (address_search, rowid, email_key)
      VALUES ('delete', old.id, old.email_key);
    END
    """,
    """
    CREATE TRIGGER subscriber_moved AFTER UPDATE OF email_key ON subscriber
    WHEN EXISTS (SELECT 1 FROM address_search_docsize WHERE id = old.id)
    BEGIN
      INSERT INTO address_search (address_search, rowid, email_key)
      VALUES ('delete', old.id, old.email_key);
      INSERT INTO address_search (rowid, email_key) VALUES (new.id, new.email_key);
    END
    """,
)
ON_POSTGRESQL = (
    """
    CREATE FUNCTION address_parts(text) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
      SELECT array(
        SELECT substr($1, n, 3) COLLATE "C" FROM generate_series(1, length($1) - 2) n
      )
    $$
    """,
    """
    CREATE TABLE address_search (
      id integer PRIMARY KEY REFERENCES subscriber (id) ON DELETE CASCADE,
      email_key varchar(320) NOT NULL
    )
    """,
    """
    CREATE INDEX ix_address_search_parts ON address_search
    USING gin (address_parts(email_key) COLLATE "C")
    """,
    """
    CREATE FUNCTION subscriber_moved() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        UPDATE address_search SET email_key = new.email_key WHERE id = new.id;
        RETURN NULL;
      END
    $$
    """,
    """
    CREATE TRIGGER subscriber_moved AFTER UPDATE OF email_key ON subscriber
    FOR EACH ROW EXECUTE FUNCTION subscriber_moved()
    """,
)


def upgrade() -> None:
    op.create_index(
        "ix_subscription_newest",
        "subscription",
        ["newsletter_id", "status", "subscriber_id"],
    )
    op.create_table(
        "tally",
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_tally_newsletter_id_newsletter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("newsletter_id", "status", name=op.f("pk_tally")),
    )
    if not _on_sqlite():
        _run(ON_POSTGRESQL)
    elif _has_trigrams():
        _run(ON_SQLITE)


def downgrade() -> None:
    if _on_sqlite():
        for trigger in ("subscriber_erased", "subscriber_moved"):
            op.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        op.execute("DROP TABLE IF EXISTS address_search")
    else:
        op.execute("DROP TRIGGER subscriber_moved ON subscriber")
        op.execute("DROP FUNCTION subscriber_moved()")
        op.execute("DROP TABLE address_search")
        op.execute("DROP FUNCTION address_parts(text)")
    op.drop_table("tally")
    op.drop_index("ix_subscription_newest", table_name="subscription")


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _has_trigrams() -> bool:
    """Tell whether this SQLite can keep the index: it is a choice of who built it."""
    bind = op.get_bind()
    version = tuple(
        map(int, str(bind.scalar(sa.text("SELECT sqlite_version()"))).split("."))
    )
    options = bind.scalars(sa.text("PRAGMA compile_options")).all()
    return version >= (3, 34) and "ENABLE_FTS5" in options


def _run(statements: tuple[str, ...]) -> None:
    for statement in statements:
        op.execute(statement)
