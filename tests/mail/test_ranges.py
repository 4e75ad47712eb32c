"""Claims by ranges: leases, the mark, and everyone once whatever workers do.

More examples than the suite runs: LEDGER_EXAMPLES=2000.
"""

import os
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from newsletter.db import Database
from newsletter.mail import ledger, outbox
from newsletter.mail.ledger import LEASE, Claim, Outcome
from newsletter.models import (
    ClaimMark,
    Delivery,
    DeliveryState,
    Kind,
    Lease,
    Message,
    MessageState,
    Newsletter,
    Status,
    Subscription,
)
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.letters import make_letter, queue_issue
from tests.mail.test_kill import queue

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "0")) or 25
READERS = 7
SENT, DEFERRED = DeliveryState.SENT, DeliveryState.DEFERRED
BOUNCED, QUEUED = DeliveryState.BOUNCED, DeliveryState.QUEUED
SKIPPED, CLAIMED = DeliveryState.SKIPPED, DeliveryState.CLAIMED
LATER = NOW + 2 * LEASE


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture
def message(session: Session, newsletter: Newsletter) -> Message:
    """An issue to seven readers."""
    for _ in range(READERS):
        make_subscription(session, newsletter)
    return queue_issue(session, newsletter)


def claim(
    session: Session,
    message: Message,
    worker: str = "one",
    limit: int = 3,
    now: datetime = NOW,
) -> list[Claim]:
    return ledger.claim(
        session, worker=worker, limit=limit, now=now, message_id=message.id
    ).claims


def settle(
    session: Session,
    worker: str,
    claims: list[Claim],
    state: DeliveryState = SENT,
    now: datetime = NOW,
) -> None:
    at = now + timedelta(minutes=5) if state is DEFERRED else None
    outcomes = [
        Outcome(claim.id, claim.message_id, state, "250 Ok", next_attempt_at=at)
        for claim in claims
    ]
    ledger.settle(session, worker, outcomes, now=now)


def rows(session: Session) -> list[Delivery]:
    session.expire_all()
    return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def states(session: Session) -> list[DeliveryState]:
    return [row.state for row in rows(session)]


def leases(session: Session) -> list[tuple[str, int, int]]:
    query = select(Lease.worker, Lease.first_id, Lease.last_id).order_by(Lease.id)
    return [(worker, first, last) for worker, first, last in session.execute(query)]


def counts(session: Session, message: Message) -> ledger.Counts:
    return ledger.counts(session, issue_id=message.issue_id or 0)


def test_a_claim_writes_one_lease_and_no_row(
    session: Session, message: Message
) -> None:
    assert counts(session, message) == ledger.Counts(total=READERS, queued=READERS)
    claims = claim(session, message)
    ids = [row.id for row in rows(session)]
    assert [found.id for found in claims] == ids[:3]
    assert states(session) == [QUEUED] * READERS
    assert leases(session) == [("one", ids[0], ids[2])]
    assert session.scalars(select(Lease.lease_until)).one() == NOW + LEASE
    assert session.get_one(ClaimMark, message.id).last_id == ids[2]
    found = counts(session, message)
    assert (found.claimed, found.queued, found.left) == (3, READERS - 3, READERS)
    assert ledger.waiting(session, 99) == READERS - 3


def test_two_workers_never_get_the_same_row(session: Session, message: Message) -> None:
    taken = [
        found.id
        for worker in ("one", "two", "one", "two")
        for found in claim(session, message, worker, limit=2)
    ]
    assert taken == [row.id for row in rows(session)]


def test_who_is_unwanted_within_a_range_is_skipped(
    session: Session, newsletter: Newsletter
) -> None:
    for status in (Status.ACTIVE, Status.ACTIVE, Status.ACTIVE, Status.ACTIVE):
        make_subscription(session, newsletter, status=status)
    message = queue_issue(session, newsletter)
    first, second, third, _ = session.scalars(
        select(Subscription).order_by(Subscription.id)
    )
    first.status, second.status = Status.LEFT, Status.PAUSED
    third.status = Status.SUPPRESSED
    session.flush()
    [last] = claim(session, message, limit=4)
    found = rows(session)
    assert [row.reason for row in found] == ["left", "paused", "suppressed", None]
    assert [row.state for row in found] == [SKIPPED] * 3 + [QUEUED]
    assert leases(session) == [("one", last.id, last.id)]
    assert counts(session, message).claimed == 1
    settle(session, "one", [last])
    session.refresh(message)
    assert message.state is MessageState.DONE


