"""Why a reader got an issue or a post, will get it, or will not: a sentence, and proof.

What has been queued, the ledger tells. What has not, the very conditions tell by which
`editions.py` queues it, asked for one reader; of the past, the record of their consent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter import rhythms
from newsletter.digests import calendar, drafts, letters, planning
from newsletter.digests import editions as plans
from newsletter.digests.editions import Common, Plan, Standing, WhyNot
from newsletter.errors import N_
from newsletter.i18n import Language
from newsletter.mail import ledger
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueKind,
    IssuePost,
    IssueState,
    Message,
    MessagePost,
    Mode,
    Post,
    Postponed,
    PostState,
    Status,
    Subscription,
)
from newsletter.subscribers import choices, histories

GOES = (*ledger.UNSETTLED, *plans.REACHED)
SKIPPED = {
    "left": N_("Not sent: they left before it was their turn, on %(day)s."),
    "erased": N_("Not sent: they had themselves erased before it was their turn."),
    "never": N_("Not sent: they forbade all mail before it was their turn."),
    "complained": N_("Not sent: they had marked earlier mail as junk."),
    "bounced": N_("Not sent: earlier mail to the address had bounced for good."),
    "suppressed": N_("Not sent: mail to the address was stopped before their turn."),
    "paused": N_("Not sent: they paused before it was their turn."),
    "cancelled": N_("Not sent: the issue was cancelled."),
    "merged": N_("Not sent: they took this address over; it comes to the other one."),
}
DELIVERED = {
    DeliveryState.SENT: N_("Sent on %(day)s; the receiving server took it."),
    DeliveryState.QUEUED: N_("In line: it is sent as soon as it is their turn."),
    DeliveryState.CLAIMED: N_("It is being sent right now."),
    DeliveryState.DEFERRED: N_(
        "Waiting: the receiving server asked us to come back (%(reply)s)."
    ),
    DeliveryState.BOUNCED: N_(
        "Sent back on %(day)s: the receiving server refused it (%(reply)s)."
    ),
    DeliveryState.FAILED: N_("Given up on %(day)s: %(reply)s."),
    DeliveryState.SKIPPED: N_("Not sent: %(reason)s."),
    DeliveryState.COMPLAINED: N_("Sent, and the reader marked it as junk."),
}
NOT_A_READER_THEN = {
    None: N_("Not sent: they had not confirmed their subscription when it went out."),
    Status.PENDING: N_(
        "Not sent: they had not confirmed their subscription when it went out."
    ),
    Status.LEFT: N_("Not sent: they had left when it went out."),
    Status.PAUSED: N_("Not sent: they had paused when it went out."),
    Status.SUPPRESSED: N_("Not sent: mail to the address was stopped at the time."),
}
NOT_A_READER_NOW = {
    Status.PENDING: N_("They will not get it: they have not confirmed yet."),
    Status.LEFT: N_("They will not get it: they have left."),
    Status.PAUSED: N_("They will not get it while they are on a pause."),
    Status.SUPPRESSED: N_("They will not get it: mail to the address is stopped."),
}
NOTHING_FOR_THEM = {
    WhyNot.LANGUAGE: N_("Not sent: no post in it was in their language."),
    WhyNot.TOPIC: N_("Not sent: no post in it was about a topic they had chosen."),
    WhyNot.PASSED: N_("Not sent: they had been sent all its posts before."),
    WhyNot.HAD: N_("Not sent: they had been sent all its posts before."),
}
NOTHING_WILL_BE = {
    WhyNot.LANGUAGE: N_("They will not get it: no post in it is in their language."),
    WhyNot.TOPIC: N_("They will not get it: no post is about a topic they chose."),
    WhyNot.PASSED: N_("They will not get it: they have been sent all its posts."),
    WhyNot.HAD: N_("They will not get it: they have been sent all its posts."),
}
POST_IS_NOT_FOR_THEM = {
    WhyNot.LANGUAGE: N_("They will not get it: it is not in their language."),
    WhyNot.TOPIC: N_("They will not get it: it is about no topic they chose."),
    WhyNot.PASSED: N_(
        "They will not get it: it is from before their first digest, or did not match"
        " their choices when its digest went out."
    ),
    WhyNot.HAD: N_("They have been sent it already."),
}
POST_IS_NOT_OUT = {
    PostState.DRAFT: N_("Not sent: the post is a draft."),
    PostState.HELD: N_("Not sent: the post is held for an editor."),
    PostState.WITHDRAWN: N_("Not sent: the post was withdrawn."),
}


N_ELSEWHERE = N_("They do not subscribe to that newsletter.")
N_ONLY_ON_PAGE = N_(
    "They will not get it: an editor put it on the newsletter's page alone."
)
N_TOO_FEW = N_("Not yet: there are too few posts for a digest of theirs.")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence, and the rows behind it."""

    sentence: str
    gets: bool  # was sent it, is being sent it, or would be
    delivery: Delivery | None = None
    issue: Issue | None = None  # in which it came, or will
    posts: Sequence[Post] = field(default=())  # what of it is theirs


