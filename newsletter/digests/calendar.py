"""The calendar: what goes out when, to how many, with which posts; and changing that.

`upcoming` writes nothing. An occurrence is named by its rhythm and `due_at`, the moment
the rhythm itself says. Changing one takes the newsletter's row, as planning does, so
that whoever comes second finds it gone and is told so.
"""

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.digests import (
    compose,
    drafts,
    forecast,
    occurrences,
    planning,
    publish,
)
from newsletter.digests.editions import Common
from newsletter.digests.forecast import Audience
from newsletter.digests.occurrences import Moment
from newsletter.digests.planning import EACH
from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.models import (
    Issue,
    IssueKind,
    IssueState,
    Mode,
    Newsletter,
    Occurrence,
    OccurrenceState,
    Post,
)
from newsletter.posts import positions
from newsletter.subscribers import choices

WEEKS = 4
MOST_WEEKS = 60
AHEAD = timedelta(weeks=10)

N_HALTED = N_(
    "A backup was restored. Nothing goes out by itself until a person has looked."
)
N_NOTHING_YET = N_("There is nothing new yet.")
N_FEW_YET = N_("Too few posts so far; they wait for more.")
N_NOBODY_YET = N_("No reader would get any of it.")
_YET = {
    planning.N_NOTHING: N_NOTHING_YET,
    planning.N_TOO_FEW: N_FEW_YET,
    planning.N_NOBODY: N_NOBODY_YET,
    "": "",
}


class State(enum.StrEnum):
    """How an entry of the calendar stands."""

    WAITING = "waiting"  # for its time
    SKIPPED = "skipped"
    HELD = "held"  # for an editor: `issue_id` tells which
    SCHEDULED = "scheduled"  # an issue by hand, at its time


@dataclass(frozen=True, slots=True)
class Upcoming:
    """What goes out, or would."""

    rhythm: str  # "" for an issue by hand, to everybody
    due_at: datetime  # as the rhythm says; names the occurrence
    at: datetime  # when it goes
    state: State
    audience: Audience  # who would get it now; of later ones, who has the rhythm
    posts: Sequence[Post] = field(default=())
    issue_id: int | None = None
    why: str = ""  # why it is empty or waits: a message id
    moved: bool = False  # by an editor

    @property
    def readers(self) -> int:
        """Return how many would get it."""
        return self.audience.readers

    @property
    def can_change(self) -> bool:
        """Tell whether it can be skipped, moved or sent now."""
        return bool(self.rhythm) and self.issue_id is None and self.rhythm != EACH


def upcoming(
    session: Session, newsletter: Newsletter, *, now: datetime, weeks: int = WEEKS
) -> list[Upcoming]:
    """Return what goes out by itself until some weeks from now, the next one first.

    The first of each rhythm has the posts that wait for it; `each` stands there while
    posts wait. Where newsletters are sent by hand, only what is scheduled.
    """
    until = now + timedelta(weeks=max(1, min(weeks, MOST_WEEKS)))
    found, common = _issues(session, newsletter, now), Common(session, newsletter)
    if newsletter.mode is not Mode.HAND:
        counts, at = forecast.by_rhythm(session, newsletter)
        for rhythm in choices.offered_rhythms(newsletter):
            readers = Audience(counts.get(rhythm, 0), at)
            if rhythm == EACH:
                found += _each(session, newsletter, common, now)
            else:
                moments = _moments(session, newsletter, rhythm, now, until)
                found += _timed(session, newsletter, moments, readers, common, now)
    return sorted(found, key=lambda one: (one.at, one.due_at, one.rhythm))


def readers_of_each(session: Session, newsletter: Newsletter) -> int:
    """Return how many readers get each post as it comes, at no time of a calendar."""
    if EACH not in choices.offered_rhythms(newsletter):
        return 0
    counts, _at = forecast.by_rhythm(session, newsletter)
    return counts.get(EACH, 0)


def next_one(
    session: Session, newsletter: Newsletter, *, now: datetime
) -> Upcoming | None:
    """Return what goes out next, or waits for an editor; looks at its readers alone.

    None where nothing goes by itself and nothing is scheduled.
    """
    waiting = min(_waiting(session, newsletter), key=lambda w: w[1], default=None)
    each: list[Upcoming] = []
    moments: list[Moment] = []
    common = Common(session, newsletter)
    if newsletter.mode is not Mode.HAND:
        if EACH in choices.offered_rhythms(newsletter):
            each = _each(session, newsletter, common, now)
        for rhythm in occurrences.timed(newsletter):
            moments += _moments(session, newsletter, rhythm, now, now + AHEAD)
    goes = [m for m in moments if m.state is not OccurrenceState.SKIPPED]
    first = min(goes, key=lambda m: m.at, default=None)
    before = min([one.at for one in each] + [m.at for m in goes], default=None)
    if waiting is not None and (before is None or waiting[1] <= before):
        return _issue(session, *waiting, now)
    if each and (first is None or each[0].at <= first.at):
        return each[0]
    return _first(session, newsletter, first, common, now) if first else None


