"""An editor's own account: name, language, and the ways to the locks."""

import flask
from flask import Blueprint, request
from werkzeug.wrappers import Response

from newsletter import editors, i18n
from newsletter.db import transaction
from newsletter.errors import N_, InvalidInput
from newsletter.models import Editor
from newsletter.web import rendering
from newsletter.web.workspace.access import needs_login, render, say

bp = Blueprint("account", __name__)


@bp.get("/editor/account/")
@needs_login
def show(editor: Editor) -> str:
    """Show what can be changed."""
    return _page()


@bp.post("/editor/account/")
@needs_login
def save(editor: Editor) -> Response | tuple[str, int]:
    """Save name and language."""
    try:
        name = editors.clean_name(request.form.get("name", ""))
    except InvalidInput as error:
        return _page(rendering.words().error(error)), 400
    language = request.form.get("language", "")
    with transaction() as session:
        own = session.get_one(Editor, editor.id)
        own.name = name
        own.language = language if language in i18n.available() else own.language
        rendering.speak(own.language)
    say(N_("Saved."))
    return flask.redirect(flask.url_for("account.show"))


def _page(error: str = "") -> str:
    return render(
        "editor/account.html",
        None,
        error=error,
        field="name" if error else "",
        languages=[(code, i18n.language(code).name) for code in i18n.available()],
    )
