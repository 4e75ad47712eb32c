"""Trying again those whom an issue did not reach: for what reason, and how many.

Only a delivery that bounced or failed is tried again, and only while its reader has
that address, may get mail, and has not had any of its posts in another issue since:
what somebody lacks comes with their next digest, and must not come twice.

A large number is queued in pieces, each in a transaction of its own; `retry.after` says
where to go on. What bounces anew meanwhile was settled after the retry began and stays.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from newsletter.digests import editions, publish
from newsletter.errors import N_, Conflict, InvalidInput
from newsletter.mail import ledger, outcomes
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Message,
    MessagePost,
    Retry,
    Subscriber,
    Subscription,
)

STATES = (DeliveryState.BOUNCED, DeliveryState.FAILED)
AGAIN = (IssueState.SENDING, IssueState.SENT)
MOST_REASONS = 50
COUNTED = 1_000  # readers who are looked at one by one for a page
LONGEST_WHO = 200


@dataclass(frozen=True, slots=True)
class Choice:
    """A reason, for how many readers, and how many of those can be tried again."""

    reason: str
    readers: int
    possible: int  # at most
    reply: str


def choices(session: Session, issue: Issue, *, most: int = COUNTED) -> list[Choice]:
    """Return for which reasons an issue can be tried again, the commonest first.

    Of more readers than `most`, all stand as possible: each is looked at when queued.
    """
    every = outcomes.reasons(session, issue_id=issue.id, states=STATES)
    if sum(one.readers for one in every) > most:
        possible = Counter[str]()
        for one in every:
            possible[one.reason] += one.readers
    else:
        possible = _count_possible(session, issue)
    found: dict[str, Choice] = {}
    for one in every:
        other = found.get(one.reason)  # the same reason, bounced and failed
        found[one.reason] = Choice(
            one.reason,
            one.readers + (other.readers if other else 0),
            possible[one.reason],
            (other.reply if other else "") or one.reply,
        )
    return sorted(found.values(), key=lambda one: -one.readers)


def _count_possible(session: Session, issue: Issue) -> Counter[str]:
    of_issue = Delivery.message_id.in_(
        select(Message.id).where(Message.issue_id == issue.id)
    )
    counted = (
        _possible(issue, Delivery.reason, func.count())
        .where(of_issue, ledger.unusual(), Delivery.state.in_(STATES))
        .group_by(Delivery.reason)
    )
    return Counter({reason or "": n for reason, n in session.execute(counted)})


def begin(
    session: Session,
    issue: Issue,
    reasons: Sequence[str],
    *,
    who: str = "",
    limit: int = ledger.AT_ONCE,
    now: datetime,
) -> Retry:
    """Try an issue again with those it did not reach for these reasons.

    Queues the first of them; the clock goes on with the others. `who` asks for it.
    Raises InvalidInput without a reason, Conflict if there is nobody or no sending.
    """
    if not reasons or len(reasons) > MOST_REASONS:
        raise InvalidInput(
            N_("Choose at least one reason to try again."), field="reasons"
        )
    publish.hold_still(session, issue)
    if issue.state is IssueState.PAUSED:
        raise Conflict(N_("This issue is paused. Resume it first, then try again."))
    if issue.state not in AGAIN:
        raise Conflict(N_("Only an issue that was sent can be tried again."))
    retry = Retry(
        issue_id=issue.id,
        reasons=sorted(set(reasons)),
        who=who[:LONGEST_WHO],
        readers=0,
        after="",
        created_at=now,
    )
    session.add(retry)
    session.flush()
    _queue_some(session, issue, retry, limit, now)
    if not retry.readers and retry.finished_at:
        raise Conflict(N_("There is nobody left to try again for that reason."))
    return retry


def go_on(
    session: Session, retry_id: int, *, limit: int = ledger.AT_ONCE, now: datetime
) -> bool:
    """Queue some more of a retry; tell whether there may be more to do now."""
    retry = session.get_one(Retry, retry_id)
    issue = session.get_one(Issue, retry.issue_id)
    publish.hold_still(session, issue)
    session.refresh(retry)
    if retry.finished_at or issue.state is IssueState.PAUSED:
        return False
    if issue.state in AGAIN:
        _queue_some(session, issue, retry, limit, now)
    else:  # cancelled meanwhile
        retry.finished_at = now
    session.flush()
    return retry.finished_at is None


def unfinished(session: Session) -> list[int]:
    """Return the retries that have more to queue: ids."""
    query = select(Retry.id).where(Retry.finished_at.is_(None))
    return list(session.scalars(query.order_by(Retry.id)))


def of_issue(session: Session, issue: Issue) -> list[Retry]:
    """Return when an issue was tried again, the latest first."""
    query = select(Retry).where(Retry.issue_id == issue.id)
    return list(session.scalars(query.order_by(Retry.id.desc()).limit(MOST_REASONS)))


def _queue_some(
    session: Session, issue: Issue, retry: Retry, limit: int, now: datetime
) -> None:
    ids, retry.after = outcomes.some_ids(
        session,
        issue_id=issue.id,
        states=STATES,
        reasons=retry.reasons,
        after=retry.after,
        limit=limit,
    )
    wanted = session.scalars(
        _possible(issue, Delivery.id).where(
            Delivery.id.in_(ids), Delivery.settled_at <= retry.created_at
        )
    ).all()
    queued = ledger.retry(session, issue.id, wanted, now=now)
    retry.readers += queued
    if queued:
        publish.reopen(session, issue)
    if not retry.after:
        retry.finished_at = now
    session.flush()


def _possible(issue: Issue, *columns: Any) -> Select[Any]:
    """Select of deliveries whose readers may be sent them (again)."""
    other, theirs, ours = aliased(Delivery), aliased(MessagePost), aliased(MessagePost)
    had_since = (
        select(other.id)
        .join(theirs, theirs.message_id == other.message_id)
        .join(ours, ours.post_id == theirs.post_id)
        .where(
            other.subscription_id == Delivery.subscription_id,
            other.id != Delivery.id,
            ours.message_id == Delivery.message_id,
            other.state.not_in((*STATES, DeliveryState.SKIPPED)),
        )
        .correlate(Delivery)
        .exists()
    )
    return (
        select(*columns)
        .select_from(Delivery)
        .join(Subscription, Subscription.id == Delivery.subscription_id)
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .where(
            *editions.may_get_mail(issue.newsletter, ""),
            Subscriber.email == Delivery.address,
            ~had_since,
        )
    )
