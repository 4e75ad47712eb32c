"""Editions: which readers of an issue get exactly the same words. No state changes.

What a reader gets of an issue is decided by

- the rhythm they have (an issue of a rhythm goes to its readers, one by hand to all),
- their cursor: posts up to it they have been sent. What they lack from before the
  issue's own posts is caught up on, behind those,
- the topics and, where the newsletter sends each their own, the language they chose,
- the ledger, for what has come out of its turn (picked by an editor, published anew
  after it was withdrawn, or sent to a subscription that became part of theirs).

Each difference that changes the words makes an edition; readers for whom nothing
remains get no mail. Whoever has an earlier digest under way waits for it.

Everyone is looked at in one statement, which groups them by these differences. Another
writes the ledger from the same groups, so that a million readers cost two passes.
"""

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    MetaData,
    Row,
    Select,
    SQLColumnExpression,
    String,
    Subquery,
    Table,
    and_,
    case,
    cast,
    distinct,
    exists,
    false,
    func,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import Session, aliased

from newsletter import i18n, rhythms
from newsletter.digests.compose import shown
from newsletter.mail import ledger
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueKind,
    IssuePost,
    Message,
    MessagePost,
    MessageState,
    Newsletter,
    Post,
    Postponed,
    PostState,
    PostTopic,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Suppression,
    Topic,
)
from newsletter.subscribers import choices, starting

BITS = 60  # of a number that both databases can add up
REACH = 500  # posts: a digest reaches no further back
GONE_OUT = starting.GONE_OUT
REACHED = (DeliveryState.SENT, DeliveryState.COMPLAINED)


