"""Indexes that cost an import less: hashes in waves, and only rows that are asked for"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "subscriber",
        sa.Column("wave", sa.Integer(), nullable=False, server_default="0"),
    )
    op.drop_index(op.f("ix_subscriber_address_hash"), table_name="subscriber")
    op.create_index("ix_subscriber_hash", "subscriber", ["wave", "address_hash"])
    op.drop_index("ix_subscription_requested", table_name="subscription")
    op.drop_index("ix_subscription_gone", table_name="subscription")
    _partial("ix_subscription_requested", ["requested_at"], "status = 'pending'")
    _partial(
        "ix_subscription_gone", ["newsletter_id", "left_at"], "left_at IS NOT NULL"
    )


def _partial(name: str, columns: list[str], where: str) -> None:
    op.create_index(
        name,
        "subscription",
        columns,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


def downgrade() -> None:
    op.drop_index("ix_subscription_gone", table_name="subscription")
    op.drop_index("ix_subscription_requested", table_name="subscription")
    op.create_index(
        "ix_subscription_gone", "subscription", ["newsletter_id", "left_at"]
    )
    op.create_index(
        "ix_subscription_requested", "subscription", ["status", "requested_at"]
    )
    op.drop_index("ix_subscriber_hash", table_name="subscriber")
    op.drop_column("subscriber", "wave")
    op.create_index(op.f("ix_subscriber_address_hash"), "subscriber", ["address_hash"])