def digest_of(
    session: Session, post: Post, *, now: datetime, weeks: int = WEEKS
) -> Upcoming | None:
    """Return the first of the next digests that holds a post; None if none does."""
    newsletter = session.get_one(Newsletter, post.newsletter_id)
    for one in upcoming(session, newsletter, now=now, weeks=weeks):
        if any(post.id == other.id for other in one.posts):
            return one
    return None


def next_digests(
    session: Session, newsletter: Newsletter, *, now: datetime
) -> dict[int, tuple[str, datetime, State]]:
    """Return in which digest each waiting post comes first: rhythm, time and state.

    By the post's id. Looks at no reader, and so costs the same for a million.
    """
    found: list[tuple[datetime, str, State, list[Post]]] = []
    for issue, at, state in _waiting(session, newsletter):
        found.append((at, issue.rhythm, state, _shown(issue)))
    if newsletter.mode is not Mode.HAND and newsletter.halted_at is None:
        common = Common(session, newsletter)
        for rhythm in choices.offered_rhythms(newsletter):
            due = next_time(session, newsletter, rhythm, now)
            next_one = drafts.of_rhythm(
                session, newsletter, rhythm, common=common, now=now
            )
            if due is not None and next_one is not None:
                found.append((due, rhythm, State.WAITING, _shown(next_one)))
    first: dict[int, tuple[str, datetime, State]] = {}
    for at, rhythm, state, posts in sorted(found, key=lambda one: one[0]):
        for post in posts:
            first.setdefault(post.id, (rhythm, at, state))
    return first


def skip(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    due_at: datetime,
    *,
    now: datetime,
) -> None:
    """Let one occurrence go by; its posts come in the next. Safe to call twice.

    Raises NotFound if there is no such occurrence, Conflict if it is over.
    """
    here, moment = _hold(session, newsletter, rhythm, due_at, now)
    occurrences.store(session, here, moment, OccurrenceState.SKIPPED)


def unskip(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    due_at: datetime,
    *,
    now: datetime,
) -> None:
    """Let a skipped occurrence take place after all. Safe to call twice."""
    here, moment = _hold(session, newsletter, rhythm, due_at, now)
    if moment.at <= now:
        raise Conflict(N_("Its time has passed. Send it now instead, or let it be."))
    occurrences.store(session, here, moment, OccurrenceState.WAITING)


def move(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    due_at: datetime,
    *,
    to: datetime,
    now: datetime,
) -> None:
    """Let one occurrence take place at another time, before the one that follows it.

    Raises InvalidInput for a time that does not do, NotFound, Conflict.
    """
    here, moment = _hold(session, newsletter, rhythm, due_at, now)
    if to <= now:
        raise InvalidInput(
            N_("That moment has passed. Choose a later one, or send now."), field="to"
        )
    before, following = _neighbours(session, here, moment, now)
    if before is not None and to <= before.at:
        raise InvalidInput(
            N_("That is before the one that comes first. Choose a later time."),
            field="to",
        )
    if following is not None and to >= following.at:
        raise InvalidInput(
            N_("That is no earlier than the next one. Skip this one instead."),
            field="to",
        )
    occurrences.store(session, here, moment, OccurrenceState.WAITING, at=to)


def move_back(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    due_at: datetime,
    *,
    to: datetime | None,
    now: datetime,
) -> None:
    """Undo `move`: let it go where it stood; None is where the rhythm has it.

    Raises as `move`.
    """
    if to is not None:
        move(session, newsletter, rhythm, due_at, to=to, now=now)
        return
    here, moment = _hold(session, newsletter, rhythm, due_at, now)
    if occurrences.quiet_of(here).after(due_at) <= now:
        raise Conflict(N_("Its time has passed. Send it now instead, or let it be."))
    waiting = OccurrenceState.WAITING
    occurrences.store(session, here, moment, waiting, in_place=True)


def moved_to(
    session: Session, newsletter: Newsletter, rhythm: str, due_at: datetime
) -> datetime | None:
    """Return where an editor has moved an occurrence; None if nobody has."""
    row = occurrences.row_of(session, newsletter, rhythm, due_at)
    return row.at if row else None


