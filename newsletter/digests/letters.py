"""Letters: words without posts, to all of a newsletter's readers or to a segment.

A letter is an issue: it has a number, a page and a ledger, and is tried, scheduled,
sent, paused and followed like any other (`publish.py`). It carries no post and moves no
cursor. Its readers differ in one thing only, the language of what stands around it.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, func, select, true
from sqlalchemy.orm import Session

from newsletter import i18n, plaintext
from newsletter.digests import drafts, editions, segments
from newsletter.digests.editions import Edition, Group
from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import (
    Issue,
    IssueKind,
    IssueState,
    Newsletter,
    Subscriber,
    Subscription,
)
from newsletter.subscribers import choices

BODY_CHARACTERS = 30_000
_WITHOUT_WORDS = re.compile(r"!\[\s*\]\s*\(")  # a picture that says nothing


@dataclass(frozen=True, slots=True)
class Audience:
    """How many readers a segment holds, of how many who may get mail."""

    readers: int
    of: int


def write(
    session: Session,
    newsletter: Newsletter,
    *,
    subject: str = "",
    preview_text: str = "",
    body: str = "",
    segment: str = "",
    language: str = "",
    created_by: int | None = None,
    now: datetime,
) -> Issue:
    """Make a draft of a letter; everything may be left for later. Raises InvalidInput.

    `body` is Markdown, `segment` is text as `segments.py` reads it.
    """
    issue = Issue(
        newsletter_id=newsletter.id,
        newsletter=newsletter,
        kind=IssueKind.LETTER,
        state=IssueState.DRAFT,
        created_by=created_by,
        created_at=now,
        posts=[],
    )
    session.add(issue)
    edit(
        session,
        issue,
        subject=subject,
        preview_text=preview_text,
        body=body,
        segment=segment,
        language=language or newsletter.language,
    )
    session.flush()
    return issue


def edit(
    session: Session,
    issue: Issue,
    *,
    subject: str | None = None,
    preview_text: str | None = None,
    body: str | None = None,
    segment: str | None = None,
    language: str | None = None,
) -> None:
    """Change a letter; what is None stays. Raises Conflict once it has left."""
    drafts.edit(session, issue, subject=subject, preview_text=preview_text)
    newsletter = issue.newsletter
    if body is not None:
        issue.opening = _body(body)
    if language is not None:
        issue.language = choices.check_language(newsletter, language)
    if segment is not None:
        found = segments.parse(segment, segments.known(session, newsletter))
        issue.segment = str(found)


def find(session: Session, newsletter: Newsletter, issue_id: int) -> Issue:
    """Return one of a newsletter's letters. Raises NotFound."""
    issue = drafts.find(session, issue_id)
    if issue.newsletter_id != newsletter.id or issue.kind is not IssueKind.LETTER:
        raise NotFound(N_("There is no letter with the id %(id)s."), id=issue_id)
    return issue


def check(issue: Issue) -> None:
    """Make sure that a letter says something. Raises InvalidInput."""
    if not issue.subject.strip():
        raise InvalidInput(
            N_("The letter has no subject. Write one first."), field="subject"
        )
    if not issue.opening.strip():
        raise InvalidInput(N_("The letter is empty. Write it first."), field="opening")
    if _WITHOUT_WORDS.search(issue.opening):
        raise InvalidInput(
            N_(
                "A picture says nothing to those who cannot see it. Write what it shows"
                " between the brackets: ![two people at a table](…)."
            ),
            field="opening",
        )


def describe(session: Session, issue: Issue, words: i18n.Language) -> str:
    """Say in words who gets a letter; what no longer makes sense, as it is."""
    known = segments.known(session, issue.newsletter)
    try:
        segment = segments.parse(issue.segment, known)
    except InvalidInput:
        return issue.segment
    return segments.describe(segment, known, words)


def audience_of(
    session: Session, newsletter: Newsletter, segment: str, *, now: datetime
) -> Audience:
    """Count the readers of a segment. Raises InvalidInput."""
    known = segments.known(session, newsletter)
    conditions = segments.conditions(segments.parse(segment, known), known, now=now)
    chosen = func.count().filter(and_(true(), *conditions))
    query = (
        select(chosen, func.count())
        .select_from(Subscription)
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .where(*editions.may_get_mail(newsletter, ""))
    )
    readers, total = session.execute(query).one()
    return Audience(readers=readers, of=total)


def plan(session: Session, issue: Issue, *, now: datetime) -> list[Edition]:
    """Return the editions of a letter, the largest first. Raises InvalidInput.

    The one in the newsletter's own language is always there, for the archive.
    """
    newsletter = issue.newsletter
    own = editions.spoken(newsletter.language, newsletter)
    found = {own: Edition(own, [], name=own)}
    query = (
        select(Subscription.language, func.count())
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .where(*_in_segment(session, issue, now=now))
        .group_by(Subscription.language)
        .order_by(Subscription.language)
    )
    for stored, readers in session.execute(query):
        code = editions.spoken(stored, newsletter)
        edition = found.setdefault(code, Edition(code, [], name=code))
        edition.readers += readers
        edition.groups.append(Group(stored, 0, (), (), readers))
    return sorted(found.values(), key=lambda edition: -edition.readers)


def audience(
    session: Session, issue: Issue, edition: Edition, *, now: datetime
) -> Select[int, str]:
    """Return the query of an edition's readers: subscription id and address."""
    return (
        select(
            Subscription.id.label("subscription_id"),
            Subscriber.email.label("address"),
        )
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .where(*_in_segment(session, issue, now=now))
        .where(Subscription.language.in_([g.language for g in edition.groups]))
    )


def is_for(
    session: Session, issue: Issue, subscription: Subscription, *, now: datetime
) -> bool:
    """Tell whether a reader is among those who would get a letter."""
    query = (
        select(Subscription.id)
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .where(*_in_segment(session, issue, now=now))
    )
    return session.scalar(query.where(Subscription.id == subscription.id)) is not None


def _in_segment(
    session: Session, issue: Issue, *, now: datetime
) -> list[ColumnElement[bool]]:
    known = segments.known(session, issue.newsletter)
    segment = segments.parse(issue.segment, known)
    return [
        *editions.may_get_mail(issue.newsletter, ""),
        *segments.conditions(segment, known, now=now),
    ]


def _body(text: str) -> str:
    body = plaintext.clean(text).strip()
    if len(body) > BODY_CHARACTERS:
        raise InvalidInput(
            N_("That text has %(length)s characters; %(limit)s fit. Shorten it."),
            field="opening",
            length=len(body),
            limit=BODY_CHARACTERS,
        )
    return body
