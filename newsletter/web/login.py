"""Logging in: the doorway to Flask-Security, which does passwords, codes and passkeys.

What is ours: the secrets (derived from the settings), the sessions (each can be ended),
the limits on guessing, the words, and that its mail goes through our outbox.
"""

from datetime import timedelta
from typing import Any

from flask import Flask, current_app
from flask_login import current_user
from flask_security import Security, SQLAlchemyUserDatastore, hash_password
from flask_security.utils import login_user
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import db
from newsletter.errors import N_, InvalidInput
from newsletter.models import Editor, Membership, WebAuthn
from newsletter.web import sessions
from newsletter.web.rendering import render

MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 200


def current_editor() -> Editor | None:
    """Return the editor who is logged in, all factors passed."""
    editor = current_user._get_current_object()
    return editor if isinstance(editor, Editor) else None


def log_in(uniquifier: str, how: str) -> bool:
    """Log an editor in who has proved who they are by a link.

    Refused, with False, where a second factor is on: a link is not one.
    """
    editor = db.session.scalar(select(Editor).where(Editor.fs_uniquifier == uniquifier))
    if editor is None or not editor.active or has_second_factor(editor):
        return False
    return bool(login_user(editor, remember=False, authn_via=[how]))


def has_second_factor(editor: Editor) -> bool:
    """Tell whether logging in with a password takes one more step."""
    return bool(editor.tf_primary_method) or any(
        passkey.usage == "secondary" for passkey in editor.webauthn
    )


def hash_new_password(password: str) -> str:
    """Return the argon2 hash of a new password, or nothing for none.

    Raises InvalidInput.
    """
    if not password:
        return ""
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise InvalidInput(
            N_("A password has %(low)s to %(high)s characters."),
            field="password",
            low=MIN_PASSWORD_CHARACTERS,
            high=MAX_PASSWORD_CHARACTERS,
        )
    return str(
        hash_password(
            current_app.extensions["security"].password_util.normalize(password)
        )
    )


def init_app(app: Flask, settings: Settings) -> None:
    """Attach Flask-Security."""
    app.config.update(_config(settings))
    security = Security(
        app,
        SQLAlchemyUserDatastore(db, Editor, Membership, WebAuthn),
        render_template=render,
    )
    sessions.init_app(app, security.login_manager)


def _config(settings: Settings) -> dict[str, Any]:
    values: dict[str, Any] = {
        "URL_PREFIX": "/editor",
        "STATIC_FOLDER_URL": "/assets",
        "PASSWORD_HASH": "argon2",
        "PASSWORD_SCHEMES": ["argon2"],
        "PASSWORD_SINGLE_HASH": {"argon2"},  # a salt from a key would not survive it
        "PASSWORD_LENGTH_MIN": MIN_PASSWORD_CHARACTERS,
        "POST_LOGIN_VIEW": "/editor/",
        "POST_LOGOUT_VIEW": "/editor/login",
        "RETURN_GENERIC_RESPONSES": True,
        "FRESHNESS": timedelta(hours=12),
        "LOGOUT_CSRF": True,
        "API_ENABLED_METHODS": ["session"],
        "FLASH_MESSAGES": True,
    }
    return {f"SECURITY_{name}": value for name, value in values.items()}
