"""Categories: what a feed calls its subjects, gathered into the topics readers choose.

A blog's forty categories may be five topics here. Each category that a feed brings is
kept with the topic it counts as, or none, and each post with its categories: when an
editor says that a category counts as another topic, the posts follow. What an editor
has set on a post stays.
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from newsletter.models import (
    Category,
    Newsletter,
    Post,
    PostCategory,
    PostTopic,
    Topic,
)
from newsletter.plaintext import one_line
from newsletter.posts import topics

MAX_CATEGORIES = 1000  # of a newsletter; a blog's tags may be thousands


def categories(session: Session, newsletter: Newsletter) -> list[Category]:
    """Return a newsletter's categories by name."""
    query = select(Category).where(Category.newsletter_id == newsletter.id)
    return list(session.scalars(query.order_by(Category.name, Category.id)))


def counts(session: Session, newsletter: Newsletter) -> dict[int, int]:
    """Return how many posts each category has, by its id."""
    rows = session.execute(
        select(PostCategory.category_id, func.count().label("posts"))
        .join(Category, Category.id == PostCategory.category_id)
        .where(Category.newsletter_id == newsletter.id)
        .group_by(PostCategory.category_id)
    )
    return {row.category_id: row.posts for row in rows}


def take(
    session: Session, newsletter: Newsletter, post: Post, names: Iterable[str]
) -> bool:
    """Take over what a feed says a post is about; tell whether its topics changed."""
    names = list(names)[: topics.MAX_TOPICS_OF_A_POST]
    wanted = {
        topics.slugify(name): name
        for raw in names
        if topics.slugify(name := one_line(raw, topics.MAX_NAME_CHARACTERS))
    }
    found = _known(session, newsletter, wanted)
    _put(session, post, {category.id for category in found})
    return topics.put(session, post, {c.topic_id for c in found if c.topic_id})


def assign(
    session: Session, newsletter: Newsletter, wanted: Mapping[int, int | None]
) -> int:
    """Say which topic categories count as, by their ids; return how many changed.

    Posts follow, but for those that an editor has changed. Raises NotFound if a topic
    is not this newsletter's.
    """
    for topic_id in {topic_id for topic_id in wanted.values() if topic_id}:
        topics.find(session, newsletter, topic_id)
    changed = [
        category
        for category in categories(session, newsletter)
        if category.id in wanted and category.topic_id != wanted[category.id]
    ]
    for category in changed:
        category.topic_id = wanted[category.id]
    session.flush()
    _follow(session, [category.id for category in changed])
    return len(changed)


def _known(
    session: Session, newsletter: Newsletter, wanted: Mapping[str, str]
) -> list[Category]:
    """Return the categories with these slugs, made now where there is room."""
    query = select(Category).where(
        Category.newsletter_id == newsletter.id, Category.slug.in_(wanted)
    )
    found = {category.slug: category for category in session.scalars(query)}
    for slug, name in wanted.items():
        if slug not in found and (made := _make(session, newsletter, slug, name)):
            found[slug] = made
    return list(found.values())


def _make(
    session: Session, newsletter: Newsletter, slug: str, name: str
) -> Category | None:
    of_newsletter = Category.newsletter_id == newsletter.id
    count = session.scalar(select(func.count()).where(of_newsletter)) or 0
    if count >= MAX_CATEGORIES:
        return None
    if newsletter.new_topics:
        topic = topics.named(session, newsletter, name)
    else:
        topic = session.scalar(
            select(Topic).where(
                Topic.newsletter_id == newsletter.id, Topic.slug == slug
            )
        )
    category = Category(
        newsletter_id=newsletter.id,
        slug=slug,
        name=name,
        topic_id=topic.id if topic else None,
    )
    session.add(category)
    session.flush()
    return category


def _put(session: Session, post: Post, wanted: set[int]) -> None:
    of_post = PostCategory.post_id == post.id
    present = set(session.scalars(select(PostCategory.category_id).where(of_post)))
    if present - wanted:
        gone = PostCategory.category_id.in_(present - wanted)
        session.execute(delete(PostCategory).where(of_post, gone))
    session.add_all(
        PostCategory(post_id=post.id, category_id=category_id)
        for category_id in sorted(wanted - present)
    )
    session.flush()


def _follow(session: Session, category_ids: Sequence[int]) -> None:
    """Let the posts in these categories be about what those count as now."""
    affected = (
        select(PostCategory.post_id)
        .join(Post, Post.id == PostCategory.post_id)
        .where(PostCategory.category_id.in_(category_ids), Post.edited.is_(False))
    )
    session.execute(
        delete(PostTopic)
        .where(PostTopic.post_id.in_(affected))
        .execution_options(synchronize_session=False)
    )
    now_about = (
        select(PostCategory.post_id, Category.topic_id)
        .join(Category, Category.id == PostCategory.category_id)
        .where(Category.topic_id.is_not(None), PostCategory.post_id.in_(affected))
        .distinct()
    )
    session.execute(insert(PostTopic).from_select(["post_id", "topic_id"], now_about))
    session.expire_all()
