"""Sessions of editors that can be seen and ended, and a second factor that is asked for"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "editor_session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(length=64), nullable=False),
        sa.Column("editor_id", sa.Integer(), nullable=False),
        sa.Column("browser", sa.String(length=300), nullable=False),
        sa.Column("network", sa.String(length=60), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["editor_id"],
            ["editor.id"],
            name=op.f("fk_editor_session_editor_id_editor"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_editor_session")),
        sa.UniqueConstraint("number", name=op.f("uq_editor_session_number")),
    )
    op.create_index(
        op.f("ix_editor_session_editor_id"), "editor_session", ["editor_id"]
    )
    op.create_index(
        op.f("ix_editor_session_started_at"), "editor_session", ["started_at"]
    )
    op.add_column(
        "newsletter",
        sa.Column(
            "needs_factor", sa.Boolean(), nullable=False, server_default=sa.false()
        ),
    )


def downgrade() -> None:
    op.drop_column("newsletter", "needs_factor")
    op.drop_table("editor_session")
