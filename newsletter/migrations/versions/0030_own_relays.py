"""A relay of a newsletter's own; workers say by whose relays they send"""

import sqlalchemy as sa
from alembic import op

from newsletter.db import UTCDateTime

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "newsletter_relay",
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("security", sa.String(10), nullable=False),
        sa.Column("user", sa.String(320), nullable=False),
        sa.Column("password", sa.LargeBinary(), nullable=False),
        sa.Column("connections", sa.Integer(), nullable=False),
        sa.Column("rate_per_second", sa.Double(), nullable=False),
        sa.Column("per_day", sa.Integer(), nullable=False),
        sa.Column("warmup_from", sa.Date(), nullable=True),
        sa.Column("warmup_first", sa.Integer(), nullable=False),
        sa.Column("spare", sa.Boolean(), nullable=False),
        sa.Column("changed_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_newsletter_relay_newsletter_id_newsletter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("newsletter_id", name=op.f("pk_newsletter_relay")),
    )
    op.add_column(
        "worker", sa.Column("pool", sa.Integer(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    op.drop_column("worker", "pool")
    op.drop_table("newsletter_relay")
