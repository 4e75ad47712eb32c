"""What a reader may choose: rhythm, language, topics. Checked, then applied."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.errors import N_, InvalidInput
from newsletter.models import Newsletter, Subscription, SubscriptionTopic, Topic

MAX_TOPICS = 500


def offered_rhythms(newsletter: Newsletter) -> list[str]:
    """Return the rhythms a reader may choose, the newsletter's own first."""
    return list(dict.fromkeys([newsletter.default_rhythm, *newsletter.rhythms]))


def effective_rhythm(newsletter: Newsletter, rhythm: str) -> str:
    """Return a reader's rhythm while it is offered, else what readers begin with."""
    return rhythm if rhythm in newsletter.rhythms else newsletter.default_rhythm


def offered_languages(newsletter: Newsletter) -> list[str]:
    """Return the languages a reader may choose, the newsletter's own first."""
    known = [code for code in newsletter.languages if code in i18n.available()]
    return list(dict.fromkeys([newsletter.language, *known]))


def offered_topics(session: Session, newsletter: Newsletter) -> list[Topic]:
    """Return the topics a reader may choose, by name."""
    query = select(Topic).where(Topic.newsletter_id == newsletter.id)
    return list(session.scalars(query.order_by(Topic.name)))


def chosen_topics(session: Session, subscription: Subscription) -> list[str] | None:
    """Return the slugs of the topics a reader chose; None is all of them."""
    if subscription.all_topics:
        return None
    query = (
        select(Topic.slug)
        .join(SubscriptionTopic, SubscriptionTopic.topic_id == Topic.id)
        .where(SubscriptionTopic.subscription_id == subscription.id)
    )
    return sorted(session.scalars(query))


def check_rhythm(newsletter: Newsletter, rhythm: str) -> str:
    """Return a rhythm that is offered. Raises InvalidInput."""
    if rhythm not in offered_rhythms(newsletter):
        raise InvalidInput(N_("Choose one of the rhythms on the page."), field="rhythm")
    return rhythm


def check_language(newsletter: Newsletter, language: str) -> str:
    """Return a language that is offered. Raises InvalidInput."""
    if language not in offered_languages(newsletter):
        raise InvalidInput(
            N_("Choose one of the languages on the page."), field="language"
        )
    return language


def check_topics(
    session: Session, newsletter: Newsletter, slugs: Sequence[str]
) -> list[int]:
    """Return the ids of topics that exist. Raises InvalidInput."""
    wanted = set(slugs[: MAX_TOPICS + 1])
    query = select(Topic.id).where(
        Topic.newsletter_id == newsletter.id, Topic.slug.in_(wanted)
    )
    found = list(session.scalars(query))
    if len(found) != len(wanted):
        raise InvalidInput(N_("Choose among the topics on the page."), field="topics")
    return found


def set_topics(
    session: Session, subscription: Subscription, topic_ids: Iterable[int] | None
) -> None:
    """Make these a reader's topics; None is all, also those yet to come."""
    subscription.all_topics = topic_ids is None
    session.execute(
        delete(SubscriptionTopic).where(
            SubscriptionTopic.subscription_id == subscription.id
        )
    )
    session.add_all(
        SubscriptionTopic(subscription_id=subscription.id, topic_id=topic_id)
        for topic_id in sorted(topic_ids or ())
    )
    session.flush()
