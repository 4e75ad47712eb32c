"""Editions that open in a browser, and issues that stay out of the archive"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "issue",
        sa.Column("listed", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.add_column(
        "message",
        sa.Column("preview_text", sa.Text(), nullable=False, server_default=""),
    )
    op.add_column(
        "message", sa.Column("view_token", sa.String(length=32), nullable=True)
    )
    op.create_index(
        "uq_message_view_token",
        "message",
        ["view_token"],
        unique=True,
        sqlite_where=sa.text("view_token IS NOT NULL"),
        postgresql_where=sa.text("view_token IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("uq_message_view_token", table_name="message")
    op.drop_column("message", "view_token")
    op.drop_column("message", "preview_text")
    op.drop_column("issue", "listed")