def test_the_rest_of_an_expired_range_is_sent_again_and_marked(
    session: Session, message: Message
) -> None:
    first, second, third = claim(session, message)
    settle(session, "one", [first, third])
    assert not ledger.is_due(session, now=NOW + LEASE)
    assert ledger.recover_expired(session, now=NOW + LEASE) == 0
    assert ledger.is_due(session, now=LATER)
    assert ledger.recover_expired(session, now=LATER) == 1
    found = rows(session)
    assert [row.resent for row in found] == [False, True] + [False] * 5
    assert [row.attempts for row in found[:3]] == [1, 1, 1]
    assert leases(session) == []
    again = claim(session, message, "two", limit=9)
    assert [a.id for a in again] == [second.id, *(row.id for row in found[3:])]
    assert [row.state for row in rows(session)[:3]] == [SENT, CLAIMED, SENT]


def test_what_a_dead_worker_had_given_back_before_is_not_marked(
    session: Session, message: Message
) -> None:
    _unknown, given_back, put_off = claim(session, message)
    ledger.release(session, "one", [given_back.id])
    settle(session, "one", [put_off], DEFERRED)
    assert ledger.requeue_due(session, now=LATER + timedelta(hours=1)) == 1
    assert ledger.recover_expired(session, now=LATER) == 1
    found = rows(session)[:3]
    assert [(row.resent, row.attempts) for row in found] == [
        (True, 1),
        (False, 0),
        (False, 1),
    ]


def test_what_a_graceful_stop_gives_back_is_not_marked(
    session: Session, message: Message
) -> None:
    first, *rest = claim(session, message)
    settle(session, "one", [first])
    ledger.release(session, "one", [found.id for found in rest])
    ledger.forget_leases(session, "one")
    assert leases(session) == []
    found = counts(session, message)
    assert (found.claimed, found.queued, found.sent) == (0, READERS - 1, 1)
    assert ledger.recover_expired(session, now=LATER) == 0
    again = claim(session, message, "two", limit=9)
    assert [a.id for a in again] == [row.id for row in rows(session)[1:]]
    assert not any(row.resent or row.attempts > 1 for row in rows(session))


def test_a_lease_is_kept_as_long_as_it_holds_anything(
    session: Session, message: Message
) -> None:
    first, second, third = claim(session, message)
    settle(session, "one", [first, third])
    ledger.forget_leases(session, "one")
    assert len(leases(session)) == 1
    settle(session, "one", [second])
    ledger.forget_leases(session, "two")
    assert len(leases(session)) == 1
    ledger.forget_leases(session, "one")
    assert leases(session) == []


def test_a_message_is_not_closed_while_one_reader_is_in_hand(
    session: Session, message: Message
) -> None:
    *most, last = claim(session, message, limit=READERS)
    state = select(Message.state).where(Message.id == message.id)
    settle(session, "one", most)
    assert session.scalar(state) is MessageState.OPEN
    settle(session, "one", [last])
    assert session.scalar(state) is MessageState.DONE


def test_only_the_lease_of_what_is_in_hand_is_renewed(
    session: Session, message: Message
) -> None:
    lost, kept = claim(session, message), claim(session, message)
    others = claim(session, message, "two", limit=1)
    ids = [found.id for found in (kept[1], *others)]
    ledger.renew(session, "one", ids, now=NOW + LEASE)
    assert ledger.recover_expired(session, now=LATER - timedelta(seconds=1)) == 4
    marked = [row.id for row in rows(session) if row.resent]
    assert marked == [found.id for found in lost + others]


