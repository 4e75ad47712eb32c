"""Sending can be undone for a moment: how long, and which issues wait for that only"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "newsletter",
        sa.Column("undo_seconds", sa.Integer(), nullable=False, server_default="30"),
    )
    op.add_column(
        "issue",
        sa.Column("undoable", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    op.drop_column("issue", "undoable")
    op.drop_column("newsletter", "undo_seconds")
