"""One reader's history: every step of their consent, and every mail to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.errors import N_
from newsletter.models import (
    Consent,
    Delivery,
    Kind,
    Message,
    Status,
    Subscription,
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
    consent.LIFTED: N_("The stop was lifted"),
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
    consent.LIFTED: Status.LEFT,
}
NAMED_THERE = (consent.IMPORTED, consent.LIFTED)  # what the step's detail says


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


def status_at(steps: Sequence[Step], moment: datetime) -> Status | None:
    """Return where a subscription stood at a moment; None before it was confirmed."""
    status: Status | None = None
    for entry in steps:
        if entry.step.at > moment:
            break
        after = STATUS_AFTER.get(entry.step.event)
        if entry.step.event in NAMED_THERE:
            after = Status(entry.step.detail.get("status") or Status.ACTIVE)
        status = after or status
    return status
