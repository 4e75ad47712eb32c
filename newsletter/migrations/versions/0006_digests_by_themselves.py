"""Digests by themselves: modes, rhythms that fall due, what stood in which edition"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MODES = ("automatic", "held", "hand")
STATES = ("waiting", "skipped", "empty", "issued")


def upgrade() -> None:
    _new_columns()
    op.create_index(
        "ix_subscription_rhythm",
        "subscription",
        ["newsletter_id", "status", "rhythm", "cursor"],
    )
    op.drop_index("ix_delivery_subscription_id", "delivery")
    op.create_index(
        "ix_delivery_subscription_id", "delivery", ["subscription_id", "message_id"]
    )
    op.create_table(
        "schedule",
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("rhythm", sa.String(length=40), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        _key("newsletter_id", "schedule", "newsletter"),
        sa.PrimaryKeyConstraint("newsletter_id", "rhythm", name=op.f("pk_schedule")),
    )
    op.create_table(
        "occurrence",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("rhythm", sa.String(length=40), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                *STATES,
                name="occurrencestate",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("issue_id", sa.Integer(), nullable=True),
        _key("newsletter_id", "occurrence", "newsletter"),
        _key("issue_id", "occurrence", "issue", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occurrence")),
        sa.UniqueConstraint(
            "newsletter_id",
            "rhythm",
            "due_at",
            name=op.f("uq_occurrence_newsletter_id_rhythm_due_at"),
        ),
    )
    op.create_index("ix_occurrence_issue_id", "occurrence", ["issue_id"])
    op.create_table(
        "postponed",
        sa.Column("subscription_id", sa.Integer(), nullable=False),
        sa.Column("issue_id", sa.Integer(), nullable=False),
        _key("subscription_id", "postponed", "subscription"),
        _key("issue_id", "postponed", "issue"),
        sa.PrimaryKeyConstraint("subscription_id", name=op.f("pk_postponed")),
    )
    op.create_index("ix_postponed_issue_id", "postponed", ["issue_id"])
    op.create_table(
        "message_post",
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("post_id", sa.Integer(), nullable=False),
        _key("message_id", "message_post", "message"),
        _key("post_id", "message_post", "post"),
        sa.PrimaryKeyConstraint("message_id", "post_id", name=op.f("pk_message_post")),
    )
    op.create_index("ix_message_post_post_id", "message_post", ["post_id"])
    _what_has_gone_out()


def downgrade() -> None:
    for table in ("message_post", "postponed", "occurrence", "schedule"):
        op.drop_table(table)
    op.drop_index("ix_subscription_rhythm", "subscription")
    op.drop_index("ix_delivery_subscription_id", "delivery")
    op.create_index("ix_delivery_subscription_id", "delivery", ["subscription_id"])
    for table, names in COLUMNS.items():
        for name in names:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")


COLUMNS = {
    "newsletter": {
        "mode": "VARCHAR(20) DEFAULT 'hand' NOT NULL"
        f" CONSTRAINT ck_newsletter_mode CHECK (mode IN {MODES})",
        "at_least": "INTEGER DEFAULT 1 NOT NULL",
        "at_most": "INTEGER DEFAULT 0 NOT NULL",
        "wait_days": "INTEGER DEFAULT 0 NOT NULL",
        "quiet_days": "JSON DEFAULT '[]' NOT NULL",
        "holidays": "JSON DEFAULT '[]' NOT NULL",
        "holiday_country": "VARCHAR(2) DEFAULT '' NOT NULL",
        "by_language": "BOOLEAN DEFAULT FALSE NOT NULL",
        "halted_at": "{moment}",
    },
    "subscription": {"had_until": "INTEGER DEFAULT 0 NOT NULL"},
    "issue": {
        "rhythm": "VARCHAR(40) DEFAULT '' NOT NULL",
        "picked": "BOOLEAN DEFAULT FALSE NOT NULL",
        "held_reason": "TEXT DEFAULT '' NOT NULL",
        "held_values": "JSON DEFAULT '{{}}' NOT NULL",
    },
}


def _new_columns() -> None:
    """Add columns by hand: with a default and a CHECK, alike on both databases."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    moment = "DATETIME" if is_sqlite else "TIMESTAMP WITH TIME ZONE"
    for table, columns in COLUMNS.items():
        for name, kind in columns.items():
            kind = kind.format(moment=moment)
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def _key(
    column: str, table: str, other: str, ondelete: str = "CASCADE"
) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column],
        [f"{other}.id"],
        name=op.f(f"fk_{table}_{column}_{other}"),
        ondelete=ondelete,
    )


def _what_has_gone_out() -> None:
    """Write down what the editions so far held, and where the first issue began.

    Each edition may have held fewer; readers then count as having had what they chose
    not to have. Nobody is to get older posts than the first issue had.
    """
    op.execute(
        "INSERT INTO message_post (message_id, post_id)"
        " SELECT message.id, issue_post.post_id FROM message"
        " JOIN issue_post ON issue_post.issue_id = message.issue_id"
        " WHERE issue_post.hidden IS FALSE"
    )
    first = (
        "(SELECT MIN(post.position) - 1 FROM issue"
        " JOIN issue_post ON issue_post.issue_id = issue.id"
        " JOIN post ON post.id = issue_post.post_id"
        " WHERE issue.newsletter_id = subscription.newsletter_id AND issue.number = 1)"
    )
    lower = f"UPDATE subscription SET cursor = {first} WHERE cursor < {first}"  # noqa: S608
    op.execute(lower)
