"""The page of a one-time link: GET shows it, POST logs in."""

import flask
from flask import Blueprint, request
from werkzeug.wrappers import Response

from newsletter import editors
from newsletter.db import db, transaction, utcnow
from newsletter.errors import N_, InvalidInput
from newsletter.models import Editor
from newsletter.web import login, rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace.access import open_to_strangers, say

bp = Blueprint("invitations", __name__)


@bp.get("/editor/invite/<token>")
@open_to_strangers
def show(token: str) -> str:
    """Say whom the link is for, and offer to log in."""
    invitation = editors.open_invitation(db.session(), current_settings(), token)
    return _page(invitation.editor)


@bp.post("/editor/invite/<token>")
@open_to_strangers
def accept(token: str) -> Response | str | tuple[str, int]:
    """Use the link up and log in; keep the password if one was chosen."""
    invitation = editors.open_invitation(db.session(), current_settings(), token)
    rendering.speak(invitation.editor.language)
    try:
        hashed = login.hash_new_password(request.form.get("password", ""))
        with transaction() as session:
            editor = editors.accept_invitation(
                session,
                current_settings(),
                token,
                name=request.form.get("name", ""),
                password_hash=hashed,
                now=utcnow(),
            )
            uniquifier = editor.fs_uniquifier
    except InvalidInput as error:
        return _page(invitation.editor, error), 400
    if not login.log_in(uniquifier, "link"):
        say(N_("Your account has a second factor: log in with your password."), "info")
        return flask.redirect(flask.url_for("security.login"))
    return flask.redirect(flask.url_for("overview.start"))


def _page(editor: Editor, error: InvalidInput | None = None) -> str:
    words = rendering.speak(editor.language)
    return rendering.render(
        "editor/invitation.html",
        invited=editor,
        error=words.error(error) if error else "",
        min_characters=login.MIN_PASSWORD_CHARACTERS,
    )
