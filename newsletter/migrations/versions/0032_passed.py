"""How many deliveries of an issue are claimed: what waits need not be counted"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "claim_mark",
        sa.Column("passed", sa.Integer(), nullable=False, server_default="0"),
    )
    op.execute(
        "UPDATE claim_mark SET passed = (SELECT count(*) FROM delivery"
        " WHERE delivery.message_id = claim_mark.message_id"
        " AND delivery.id <= claim_mark.last_id)"
    )


def downgrade() -> None:
    op.drop_column("claim_mark", "passed")
