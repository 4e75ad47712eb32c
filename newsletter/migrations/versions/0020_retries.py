"""Trying the failed again, and an index that tells reasons and pages through them"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

UNUSUAL = sa.text("state NOT IN ('queued', 'sent')")


def upgrade() -> None:
    op.create_table(
        "retry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("issue_id", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("who", sa.String(length=200), nullable=False),
        sa.Column("readers", sa.Integer(), nullable=False),
        sa.Column("after", sa.String(length=120), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["issue_id"],
            ["issue.id"],
            name=op.f("fk_retry_issue_id_issue"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retry")),
    )
    op.create_index("ix_retry_issue_id", "retry", ["issue_id"])
    _index(["message_id", "state", "reason", "id", "address"])


def downgrade() -> None:
    op.drop_table("retry")
    _index(["message_id", "state"])


def _index(columns: list[str]) -> None:
    op.drop_index("ix_delivery_unusual", table_name="delivery")
    op.create_index(
        "ix_delivery_unusual",
        "delivery",
        columns,
        sqlite_where=UNUSUAL,
        postgresql_where=UNUSUAL,
    )
