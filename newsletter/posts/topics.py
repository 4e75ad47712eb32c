"""Topics: what posts are about, so that readers can choose.

A topic keeps its slug when it is renamed. One that becomes part of another leaves its
slug behind as a category of that one (`categories.py`): old addresses, segments and the
feed still lead to it.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.models import (
    Category,
    Newsletter,
    Post,
    PostTopic,
    Status,
    Subscription,
    SubscriptionTopic,
    Topic,
)
from newsletter.plaintext import one_line, squeeze

MAX_TOPICS = 100  # of a newsletter; a blog's tags may be thousands
MAX_TOPICS_OF_A_POST = 10
MAX_NAME_CHARACTERS = 80


def topics(session: Session, newsletter: Newsletter) -> list[Topic]:
    """Return a newsletter's topics, hidden ones too, as readers see their order."""
    return list(
        session.scalars(
            select(Topic)
            .where(Topic.newsletter_id == newsletter.id)
            .order_by(Topic.place, Topic.name)
        )
    )


def find(session: Session, newsletter: Newsletter, topic_id: int) -> Topic:
    """Return one of a newsletter's topics. Raises NotFound."""
    topic = session.get(Topic, topic_id) if 0 < topic_id < 2**31 else None
    if topic is None or topic.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such topic here."))
    return topic


def create(session: Session, newsletter: Newsletter, name: str) -> Topic:
    """Make a topic. Raises InvalidInput, or Conflict where there is one like it."""
    name = _name(session, newsletter, name)
    topic = named(session, newsletter, name)
    if topic is None:
        raise Conflict(
            N_("A newsletter has at most %(count)s topics. Merge some of them."),
            count=MAX_TOPICS,
        )
    topic.name = name
    session.flush()
    return topic


def rename(session: Session, newsletter: Newsletter, topic: Topic, name: str) -> None:
    """Call a topic something else; its slug stays. Raises InvalidInput or Conflict."""
    topic.name = _name(session, newsletter, name, but=topic.id)
    session.flush()


def move(session: Session, newsletter: Newsletter, topic: Topic, step: int) -> None:
    """Move a topic up (-1) or down (+1) among the others."""
    order = topics(session, newsletter)
    here = order.index(topic)
    there = min(max(here + step, 0), len(order) - 1)
    order.insert(there, order.pop(here))
    for place, one in enumerate(order, 1):
        one.place = place
    session.flush()


def merge(session: Session, topic: Topic, into: Topic) -> None:
    """Make a topic part of another: posts and readers' choices follow. Not undone.

    Raises InvalidInput if they are the same.
    """
    if topic.id == into.id or topic.newsletter_id != into.newsletter_id:
        raise InvalidInput(N_("Choose another topic to merge it with."), field="into")
    _change_hands(session, SubscriptionTopic.subscription_id, topic, into)
    _change_hands(session, PostTopic.post_id, topic, into)
    session.execute(
        update(Category)
        .where(Category.topic_id == topic.id)
        .values(topic_id=into.id)
        .execution_options(synchronize_session=False)
    )
    _keep_slug(session, topic, into)
    session.flush()
    session.delete(topic)
    session.flush()
    session.expire_all()


def unused(session: Session, newsletter: Newsletter) -> set[int]:
    """Return the ids of the topics that no post has and no reader has chosen.

    Who has left, or is on a pause, may come back to what they chose.
    """
    has_post = exists().where(PostTopic.topic_id == Topic.id)
    is_chosen = (
        exists()
        .where(SubscriptionTopic.topic_id == Topic.id)
        .where(Subscription.id == SubscriptionTopic.subscription_id)
        .where(Subscription.all_topics.is_(False))
    )
    return set(
        session.scalars(
            select(Topic.id).where(
                Topic.newsletter_id == newsletter.id, ~has_post, ~is_chosen
            )
        )
    )


def remove(session: Session, newsletter: Newsletter, topic: Topic) -> None:
    """Remove a topic that nothing and nobody uses. Raises Conflict.

    The feed's categories that count as it count as none from then on.
    """
    if topic.id not in unused(session, newsletter):
        raise Conflict(
            N_(
                "“%(name)s” has posts, or readers have chosen it. Merge it with another"
                " topic, or hide it."
            ),
            name=topic.name,
        )
    session.delete(topic)
    session.flush()
    session.expire_all()


def counts(
    session: Session,
    newsletter: Newsletter,
    *,
    readers: Mapping[int, int] | None = None,
) -> dict[int, tuple[int, int]]:
    """Return how many posts each topic has and how many readers chose it, by id.

    `readers` is how many did where that is known already.
    """
    of_newsletter = Topic.newsletter_id == newsletter.id
    posts = session.execute(
        select(PostTopic.topic_id, func.count())
        .join(Topic, Topic.id == PostTopic.topic_id)
        .where(of_newsletter)
        .group_by(PostTopic.topic_id)
    )
    if readers is None:
        readers = _readers(session, newsletter)
    found = {topic_id: (count, 0) for topic_id, count in posts}
    for topic_id, count in readers.items():
        found[topic_id] = (found.get(topic_id, (0, 0))[0], count)
    return found