def send_now(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    rhythm: str,
    due_at: datetime,
    *,
    undo_seconds: int = 0,
    now: datetime,
) -> Issue:
    """Send the next digest of a rhythm, in place of its occurrence.

    It leaves in `undo_seconds`; until then `publish.undo` works. Raises NothingNew,
    Conflict (also while an issue of the rhythm waits for an editor), NotFound,
    InvalidInput.
    """
    here, moment = _hold(session, newsletter, rhythm, due_at, now)
    if planning.waiting_issue(session, here, rhythm) is not None:
        raise Conflict(
            N_("An issue of this rhythm waits for you. Send or skip that one first.")
        )
    before, _following = _neighbours(session, here, moment, now)
    if before is not None:
        raise Conflict(N_("Another one comes before it. Send or skip that one first."))
    issue = planning.send_early(
        session, settings, here, moment, undo_seconds=undo_seconds, now=now
    )
    if issue is None:
        raise drafts.NothingNew(
            N_("There is nothing to send to the readers of this rhythm just now.")
        )
    return issue


def openings(
    session: Session, newsletter: Newsletter, *, now: datetime
) -> list[Moment]:
    """Return the next occurrence of each rhythm that an editor's issue may go in."""
    if newsletter.mode is Mode.HAND or newsletter.halted_at is not None:
        return []
    found = []
    for rhythm in occurrences.timed(newsletter):
        since = occurrences.dealt_with(session, newsletter, rhythm) or now
        moments = occurrences.between(
            session, newsletter, rhythm, after=since, until=now + AHEAD
        )
        goes = [m for m in moments if m.state is not OccurrenceState.SKIPPED]
        waits = planning.waiting_issue(session, newsletter, rhythm) is not None
        if goes and goes[0].at > now and not waits:
            found.append(goes[0])
    return sorted(found, key=lambda moment: moment.at)


def put_in(session: Session, issue: Issue, rhythm: str, *, now: datetime) -> Moment:
    """Let a draft go out as the next digest of a rhythm, to its readers.

    `publish.unschedule` takes it back. Raises Conflict, NotFound or InvalidInput.
    """
    publish.hold_still(session, issue)
    newsletter = issue.newsletter
    if issue.kind is not IssueKind.DIGEST or issue.rhythm:
        raise Conflict(N_("Only a draft that is for everybody can go in a rhythm."))
    moments = {m.rhythm: m for m in openings(session, newsletter, now=now)}
    moment = moments.get(rhythm)
    if moment is None:
        raise NotFound(N_("There is no such digest in the calendar (any more)."))
    issue.rhythm = rhythm
    session.flush()
    publish.schedule(session, issue, moment.at, now=now)
    planning.give(session, newsletter, moment, issue)
    return moment


def _hold(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    due_at: datetime,
    now: datetime,
) -> tuple[Newsletter, Moment]:
    """Take the newsletter, and return it with an occurrence that is still to come."""
    here = positions.lock(session, newsletter.id)
    if here.mode is Mode.HAND or rhythm not in occurrences.timed(here):
        raise NotFound(N_("There is no such digest in the calendar (any more)."))
    if here.halted_at is not None:
        raise Conflict(N_HALTED)
    since = occurrences.dealt_with(session, here, rhythm) or now
    if due_at <= since:
        raise Conflict(N_("That digest is over: it has been made, or was passed by."))
    until = max(now, due_at)
    found = occurrences.between(
        session, here, rhythm, after=since, until=until, whole=True
    )
    for moment in found:
        if moment.due_at == due_at:
            return here, moment
    raise NotFound(N_("There is no such digest in the calendar (any more)."))


def _neighbours(
    session: Session, newsletter: Newsletter, moment: Moment, now: datetime
) -> tuple[Moment | None, Moment | None]:
    """Return what takes place before and after an occurrence, as far as it is known."""
    since = occurrences.dealt_with(session, newsletter, moment.rhythm) or now
    until = max(moment.due_at, now) + timedelta(days=70)
    goes = [
        other
        for other in occurrences.between(
            session, newsletter, moment.rhythm, after=since, until=until
        )
        if other.state is not OccurrenceState.SKIPPED
    ]
    before = [other for other in goes if other.due_at < moment.due_at]
    following = [other for other in goes if other.due_at > moment.due_at]
    return (before[-1] if before else None, following[0] if following else None)


def _issues(session: Session, newsletter: Newsletter, now: datetime) -> list[Upcoming]:
    """Return the issues that wait: for their time, or for an editor."""
    return [_issue(session, *one, now) for one in _waiting(session, newsletter)]


def _issue(
    session: Session, issue: Issue, at: datetime, state: State, now: datetime
) -> Upcoming:
    row = session.scalar(select(Occurrence).where(Occurrence.issue_id == issue.id))
    return Upcoming(
        rhythm=issue.rhythm,
        due_at=row.due_at if row else at,
        at=at,
        state=state,
        audience=forecast.of_issue(session, issue, now=now),
        posts=_shown(issue),
        issue_id=issue.id,
        why=issue.held_reason,
    )


