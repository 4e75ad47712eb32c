"""What can be undone; notes that were removed a moment ago"""

import sqlalchemy as sa
from alembic import op

from newsletter.db import UTCDateTime

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "undo",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("editor_id", sa.Integer(), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "owner",
                "editor",
                "viewer",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("offered_at", UTCDateTime(), nullable=False),
        sa.Column("undone_at", UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_undo_newsletter_id_newsletter"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["editor_id"],
            ["editor.id"],
            name=op.f("fk_undo_editor_id_editor"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_undo")),
    )
    op.create_index(op.f("ix_undo_newsletter_id"), "undo", ["newsletter_id"])
    op.create_index(op.f("ix_undo_editor_id"), "undo", ["editor_id"])
    op.create_index(op.f("ix_undo_offered_at"), "undo", ["offered_at"])
    op.add_column("note", sa.Column("removed_at", UTCDateTime(), nullable=True))
    op.create_index(op.f("ix_note_removed_at"), "note", ["removed_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_note_removed_at"), "note")
    op.drop_column("note", "removed_at")
    op.drop_table("undo")