def of_issue(
    session: Session,
    subscription: Subscription,
    issue: Issue,
    *,
    words: Language,
    now: datetime,
) -> Explanation:
    """Say why a reader got an issue, will get it, or will not."""
    return of_issues(session, subscription, [issue], words=words, now=now)[0]


def of_issues(
    session: Session,
    subscription: Subscription,
    issues: Sequence[Issue],
    *,
    words: Language,
    now: datetime,
) -> list[Explanation]:
    """Say of each issue why a reader got it, will get it, or will not."""
    asked = _Asked(session, subscription, words, now)
    found = _deliveries(asked, issues)
    posts = _posts_of(session, list(found.values()))
    return [
        _delivered(asked, delivery, issue, posts.get(delivery.message_id, []))
        if (delivery := found.get(issue.id))
        else _undelivered(asked, issue)
        for issue in issues
    ]


def of_post(
    session: Session,
    subscription: Subscription,
    post: Post,
    *,
    words: Language,
    now: datetime,
) -> Explanation:
    """Say when a reader got a post, in which digest they will, or why they will not."""
    return of_posts(session, subscription, [post], words=words, now=now)[0]


def of_posts(
    session: Session,
    subscription: Subscription,
    posts: Sequence[Post],
    *,
    words: Language,
    now: datetime,
) -> list[Explanation]:
    """Say of each post when a reader got it, when they will, or why they will not."""
    asked = _Asked(session, subscription, words, now, posts)
    came = _came_in(asked)
    return [
        _delivered(asked, *came[post.id], [post])
        if post.id in came
        else _not_come(asked, post)
        for post in posts
    ]


@dataclass
class _Asked:
    """A reader, and what of them is found out once for all that is asked."""

    session: Session
    subscription: Subscription
    words: Language
    now: datetime
    posts: Sequence[Post] = ()

    @cached_property
    def common(self) -> Common:
        return Common(self.session, self.subscription.newsletter)

    @cached_property
    def postponed(self) -> int | None:
        """The issue they get as soon as an earlier one is settled: its id."""
        row = self.session.get(Postponed, self.subscription.id)
        return row.issue_id if row else None

    @cached_property
    def steps(self) -> list[histories.Step]:
        return histories.consents(self.session, self.subscription)

    @cached_property
    def judged(self) -> tuple[Standing, dict[int, WhyNot | None]]:
        """How they stand to the posts, each by itself and out of any digest's turn."""
        newsletter = self.subscription.newsletter
        alone = Issue(
            newsletter=newsletter,
            newsletter_id=newsletter.id,
            rhythm="",
            picked=True,
            after_position=0,
            last_position=max((post.position or 0 for post in self.posts), default=0),
            created_at=self.now,
            posts=[
                IssuePost(post=post, post_id=post.id, place=place, hidden=False)
                for place, post in enumerate(self.posts, 1)
                if post.newsletter_id == newsletter.id
            ],
        )
        with self.session.no_autoflush:
            plan = plans.plan(self.session, alone, common=self.common)
            here = plans.standing(self.session, plan, self.subscription.id)
        return here, {e.post.id: why for e, why in plan.judged(here.group)}

    @cached_property
    def rhythm(self) -> str:
        """The rhythm they have, given or by default."""
        subscription = self.subscription
        return choices.effective_rhythm(subscription.newsletter, subscription.rhythm)

    @cached_property
    def next_digest(self) -> "_Next | None":
        """What the next digest of their rhythm would bring them."""
        session, newsletter = self.session, self.subscription.newsletter
        at = calendar.next_time(session, newsletter, self.rhythm, self.now)
        if at is None:
            return None
        issue = drafts.of_rhythm(
            session, newsletter, self.rhythm, common=self.common, now=at
        )
        if issue is None:
            return None
        with session.no_autoflush:
            plan = plans.plan(session, issue, common=self.common)
            here = plans.standing(session, plan, self.subscription.id)
        posts = plan.wanted(here.group)
        ids = frozenset(entry.post.id for entry in posts)
        too_small = bool(posts) and plan.is_too_small(posts)
        return _Next(at, ids, too_small=too_small, waits=here.waits)


