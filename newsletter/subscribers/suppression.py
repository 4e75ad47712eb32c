"""Addresses that are not to be mailed: only their keyed hash is known."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from newsletter.mail import ledger
from newsletter.models import Status, Subscriber, Subscription, Suppression
from newsletter.subscribers import consent
from newsletter.subscribers.consent import Origin

# Strongest first: a weaker reason never takes a stronger one's place.
NEVER, COMPLAINED, BOUNCED, LEFT, ERASED, OTHER = (
    "never",
    "complained",
    "bounced",
    "left",
    "erased",
    "other",
)
STRENGTH = (NEVER, COMPLAINED, LEFT, BOUNCED, ERASED, OTHER)
# Not even a new sign-up gets an answer: the person said so, to us or to their provider.
SILENT = frozenset({NEVER, COMPLAINED})


def reasons(session: Session, address_hash: str, newsletter_id: int | None) -> set[str]:
    """Return why an address may not be mailed by a newsletter; empty if it may."""
    query = select(Suppression.reason).where(
        Suppression.address_hash == address_hash, _covers(newsletter_id)
    )
    return set(session.scalars(query))


def suppress(
    session: Session,
    address_hash: str,
    *,
    reason: str,
    newsletter_id: int | None = None,
    note: str = "",
    now: datetime,
    detail: Mapping[str, str] | None = None,
) -> None:
    """Stop all mail to an address, from one newsletter or (None) from every one.

    Takes effect at once, also in the middle of a send, and makes every confirmation
    link sent so far void. Safe to call twice. `detail` goes to the history.
    """
    remember(
        session,
        address_hash,
        reason=reason,
        newsletter_id=newsletter_id,
        note=note,
        now=now,
    )
    for subscription in _subscriptions(session, address_hash, newsletter_id):
        if subscription.status == Status.SUPPRESSED:
            continue
        was = subscription.status
        # Someone who left has left, whatever else happened to the address.
        if subscription.status != Status.LEFT:
            subscription.status = Status.SUPPRESSED
        subscription.round += 1
        session.flush()
        consent.record(
            session,
            subscription,
            consent.SUPPRESSED,
            Origin(),
            now=now,
            detail={**(detail or {}), "reason": reason, "was": was.value},
        )
        ledger.skip_subscription(session, subscription.id, reason=reason, now=now)


def remember(
    session: Session,
    address_hash: str,
    *,
    reason: str,
    newsletter_id: int | None = None,
    note: str = "",
    now: datetime,
) -> None:
    """Write a suppression down, and nothing more."""
    scope = (
        Suppression.newsletter_id.is_(None)
        if newsletter_id is None
        else Suppression.newsletter_id == newsletter_id
    )
    same = Suppression.address_hash == address_hash, scope
    session.execute(
        consent.upsert(session, Suppression)
        .values(
            address_hash=address_hash,
            newsletter_id=newsletter_id,
            reason=reason,
            note=note,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )
    weaker = STRENGTH[STRENGTH.index(reason) + 1 :] if reason in STRENGTH else ()
    session.execute(
        update(Suppression)
        .where(*same, Suppression.reason.in_(weaker))
        .values(reason=reason, note=note, created_at=now)
    )


def lift(
    session: Session,
    address_hash: str,
    newsletter_id: int,
    *,
    even_silent: bool = False,
) -> None:
    """Let a newsletter mail an address again, because the person asked anew.

    What the person forbade for good (`SILENT`) stays unless `even_silent`.
    """
    query = delete(Suppression).where(
        Suppression.address_hash == address_hash, _covers(newsletter_id)
    )
    if not even_silent:
        query = query.where(Suppression.reason.not_in(SILENT))
    session.execute(query)


def is_subscriber(
    session: Session, address_hash: str | InstrumentedAttribute[str]
) -> ColumnElement[bool]:
    """Hold for the Subscriber with a hash; by its index, a look into each wave."""
    last = session.scalar(select(func.max(Subscriber.wave))) or 0
    return and_(
        Subscriber.wave.in_(range(last + 1)), Subscriber.address_hash == address_hash
    )


def _covers(newsletter_id: int | None) -> ColumnElement[bool]:
    return or_(
        Suppression.newsletter_id.is_(None), Suppression.newsletter_id == newsletter_id
    )


def _subscriptions(
    session: Session, address_hash: str, newsletter_id: int | None
) -> list[Subscription]:
    query = (
        select(Subscription)
        .join(Subscriber)
        .where(is_subscriber(session, address_hash))
        .order_by(Subscription.id)
        .with_for_update(of=Subscription, key_share=True)
    )
    if newsletter_id is not None:
        query = query.where(Subscription.newsletter_id == newsletter_id)
    return list(session.scalars(query))
