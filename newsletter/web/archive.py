"""The public archive: the issues that have gone out, as they were sent.

An issue's page is the mail itself, less what was personal in it, with a line above that
leads on. Mail needs its styles in place, so the page has a policy of its own, and runs
in a sandbox: it can show and link, nothing else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, request
from sqlalchemy import select

from newsletter import links
from newsletter.db import db
from newsletter.digests import compose
from newsletter.errors import N_, NotFound
from newsletter.models import Issue, Kind, Message, Newsletter
from newsletter.web import frame
from newsletter.web.pages import PUBLIC
from newsletter.web.rendering import render, words
from newsletter.web.security import current_settings

bp = Blueprint("archive", __name__)

PER_PAGE = 40
IN_FEED = 20
MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src https: http: data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " sandbox allow-popups allow-popups-to-escape-sandbox allow-top-navigation"
)
_BODY = re.compile(r"<body\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Listed:
    """An issue in the list."""

    number: int
    subject: str
    sent_at: datetime
    titles: list[str]


@bp.get("/<slug>/issues/")
def index(slug: str) -> str:
    """List the issues, newest first."""
    newsletter = _open(slug)
    before = request.args.get("before", type=int)
    found = _listed(newsletter, limit=PER_PAGE + 1, before=before)
    more = len(found) > PER_PAGE
    return frame.show(
        "public/issues.html",
        newsletter,
        issues=found[:PER_PAGE],
        older=found[PER_PAGE - 1].number if more else None,
        others=frame.other_languages(newsletter),
    )


@bp.get("/<slug>/issues/<int:number>/")
def show(slug: str, number: int) -> Response:
    """Show an issue as it was sent."""
    newsletter = _open(slug)
    issue = db.session.scalar(
        select(Issue).where(
            Issue.newsletter_id == newsletter.id,
            Issue.number == number,
            Issue.state.in_(PUBLIC),
        )
    )
    html = _as_sent(issue, newsletter) if issue else None
    if html is None:
        raise NotFound(N_("There is no such issue."))
    above = frame.show("public/_above_mail.html", newsletter)
    html = _BODY.sub(lambda body: body[0] + above, html, count=1)
    return Response(html, headers={"Content-Security-Policy": MAIL_POLICY})


@bp.get("/<slug>/issues.atom")
def atom(slug: str) -> Response:
    """Serve the archive as an Atom feed (RFC 4287)."""
    newsletter = _open(slug)
    settings = current_settings()
    issues = _listed(newsletter, limit=IN_FEED)
    text = render(
        "public/issues.xml",
        newsletter=newsletter,
        entries=[
            (issue, links.issue_url(settings, slug, issue.number)) for issue in issues
        ],
        home=links.newsletter_url(settings, slug),
        address=settings.base_url + request.path,
        updated=issues[0].sent_at if issues else newsletter.created_at,
    )
    return Response(text, mimetype="application/atom+xml")


def _open(slug: str) -> Newsletter:
    newsletter = frame.enter(slug)
    if not newsletter.public_archive:
        raise NotFound(N_("This newsletter shows its issues to its subscribers only."))
    return newsletter


def _listed(
    newsletter: Newsletter, *, limit: int, before: int | None = None
) -> list[Listed]:
    query = (
        select(Issue)
        .where(
            Issue.newsletter_id == newsletter.id,
            Issue.number.is_not(None),
            Issue.state.in_(PUBLIC),
        )
        .order_by(Issue.number.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(Issue.number < before)
    issues = list(db.session.scalars(query))
    subjects = _subjects(newsletter, [issue.id for issue in issues])
    return [
        Listed(
            number=issue.number or 0,
            subject=subjects.get(issue.id) or issue.subject or newsletter.title,
            sent_at=issue.started_at or issue.created_at,
            titles=[e.title or e.post.title for e in compose.shown(issue.posts)],
        )
        for issue in issues
    ]


def _languages(newsletter: Newsletter) -> list[str]:
    return list(dict.fromkeys([words().code, newsletter.language]))


def _subjects(newsletter: Newsletter, issue_ids: Iterable[int]) -> dict[int, str]:
    """Return what each issue was called, in the language spoken where it has one."""
    found: dict[int, str] = {}
    for code in reversed(_languages(newsletter)):
        rows = db.session.execute(
            select(Message.issue_id, Message.subject).where(
                Message.issue_id.in_(issue_ids),
                Message.kind == Kind.DIGEST,
                Message.edition == code,
            )
        )
        found.update({issue_id: subject for issue_id, subject in rows if issue_id})
    return found


def _as_sent(issue: Issue, newsletter: Newsletter) -> str | None:
    """Return the whole edition in the best language, without anyone's links."""
    editions = (
        select(Message.html)
        .where(Message.issue_id == issue.id, Message.kind == Kind.DIGEST)
        .limit(1)
    )
    for code in _languages(newsletter):
        # An edition with every post is called by its language alone.
        html = db.session.scalar(editions.where(Message.edition == code))
        if html is None:
            html = db.session.scalar(
                editions.where(Message.language == code).order_by(Message.id)
            )
        if html is not None:
            return compose.web_version(html)
    html = db.session.scalar(editions.order_by(Message.id))
    return None if html is None else compose.web_version(html)
