"""Topics: what posts are about, so that readers can choose."""

import re
import unicodedata
from collections.abc import Iterable

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from newsletter.models import Newsletter, Post, PostTopic, Topic
from newsletter.plaintext import one_line

MAX_TOPICS = 100  # of a newsletter; a blog's tags may be thousands
MAX_TOPICS_OF_A_POST = 10
MAX_NAME_CHARACTERS = 80


def topics(session: Session, newsletter: Newsletter) -> list[Topic]:
    """Return a newsletter's topics by name."""
    return list(
        session.scalars(
            select(Topic)
            .where(Topic.newsletter_id == newsletter.id)
            .order_by(Topic.name)
        )
    )


def topics_of(session: Session, post: Post) -> list[Topic]:
    """Return what a post is about, by name."""
    return list(
        session.scalars(
            select(Topic)
            .join(PostTopic, PostTopic.topic_id == Topic.id)
            .where(PostTopic.post_id == post.id)
            .order_by(Topic.name)
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
    if found is not None:
        return found
    count = session.scalar(select(func.count()).where(of_newsletter)) or 0
    if count >= MAX_TOPICS:
        return None
    topic = Topic(newsletter_id=newsletter.id, slug=slug, name=name)
    session.add(topic)
    session.flush()
    return topic


def slugify(name: str) -> str:
    """Return a name as part of an address: "Boende & språk" is boende-sprak."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in letters if not unicodedata.combining(c))
    return re.sub(r"[^\w]+", "-", plain).strip("-_")[:MAX_NAME_CHARACTERS]
