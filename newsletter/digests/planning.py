"""Digests by themselves: what falls due, and what becomes of it. A function of `now`.

For every newsletter that is not sent by hand, and each rhythm it offers:

    falls due ──> nothing for anyone: the occurrence is empty, no mail
        │
        ├──> automatic: an issue, sent in the same transaction
        ├──> held: an issue that waits for an editor; a mail to the editors
        └──> late by more than the grace, or it cannot be sent: held, with the reason

`each` falls due when a reader who has it lacks a post, the others by the clock
(`occurrences.py`). While an issue of a rhythm waits for an editor, what falls due after
it is passed by: its posts come with the next. Where every reader has an earlier digest
under way, the occurrence waits, until its grace is over.

Whoever comes to the newsletter's row first does it; the next finds it done.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.digests import drafts, occurrences, publish, telling
from newsletter.digests import editions as plans
from newsletter.digests.occurrences import Moment
from newsletter.digests.publish import Prepared
from newsletter.errors import N_, InkorgError
from newsletter.models import (
    Issue,
    IssueState,
    Mode,
    Newsletter,
    OccurrenceState,
    Post,
    PostState,
    Schedule,
)
from newsletter.posts import positions
from newsletter.subscribers import choices

EACH = "each"
GRACE = timedelta(hours=6)  # later than that, it waits for a person
HEARTBEAT = timedelta(minutes=5)  # how exactly `each` knows when a clock last ran

N_LATE = N_("It could not go out in time, since nothing was running then.")
N_YOURS = N_("Every issue of this newsletter waits for an editor's yes.")
N_NOTHING = N_("There was nothing new.")
N_TOO_FEW = N_("There were too few posts; they wait for more.")
N_NOBODY = N_("No reader was to get any of it.")
N_BEHIND = N_("The issue before it still waits for an editor; the posts come after it.")


@dataclass(frozen=True, slots=True)
class Due:
    """A rhythm of a newsletter that has something to do."""

    newsletter_id: int
    rhythm: str


def needs_following(session: Session) -> bool:
    """Tell whether `follow` has anything to write."""
    kept = {
        (row.newsletter_id, row.rhythm) for row in session.scalars(select(Schedule))
    }
    return kept != _wanted(session)


def follow(session: Session, *, now: datetime) -> None:
    """Begin with rhythms that are new, and forget those that are no more.

    A rhythm begins when it is first seen: nothing it would have done before counts.
    """
    wanted = _wanted(session)
    for row in session.scalars(select(Schedule)).all():
        key = (row.newsletter_id, row.rhythm)
        if key not in wanted:
            session.delete(row)
        wanted.discard(key)
    session.flush()
    for newsletter_id, rhythm in sorted(wanted):
        session.merge(Schedule(newsletter_id=newsletter_id, rhythm=rhythm, until=now))
    session.flush()


def due(session: Session, *, now: datetime) -> list[Due]:
    """Return what has something to do. Only looks."""
    found = []
    for newsletter in _by_themselves(session):
        for rhythm in choices.offered_rhythms(newsletter):
            if rhythm == EACH:
                is_due = _each_is_due(session, newsletter, now)
            else:
                is_due = bool(_pending(session, newsletter, rhythm, now))
            if is_due:
                found.append(Due(newsletter.id, rhythm))
    return found


def beat(session: Session, *, now: datetime) -> None:
    """Write down that a clock has looked at `each`."""
    rows = session.scalars(select(Schedule).where(Schedule.rhythm == EACH)).all()
    for row in rows:
        row.until = max(row.until, now)
    session.flush()


def needs_beat(session: Session, *, now: datetime) -> bool:
    """Tell whether the last look at `each` is a while ago."""
    oldest = session.scalar(
        select(func.min(Schedule.until)).where(Schedule.rhythm == EACH)
    )
    return oldest is not None and now - oldest >= HEARTBEAT


def run(
    session: Session,
    settings: Settings,
    what: Due,
    *,
    now: datetime,
    why: InkorgError | None = None,
) -> Issue | None:
    """Do what is due, if it still is; return the issue that was sent or held.

    With `why` it is held for that reason instead of sent. Raises InkorgError if it
    cannot be sent: then nothing may be kept of this transaction.
    """
    newsletter = positions.lock(session, what.newsletter_id)
    if not _goes_by_itself(newsletter):
        return None
    if what.rhythm == EACH:
        moment = _moment_of_each(session, newsletter, now)
    else:
        moment = _take(session, newsletter, what.rhythm, now)
    if moment is None:
        return None
    if unsent := waiting_issue(session, newsletter, what.rhythm):
        _pass_by(session, settings, newsletter, moment, unsent, now)
        return None
    return _make(session, settings, newsletter, moment, now, why)


def go_ahead(session: Session, newsletter: Newsletter) -> None:
    """Let digests go by themselves again, from now on: a person has looked."""
    newsletter.halted_at = None
    session.execute(delete(Schedule).where(Schedule.newsletter_id == newsletter.id))
    session.flush()


def waiting_issue(
    session: Session, newsletter: Newsletter, rhythm: str
) -> Issue | None:
    """Return the issue of a rhythm that waits for an editor."""
    query = select(Issue).where(
        Issue.newsletter_id == newsletter.id,
        Issue.rhythm == rhythm,
        Issue.state.in_(drafts.EDITABLE),
    )
    return session.scalar(query.order_by(Issue.id).limit(1))


def why_empty(session: Session, prepared: Prepared | None) -> str:
    """Return why nobody would get anything: a message id; "" if somebody would."""
    if prepared is None:
        return N_NOTHING
    if prepared.readers:
        return ""
    wanted = [posts for g in prepared.plan.groups if (posts := prepared.plan.wanted(g))]
    return N_TOO_FEW if wanted else N_NOBODY


def prepare(
    session: Session, newsletter: Newsletter, rhythm: str, *, now: datetime
) -> Prepared | None:
    """Return what a rhythm's readers would get now. Only looks."""
    issue = drafts.of_rhythm(session, newsletter, rhythm, now=now)
    return publish.prepare(session, issue) if issue else None