def _readers(session: Session, newsletter: Newsletter) -> dict[int, int]:
    rows = session.execute(
        select(SubscriptionTopic.topic_id, func.count())
        .join(Topic, Topic.id == SubscriptionTopic.topic_id)
        .join(Subscription, Subscription.id == SubscriptionTopic.subscription_id)
        .where(Topic.newsletter_id == newsletter.id)
        .where(Subscription.status == Status.ACTIVE)
        .where(Subscription.all_topics.is_(False))
        .group_by(SubscriptionTopic.topic_id)
    )
    return {row[0]: row[1] for row in rows}


def topics_of(session: Session, post: Post) -> list[Topic]:
    """Return what a post is about, by name."""
    return list(
        session.scalars(
            select(Topic)
            .join(PostTopic, PostTopic.topic_id == Topic.id)
            .where(PostTopic.post_id == post.id)
            .order_by(Topic.place, Topic.name)
        )
    )


def set_topics(
    session: Session, newsletter: Newsletter, post: Post, names: Iterable[str]
) -> bool:
    """Say what a post is about, making what is new; tell whether that is a change."""
    wanted = {
        topic.id
        for name in list(names)[:MAX_TOPICS_OF_A_POST]
        if (topic := named(session, newsletter, name))
    }
    return put(session, post, wanted)


def put(session: Session, post: Post, wanted: set[int]) -> bool:
    """Say by their ids what a post is about; tell whether that is a change."""
    present = set(
        session.scalars(select(PostTopic.topic_id).where(PostTopic.post_id == post.id))
    )
    if wanted == present:
        return False
    session.execute(
        delete(PostTopic).where(
            PostTopic.post_id == post.id, PostTopic.topic_id.in_(present - wanted)
        )
    )
    session.add_all(
        PostTopic(post_id=post.id, topic_id=topic_id) for topic_id in wanted - present
    )
    session.flush()
    return True


def named(session: Session, newsletter: Newsletter, name: str) -> Topic | None:
    """Return the topic of that name, made now if there is room; None if not."""
    name = one_line(name, MAX_NAME_CHARACTERS)
    slug = slugify(name)
    if not slug:
        return None
    of_newsletter = Topic.newsletter_id == newsletter.id
    found = session.scalar(select(Topic).where(of_newsletter, Topic.slug == slug))
    found = found or session.scalar(
        select(Topic)
        .join(Category, Category.topic_id == Topic.id)
        .where(of_newsletter, Category.slug == slug)
    )
    if found is not None:
        return found
    count = session.scalar(select(func.count()).where(of_newsletter)) or 0
    if count >= MAX_TOPICS:
        return None
    last = session.scalar(select(func.max(Topic.place)).where(of_newsletter)) or 0
    topic = Topic(
        newsletter_id=newsletter.id,
        slug=slug,
        name=name,
        hidden=False,
        place=last + 1 if last else 0,  # nobody has ordered them: by name
    )
    session.add(topic)
    session.flush()
    return topic


def _name(session: Session, newsletter: Newsletter, text: str, *, but: int = 0) -> str:
    name = squeeze(text)
    if not slugify(name) or len(name) > MAX_NAME_CHARACTERS:
        raise InvalidInput(
            N_("A topic needs a name of at most %(count)s characters."),
            field="name",
            count=MAX_NAME_CHARACTERS,
        )
    for topic in topics(session, newsletter):
        alike = slugify(topic.name) == slugify(name) or (
            topic.slug == slugify(name) and not but
        )
        if alike and topic.id != but:
            raise Conflict(
                N_("There is already a topic called %(name)s. Use that one."),
                name=topic.name,
            )
    return name


def _change_hands(
    session: Session, owner: InstrumentedAttribute[int], topic: Topic, into: Topic
) -> None:
    """Give `into` to whoever has `topic` and not both; the rest goes with `topic`."""
    table = owner.class_
    other = aliased(table)
    has_both = exists().where(
        getattr(other, owner.key) == owner, other.topic_id == into.id
    )
    session.execute(
        update(table)
        .where(table.topic_id == topic.id, ~has_both)
        .values(topic_id=into.id)
        .execution_options(synchronize_session=False)
    )


def _keep_slug(session: Session, topic: Topic, into: Topic) -> None:
    """Let the slug of a topic that goes lead to the one it becomes part of."""
    category = session.scalar(
        select(Category).where(
            Category.newsletter_id == topic.newsletter_id, Category.slug == topic.slug
        )
    )
    if category is None:
        category = Category(
            newsletter_id=topic.newsletter_id, slug=topic.slug, name=topic.name
        )
        session.add(category)
    category.topic_id = category.topic_id or into.id


def slugify(name: str) -> str:
    """Return a name as part of an address: "Boende & språk" is boende-sprak."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in letters if not unicodedata.combining(c))
    return re.sub(r"[^\w]+", "-", plain).strip("-_")[:MAX_NAME_CHARACTERS]
