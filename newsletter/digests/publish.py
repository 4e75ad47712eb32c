"""Sending an issue: freeze its editions, write the ledger, follow it to its end.

    draft ──┬──> scheduled ──> sending <──> paused
            │        │            │ │
    held <──┴────────┘            │ └──> cancelled
                                  └────> sent

Every arrow is one UPDATE with the old state in its WHERE: whoever comes second finds
nothing to change. The ledger is written in the same transaction, so an issue is either
untouched or wholly queued.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, CursorResult, exists, func, select, update
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.digests import compose, drafts
from newsletter.digests import editions as plans
from newsletter.digests.editions import Edition, audience_count
from newsletter.errors import N_, Conflict, InvalidInput
from newsletter.i18n import Language
from newsletter.mail import ledger, outbox
from newsletter.mail.mime import Letter
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Kind,
    Message,
    MessageState,
    Newsletter,
    Status,
    Subscription,
)

__all__ = ["audience_count"]

REACHED = (DeliveryState.SENT, DeliveryState.COMPLAINED)


def check(session: Session, issue: Issue) -> None:
    """Make sure that an issue can be sent as it is.

    Raises InvalidInput or Conflict, saying what to do.
    """
    newsletter = issue.newsletter
    if not newsletter.postal_address.strip():
        raise InvalidInput(
            N_("The law asks for a postal address in every issue. Fill it in first."),
            field="postal_address",
        )
    if not newsletter.from_name.strip() or "@" not in newsletter.from_email:
        raise InvalidInput(
            N_("The newsletter has no sender. Fill in a name and an address first."),
            field="from_email",
        )
    if not compose.shown(issue.posts):
        raise InvalidInput(
            N_("There is no post in this issue. Show or add at least one."),
            field="posts",
        )
    if taken := drafts.carried_meanwhile(session, issue):
        post, number = taken[0]
        raise Conflict(
            N_("“%(title)s” has already gone out in issue %(number)s. Hide it here."),
            title=post.title,
            number=number,
        )


def send(session: Session, settings: Settings, issue: Issue, *, now: datetime) -> int:
    """Freeze an issue and put one line per reader into the ledger; return their number.

    Raises Conflict if it is already being sent or nobody would get it, and InvalidInput
    if something is missing.
    """
    drafts.lock(session, issue)
    if issue.state not in drafts.EDITABLE:
        raise Conflict(N_ALREADY)
    check(session, issue)
    found = plans.editions(session, issue)
    if not any(edition.readers for edition in found):
        raise Conflict(_why_nobody(session, issue))
    _move(
        session,
        issue,
        drafts.EDITABLE,
        IssueState.SENDING,
        N_ALREADY,
        started_at=now,
        number=_next_number(session, issue.newsletter),
    )
    queued = [_freeze(session, settings, issue, edition, now) for edition in found]
    issue.total = sum(queued)
    session.flush()
    return issue.total


def _freeze(
    session: Session, settings: Settings, issue: Issue, edition: Edition, now: datetime
) -> int:
    """Store an edition and queue its readers; return how many."""
    newsletter = issue.newsletter
    words = i18n.language(edition.language)
    letter = compose.compose(settings, issue, newsletter, edition.posts, words)
    message = outbox.store_edition(
        session,
        letter,
        issue_id=issue.id,
        newsletter_id=newsletter.id,
        edition=edition.name,
        now=now,
    )
    if not edition.groups:  # the archive's
        message.state = MessageState.DONE
        return 0
    readers = plans.audience(session, issue, edition)
    return outbox.queue_readers(
        session, message, readers, occasion=f"issue:{issue.id}", now=now
    )


def schedule(session: Session, issue: Issue, at: datetime, *, now: datetime) -> None:
    """Let the clock send an issue at `at`. Raises InvalidInput or Conflict."""
    if at <= now:
        raise InvalidInput(
            N_("That moment has passed. Choose a later one, or send now."), field="at"
        )
    check(session, issue)
    _move(
        session, issue, drafts.EDITABLE, IssueState.SCHEDULED, N_GONE, scheduled_at=at
    )


def unschedule(session: Session, issue: Issue) -> None:
    """Make a scheduled or held issue a draft again. Raises Conflict."""
    _move(session, issue, drafts.EDITABLE, IssueState.DRAFT, N_GONE, scheduled_at=None)


def hold(session: Session, issue: Issue) -> None:
    """Let an issue wait for a person: its moment came, but it could not be sent."""
    _move(session, issue, (IssueState.SCHEDULED,), IssueState.HELD, N_GONE)


def due(session: Session, *, now: datetime) -> list[Issue]:
    """Return the issues whose moment has come."""
    query = select(Issue).where(
        Issue.state == IssueState.SCHEDULED, Issue.scheduled_at <= now
    )
    return list(session.scalars(query.order_by(Issue.scheduled_at, Issue.id)))


def pause(session: Session, issue: Issue) -> None:
    """Stop handing over mail until it is resumed. Raises Conflict."""
    _move(session, issue, (IssueState.SENDING,), IssueState.PAUSED, N_NOT_SENDING)
    ledger.pause(session, issue.id)


def resume(session: Session, issue: Issue) -> None:
    """Go on with a paused issue. Raises Conflict."""
    _move(session, issue, (IssueState.PAUSED,), IssueState.SENDING, N_NOT_PAUSED)
    ledger.resume(session, issue.id)


def cancel(session: Session, issue: Issue, *, now: datetime) -> None:
    """Send the issue to no one else; what has left has left. Raises Conflict.

    Its posts are new again for those whom it did not reach.
    """
    running = (IssueState.SENDING, IssueState.PAUSED)
    _move(session, issue, running, IssueState.CANCELLED, N_NOT_SENDING)
    ledger.cancel(session, issue.id, now=now)


def finish_settled(session: Session, *, now: datetime) -> list[Issue]:
    """Close the issues whose readers are all settled; return them. Safe to repeat.

    The readers they reached have then been sent the posts up to `last_position`.
    """
    query = select(Issue).where(
        Issue.state.in_((IssueState.SENDING, IssueState.CANCELLED)),
        Issue.started_at.is_not(None),
        Issue.finished_at.is_(None),
        ~_has_unsettled(),
    )
    closed = []
    for issue in session.scalars(query).all():
        state = issue.state
        if state is IssueState.SENDING:
            state = IssueState.SENT
        if _changed(session, issue, (issue.state,), state=state, finished_at=now):
            _move_cursors(session, issue)
            closed.append(issue)
    return closed


def sample_letter(
    settings: Settings, issue: Issue, words: Language | None = None
) -> Letter:
    """Return what readers would get now, with links that lead to harmless pages."""
    newsletter = issue.newsletter
    words = words or i18n.language(newsletter.language)
    letter = compose.compose(settings, issue, newsletter, issue.posts, words)
    return compose.sample(letter)


def send_test(
    session: Session,
    settings: Settings,
    issue: Issue,
    address: str,
    *,
    language: str = "",
    now: datetime,
) -> int | None:
    """Queue the issue as it stands for one address, marked as a test.

    It belongs to no subscription, so its links to leave are nobody's.
    """
    if not compose.shown(issue.posts):
        raise InvalidInput(
            N_("There is no post in this issue. Show or add at least one."),
            field="posts",
        )
    words = i18n.language(language or issue.newsletter.language)
    letter = compose.compose(settings, issue, issue.newsletter, issue.posts, words)
    subject = words.gettext("[Test] %(subject)s", subject=letter.subject)
    return outbox.queue_single(
        session,
        replace(letter, kind=Kind.TEST, subject=subject),
        address=address,
        occasion=f"test:{issue.id}:{secrets.token_urlsafe(9)}",
        newsletter_id=issue.newsletter_id,
        now=now,
    )


N_ALREADY = N_("This issue is already being sent, or has been.")
N_GONE = N_("This issue has left the drafts; it can no longer be scheduled.")
N_NOT_SENDING = N_("This issue is not being sent just now.")
N_NOT_PAUSED = N_("This issue is not paused.")


def _move(
    session: Session,
    issue: Issue,
    sources: Sequence[IssueState],
    target: IssueState,
    refusal: str,
    **values: object,
) -> None:
    if not _changed(session, issue, sources, state=target, **values):
        raise Conflict(refusal)


def _changed(
    session: Session, issue: Issue, sources: Sequence[IssueState], **values: object
) -> bool:
    """Change an issue that stands in one of `sources`; tell whether it did."""
    session.flush()
    result = session.execute(
        update(Issue)
        .where(Issue.id == issue.id, Issue.state.in_(sources))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    session.refresh(issue, attribute_names=[*values])
    return isinstance(result, CursorResult) and result.rowcount == 1


def _next_number(session: Session, newsletter: Newsletter) -> int:
    number = session.scalar(
        update(Newsletter)
        .where(Newsletter.id == newsletter.id)
        .values(last_number=Newsletter.last_number + 1)
        .returning(Newsletter.last_number)
        .execution_options(synchronize_session=False)
    )
    session.refresh(newsletter, attribute_names=["last_number"])
    return number or 1


def _why_nobody(session: Session, issue: Issue) -> str:
    active = session.scalar(
        select(func.count())
        .select_from(Subscription)
        .where(Subscription.newsletter_id == issue.newsletter_id)
        .where(Subscription.status == Status.ACTIVE)
    )
    if active:
        return N_(
            "None of the readers would get these posts: not their topics, or sent."
        )
    return N_("Nobody subscribes to the newsletter, so nobody would get this issue.")


def _move_cursors(session: Session, issue: Issue) -> None:
    reached = (
        select(Delivery.subscription_id)
        .join(Message, Message.id == Delivery.message_id)
        .where(Message.issue_id == issue.id, Delivery.state.in_(REACHED))
    )
    session.execute(
        update(Subscription)
        .where(
            Subscription.newsletter_id == issue.newsletter_id,
            Subscription.cursor < issue.last_position,
            Subscription.id.in_(reached),
        )
        .values(cursor=issue.last_position)
        .execution_options(synchronize_session=False)
    )


def _has_unsettled() -> ColumnElement[bool]:
    return exists().where(
        Message.issue_id == Issue.id,
        Delivery.message_id == Message.id,
        Delivery.state.in_(ledger.UNSETTLED),
    )
