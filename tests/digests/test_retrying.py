"""What became of an issue by reason and domain; trying those again that can be."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import drafts, publish, retrying
from newsletter.errors import Conflict, InvalidInput
from newsletter.mail import ledger, outcomes
from newsletter.mail.ledger import Outcome
from newsletter.mail.outcomes import Readers
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Message,
    Retry,
    Status,
    Subscriber,
    Subscription,
    Suppression,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription

LATER = NOW + timedelta(hours=1)
EVEN_LATER = NOW + timedelta(hours=2)
FATES = {
    "a@x.example": ("sent", ""),
    "b@x.example": ("bounced", "mailbox_soft"),
    "c@y.example": ("bounced", "sender_blocked"),
    "d@Y.example": ("bounced", "sender_blocked"),
    "e@y.example": ("failed", "unknown"),
    "f@z.example": ("failed", ""),
    "g@z.example": ("deferred", "greylisted"),
    "h@z.example": ("bounced", "mailbox_soft"),
}


@pytest.fixture
def issue(session: Session, settings: Settings) -> Issue:
    return sent(session, settings)


def sent(session: Session, settings: Settings) -> Issue:
    """Send an issue that reaches one of eight."""
    newsletter = make_newsletter(session)
    make_post(session, newsletter)
    for address in FATES:
        make_subscription(session, newsletter, address)
    issue = drafts.draft(session, newsletter, now=NOW)
    publish.send(session, settings, issue, now=NOW)
    settle(session, issue, FATES)
    return issue


def settle(
    session: Session, issue: Issue, fates: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Claim what there is of an issue, as a worker, and let each end as it does."""
    made = []
    query = select(Message.id).where(Message.issue_id == issue.id)
    for message_id in session.scalars(query).all():
        claimed = ledger.claim(
            session, worker="w", limit=50, now=LATER, message_id=message_id
        )
        ends = []
        for claim in claimed.claims:
            state, reason = fates.get(claim.address, ("sent", ""))
            ends.append(
                Outcome(
                    claim.id,
                    message_id,
                    DeliveryState(state),
                    f"550 {reason} {claim.address}",
                    reason,
                    EVEN_LATER if state == "deferred" else None,
                )
            )
            made.append(claim.address)
        ledger.settle(session, "w", ends, now=LATER)
    session.expire_all()
    return made


def of(session: Session, address: str) -> Delivery:
    return session.scalars(
        select(Delivery)
        .where(Delivery.address == address)
        .order_by(Delivery.id)
        .limit(1)
        .execution_options(populate_existing=True)
    ).one()


def possible(session: Session, issue: Issue) -> dict[str, tuple[int, int]]:
    return {
        one.reason: (one.possible, one.readers)
        for one in retrying.choices(session, issue)
    }


def test_reasons_and_domains_are_counted_and_each_is_listed(
    session: Session, issue: Issue
) -> None:
    found = outcomes.reasons(session, issue_id=issue.id, states=outcomes.LISTED)
    told = {(one.state, one.reason): one for one in found}
    assert {key: one.readers for key, one in told.items()} == {
        ("bounced", "mailbox_soft"): 2,
        ("bounced", "sender_blocked"): 2,
        ("deferred", "greylisted"): 1,
        ("failed", "unknown"): 1,
        ("failed", ""): 1,
    }
    assert "b@x.example" in told[DeliveryState.BOUNCED, "mailbox_soft"].reply
    domains = outcomes.domains(session, issue_id=issue.id)
    rows = [(one.name, one.deferred, one.bounced) for one in domains.found]
    assert rows == [("y.example", 0, 3), ("z.example", 1, 2), ("x.example", 0, 1)]
    assert not domains.is_sample

    def listed(**wanted: object) -> set[str]:
        page: Readers = outcomes.listed(session, issue_id=issue.id, **wanted)  # type: ignore[arg-type]
        assert page.after is None
        return {row.address for row in page.deliveries}

    bounced = [DeliveryState.BOUNCED]
    for key, one in told.items():
        assert len(listed(states=[key[0]], reason=key[1])) == one.readers
    assert listed(states=retrying.STATES, domain="y.example") == {
        *("c@y.example", "d@Y.example", "e@y.example")
    }
    assert listed(states=bounced, domain="nobody.example") == set()
    everyone = listed(states=outcomes.LISTED)
    assert len(everyone) == 7
    # Page by page each is there once, whatever the pieces.
    for limit in (1, 2, 3, 100):
        ids: list[int] = []
        after = ""
        while True:
            some, after = outcomes.some_ids(
                session,
                issue_id=issue.id,
                states=outcomes.LISTED,
                reasons=[reason for _state, reason in told],
                after=after,
                limit=limit,
            )
            ids += some
            if not after:
                break
        assert len(ids) == len(set(ids)) == 7
    for nonsense in ("x", "1-2-3-4-5", "9" * 40 + "-bounced--1", "-1-bounced--0"):
        page = outcomes.listed(session, issue_id=issue.id, after=nonsense)
        assert len(page.deliveries) == 6


