"""Sending an issue: freeze its editions, write the ledger, follow it to its end.

    draft ──┬──> scheduled ──> sending <──> paused
            │        │            │ │
    held <──┴────────┘            │ └──> cancelled
                                  └────> sent

What an editor sends is scheduled a moment ahead (`send_soon`), so that it can be
undone: until then there is no edition, no line in the ledger, no number to take back.

Every arrow is one UPDATE with the old state in its WHERE: whoever comes second finds
nothing to change. The ledger is written in the same transaction, so an issue is either
untouched or wholly queued.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Select,
    Update,
    and_,
    delete,
    exists,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.orm import Session

from newsletter import i18n, links
from newsletter.config import Settings
from newsletter.digests import (
    archive,
    compose,
    drafts,
    letters,
    occurrences,
    outgoing,
    versions,
)
from newsletter.digests import editions as plans
from newsletter.digests.editions import REACHED, Edition, Plan, audience_count
from newsletter.digests.preflight import wayout
from newsletter.errors import N_, Conflict, InkorgError, InvalidInput
from newsletter.i18n import Language
from newsletter.mail import ledger, outbox
from newsletter.mail.mime import Letter
from newsletter.models import (
    Delivery,
    Issue,
    IssueKind,
    IssueState,
    Kind,
    Message,
    MessagePost,
    MessageState,
    Newsletter,
    Postponed,
    Status,
    Subscription,
)
from newsletter.posts import positions
from newsletter.subscribers import consent

__all__ = ["audience_count"]

CURSORS_AT_ONCE = 2_000  # readers whose rows one transaction holds


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
    _check_content(issue)
    if taken := drafts.carried_meanwhile(session, issue):
        post, number = taken[0]
        raise Conflict(
            N_("“%(title)s” has already gone out in issue %(number)s. Hide it here."),
            title=post.title,
            number=number,
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """An issue, and who would get what of it."""

    plan: Plan
    found: list[Edition]

    @property
    def readers(self) -> int:
        """Return how many readers would get it."""
        return sum(edition.readers for edition in self.found)


def prepare(session: Session, issue: Issue) -> Prepared:
    """Look at all readers of an issue, stored or not. Changes nothing."""
    plan = plans.plan(session, issue)
    return Prepared(plan, plans.sort(session, plan))


def planned(session: Session, issue: Issue, *, now: datetime) -> list[Edition]:
    """Return the editions of an issue of either kind, the largest first."""
    if issue.kind is IssueKind.LETTER:
        return letters.plan(session, issue, now=now)
    return plans.editions(session, issue)


def readers(session: Session, issue: Issue, *, now: datetime) -> int:
    """Return how many would get an issue of either kind now.

    Nobody, where a letter is for a topic that is no more: its own page says so.
    """
    try:
        return sum(edition.readers for edition in planned(session, issue, now=now))
    except InvalidInput:
        return 0


def send(
    session: Session,
    settings: Settings,
    issue: Issue,
    *,
    now: datetime,
    prepared: Prepared | None = None,
) -> int:
    """Freeze an issue and put one line per reader into the ledger; return their number.

    `prepared` is what the caller found out in this transaction, holding the newsletter.

    Raises Conflict if it is already being sent or nobody would get it, and InvalidInput
    if something is missing.
    """
    # One at a time for each newsletter: who gets an issue depends on the others.
    hold_still(session, issue)
    if issue.state not in drafts.EDITABLE:
        raise Conflict(N_ALREADY)
    check(session, issue)
    if issue.kind is IssueKind.LETTER:
        return _send_letter(session, settings, issue, now)
    if prepared is None:
        settle_cursors(session, issue.newsletter)
        prepared = prepare(session, issue)
    plan, found = prepared.plan, prepared.found
    if not prepared.readers:
        raise _nobody_gets(session, issue, plan)
    first = plans.first_position(session, issue.newsletter)
    _begin(session, issue, now)
    occurrences.issue_went(session, issue)
    issue.total = _queue(session, settings, plan, found, now)
    if not issue.picked:
        pass_over(session, plan)
    _postpone(session, plan)
    _begin_at(session, issue.newsletter, first)
    session.flush()
    return issue.total


def send_soon(
    session: Session,
    settings: Settings,
    issue: Issue,
    *,
    seconds: int,
    expected: int,
    now: datetime,
) -> None:
    """Let the clock send an issue in some seconds, and `undo` work until then.

    With 0 it is sent at once. `expected` is how many get it now. Raises as `send`.
    """
    if not seconds:
        send(session, settings, issue, now=now)
        return
    check(session, issue)
    if not expected:
        raise _nobody_gets(session, issue)
    _move(
        session,
        issue,
        drafts.EDITABLE,
        IssueState.SCHEDULED,
        N_ALREADY,
        scheduled_at=now + timedelta(seconds=seconds),
        undoable=True,
        total=expected,
    )


def undo(session: Session, issue: Issue, *, now: datetime) -> None:
    """Take back what `send_soon` did: a draft again, or held for the same reason.

    Raises Conflict once it has begun.
    """
    hold_still(session, issue)
    if issue.state is IssueState.SCHEDULED and not issue.undoable:
        raise Conflict(N_TIMED)
    _move(
        session,
        issue,
        (IssueState.SCHEDULED,),
        IssueState.HELD if issue.held_reason else IssueState.DRAFT,
        N_LEFT,
        scheduled_at=None,
        undoable=False,
        total=0,
    )
    occurrences.free(session, issue, now=now)


def hold_still(session: Session, issue: Issue) -> None:
    """Wait for whoever is sending or changing an issue, in the order of `send`."""
    positions.lock(session, issue.newsletter_id)
    drafts.lock(session, issue)


def is_due(issue: Issue, now: datetime) -> bool:
    """Tell whether an issue is scheduled for now or earlier."""
    at = issue.scheduled_at
    return issue.state is IssueState.SCHEDULED and at is not None and at <= now


def _begin(session: Session, issue: Issue, now: datetime) -> None:
    _move(
        session,
        issue,
        drafts.EDITABLE,
        IssueState.SENDING,
        N_ALREADY,
        started_at=now,
        number=_next_number(session, issue.newsletter),
        undoable=False,
        held_reason="",
        held_values={},
        listed=issue.listed and archive.is_for_all(issue),
    )


def _send_letter(
    session: Session, settings: Settings, issue: Issue, now: datetime
) -> int:
    """Send words without posts: no cursor moves, and nobody waits for anything."""
    found = letters.plan(session, issue, now=now)
    if not any(edition.readers for edition in found):
        raise _nobody_gets(session, issue)
    _begin(session, issue, now)
    issue.total = 0
    for edition in found:
        message = _message(session, settings, issue, edition, now)
        if edition.groups:
            issue.total += outbox.queue_readers(
                session,
                message,
                letters.audience(session, issue, edition, now=now),
                occasion=f"issue:{issue.id}",
                now=now,
            )
    session.flush()
    return issue.total


def _queue(
    session: Session,
    settings: Settings,
    plan: Plan,
    found: Sequence[Edition],
    now: datetime,
) -> int:
    """Store the editions and write a line for each reader; return how many."""
    numbers = []
    for edition in found:
        message = _message(session, settings, plan.issue, edition, now)
        numbers += [(group, message.id) for group in edition.groups]
    with plans.addressed(session, plan, numbers) as readers:
        occasion = f"issue:{plan.issue.id}"
        return outbox.queue_audience(session, readers, occasion=occasion, now=now)


def _message(
    session: Session, settings: Settings, issue: Issue, edition: Edition, now: datetime
) -> Message:
    """Freeze an edition; one that nobody gets is the archive's.

    Raises ThemeError if it would leave readers no way out.
    """
    newsletter = issue.newsletter
    words = i18n.language(edition.language)
    token = links.new_token()
    url = archive.web_url(settings, issue, newsletter, edition, token)
    letter = compose.compose(
        settings,
        issue,
        newsletter,
        edition.posts,
        words,
        web_url=url,
        forgiving=True,
    )
    sent = letter
    if newsletter.count_clicks:
        sent = outgoing.counted(session, settings, issue, letter, but=url)
    wayout.check(sent)
    message = outbox.store_edition(
        session,
        letter,
        sent=sent,
        issue_id=issue.id,
        newsletter_id=newsletter.id,
        edition=edition.name,
        view_token=token,
        now=now,
    )
    rows = [
        {"message_id": message.id, "post_id": entry.post.id} for entry in edition.posts
    ]
    if rows:
        session.execute(insert(MessagePost), rows)
    if not edition.groups:
        message.state = MessageState.DONE
        session.flush()
    return message


def settle_cursors(session: Session, newsletter: Newsletter) -> None:
    """Move the cursors of those whom an issue still under way has reached."""
    query = select(Issue).where(
        Issue.newsletter_id == newsletter.id,
        Issue.started_at.is_not(None),
        Issue.finished_at.is_(None),
    )
    for issue in session.scalars(query.order_by(Issue.id)).all():
        _move_cursors(session, issue)


def pass_over(session: Session, plan: Plan) -> None:
    """Move the cursors of readers for whom an issue holds nothing of theirs.

    Not sent, but dealt with: what did not match when their digest fell due is not
    brought up when they choose differently a year later.
    """
    nothing = [(group, 1) for group in plan.groups if not plan.wanted(group)]
    if not nothing:
        return
    with plans.addressed(session, plan, nothing) as readers:
        ids = select(readers.subquery("passed").c.subscription_id)
        last = plan.issue.last_position
        session.execute(
            _cursors_to(last, Subscription.id.in_(ids), Subscription.cursor < last)
        )


def pass_all_over(
    session: Session, newsletter: Newsletter, rhythm: str, position: int
) -> None:
    """Move the cursors of a rhythm's readers up to a position: nothing is theirs.

    Not of those who have a digest under way, which may still come back.
    """
    busy = plans.Common(session, newsletter).under_way(Issue())
    session.execute(
        _cursors_to(
            position,
            plans.readers_of(newsletter, rhythm),
            Subscription.status == Status.ACTIVE,
            Subscription.cursor < position,
            ~plans.has_under_way(Subscription.id, busy),
        )
    )


def _begin_at(session: Session, newsletter: Newsletter, first: int) -> None:
    """Let everyone begin where the first issue did; a blog's whole past is not news."""
    if first:
        everyone = Subscription.newsletter_id == newsletter.id
        session.execute(_cursors_to(first, everyone, Subscription.cursor < first))


