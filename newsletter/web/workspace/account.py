"""An editor's own account: name, language, and the ways to the locks."""

import flask
from flask import Blueprint, request
from werkzeug.wrappers import Response

from newsletter import editors, i18n
from newsletter.db import db, transaction, utcnow
from newsletter.errors import N_, InvalidInput
from newsletter.models import Editor
from newsletter.web import browsers, rendering, sessions
from newsletter.web.login import NEW_FACTOR
from newsletter.web.workspace.access import needs_login, render, say

bp = Blueprint("account", __name__)


@bp.get("/editor/account/")
@needs_login
def show(editor: Editor) -> Response | str:
    """Show what can be changed; first the recovery codes of a new second factor."""
    if flask.session.pop(NEW_FACTOR, False):
        return flask.redirect(flask.url_for("security.mf_recovery_codes"))
    return _page(editor)


@bp.post("/editor/account/")
@needs_login
def save(editor: Editor) -> Response | tuple[str, int]:
    """Save name and language."""
    try:
        name = editors.clean_name(request.form.get("name", ""))
    except InvalidInput as error:
        return _page(editor, rendering.words().error(error)), 400
    language = request.form.get("language", "")
    with transaction() as session:
        own = session.get_one(Editor, editor.id)
        own.name = name
        own.language = language if language in i18n.available() else own.language
        rendering.speak(own.language)
    say(N_("Saved."))
    return flask.redirect(flask.url_for("account.show"))


@bp.post("/editor/account/sessions/<int:session_id>/end")
@needs_login
def end_session(editor: Editor, session_id: int) -> Response:
    """End one of one's own sessions; this one too, as logging out does."""
    with transaction() as session:
        ended = editors.end_sessions(session, editor.id, only=session_id)
    if ended:
        say(N_("That session has ended."))
    else:
        say(N_("That session had ended already."), "info")
    return flask.redirect(flask.url_for("account.show"))


@bp.post("/editor/account/sessions/end")
@needs_login
def end_other_sessions(editor: Editor) -> Response:
    """End all of one's sessions but this."""
    with transaction() as session:
        editors.end_sessions(session, editor.id, but=sessions.this_number())
    say(N_("You are logged in here alone."))
    return flask.redirect(flask.url_for("account.show"))


@bp.post("/editor/account/seen")
@needs_login
def seen(editor: Editor) -> tuple[str, int]:
    """Hear from a page that this session is used."""
    sessions.seen()
    return "", 204


def _page(editor: Editor, error: str = "") -> str:
    works_for = editors.newsletters_of(db.session(), editor, 1)
    return render(
        "editor/account.html",
        None,
        error=error,
        field="name" if error else "",
        sessions=[
            (one, browsers.described(one.browser), one.number == sessions.this_number())
            for one in editors.sessions(db.session(), editor, now=utcnow())
        ],
        zone=works_for[0].timezone if works_for else "UTC",
        ago=lambda moment: rendering.words().ago(moment, utcnow()),
        languages=[(code, i18n.language(code).name) for code in i18n.available()],
    )