@dataclass(slots=True)
class Edition:
    """Readers who get the same words, and the posts they get."""

    language: str
    posts: list[IssuePost]
    name: str = ""  # its language, if it holds the whole issue; else with a number
    readers: int = 0
    groups: list["Group"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Group:
    """Readers who cannot be told apart."""

    language: str  # as stored
    seen: int  # how many of the posts in their order their cursor has passed
    chosen: tuple[int, ...]  # bits of topics; ALL of them set where all are chosen
    had: tuple[int, ...]  # bits of posts that came out of their turn
    readers: int

    @property
    def key(self) -> tuple[str | int, ...]:
        """Return what the database tells this group by."""
        return (self.language, self.seen, *self.chosen, *self.had)


class WhyNot(enum.Enum):
    """Why a reader who may get mail does not get a post of an issue."""

    LANGUAGE = enum.auto()
    TOPIC = enum.auto()
    PASSED = enum.auto()  # by their cursor
    HAD = enum.auto()  # as the ledger knows


@dataclass(frozen=True, slots=True)
class Standing:
    """How one reader stands to an issue, by the conditions that queue its mail."""

    group: Group
    has_rhythm: bool
    active: bool
    stopped: bool  # suppressed
    waits: bool  # for an earlier digest that is under way

    @property
    def may(self) -> bool:
        """Tell whether they are among those whom the issue goes to."""
        return self.has_rhythm and self.active and not self.stopped and not self.waits


@dataclass(slots=True)
class Plan:
    """What of an issue decides who gets which of its posts."""

    issue: Issue
    newsletter: Newsletter
    own: list[IssuePost]  # what the issue is about
    late: list[IssuePost]  # what some readers lack from before
    positions: list[int]  # of all that a cursor decides, ascending
    topics: list[int]  # ids; those that are a bit
    topics_of: dict[int, set[int]]  # by post id
    again: set[int]  # ids of posts that an editor sends once more, to everyone
    checked: list[int]  # ids of posts that the ledger is asked about
    waits_for: list[int]  # messages under way: their readers wait
    only_postponed: bool = False
    groups: list[Group] = field(default_factory=list)

    def wanted(self, group: Group) -> list[IssuePost]:
        """Return the posts that a group of readers is to get."""
        return [entry for entry, why_not in self.judged(group) if why_not is None]

    def judged(self, group: Group) -> Iterator[tuple[IssuePost, "WhyNot | None"]]:
        """Yield each post, and why a group of readers is not to get it."""
        passed = set(self.positions[: group.seen])
        had = {post_id for post_id, bit in _bits_of(self.checked, group.had) if bit}
        language = spoken(group.language, self.newsletter)
        for entry in (*self.own, *self.late):
            post = entry.post
            why_not = self._unsuited(post, group, language)
            if why_not is None and post.id not in self.again:
                if post.id in had:
                    why_not = WhyNot.HAD
                elif post.position in passed:
                    why_not = WhyNot.PASSED
            yield entry, why_not

    def whole(self, language: str) -> list[IssuePost]:
        """Return what the issue holds for someone who takes all of it."""
        return [e for e in self.own if self._in_language(e.post, language)]

    def is_too_small(self, posts: Sequence[IssuePost]) -> bool:
        """Tell whether so few posts wait for more to come."""
        newsletter, issue = self.newsletter, self.issue
        if not issue.rhythm or rhythms.parse(issue.rhythm).kind == "each":
            return False
        if len(posts) >= newsletter.at_least:
            return False
        patience = timedelta(days=newsletter.wait_days)
        since = min(waiting_since(entry.post) for entry in posts)
        return not patience or issue.created_at - since < patience

    def _unsuited(self, post: Post, group: Group, language: str) -> "WhyNot | None":
        if not self._in_language(post, language):
            return WhyNot.LANGUAGE
        about = self.topics_of.get(post.id)
        if not about or group.chosen[:1] == (ALL,):
            return None
        chosen = {topic for topic, bit in _bits_of(self.topics, group.chosen) if bit}
        return None if about & chosen else WhyNot.TOPIC

    def _in_language(self, post: Post, language: str) -> bool:
        if not self.newsletter.by_language:
            return True
        written = post.language.partition("-")[0].lower()
        offered = choices.offered_languages(self.newsletter)
        return written not in offered or written == language


ALL = -1


class Common:
    """What all rhythms of a newsletter have in common; each is asked for once."""

    def __init__(self, session: Session, newsletter: Newsletter) -> None:
        self._session = session
        self._newsletter = newsletter

    @cached_property
    def first_position(self) -> int:
        """Return what the function of that name does."""
        return first_position(self._session, self._newsletter)

    @cached_property
    def newest_position(self) -> int:
        """Return the position of the newest post that is published."""
        query = select(func.max(Post.position)).where(
            Post.newsletter_id == self._newsletter.id,
            Post.state == PostState.PUBLISHED,
        )
        return self._session.scalar(query) or 0

    @cached_property
    def merged_until(self) -> int:
        """Return up to where a reader may have had posts that their cursor has not."""
        query = select(func.max(Subscription.had_until)).where(
            Subscription.newsletter_id == self._newsletter.id,
            Subscription.had_until > Subscription.cursor,
        )
        return self._session.scalar(query) or 0

    def lowest_cursor(self, rhythm: str) -> int | None:
        """Return how far the furthest behind of a rhythm's active readers has come."""
        cursors = [
            cursor
            for name, cursor in self._lowest_cursors
            if rhythm in ("", choices.effective_rhythm(self._newsletter, name))
        ]
        return min(cursors, default=None)

    def under_way(self, but: Issue) -> list[int]:
        """Return the messages whose readers may still get them: ids."""
        return [message for message, issue in self._under_way if issue != but.id]

    @cached_property
    def _under_way(self) -> Sequence[Row[int, int]]:
        query = (
            select(Message.id, Issue.id)
            .join(Issue, Issue.id == Message.issue_id)
            .where(
                Issue.newsletter_id == self._newsletter.id,
                Issue.kind == IssueKind.DIGEST,  # nobody waits for a letter
                Issue.started_at.is_not(None),
                Issue.finished_at.is_(None),
            )
        )
        return self._session.execute(query.order_by(Message.id)).all()

    @cached_property
    def _lowest_cursors(self) -> Sequence[Row[str, int]]:
        """Go from rhythm to rhythm along their index: a million cost as a hundred."""
        active = and_(
            Subscription.newsletter_id == self._newsletter.id,
            Subscription.status == Status.ACTIVE,
        )
        # A bound on the rhythm, so that no index without it looks as good.
        least = select(func.min(Subscription.rhythm)).where(active)
        first = least.where(Subscription.rhythm >= "").label("name")
        names = select(first).cte("names", recursive=True)
        following = least.where(Subscription.rhythm > names.c.name).scalar_subquery()
        names = names.union_all(select(following).where(names.c.name.is_not(None)))
        furthest = select(func.min(Subscription.cursor)).where(
            active, Subscription.rhythm == names.c.name
        )
        query = select(names.c.name, furthest.scalar_subquery())
        return self._session.execute(query.where(names.c.name.is_not(None))).all()


def waiting_since(post: Post) -> datetime:
    """Return when a post could first be sent."""
    return max(post.published_at, post.created_at)


def audience_count(session: Session, issue: Issue) -> int:
    """Return how many readers would get the issue now."""
    return sum(edition.readers for edition in editions(session, issue))


def editions(session: Session, issue: Issue) -> list[Edition]:
    """Return the editions of an issue, the largest first.

    The one with every post in the newsletter's own language is always there, for the
    archive, even when no reader gets it.
    """
    return sort(session, plan(session, issue))


def plan(
    session: Session,
    issue: Issue,
    *,
    only_postponed: bool = False,
    common: Common | None = None,
) -> Plan:
    """Gather what decides who gets which posts of an issue, stored or not.

    `only_postponed` looks at those who had to wait for an earlier issue.
    """
    newsletter = issue.newsletter
    common = common or Common(session, newsletter)
    own = shown(issue.posts)
    late = [] if issue.picked else _late(session, issue, common)
    posts = [entry.post for entry in (*own, *late)]
    rows = session.execute(
        select(PostTopic.post_id, PostTopic.topic_id)
        .join(Topic, Topic.id == PostTopic.topic_id)
        .where(PostTopic.post_id.in_([post.id for post in posts]))
        .where(Topic.hidden.is_(False))  # readers cannot choose it: it decides nothing
        .order_by(PostTopic.topic_id)
    )
    topics_of: dict[int, set[int]] = {}
    for post_id, topic_id in rows:
        topics_of.setdefault(post_id, set()).add(topic_id)
    again = {e.post.id for e in own if (e.post.position or 0) <= issue.after_position}
    by_turn = [post for post in posts if post.id not in again]
    return Plan(
        issue=issue,
        newsletter=newsletter,
        own=own,
        late=late,
        positions=sorted(post.position for post in by_turn if post.position),
        topics=sorted(set().union(*topics_of.values())),
        topics_of=topics_of,
        again=again,
        checked=_out_of_turn(session, newsletter, by_turn, common),
        waits_for=common.under_way(issue),
        only_postponed=only_postponed,
    )


def sort(session: Session, plan: Plan) -> list[Edition]:
    """Look at every reader once, and return the editions, the largest first."""
    home = spoken(plan.newsletter.language, plan.newsletter)
    first = Edition(home, plan.whole(home) or plan.own)
    found = {(home, _ids(first.posts)): first}
    plan.groups = list(_grouped(session, plan))
    for group in plan.groups:
        posts = plan.wanted(group)
        if not posts or plan.is_too_small(posts):
            continue
        language = spoken(group.language, plan.newsletter)
        edition = found.setdefault((language, _ids(posts)), Edition(language, posts))
        edition.readers += group.readers
        edition.groups.append(group)
    return _named(list(found.values()), plan)


def audience(session: Session, issue: Issue, edition: Edition) -> Select[Any, Any]:
    """Return the query of an edition's readers: subscription id and address."""
    wanted = plan(session, issue)
    readers = _readers(wanted)
    names = [c for c in readers.c if c.name not in {"subscription_id", "address"}]
    groups = [
        and_(*(c == value for c, value in zip(names, group.key, strict=True)))
        for group in edition.groups
    ]
    return select(readers.c.subscription_id, readers.c.address).where(or_(*groups))


@contextmanager
def addressed(
    session: Session, plan: Plan, numbers: Sequence[tuple[Group, int]]
) -> Iterator[Select[Any, Any, Any]]:
    """Give the query of some groups' readers, each with the number of their group.

    Columns: number, subscription_id, address. The groups stand in a temporary table,
    where each reader's is found by its key.
    """
    readers = _readers(plan)
    names = [c for c in readers.c if c.name not in {"subscription_id", "address"}]
    kinds = [String() if c.name == "language" else BigInteger() for c in names]
    listed = Table(
        "numbered_group",
        MetaData(),
        Column("number", BigInteger(), nullable=False),
        *(
            Column(c.name, kind, primary_key=True, autoincrement=False)
            for c, kind in zip(names, kinds, strict=True)
        ),
        prefixes=["TEMPORARY"],
    )
    connection = session.connection()
    listed.create(connection)
    if numbers:
        keys = [c.name for c in names]
        rows = [
            {"number": number, **dict(zip(keys, group.key, strict=True))}
            for group, number in numbers
        ]
        connection.execute(insert(listed), rows)
    same = [c == listed.c[c.name] for c in names]
    # An outer join, in words that hide that it is an inner one: SQLite would walk
    # through all readers for each group.
    yield (
        select(listed.c.number, readers.c.subscription_id, readers.c.address)
        .select_from(readers.outerjoin(listed, and_(*same)))
        .where(func.coalesce(listed.c.number, 0) != 0)
    )
    listed.drop(connection)


def standing(session: Session, plan: Plan, subscription_id: int) -> Standing:
    """Return how one reader stands to an issue."""
    told_apart = _told_apart(plan)
    conditions = (
        *may_get_mail(plan.newsletter, plan.issue.rhythm),
        has_under_way(Subscription.id, plan.waits_for),
    )
    row = session.execute(
        select(*told_apart, *(case((yes, 1), else_=0) for yes in conditions))
        .join_from(Subscription, Subscriber)
        .where(Subscription.id == subscription_id)
    ).one()
    told, (has_rhythm, active, free, waits) = row[:-4], row[-4:]
    return Standing(
        group=_group(plan, told, 1),
        has_rhythm=bool(has_rhythm),
        active=bool(active),
        stopped=not free,
        waits=bool(waits),
    )


def readers_of(newsletter: Newsletter, rhythm: str) -> ColumnElement[bool]:
    """Say whose subscriptions have a rhythm, given or by default; "" is everyone's."""
    own = Subscription.newsletter_id == newsletter.id
    if not rhythm:
        return own
    if rhythm != newsletter.default_rhythm:
        return and_(own, Subscription.rhythm == rhythm)
    others = [name for name in choices.offered_rhythms(newsletter) if name != rhythm]
    return and_(own, Subscription.rhythm.not_in(others)) if others else own


def has_under_way(
    subscription_id: SQLColumnExpression[int], message_ids: Sequence[int]
) -> ColumnElement[bool]:
    """Tell whether a reader may still get one of these messages.

    Of a cancelled message only what is being handed over just now still counts.
    """
    if not message_ids:
        return false()
    delivery = aliased(Delivery)
    return (
        select(delivery.id)
        .join(Message, Message.id == delivery.message_id)
        .where(
            delivery.subscription_id == subscription_id,
            delivery.message_id >= min(message_ids),  # by its index
            delivery.message_id.in_(message_ids),
            delivery.state.in_(ledger.UNSETTLED),
            or_(
                Message.state != MessageState.CANCELLED,
                ledger.in_hand(delivery),
            ),
        )
        .correlate_except(delivery, Message)
        .exists()
    )


def somebody_lacks(
    session: Session, newsletter: Newsletter, rhythm: str, newest: int
) -> bool:
    """Tell whether a reader who may get mail now has a cursor before a post."""
    probe = Issue(newsletter=newsletter, rhythm=rhythm)
    query = (
        select(Subscription.id)
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .where(*may_get_mail(newsletter, rhythm), Subscription.cursor < newest)
    )
    waits_for = Common(session, newsletter).under_way(probe)
    busy = has_under_way(Subscription.id, waits_for)
    query = query.where(~busy)
    return session.scalar(query.limit(1)) is not None


def spoken(stored: str, newsletter: Newsletter) -> str:
    """Return the language a reader gets: theirs if we have it, or the newsletter's."""
    offered = i18n.available()
    if stored in offered:
        return stored
    return newsletter.language if newsletter.language in offered else i18n.SOURCE


def _late(session: Session, issue: Issue, common: Common) -> list[IssuePost]:
    """Return the posts before the issue's end that it leaves out and some may lack."""
    newsletter = issue.newsletter
    lowest = common.lowest_cursor(issue.rhythm)
    if lowest is None or lowest >= issue.last_position:
        return []
    query = (
        select(Post)
        .where(
            Post.newsletter_id == newsletter.id,
            Post.state == PostState.PUBLISHED,
            Post.position > max(lowest, common.first_position),
            Post.position <= issue.last_position,
            Post.id.not_in([entry.post.id for entry in issue.posts]),
            Post.id.not_in(hidden_from(newsletter, issue.rhythm)),
        )
        .order_by(Post.position.desc())
        .limit(REACH)
    )
    place = len(issue.posts)
    return [
        IssuePost(post_id=post.id, post=post, place=place + n, hidden=False)
        for n, post in enumerate(session.scalars(query), 1)
    ]


def hidden_from(newsletter: Newsletter, rhythm: str) -> Select[int]:
    """Select the posts that an editor has kept from a rhythm's readers: ids."""
    return (
        select(IssuePost.post_id)
        .join(Issue, Issue.id == IssuePost.issue_id)
        .where(
            Issue.newsletter_id == newsletter.id,
            Issue.rhythm.in_(("", rhythm)),
            Issue.state.in_(GONE_OUT),
            IssuePost.hidden.is_(True),
        )
    )


def first_position(session: Session, newsletter: Newsletter) -> int:
    """Return where the first issue begins; 0 once one has gone out.

    A blog's whole past is not news: the first one holds the recent posts.
    """
    gone = select(Issue.id).where(
        Issue.newsletter_id == newsletter.id,
        Issue.kind == IssueKind.DIGEST,
        Issue.state.in_(GONE_OUT),
    )
    if session.scalar(gone.limit(1)) is not None:
        return 0
    return starting.recent_position(session, newsletter.id)


def _out_of_turn(
    session: Session, newsletter: Newsletter, posts: Sequence[Post], common: Common
) -> list[int]:
    """Return the posts about which a cursor does not tell everything: ids."""
    ids = [post.id for post in posts]
    ahead = (
        select(MessagePost.post_id)
        .join(Message, Message.id == MessagePost.message_id)
        .join(Issue, Issue.id == Message.issue_id)
        .join(Post, Post.id == MessagePost.post_id)
        .where(
            MessagePost.post_id.in_(ids),
            Issue.newsletter_id == newsletter.id,
            or_(Issue.picked, Issue.last_position < Post.position),
        )
        .distinct()
    )
    found = set(session.scalars(ahead))
    until = common.merged_until
    found |= {post.id for post in posts if (post.position or 0) <= until}
    return sorted(found)


def _grouped(session: Session, plan: Plan) -> Iterator[Group]:
    readers = _readers(plan)
    names = [c for c in readers.c if c.name not in {"subscription_id", "address"}]
    rows = session.execute(
        select(*names, func.count()).group_by(*names).order_by(*names)
    )
    for *told, count in rows:
        yield _group(plan, told, count)


def _group(plan: Plan, told: Sequence[Any], readers: int) -> Group:
    language, seen, *rest = told
    topics = len(_columns(plan.topics))
    return Group(language, seen, tuple(rest[:topics]), tuple(rest[topics:]), readers)


def _told_apart(plan: Plan) -> list[SQLColumnExpression[Any]]:
    """Return what tells readers apart, as columns."""
    return [
        Subscription.language.label("language"),
        _seen(plan).label("seen"),
        *_chosen(plan),
        *_had(plan),
    ]


def _readers(plan: Plan) -> Subquery:
    """Return everyone who may get mail now, with what tells them apart."""
    newsletter, issue = plan.newsletter, plan.issue
    query = select(
        Subscription.id.label("subscription_id"),
        Subscriber.email.label("address"),
        *_told_apart(plan),
    ).join(Subscriber, Subscriber.id == Subscription.subscriber_id)
    if plan.waits_for:
        query = query.where(~has_under_way(Subscription.id, plan.waits_for))
    if plan.only_postponed:
        query = query.where(Subscription.id.in_(postponed_to(issue)))
    return query.where(*may_get_mail(newsletter, issue.rhythm)).subquery("readers")


def may_get_mail(
    newsletter: Newsletter, rhythm: str
) -> tuple[ColumnElement[bool], ...]:
    """Return what holds for a subscription (and its subscriber) that may get mail."""
    suppressed = exists().where(
        Suppression.address_hash == Subscriber.address_hash,
        or_(
            Suppression.newsletter_id.is_(None),
            Suppression.newsletter_id == newsletter.id,
        ),
    )
    active = Subscription.status == Status.ACTIVE
    return readers_of(newsletter, rhythm), active, ~suppressed


def postponed_to(issue: Issue) -> Select[int]:
    """Select the subscriptions that wait to get an issue."""
    return select(Postponed.subscription_id).where(Postponed.issue_id == issue.id)


def _seen(plan: Plan) -> ColumnElement[int]:
    """Return how many of the posts a reader's cursor has passed.

    Most have passed everything before the issue: they are asked about first.
    """
    if not plan.positions:
        return literal(0, BigInteger)
    steps = list(enumerate(plan.positions))
    after = plan.issue.after_position
    late = [(n, at) for n, at in steps if at <= after]
    new = [(n, at) for n, at in steps if at > after]
    there: ColumnElement[int] = literal(len(steps), BigInteger)
    if new:
        there = case(*((Subscription.cursor < at, n) for n, at in new), else_=there)
    if not late:
        return there
    before = case(*((Subscription.cursor < at, n) for n, at in late), else_=len(late))
    return case((Subscription.cursor >= late[-1][1], there), else_=before)


def _chosen(plan: Plan) -> list[ColumnElement[int]]:
    """Return a reader's topics as bits; only those the posts are about count."""
    found: list[ColumnElement[int]] = []
    for number, topics in enumerate(_columns(plan.topics)):
        bits = case(
            {topic: 1 << place for place, topic in enumerate(topics)},
            value=SubscriptionTopic.topic_id,
            else_=0,
        )
        total = (
            select(func.coalesce(func.sum(cast(bits, BigInteger)), 0))
            .where(SubscriptionTopic.subscription_id == Subscription.id)
            .scalar_subquery()
        )
        some = case((Subscription.all_topics, ALL), else_=total)
        found.append(cast(some, BigInteger).label(f"chosen_{number}"))
    return found


def _had(plan: Plan) -> list[ColumnElement[int]]:
    """Return as bits which of the posts to ask the ledger about a reader has got."""
    found: list[ColumnElement[int]] = []
    for number, posts in enumerate(_columns(plan.checked)):
        bits = case(
            {post: 1 << place for place, post in enumerate(posts)},
            value=MessagePost.post_id,
            else_=0,
        )
        total = (
            select(func.coalesce(func.sum(distinct(cast(bits, BigInteger))), 0))
            .select_from(Delivery)
            .join(MessagePost, MessagePost.message_id == Delivery.message_id)
            .where(
                Delivery.subscription_id == Subscription.id,
                Delivery.state.in_(REACHED),
                MessagePost.post_id.in_(posts),
            )
            .scalar_subquery()
        )
        found.append(cast(total, BigInteger).label(f"had_{number}"))
    return found


def _columns(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + BITS] for start in range(0, len(ids), BITS)]


def _bits_of(ids: Sequence[int], numbers: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Yield each id, and whether its bit is set."""
    for some, number in zip(_columns(ids), numbers, strict=True):
        for place, found in enumerate(some):
            yield found, bool(number >> place & 1)


def _named(found: list[Edition], plan: Plan) -> list[Edition]:
    found.sort(key=lambda edition: -edition.readers)
    for number, edition in enumerate(found, 1):
        whole = _ids(edition.posts) == _ids(plan.whole(edition.language))
        edition.name = edition.language if whole else f"{edition.language}/{number}"
    return found


def _ids(posts: Sequence[IssuePost]) -> tuple[int, ...]:
    return tuple(entry.post.id for entry in posts)