@dataclass(frozen=True, slots=True)
class _Next:
    """A digest that is to come, for one reader."""

    at: datetime
    post_ids: frozenset[int]
    too_small: bool
    waits: bool  # for an earlier one


def _undelivered(asked: _Asked, issue: Issue) -> Explanation:
    """Say of an issue that has no line in the ledger for a reader why that is."""
    session, words = asked.session, asked.words
    if issue.newsletter_id != asked.subscription.newsletter_id:
        return _no(words, N_ELSEWHERE)
    if issue.state is IssueState.CANCELLED:
        return _no(words, N_("Not sent: the issue was cancelled."))
    if asked.postponed == issue.id:
        return Explanation(
            words.gettext("They get it as soon as the digest before it is settled."),
            gets=True,
            issue=issue,
        )
    if issue.started_at is None:
        return _not_yet(session, asked.subscription, issue, words, asked.now)
    return _why_not_then(asked, issue)


def _not_come(asked: _Asked, post: Post) -> Explanation:
    """Say of a post that has not come when it will, or why it will not."""
    subscription, words = asked.subscription, asked.words
    if post.newsletter_id != subscription.newsletter_id:
        return _no(words, N_ELSEWHERE)
    if post.state is PostState.DRAFT and post.publish_at:
        day = words.moment(post.publish_at, subscription.newsletter.timezone)
        return _no(words, N_("Not yet: the post waits for its date, %(day)s."), day=day)
    if post.state is not PostState.PUBLISHED:
        return _no(words, POST_IS_NOT_OUT[post.state])
    return _when(asked, post)


# The line of the ledger that tells most: what went, else the latest.
_TELLING = (Delivery.state.in_(GOES).desc(), Delivery.id.desc())


def _deliveries(asked: _Asked, issues: Sequence[Issue]) -> dict[int, Delivery]:
    """Return by issue the line of the ledger that tells most of a reader."""
    here = asked.subscription.newsletter_id
    ids = [issue.id for issue in issues if issue.newsletter_id == here]
    query = (
        select(Message.issue_id, Delivery)
        .join(Message, Message.id == Delivery.message_id)
        .where(
            Message.issue_id.in_(ids), Delivery.subscription_id == asked.subscription.id
        )
        .order_by(*_TELLING)
    )
    found: dict[int, Delivery] = {}
    for issue_id, delivery in asked.session.execute(query):
        found.setdefault(issue_id or 0, delivery)
    return found


def _came_in(asked: _Asked) -> dict[int, tuple[Delivery, Issue]]:
    """Return by post the mail in which it came, or comes, and its issue."""
    here = asked.subscription.newsletter_id
    ids = [post.id for post in asked.posts if post.newsletter_id == here]
    query = (
        select(MessagePost.post_id, Delivery, Issue)
        .join(Message, Message.id == MessagePost.message_id)
        .join(Issue, Issue.id == Message.issue_id)
        .join(Delivery, Delivery.message_id == Message.id)
        .where(
            MessagePost.post_id.in_(ids),
            Delivery.subscription_id == asked.subscription.id,
            Delivery.state.in_(GOES),
        )
        .order_by(*_TELLING)
    )
    found: dict[int, tuple[Delivery, Issue]] = {}
    for post_id, delivery, issue in asked.session.execute(query):
        found.setdefault(post_id, (delivery, issue))
    return found


def _posts_of(
    session: Session, deliveries: Sequence[Delivery]
) -> dict[int, list[Post]]:
    """Return by message which posts stand in it."""
    ids = {delivery.message_id for delivery in deliveries}
    if not ids:
        return {}
    query = (
        select(MessagePost.message_id, Post)
        .join(Post, Post.id == MessagePost.post_id)
        .where(MessagePost.message_id.in_(ids))
        .order_by(Post.position.desc())
    )
    found: dict[int, list[Post]] = {}
    for message_id, post in session.execute(query):
        found.setdefault(message_id, []).append(post)
    return found


def _delivered(
    asked: _Asked, delivery: Delivery, issue: Issue, posts: Sequence[Post]
) -> Explanation:
    return Explanation(
        what_became(delivery, asked.words, asked.subscription.newsletter.timezone),
        gets=delivery.state in GOES,
        delivery=delivery,
        issue=issue,
        posts=posts,
    )


