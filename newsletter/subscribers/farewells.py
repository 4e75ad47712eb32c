"""Who has left or is not to be mailed: carried into an older copy of the database.

A backup knows nothing of those who left after it was made. Where the newer database is
still there when the backup is restored, what it knows of them is said again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.models import Newsletter, Status, Subscriber, Subscription, Suppression
from newsletter.subscribers import leaving, rights, suppression
from newsletter.subscribers.consent import Origin

LEFT = "left"


@dataclass(frozen=True, slots=True)
class Farewell:
    """One address, by its hash, that a newsletter (or none) may mail no more."""

    address_hash: str
    slug: str | None  # none: every newsletter
    reason: str  # left, or a suppression's
    at: datetime


def collect(session: Session) -> list[Farewell]:
    """Return all that is known of those who left or are not to be mailed."""
    left = (
        select(Subscriber.address_hash, Newsletter.slug, Subscription.left_at)
        .join(Subscription, Subscription.subscriber_id == Subscriber.id)
        .join(Newsletter, Newsletter.id == Subscription.newsletter_id)
        .where(Subscription.status == Status.LEFT)
    )
    suppressed = select(
        Suppression.address_hash,
        Newsletter.slug,
        Suppression.reason,
        Suppression.created_at,
    ).outerjoin(Newsletter, Newsletter.id == Suppression.newsletter_id)
    found = [
        Farewell(address_hash, slug, LEFT, at)
        for address_hash, slug, at in session.execute(left)
        if at is not None
    ]
    found += [Farewell(*row) for row in session.execute(suppressed)]
    return found


def repeat(session: Session, farewells: Iterable[Farewell]) -> int:
    """Say them again where they are not known; return how many were news."""
    ids = {slug: key for key, slug in session.execute(_newsletters)}
    news = 0
    for farewell in farewells:
        newsletter_id = ids.get(farewell.slug) if farewell.slug else None
        if farewell.slug and newsletter_id is None:
            continue  # the copy has no such newsletter
        if farewell.reason == LEFT:
            news += _end(session, farewell, newsletter_id)
        else:
            news += _suppress(session, farewell, newsletter_id)
    return news


_newsletters = select(Newsletter.id, Newsletter.slug)


def _end(session: Session, farewell: Farewell, newsletter_id: int | None) -> bool:
    subscription = session.scalar(
        select(Subscription)
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .where(
            suppression.is_subscriber(session, farewell.address_hash),
            Subscription.newsletter_id == newsletter_id,
            Subscription.status.not_in((Status.LEFT, Status.SUPPRESSED)),
        )
    )
    if subscription is None:
        return False
    leaving.end(
        session, subscription, origin=Origin("restore"), how="restore", now=farewell.at
    )
    return True


def _suppress(session: Session, farewell: Farewell, newsletter_id: int | None) -> bool:
    known = suppression.reasons(session, farewell.address_hash, newsletter_id)
    if farewell.reason in known:
        return False
    if farewell.reason == suppression.ERASED:
        by_hash = select(Subscriber).where(
            suppression.is_subscriber(session, farewell.address_hash)
        )
        for subscriber in session.scalars(by_hash).all():
            rights.erase_subscriber(session, subscriber, now=farewell.at)
    suppression.suppress(
        session,
        farewell.address_hash,
        reason=farewell.reason,
        newsletter_id=newsletter_id,
        now=farewell.at,
    )
    return True