def _cursors_to(position: int, *which: ColumnElement[bool]) -> Update:
    """Build what moves cursors.

    What fails here fails the transaction (OR FAIL), so that SQLite need not keep what
    it would take to undo the statement: every page with a reader on it.
    """
    return (
        update(Subscription)
        .where(*which)
        .values(cursor=position)
        .prefix_with("OR FAIL", dialect="sqlite")
        .execution_options(synchronize_session=False)
    )


def _postpone(session: Session, plan: Plan) -> None:
    """Remember who waits for an earlier issue, so that they get this one after it.

    Whoever waited for that already gets it with this one.
    """
    issue, everyone = plan.issue, plans.readers_of(plan.newsletter, plan.issue.rhythm)
    if not issue.picked:
        session.execute(
            delete(Postponed)
            .where(
                Postponed.subscription_id.in_(select(Subscription.id).where(everyone))
            )
            .execution_options(synchronize_session=False)
        )
    if not plan.waits_for:
        return
    rows = select(Subscription.id, literal(issue.id, Postponed.issue_id.type)).where(
        everyone,
        Subscription.status == Status.ACTIVE,
        plans.has_under_way(Subscription.id, plan.waits_for),
    )
    session.execute(
        consent.upsert(session, Postponed)
        .from_select(["subscription_id", "issue_id"], rows, include_defaults=False)
        .on_conflict_do_nothing(index_elements=["subscription_id"])
    )


