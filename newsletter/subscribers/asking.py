"""The request: who is asked at their address, with which mail, and who is not."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import InvalidInput
from newsletter.mail import outbox
from newsletter.mail.mime import Letter
from newsletter.models import Newsletter, Status, Subscriber, Subscription
from newsletter.subscribers import choices, consent, gate, letters, suppression
from newsletter.subscribers.addresses import (
    Address,
    address_hash,
    mailbox_hash,
    read_address,
)
from newsletter.subscribers.consent import Origin

READING = (Status.ACTIVE, Status.PAUSED)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What someone chose with their sign-up; None is the newsletter's own."""

    language: str | None = None
    rhythm: str | None = None
    topic_ids: Sequence[int] | None = None


def ask(
    session: Session,
    settings: Settings,
    subscription: Subscription,
    mailbox: str,
    origin: Origin,
    wishes: Wishes,
    now: datetime,
) -> None:
    """Queue the mail that this state of the subscription calls for."""
    newsletter = subscription.newsletter
    if subscription.status in READING:
        letter = letters.already(settings, newsletter, subscription.language)
        with taken_back(session):
            consent.record(session, subscription, consent.REQUESTED, origin, now=now)
            session.flush()
    else:
        _note(session, subscription, wishes, now)
        consent.record(session, subscription, consent.REQUESTED, origin, now=now)
        letter = _confirmation(
            settings,
            newsletter,
            subscription.language,
            confirmation_payload(subscription),
            subscription.subscriber.address_hash,
        )
    outbox.queue_single(
        session,
        letter,
        address=subscription.subscriber.email,
        occasion=f"confirm:{subscription.id}:{int(now.timestamp())}",
        now=now,
        subscription_id=subscription.id,
        newsletter_id=newsletter.id,
    )
    gate.count_mail(session, mailbox, _occasion(newsletter), now=now)


def ask_imported(
    session: Session, settings: Settings, subscription_id: int, *, now: datetime
) -> None:
    """Send the confirmation mail to someone an editor imported, within the limits."""
    subscription = session.get_one(Subscription, subscription_id)
    address = read_address(subscription.subscriber.email, trial=True)
    mailbox = mailbox_hash(settings, address)
    newsletter = subscription.newsletter
    if not is_closed(session, settings, address.key, newsletter, mailbox, now):
        ask(session, settings, subscription, mailbox, Origin("import"), Wishes(), now)


def read_wishes(
    session: Session,
    newsletter: Newsletter,
    language: str | None,
    rhythm: str | None,
    topics: Sequence[str] | None,
) -> Wishes:
    """Return what was chosen; what is not offered counts as not chosen."""
    if language not in choices.offered_languages(newsletter):
        language = None
    if rhythm not in choices.offered_rhythms(newsletter):
        rhythm = None
    topic_ids = None
    if topics:
        try:
            topic_ids = choices.check_topics(session, newsletter, topics)
        except InvalidInput:
            topic_ids = None
    return Wishes(language, rhythm, topic_ids)


def is_closed(
    session: Session,
    settings: Settings,
    key: str,
    newsletter: Newsletter,
    mailbox: str,
    now: datetime,
) -> bool:
    """Tell whether an address gets no answer: it forbade mail, or had enough of it."""
    hashed = address_hash(settings, key)
    forbidden = suppression.reasons(session, hashed, newsletter.id)
    allowed = gate.may_mail(session, mailbox, _occasion(newsletter), now=now)
    return bool(forbidden & suppression.SILENT) or not allowed


@contextmanager
def taken_back(session: Session) -> Iterator[None]:
    """Do something and undo it."""
    savepoint = session.begin_nested()
    yield
    savepoint.rollback()


def subscription_of(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    address: Address,
    now: datetime,
) -> Subscription:
    """Return this person's subscription, a new pending one where there is none."""
    subscriber = _find_or_add(session, settings, address, now)
    query = select(Subscription).where(
        Subscription.newsletter_id == newsletter.id,
        Subscription.subscriber_id == subscriber.id,
    )
    if found := session.scalar(query):
        return found
    subscription = Subscription(
        newsletter=newsletter,
        subscriber=subscriber,
        status=Status.PENDING,
        language=newsletter.language,
        rhythm=newsletter.default_rhythm,
        leave_token=links.new_token(),
        preferences_token=links.new_token(),
        round=0,
        created_at=now,
    )
    session.add(subscription)
    session.flush()
    return subscription


def confirmation_payload(subscription: Subscription) -> list[Any]:
    """Return what a confirmation link says.

    The piece of the hash binds it to the address: SQLite gives a deleted row's id away
    again.
    """
    fingerprint = subscription.subscriber.address_hash[:16]
    return [subscription.id, subscription.round, fingerprint]


def _find_or_add(
    session: Session, settings: Settings, address: Address, now: datetime
) -> Subscriber:
    """Return the subscriber with this address, locked until the transaction ends."""
    known = (
        select(Subscriber)
        .where(Subscriber.email_key == address.key)
        .with_for_update(of=Subscriber)
    )
    if found := session.scalar(known):
        return found
    session.execute(
        consent.upsert(session, Subscriber)
        .values(
            email=address.email,
            email_key=address.key,
            address_hash=address_hash(settings, address.key),
            name="",
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["email_key"])
    )
    return session.scalars(known).one()


def _confirmation(
    settings: Settings,
    newsletter: Newsletter,
    language: str | None,
    payload: list[Any],
    hashed: str,
) -> Letter:
    return letters.confirmation(
        settings,
        newsletter,
        language or newsletter.language,
        confirm_url=links.signed_url(settings, links.CONFIRM, payload),
        never_url=links.signed_url(settings, links.NEVER, [hashed]),
    )


def _note(
    session: Session, subscription: Subscription, wishes: Wishes, now: datetime
) -> None:
    """Write down the latest wish of someone who is not a reader yet."""
    subscription.requested_at = now
    if wishes.language:
        subscription.language = wishes.language
    if wishes.rhythm:
        subscription.rhythm = wishes.rhythm
    if wishes.topic_ids is not None:
        choices.set_topics(session, subscription, wishes.topic_ids)
    session.flush()


def _occasion(newsletter: Newsletter) -> str:
    return f"confirm:{newsletter.id}"
