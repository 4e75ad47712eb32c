"""What a reader may choose: rhythm, language, topics. Checked, then applied."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.errors import N_, InvalidInput
from newsletter.models import (
    Category,
    Newsletter,
    Subscription,
    SubscriptionTopic,
    Topic,
)

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
    """Return the topics a reader may choose, in the editors' order."""
    query = select(Topic).where(
        Topic.newsletter_id == newsletter.id, Topic.hidden.is_(False)
    )
    return list(session.scalars(query.order_by(Topic.place, Topic.name)))


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
    """Return the ids of topics that exist. Raises InvalidInput.

    A page elsewhere may still offer one that has become part of another: that one.
    """
    wanted = set(slugs[: MAX_TOPICS + 1])
    known = select(Topic.slug, Topic.id).where(Topic.newsletter_id == newsletter.id)
    former = select(Category.slug, Category.topic_id).where(
        Category.newsletter_id == newsletter.id, Category.topic_id.is_not(None)
    )
    found: dict[str, int] = {}
    for query, slug_of in ((former, Category.slug), (known, Topic.slug)):
        rows = session.execute(query.where(slug_of.in_(wanted)))
        found.update({slug: topic_id for slug, topic_id in rows if topic_id})
    if wanted - found.keys():
        raise InvalidInput(N_("Choose among the topics on the page."), field="topics")
    return sorted(set(found.values()))


def set_topics(
    session: Session, subscription: Subscription, topic_ids: Iterable[int] | None
) -> None:
    """Make these a reader's topics; None is all, also those yet to come.

    What is hidden was not on the page, and stays as it was.
    """
    subscription.all_topics = topic_ids is None
    own = SubscriptionTopic.subscription_id == subscription.id
    gone = delete(SubscriptionTopic).where(own)
    if topic_ids is not None:
        hidden = select(Topic.id).where(Topic.hidden)
        gone = gone.where(SubscriptionTopic.topic_id.not_in(hidden))
    session.execute(gone)
    kept = set(session.scalars(select(SubscriptionTopic.topic_id).where(own)))
    session.add_all(
        SubscriptionTopic(subscription_id=subscription.id, topic_id=topic_id)
        for topic_id in sorted(set(topic_ids or ()) - kept)
    )
    session.flush()
