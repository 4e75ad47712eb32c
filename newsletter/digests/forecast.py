"""How many would get an issue or a rhythm's next digest, told within a page's time.

Who gets which posts takes a look at every reader. Where these are many, the clock looks
every quarter of an hour, and pages show its number with its moment (`at`). Until then
they show how many have the rhythm: nobody else can get it (`at_most`). What is sent is
always reckoned anew.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.digests import compose, drafts, letters, planning, publish
from newsletter.digests import editions as plans
from newsletter.digests.editions import Common, Plan
from newsletter.models import Issue, Mode, Newsletter, Post, Reckoning
from newsletter.subscribers import choices, reckonings

EVERY = timedelta(minutes=15)
MOST_DRAFTS = 20  # of a newsletter, the newest first
DIGEST, ISSUE = "digest", "issue"


@dataclass(frozen=True, slots=True)
class Audience:
    """How many get something."""

    readers: int
    at: datetime | None = None  # null: just counted
    at_most: bool = False  # it may be fewer


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a rhythm's next digest would be."""

    audience: Audience
    posts: list[Post]
    why: str  # it would be empty: a message id of `planning`


@dataclass(frozen=True, slots=True)
class Question:
    """What the clock is to find out."""

    newsletter_id: int
    kind: str
    name: str
    issue_id: int | None = None


def of_issue(
    session: Session, issue: Issue, *, now: datetime, exact: bool = False
) -> Audience:
    """Return how many would get an issue of either kind."""
    newsletter = issue.newsletter
    if exact or not reckonings.is_large(session, newsletter):
        return Audience(publish.readers(session, issue, now=now))
    return _kept(session, newsletter, ISSUE, name_of(issue)) or _at_most(
        session, newsletter, issue.rhythm
    )


def of_letter(session: Session, issue: Issue, *, now: datetime) -> tuple[Audience, int]:
    """Return how many a letter is for, and how many there are. Raises InvalidInput."""
    if not reckonings.is_large(session, issue.newsletter):
        counts = letters.audience_of(session, issue.newsletter, issue.segment, now=now)
        return Audience(counts.readers), counts.of
    found, _ = by_rhythm(session, issue.newsletter)
    return of_issue(session, issue, now=now), sum(found.values())


def of_rhythm(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    *,
    common: Common | None = None,
    now: datetime,
) -> Outlook:
    """Return what a rhythm's readers would get now, and how many they are."""
    common = common or Common(session, newsletter)
    issue = drafts.of_rhythm(session, newsletter, rhythm, common=common, now=now)
    if issue is None:
        return Outlook(Audience(0), [], planning.N_NOTHING)
    if not reckonings.is_large(session, newsletter):
        prepared = publish.prepare(session, issue)
        why = planning.why_empty(session, prepared)
        return Outlook(Audience(prepared.readers), _posts(prepared.plan), why)
    audience = _kept(session, newsletter, DIGEST, rhythm) or _at_most(
        session, newsletter, rhythm
    )
    plan, why = plans.plan(session, issue, common=common), ""
    entries = [*plan.own, *plan.late]
    if plan.is_too_small(entries):
        why = planning.N_TOO_FEW
    elif not audience.readers:
        why = planning.N_NOBODY
    return Outlook(audience, _posts(plan), why)


def by_rhythm(
    session: Session, newsletter: Newsletter
) -> tuple[dict[str, int], datetime | None]:
    """Return how many active readers have each rhythm that is offered."""
    stored, at = reckonings.active_by_rhythm(session, newsletter)
    found: dict[str, int] = {}
    for rhythm, number in stored.items():
        name = choices.effective_rhythm(newsletter, rhythm)
        found[name] = found.get(name, 0) + number
    return found, at


def name_of(issue: Issue) -> str:
    """Name an issue as it stands: a change of who gets it makes another name."""
    posts = [entry.post.id for entry in compose.shown(issue.posts)]
    says = repr((issue.segment, issue.language, issue.rhythm, issue.picked, posts))
    return f"{issue.id}:{hashlib.sha256(says.encode()).hexdigest()[:16]}"


def questions(session: Session, *, now: datetime) -> list[Question]:
    """Return what has not been looked at for a while, what never was first."""
    rows = session.execute(
        select(
            Reckoning.newsletter_id,
            Reckoning.kind,
            Reckoning.name,
            Reckoning.counted_at,
        ).where(Reckoning.kind.in_((DIGEST, ISSUE)))
    )
    since = {(row[0], row[1], row[2]): row[3] for row in rows}
    due = [
        (last is not None, last or now, question)
        for question in _wanted(session)
        if (last := since.get((question.newsletter_id, question.kind, question.name)))
        is None
        or now - last >= EVERY
    ]
    return [question for *_, question in sorted(due, key=lambda one: one[:2])]


def look(session: Session, question: Question, *, now: datetime) -> int | None:
    """Look at all readers for one question; None if it is none any more."""
    newsletter = session.get_one(Newsletter, question.newsletter_id)
    if question.kind == DIGEST:
        prepared = planning.prepare(session, newsletter, question.name, now=now)
        return prepared.readers if prepared else 0
    issue = session.get(Issue, question.issue_id)
    if issue is None or issue.state not in drafts.EDITABLE:
        return None
    return publish.readers(session, issue, now=now)


def keep(
    session: Session, question: Question, readers: int | None, *, now: datetime
) -> None:
    """Keep an answer, and forget those that nobody asks for any more."""
    wanted = {(q.newsletter_id, q.kind, q.name) for q in _wanted(session)}
    for row in session.scalars(
        select(Reckoning).where(Reckoning.kind.in_((DIGEST, ISSUE)))
    ):
        if (row.newsletter_id, row.kind, row.name) not in wanted:
            session.delete(row)
    if readers is not None:
        session.merge(
            Reckoning(
                newsletter_id=question.newsletter_id,
                kind=question.kind,
                name=question.name,
                number=readers,
                counted_at=now,
            )
        )
    session.flush()


def _wanted(session: Session) -> Iterator[Question]:
    """Yield what the pages of large newsletters show."""
    counted = select(Reckoning.newsletter_id).where(Reckoning.kind == reckonings.ALL)
    query = select(Newsletter).where(Newsletter.id.in_(counted))
    for newsletter in session.scalars(query.order_by(Newsletter.id)).all():
        if newsletter.mode is not Mode.HAND:
            for rhythm in choices.offered_rhythms(newsletter):
                yield Question(newsletter.id, DIGEST, rhythm)
        issues = (
            select(Issue)
            .where(
                Issue.newsletter_id == newsletter.id,
                Issue.state.in_(drafts.EDITABLE),
            )
            .order_by(Issue.id.desc())
            .limit(MOST_DRAFTS)
        )
        for issue in session.scalars(issues).all():
            yield Question(newsletter.id, ISSUE, name_of(issue), issue.id)


def _posts(plan: Plan) -> list[Post]:
    return [entry.post for entry in (*plan.own, *plan.late)]


def _kept(
    session: Session, newsletter: Newsletter, kind: str, name: str
) -> Audience | None:
    row = session.get(Reckoning, (newsletter.id, kind, name))
    if row is None:
        return None
    return Audience(row.number, row.counted_at)


def _at_most(session: Session, newsletter: Newsletter, rhythm: str) -> Audience:
    found, at = by_rhythm(session, newsletter)
    number = found.get(rhythm, 0) if rhythm else sum(found.values())
    return Audience(number, at, at_most=True)
