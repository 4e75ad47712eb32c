"""The mail of an issue, to look at: as stored, as typed just now, or as it was sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flask import Blueprint, Response, request
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from newsletter import editors, i18n, rhythms
from newsletter.db import db, utcnow
from newsletter.digests import compose, explain, reading
from newsletter.errors import N_, Conflict, Forbidden, InkorgError, NotFound
from newsletter.i18n import Language
from newsletter.mail import mime
from newsletter.mail.mime import Frozen
from newsletter.models import (
    Issue,
    IssuePost,
    Kind,
    Message,
    Newsletter,
    Post,
    Role,
    Subscription,
)
from newsletter.subscribers import choices, directory
from newsletter.web import rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace import issue_form, preview
from newsletter.web.workspace.access import needs, this_editor

bp = Blueprint("issue_preview", __name__)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A mail to look at; its source is only worked out where it is wanted."""

    subject: str
    html: str
    text: str
    frozen: Callable[[], Frozen]
    note: str = ""  # whose it is, where it is one reader's


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
    """Show an issue as `wanted` says: view, scheme, language, reader.

    One reader's address is for editors only, as in the list of readers.
    """
    offered = dict(preview.languages(newsletter))
    code = wanted.get("language", "")
    language = i18n.language(code if code in offered else newsletter.language)
    scheme = wanted.get("scheme", "")
    view = wanted.get("view", "")
    reader = wanted.get("reader", "").strip()[:320]
    try:
        if reader:
            shown = _one_readers(newsletter, issue, reader)
        else:
            shown = _sent(issue, language) or _composed(
                newsletter, issue, issue.posts, language
            )
        if view == "text":
            return preview.plain(shown.text, title=shown.subject, scheme=scheme)
        if view == "source":
            source = preview.source(shown.frozen(), now=utcnow())
            return preview.plain(source, title=shown.subject, scheme=scheme)
    except InkorgError as error:
        return preview.problem(rendering.words().error(error))
    return preview.mail(shown.html, scheme=scheme, note=shown.note)


def _one_readers(newsletter: Newsletter, issue: Issue, email: str) -> _Shown:
    """Return an issue as one reader gets it. Raises InkorgError if they do not.

    `issue` may never have been stored; whom it is for, the stored one decides.
    """
    session, words = db.session(), rendering.words()
    if not editors.may(this_editor(), newsletter, Role.EDITOR):
        raise Forbidden(N_("Your role lets you look, not change this. Ask an owner."))
    found = directory.by_email(session, newsletter, email)
    if found is None:
        raise NotFound(N_("Nobody with that address subscribes to this newsletter."))
    stored = issue_form.issue_of(session, newsletter, issue.id)
    why = explain.of_issue(session, found, stored, words=words, now=utcnow())
    note = _about(session, newsletter, found)
    if why.delivery is not None:
        message = session.get_one(Message, why.delivery.message_id)
        return replace(_stored(message), note=f"{note} · {why.sentence}")
    if not why.gets:
        raise Conflict(why.sentence)
    if issue is not stored:
        issue.rhythm, issue.picked = stored.rhythm, stored.picked
    language, posts = reading.edition_of(session, issue, found)
    return replace(_composed(newsletter, issue, posts, language), note=note)


def _about(session: Session, newsletter: Newsletter, found: Subscription) -> str:
    """Say who a reader is and what they chose, on one line."""
    words = rendering.words()
    chosen = choices.chosen_topics(session, found)
    if chosen is None:
        topics = words.gettext("all topics")
    else:
        names = [
            topic.name
            for topic in choices.offered_topics(session, newsletter)
            if topic.slug in chosen
        ]
        topics = words.enumeration(names) if names else words.gettext("no topic")
    rhythm = choices.effective_rhythm(newsletter, found.rhythm)
    subscriber = found.subscriber
    return " · ".join(
        filter(
            None,
            (
                subscriber.name,
                subscriber.email,
                words.name_of(found.language),
                rhythms.describe(rhythm, words),
                topics,
            ),
        )
    )


def _composed(
    newsletter: Newsletter,
    issue: Issue,
    posts: Sequence[IssuePost],
    language: Language,
) -> _Shown:
    letter = compose.compose(current_settings(), issue, newsletter, posts, language)
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
    return _stored(found) if found else None


def _stored(found: Message) -> _Shown:
    frozen = found.frozen
    return _Shown(found.subject, found.html, found.text, lambda: Frozen.unpack(frozen))
