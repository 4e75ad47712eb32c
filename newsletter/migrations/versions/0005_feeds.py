"""Feeds that say how they are and push; authors' portraits and spellings"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NO_TEXT = sa.text("''")


def upgrade() -> None:
    op.add_column("newsletter", sa.Column("ping_token", sa.String(length=32)))
    op.add_column("newsletter", sa.Column("pinged_at", MOMENT))
    op.create_index(
        op.f("ix_newsletter_ping_token"), "newsletter", ["ping_token"], unique=True
    )
    for column in (
        sa.Column(
            "title", sa.String(length=200), nullable=False, server_default=NO_TEXT
        ),
        sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("gone", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column(
            "error_values", sa.JSON(), nullable=False, server_default=sa.text("'{}'")
        ),
        sa.Column(
            "error_status", sa.Integer(), nullable=False, server_default=sa.text("0")
        ),
        sa.Column("told_at", MOMENT),
        sa.Column(
            "moved_to", sa.String(length=2000), nullable=False, server_default=NO_TEXT
        ),
        sa.Column("moved_at", MOMENT),
    ):
        op.add_column("feed", column)
    op.create_table(
        "feed_push",
        sa.Column("feed_id", sa.Integer(), nullable=False),
        sa.Column("hub", sa.String(length=2000), nullable=False),
        sa.Column("topic", sa.String(length=2000), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("asked_at", MOMENT),
        sa.Column("lease_until", MOMENT),
        sa.Column("pushed_at", MOMENT),
        sa.Column("next_attempt_at", MOMENT, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["feed_id"],
            ["feed.id"],
            name=op.f("fk_feed_push_feed_id_feed"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("feed_id", name=op.f("pk_feed_push")),
        sa.UniqueConstraint("token", name=op.f("uq_feed_push_token")),
    )
    op.add_column(
        "author",
        sa.Column(
            "portrait_key", sa.String(length=32), nullable=False, server_default=NO_TEXT
        ),
    )
    op.create_table(
        "author_spelling",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("author_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"],
            ["author.id"],
            name=op.f("fk_author_spelling_author_id_author"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_author_spelling_newsletter_id_newsletter"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_author_spelling")),
        sa.UniqueConstraint(
            "newsletter_id", "name", name=op.f("uq_author_spelling_newsletter_id_name")
        ),
    )
    op.create_index(
        op.f("ix_author_spelling_author_id"), "author_spelling", ["author_id"]
    )
    op.create_table(
        "portrait",
        sa.Column("author_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("image", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"],
            ["author.id"],
            name=op.f("fk_portrait_author_id_author"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("author_id", name=op.f("pk_portrait")),
    )
    op.create_index(op.f("ix_portrait_key"), "portrait", ["key"])
    op.add_column(
        "post",
        sa.Column(
            "enclosures", sa.JSON(), nullable=False, server_default=sa.text("'[]'")
        ),
    )
    op.add_column("post", sa.Column("publish_at", MOMENT))
    op.create_index(
        "ix_post_publish_at",
        "post",
        ["publish_at"],
        sqlite_where=sa.text("publish_at IS NOT NULL"),
        postgresql_where=sa.text("publish_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_post_publish_at", table_name="post")
    op.drop_column("post", "publish_at")
    op.drop_column("post", "enclosures")
    op.drop_table("portrait")
    op.drop_table("author_spelling")
    op.drop_column("author", "portrait_key")
    op.drop_table("feed_push")
    for name in (
        "moved_at",
        "moved_to",
        "told_at",
        "error_status",
        "error_values",
        "gone",
        "paused",
        "title",
    ):
        op.drop_column("feed", name)
    op.drop_index(op.f("ix_newsletter_ping_token"), table_name="newsletter")
    op.drop_column("newsletter", "pinged_at")
    op.drop_column("newsletter", "ping_token")
