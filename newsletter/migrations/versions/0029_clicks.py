"""Clicks in sums for each link of an issue, where a newsletter asks for it"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "newsletter",
        sa.Column(
            "count_clicks", sa.Boolean(), nullable=False, server_default=sa.false()
        ),
    )
    op.create_table(
        "counted_link",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("issue_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(12), nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("words", sa.String(300), nullable=False),
        sa.ForeignKeyConstraint(
            ["issue_id"],
            ["issue.id"],
            name=op.f("fk_counted_link_issue_id_issue"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counted_link")),
        sa.UniqueConstraint(
            "issue_id", "place", name=op.f("uq_counted_link_issue_id_place")
        ),
        sa.UniqueConstraint("token", name=op.f("uq_counted_link_token")),
    )
    op.create_table(
        "link_clicks",
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("clicks", sa.Integer(), nullable=False),
        sa.Column("machines", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["link_id"],
            ["counted_link.id"],
            name=op.f("fk_link_clicks_link_id_counted_link"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("link_id", "day", name=op.f("pk_link_clicks")),
    )


def downgrade() -> None:
    op.drop_table("link_clicks")
    op.drop_table("counted_link")
    op.drop_column("newsletter", "count_clicks")
