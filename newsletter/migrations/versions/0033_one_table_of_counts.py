"""One table of counts: where readers stand is counted with all the rest"""

import sqlalchemy as sa
from alembic import op

from newsletter.db import UTCDateTime

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

COUNTED = "('all', 'status', 'rhythm', 'topic', 'joined', 'left')"


def upgrade() -> None:
    op.drop_table("tally")
    op.execute("DELETE FROM job WHERE name = 'count-readers'")
    # All is counted together: within half a minute.
    op.execute(f"DELETE FROM reckoning WHERE kind IN {COUNTED}")  # noqa: S608


def downgrade() -> None:
    op.execute("DELETE FROM reckoning WHERE kind = 'status'")
    op.create_table(
        "tally",
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("counted_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_tally_newsletter_id_newsletter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("newsletter_id", "status", name=op.f("pk_tally")),
    )
