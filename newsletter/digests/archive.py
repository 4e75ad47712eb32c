"""The archive: issues for everybody to read, and editions as their readers got them.

An issue in the archive has a plain address, where the edition with every post stands,
in each language it was written in. Any other edition, and any issue that is not for
everybody, can be read at an address that only its mails know: unguessable, and the same
for all its readers, so that it tells nobody apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from markupsafe import Markup
from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import Session

from newsletter import links, markup
from newsletter.config import Settings
from newsletter.digests import compose
from newsletter.digests.editions import Edition
from newsletter.errors import N_, NotFound
from newsletter.models import (
    Issue,
    IssuePost,
    IssueState,
    Kind,
    Message,
    Newsletter,
    Post,
    PostState,
)

# Issues that have begun to go out. What a cancelled one brought some of its readers
# stays readable for them.
PUBLIC = (IssueState.SENDING, IssueState.PAUSED, IssueState.SENT)
SENT_TO_SOME = (*PUBLIC, IssueState.CANCELLED)
TOKEN_CHARACTERS = 32
MOST_NUMBER = 2**31 - 1
MOST = 1_000
MOST_YEARS = 100


@dataclass(frozen=True, slots=True)
class Listed:
    """An issue as a list shows it."""

    number: int
    subject: str
    sent_at: datetime
    year: int  # in the newsletter's time zone
    titles: list[str]


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the archive, newest first, and the numbers that lead on."""

    issues: list[Listed]
    older: int | None = None  # issues before this number
    newest: bool = True  # whether nothing newer was left out


@dataclass(frozen=True, slots=True)
class Shown:
    """An edition as everybody may see it: no one's links, no tokens."""

    language: str
    subject: str
    preview_text: str
    html: str


def web_url(
    settings: Settings,
    issue: Issue,
    newsletter: Newsletter,
    edition: Edition,
    token: str,
) -> str:
    """Return where an edition's readers can read it on the web."""
    if not newsletter.public_archive or not issue.listed or issue.number is None:
        return links.view_url(settings, newsletter.slug, token)
    if edition.name != edition.language:
        return links.view_url(settings, newsletter.slug, token)
    url = links.issue_url(settings, newsletter.slug, issue.number)
    here = edition.language == newsletter.language
    return url if here else f"{url}?lang={edition.language}"


def is_for_all(issue: Issue) -> bool:
    """Tell whether the archive is to show an issue.

    It shows what everybody got, and the digests of the rhythm that readers begin with:
    those of other rhythms hold the same posts again. A letter to some is nobody else's
    news.
    """
    return not issue.segment and issue.rhythm in ("", issue.newsletter.default_rhythm)


def has_issues(session: Session, newsletter: Newsletter) -> bool:
    """Tell whether there is anything to see in the public archive."""
    if not newsletter.public_archive:
        return False
    return bool(session.scalar(select(Issue.id).where(_public(newsletter)).limit(1)))


def page(
    session: Session,
    newsletter: Newsletter,
    *,
    languages: Sequence[str],
    year: int | None = None,
    before: int | None = None,
    limit: int,
) -> Page:
    """Return a page of the archive: of one year, or of all, before an issue's number.

    Subjects are in the first of `languages` that an issue was written in.
    """
    query = _newest_first(newsletter).limit(limit + 1)
    if year is not None:
        start, end = _year(newsletter, year), _year(newsletter, year + 1)
        query = query.where(Issue.started_at >= start, Issue.started_at < end)
    if before is not None:
        query = query.where(Issue.number < max(0, min(before, MOST_NUMBER)))
    issues = list(session.scalars(query))
    more = len(issues) > limit
    found = _described(session, newsletter, issues[:limit], languages)
    return Page(found, found[-1].number if more else None, newest=before is None)


def years(session: Session, newsletter: Newsletter) -> list[int]:
    """Return the years in which issues went out, newest first."""
    latest = select(func.max(Issue.started_at)).where(_public(newsletter))
    found: list[int] = []
    moment = session.scalar(latest)
    while moment is not None and len(found) < MOST_YEARS:
        found.append(_year_of(newsletter, moment))
        before = _year(newsletter, found[-1])
        moment = session.scalar(latest.where(Issue.started_at < before))
    return found


def find(session: Session, newsletter: Newsletter, number: int) -> Issue:
    """Return an issue of the archive by its number. Raises NotFound."""
    issue = None
    if newsletter.public_archive and 0 < number <= MOST_NUMBER:
        query = select(Issue).where(_public(newsletter), Issue.number == number)
        issue = session.scalar(query)
    if issue is None:
        raise NotFound(N_("There is no such issue."))
    return issue


def whole_edition(
    session: Session, issue: Issue, languages: Sequence[str]
) -> Shown | None:
    """Return an issue with every post, in the first of `languages` it was written in.

    Where it was written in none of them, in any.
    """
    rows = session.execute(_editions(issue)).all()
    rank = {code: place for place, code in reversed(list(enumerate(languages)))}
    rows = sorted(
        rows,
        key=lambda row: (row.edition != row.language, rank.get(row.language, MOST)),
    )
    return _shown(session, rows[0].id) if rows else None


def written_in(session: Session, issue: Issue) -> list[str]:
    """Return the languages that an issue with every post was written in."""
    rows = session.execute(_editions(issue))
    return [row.language for row in rows if row.edition == row.language]