def postponed(session: Session) -> list[int]:
    """Return the issues that somebody waits for: ids."""
    return list(session.scalars(select(Postponed.issue_id).distinct()))


def top_up(session: Session, settings: Settings, issue: Issue, *, now: datetime) -> int:
    """Send an issue to those who had to wait for an earlier one; return how many.

    A finished one is under way again until they are settled.
    """
    positions.lock(session, issue.newsletter_id)
    drafts.lock(session, issue)
    if issue.state is IssueState.PAUSED:
        return 0
    settle_cursors(session, issue.newsletter)
    plan = plans.plan(session, issue, only_postponed=True)
    queued = 0
    if issue.state in (IssueState.SENDING, IssueState.SENT):
        queued = _queue_more(session, settings, plan, now)
        if not issue.picked:
            pass_over(session, plan)
    session.execute(
        delete(Postponed)
        .where(
            Postponed.issue_id == issue.id,
            ~plans.has_under_way(Postponed.subscription_id, plan.waits_for),
        )
        .execution_options(synchronize_session=False)
    )
    if queued:
        issue.total += queued
        issue.state, issue.finished_at = IssueState.SENDING, None
        session.flush()
    return queued


def _queue_more(session: Session, settings: Settings, plan: Plan, now: datetime) -> int:
    """Add readers to an issue's editions; freeze what it has no edition for."""
    stored = _stored_editions(session, plan.issue)
    numbers = []
    for edition in plans.sort(session, plan):
        if not edition.groups:
            continue
        posts = frozenset(entry.post.id for entry in edition.posts)
        message = stored.get((edition.language, posts))
        if message is None:
            edition.name = f"{edition.language}/{len(stored) + 1}"
            message = _message(session, settings, plan.issue, edition, now)
            stored[edition.language, posts] = message
        message.state = MessageState.OPEN
        numbers += [(group, message.id) for group in edition.groups]
    session.flush()
    with plans.addressed(session, plan, numbers) as readers:
        occasion = f"issue:{plan.issue.id}"
        return outbox.queue_audience(session, readers, occasion=occasion, now=now)


