"""DKIM keys"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dkim_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("domain", sa.String(length=253), nullable=False),
        sa.Column("selector", sa.String(length=63), nullable=False),
        sa.Column(
            "algorithm",
            sa.Enum(
                "rsa",
                "ed25519",
                name="algorithm",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("private", sa.LargeBinary(), nullable=False),
        sa.Column("public", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_dkim_key_newsletter_id_newsletter"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dkim_key")),
        sa.UniqueConstraint(
            "domain", "selector", name=op.f("uq_dkim_key_domain_selector")
        ),
    )
    with op.batch_alter_table("dkim_key", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_dkim_key_newsletter_id"), ["newsletter_id"], unique=False
        )


def downgrade() -> None:
    with op.batch_alter_table("dkim_key", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dkim_key_newsletter_id"))
    op.drop_table("dkim_key")