def _waiting_rows(
    session: Session, newsletter: Newsletter
) -> Sequence[Row[Issue, Occurrence | None]]:
    query = select(Issue, Occurrence).outerjoin(
        Occurrence, Occurrence.issue_id == Issue.id
    )
    return session.execute(
        query.where(
            Issue.newsletter_id == newsletter.id,
            Issue.state.in_((IssueState.SCHEDULED, IssueState.HELD)),
        )
    ).all()


def _waiting(
    session: Session, newsletter: Newsletter
) -> Iterator[tuple[Issue, datetime, State]]:
    """Yield the issues that wait, since or until when, and for what."""
    for issue, row in _waiting_rows(session, newsletter):
        due_at = row.due_at if row else issue.created_at
        held = issue.state is IssueState.HELD
        state = State.HELD if held else State.SCHEDULED
        yield issue, issue.scheduled_at or due_at, state


def _shown(issue: Issue) -> list[Post]:
    return [entry.post for entry in compose.shown(issue.posts)]


def next_time(
    session: Session, newsletter: Newsletter, rhythm: str, now: datetime
) -> datetime | None:
    """Return when a rhythm's next digest goes, if that is within ten weeks."""
    if rhythm == EACH:
        return occurrences.quiet_of(newsletter).ends(now)
    moments = occurrences.between(
        session,
        newsletter,
        rhythm,
        after=occurrences.dealt_with(session, newsletter, rhythm) or now,
        until=now + AHEAD,
    )
    goes = [m.at for m in moments if m.state is not OccurrenceState.SKIPPED]
    return goes[0] if goes else None


def _each(
    session: Session, newsletter: Newsletter, common: Common, now: datetime
) -> list[Upcoming]:
    if planning.waiting_issue(session, newsletter, EACH) is not None:
        return []
    outlook = forecast.of_rhythm(session, newsletter, EACH, common=common, now=now)
    if not outlook.audience.readers:
        return []
    at = occurrences.quiet_of(newsletter).ends(now)
    return [
        Upcoming(
            rhythm=EACH,
            due_at=at,
            at=at,
            state=State.WAITING,
            audience=outlook.audience,
            posts=outlook.posts,
            why=N_HALTED if newsletter.halted_at else "",
        )
    ]


def _timed(
    session: Session,
    newsletter: Newsletter,
    moments: Sequence[Moment],
    readers: Audience,
    common: Common,
    now: datetime,
) -> list[Upcoming]:
    first = next((m for m in moments if m.state is not OccurrenceState.SKIPPED), None)
    return [
        _first(session, newsletter, moment, common, now)
        if moment is first
        else _later(newsletter, moment, readers)
        for moment in moments
    ]


def _moments(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    now: datetime,
    until: datetime,
) -> list[Moment]:
    """Return when a rhythm falls due, from what has not been dealt with."""
    since = occurrences.dealt_with(session, newsletter, rhythm) or now
    if newsletter.halted_at is not None:
        since = now
    found = occurrences.between(session, newsletter, rhythm, after=since, until=until)
    return [moment for moment in found if moment.at <= until]


def _first(
    session: Session,
    newsletter: Newsletter,
    moment: Moment,
    common: Common,
    now: datetime,
) -> Upcoming:
    """Return the next digest of a rhythm, with what waits for it."""
    outlook = forecast.of_rhythm(
        session, newsletter, moment.rhythm, common=common, now=now
    )
    why, posts = _YET[outlook.why], outlook.posts
    if held := planning.waiting_issue(session, newsletter, moment.rhythm):
        there = {entry.post.id for entry in held.posts}
        posts = [post for post in posts if post.id not in there]
        if held.state is IssueState.HELD:
            why = planning.N_BEHIND
    return Upcoming(
        rhythm=moment.rhythm,
        due_at=moment.due_at,
        at=moment.at,
        state=State.WAITING,
        audience=outlook.audience,
        posts=posts,
        why=N_HALTED if newsletter.halted_at else why,
        moved=moment.moved,
    )


def _later(newsletter: Newsletter, moment: Moment, readers: Audience) -> Upcoming:
    skipped = moment.state is OccurrenceState.SKIPPED
    return Upcoming(
        rhythm=moment.rhythm,
        due_at=moment.due_at,
        at=moment.at,
        state=State.SKIPPED if skipped else State.WAITING,
        audience=Audience(0) if skipped else readers,
        why=N_HALTED if newsletter.halted_at else "",
        moved=moment.moved,
    )