def what_became(delivery: Delivery, words: Language, zone: str) -> str:
    """Say what became of one mail."""
    day = words.moment(delivery.settled_at or delivery.created_at, zone)
    reason = delivery.reason or ""
    if delivery.state is DeliveryState.SKIPPED and reason in SKIPPED:
        return words.gettext(SKIPPED[reason]) % {"day": day}
    reply = (delivery.reply or reason or words.gettext("no reason given")).rstrip(".")
    text = words.gettext(DELIVERED[delivery.state])
    sentence = text % {"day": day, "reply": reply, "reason": reason or reply}
    if delivery.state is DeliveryState.DEFERRED and delivery.next_attempt_at:
        again = words.moment(delivery.next_attempt_at, zone)
        sentence += " " + words.gettext("The next try is on %(day)s.", day=again)
    return sentence


def _no(words: Language, message: str, **values: object) -> Explanation:
    return Explanation(words.gettext(message, **values), gets=False)


def _not_yet(
    session: Session,
    subscription: Subscription,
    issue: Issue,
    words: Language,
    now: datetime,
) -> Explanation:
    """Say whether they would get an issue that nobody has sent."""
    if issue.kind is IssueKind.LETTER:
        return _letter_not_yet(session, subscription, issue, words, now)
    plan = plans.plan(session, issue)
    here = plans.standing(session, plan, subscription.id)
    if why := _bar(subscription, here, issue, words):
        return why
    posts = plan.wanted(here.group)
    if not posts:
        return _no(words, _reason(plan, here, NOTHING_WILL_BE))
    if plan.is_too_small(posts):
        return _no(words, N_TOO_FEW)
    sentence = _waits(issue, words, subscription.newsletter.timezone)
    return Explanation(sentence, True, issue=issue, posts=[e.post for e in posts])


def _letter_not_yet(
    session: Session,
    subscription: Subscription,
    issue: Issue,
    words: Language,
    now: datetime,
) -> Explanation:
    if letters.is_for(session, issue, subscription, now=now):
        sentence = _waits(issue, words, subscription.newsletter.timezone)
        return Explanation(sentence, gets=True, issue=issue)
    if why := NOT_A_READER_NOW.get(subscription.status):
        return _no(words, why)
    return _no(words, N_("They are not among the readers the letter is for."))


def _waits(issue: Issue, words: Language, zone: str) -> str:
    """Say what an issue that has not gone out waits for."""
    if issue.state is IssueState.SCHEDULED and issue.scheduled_at:
        day = words.moment(issue.scheduled_at, zone)
        return words.gettext("Not sent yet: it goes out on %(day)s.", day=day)
    if issue.state is IssueState.HELD:
        return words.gettext("Not sent yet: the issue waits for an editor.")
    return words.gettext("Not sent yet: nobody has sent the issue.")


def _bar(
    subscription: Subscription, here: Standing, issue: Issue, words: Language
) -> Explanation | None:
    """Say what keeps a reader from an issue as things stand; None if nothing does."""
    if not here.active:
        return _no(words, NOT_A_READER_NOW[subscription.status])
    if here.stopped:
        return _no(words, NOT_A_READER_NOW[Status.SUPPRESSED])
    if not here.has_rhythm:
        return _other_rhythm(subscription, issue, words)
    if here.waits:
        return _no(words, N_("Not yet: they are still being sent an earlier digest."))
    return None


def _other_rhythm(
    subscription: Subscription, issue: Issue, words: Language
) -> Explanation:
    newsletter = subscription.newsletter
    theirs = choices.effective_rhythm(newsletter, subscription.rhythm)
    return _no(
        words,
        N_("It is for the readers who chose “%(rhythm)s”; theirs is “%(theirs)s”."),
        rhythm=rhythms.describe(issue.rhythm, words),
        theirs=rhythms.describe(theirs, words),
    )


def _why_not_then(asked: _Asked, issue: Issue) -> Explanation:
    """Say why an issue that went out has no line in the ledger for a reader."""
    session, subscription, words = asked.session, asked.subscription, asked.words
    started = issue.started_at
    assert started is not None  # noqa: S101 (for the type checker)
    was = histories.status_at(asked.steps, started)
    if was is not Status.ACTIVE:
        return _no(words, NOT_A_READER_THEN[was])
    if issue.kind is IssueKind.LETTER:
        text = N_("Not sent: they were not among the readers the letter was for.")
        return _no(words, text)
    plan = plans.plan(session, issue, common=asked.common)
    here = plans.standing(session, plan, subscription.id)
    if not here.has_rhythm:
        return _other_rhythm(subscription, issue, words)
    if had := _had_in(session, subscription, issue):
        text = N_("Not sent: they got its posts already, the last in issue %(number)s.")
        return _no(words, text, number=had)
    if plan.wanted(here.group):
        return _no(words, N_("Not sent: when it went out, it held nothing for them."))
    return _no(words, _reason(plan, here, NOTHING_FOR_THEM))


