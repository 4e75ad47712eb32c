"""One reader: their whole history, and what an editor can do for them."""

import json

import flask
from flask import Blueprint, Response, request
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from newsletter import editors, i18n, rhythms
from newsletter.db import db, utcnow
from newsletter.digests import explain
from newsletter.digests.explain import Explanation
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import (
    DeliveryState,
    Issue,
    Newsletter,
    Post,
    Role,
    Status,
    Subscription,
)
from newsletter.posts import editing
from newsletter.subscribers import (
    choices,
    directory,
    histories,
    notes,
    rights,
    starting,
    stopping,
    suppression,
)
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    this_editor,
    undoable,
    writing,
)
from newsletter.web.workspace.subscribers import STATUS_COLOURS, STATUS_WORDS

bp = Blueprint("reader", __name__)

Answer = AnyResponse | tuple[str, int]

ISSUES = 10
MAX_BACK = 2000  # characters of the list's query
POSTS = 5
REASONS = {
    suppression.LEFT: N_("They asked us, by phone or mail"),
    suppression.NEVER: N_("They never want mail from us again"),
    suppression.BOUNCED: N_("The address does not work"),
    suppression.COMPLAINED: N_("They reported us for spam"),
    suppression.OTHER: N_("Another reason, in words"),
}
WHY_STOPPED = {
    **REASONS,
    suppression.ERASED: N_("They had themselves erased"),
    suppression.OTHER: N_("A reason of our own"),
}

DELIVERY_WORDS = {
    DeliveryState.QUEUED: N_("in line"),
    DeliveryState.CLAIMED: N_("being handed over"),
    DeliveryState.DEFERRED: N_("put off, tried again"),
    DeliveryState.SENT: N_("taken by their mail server"),
    DeliveryState.BOUNCED: N_("came back"),
    DeliveryState.FAILED: N_("given up"),
    DeliveryState.SKIPPED: N_("left out"),
    DeliveryState.COMPLAINED: N_("marked as spam"),
}

_ASK_AGAIN = N_(
    "The stop is lifted. Add the address by hand to ask them to confirm again."
)
_LIFTED = {
    Status.ACTIVE: N_("The stop is lifted. They get the next issue again."),
    Status.PENDING: N_("The stop is lifted. They have not confirmed yet."),
}


@bp.get("/editor/<slug>/subscribers/<int:subscription_id>/")
@needs(Role.EDITOR)
def show(newsletter: Newsletter, subscription_id: int) -> str:
    """Show everything about one reader, newest first."""
    return _page(newsletter, subscription_id)


def _page(
    newsletter: Newsletter, subscription_id: int, error: InkorgError | None = None
) -> str:
    session = db.session()
    found = _subscription(newsletter, subscription_id)
    issues = session.scalars(
        select(Issue)
        .where(Issue.newsletter_id == newsletter.id, Issue.state.in_(starting.GONE_OUT))
        .order_by(Issue.number.desc())
        .limit(ISSUES)
    ).all()
    words = rendering.words()
    why = explain.of_issues(session, found, issues, words=words, now=utcnow())
    return render(
        "editor/reader.html",
        newsletter,
        reader=found,
        history=histories.history(session, found),
        why=[(i, one.sentence) for i, one in zip(issues, why, strict=True)],
        coming=_coming(newsletter, found),
        rhythm=rhythms.describe(found.rhythm, words),
        topics=_topics(newsletter, found),
        stopped=sorted(stopping.why_stopped(session, found)),
        SILENT=suppression.SILENT,
        notes=notes.of(session, found),
        error=words.error(error) if error else "",
        field=getattr(error, "field", ""),
        typed=request.form,
        language_name=i18n.language(found.language).name,
        back=request.args.get("back", "")[:MAX_BACK],
        DELIVERY_WORDS=DELIVERY_WORDS,
        REASONS=REASONS,
        WHY_STOPPED=WHY_STOPPED,
        STATUS_WORDS=STATUS_WORDS,
        STATUS_COLOURS=STATUS_COLOURS,
    )


@bp.post("/editor/<slug>/subscribers/<int:subscription_id>/stop")
@needs(Role.EDITOR)
def stop(newsletter: Newsletter, subscription_id: int) -> Answer:
    """Stop this newsletter's mail to a reader, with a reason."""
    try:
        with writing(newsletter) as (session, here):
            found = directory.subscription(session, here, subscription_id)
            was = stopping.standing(session, found)
            stopping.stop(
                session,
                found,
                reason=request.form.get("reason", ""),
                words=request.form.get("words", ""),
                by=this_editor().email,
                now=utcnow(),
            )
            undo = undoable(session, here, "stopped", was)
    except InvalidInput as error:
        return _page(newsletter, subscription_id, error), status_of(error)
    say_done(
        N_("No more mail goes there, not even from an issue being sent now."), undo
    )
    return _back(newsletter, subscription_id)