def send_early(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    moment: Moment,
    *,
    undo_seconds: int,
    now: datetime,
) -> Issue | None:
    """Send what a rhythm has, before its time; None if there is nothing for anyone.

    It leaves in `undo_seconds`, and can be undone until then. The caller holds the
    newsletter.
    """
    publish.settle_cursors(session, newsletter)
    prepared = prepare(session, newsletter, moment.rhythm, now=now)
    if prepared is None or not prepared.readers:
        return None
    issue = _add(session, prepared)
    if undo_seconds:
        give(session, newsletter, moment, issue)
        publish.send_soon(
            session,
            settings,
            issue,
            seconds=undo_seconds,
            expected=prepared.readers,
            now=now,
        )
        return issue
    _advance(session, newsletter, moment)
    _store(session, newsletter, moment, OccurrenceState.ISSUED, issue=issue, at=now)
    publish.send(session, settings, issue, now=now, prepared=prepared)
    return issue


def _make(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    moment: Moment,
    now: datetime,
    why: InkorgError | None,
) -> Issue | None:
    """Make the issue of a moment, and send or hold it."""
    publish.settle_cursors(session, newsletter)
    prepared = prepare(session, newsletter, moment.rhythm, now=now)
    if now - moment.at > GRACE:
        why = why or InkorgError(N_LATE)
    elif prepared and publish.is_busy(session, prepared.plan, prepared.found):
        return None  # looked at again at the next tick
    if prepared is None or not prepared.readers:
        _nothing(session, newsletter, moment, prepared)
        return None
    if why is None and newsletter.mode is Mode.HELD:
        why = InkorgError(N_YOURS)
    issue = _add(session, prepared)
    _advance(session, newsletter, moment)
    if why is None:
        _store(session, newsletter, moment, OccurrenceState.ISSUED, issue=issue)
        publish.send(session, settings, issue, now=now, prepared=prepared)
        return issue
    publish.hold(session, issue, why)
    _store(session, newsletter, moment, OccurrenceState.WAITING, issue=issue)
    occasion = f"held:{issue.id}"
    telling.tell(session, settings, issue, prepared.readers, occasion, now=now)
    return issue


def _nothing(
    session: Session,
    newsletter: Newsletter,
    moment: Moment,
    prepared: Prepared | None,
) -> None:
    """Write down that there was nothing for anyone."""
    if prepared is not None:
        publish.pass_over(session, prepared.plan)
    else:
        newest = newest_position(session, newsletter)
        publish.pass_all_over(session, newsletter, moment.rhythm, newest)
    _advance(session, newsletter, moment)
    reason = why_empty(session, prepared)
    _store(session, newsletter, moment, OccurrenceState.EMPTY, reason=reason)


def _pass_by(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    moment: Moment,
    unsent: Issue,
    now: datetime,
) -> None:
    """Let a moment go by, since the issue before it waits; remind the editors."""
    _advance(session, newsletter, moment)
    _store(session, newsletter, moment, OccurrenceState.EMPTY, reason=N_BEHIND)
    if moment.rhythm != EACH and unsent.state is IssueState.HELD:
        occasion = f"held:{unsent.id}:{int(moment.due_at.timestamp())}"
        readers = plans.audience_count(session, unsent)
        telling.tell(session, settings, unsent, readers, occasion, now=now)


