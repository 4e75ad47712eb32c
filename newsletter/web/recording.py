"""Who acts in the workspace: each of its transactions is recorded as theirs."""

from flask import Flask, has_request_context, request
from sqlalchemy.orm import Session

from newsletter.audit import recording
from newsletter.audit.recording import Actor
from newsletter.db import EXTENSION, Database, db
from newsletter.web.login import current_editor


def init_app(app: Flask) -> None:
    """Watch the transactions of the workspace, and what Flask-Security writes."""
    database: Database = app.extensions[EXTENSION]
    database.on_begin = _watch
    app.before_request(_watch_accounts)


def _watch(session: Session) -> None:
    """Watch a transaction; readers' own acts are theirs, and in no log."""
    if has_request_context() and request.path.startswith("/editor/"):
        recording.watch(session, _actor)


def _watch_accounts() -> None:
    if request.method == "POST":
        _watch(db.session())


def _actor() -> Actor | None:
    editor = current_editor()
    return Actor(editor.email, editor.id) if editor else None
