"""What links, the DNS and SpamAssassin said of an issue before it is sent"""

import sqlalchemy as sa
from alembic import op

from newsletter.db import UTCDateTime

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "link_check",
        sa.Column("url_hash", sa.String(64), nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("unasked", sa.Boolean(), nullable=False),
        sa.Column("checked_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("url_hash", name=op.f("pk_link_check")),
    )
    op.create_index(op.f("ix_link_check_checked_at"), "link_check", ["checked_at"])
    op.create_table(
        "outside_check",
        sa.Column("issue_id", sa.Integer(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("checked_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["issue_id"],
            ["issue.id"],
            name=op.f("fk_outside_check_issue_id_issue"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("issue_id", name=op.f("pk_outside_check")),
    )


def downgrade() -> None:
    op.drop_table("outside_check")
    op.drop_table("link_check")