def test_a_late_yes_after_a_takeover_is_believed_and_nothing_else(
    session: Session, message: Message
) -> None:
    yes, no, taken = claim(session, message)
    ledger.recover_expired(session, now=LATER)
    first, second, third = claim(session, message, "two", limit=9)[:3]
    assert [first.id, second.id, third.id] == [yes.id, no.id, taken.id]
    ledger.release(session, "two", [yes.id, no.id])
    settle(session, "one", [yes, taken])
    settle(session, "one", [no], BOUNCED)
    ledger.release(session, "one", [no.id])
    assert states(session)[:3] == [SENT, QUEUED, CLAIMED]
    assert rows(session)[0].resent


def test_a_yes_is_written_over_a_reader_who_was_taken_out_meanwhile(
    session: Session, message: Message
) -> None:
    """As after a claim and a farewell in the same moment, or a takeover."""
    first, second, _ = claim(session, message)
    for row in rows(session)[:2]:
        row.state, row.reason = SKIPPED, "left"
    session.flush()
    settle(session, "one", [first])
    settle(session, "one", [second], DEFERRED)
    assert states(session)[:2] == [SENT, SKIPPED]


def test_what_is_in_hand_cannot_be_given_back_by_another(
    session: Session, message: Message
) -> None:
    first, *_ = claim(session, message)
    ledger.release(session, "two", [first.id])
    assert len(claim(session, message, "two", limit=9)) == READERS - 3


def test_leaving_takes_out_what_waits_but_not_what_is_in_hand(
    session: Session, message: Message
) -> None:
    in_hand, *_ = claim(session, message, limit=1)
    taken = [
        ledger.skip_subscription(
            session, row.subscription_id or 0, reason="left", now=NOW
        )
        for row in rows(session)[:2]
    ]
    assert taken == [0, 1]
    assert states(session)[:3] == [QUEUED, SKIPPED, QUEUED]
    ledger.release(session, "one", [in_hand.id])
    reader = rows(session)[0].subscription_id or 0
    assert ledger.skip_subscription(session, reader, reason="left", now=NOW) == 1


def test_pausing_and_cancelling_within_a_range(
    session: Session, message: Message
) -> None:
    issue_id = message.issue_id or 0
    on_the_wire, put_off, unused = claim(session, message)
    ledger.pause(session, issue_id)
    assert claim(session, message, "two") == []
    settle(session, "one", [on_the_wire])
    settle(session, "one", [put_off], DEFERRED)
    assert ledger.cancel(session, issue_id, now=NOW) == READERS - 2
    found = counts(session, message)
    assert (found.sent, found.claimed, found.skipped) == (1, 1, READERS - 2)
    assert states(session) == [SENT, SKIPPED, QUEUED] + [SKIPPED] * (READERS - 3)
    ledger.release(session, "one", [unused.id])
    assert states(session)[2] == SKIPPED
    assert ledger.sweep_cancelled(session, now=NOW) == 0


def test_what_was_in_hand_when_a_cancelled_issues_worker_died_is_unknown(
    session: Session, message: Message
) -> None:
    claim(session, message)
    ledger.cancel(session, message.issue_id or 0, now=NOW)
    assert ledger.recover_expired(session, now=LATER) == 3
    assert [row.reason for row in rows(session)[:3]] == ["unknown"] * 3


def test_a_range_is_of_one_issue_whatever_lies_between(
    session: Session, newsletter: Newsletter
) -> None:
    for _ in range(2):
        make_subscription(session, newsletter)
    one, two = queue_issue(session, newsletter), queue_issue(session, newsletter)
    for row, message in zip(rows(session), (one, two, one, two), strict=True):
        row.message_id = message.id
    session.flush()
    assert len(claim(session, one)) == len(claim(session, two, "two", now=LATER)) == 2
    assert counts(session, one).claimed == counts(session, two).claimed == 2
    assert ledger.recover_expired(session, now=LATER) == 2
    assert [row.resent for row in rows(session)] == [True, False, True, False]
    assert counts(session, two).claimed == 2