def _stored_editions(
    session: Session, issue: Issue
) -> dict[tuple[str, frozenset[int]], Message]:
    posts: dict[int, set[int]] = {}
    rows = session.execute(
        select(MessagePost.message_id, MessagePost.post_id)
        .join(Message, Message.id == MessagePost.message_id)
        .where(Message.issue_id == issue.id)
    )
    for message_id, post_id in rows:
        posts.setdefault(message_id, set()).add(post_id)
    messages = session.scalars(select(Message).where(Message.issue_id == issue.id))
    return {(m.language, frozenset(posts.get(m.id, ()))): m for m in messages}


def schedule(session: Session, issue: Issue, at: datetime, *, now: datetime) -> None:
    """Let the clock send an issue at `at`. Raises InvalidInput or Conflict."""
    if at <= now:
        raise InvalidInput(
            N_("That moment has passed. Choose a later one, or send now."), field="at"
        )
    check(session, issue)
    _move(
        session,
        issue,
        drafts.EDITABLE,
        IssueState.SCHEDULED,
        N_GONE,
        scheduled_at=at,
        undoable=False,
        held_reason="",
        held_values={},
    )


def unschedule(session: Session, issue: Issue, *, now: datetime) -> None:
    """Make a scheduled or held issue a draft again. Raises Conflict.

    An occurrence that was given to it, and is to come, is the rhythm's own again.
    """
    hold_still(session, issue)
    _move(
        session,
        issue,
        drafts.EDITABLE,
        IssueState.DRAFT,
        N_GONE,
        scheduled_at=None,
        undoable=False,
        held_reason="",
        held_values={},
    )
    occurrences.free(session, issue, now=now)


def hold(session: Session, issue: Issue, why: InkorgError) -> None:
    """Let an issue wait for a person: its moment came, but it could not be sent."""
    _move(
        session,
        issue,
        (IssueState.SCHEDULED, IssueState.DRAFT),
        IssueState.HELD,
        N_GONE,
        undoable=False,
        **reason_of(why),
    )


def reason_of(why: InkorgError) -> dict[str, object]:
    """Return what an issue keeps of the reason for which it waits."""
    kept = {name: value for name, value in why.values.items() if value is not None}
    numbers_and_words = {
        name: value if isinstance(value, int) else str(value)
        for name, value in kept.items()
    }
    return {"held_reason": why.message, "held_values": numbers_and_words}


def skip(session: Session, issue: Issue) -> None:
    """Let an issue of a rhythm go by: its posts come in the next. Raises Conflict."""
    _move(session, issue, drafts.EDITABLE, IssueState.CANCELLED, N_GONE)
    occurrences.skip_issue(session, issue)


def unskip(session: Session, issue: Issue) -> None:
    """Let an issue that `skip` let go by wait for an editor again. Raises Conflict.

    Not while another one of its rhythm waits.
    """
    hold_still(session, issue)
    refuse_second(session, issue.newsletter, issue.rhythm)
    back = IssueState.HELD if issue.held_reason else IssueState.DRAFT
    if issue.started_at is not None:
        raise Conflict(N_GONE)
    _move(session, issue, (IssueState.CANCELLED,), back, N_GONE, scheduled_at=None)
    occurrences.waits_again(session, issue)