@bp.post("/editor/<slug>/subscribers/<int:subscription_id>/lift")
@needs(Role.EDITOR)
def lift(newsletter: Newsletter, subscription_id: int) -> Answer:
    """Let mail go to an address again, with a reason."""
    try:
        with writing(newsletter) as (session, here):
            found = directory.subscription(session, here, subscription_id)
            was = stopping.standing(session, found)
            status = stopping.lift(
                session,
                found,
                words=request.form.get("words", ""),
                by=this_editor().email,
                now=utcnow(),
            )
            undo = undoable(session, here, "lifted", was)
    except InvalidInput as error:
        return _page(newsletter, subscription_id, error), status_of(error)
    say_done(_LIFTED.get(status, _ASK_AGAIN), undo)
    return _back(newsletter, subscription_id)


@bp.post("/editor/<slug>/subscribers/<int:subscription_id>/notes")
@needs(Role.EDITOR)
def note(newsletter: Newsletter, subscription_id: int) -> Answer:
    """Note something about a reader."""
    try:
        with writing(newsletter) as (session, here):
            found = directory.subscription(session, here, subscription_id)
            text, by = request.form.get("note", ""), this_editor().email
            notes.add(session, found, text, by=by, now=utcnow())
    except InkorgError as error:
        return _page(newsletter, subscription_id, error), status_of(error)
    return _back(newsletter, subscription_id)


@bp.post("/editor/<slug>/subscribers/<int:subscription_id>/notes/<int:note_id>/remove")
@needs(Role.EDITOR)
def remove_note(
    newsletter: Newsletter, subscription_id: int, note_id: int
) -> AnyResponse:
    """Remove a note: one's own, or as an owner anybody's."""
    editor = this_editor()
    may_any = editors.may(editor, newsletter, Role.OWNER)
    with writing(newsletter) as (session, here):
        found = directory.subscription(session, here, subscription_id)
        now, by = utcnow(), editor.email
        notes.remove(session, found, note_id, by=by, any_=may_any, now=now)
        data = {"note": note_id, "subscription": found.id}
        undo = undoable(session, here, "note", data)
    say_done(N_("The note is removed."), undo)
    return _back(newsletter, subscription_id)


@bp.post("/editor/<slug>/subscribers/<int:subscription_id>/data")
@needs(Role.EDITOR)
def data(newsletter: Newsletter, subscription_id: int) -> Response:
    """Hand over everything known about a person, for a request under the GDPR."""
    found = _subscription(newsletter, subscription_id)
    facts = rights.everything_about(db.session(), current_settings(), found.subscriber)
    return Response(
        json.dumps(facts, ensure_ascii=False, indent=2, default=str),
        mimetype="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="reader-{found.id}.json"',
            "Cache-Control": "no-store",
        },
    )


@bp.get("/editor/<slug>/subscribers/<int:subscription_id>/erase")
@needs(Role.OWNER)
def ask_erase(newsletter: Newsletter, subscription_id: int) -> str:
    """Say what erasing does, and ask."""
    found = _subscription(newsletter, subscription_id)
    return render("editor/reader_erase.html", newsletter, reader=found)


@bp.post("/editor/<slug>/subscribers/<int:subscription_id>/erase")
@needs(Role.OWNER)
def erase(newsletter: Newsletter, subscription_id: int) -> AnyResponse:
    """Erase a person."""
    with writing(newsletter) as (session, here):
        found = directory.subscription(session, here, subscription_id)
        rights.erase_subscriber(session, found.subscriber, now=utcnow())
    say(N_("Everything about them is erased; only a keyed hash keeps mail away."))
    return flask.redirect(flask.url_for("subscribers.index", slug=newsletter.slug))


def _coming(
    newsletter: Newsletter, found: Subscription
) -> list[tuple[Post, Explanation]]:
    """Return the latest posts, and when this reader gets each, or why not."""
    session, words, now = db.session(), rendering.words(), utcnow()
    posts = editing.latest(session, newsletter, POSTS)
    when = explain.of_posts(session, found, posts, words=words, now=now)
    return list(zip(posts, when, strict=True))


def _subscription(newsletter: Newsletter, subscription_id: int) -> Subscription:
    return directory.subscription(db.session(), newsletter, subscription_id)


def _topics(newsletter: Newsletter, found: Subscription) -> list[str] | None:
    """Return the names of the topics a reader chose; None is all."""
    chosen = choices.chosen_topics(db.session(), found)
    if chosen is None:
        return None
    offered = choices.offered_topics(db.session(), newsletter)
    return [topic.name for topic in offered if topic.slug in chosen]


def _back(newsletter: Newsletter, subscription_id: int) -> AnyResponse:
    return flask.redirect(
        flask.url_for(
            "reader.show",
            slug=newsletter.slug,
            subscription_id=subscription_id,
            back=request.args.get("back", "")[:MAX_BACK] or None,
        )
    )
