"""The public archive: the issues that have gone out, as they were sent.

An issue's page is the mail itself, less what was personal in it, between a line that
leads on and a form that leads in. Mail needs its styles in place, so the page has a
policy of its own, and runs in a sandbox without scripts: it can show, link and sign up.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, request

from newsletter import links
from newsletter.db import db
from newsletter.digests import archive
from newsletter.digests.archive import Listed, Shown
from newsletter.errors import N_, NotFound
from newsletter.models import Issue, Newsletter
from newsletter.web import frame, pages
from newsletter.web.frame import OtherLanguage
from newsletter.web.rendering import render, speak, words
from newsletter.web.security import current_settings

bp = Blueprint("archive", __name__)

PER_PAGE = 40
IN_FEED = 20
MINUTE = 60
# No `allow-scripts`: that is what makes `allow-same-origin` harmless, which the form
# needs so that the record of a consent can tell the page.
MAIL_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src https: http: data:;"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
    " sandbox allow-forms allow-same-origin allow-popups"
    " allow-popups-to-escape-sandbox allow-top-navigation"
)
_HEAD_ENDS = re.compile(r"</head\s*>", re.IGNORECASE)
_BODY_BEGINS = re.compile(r"<body\b[^>]*>", re.IGNORECASE)
_BODY_ENDS = re.compile(r"</body\s*>(?!.*</body\s*>)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Card:
    """What search engines and messengers are told of an issue's page."""

    url: str  # canonical; empty where the page is not to be found
    title: str
    description: str
    picture: str
    picture_words: str
    sent_at: datetime


@bp.get("/<slug>/issues/")
def index(slug: str) -> Response:
    """List the issues, newest first, of one year or of all."""
    newsletter = _open(slug)
    session = db.session()
    year = request.args.get("year", type=int)
    page = archive.page(
        session,
        newsletter,
        languages=_languages(newsletter),
        year=year,
        before=request.args.get("before", type=int),
        limit=PER_PAGE,
    )
    if not page.issues and request.args.keys() & {"year", "before"}:
        raise NotFound(N_("There are no issues from that time."))
    html = frame.show(
        "public/issues.html",
        newsletter,
        page=page,
        year=year,
        years=archive.years(session, newsletter),
        canonical=_here(),
        others=frame.other_languages(newsletter),
        **pages.form(newsletter),
    )
    return _kept(Response(html), 5 * MINUTE)


@bp.get("/<slug>/issues/<int:number>/")
def show(slug: str, number: int) -> Response:
    """Show an issue as it was sent."""
    newsletter = _open(slug)
    session = db.session()
    issue = archive.find(session, newsletter, number)
    edition = archive.whole_edition(session, issue, _languages(newsletter))
    if edition is None:
        raise NotFound(N_("There is no such issue."))
    before, after = archive.neighbours(
        session, newsletter, number, [edition.language, newsletter.language]
    )
    speak(edition.language)
    # A translation of the frame alone is no page of its own.
    found = newsletter.by_language or edition.language == newsletter.language
    page = _dressed(
        newsletter,
        edition,
        card=_card(newsletter, issue, edition),
        found=found,
        before=before,
        after=after,
        others=_other_languages(newsletter, issue, edition),
    )
    response = Response(page, headers={"Content-Security-Policy": MAIL_POLICY})
    # What follows an issue is on its page too.
    response.last_modified = after.sent_at if after else issue.started_at
    if not found:
        response.headers["X-Robots-Tag"] = "noindex"
    return _kept(response, 5 * MINUTE)


@bp.get("/<slug>/view/<token>/")
def view(slug: str, token: str) -> Response:
    """Show an edition as all its readers got it; nobody else is told of it."""
    newsletter = frame.enter(slug)
    edition = archive.by_token(db.session(), newsletter, token)
    speak(edition.language)
    page = _dressed(newsletter, edition, card=None, found=False)
    response = Response(page, headers={"Content-Security-Policy": MAIL_POLICY})
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    response.headers["Referrer-Policy"] = "no-referrer"
    return _kept(response, 5 * MINUTE, private=True)


