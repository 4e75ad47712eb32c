"""The ledger: who may be claimed, how outcomes are written, what a crash leaves."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.orm import Session

from newsletter.db import Database
from newsletter.mail import ledger, outbox
from newsletter.mail.ledger import Outcome
from newsletter.models import (
    Delivery,
    DeliveryState,
    Kind,
    Message,
    MessageState,
    Newsletter,
    Status,
    Subscription,
    Suppression,
)
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.letters import make_letter, queue_issue

ME = "worker-1"


def claim(
    session: Session,
    message: Message | None = None,
    *,
    limit: int = 10,
    worker: str = ME,
    **over: Any,
) -> list[ledger.Claim]:
    message_id = message.id if message else None
    return ledger.claim(
        session, worker=worker, limit=limit, now=NOW, message_id=message_id, **over
    ).claims


def states(session: Session) -> list[DeliveryState]:
    session.expire_all()
    return list(session.scalars(select(Delivery.state).order_by(Delivery.id)))


def the_delivery(session: Session) -> Delivery:
    session.expire_all()
    return session.scalars(select(Delivery)).one()


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture
def reader(session: Session, newsletter: Newsletter) -> Subscription:
    return make_subscription(session, newsletter)


@pytest.fixture
def message(session: Session, newsletter: Newsletter, reader: Subscription) -> Message:
    """An issue in the queue, to one reader."""
    return queue_issue(session, newsletter)


def test_a_claim_brings_what_splicing_needs(
    session: Session, message: Message, reader: Subscription
) -> None:
    [claimed] = claim(session, message)
    assert claimed.address == reader.subscriber.email
    assert claimed.leave_token == reader.leave_token
    assert claimed.preferences_token == reader.preferences_token
    assert (claimed.message_id, claimed.lane, claimed.attempts) == (message.id, 1, 0)


def test_a_single_mail_is_claimed_in_its_row(
    session: Session, newsletter: Newsletter
) -> None:
    letter = make_letter(Kind.CONFIRM)
    outbox.queue_single(
        session, letter, address="ny@exempel.example", occasion="x", now=NOW
    )
    assert claim(session)
    delivery = the_delivery(session)
    assert (delivery.state, delivery.worker) == (DeliveryState.CLAIMED, ME)
    assert delivery.lease_until == NOW + ledger.LEASE


def test_what_is_claimed_is_not_claimed_again(
    session: Session, message: Message
) -> None:
    assert claim(session, message)
    assert claim(session, message, worker="worker-2") == []


def test_a_claim_takes_no_more_than_asked_for(
    session: Session, newsletter: Newsletter
) -> None:
    for _ in range(3):
        make_subscription(session, newsletter)
    message = queue_issue(session, newsletter)
    assert len(claim(session, message, limit=2)) == 2
    assert len(claim(session, message, limit=2)) == 1


def test_single_mails_are_claimed_apart_from_bulk(
    session: Session, message: Message
) -> None:
    outbox.queue_single(
        session,
        make_letter(Kind.CONFIRM),
        address="ny@exempel.example",
        occasion="confirm:1:0",
        now=NOW,
    )
    [single] = claim(session)
    assert (single.address, single.lane) == ("ny@exempel.example", 0)
    assert single.leave_token is None


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.ACTIVE])
def test_a_digest_goes_only_to_an_active_subscription(
    session: Session, message: Message, reader: Subscription, status: Status
) -> None:
    reader.status = status
    session.flush()
    assert claim(session, message) == []
    delivery = the_delivery(session)
    assert (delivery.state, delivery.reason) == (DeliveryState.SKIPPED, status.value)
    assert delivery.settled_at == NOW
    assert delivery.worker is None
    session.refresh(message)
    assert message.state is MessageState.DONE


def test_a_digest_does_not_go_to_an_erased_reader(
    session: Session, message: Message, reader: Subscription
) -> None:
    session.delete(reader)
    session.flush()
    assert claim(session, message) == []
    assert the_delivery(session).reason == "erased"


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("kind", [Kind.DIGEST, Kind.CONFIRM, Kind.ADDRESS])
def test_nothing_goes_to_a_suppressed_address(
    session: Session,
    newsletter: Newsletter,
    reader: Subscription,
    kind: Kind,
    everywhere: bool,
) -> None:
    outbox.queue_single(
        session,
        make_letter(kind),
        address=reader.subscriber.email,
        occasion="x",
        now=NOW,
        subscription_id=reader.id,
        newsletter_id=newsletter.id,
    )
    session.add(
        Suppression(
            address_hash=reader.subscriber.address_hash,
            newsletter_id=None if everywhere else newsletter.id,
            reason="never",
        )
    )
    session.flush()
    assert claim(session) == []
    assert the_delivery(session).reason == "suppressed"


@pytest.mark.parametrize(
    ("kind", "goes"), [(Kind.CONFIRM, 1), (Kind.ERASE, 1), (Kind.DIGEST, 0)]
)
def test_what_the_person_asks_for_anew_goes_to_an_erased_or_bounced_address(
    session: Session,
    newsletter: Newsletter,
    reader: Subscription,
    kind: Kind,
    goes: int,
) -> None:
    outbox.queue_single(
        session,
        make_letter(kind),
        address=reader.subscriber.email,
        occasion="x",
        now=NOW,
        subscription_id=reader.id,
        newsletter_id=newsletter.id,
    )
    hashed = reader.subscriber.address_hash
    session.add(Suppression(address_hash=hashed, reason="erased"))
    session.flush()
    assert len(claim(session)) == goes


def test_a_suppression_for_another_newsletter_does_not_count(
    session: Session, message: Message, reader: Subscription
) -> None:
    other = make_newsletter(session, "annat")
    session.add(
        Suppression(
            address_hash=reader.subscriber.address_hash,
            newsletter_id=other.id,
            reason="never",
        )
    )
    session.flush()
    assert len(claim(session, message)) == 1


@pytest.mark.parametrize(
    ("kind", "status", "goes"),
    [
        (Kind.CONFIRM, Status.PENDING, True),
        (Kind.CONFIRM, Status.LEFT, True),  # they asked to come back
        (Kind.CONFIRM, Status.SUPPRESSED, True),
        (Kind.WELCOME, Status.ACTIVE, True),
        (Kind.WELCOME, Status.SUPPRESSED, False),
        (Kind.DATA, Status.LEFT, True),
        (Kind.ERASE, Status.LEFT, True),
    ],
)
def test_single_mails_look_at_the_subscription_too(
    session: Session,
    newsletter: Newsletter,
    kind: Kind,
    status: Status,
    goes: bool,
) -> None:
    reader = make_subscription(session, newsletter, status=status)
    outbox.queue_single(
        session,
        make_letter(kind),
        address=reader.subscriber.email,
        occasion="x",
        now=NOW,
        subscription_id=reader.id,
        newsletter_id=newsletter.id,
    )
    assert len(claim(session)) == int(goes)


def test_settling_writes_the_reply_and_closes_the_message(
    session: Session, message: Message
) -> None:
    [claimed] = claim(session, message)
    done = Outcome(claimed.id, message.id, DeliveryState.SENT, reply="250 2.0.0 Ok")
    ledger.settle(session, ME, [done], now=NOW)
    delivery = the_delivery(session)
    assert (delivery.state, delivery.reply) == (DeliveryState.SENT, "250 2.0.0 Ok")
    assert (delivery.attempts, delivery.settled_at) == (1, NOW)
    assert delivery.worker is None and delivery.lease_until is None
    session.refresh(message)
    assert message.state is MessageState.DONE


def test_a_deferred_delivery_is_queued_again_when_it_is_due(
    session: Session, message: Message
) -> None:
    [claimed] = claim(session, message)
    at = NOW + timedelta(minutes=5)
    ledger.settle(
        session,
        ME,
        [
            Outcome(
                claimed.id,
                message.id,
                DeliveryState.DEFERRED,
                reply="451 4.7.1 Greylisted",
                reason="greylisted",
                next_attempt_at=at,
            )
        ],
        now=NOW,
    )
    session.refresh(message)
    assert message.state is MessageState.OPEN
    assert ledger.requeue_due(session, now=at - timedelta(seconds=1)) == 0
    assert claim(session, message) == []
    assert ledger.requeue_due(session, now=at) == 1
    [again] = claim(session, message)
    assert (again.id, again.attempts) == (claimed.id, 1)


def test_many_outcomes_are_settled_at_once(
    session: Session, newsletter: Newsletter
) -> None:
    for _ in range(4):
        make_subscription(session, newsletter)
    message = queue_issue(session, newsletter)
    wanted = [
        DeliveryState.SENT,
        DeliveryState.DEFERRED,
        DeliveryState.BOUNCED,
        DeliveryState.FAILED,
    ]
    outcomes = [
        Outcome(
            claimed.id,
            message.id,
            state,
            reply=f"reply {claimed.id}",
            next_attempt_at=NOW if state is DeliveryState.DEFERRED else None,
        )
        for claimed, state in zip(claim(session, message), wanted, strict=True)
    ]
    ledger.settle(session, ME, outcomes, now=NOW)
    assert states(session) == wanted
    for delivery in session.scalars(select(Delivery)):
        assert delivery.reply == f"reply {delivery.id}"
    found = ledger.counts(session, issue_id=message.issue_id or 0)
    assert (found.total, found.sent, found.deferred) == (4, 1, 1)
    assert (found.bounced, found.failed, found.left) == (1, 1, 1)


def test_released_claims_are_as_before(session: Session, message: Message) -> None:
    [claimed] = claim(session, message)
    ledger.release(session, ME, [claimed.id])
    assert states(session) == [DeliveryState.QUEUED]
    [again] = claim(session, message, worker="worker-2")
    assert again == claimed


def test_another_workers_claim_cannot_be_released_or_settled(
    session: Session, message: Message
) -> None:
    [claimed] = claim(session, message)
    ledger.release(session, ME, [claimed.id])
    assert claim(session, message)
    ledger.release(session, "worker-2", [claimed.id])
    bounced = Outcome(claimed.id, message.id, DeliveryState.BOUNCED)
    ledger.settle(session, "worker-2", [bounced], now=NOW)
    delivery = the_delivery(session)
    assert (delivery.state, delivery.worker) == (DeliveryState.CLAIMED, ME)


def test_an_expired_claim_is_queued_again_and_marked(
    session: Session, message: Message
) -> None:
    [claimed] = claim(session, message)
    assert ledger.recover_expired(session, now=NOW + ledger.LEASE) == 0
    late = NOW + ledger.LEASE + timedelta(seconds=1)
    assert ledger.recover_expired(session, now=late) == 1
    delivery = the_delivery(session)
    assert (delivery.state, delivery.resent) == (DeliveryState.QUEUED, True)
    assert ledger.counts(session, issue_id=message.issue_id or 0).resent == 1
    [again] = claim(session, message, worker="worker-2")
    assert again.id == claimed.id


def test_a_renewed_lease_does_not_expire(session: Session, message: Message) -> None:
    [claimed] = claim(session, message)
    late = NOW + ledger.LEASE
    ledger.renew(session, ME, [claimed.id], now=late)
    after = late + timedelta(seconds=30)
    assert ledger.recover_expired(session, now=after) == 0


def test_a_late_yes_keeps_an_expired_claim_from_going_twice(
    session: Session, message: Message
) -> None:
    [claimed] = claim(session, message)
    ledger.recover_expired(session, now=NOW + 2 * ledger.LEASE)
    ledger.settle(
        session, ME, [Outcome(claimed.id, message.id, DeliveryState.SENT)], now=NOW
    )
    assert states(session) == [DeliveryState.SENT]


def test_a_newsletter_can_choose_to_hold_what_is_unknown(
    session: Session, newsletter: Newsletter, message: Message
) -> None:
    newsletter.hold_unknown = True
    session.flush()
    claim(session, message)
    ledger.recover_expired(session, now=NOW + 2 * ledger.LEASE)
    delivery = the_delivery(session)
    assert (delivery.state, delivery.reason) == (DeliveryState.FAILED, "unknown")
    assert not delivery.resent


def test_a_paused_issue_is_not_claimed_until_it_goes_on(
    session: Session, message: Message
) -> None:
    issue_id = message.issue_id or 0
    ledger.pause(session, issue_id)
    assert claim(session, message) == []
    assert ledger.waiting(session, 10) == 0
    ledger.resume(session, issue_id)
    assert ledger.waiting(session, 10) == 1
    assert len(claim(session, message)) == 1


def test_a_cancelled_issue_goes_to_nobody_else(
    session: Session, newsletter: Newsletter
) -> None:
    for _ in range(3):
        make_subscription(session, newsletter)
    message = queue_issue(session, newsletter)
    issue_id = message.issue_id or 0
    [on_the_wire] = claim(session, message, limit=1)
    assert ledger.cancel(session, issue_id, now=NOW) == 2
    ledger.release(session, ME, [on_the_wire.id])
    assert states(session) == [DeliveryState.SKIPPED] * 3
    assert ledger.counts(session, issue_id=issue_id).skipped == 3
    session.refresh(message)
    assert message.state is MessageState.CANCELLED


def test_cancelling_a_large_issue_counts_at_once_and_writes_in_pieces(
    session: Session, newsletter: Newsletter
) -> None:
    message = queue_issue(session, newsletter)
    many = ledger.AT_ONCE + 10
    session.execute(
        insert(Delivery),
        [
            {
                "message_id": message.id,
                "occasion": "many",
                "address": f"r{number}@exempel.example",
                "lane": 1,
            }
            for number in range(many)
        ],
    )
    issue_id = message.issue_id or 0
    assert ledger.cancel(session, issue_id, now=NOW) == many
    assert ledger.counts(session, issue_id=issue_id).skipped == many
    assert ledger.sweep_cancelled(session, now=NOW) == 10
    assert ledger.sweep_cancelled(session, now=NOW) == 0


def test_leaving_takes_everything_that_waits_out(
    session: Session, message: Message, reader: Subscription
) -> None:
    assert ledger.skip_subscription(session, reader.id, reason="left", now=NOW) == 1
    delivery = the_delivery(session)
    assert (delivery.state, delivery.reason) == (DeliveryState.SKIPPED, "left")
    session.refresh(message)
    assert message.state is MessageState.DONE


def test_an_edition_nobody_is_queued_for_yet_stays_open(
    session: Session, newsletter: Newsletter
) -> None:
    message = queue_issue(session, newsletter)  # no readers at all
    ledger.close_settled(session)
    session.refresh(message)
    assert message.state is MessageState.OPEN


def test_claims_of_two_workers_never_overlap(database: Database) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        for _ in range(20):
            make_subscription(session, newsletter)
        message = queue_issue(session, newsletter)
        ledger.release(session, ME, [c.id for c in claim(session, message, limit=20)])
    if database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    with database.transaction() as one, database.transaction() as two:
        first = claim(one, message, limit=10)
        second = claim(two, message, limit=10, worker="worker-2")
    found = {c.id for c in first} | {c.id for c in second}
    assert (len(first), len(second), len(found)) == (10, 10, 20)


def test_a_limit_holds_also_where_postgresql_takes_the_ledger_for_empty(
    session: Session, newsletter: Newsletter
) -> None:
    """Its planner then runs the picking once for each row, and each run finds more."""
    for _ in range(5):
        make_subscription(session, newsletter)
    queue_issue(session, newsletter)
    session.execute(delete(Delivery))
    session.execute(text("ANALYZE"))
    message = queue_issue(session, newsletter)
    ledger.release(session, ME, [c.id for c in claim(session, message)])
    assert len(claim(session, message, limit=2)) == 2
    ledger.cancel(session, message.issue_id or 0, now=NOW)
    assert sorted(states(session)) == ["claimed"] * 2 + ["skipped"] * 3
