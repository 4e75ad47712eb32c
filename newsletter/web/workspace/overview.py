"""The first page of the workspace: what comes next, and what needs a person."""

import flask
from flask import Blueprint
from werkzeug.wrappers import Response

from newsletter import editors
from newsletter.db import db
from newsletter.models import Editor, Newsletter, Role
from newsletter.web.workspace.access import needs, needs_login, render

bp = Blueprint("overview", __name__)


@bp.get("/editor/")
@needs_login
def start(editor: Editor) -> Response | str:
    """List the editor's newsletters, or go to the only one."""
    found = editors.newsletters_of(db.session(), editor)
    may_create = editors.may_create(editor)
    if len(found) == 1:
        return flask.redirect(flask.url_for("overview.show", slug=found[0].slug))
    return render("editor/start.html", None, newsletters=found, may_create=may_create)


@bp.get("/editor/<slug>/")
@needs(Role.VIEWER)
def show(newsletter: Newsletter) -> str:
    """Show how things stand."""
    return render("editor/overview.html", newsletter)