def refuse_second(session: Session, newsletter: Newsletter, rhythm: str) -> None:
    """Raise Conflict if an issue of a rhythm waits for an editor already."""
    query = select(Issue.id).where(
        Issue.newsletter_id == newsletter.id,
        Issue.rhythm == rhythm,
        Issue.state.in_(drafts.EDITABLE),
    )
    if rhythm and session.scalar(query.limit(1)) is not None:
        raise Conflict(
            N_("Another issue of this rhythm waits by now, and has its posts.")
        )


def due(session: Session, *, now: datetime) -> list[Issue]:
    """Return the issues whose moment has come."""
    query = select(Issue).where(
        Issue.state == IssueState.SCHEDULED, Issue.scheduled_at <= now
    )
    return list(session.scalars(query.order_by(Issue.scheduled_at, Issue.id)))


def pause(session: Session, issue: Issue, *, who: str = "") -> None:
    """Stop handing over mail until it is resumed. Raises Conflict.

    `who` is told to others.
    """
    reason = {
        "held_reason": N_("Paused by %(who)s.") if who else "",
        "held_values": {"who": who[:200]} if who else {},
    }
    sending = (IssueState.SENDING,)
    _move(session, issue, sending, IssueState.PAUSED, N_NOT_SENDING, **reason)
    ledger.pause(session, issue.id)


def resume(session: Session, issue: Issue) -> None:
    """Go on with a paused issue. Raises Conflict."""
    paused = (IssueState.PAUSED,)
    said = {"held_reason": "", "held_values": {}}
    _move(session, issue, paused, IssueState.SENDING, N_NOT_PAUSED, **said)
    ledger.resume(session, issue.id)


def cancel(session: Session, issue: Issue, *, now: datetime) -> None:
    """Send the issue to no one else; what has left has left. Raises Conflict.

    Its posts are new again for those whom it did not reach.
    """
    running = (IssueState.SENDING, IssueState.PAUSED)
    _move(session, issue, running, IssueState.CANCELLED, N_NOT_SENDING)
    ledger.cancel(session, issue.id, now=now)


def reopen(session: Session, issue: Issue) -> None:
    """Let a sent issue be under way again: some of its deliveries are queued anew."""
    _changed(
        session,
        issue,
        (IssueState.SENT,),
        state=IssueState.SENDING,
        finished_at=None,
    )


def finish_settled(
    session: Session, *, now: datetime, moved: Collection[int] = ()
) -> list[Issue]:
    """Close the issues whose readers are all settled; return them. Safe to repeat.

    The readers they reached have then been sent the posts up to `last_position`; for
    issues in `moved` that has been written already (`move_some_cursors`).
    """
    closed = []
    for issue in session.scalars(_settled()).all():
        state = issue.state
        if state is IssueState.SENDING:
            state = IssueState.SENT
        if _changed(session, issue, (issue.state,), state=state, finished_at=now):
            if issue.id not in moved:
                _move_cursors(session, issue)
            versions.thin(session, issue, now=now, most=versions.MOST_OF_SENT)
            closed.append(issue)
    return closed


def settled(session: Session) -> list[int]:
    """Return the issues that `finish_settled` would close: ids."""
    return [issue.id for issue in session.scalars(_settled())]


def sending(session: Session, newsletter_ids: Collection[int]) -> list[int]:
    """Return the issues of newsletters that are not finished: ids."""
    query = select(Issue.id).where(
        Issue.newsletter_id.in_(newsletter_ids),
        Issue.started_at.is_not(None),
        Issue.finished_at.is_(None),
    )
    return list(session.scalars(query.order_by(Issue.id)))


def move_some_cursors(
    session: Session, issue_id: int, *, after: int = 0, limit: int = CURSORS_AT_ONCE
) -> int | None:
    """Move the cursors of some readers that an issue has reached.

    Returns the subscription after which to go on, or None when all have been seen: a
    million in one transaction would let everyone who wants to leave wait for it.
    """
    issue = session.get_one(Issue, issue_id)
    some = (
        select(Subscription.id)
        .where(
            Subscription.newsletter_id == issue.newsletter_id,
            Subscription.id > after,
            _lacking(issue),
        )
        .order_by(Subscription.id)
        .limit(limit)
    )
    ids = session.scalars(some).all()
    messages = select(Message.id).where(Message.issue_id == issue_id)
    reached = exists().where(
        Delivery.subscription_id == Subscription.id,
        Delivery.message_id.in_(messages),
        Delivery.state.in_(REACHED),
    )
    session.execute(
        _cursors_to(
            issue.last_position, Subscription.id.in_(ids), _lacking(issue), reached
        )
    )
    return ids[-1] if len(ids) == limit else None