def _reason(plan: Plan, here: Standing, sentences: dict[WhyNot, str]) -> str:
    """Return the sentence for why nothing of an issue is a reader's."""
    found = [why for entry, why in plan.judged(here.group) if why and entry in plan.own]
    chosen = [why for why in found if why in (WhyNot.HAD, WhyNot.PASSED)]
    return sentences[(chosen or found or [WhyNot.PASSED])[0]]


def _had_in(session: Session, subscription: Subscription, issue: Issue) -> int | None:
    """Return the number of the issue before it in which a reader got its last post.

    None unless every post of it had reached them.
    """
    started = issue.started_at
    own = {entry.post_id for entry in issue.posts if not entry.hidden}
    rows = session.execute(
        select(MessagePost.post_id, func.max(Issue.number))
        .join(Message, Message.id == MessagePost.message_id)
        .join(Delivery, Delivery.message_id == Message.id)
        .join(Issue, Issue.id == Message.issue_id)
        .where(
            Delivery.subscription_id == subscription.id,
            Delivery.state.in_(plans.REACHED),
            MessagePost.post_id.in_(own),
            Issue.started_at < started,
        )
        .group_by(MessagePost.post_id)
    ).all()
    if not own or {row[0] for row in rows} != own:
        return None
    return max(number or 0 for _post, number in rows)


def _when(asked: _Asked, post: Post) -> Explanation:
    """Say which digest will bring a reader a post, or why none will."""
    session, subscription, words = asked.session, asked.subscription, asked.words
    here, judged = asked.judged
    if not here.active:
        return _no(words, NOT_A_READER_NOW[subscription.status])
    if here.stopped:
        return _no(words, NOT_A_READER_NOW[Status.SUPPRESSED])
    if why := judged.get(post.id):
        if why is WhyNot.PASSED and _is_hidden(asked, post):
            return _no(
                words, N_("They will not get it: an editor kept it out of the digest.")
            )
        return _no(words, POST_IS_NOT_FOR_THEM[why])
    if issue := _waiting_issue(session, subscription, post):
        waits = _not_yet(session, subscription, issue, words, asked.now)
        return replace(waits, posts=[post])
    if post.position is None:
        return _no(words, N_ONLY_ON_PAGE)
    return _next_digest(asked, post)


def _is_hidden(asked: _Asked, post: Post) -> bool:
    hidden = plans.hidden_from(asked.subscription.newsletter, asked.rhythm)
    query = hidden.where(IssuePost.post_id == post.id)
    return asked.session.scalar(query) is not None


def _waiting_issue(
    session: Session, subscription: Subscription, post: Post
) -> Issue | None:
    """Return the issue that waits, for its time or an editor, with a reader's post."""
    query = (
        select(Issue)
        .join(IssuePost, IssuePost.issue_id == Issue.id)
        .where(
            Issue.newsletter_id == subscription.newsletter_id,
            Issue.state.in_((IssueState.SCHEDULED, IssueState.HELD)),
            IssuePost.post_id == post.id,
            IssuePost.hidden.is_(False),
        )
    )
    for issue in session.scalars(query.order_by(Issue.id)):
        if _holds_for(session, plans.plan(session, issue), subscription, post):
            return issue
    return None


def _holds_for(
    session: Session, plan: Plan, subscription: Subscription, post: Post
) -> bool:
    here = plans.standing(session, plan, subscription.id)
    wanted = plan.wanted(here.group)
    return here.may and any(entry.post.id == post.id for entry in wanted)


def _next_digest(asked: _Asked, post: Post) -> Explanation:
    """Say when the next digest of a reader's rhythm brings a post that they lack."""
    newsletter, words = asked.subscription.newsletter, asked.words
    if newsletter.mode is Mode.HAND:
        return _no(
            words, N_("Not yet: digests go out by hand, and it is in none so far.")
        )
    if newsletter.halted_at is not None:
        return _no(words, calendar.N_HALTED)
    coming = asked.next_digest
    if coming is None or post.id not in coming.post_ids:
        return _no(words, N_("Not yet: it is in none of the next digests."))
    if coming.too_small:
        return _no(words, N_TOO_FEW)
    text = words.gettext(
        "It comes with their digest on %(day)s.",
        day=words.moment(coming.at, newsletter.timezone),
    )
    if coming.waits:
        text = words.gettext(
            "It comes next, as soon as the digest before it is settled."
        )
    elif asked.rhythm == planning.EACH:
        text = words.gettext(
            "It comes by itself within minutes, as soon as the day is not quiet."
        )
    return Explanation(text, gets=True, posts=[post])