def _add(session: Session, prepared: Prepared) -> Issue:
    issue = prepared.plan.issue
    session.add(issue)
    session.flush()
    return issue


def give(
    session: Session, newsletter: Newsletter, moment: Moment, issue: Issue
) -> None:
    """Let an issue go in the place of what a rhythm would make for a moment to come."""
    _advance(session, newsletter, moment)
    _store(session, newsletter, moment, OccurrenceState.WAITING, issue=issue)


def _advance(session: Session, newsletter: Newsletter, moment: Moment) -> None:
    row = session.get(Schedule, (newsletter.id, moment.rhythm))
    if row is not None:
        row.until = max(row.until, moment.due_at)
        session.flush()


def _store(
    session: Session,
    newsletter: Newsletter,
    moment: Moment,
    state: OccurrenceState,
    *,
    reason: str = "",
    issue: Issue | None = None,
    at: datetime | None = None,
) -> None:
    """Write down what became of a moment; `each` has none of its own."""
    if moment.rhythm != EACH:
        occurrences.store(
            session, newsletter, moment, state, reason=reason, issue=issue, at=at
        )


def _take(
    session: Session, newsletter: Newsletter, rhythm: str, now: datetime
) -> Moment | None:
    """Return the last moment that has come and is not skipped; pass the others by."""
    pending = _pending(session, newsletter, rhythm, now)
    goes = [m for m in pending if m.state is not OccurrenceState.SKIPPED]
    if pending and not goes:
        _advance(session, newsletter, pending[-1])
    return goes[-1] if goes else None


def _pending(
    session: Session, newsletter: Newsletter, rhythm: str, now: datetime
) -> list[Moment]:
    since = occurrences.dealt_with(session, newsletter, rhythm)
    if since is None:
        return []
    found = occurrences.between(session, newsletter, rhythm, after=since, until=now)
    return [moment for moment in found if moment.at <= now]


def _each_is_due(session: Session, newsletter: Newsletter, now: datetime) -> bool:
    if occurrences.dealt_with(session, newsletter, EACH) is None:
        return False
    newest = newest_position(session, newsletter)
    return (
        newest > 0
        and not occurrences.quiet_of(newsletter).covers(now)
        and waiting_issue(session, newsletter, EACH) is None
        and not _is_on_its_way(session, newsletter, newest)
        and plans.somebody_lacks(session, newsletter, EACH, newest)
    )


def _is_on_its_way(session: Session, newsletter: Newsletter, newest: int) -> bool:
    """Tell whether the newest post is being sent to `each` readers just now.

    While a million cursors have yet to move, nobody need be looked at.
    """
    query = select(Issue.id).where(
        Issue.newsletter_id == newsletter.id,
        Issue.rhythm == EACH,
        Issue.state.in_((IssueState.SENDING, IssueState.PAUSED)),
        Issue.last_position >= newest,
    )
    return session.scalar(query.limit(1)) is not None


def _moment_of_each(
    session: Session, newsletter: Newsletter, now: datetime
) -> Moment | None:
    """Return when the posts that `each` readers lack should have gone."""
    if not _each_is_due(session, newsletter, now):
        return None
    alive = occurrences.dealt_with(session, newsletter, EACH) or now
    issue = drafts.of_rhythm(session, newsletter, EACH, now=now)
    since = [plans.waiting_since(entry.post) for entry in issue.posts] if issue else []
    quiet = occurrences.quiet_of(newsletter)
    at = quiet.ends(max(alive, min(since, default=now)))
    return Moment(EACH, now, min(at, now))


def newest_position(session: Session, newsletter: Newsletter) -> int:
    """Return the position of the newest published post."""
    query = select(func.max(Post.position)).where(
        Post.newsletter_id == newsletter.id, Post.state == PostState.PUBLISHED
    )
    return session.scalar(query) or 0


def _by_themselves(session: Session) -> list[Newsletter]:
    query = select(Newsletter).where(
        Newsletter.mode != Mode.HAND, Newsletter.halted_at.is_(None)
    )
    return list(session.scalars(query.order_by(Newsletter.id)))


def _goes_by_itself(newsletter: Newsletter) -> bool:
    return newsletter.mode is not Mode.HAND and newsletter.halted_at is None


def _wanted(session: Session) -> set[tuple[int, str]]:
    return {
        (newsletter.id, rhythm)
        for newsletter in _by_themselves(session)
        for rhythm in choices.offered_rhythms(newsletter)
    }