def test_a_mark_that_is_locked_is_passed_by(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        for _ in range(3):
            make_subscription(session, newsletter)
        message = queue_issue(session, newsletter)
    with database.transaction() as one, database.transaction() as two:
        assert len(claim(one, message, limit=2)) == 2
        found = ledger.claim(two, worker="two", limit=2, now=NOW, message_id=message.id)
        assert (found.claims, found.is_busy) == ([], True)
    with database.transaction() as two:
        found = ledger.claim(two, worker="two", limit=2, now=NOW, message_id=message.id)
        assert (len(found.claims), found.is_busy) == (1, False)


class World:
    """Workers, readers and a relay, all at odds; and what really happened."""

    def __init__(self, session: Session, message: Message) -> None:
        self.session = session
        self.message = message
        self.now = NOW
        self.in_hand: defaultdict[int, dict[int, Claim]] = defaultdict(dict)
        self.on_wire: defaultdict[int, dict[int, Claim]] = defaultdict(dict)
        self.handed_over: Counter[int] = Counter()
        self.free: set[int] = set()  # who may be in several hands: a lease was over

    def do(self, action: str, worker: int, number: int) -> None:
        getattr(self, action)(worker, number)
        self.check()

    def claim(self, worker: int, number: int) -> None:
        now = self.now + timedelta(seconds=(-20, 0, 20)[worker])  # clocks differ
        for found in claim(self.session, self.message, str(worker), number, now):
            assert found.id in self.free or not self.is_held(found.id)
            self.in_hand[worker][found.id] = found

    def is_held(self, key: int) -> bool:
        hands = (*self.in_hand.values(), *self.on_wire.values())
        return any(key in hand for hand in hands)

    def hand_over(self, worker: int, number: int) -> None:
        for key in list(self.in_hand[worker])[:number]:
            self.handed_over[key] += 1
            self.on_wire[worker][key] = self.in_hand[worker].pop(key)

    def yes(self, worker: int, number: int) -> None:
        keys = list(self.on_wire[worker])[-number:]
        claims = [self.on_wire[worker].pop(key) for key in keys]
        settle(self.session, str(worker), claims, now=self.now)

    def not_now(self, worker: int, number: int) -> None:
        claims = [self.in_hand[worker].pop(k) for k in list(self.in_hand[worker])[:1]]
        settle(self.session, str(worker), claims, DEFERRED, now=self.now)

    def release(self, worker: int, number: int) -> None:
        keys = list(self.in_hand[worker])[-number:]
        ledger.release(self.session, str(worker), keys)
        for key in keys:
            del self.in_hand[worker][key]

    def die(self, worker: int, number: int) -> None:
        self.free |= {*self.in_hand.pop(worker, ()), *self.on_wire.pop(worker, ())}

    def chores(self, worker: int, number: int) -> None:
        self.now += timedelta(seconds=20)
        keys = [*self.in_hand[worker], *self.on_wire[worker]]
        ledger.renew(self.session, str(worker), keys, now=self.now)
        ledger.forget_leases(self.session, str(worker))
        ledger.recover_expired(self.session, now=self.now)
        ledger.requeue_due(self.session, now=self.now)
        self.free |= {row.id for row in self.deliveries() if row.resent}

    def leave(self, worker: int, number: int) -> None:
        reader = self.deliveries()[number].subscription_id or 0
        self.session.get_one(Subscription, reader).status = Status.LEFT
        self.session.flush()
        ledger.skip_subscription(self.session, reader, reason="left", now=self.now)

    def pause(self, worker: int, number: int) -> None:
        ledger.pause(self.session, self.message.issue_id or 0)

    def resume(self, worker: int, number: int) -> None:
        ledger.resume(self.session, self.message.issue_id or 0)

    def deliveries(self) -> list[Delivery]:
        of_message = Delivery.message_id == self.message.id
        self.session.expire_all()
        query = select(Delivery).where(of_message).order_by(Delivery.id)
        return list(self.session.scalars(query))

    def check(self) -> None:
        """The figures are those of the rows, one by one, and of the leases."""
        deliveries = self.deliveries()
        held = [range(first, last + 1) for _, first, last in leases(self.session)]
        mark = self.session.get_one(ClaimMark, self.message.id).last_id
        found: Counter[str] = Counter()
        for row in deliveries:
            state = row.state
            if state is QUEUED and row.next_attempt_at is None:
                if any(row.id in ids for ids in held):
                    state = CLAIMED
                else:
                    assert row.id > mark, "lost"
            found[state] += 1
        expected = ledger.Counts(
            **found,
            total=READERS,
            resent=sum(row.resent for row in deliveries),
        )
        assert counts(self.session, self.message) == expected

    def finish(self) -> None:
        """Let everybody die, and one more worker do what is left."""
        for worker in range(3):
            self.die(worker, 0)
        self.resume(0, 0)
        for _ in range(3):
            self.now += 2 * LEASE + timedelta(minutes=5)
            self.chores(0, 0)
            self.claim(0, 99)
            self.hand_over(0, 99)
            self.yes(0, 99)
        self.chores(0, 0)
        for row in self.deliveries():
            assert row.state in {SENT, SKIPPED}
            assert (row.state is SENT) == bool(self.handed_over[row.id]) or row.resent
            assert row.resent or self.handed_over[row.id] <= 1, "twice, not marked"
            assert self.handed_over[row.id] or row.reason == "left", "lost"
        self.session.refresh(self.message)
        assert self.message.state is MessageState.DONE
        assert leases(self.session) == []


WHAT = ["claim"] * 4 + ["hand_over"] * 3 + ["yes"] * 3 + ["chores"] * 2
WHAT += ["not_now", "release", "die", "leave", "pause", "resume"]
STEPS = st.lists(
    st.tuples(st.sampled_from(WHAT), st.integers(0, 2), st.integers(1, READERS - 1)),
    min_size=5,
    max_size=25,
)


@tries(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_whatever_workers_do_everyone_gets_it_and_repeats_are_marked(
    session: Session, steps: list[tuple[str, int, int]]
) -> None:
    found = session.scalars(select(Newsletter)).one_or_none()
    if found is None:
        found = make_newsletter(session)
        for _ in range(READERS):
            make_subscription(session, found)
    for reader in session.scalars(select(Subscription)):
        reader.status = Status.ACTIVE
    session.flush()
    world = World(session, queue_issue(session, found))
    for action, worker, number in steps:
        world.do(action, worker, number)
    world.finish()


def test_single_mails_are_not_counted_by_a_mark(
    session: Session, message: Message
) -> None:
    outbox.queue_single(
        session, make_letter(Kind.CONFIRM), address="a@b.example", occasion="x", now=NOW
    )
    single = ledger.claim(session, worker="one", limit=9, now=NOW).claims
    assert [found.lane for found in single] == [ledger.SINGLE]
    assert states(session)[-1] == CLAIMED
    assert leases(session) == []


def test_a_message_is_closed_without_a_walk_through_the_ledger(
    database: Database,
) -> None:
    """PostgreSQL takes every delivery for this message's, and asks by message still."""
    if database.is_sqlite:
        pytest.skip("only PostgreSQL plans by what it has counted")
    queue(database, 3_000)
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    with database.transaction() as session:
        session.execute(text("ANALYZE delivery"))
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", note)
        ledger.close_settled(session, [1])
        event.remove(connection, "before_cursor_execute", note)
        (statement, values) = asked[0]
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars()
        walks = [line for line in plan if "using pk_delivery" in line]
    assert len(walks) <= 1  # a lease's deliveries lie side by side


def test_a_message_is_closed_without_a_walk_through_what_it_sent(
    database: Database,
) -> None:
    if not database.is_sqlite:
        pytest.skip("only SQLite counts its steps")
    queue(database, 3_000)
    steps: list[int] = []

    def count() -> int:
        steps.append(100)
        return 0

    with database.transaction() as session:
        ledger.claim(session, worker="one", limit=2_900, now=NOW, message_id=1)
        connection = session.connection().connection.driver_connection
        assert connection
        connection.set_progress_handler(count, 100)
        ledger.close_settled(session, [1])
        connection.set_progress_handler(None, 0)
    assert sum(steps) < 2_900
