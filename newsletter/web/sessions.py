"""Sessions of editors: fresh at login, bound to a browser, ended for good.

The cookie is signed, not secret, so what ends a session must stand on the server:
`fs_uniquifier` is new after every change of password (all sessions die), and a logout
writes down the session's own number.
"""

import hashlib
import time
from datetime import timedelta
from typing import Any

from flask import Flask, g, request, session
from flask_login.signals import user_logged_in, user_logged_out
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from newsletter import links
from newsletter.db import db, transaction
from newsletter.models import Editor, UsedLink

IDLE = timedelta(hours=12)
# How old a cookie may grow before it is written anew. Not with every answer: a late one
# (of a font, say) would put back the session as it was before a login or a message.
RENEW_SECONDS = 600
ABSOLUTE_SECONDS = 7 * 24 * 3600
# What Flask-Login and Flask-Security put into the session while logging in.
KEPT_AT_LOGIN = {"_user_id", "_fresh", "_id", "fs_cc", "fs_paa"}


def init_app(app: Flask, manager: Any) -> None:
    """Take over from Flask-Login's `manager` how an editor is found."""
    app.config["PERMANENT_SESSION_LIFETIME"] = IDLE
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    app.config["SESSION_PROTECTION"] = None  # _load is stricter, and spares phones
    manager.user_loader(_load)
    manager.request_loader(_no_token)
    user_logged_in.connect(_begin, app)
    user_logged_out.connect(_end, app)


def _begin(_app: Flask, user: Editor, **_: Any) -> None:
    """Start over: nothing a stranger left in the session survives a login."""
    for key in set(session) - KEPT_AT_LOGIN:
        del session[key]
    g.pop("csrf_token", None)
    session.permanent = True
    session["number"] = links.new_token()
    session["since"] = session["seen"] = int(time.time())
    session["browser"] = _browser()


def _end(_app: Flask, **_: Any) -> None:
    """End the session on the server, so that a copied cookie is dead too."""
    if number := session.get("number"):
        with transaction() as writing:
            writing.merge(UsedLink(nonce=f"session:{number}"))
    session.clear()
    g.pop("csrf_token", None)


def _load(uniquifier: str) -> Editor | None:
    """Find the editor of this session, if it is still good."""
    if request.endpoint == "static":
        return None  # nobody needs to be known for those, nor the database asked
    if not 0 <= time.time() - session.get("since", 0) < ABSOLUTE_SECONDS:
        return None
    if session.get("browser") != _browser():
        return None
    query = (
        select(Editor)
        .where(Editor.fs_uniquifier == uniquifier, Editor.active)
        .where(
            ~select(UsedLink)
            .where(UsedLink.nonce == f"session:{session.get('number')}")
            .exists()
        )
        .options(joinedload(Editor.roles))
    )
    editor = db.session.scalars(query).unique().one_or_none()
    if editor is not None:
        if time.time() - session.get("seen", 0) > RENEW_SECONDS:
            session["seen"] = int(time.time())
        # Flask-Security asks how and when someone proved who they are.
        g.fs_authn_via = "session"
        g.fs_paa = session.get("fs_paa", 0)
    return editor


def _no_token(_request: object) -> None:
    """Refuse Flask-Security's own tokens in headers and queries: ours are the API's."""


def _browser() -> str:
    """Name the browser; not its network, which changes with every train ride."""
    agent = request.headers.get("User-Agent", "")
    return hashlib.blake2b(agent.encode(), digest_size=8).hexdigest()
