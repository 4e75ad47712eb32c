"""Letters, pictures, and topics that gather a feed's categories"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns are added one by one: SQLite would make a changed table anew, and what
    # belongs to its rows would go with the old one.
    op.add_column(
        "newsletter",
        sa.Column("new_topics", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.add_column(
        "topic",
        sa.Column("hidden", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "topic", sa.Column("place", sa.Integer(), nullable=False, server_default="0")
    )
    op.execute(
        "ALTER TABLE issue ADD COLUMN kind VARCHAR(20) DEFAULT 'digest' NOT NULL"
        " CONSTRAINT ck_issue_issuekind CHECK (kind IN ('digest', 'letter'))"
    )
    op.add_column(
        "issue", sa.Column("segment", sa.Text(), nullable=False, server_default="")
    )
    op.add_column(
        "issue",
        sa.Column("language", sa.String(length=12), nullable=False, server_default=""),
    )
    op.create_table(
        "category",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("slug", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("topic_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_category_newsletter_id_newsletter"),
        ),
        sa.ForeignKeyConstraint(
            ["topic_id"],
            ["topic.id"],
            name=op.f("fk_category_topic_id_topic"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_category")),
        sa.UniqueConstraint(
            "newsletter_id", "slug", name=op.f("uq_category_newsletter_id_slug")
        ),
    )
    op.create_index(op.f("ix_category_topic_id"), "category", ["topic_id"])
    op.create_table(
        "post_category",
        sa.Column("post_id", sa.Integer(), nullable=False),
        sa.Column("category_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["post_id"],
            ["post.id"],
            name=op.f("fk_post_category_post_id_post"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["category_id"],
            ["category.id"],
            name=op.f("fk_post_category_category_id_category"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "post_id", "category_id", name=op.f("pk_post_category")
        ),
    )
    op.create_index(
        op.f("ix_post_category_category_id"), "post_category", ["category_id"]
    )
    # What feeds have said so far: each topic of theirs was a category.
    op.execute(
        "INSERT INTO category (newsletter_id, slug, name, topic_id)"
        " SELECT newsletter_id, slug, name, id FROM topic"
    )
    op.execute(
        "INSERT INTO post_category (post_id, category_id)"
        " SELECT post_topic.post_id, category.id FROM post_topic"
        " JOIN category ON category.topic_id = post_topic.topic_id"
        " JOIN post ON post.id = post_topic.post_id"
        " WHERE post.feed_id IS NOT NULL AND NOT post.edited"
    )
    op.create_table(
        "picture",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("newsletter_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["newsletter_id"],
            ["newsletter.id"],
            name=op.f("fk_picture_newsletter_id_newsletter"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_picture")),
        sa.UniqueConstraint(
            "newsletter_id", "digest", name=op.f("uq_picture_newsletter_id_digest")
        ),
    )


def downgrade() -> None:
    op.drop_table("picture")
    op.drop_table("post_category")
    op.drop_table("category")
    for column in ("language", "segment", "kind"):
        op.drop_column("issue", column)
    for column in ("place", "hidden"):
        op.drop_column("topic", column)
    op.drop_column("newsletter", "new_topics")
