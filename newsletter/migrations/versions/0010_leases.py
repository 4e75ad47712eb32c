"""Claims by ranges: a mark for each issue, leases, and indexes that sending leaves be

What was claimed or queued before this is below the mark: it is claimed one by one, as
everything that is queued again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UNUSUAL = "state NOT IN ('queued', 'sent')"
AGAIN = "state = 'queued' AND next_attempt_at IS NOT NULL"
QUEUED = "state = 'queued'"


def upgrade() -> None:
    op.create_table(
        "claim_mark",
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["message.id"],
            name=op.f("fk_claim_mark_message_id_message"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_claim_mark")),
    )
    op.create_table(
        "lease",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
        ),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(length=64), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["message.id"],
            name=op.f("fk_lease_message_id_message"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
    )
    op.create_index("ix_lease_message_id", "lease", ["message_id"])
    op.execute(
        "INSERT INTO claim_mark (message_id, last_id) SELECT message.id, coalesce("
        "(SELECT max(delivery.id) FROM delivery WHERE message_id = message.id), 0)"
        " FROM message WHERE lane = 1"
    )
    op.execute(
        "UPDATE delivery SET next_attempt_at = created_at"
        " WHERE state = 'queued' AND lane = 1"
    )
    op.drop_index("ix_delivery_queue", table_name="delivery")
    op.drop_index("ix_delivery_message_id", table_name="delivery")
    op.create_index("ix_delivery_message_id", "delivery", ["message_id", "id"])
    _partial("ix_delivery_unusual", ["message_id", "state"], UNUSUAL)
    _partial("ix_delivery_again", ["message_id", "id"], AGAIN)


def downgrade() -> None:
    op.drop_index("ix_delivery_again", table_name="delivery")
    op.drop_index("ix_delivery_unusual", table_name="delivery")
    op.drop_index("ix_delivery_message_id", table_name="delivery")
    op.create_index("ix_delivery_message_id", "delivery", ["message_id", "state"])
    _partial("ix_delivery_queue", ["message_id", "id"], QUEUED)
    op.drop_table("lease")
    op.drop_table("claim_mark")


def _partial(name: str, columns: list[str], where: str) -> None:
    op.create_index(
        name,
        "delivery",
        columns,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
