"""Occurrences: when a newsletter's rhythms fall due, with what an editor changed.

The rhythm says when (`due_at`). A quiet day moves it to the next that is not, an editor
wherever they like until the next one, and may skip it. An occurrence that thereby comes
no earlier than the one after it is that one. `schedule.until` tells how far a rhythm
has been dealt with; what is up to there is never looked at again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from newsletter import rhythms
from newsletter.models import (
    Issue,
    Newsletter,
    Occurrence,
    OccurrenceState,
    Schedule,
)
from newsletter.quiet import Quiet
from newsletter.subscribers import choices


@dataclass(frozen=True, slots=True)
class Moment:
    """One time at which a rhythm falls due."""

    rhythm: str
    due_at: datetime  # as the rhythm says: its name
    at: datetime  # when it goes
    state: OccurrenceState = OccurrenceState.WAITING
    moved: bool = False  # by an editor


def between(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    *,
    after: datetime,
    until: datetime,
    whole: bool = False,
) -> list[Moment]:
    """Return what is due after one moment until another, in order.

    What an editor moved to before `until` is there too. `whole` keeps those that have
    become one with what follows them.
    """
    zone = newsletter.timezone
    due = list(rhythms.occurrences(rhythm, zone, after=after, until=until))
    changed = {
        row.due_at: row
        for row in session.scalars(
            select(Occurrence).where(
                Occurrence.newsletter_id == newsletter.id,
                Occurrence.rhythm == rhythm,
                Occurrence.due_at > after,
            )
        )
    }
    early = [d for d, row in changed.items() if row.at and row.at <= until < d]
    quiet = quiet_of(newsletter)
    found = [
        _moment(rhythm, moment, changed.get(moment), quiet)
        for moment in sorted({*due, *early})
    ]
    return found if whole else _in_order(found)


def quiet_of(newsletter: Newsletter) -> Quiet:
    """Return a newsletter's quiet days."""
    return Quiet.of(
        newsletter.timezone,
        newsletter.quiet_days,
        newsletter.holidays,
        newsletter.holiday_country,
    )


def coming(
    rhythm: str, quiet: Quiet, *, after: datetime, count: int
) -> list[tuple[datetime, datetime]]:
    """Return the next times of a rhythm that may be no more than typed.

    Each as the rhythm says and as quiet days leave it; `each` has none.
    """
    found: list[tuple[datetime, datetime]] = []
    due = rhythms.next_after(rhythm, quiet.timezone, after)
    while due is not None and len(found) <= count:  # the one too many settles the last
        at = quiet.after(due)
        while found and found[-1][1] >= at:  # has become one with this
            found.pop()
        found.append((due, at))
        due = rhythms.next_after(rhythm, quiet.timezone, due)
    return found[:count]


def timed(newsletter: Newsletter) -> list[str]:
    """Return the rhythms that fall due by the clock."""
    return [name for name in choices.offered_rhythms(newsletter) if name != "each"]


def dealt_with(
    session: Session, newsletter: Newsletter, rhythm: str
) -> datetime | None:
    """Return until when a rhythm has been dealt with; None if it never was."""
    row = session.get(Schedule, (newsletter.id, rhythm), populate_existing=True)
    return row.until if row else None


def row_of(
    session: Session, newsletter: Newsletter, rhythm: str, due_at: datetime
) -> Occurrence | None:
    """Return what is stored of an occurrence."""
    return session.scalar(
        select(Occurrence)
        .where(
            Occurrence.newsletter_id == newsletter.id,
            Occurrence.rhythm == rhythm,
            Occurrence.due_at == due_at,
        )
        .execution_options(populate_existing=True)
    )


def store(
    session: Session,
    newsletter: Newsletter,
    moment: Moment,
    state: OccurrenceState,
    *,
    reason: str = "",
    issue: Issue | None = None,
    at: datetime | None = None,
    in_place: bool = False,
) -> None:
    """Write down what became of an occurrence. The caller holds the newsletter.

    `in_place` forgets where an editor had moved it to.
    """
    row = row_of(session, newsletter, moment.rhythm, moment.due_at)
    if row is None:
        row = Occurrence(
            newsletter_id=newsletter.id, rhythm=moment.rhythm, due_at=moment.due_at
        )
        session.add(row)
    row.state, row.reason = state, reason
    row.issue_id = issue.id if issue else None
    row.at = None if in_place else at or row.at
    session.flush()


def free(session: Session, issue: Issue, *, now: datetime) -> bool:
    """Let an occurrence that an editor gave to an issue be the rhythm's own again.

    Only one that is still to come; tells whether it was. The caller holds the
    newsletter.
    """
    row = session.scalar(select(Occurrence).where(Occurrence.issue_id == issue.id))
    if row is None or (row.at or row.due_at) <= now:
        return False
    schedule = session.get(Schedule, (row.newsletter_id, row.rhythm))
    if schedule is not None:
        schedule.until = min(schedule.until, row.due_at - timedelta(seconds=1))
    row.issue_id, row.state = None, OccurrenceState.WAITING
    issue.rhythm = ""
    session.flush()
    return True


def skip_issue(session: Session, issue: Issue) -> None:
    """Let the occurrence of an issue that will not go out count as skipped."""
    _turn(session, issue, OccurrenceState.SKIPPED)


def waits_again(session: Session, issue: Issue) -> None:
    """Let the occurrence of an issue that was skipped wait as the issue does."""
    _turn(session, issue, OccurrenceState.WAITING)


def issue_went(session: Session, issue: Issue) -> None:
    """Let the occurrence of an issue count as done."""
    _turn(session, issue, OccurrenceState.ISSUED)


def _turn(session: Session, issue: Issue, state: OccurrenceState) -> None:
    session.execute(
        update(Occurrence)
        .where(Occurrence.issue_id == issue.id)
        .values(state=state)
        .execution_options(synchronize_session=False)
    )


def _moment(
    rhythm: str, due_at: datetime, row: Occurrence | None, quiet: Quiet
) -> Moment:
    if row is None:
        return Moment(rhythm, due_at, quiet.after(due_at))
    at = row.at or quiet.after(due_at)
    return Moment(rhythm, due_at, at, row.state, moved=row.at is not None)


def _in_order(moments: Sequence[Moment]) -> list[Moment]:
    """Leave out what comes no earlier than what follows it, unless that is skipped."""
    kept: list[Moment] = []
    for moment in reversed(moments):
        following = next((m for m in reversed(kept) if _goes(m)), None)
        if following is None or moment.at < following.at or not _goes(moment):
            kept.append(moment)
    return kept[::-1]


def _goes(moment: Moment) -> bool:
    return moment.state is not OccurrenceState.SKIPPED