@bp.get("/<slug>/issues.atom")
def atom(slug: str) -> Response:
    """Serve the archive as an Atom feed (RFC 4287)."""
    newsletter = _open(slug)
    settings = current_settings()
    page = archive.page(
        db.session(), newsletter, languages=_languages(newsletter), limit=IN_FEED
    )
    updated = page.issues[0].sent_at if page.issues else newsletter.created_at
    text = render(
        "public/issues.xml",
        newsletter=newsletter,
        entries=[
            (issue, links.issue_url(settings, slug, issue.number))
            for issue in page.issues
        ],
        home=links.newsletter_url(settings, slug),
        archive=links.archive_url(settings, slug),
        address=_here(),
        updated=updated,
    )
    response = Response(text, mimetype="application/atom+xml")
    response.last_modified = updated
    return _kept(response, 10 * MINUTE)


def _open(slug: str) -> Newsletter:
    newsletter = frame.enter(slug)
    if not newsletter.public_archive:
        raise NotFound(N_("This newsletter shows its issues to its subscribers only."))
    return newsletter


def _languages(newsletter: Newsletter) -> list[str]:
    return list(dict.fromkeys([words().code, newsletter.language]))


def _here() -> str:
    """Return this page's whole address, as everybody outside knows it."""
    path = request.full_path.removesuffix("?")
    return current_settings().base_url + path


def _dressed(
    newsletter: Newsletter,
    edition: Shown,
    *,
    card: Card | None,
    found: bool,
    before: Listed | None = None,
    after: Listed | None = None,
    others: Sequence[OtherLanguage] = (),
) -> str:
    """Put what leads on around a mail. `found`: search engines may list the page."""
    values = {
        "card": card,
        "found": found,
        "before": before,
        "after": after,
        "open": newsletter.public_archive,
        "others": others,
        **pages.form(newsletter),
    }
    html = edition.html
    for place, template in (
        (_BODY_ENDS, "public/_below_mail.html"),
        (_BODY_BEGINS, "public/_above_mail.html"),
        (_HEAD_ENDS, "public/_mail_head.html"),
    ):
        part = frame.show(template, newsletter, **values)
        html = _insert(html, place, part)
    return html


def _insert(html: str, place: re.Pattern[str], part: str) -> str:
    """Put a part of a page after a tag that opens, or before one that closes."""
    tag = place.search(html)
    if tag is None:
        return html
    at = tag.start() if tag[0].startswith("</") else tag.end()
    return html[:at] + part + html[at:]


def _card(newsletter: Newsletter, issue: Issue, edition: Shown) -> Card:
    picture, picture_words = archive.picture(issue, edition.html)
    url = links.issue_url(current_settings(), newsletter.slug, issue.number or 0)
    if newsletter.by_language and edition.language != newsletter.language:
        url += f"?lang={edition.language}"
    return Card(
        url=url,
        title=edition.subject,
        description=edition.preview_text or newsletter.tagline,
        picture=picture,
        picture_words=picture_words,
        sent_at=issue.started_at or issue.created_at,
    )


def _other_languages(
    newsletter: Newsletter, issue: Issue, edition: Shown
) -> list[OtherLanguage]:
    """Return the languages that this issue was written in besides the one shown."""
    written = archive.written_in(db.session(), issue)
    return [
        language
        for language in frame.other_languages(newsletter)
        if language.code in written and language.code != edition.language
    ]


def _kept(response: Response, seconds: int, *, private: bool = False) -> Response:
    """Let a page be kept for a while, then asked for by what it was."""
    kept = "private" if private else "public"
    response.headers["Cache-Control"] = f"{kept}, max-age={seconds}"
    response.add_etag()
    response.make_conditional(request)
    return response