def by_token(session: Session, newsletter: Newsletter, token: str) -> Shown:
    """Return the edition whose mails know `token`. Raises NotFound."""
    found = session.scalar(
        select(Message.id)
        .join(Issue, Issue.id == Message.issue_id)
        .where(
            Message.view_token == token[:TOKEN_CHARACTERS],
            Message.newsletter_id == newsletter.id,
            Issue.state.in_(SENT_TO_SOME),
        )
    )
    if found is None:
        raise NotFound(
            N_("There is no such issue. The link may have been cut off in the mail.")
        )
    return _shown(session, found)


def neighbours(
    session: Session, newsletter: Newsletter, number: int, languages: Sequence[str]
) -> tuple[Listed | None, Listed | None]:
    """Return the issues before and after one, in the archive."""
    older = _newest_first(newsletter).where(Issue.number < number)
    newer = select(Issue).where(_public(newsletter), Issue.number > number)
    before = session.scalar(older.limit(1))
    after = session.scalar(newer.order_by(Issue.number).limit(1))
    issues = [issue for issue in (before, after) if issue]
    found = iter(_described(session, newsletter, issues, languages))
    return next(found) if before else None, next(found) if after else None


def addresses(
    session: Session, newsletter: Newsletter, limit: int
) -> list[tuple[int, datetime]]:
    """Return number and day of the newest issues, at most `limit`."""
    if not newsletter.public_archive:
        return []
    rows = session.execute(
        select(Issue.number, Issue.started_at, Issue.created_at)
        .where(_public(newsletter))
        .order_by(Issue.number.desc())
        .limit(limit)
    )
    return [(number or 0, started or created) for number, started, created in rows]


def picture(issue: Issue, html: str) -> tuple[str, str]:
    """Return the first picture of an issue that the edition shows, and its words."""
    for entry in compose.shown(issue.posts):
        url, words = entry.post.image_url, entry.post.image_alt.strip()
        if words and markup.is_web(url) and str(Markup.escape(url)) in html:
            return url, words
    return "", ""


def _public(newsletter: Newsletter) -> ColumnElement[bool]:
    return and_(
        Issue.newsletter_id == newsletter.id,
        Issue.number.is_not(None),
        Issue.state.in_(PUBLIC),
        Issue.listed.is_(True),
    )


def _newest_first(newsletter: Newsletter) -> Select[Issue]:
    return select(Issue).where(_public(newsletter)).order_by(Issue.number.desc())


def _year(newsletter: Newsletter, year: int) -> datetime:
    """Return when a year begins where the newsletter is; years out of reach are cut."""
    within = min(max(year, 1970), 9998)
    return datetime(within, 1, 1, tzinfo=ZoneInfo(newsletter.timezone))


def _year_of(newsletter: Newsletter, moment: datetime) -> int:
    return moment.astimezone(ZoneInfo(newsletter.timezone)).year


def _described(
    session: Session,
    newsletter: Newsletter,
    issues: Sequence[Issue],
    languages: Sequence[str],
) -> list[Listed]:
    ids = [issue.id for issue in issues]
    subjects = _subjects(session, ids, languages)
    titles = _titles(session, ids)
    found = []
    for issue in issues:
        at = issue.started_at or issue.created_at
        found.append(
            Listed(
                number=issue.number or 0,
                subject=subjects.get(issue.id) or issue.subject or newsletter.title,
                sent_at=at,
                year=_year_of(newsletter, at),
                titles=titles.get(issue.id, []),
            )
        )
    return found


def _subjects(
    session: Session, issue_ids: Sequence[int], languages: Sequence[str]
) -> dict[int, str]:
    """Return what each issue was called, in the best of `languages` it has."""
    found: dict[int, str] = {}
    rows = session.execute(
        select(Message.issue_id, Message.edition, Message.subject).where(
            Message.issue_id.in_(issue_ids),
            Message.kind == Kind.DIGEST,
            Message.edition.in_(languages),
        )
    ).all()
    for code in reversed(languages):
        found |= {row.issue_id: row.subject for row in rows if row.edition == code}
    return found


def _titles(session: Session, issue_ids: Sequence[int]) -> dict[int, list[str]]:
    """Return the titles in each issue, in one query without the posts' texts."""
    found: dict[int, list[str]] = {}
    rows = session.execute(
        select(IssuePost.issue_id, IssuePost.title, Post.title)
        .join(Post, Post.id == IssuePost.post_id)
        .where(
            IssuePost.issue_id.in_(issue_ids),
            IssuePost.hidden.is_(False),
            Post.state == PostState.PUBLISHED,
        )
        .order_by(IssuePost.issue_id, IssuePost.featured.desc(), IssuePost.place)
    )
    for issue_id, own, title in rows:
        found.setdefault(issue_id, []).append(own or title)
    return found


def _editions(issue: Issue) -> Select[int, str, str]:
    return (
        select(Message.id, Message.edition, Message.language)
        .where(Message.issue_id == issue.id, Message.kind == Kind.DIGEST)
        .order_by(Message.id)
    )


def _shown(session: Session, message_id: int) -> Shown:
    columns = (Message.language, Message.subject, Message.preview_text, Message.html)
    query = select(*columns).where(Message.id == message_id)
    row = session.execute(query).one()
    return Shown(
        language=row.language,
        subject=row.subject,
        preview_text=row.preview_text,
        html=compose.web_version(row.html),
    )
