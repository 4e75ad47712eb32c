"""Two subscribers who turn out to be one person: one bond to each newsletter stays."""

from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from newsletter.mail import ledger
from newsletter.models import (
    Consent,
    Delivery,
    FormerToken,
    Note,
    Status,
    Subscriber,
    Subscription,
)
from newsletter.subscribers import consent
from newsletter.subscribers.consent import Origin

# Who stays when two subscriptions to one newsletter become one.
PRECEDENCE = (
    Status.ACTIVE,
    Status.PAUSED,
    Status.PENDING,
    Status.LEFT,
    Status.SUPPRESSED,
)


def merge(
    session: Session, moving: Subscriber, there: Subscriber, now: datetime
) -> None:
    """Let `there` take over what `moving` has; of two bonds to one newsletter, one."""
    theirs = {s.newsletter_id: s for s in subscriptions_of(session, there)}
    for mine in subscriptions_of(session, moving):
        other = theirs.get(mine.newsletter_id)
        if other is None:
            mine.subscriber = there
            continue
        stays, goes = sorted((mine, other), key=lambda s: PRECEDENCE.index(s.status))
        _take_over(session, stays, goes, now)
        _absorb(session, stays, goes, now)
        stays.subscriber = there
    session.flush()
    moving_id = moving.id
    session.expunge(moving)
    session.execute(delete(Subscriber).where(Subscriber.id == moving_id))


def _take_over(
    session: Session, stays: Subscription, goes: Subscription, now: datetime
) -> None:
    """Let nothing come twice that both were to get, and nothing be lost.

    The cursor stays: the other one may have passed what they had not chosen. What the
    other has brought, the ledger knows, and is asked up to where that had come. What is
    under way to the other stays behind: it comes again, to the one address.
    """
    ledger.skip_subscription(session, goes.id, reason="merged", now=now)
    stays.had_until = max(stays.had_until, goes.had_until, goes.cursor)


def _absorb(
    session: Session, stays: Subscription, goes: Subscription, now: datetime
) -> None:
    """Make one subscription of two: the history of both, and the links of both."""
    consent.record(
        session,
        stays,
        consent.MERGED,
        Origin(),
        now=now,
        detail={"other_was": goes.status.value},
    )
    session.flush()
    old, new = goes.id, stays.id
    tokens = {"leave": goes.leave_token, "preferences": goes.preferences_token}
    for model in (Consent, Delivery, FormerToken, Note):
        session.execute(
            update(model)
            .where(model.subscription_id == old)
            .values(subscription_id=new)
            .execution_options(synchronize_session=False)
        )
    session.expunge(goes)
    session.execute(delete(Subscription).where(Subscription.id == old))
    session.add_all(
        FormerToken(token=token, opens=door, subscription_id=new)
        for door, token in tokens.items()
    )
    session.flush()


def subscriptions_of(session: Session, subscriber: Subscriber) -> list[Subscription]:
    """Return a subscriber's subscriptions, the oldest first."""
    query = select(Subscription).where(Subscription.subscriber_id == subscriber.id)
    return list(session.scalars(query.order_by(Subscription.id)))
