"""What became of an issue's deliveries, as a person reads it. Only reads the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from newsletter.errors import N_
from newsletter.mail import ledger
from newsletter.mail.replies import Verdict
from newsletter.models import Delivery, DeliveryState, Message, Status

UNREACHED = (
    DeliveryState.BOUNCED,
    DeliveryState.FAILED,
    DeliveryState.SKIPPED,
    DeliveryState.COMPLAINED,
)
LISTED = (DeliveryState.DEFERRED, *UNREACHED)
PAGE = 100
MOST_REASONS = 50

# What a delivery's reason means to someone who does not read SMTP.
WORDS: dict[str, str] = {
    Verdict.GREYLISTED: N_("Their server asks strangers to come back later"),
    Verdict.MAILBOX_SOFT: N_("The mailbox is full or closed for now"),
    Verdict.UNKNOWN_MAILBOX: N_("There is no such mailbox"),
    Verdict.DOMAIN_DEAD: N_("The domain takes no mail"),
    Verdict.THROTTLED: N_("Their server asks us to slow down"),
    Verdict.SENDER_BLOCKED: N_("Their server refuses our sender"),
    Verdict.CONTENT: N_("Their server refuses what the mail holds"),
    Verdict.RELAY_TROUBLE: N_("Our own relay had trouble"),
    Verdict.SMTPUTF8_LACKING: N_("Their server cannot take letters beyond a–z"),
    Verdict.UNKNOWN_4XX: N_("Their server said no for now"),
    Verdict.UNKNOWN_5XX: N_("Their server said no"),
    Status.LEFT: N_("Left before it was their turn"),
    Status.PAUSED: N_("Paused before it was their turn"),
    Status.PENDING: N_("Has not confirmed"),
    Status.SUPPRESSED: N_("The address is not to be mailed"),
    "erased": N_("Erased before it was their turn"),
    "cancelled": N_("The issue was cancelled"),
    "merged": N_("Became one with another subscription of theirs"),
    "unknown": N_("Unknown after a stop; held back rather than sent twice"),
}
STATE_WORDS: dict[str, str] = {
    DeliveryState.DEFERRED: N_("Deferred; tried again later"),
    DeliveryState.BOUNCED: N_("Bounced"),
    DeliveryState.FAILED: N_("Could not be handed over"),
    DeliveryState.SKIPPED: N_("Left out"),
    DeliveryState.COMPLAINED: N_("Reported as spam"),
    DeliveryState.SENT: N_("Sent"),
}


def why(state: str, reason: str | None) -> str:
    """Return the message id that tells why a delivery stands where it does."""
    return WORDS.get(reason or "") or STATE_WORDS.get(state, state)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some readers were not reached, and what a server said to one of them."""

    state: DeliveryState
    reason: str
    readers: int
    reply: str


@dataclass(frozen=True, slots=True)
class Readers:
    """Some deliveries, in the ledger's order; `after` begins the next page."""

    deliveries: Sequence[Delivery]
    after: int | None = None


def reasons(
    session: Session,
    *,
    issue_id: int,
    states: Sequence[DeliveryState] = UNREACHED,
) -> list[Reason]:
    """Return why readers were not reached, the commonest reason first."""
    count = func.count()
    rows = session.execute(
        select(Delivery.state, Delivery.reason, count, func.max(Delivery.reply))
        .where(_of_issue(issue_id), ledger.unusual(), Delivery.state.in_(states))
        .group_by(Delivery.state, Delivery.reason)
        .order_by(count.desc(), Delivery.state, Delivery.reason)
        .limit(MOST_REASONS)
    )
    return [
        Reason(state, reason or "", readers, reply or "")
        for state, reason, readers, reply in rows
    ]


def unreached(
    session: Session,
    *,
    issue_id: int,
    states: Sequence[DeliveryState] = UNREACHED,
    after: int = 0,
) -> Readers:
    """Return the deliveries in these states, by page."""
    in_states = (ledger.unusual(), Delivery.state.in_(states))
    query = select(Delivery).where(_of_issue(issue_id), *in_states)
    return _page(session, query, after)


def resent(session: Session, *, issue_id: int, after: int = 0) -> Readers:
    """Return the deliveries sent once more because a crash left them unknown."""
    query = select(Delivery).where(_of_issue(issue_id), Delivery.resent.is_(True))
    return _page(session, query, after)


def _page(session: Session, query: Select[Delivery], after: int) -> Readers:
    found = session.scalars(
        query.where(Delivery.id > after).order_by(Delivery.id).limit(PAGE + 1)
    ).all()
    deliveries = found[:PAGE]
    return Readers(deliveries, deliveries[-1].id if len(found) > PAGE else None)


def _of_issue(issue_id: int) -> ColumnElement[bool]:
    messages = select(Message.id).where(Message.issue_id == issue_id)
    return Delivery.message_id.in_(messages)
