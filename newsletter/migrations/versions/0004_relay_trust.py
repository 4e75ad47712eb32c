"""What relays offer and do not keep"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "relay_trust",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("pipelining", sa.Boolean(), nullable=False),
        sa.Column("chunking", sa.Boolean(), nullable=False),
        sa.Column("learnt_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_relay_trust")),
    )


def downgrade() -> None:
    op.drop_table("relay_trust")
