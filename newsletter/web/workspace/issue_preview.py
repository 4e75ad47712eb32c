"""The mail of an issue, to look at: as stored, as typed just now, or as it was sent."""

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, request
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from newsletter import i18n
from newsletter.db import db, utcnow
from newsletter.digests import compose
from newsletter.errors import InkorgError
from newsletter.i18n import Language
from newsletter.mail import mime
from newsletter.mail.mime import Frozen
from newsletter.models import Issue, Kind, Message, Newsletter, Post, Role
from newsletter.web import rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace import issue_form, preview
from newsletter.web.workspace.access import needs

bp = Blueprint("issue_preview", __name__)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A mail to look at; its source is only worked out where it is wanted."""

    subject: str
    html: str
    text: str
    frozen: Callable[[], Frozen]


@bp.get("/editor/<slug>/issues/<int:issue_id>/preview")
@needs(Role.VIEWER)
def stored(newsletter: Newsletter, issue_id: int) -> Response:
    """Show the mail as it is stored."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    return show(newsletter, issue, request.args)


@bp.post("/editor/<slug>/issues/<int:issue_id>/preview")
@needs(Role.EDITOR)
def typed(newsletter: Newsletter, issue_id: int) -> Response:
    """Show the mail as it stands in the form; nothing is stored."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    form = issue_form.typed(request.form, issue)
    ids = [i for i in form.added if i < 2**31]
    query = select(Post).where(Post.newsletter_id == newsletter.id, Post.id.in_(ids))
    added = {post.id: post for post in session.scalars(query)}
    drawn = issue_form.sketch(issue, newsletter, form, added)
    return show(newsletter, drawn, request.form)


def show(newsletter: Newsletter, issue: Issue, wanted: MultiDict[str, str]) -> Response:
    """Show an issue as `wanted` says: view, scheme, language."""
    offered = dict(preview.languages(newsletter))
    code = wanted.get("language", "")
    language = i18n.language(code if code in offered else newsletter.language)
    scheme = wanted.get("scheme", "")
    view = wanted.get("view", "")
    try:
        shown = _sent(issue, language) or _composed(newsletter, issue, language)
        if view == "text":
            return preview.plain(shown.text, title=shown.subject, scheme=scheme)
        if view == "source":
            source = preview.source(shown.frozen(), now=utcnow())
            return preview.plain(source, title=shown.subject, scheme=scheme)
    except InkorgError as error:
        return preview.problem(rendering.words().error(error))
    return preview.mail(shown.html, scheme=scheme)


def _composed(newsletter: Newsletter, issue: Issue, language: Language) -> _Shown:
    letter = compose.compose(
        current_settings(), issue, newsletter, issue.posts, language
    )
    html, text = mime.without_fields(letter.html), mime.without_fields(letter.text)
    return _Shown(letter.subject, html, text, lambda: mime.freeze(letter))


def _sent(issue: Issue, language: Language) -> _Shown | None:
    """Return what has been sent in that language, or in another, if anything has."""
    found = db.session.scalar(
        select(Message)
        .where(Message.issue_id == issue.id, Message.kind == Kind.DIGEST)
        .order_by((Message.language == language.code).desc(), Message.id)
        .limit(1)
    )
    if found is None:
        return None
    frozen = found.frozen
    return _Shown(found.subject, found.html, found.text, lambda: Frozen.unpack(frozen))
