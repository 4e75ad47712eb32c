"""How many readers a large newsletter has, counted by the clock; who has had more"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reckoning",
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_reckoning_newsletter_id_newsletter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "newsletter_id", "kind", "name", name=op.f("pk_reckoning")
        ),
    )
    op.create_index(
        "ix_subscription_had",
        "subscription",
        ["newsletter_id", "had_until"],
        sqlite_where=sa.text("had_until > cursor"),
        postgresql_where=sa.text("had_until > cursor"),
    )


def downgrade() -> None:
    op.drop_index("ix_subscription_had", table_name="subscription")
    op.drop_table("reckoning")
