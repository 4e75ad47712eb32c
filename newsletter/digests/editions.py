"""Editions: which readers of an issue get exactly the same words. No state changes.

Readers differ in language, in the topics they chose and in what they have been sent
already (their cursor). Each difference that changes the words makes an edition of its
own; readers for whom nothing remains get no mail.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Subquery,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.digests.compose import shown
from newsletter.models import (
    Issue,
    IssuePost,
    Newsletter,
    PostTopic,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Suppression,
)

ALL_TOPICS = -1
MOST_TOPICS = 60  # bits of a number both databases can add up


@dataclass(slots=True)
class Edition:
    """Readers who get the same words, and the posts they get."""

    language: str
    posts: list[IssuePost]
    name: str = ""  # its language, if it holds every post; else with a number
    readers: int = 0
    groups: list["Group"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Group:
    """Readers who cannot be told apart: what they read, chose and have been sent."""

    stored_language: str
    chosen: int  # bits of topics, or ALL_TOPICS
    seen: int  # how many of the issue's new posts their cursor has passed
    readers: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What of an issue decides who gets which of its posts."""

    newsletter_id: int
    posts: list[IssuePost]
    positions: list[int]  # of the posts that are new, ascending
    bits: dict[int, int]  # topic id: its bit
    masks: dict[int, int]  # post id: the bits of its topics

    def wanted(self, group: Group) -> list[IssuePost]:
        """Return the posts that a group of readers is to get."""
        return [
            entry
            for entry in self.posts
            if self._suits(entry.post_id, group.chosen)
            and self._unseen(entry.post.position or 0, group.seen)
        ]

    def _suits(self, post_id: int, chosen: int) -> bool:
        mask = self.masks.get(post_id, 0)
        return chosen == ALL_TOPICS or not mask or bool(mask & chosen)

    def _unseen(self, position: int, seen: int) -> bool:
        # A post picked by hand from earlier issues goes to everyone: that is asked for.
        return position not in self.positions[:seen]


def audience_count(session: Session, issue: Issue) -> int:
    """Return how many readers would get the issue now."""
    return sum(edition.readers for edition in editions(session, issue))


def editions(session: Session, issue: Issue) -> list[Edition]:
    """Return the editions of an issue, the largest first.

    The one with every post in the newsletter's own language is always there, for the
    archive, even when no reader gets it.
    """
    plan = _plan(session, issue)
    newsletter = issue.newsletter
    whole = Edition(_spoken(newsletter.language, newsletter), plan.posts)
    found = {(whole.language, _ids(plan.posts)): whole}
    for row in session.execute(_grouped(plan)):
        group = Group(*row)
        posts = plan.wanted(group)
        if not posts:
            continue
        language = _spoken(group.stored_language, newsletter)
        edition = found.setdefault((language, _ids(posts)), Edition(language, posts))
        edition.readers += group.readers
        edition.groups.append(group)
    return _named(list(found.values()), len(plan.posts))


def audience(session: Session, issue: Issue, edition: Edition) -> Select[int, str]:
    """Return the query of an edition's readers: subscription id and address."""
    readers = _readers(_plan(session, issue))
    groups = [
        and_(
            readers.c.language == group.stored_language,
            readers.c.chosen == group.chosen,
            readers.c.seen == group.seen,
        )
        for group in edition.groups
    ]
    return select(readers.c.subscription_id, readers.c.address).where(or_(*groups))


def _named(found: list[Edition], all_posts: int) -> list[Edition]:
    found.sort(key=lambda edition: -edition.readers)
    for number, edition in enumerate(found, 1):
        whole = len(edition.posts) == all_posts
        edition.name = edition.language if whole else f"{edition.language}/{number}"
    return found


def _grouped(plan: _Plan) -> Select[str, int, int, int]:
    readers = _readers(plan)
    columns = (readers.c.language, readers.c.chosen, readers.c.seen)
    return select(*columns, func.count()).group_by(*columns).order_by(*columns)


def _readers(plan: _Plan) -> Subquery:
    """Return everyone who may get mail, with what tells them apart."""
    query = select(
        Subscription.id.label("subscription_id"),
        Subscriber.email.label("address"),
        Subscription.language.label("language"),
        _chosen(plan).label("chosen"),
        _seen(plan).label("seen"),
    ).join(Subscriber, Subscriber.id == Subscription.subscriber_id)
    return query.where(
        Subscription.newsletter_id == plan.newsletter_id,
        Subscription.status == Status.ACTIVE,
        ~exists().where(
            Suppression.address_hash == Subscriber.address_hash,
            or_(
                Suppression.newsletter_id.is_(None),
                Suppression.newsletter_id == plan.newsletter_id,
            ),
        ),
    ).subquery("readers")


def _chosen(plan: _Plan) -> ColumnElement[int]:
    """Return a reader's topics as bits; only those the issue is about count."""
    if not plan.bits:
        return literal(ALL_TOPICS, BigInteger)
    bits = case(plan.bits, value=SubscriptionTopic.topic_id, else_=0)
    total = (
        select(func.coalesce(func.sum(bits), 0))
        .where(SubscriptionTopic.subscription_id == Subscription.id)
        .scalar_subquery()
    )
    return cast(case((Subscription.all_topics, ALL_TOPICS), else_=total), BigInteger)


def _seen(plan: _Plan) -> ColumnElement[int]:
    """Return how many of the issue's new posts a reader's cursor has passed."""
    steps = [
        (Subscription.cursor < position, passed)
        for passed, position in enumerate(plan.positions)
    ]
    if not steps:
        return literal(0, BigInteger)
    return case(*steps, else_=len(steps))


def _plan(session: Session, issue: Issue) -> _Plan:
    posts = shown(issue.posts)
    rows = session.execute(
        select(PostTopic.post_id, PostTopic.topic_id)
        .where(PostTopic.post_id.in_([entry.post_id for entry in posts]))
        .order_by(PostTopic.topic_id)
    ).all()
    topics = list(dict.fromkeys(topic_id for _, topic_id in rows))[:MOST_TOPICS]
    bits = {topic_id: 1 << place for place, topic_id in enumerate(topics)}
    masks: dict[int, int] = {}
    for post_id, topic_id in rows:
        masks[post_id] = masks.get(post_id, 0) | bits.get(topic_id, 0)
    positions = sorted(
        entry.post.position
        for entry in posts
        if entry.post.position and entry.post.position > issue.after_position
    )
    return _Plan(issue.newsletter_id, posts, positions, bits, masks)


def _spoken(stored: str, newsletter: Newsletter) -> str:
    """Return the language a reader gets: theirs if we have it, or the newsletter's."""
    offered = i18n.available()
    if stored in offered:
        return stored
    return newsletter.language if newsletter.language in offered else i18n.SOURCE


def _ids(posts: Sequence[IssuePost]) -> tuple[int, ...]:
    return tuple(entry.post_id for entry in posts)