def test_a_page_ends_where_the_next_begins(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    make_post(session, newsletter)
    names = [f"r{n}@{'xy'[n % 2]}.example" for n in range(outcomes.PAGE + 20)]
    for name in names:
        make_subscription(session, newsletter, name)
    issue = drafts.draft(session, newsletter, now=NOW)
    publish.send(session, settings, issue, now=NOW)
    for _ in range(3):
        settle(session, issue, dict.fromkeys(names, ("bounced", "content")))
    seen: list[str] = []
    after: int | str | None = ""
    while after is not None:
        page = outcomes.listed(session, issue_id=issue.id, after=str(after))
        seen += [row.address for row in page.deliveries]
        after = page.after
    assert sorted(seen) == sorted(names)


def test_the_failed_are_tried_again_with_the_same_message(
    session: Session, issue: Issue
) -> None:
    before = {row.address: row.id for row in session.scalars(select(Delivery))}
    assert possible(session, issue) == {
        "mailbox_soft": (2, 2),
        "sender_blocked": (2, 2),
        "unknown": (1, 1),
        "": (1, 1),
    }
    wanted = ["sender_blocked", "unknown"]
    retry = retrying.begin(session, issue, wanted, who="Anna", now=EVEN_LATER)
    assert (retry.readers, retry.finished_at, retry.who) == (3, EVEN_LATER, "Anna")
    assert issue.state is IssueState.SENDING
    counts = ledger.counts(session, issue_id=issue.id)
    assert (counts.queued, counts.bounced, counts.failed) == (3, 2, 1)
    assert (counts.sent, counts.deferred, counts.total) == (1, 1, 8)
    assert of(session, "e@y.example").resent  # it may have had it
    assert not of(session, "c@y.example").resent
    # One bounces anew, and is not tried a second time by the same wish.
    again = settle(session, issue, {"c@y.example": ("bounced", "sender_blocked")})
    assert sorted(again) == ["c@y.example", "d@Y.example", "e@y.example"]
    assert of(session, "d@Y.example").attempts == 1
    after = {row.address: row.id for row in session.scalars(select(Delivery))}
    assert after == before  # and with that the Message-ID
    assert not retrying.go_on(session, retry.id, now=EVEN_LATER)
    assert publish.finish_settled(session, now=EVEN_LATER) == []  # one is deferred
    assert [one.id for one in retrying.of_issue(session, issue)] == [retry.id]


def test_who_must_not_get_it_is_left_out(
    session: Session, settings: Settings, issue: Issue
) -> None:
    rows = session.execute(select(Subscription, Subscriber).join(Subscriber)).all()
    person = {who.email: (bond, who) for bond, who in rows}
    person["b@x.example"][0].status = Status.LEFT
    suppressed = person["c@y.example"][1].address_hash
    session.add(Suppression(address_hash=suppressed, reason="bounced", created_at=NOW))
    person["d@Y.example"][1].email = "new@y.example"
    session.flush()
    # What e lacked comes with the next issue.
    ledger.requeue_due(session, now=EVEN_LATER)
    settle(session, issue, {})
    publish.finish_settled(session, now=LATER)
    assert issue.state is IssueState.SENT
    for address in ("f@z.example", "h@z.example"):
        person[address][0].status = Status.PAUSED
    following = drafts.draft(
        session, issue.newsletter, post_ids=[issue.posts[0].post_id], now=LATER
    )
    publish.send(session, settings, following, now=LATER)
    for address in ("f@z.example", "h@z.example"):
        person[address][0].status = Status.ACTIVE
    session.flush()
    assert possible(session, issue) == {
        "mailbox_soft": (1, 2),
        "sender_blocked": (0, 2),
        "unknown": (0, 1),
        "": (1, 1),
    }
    unlooked = retrying.choices(session, issue, most=1)
    assert all(one.possible == one.readers for one in unlooked)
    with pytest.raises(Conflict, match="nobody left"):
        retrying.begin(session, issue, ["sender_blocked"], now=EVEN_LATER)
    retry = retrying.begin(session, issue, ["", "mailbox_soft"], now=EVEN_LATER)
    assert retry.readers == 2
    assert sorted(settle(session, issue, {})) == ["f@z.example", "h@z.example"]
    assert publish.finish_settled(session, now=EVEN_LATER) == [issue]
    assert person["f@z.example"][0].cursor == issue.last_position


def test_there_must_be_something_to_try_and_nothing_paused_or_cancelled(
    session: Session, issue: Issue
) -> None:
    with pytest.raises(InvalidInput, match="at least one reason"):
        retrying.begin(session, issue, [], now=LATER)
    publish.pause(session, issue, who="Bo")
    assert issue.held_values == {"who": "Bo"}
    with pytest.raises(Conflict, match="paused"):
        retrying.begin(session, issue, ["mailbox_soft"], now=LATER)
    publish.resume(session, issue)
    publish.cancel(session, issue, now=LATER)
    with pytest.raises(Conflict, match="was sent"):
        retrying.begin(session, issue, ["mailbox_soft"], now=LATER)


def test_the_clock_queues_what_is_left_of_a_large_one(
    database: Database, settings: Settings
) -> None:
    reasons = ["mailbox_soft", "sender_blocked", "unknown", ""]
    with database.transaction() as session:
        issue = sent(session, settings)
        retry = retrying.begin(session, issue, reasons, limit=2, now=EVEN_LATER)
        assert (retry.readers, retry.finished_at) == (2, None)
        publish.pause(session, issue)
        assert not retrying.go_on(session, retry.id, limit=2, now=EVEN_LATER)
        publish.resume(session, issue)
        settle(session, issue, FATES)  # they bounce before the others are queued
        assert retrying.go_on(session, retry.id, limit=2, now=EVEN_LATER)
        assert retry.readers == 4
    tasks = tuple(task for task in jobs.TASKS if task.name == "retry-failed")
    jobs.tick(database, settings, now=EVEN_LATER, tasks=tasks)
    with database.reading() as session:
        found = session.scalars(select(Retry)).one()
        assert (found.readers, found.finished_at) == (6, EVEN_LATER)
        assert retrying.unfinished(session) == []
