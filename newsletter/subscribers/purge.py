"""Taking a person's traces out of the database: rows, mails to them, addresses."""

from collections.abc import Sequence

from sqlalchemy import (
    Executable,
    String,
    cast,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.orm import Session

from newsletter.models import Delivery, Kind, Message, Subscriber, Subscription

BATCH = 500
FETCH = {"synchronize_session": "fetch"}  # objects in the session learn of it too
ERASED_PREFIX = "erased:"  # and the delivery's id: no address has a colon there


def delete_subscriptions(session: Session, subscription_ids: Sequence[int]) -> int:
    """Delete subscriptions with all that hangs on them; return how many.

    Mail to them alone goes too. Of an issue's deliveries only the count stays, without
    the address. A subscriber with no subscription left is gone as well.
    """
    for start in range(0, len(subscription_ids), BATCH):
        _delete_batch(session, subscription_ids[start : start + BATCH])
    return len(subscription_ids)


def delete_test_mails(session: Session, email: str) -> None:
    """Delete test mails that editors had sent to an address."""
    to_them = select(Delivery.message_id).where(
        func.lower(Delivery.address) == email.lower(), Delivery.lane == 0
    )
    session.execute(
        delete(Message).where(Message.kind == Kind.TEST, Message.id.in_(to_them)),
        execution_options=FETCH,
    )


def _delete_batch(session: Session, ids: Sequence[int]) -> None:
    session.flush()
    of_them = Delivery.subscription_id.in_(ids)
    single = select(Delivery.message_id).where(of_them, Delivery.lane == 0)
    subscribers = select(Subscription.subscriber_id).where(Subscription.id.in_(ids))
    subscriber_ids = list(session.scalars(subscribers))
    has_another = exists().where(Subscription.subscriber_id == Subscriber.id)
    statements: list[Executable] = [
        # Their own mails hold links and, for a change of address, the new address.
        delete(Message).where(Message.id.in_(single)),
        update(Delivery)
        .where(of_them)
        .values(
            address=literal(ERASED_PREFIX).concat(cast(Delivery.id, String)),
            subscription_id=None,
            reply=None,  # servers quote the address in their answers
        ),
        delete(Subscription).where(Subscription.id.in_(ids)),
        delete(Subscriber).where(Subscriber.id.in_(subscriber_ids), ~has_another),
    ]
    for statement in statements:
        session.execute(statement, execution_options=FETCH)
