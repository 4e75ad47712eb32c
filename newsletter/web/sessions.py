"""Sessions of editors: fresh at login, bound to a browser, to be seen and ended.

The cookie is signed, not secret, so what makes a session good stands on the server: its
number has a row, which is gone when it is ended, and `fs_uniquifier` is new after every
change of password.
"""

import hashlib
import time
from datetime import datetime, timedelta
from typing import Any

from flask import Flask, Response, g, request, session
from flask_login.signals import user_logged_in, user_logged_out
from flask_security import password_changed, password_reset
from sqlalchemy import select, update
from sqlalchemy.orm import joinedload

from newsletter import editors, links
from newsletter.db import db, transaction, utcnow
from newsletter.models import Editor, EditorSession
from newsletter.subscribers.consent import cut_network
from newsletter.web.security import client_address

IDLE = timedelta(hours=12)
# How old a cookie may grow before it is written anew. Not with every answer: a late one
# (of a font, say) would put back the session as it was before a login or a message.
RENEW_SECONDS = 600
ABSOLUTE_SECONDS = int(editors.SESSION_LIVES.total_seconds())
# What Flask-Login and Flask-Security put into the session while logging in.
KEPT_AT_LOGIN = {"_user_id", "_fresh", "_id", "fs_cc", "fs_paa"}


def init_app(app: Flask, manager: Any) -> None:
    """Take over from Flask-Login's `manager` how an editor is found."""
    app.config["PERMANENT_SESSION_LIFETIME"] = IDLE
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    app.config["SESSION_PROTECTION"] = None  # _load is stricter, and spares phones
    manager.user_loader(_load)
    manager.request_loader(_no_token)
    app.after_request(_write)
    user_logged_in.connect(_begin, app)
    user_logged_out.connect(_end, app)
    password_changed.connect(_end_all, app)
    password_reset.connect(_end_all, app)


def this_number() -> str:
    """Return what tells this session from the editor's others."""
    return str(session.get("number", ""))


def seen() -> None:
    """Write down that this session is used; a POST may, a GET changes nothing."""
    with transaction() as writing:
        writing.execute(
            update(EditorSession)
            .where(EditorSession.number == this_number())
            .values(seen_at=utcnow(), network=_network())
        )
    session["told"] = int(time.time())


def is_due() -> bool:
    """Tell whether it is a while since this session was written down as used."""
    told: int = session.get("told", 0)
    return time.time() - told > RENEW_SECONDS


def _begin(_app: Flask, user: Editor, **_: Any) -> None:
    """Start over: nothing a stranger left in the session survives a login."""
    former = this_number()
    for key in set(session) - KEPT_AT_LOGIN:
        del session[key]
    g.pop("csrf_token", None)
    session.permanent = True
    session["number"] = links.new_token()
    session["since"] = session["seen"] = session["told"] = int(time.time())
    session["browser"] = _browser()
    g.begun = (user.id, former, utcnow())


def _write(response: Response) -> Response:
    """Write a new session down, after what was changed while logging in."""
    begun: tuple[int, str, datetime] | None = g.pop("begun", None)
    if begun:
        editor_id, former, now = begun
        with transaction() as writing:
            editors.end_session(writing, former)
            row = EditorSession(number=this_number(), editor_id=editor_id)
            row.browser = request.headers.get("User-Agent", "")[:300]
            row.network = _network()
            row.started_at = row.seen_at = now
            writing.add(row)
    return response


def _end(_app: Flask, **_: Any) -> None:
    """End the session on the server, so that a copied cookie is dead too."""
    if number := this_number():
        with transaction() as writing:
            editors.end_session(writing, number)
    session.clear()
    g.pop("csrf_token", None)


def _end_all(_app: Flask, user: Editor, **_: Any) -> None:
    """Take away the rows of sessions that a new password has ended."""
    with transaction() as writing:
        editors.end_sessions(writing, user.id)


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
        .join(EditorSession, EditorSession.editor_id == Editor.id)
        .where(Editor.fs_uniquifier == uniquifier, Editor.active)
        .where(EditorSession.number == this_number())
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


def _network() -> str:
    """Return the network without the part that tells a home from its neighbours."""
    return cut_network(client_address(request))
