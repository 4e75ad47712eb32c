"""Versions of drafts"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

KINDS = ("saved", "autosaved", "aside", "found")


def upgrade() -> None:
    op.add_column(
        "issue", sa.Column("version", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_table(
        "draft_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("issue_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                *KINDS,
                name="versionkind",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("words", sa.JSON(), nullable=False),
        sa.Column("sitting", sa.String(length=32), nullable=False),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.Column("editor_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["editor_id"],
            ["editor.id"],
            name=op.f("fk_draft_version_editor_id_editor"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["issue_id"],
            ["issue.id"],
            name=op.f("fk_draft_version_issue_id_issue"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_draft_version")),
        sa.UniqueConstraint(
            "issue_id", "number", name=op.f("uq_draft_version_issue_id_number")
        ),
    )
    op.create_index(op.f("ix_draft_version_editor_id"), "draft_version", ["editor_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_draft_version_editor_id"), table_name="draft_version")
    op.drop_table("draft_version")
    op.drop_column("issue", "version")
