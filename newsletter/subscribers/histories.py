"""One reader's history, and in one sentence why they did or did not get an issue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter.errors import N_
from newsletter.i18n import Language
from newsletter.models import (
    Consent,
    Delivery,
    DeliveryState,
    Issue,
    IssueKind,
    IssuePost,
    IssueState,
    Kind,
    Message,
    PostTopic,
    Status,
    Subscription,
    SubscriptionTopic,
    Wording,
)
from newsletter.subscribers import consent

MAX_DELIVERIES = 200

STEPS = {
    consent.REQUESTED: N_("Asked to subscribe"),
    consent.CONFIRMED: N_("Confirmed"),
    consent.IMPORTED: N_("Imported"),
    consent.CHANGED: N_("Changed their choices"),
    consent.PAUSED: N_("Paused"),
    consent.RESUMED: N_("The pause ended"),
    consent.LEFT: N_("Left"),
    consent.RETURNED: N_("Took it back"),
    consent.SUPPRESSED: N_("Suppressed"),
    consent.ADDRESS_CHANGED: N_("Changed address"),
    consent.MERGED: N_("Became one with another address"),
}

# What a subscription was after each step that says so.
STATUS_AFTER = {
    consent.REQUESTED: None,  # changes nothing yet
    consent.CONFIRMED: Status.ACTIVE,
    consent.IMPORTED: Status.ACTIVE,
    consent.RETURNED: Status.ACTIVE,
    consent.RESUMED: Status.ACTIVE,
    consent.PAUSED: Status.PAUSED,
    consent.LEFT: Status.LEFT,
    consent.SUPPRESSED: Status.SUPPRESSED,
}

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
NOT_A_READER = {
    None: N_("Not sent: they had not confirmed their subscription when it went out."),
    Status.PENDING: N_(
        "Not sent: they had not confirmed their subscription when it went out."
    ),
    Status.LEFT: N_("Not sent: they had left when it went out."),
    Status.PAUSED: N_("Not sent: they had paused when it went out."),
    Status.SUPPRESSED: N_("Not sent: mail to the address was stopped at the time."),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a consent with the words that were shown."""

    step: Consent
    wording: str

    @property
    def message(self) -> str:
        """Return the message id that names the step."""
        return STEPS.get(self.step.event, self.step.event)


@dataclass(frozen=True, slots=True)
class Sending:
    """One mail to a reader, and what became of it."""

    delivery: Delivery
    kind: Kind
    subject: str
    issue_id: int | None


@dataclass(frozen=True, slots=True)
class History:
    """A subscription from its beginning, newest last; mails newest first."""

    subscription: Subscription
    consents: list[Step]
    deliveries: list[Sending]


def history(session: Session, subscription: Subscription) -> History:
    """Return one subscription's whole history (the latest two hundred mails)."""
    return History(
        subscription,
        consents(session, subscription),
        deliveries(session, subscription),
    )


def consents(session: Session, subscription: Subscription) -> list[Step]:
    """Return every step of a consent, oldest first."""
    query = (
        select(Consent, Wording.text)
        .outerjoin(Wording, Consent.wording_id == Wording.id)
        .where(Consent.subscription_id == subscription.id)
        .order_by(Consent.at, Consent.id)
    )
    return [Step(step, text or "") for step, text in session.execute(query)]


def deliveries(
    session: Session, subscription: Subscription, limit: int = MAX_DELIVERIES
) -> list[Sending]:
    """Return the latest mails to a reader, newest first."""
    query = (
        select(Delivery, Message.kind, Message.subject, Message.issue_id)
        .join(Message, Message.id == Delivery.message_id)
        .where(Delivery.subscription_id == subscription.id)
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    return [Sending(*row) for row in session.execute(query)]


def explain(
    session: Session, subscription: Subscription, issue: Issue, *, words: Language
) -> str:
    """Say in one sentence why a reader did or did not get an issue."""
    delivery = session.scalar(
        select(Delivery)
        .join(Message, Message.id == Delivery.message_id)
        .where(
            Message.issue_id == issue.id, Delivery.subscription_id == subscription.id
        )
        .order_by(Delivery.id.desc())
    )
    zone = subscription.newsletter.timezone
    if delivery is not None:
        return _what_became(delivery, words, zone)
    if issue.newsletter_id != subscription.newsletter_id:
        return words.gettext("They do not subscribe to that newsletter.")
    if issue.started_at is None:
        return _not_yet(subscription, issue, words, zone)
    was = status_at(consents(session, subscription), issue.started_at)
    if was is not Status.ACTIVE:
        return words.gettext(NOT_A_READER[was])
    return words.gettext(_why_nothing_for_them(session, subscription, issue))


def status_at(steps: Sequence[Step], moment: datetime) -> Status | None:
    """Return where a subscription stood at a moment; None before it was confirmed."""
    status: Status | None = None
    for entry in steps:
        if entry.step.at > moment:
            break
        after = STATUS_AFTER.get(entry.step.event)
        if entry.step.event == consent.IMPORTED:
            after = Status(entry.step.detail.get("status", Status.ACTIVE))
        status = after or status
    return status


def _what_became(delivery: Delivery, words: Language, zone: str) -> str:
    day = words.moment(delivery.settled_at or delivery.created_at, zone)
    reason = delivery.reason or ""
    if delivery.state == DeliveryState.SKIPPED and reason in SKIPPED:
        text = words.gettext(SKIPPED[reason])
        return text % {"day": day}
    reply = (delivery.reply or reason or words.gettext("no reason given")).rstrip(".")
    text = words.gettext(DELIVERED[delivery.state])
    return text % {"day": day, "reply": reply, "reason": reason or reply}


def _not_yet(
    subscription: Subscription, issue: Issue, words: Language, zone: str
) -> str:
    if issue.state == IssueState.CANCELLED:
        return words.gettext("Not sent: the issue was cancelled.")
    if issue.state == IssueState.SCHEDULED and issue.scheduled_at:
        return words.gettext(
            "Not sent yet: it goes out on %(day)s.",
            day=words.moment(issue.scheduled_at, zone),
        )
    if subscription.status == Status.ACTIVE:
        return words.gettext("Not sent yet: nobody has sent the issue.")
    return words.gettext(
        "Not sent yet, and as things stand they will not get it: the subscription is"
        " not active."
    )


def _why_nothing_for_them(
    session: Session, subscription: Subscription, issue: Issue
) -> str:
    """Explain why an active reader was not among those an issue went to."""
    if issue.kind is IssueKind.LETTER:
        return N_("Not sent: they were not among the readers the letter was for.")
    if not subscription.all_topics and not _matches(session, subscription, issue):
        return N_("Not sent: no post in it was about a topic they had chosen.")
    if subscription.cursor >= issue.last_position:
        return N_("Not sent: they had been sent all its posts before.")
    return N_("Not sent, and the ledger does not say why.")


def _matches(session: Session, subscription: Subscription, issue: Issue) -> bool:
    query = (
        select(func.count())
        .select_from(IssuePost)
        .join(PostTopic, PostTopic.post_id == IssuePost.post_id)
        .join(SubscriptionTopic, SubscriptionTopic.topic_id == PostTopic.topic_id)
        .where(
            IssuePost.issue_id == issue.id,
            IssuePost.hidden.is_(False),
            SubscriptionTopic.subscription_id == subscription.id,
        )
    )
    return bool(session.scalar(query))
