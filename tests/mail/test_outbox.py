"""The outbox: queueing is safe to repeat, and one statement for all readers."""

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from newsletter.mail import ledger, mime, outbox
from newsletter.models import (
    Delivery,
    DeliveryState,
    Kind,
    Message,
    Status,
    Subscriber,
    Subscription,
)
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.letters import make_issue, make_letter


def readers(newsletter_id: int) -> Select[int, str]:
    return (
        select(
            Subscription.id.label("subscription_id"), Subscriber.email.label("address")
        )
        .join(Subscriber)
        .where(
            Subscription.newsletter_id == newsletter_id,
            Subscription.status == Status.ACTIVE,
        )
    )


def test_a_single_mail_is_queued_once_for_its_occasion(session: Session) -> None:
    letter = make_letter(Kind.CONFIRM)
    values = {"address": "a@exempel.example", "occasion": "confirm:1:0", "now": NOW}
    assert outbox.queue_single(session, letter, **values)  # type: ignore[arg-type]
    assert outbox.queue_single(session, letter, **values) is None  # type: ignore[arg-type]
    delivery = session.scalars(select(Delivery)).one()
    assert (delivery.state, delivery.lane) == (DeliveryState.QUEUED, ledger.SINGLE)
    assert session.scalar(select(func.count(Message.id))) == 1


def test_an_issue_reaches_each_active_reader_once(session: Session) -> None:
    newsletter = make_newsletter(session)
    reader = make_subscription(session, newsletter)
    make_subscription(session, newsletter, status=Status.LEFT)
    message = outbox.store_edition(
        session,
        make_letter(),
        issue_id=make_issue(session, newsletter).id,
        newsletter_id=newsletter.id,
        edition="sv",
        now=NOW,
    )
    audience = readers(newsletter.id)
    assert (
        outbox.queue_readers(session, message, audience, occasion="issue:1", now=NOW)
        == 1
    )
    assert (
        outbox.queue_readers(session, message, audience, occasion="issue:1", now=NOW)
        == 0
    )
    delivery = session.scalars(select(Delivery)).one()
    assert delivery.subscription_id == reader.id
    assert delivery.address == reader.subscriber.email
    assert (delivery.state, delivery.lane) == (DeliveryState.QUEUED, ledger.BULK)
    assert delivery.created_at == NOW


def test_what_is_stored_for_showing_holds_no_field(session: Session) -> None:
    outbox.queue_single(
        session, make_letter(), address="a@b.example", occasion="x", now=NOW
    )
    message = session.scalars(select(Message)).one()
    assert mime.LEAVE not in message.html + message.text
    assert mime.NOBODY in message.html
