"""A reader's rights: everything we hold about them, and its erasure (GDPR 15, 17, 20).

Both by a fresh link sent to the address: whoever found an old mail gets neither.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import N_, InvalidLink
from newsletter.links import Purpose
from newsletter.mail import ledger, outbox
from newsletter.mail.mime import Letter
from newsletter.models import (
    Consent,
    Delivery,
    FormerToken,
    Message,
    Note,
    Postponed,
    Rate,
    Subscriber,
    Subscription,
    Suppression,
    Wording,
)
from newsletter.subscribers import choices, gate, letters, suppression
from newsletter.subscribers.addresses import mailbox_hash, read_address
from newsletter.subscribers.payloads import fields
from newsletter.subscribers.purge import delete_subscriptions, delete_test_mails

# Columns that `everything_about` leaves out, and why. All others are handed over, so
# that a new one is covered without anybody remembering to.
WITHHELD = {
    "subscription.leave_token": "a key, not a fact: whoever reads the file has it",
    "subscription.preferences_token": "a key",
    "former_token.token": "a key",
    "delivery.worker": "the name of our own process",
    "delivery.lease_until": "how our processes take turns",
    "delivery.lane": "how our processes take turns",
}


def request_data_link(
    session: Session, settings: Settings, subscription: Subscription, *, now: datetime
) -> None:
    """Mail the reader a link to their data; silently not more often than allowed."""
    url = links.signed_url(settings, links.DATA, _payload(subscription))
    letter = letters.data_link(subscription.newsletter, subscription.language, url=url)
    _send(session, settings, subscription, letter, "data", now)


def request_erase_link(
    session: Session, settings: Settings, subscription: Subscription, *, now: datetime
) -> None:
    """Mail the reader a link that erases; silently not more often than allowed."""
    url = links.signed_url(settings, links.ERASE, _payload(subscription))
    letter = letters.erase_link(subscription.newsletter, subscription.language, url=url)
    _send(session, settings, subscription, letter, "erase", now)


def look_at_link(
    session: Session, settings: Settings, purpose: Purpose, token: str
) -> Subscription:
    """Return whose data a DATA or ERASE link is about.

    Raises ExpiredLink or InvalidLink.
    """
    payload = links.read(settings, purpose, token).payload
    subscription = session.get(Subscription, fields(payload, int, str)[0])
    if subscription is not None and _payload(subscription) == payload:
        return subscription
    raise InvalidLink(N_("There is nothing about you here any more."))


def collect_data(session: Session, settings: Settings, token: str) -> dict[str, Any]:
    """Return everything held about who has the link. Raises as `look_at_link`."""
    subscription = look_at_link(session, settings, links.DATA, token)
    return everything_about(session, settings, subscription.subscriber)


def erase(session: Session, settings: Settings, token: str, *, now: datetime) -> None:
    """Erase who has the link. Raises as `look_at_link`."""
    subscription = look_at_link(session, settings, links.ERASE, token)
    erase_subscriber(session, subscription.subscriber, now=now)


def erase_subscriber(
    session: Session, subscriber: Subscriber, *, now: datetime
) -> None:
    """Erase a person: rows, mails, history. What stays is a keyed hash.

    It keeps an import from bringing the address back; the person's own new sign-up
    lifts it. Deliveries of issues stay as counts, without the address.
    """
    email, hashed, subscriber_id = (
        subscriber.email,
        subscriber.address_hash,
        subscriber.id,
    )
    ids = list(
        session.scalars(
            select(Subscription.id).where(Subscription.subscriber_id == subscriber_id)
        )
    )
    for subscription_id in ids:
        ledger.skip_subscription(
            session, subscription_id, reason=suppression.ERASED, now=now
        )
    suppression.remember(session, hashed, reason=suppression.ERASED, now=now)
    delete_test_mails(session, email)
    delete_subscriptions(session, ids)
    session.execute(delete(Subscriber).where(Subscriber.id == subscriber_id))


def everything_about(
    session: Session, settings: Settings, subscriber: Subscriber
) -> dict[str, Any]:
    """Return every fact held about a person, in all newsletters, as plain values."""
    subscriptions = list(
        session.scalars(
            select(Subscription)
            .where(Subscription.subscriber_id == subscriber.id)
            .order_by(Subscription.id)
        )
    )
    ids = [subscription.id for subscription in subscriptions]
    return {
        **_facts(subscriber),
        "subscriptions": [_subscription_facts(session, s) for s in subscriptions],
        "consents": _consents(session, ids),
        "deliveries": _deliveries(session, ids),
        "former_tokens": [
            _facts(row)
            for row in session.scalars(
                select(FormerToken).where(FormerToken.subscription_id.in_(ids))
            )
        ],
        "notes": [
            _facts(row)
            for row in session.scalars(
                select(Note).where(Note.subscription_id.in_(ids)).order_by(Note.id)
            )
        ],
        "waiting_for": [
            _facts(row)
            for row in session.scalars(
                select(Postponed).where(Postponed.subscription_id.in_(ids))
            )
        ],
        "suppressions": [
            _facts(row)
            for row in session.scalars(
                select(Suppression).where(
                    Suppression.address_hash == subscriber.address_hash
                )
            )
        ],
        "limits": _limits(session, settings, subscriber),
    }


def _subscription_facts(session: Session, subscription: Subscription) -> dict[str, Any]:
    return {
        **_facts(subscription),
        "newsletter": subscription.newsletter.slug,
        "topics": choices.chosen_topics(session, subscription) or "all",
    }


def _consents(session: Session, ids: Iterable[int]) -> list[dict[str, Any]]:
    query = (
        select(Consent, Wording)
        .outerjoin(Wording, Consent.wording_id == Wording.id)
        .where(Consent.subscription_id.in_(ids))
        .order_by(Consent.at, Consent.id)
    )
    return [
        {**_facts(step), "wording": wording.text if wording else ""}
        for step, wording in session.execute(query)
    ]


def _deliveries(session: Session, ids: Iterable[int]) -> list[dict[str, Any]]:
    query = (
        select(Delivery, Message.kind, Message.subject)
        .join(Message, Message.id == Delivery.message_id)
        .where(Delivery.subscription_id.in_(ids))
        .order_by(Delivery.id)
    )
    return [
        {**_facts(delivery), "kind": kind.value, "subject": subject}
        for delivery, kind, subject in session.execute(query)
    ]


def _limits(
    session: Session, settings: Settings, subscriber: Subscriber
) -> list[dict[str, Any]]:
    mailbox = mailbox_hash(settings, read_address(subscriber.email, trial=True))
    mailboxes = (mailbox, _own(settings, subscriber.email))
    query = select(Rate).where(or_(*map(gate.is_about, mailboxes)))
    return [_facts(row) for row in session.scalars(query.order_by(Rate.minute))]


def _facts(row: Any) -> dict[str, Any]:
    """Return a row's columns as plain values, less those withheld."""
    table = row.__table__
    return {
        column.name: getattr(row, column.name)
        for column in table.columns
        if f"{table.name}.{column.name}" not in WITHHELD
    }


def _send(
    session: Session,
    settings: Settings,
    subscription: Subscription,
    letter: Letter,
    what: str,
    now: datetime,
) -> None:
    """Queue a mail to the reader's own address, within the limits of any mailbox."""
    email = subscription.subscriber.email
    mailbox = _own(settings, email)
    if not gate.may_mail(session, mailbox, what, now=now):
        return
    outbox.queue_single(
        session,
        letter,
        address=email,
        occasion=f"{what}:{subscription.id}:{int(now.timestamp())}",
        now=now,
        subscription_id=subscription.id,
        newsletter_id=subscription.newsletter_id,
    )
    gate.count_mail(session, mailbox, what, now=now)


def _own(settings: Settings, email: str) -> str:
    """Return the name a mailbox is counted under for mail that only its owner asks for.

    Apart from the strangers' count: nobody can use that up to keep a link from them.
    """
    return f"own:{mailbox_hash(settings, read_address(email, trial=True))}"


def _payload(subscription: Subscription) -> list[Any]:
    # Bound to the address: SQLite gives a deleted row's id away again.
    return [subscription.id, subscription.subscriber.address_hash[:16]]
