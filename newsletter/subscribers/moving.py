"""A new address: asked for, confirmed there, and merged with who already has it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import N_, Conflict, ExpiredLink, InvalidInput, InvalidLink
from newsletter.mail import mime, outbox
from newsletter.models import (
    Status,
    Subscriber,
    Subscription,
    UsedLink,
)
from newsletter.subscribers import consent, gate, letters, suppression
from newsletter.subscribers.addresses import (
    Address,
    address_hash,
    mailbox_hash,
    read_address,
)
from newsletter.subscribers.consent import Origin
from newsletter.subscribers.merging import merge, subscriptions_of
from newsletter.subscribers.payloads import fields


@dataclass(frozen=True, slots=True)
class AddressView:
    """What a link in a mail to a new address leads to."""

    subscription: Subscription | None
    email: str
    state: Literal["ready", "changed", "expired", "void", "invalid"]


@dataclass(frozen=True, slots=True)
class _Request:
    subscription_id: int
    fingerprint: str  # of the address it was asked from
    email: str
    nonce: str


def request_address_change(
    session: Session,
    settings: Settings,
    subscription: Subscription,
    email: str,
    *,
    origin: Origin,
    now: datetime,
) -> None:
    """Ask at a new address whether it is theirs; until then nothing changes.

    Tells nothing about whether the new address subscribes already.
    Raises InvalidInput if it is not an address, or the one they have; TooMany.
    """
    address = read_address(email, trial=settings.demo)
    if address.key == subscription.subscriber.email_key:
        raise InvalidInput(N_("Your mail goes to that address already."), field="email")
    gate.check_ways_in(session, settings, origin.network, now=now)
    mailbox = mailbox_hash(settings, address)
    gate.count_way_in(session, settings, origin.network, mailbox, now=now)
    gate.hold(session, mailbox)
    nonce = links.new_token()
    payload = [
        subscription.id,
        subscription.subscriber.address_hash[:16],
        address.email,
        nonce,
    ]
    url = links.signed_url(settings, links.ADDRESS, payload)
    letter = letters.address_change(
        subscription.newsletter, subscription.language, url=url
    )
    occasion = f"address:{subscription.id}"
    if _is_closed(session, settings, address, mailbox, occasion, now):
        mime.freeze(letter)  # the same work, thrown away: silence takes as long
        return
    outbox.queue_single(
        session,
        letter,
        address=address.email,
        occasion=f"address:{nonce}",
        now=now,
        subscription_id=subscription.id,
        newsletter_id=subscription.newsletter_id,
    )
    gate.count_mail(session, mailbox, occasion, now=now)


def look_at_address_change(
    session: Session, settings: Settings, token: str
) -> AddressView:
    """Tell what a link to a new address would do. Changes nothing."""
    expired = False
    try:
        try:
            payload: Any = links.read(settings, links.ADDRESS, token).payload
        except ExpiredLink as error:
            payload, expired = error.payload, True
        request = _read(payload)
    except InvalidLink:
        return AddressView(None, "", "invalid")
    subscription = session.get(Subscription, request.subscription_id)
    if subscription is None:
        return AddressView(None, request.email, "void")
    if _is_done(subscription, request.email):
        return AddressView(subscription, request.email, "changed")
    usable = _is_asked_by(subscription, request) and not session.get(
        UsedLink, request.nonce
    )
    state: Literal["ready", "expired", "void"] = "ready" if usable else "void"
    if expired and usable:
        state = "expired"
    return AddressView(subscription, request.email, state)


def confirm_address_change(
    session: Session,
    settings: Settings,
    token: str,
    *,
    origin: Origin,
    now: datetime,
) -> Subscription:
    """Move a reader to the address that the link was sent to; works once.

    Who already reads there becomes one with them. Pressing twice is harmless.
    Raises ExpiredLink; InvalidLink if the link is forged, used, or the address has
    changed since.
    """
    request = _read(links.read(settings, links.ADDRESS, token).payload)
    subscription = session.get(Subscription, request.subscription_id)
    if subscription is not None and _is_done(subscription, request.email):
        return subscription
    if (
        subscription is None
        or not _is_asked_by(subscription, request)
        or not _use(session, request.nonce, now)
    ):
        raise InvalidLink(N_("This link has been used, or your address changed since."))
    address = read_address(request.email, trial=True)
    newsletter_id = subscription.newsletter_id
    subscriber = move(session, settings, subscription.subscriber, address, origin, now)
    return session.scalars(
        select(Subscription).where(
            Subscription.subscriber_id == subscriber.id,
            Subscription.newsletter_id == newsletter_id,
        )
    ).one()


def move(
    session: Session,
    settings: Settings,
    subscriber: Subscriber,
    address: Address,
    origin: Origin,
    now: datetime,
) -> Subscriber:
    """Give a subscriber a new address; return whoever has it afterwards.

    Raises Conflict if the person behind the new address forbade all mail.
    """
    hashed = address_hash(settings, address.key)
    forbidden = suppression.reasons(session, hashed, None)
    if forbidden & suppression.SILENT:
        raise Conflict(N_("No mail may go to that address. Choose another."))
    _wake_bounced(session, subscriber)
    there = session.scalar(
        select(Subscriber).where(Subscriber.email_key == address.key).with_for_update()
    )
    if there is None:
        subscriber.email, subscriber.email_key = address.email, address.key
        subscriber.address_hash = hashed
        there = subscriber
    else:
        merge(session, subscriber, there, now)
    session.flush()
    for subscription in subscriptions_of(session, there):
        suppression.lift(session, hashed, subscription.newsletter_id)
        consent.record(session, subscription, consent.ADDRESS_CHANGED, origin, now=now)
    return there


def _is_closed(
    session: Session,
    settings: Settings,
    address: Address,
    mailbox: str,
    occasion: str,
    now: datetime,
) -> bool:
    hashed = address_hash(settings, address.key)
    forbidden = suppression.reasons(session, hashed, None) & suppression.SILENT
    return bool(forbidden) or not gate.may_mail(session, mailbox, occasion, now=now)


def _read(payload: Any) -> _Request:
    return _Request(*fields(payload, int, str, str, str))


def _is_done(subscription: Subscription, email: str) -> bool:
    return subscription.subscriber.email == email


def _is_asked_by(subscription: Subscription, request: _Request) -> bool:
    return subscription.subscriber.address_hash.startswith(request.fingerprint)


def _use(session: Session, nonce: str, now: datetime) -> bool:
    """Use a single-use link up; False if it was used before."""
    used = session.scalar(
        consent.upsert(session, UsedLink)
        .values(nonce=nonce, used_at=now)
        .on_conflict_do_nothing(index_elements=["nonce"])
        .returning(UsedLink.nonce)
    )
    return used is not None


def _wake_bounced(session: Session, subscriber: Subscriber) -> None:
    """Let mail flow again where only the old address stood in the way."""
    for subscription in subscriptions_of(session, subscriber):
        reasons = suppression.reasons(
            session, subscriber.address_hash, subscription.newsletter_id
        )
        if (
            subscription.status == Status.SUPPRESSED
            and subscription.confirmed_at
            and reasons <= {suppression.BOUNCED}
        ):
            subscription.status = Status.ACTIVE
