"""Leaving: at once, by any mail ever sent, without a question asked; and undoing it."""

import re
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from newsletter import rhythms
from newsletter.config import Settings
from newsletter.errors import N_, Conflict, InvalidInput, InvalidLink
from newsletter.mail import ledger
from newsletter.models import FormerToken, Status, Subscription
from newsletter.subscribers import choices, consent, suppression
from newsletter.subscribers.consent import Origin

UNDO_HOURS = 24
WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{22}")


def find_by_leave_token(session: Session, token: str) -> Subscription | None:
    """Return the subscription a leave link ends, also one merged into another."""
    if not WELL_FORMED.fullmatch(token):
        return None
    query = select(Subscription).where(Subscription.leave_token == token)
    if found := session.scalar(query):
        return found
    return find_by_former_token(session, token, "leave")


def find_by_former_token(
    session: Session, token: str, door: str
) -> Subscription | None:
    """Return what the subscription that had this token has become part of."""
    query = (
        select(Subscription)
        .join(FormerToken, FormerToken.subscription_id == Subscription.id)
        .where(FormerToken.token == token, FormerToken.opens == door)
    )
    return session.scalar(query)


def leave(
    session: Session,
    settings: Settings,
    token: str,
    *,
    origin: Origin,
    how: str,
    now: datetime,
) -> Subscription | None:
    """End a subscription at once, also in the middle of a send.

    `how` is "one-click", "page", "preferences", "mail" or "editor". Safe to call twice.
    None if nobody has the token (any more): then there is nothing left to end, and the
    reader is told the same.
    """
    subscription = find_by_leave_token(session, token)
    if subscription is not None:
        end(session, subscription, origin=origin, how=how, now=now)
    return subscription


def end(
    session: Session,
    subscription: Subscription,
    *,
    origin: Origin,
    how: str,
    now: datetime,
) -> None:
    """End a subscription. Safe to call twice, also at once: it is recorded once."""
    session.flush()
    was = subscription.status
    result = session.execute(
        update(Subscription)
        .where(
            Subscription.id == subscription.id,
            Subscription.status.not_in((Status.LEFT, Status.SUPPRESSED)),
        )
        .values(status=Status.LEFT, left_at=now, round=Subscription.round + 1)
        .execution_options(synchronize_session=False)
    )
    session.refresh(subscription)
    assert isinstance(result, CursorResult)  # noqa: S101 (for the type checker)
    if result.rowcount:
        detail = {"how": how, "was": was.value}
        consent.record(
            session, subscription, consent.LEFT, origin, now=now, detail=detail
        )
    # Always: a mail may have been queued by a hand that did not know yet.
    ledger.skip_subscription(session, subscription.id, reason="left", now=now)


def can_undo(subscription: Subscription, *, now: datetime) -> bool:
    """Tell whether leaving can still be taken back: it was a reader, and just left."""
    return (
        subscription.status == Status.LEFT
        and subscription.confirmed_at is not None
        and subscription.left_at is not None
        and now - subscription.left_at <= timedelta(hours=UNDO_HOURS)
    )


def undo(
    session: Session,
    settings: Settings,
    token: str,
    *,
    origin: Origin,
    now: datetime,
) -> Subscription:
    """Take leaving back within a day. Safe to call twice.

    Raises InvalidLink if nobody has the token, Conflict when it is too late.
    """
    subscription = _known(session, token)
    _return(session, subscription, origin, now)
    return subscription


def fewer_rhythms(subscription: Subscription) -> list[str]:
    """Return the offered rhythms with fewer mails than now, the nearest first."""
    offered = choices.offered_rhythms(subscription.newsletter)
    return rhythms.slower(offered, subscription.rhythm)


def choose_rhythm(
    session: Session,
    settings: Settings,
    token: str,
    rhythm: str,
    *,
    origin: Origin,
    now: datetime,
) -> Subscription:
    """Take fewer mails instead of none; someone who just left comes back for it.

    Raises InvalidLink, InvalidInput if the rhythm is not offered or not slower,
    Conflict when leaving can no longer be taken back.
    """
    subscription = _known(session, token)
    if rhythm != subscription.rhythm and rhythm not in fewer_rhythms(subscription):
        raise InvalidInput(N_("Choose one of the rhythms on the page."), field="rhythm")
    if subscription.status not in (Status.ACTIVE, Status.PAUSED):
        _return(session, subscription, origin, now)
    if rhythm != subscription.rhythm:
        detail = {"rhythm": [subscription.rhythm, rhythm]}
        subscription.rhythm = rhythm
        consent.record(
            session, subscription, consent.CHANGED, origin, now=now, detail=detail
        )
    return subscription


def _known(session: Session, token: str) -> Subscription:
    subscription = find_by_leave_token(session, token)
    if subscription is None:
        raise InvalidLink(N_("This link no longer leads to a subscription."))
    return subscription


def _return(
    session: Session, subscription: Subscription, origin: Origin, now: datetime
) -> None:
    if subscription.status in (Status.ACTIVE, Status.PAUSED):
        return
    forbidden = suppression.reasons(
        session, subscription.subscriber.address_hash, subscription.newsletter_id
    )
    if forbidden or not can_undo(subscription, now=now):
        raise Conflict(
            N_("It is too late to take it back. Sign up again: it takes a minute.")
        )
    on_holiday = subscription.paused_until and subscription.paused_until > now
    subscription.status = Status.PAUSED if on_holiday else Status.ACTIVE
    subscription.left_at = None
    session.flush()
    consent.record(session, subscription, consent.RETURNED, origin, now=now)
