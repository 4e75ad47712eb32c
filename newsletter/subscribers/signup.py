"""Signing up: the request, the confirmation, the welcome, and "never again".

A request changes nothing for the person: it records the wish and asks at the address.
Only the answer, from a link that this address alone was sent, makes a reader.

From outside, every state of an address looks the same, and takes the same time. Inside:

    state of the address        what a request does
    unknown, pending            a pending subscription, a confirmation mail
    left, bounced, erased       the same; the state stays until they confirm
    active, paused              "you already subscribe", nothing else
    never again, complained     nothing at all
    over the limits of gate.py  nothing at all
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import literal_column, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import N_, ExpiredLink, InvalidLink
from newsletter.mail import outbox
from newsletter.models import AWAITED, Newsletter, Status, Subscriber, Subscription
from newsletter.subscribers import (
    asking,
    consent,
    gate,
    letters,
    starting,
    suppression,
)
from newsletter.subscribers.addresses import (
    mailbox_hash,
    read_address,
)
from newsletter.subscribers.consent import Origin as Origin
from newsletter.subscribers.payloads import fields
from newsletter.subscribers.purge import delete_subscriptions

UNCONFIRMED_DAYS = 7
AWAITING = (Status.PENDING, Status.LEFT, Status.SUPPRESSED)
State = Literal["ready", "confirmed", "expired", "void", "invalid"]


@dataclass(frozen=True, slots=True)
class ConfirmationView:
    """What a confirmation link leads to, before anyone presses the button."""

    newsletter: Newsletter | None  # None where the link says nothing we know
    subscription: Subscription | None
    state: State


def request_subscription(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    email: str,
    *,
    origin: Origin,
    language: str | None = None,
    rhythm: str | None = None,
    topics: Sequence[str] | None = None,
    now: datetime,
) -> None:
    """Record a wish to subscribe and queue the confirmation mail.

    Says nothing about whether the address is known. A language, rhythm or topic that
    is not offered counts as not chosen.

    Raises InvalidInput if `email` is not an address, TooMany if the network or the
    whole world signs up too often; neither depends on who subscribes.
    """
    address = read_address(email, trial=settings.demo)
    gate.check_ways_in(session, settings, origin.network, now=now)
    mailbox = mailbox_hash(settings, address)
    gate.hold(session, mailbox)
    wishes = asking.read_wishes(session, newsletter, language, rhythm, topics)
    if asking.is_closed(session, settings, address.key, newsletter, mailbox, now):
        # The same work for nobody, taken back: silence takes as long as an answer.
        with asking.taken_back(session):
            address = read_address(f"{links.new_token().strip('-_')}@nobody.example")
            somebody = asking.subscription_of(
                session, settings, newsletter, address, now
            )
            asking.ask(session, settings, somebody, mailbox, origin, wishes, now)
    else:
        subscription = asking.subscription_of(
            session, settings, newsletter, address, now
        )
        asking.ask(session, settings, subscription, mailbox, origin, wishes, now)
    gate.count_way_in(session, settings, origin.network, mailbox, now=now)


def look_at_confirmation(
    session: Session, settings: Settings, token: str, *, now: datetime
) -> ConfirmationView:
    """Tell what a confirmation link would do. Changes nothing."""
    expired = False
    try:
        try:
            payload: Any = links.read(settings, links.CONFIRM, token).payload
        except ExpiredLink as error:
            payload, expired = error.payload, True
        subscription = _of_payload(session, payload)
    except InvalidLink:
        return ConfirmationView(None, None, "invalid")
    if subscription is None:
        return ConfirmationView(None, None, "expired" if expired else "void")
    state: State = "void"
    if subscription.round == payload[1]:
        if subscription.status in asking.READING:
            state = "confirmed"
        elif expired:
            state = "expired"
        elif not _is_silent(session, subscription):
            state = "ready"
    return ConfirmationView(subscription.newsletter, subscription, state)


def confirm(
    session: Session,
    settings: Settings,
    token: str,
    *,
    origin: Origin,
    now: datetime,
) -> Subscription:
    """Make the reader a reader: consent, place in the posts, welcome mail.

    Safe to call twice, also at once: only the first does anything.
    Raises ExpiredLink; InvalidLink if the link is forged, or void because the reader
    has left or forbidden mail since.
    """
    payload = links.read(settings, links.CONFIRM, token).payload
    subscription = _of_payload(session, payload)
    if subscription is None or subscription.round != payload[1]:
        raise _void()
    if subscription.status in asking.READING:
        return subscription
    if _is_silent(session, subscription):
        raise _void()
    if not _activate(session, subscription, payload[1], now):
        return _confirmed_elsewhere(session, subscription)
    suppression.lift(
        session, subscription.subscriber.address_hash, subscription.newsletter_id
    )
    consent.record(session, subscription, consent.CONFIRMED, origin, now=now)
    welcome(session, settings, subscription, now=now)
    return subscription


def send_again(
    session: Session,
    settings: Settings,
    token: str,
    *,
    origin: Origin,
    now: datetime,
) -> None:
    """Send a new confirmation mail to whom an old link was sent, within the limits.

    Raises InvalidLink if the link was never ours, TooMany as `request_subscription`.
    """
    try:
        payload = links.read(settings, links.CONFIRM, token).payload
    except ExpiredLink as error:
        payload = error.payload
    gate.check_ways_in(session, settings, origin.network, now=now)
    subscription = _of_payload(session, payload)
    if subscription is None:
        return
    address = read_address(subscription.subscriber.email, trial=settings.demo)
    mailbox = mailbox_hash(settings, address)
    gate.hold(session, mailbox)
    newsletter = subscription.newsletter
    if not asking.is_closed(session, settings, address.key, newsletter, mailbox, now):
        asking.ask(
            session, settings, subscription, mailbox, origin, asking.Wishes(), now
        )
    gate.count_way_in(session, settings, origin.network, mailbox, now=now)


def look_at_never(settings: Settings, token: str) -> None:
    """Tell whether a "never again" link is ours. Raises ExpiredLink or InvalidLink."""
    _hash_to_forget(settings, token)


def never_again(
    session: Session, settings: Settings, token: str, *, now: datetime
) -> None:
    """Never write to an address again, from any newsletter; keep only its keyed hash.

    Safe to call twice. Raises ExpiredLink or InvalidLink.
    """
    hashed = _hash_to_forget(settings, token)
    suppression.suppress(session, hashed, reason=suppression.NEVER, now=now)
    never_confirmed = (
        select(Subscription.id)
        .join(Subscriber)
        .where(
            suppression.is_subscriber(session, hashed),
            Subscription.confirmed_at.is_(None),
        )
    )
    delete_subscriptions(session, list(session.scalars(never_confirmed)))


def delete_unconfirmed(session: Session, *, now: datetime, limit: int = 1000) -> int:
    """Delete requests that nobody confirmed within a week; return how many.

    At most `limit` at a time: call again while it returns that many.
    """
    query = (
        select(Subscription.id)
        .where(
            literal_column(f"subscription.{AWAITED}"),
            Subscription.requested_at <= now - timedelta(days=UNCONFIRMED_DAYS),
        )
        .order_by(Subscription.requested_at)
        .limit(limit)
    )
    return delete_subscriptions(session, list(session.scalars(query)))


def welcome(
    session: Session, settings: Settings, subscription: Subscription, *, now: datetime
) -> None:
    """Queue the welcome mail: one for each time somebody becomes a reader."""
    outbox.queue_single(
        session,
        letters.welcome(session, settings, subscription),
        address=subscription.subscriber.email,
        occasion=f"welcome:{subscription.id}:{subscription.round}",
        now=now,
        subscription_id=subscription.id,
        newsletter_id=subscription.newsletter_id,
    )


def _is_silent(session: Session, subscription: Subscription) -> bool:
    found = suppression.reasons(
        session, subscription.subscriber.address_hash, subscription.newsletter_id
    )
    return bool(found & suppression.SILENT)


def _activate(
    session: Session, subscription: Subscription, round_: int, now: datetime
) -> bool:
    """Turn a waiting subscription into an active one; False if somebody else did."""
    position = starting.starting_position(
        session, subscription.newsletter, subscription.rhythm
    )
    result = session.execute(
        update(Subscription)
        .where(
            Subscription.id == subscription.id,
            Subscription.round == round_,
            Subscription.status.in_(AWAITING),
        )
        .values(
            status=Status.ACTIVE,
            confirmed_at=now,
            left_at=None,
            paused_until=None,
            # Someone who comes back never gets again what they were sent.
            cursor=max(position, subscription.cursor),
        )
        .execution_options(synchronize_session=False)
    )
    session.refresh(subscription)
    assert isinstance(result, CursorResult)  # noqa: S101 (for the type checker)
    return result.rowcount == 1


def _confirmed_elsewhere(session: Session, subscription: Subscription) -> Subscription:
    """Answer the loser of a race: content if the winner confirmed, void if it left."""
    if subscription.status in asking.READING:
        return subscription
    raise _void()


def _of_payload(session: Session, payload: Any) -> Subscription | None:
    number, _, fingerprint = fields(payload, int, int, str)
    subscription = session.get(Subscription, number)
    if subscription is None:
        return None
    same = subscription.subscriber.address_hash.startswith(fingerprint)
    return subscription if same else None


def _hash_to_forget(settings: Settings, token: str) -> str:
    (hashed,) = fields(links.read(settings, links.NEVER, token).payload, str)
    return str(hashed)


def _void() -> InvalidLink:
    return InvalidLink(
        N_("This link is no longer valid. Sign up again to get a new one.")
    )