def sample_letter(
    settings: Settings, issue: Issue, words: Language | None = None
) -> Letter:
    """Return what readers would get now, with links that lead to harmless pages."""
    newsletter = issue.newsletter
    words = words or i18n.language(newsletter.language)
    letter = compose.compose(
        settings, issue, newsletter, issue.posts, words, forgiving=True
    )
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
    _check_content(issue)
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
N_LEFT = N_("It has left already. Pause it, or cancel it for those who are left.")
N_TIMED = N_("This issue is scheduled. Cancel the schedule instead.")
N_NOT_SENDING = N_("This issue is not being sent just now.")
N_NOT_PAUSED = N_("This issue is not paused.")
N_NOBODY = N_("Nobody subscribes to the newsletter, so nobody would get this issue.")


def _check_content(issue: Issue) -> None:
    if issue.kind is IssueKind.LETTER:
        letters.check(issue)
    elif not compose.shown(issue.posts):
        raise InvalidInput(
            N_("There is no post in this issue. Show or add at least one."),
            field="posts",
        )


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


class Busy(Conflict):
    """Everyone who would get it has an earlier issue under way."""


def is_busy(session: Session, plan: Plan, found: Sequence[Edition]) -> bool:
    """Tell whether nobody can get an issue just because of an earlier one."""
    if not plan.waits_for or any(edition.readers for edition in found):
        return False
    waits = select(Subscription.id).where(
        plans.readers_of(plan.newsletter, plan.issue.rhythm),
        Subscription.status == Status.ACTIVE,
        Subscription.cursor < plan.issue.last_position,
        plans.has_under_way(Subscription.id, plan.waits_for),
    )
    return session.scalar(waits.limit(1)) is not None


def _nobody_gets(session: Session, issue: Issue, plan: Plan | None = None) -> Conflict:
    """Say why no reader gets an issue, as an error to raise."""
    if issue.kind is not IssueKind.LETTER:
        return _nobody(session, plan or plans.plan(session, issue))
    if not issue.segment:
        return Conflict(N_NOBODY)
    return Conflict(N_("No reader is among those the letter is for. Choose others."))


def _nobody(session: Session, plan: Plan) -> Conflict:
    active = select(Subscription.id).where(
        plans.readers_of(plan.newsletter, plan.issue.rhythm),
        Subscription.status == Status.ACTIVE,
    )
    if session.scalar(active.limit(1)) is None:
        return Conflict(N_NOBODY)
    if is_busy(session, plan, []):
        return Busy(
            N_(
                "Its readers are still being sent an earlier issue. Wait until that is"
                " done."
            )
        )
    return Conflict(
        N_("None of the readers would get these posts: not their topics, or sent.")
    )


def _move_cursors(session: Session, issue: Issue) -> None:
    """Move the cursors of those whom an issue has reached up to its last post.

    Picked posts do so only for those who lacked nothing before them.
    """
    reached = (
        select(Delivery.subscription_id)
        .join(Message, Message.id == Delivery.message_id)
        .where(Message.issue_id == issue.id, Delivery.state.in_(REACHED))
    )
    session.execute(
        _cursors_to(
            issue.last_position,
            Subscription.newsletter_id == issue.newsletter_id,
            _lacking(issue),
            Subscription.id.in_(reached),
        )
    )


def _lacking(issue: Issue) -> ColumnElement[bool]:
    """Tell whose cursors an issue moves."""
    lacking = Subscription.cursor < issue.last_position
    if issue.picked:
        lacking = and_(lacking, Subscription.cursor >= issue.after_position)
    return lacking


def _settled() -> Select[Issue]:
    return select(Issue).where(
        Issue.state.in_((IssueState.SENDING, IssueState.CANCELLED)),
        Issue.started_at.is_not(None),
        Issue.finished_at.is_(None),
        ~_has_unsettled(),
    )


def _has_unsettled() -> ColumnElement[bool]:
    return exists().where(Message.issue_id == Issue.id, ledger.has_unsettled())
