"""Logging in: the doorway to Flask-Security, which does passwords, codes and passkeys.

What is ours: the secrets (derived from the settings), the sessions (each can be ended),
the limits on guessing, the words, and that its mail goes through our outbox.
"""

import base64
import functools
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

from flask import Flask, abort, current_app, redirect, request, session
from flask_login import current_user
from flask_security import (
    LoginForm,
    Security,
    SQLAlchemyUserDatastore,
    hash_password,
    tf_profile_changed,
)
from flask_security.utils import login_user
from sqlalchemy import select
from werkzeug.datastructures import ImmutableMultiDict, MultiDict

from newsletter import editors
from newsletter.config import Settings, subkey
from newsletter.db import db, utcnow
from newsletter.errors import N_, InvalidInput
from newsletter.models import Editor, Membership, WebAuthn
from newsletter.web import factors, guessing, rendering, sessions
from newsletter.web.login_words import MESSAGES

MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 200
NEXT = re.compile(r"/editor/[\w./?&=%+,:@-]*", re.ASCII)  # where a login may lead

# What a view under /editor/ needs stands on it, so that a test can walk the URL map:
# a Role, LOGIN or NOTHING.
NEEDS = "inkorg_needs"
LOGIN = "login"
NEW_FACTOR = "new_factor"  # in a session: recovery codes are to be made
NOTHING = "nothing"

# Flask-Security's pages for those who are not logged in (yet); the rest need a login.
DOORS = frozenset(
    {
        *("login", "logout", "forgot_password", "reset_password"),
        *("two_factor_token_validation", "two_factor_rescue", "tf_select"),
        *("mf_recovery", "wan_signin", "wan_signin_response"),
    }
)


def current_editor() -> Editor | None:
    """Return the editor who is logged in, all factors passed."""
    editor = current_user._get_current_object()
    return editor if isinstance(editor, Editor) else None


def log_in(uniquifier: str, how: str) -> bool:
    """Log an editor in who has proved who they are by a link.

    Refused, with False, where a second factor is on: a link is not one.
    """
    # As it stands in the database now: a password that was chosen a moment ago, in a
    # session of its own, has made the one that this session may know out of date.
    found = select(Editor).where(Editor.fs_uniquifier == uniquifier)
    editor = db.session.scalar(found.execution_options(populate_existing=True))
    if editor is None or not editor.active or editors.has_second_factor(editor):
        return False
    return bool(login_user(editor, remember=False, authn_via=[how]))


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
    normalize = current_app.extensions["security"].password_util.normalize
    return str(hash_password(normalize(password)))


def init_app(app: Flask, settings: Settings) -> None:
    """Attach Flask-Security."""
    app.config.update(_config(settings))
    security = Security(
        app,
        SQLAlchemyUserDatastore(db, Editor, Membership, WebAuthn),
        render_template=_render,
        login_form=_LoginForm,
        mail_util_cls=factors.Mail,
        totp_cls=factors.Codes,
        webauthn_util_cls=factors.Passkeys,
    )
    security.want_json(lambda _request: False)
    security.i18n_domain = _Words()  # type: ignore[assignment]
    sessions.init_app(app, security.login_manager)
    guessing.init_app(app)
    tf_profile_changed.connect(_offer_codes, app)
    _guard_views(app)


def _config(settings: Settings) -> dict[str, Any]:
    values: dict[str, Any] = {
        "URL_PREFIX": "/editor",
        "STATIC_FOLDER": None,
        "CLI_USERS_NAME": None,
        "CLI_ROLES_NAME": None,
        "PASSWORD_HASH": "argon2",
        "PASSWORD_SCHEMES": ["argon2"],
        "PASSWORD_SINGLE_HASH": {"argon2"},  # a salt from a key would not survive it
        "PASSWORD_LENGTH_MIN": MIN_PASSWORD_CHARACTERS,
        "POST_LOGIN_VIEW": "/editor/",
        "POST_LOGOUT_VIEW": "/editor/login",
        "RETURN_GENERIC_RESPONSES": True,
        "API_ENABLED_METHODS": ["session"],
        "DATETIME_FACTORY": utcnow,
        "FRESHNESS": sessions.IDLE,
        "EMAIL_PLAINTEXT": False,  # editor_mail.py writes them
        "EMAIL_HTML": False,
        "INPUT_NORMALIZE_FORM": "NFC",
        "CHANGEABLE": True,
        "CHANGE_URL": "/account/password",
        "POST_CHANGE_VIEW": "/editor/account/",
        "RECOVERABLE": True,
        "RESET_URL": "/login/forgotten",
        "RESET_PASSWORD_WITHIN": timedelta(hours=2),
        "VERIFY_URL": "/account/verify",
        "TWO_FACTOR": True,
        "TWO_FACTOR_ENABLED_METHODS": ["authenticator"],
        "TWO_FACTOR_RESCUE_EMAIL": False,
        "TWO_FACTOR_SETUP_URL": "/account/second-factor",
        "TWO_FACTOR_POST_SETUP_VIEW": "/editor/account/",
        "TWO_FACTOR_TOKEN_VALIDATION_URL": "/login/code",
        "TWO_FACTOR_RESCUE_URL": "/login/rescue",
        "TWO_FACTOR_SELECT_URL": "/login/choose",
        "TWO_FACTOR_AUTHENTICATOR_VALIDITY": 60,
        "TOTP_SECRETS": _totp_secrets(settings),
        "TOTP_ISSUER": "Inkorg",
        "MULTI_FACTOR_RECOVERY_CODES": True,
        "MULTI_FACTOR_RECOVERY_CODES_N": 8,
        "MULTI_FACTOR_RECOVERY_CODES_URL": "/account/recovery-codes",
        "MULTI_FACTOR_RECOVERY_URL": "/login/recovery-code",
        "MULTI_FACTOR_RECOVERY_CODES_KEYS": _recovery_keys(settings),
        "WEBAUTHN": True,
        "WAN_RP_NAME": "Inkorg",
        "WAN_ALLOW_USER_HINTS": False,  # would tell whose addresses are known
        "WAN_REGISTER_URL": "/account/passkeys",
        "WAN_POST_REGISTER_VIEW": "/editor/account/",
        "WAN_DELETE_URL": "/account/passkeys/delete",
        "WAN_SIGNIN_URL": "/login/passkey",
        "WAN_VERIFY_URL": "/account/verify/passkey",
        **{f"MSG_{key}": message for key, message in MESSAGES.items()},
    }
    return {f"SECURITY_{name}": value for name, value in values.items()}


def _each_key(settings: Settings, purpose: str) -> list[bytes]:
    """Derive a key from every secret, the newest first, so that keys can rotate."""
    return [
        subkey(replace(settings, secret_keys=(secret,)), purpose)
        for secret in settings.secret_keys
    ]


def _totp_secrets(settings: Settings) -> dict[str, str]:
    """Name each key by itself, so that an older one is found after a rotation."""
    pairs = zip(
        _each_key(settings, "totp.name"), _each_key(settings, "totp"), strict=True
    )
    return {f"k{name.hex()[:12]}": key.hex() for name, key in pairs}


def _recovery_keys(settings: Settings) -> list[bytes]:
    return [base64.urlsafe_b64encode(key) for key in _each_key(settings, "recovery")]


def _render(template: str, **values: Any) -> str:
    """Render one of Flask-Security's pages, in the editor's language if known."""
    editor = current_editor()
    if editor is not None:
        rendering.speak(editor.language)
    return rendering.render(template, editor=editor, newsletter=None, **values)


def _guard_views(app: Flask) -> None:
    """Declare what Flask-Security's views need, and close what we do not use."""
    for endpoint, view in app.view_functions.items():
        blueprint, _, name = endpoint.partition(".")
        if blueprint == "security":
            wrapped = _gone if name == "two_factor_rescue" else _forms_only(view)
            setattr(wrapped, NEEDS, NOTHING if name in DOORS else LOGIN)
            app.view_functions[endpoint] = wrapped


def _forms_only(view: Any) -> Any:
    """Refuse JSON, where a password could be a number or a list; tame `next`."""

    @functools.wraps(view)
    def wrapper(**values: Any) -> Any:
        if request.is_json:
            abort(400)
        request.args = _without_bad_next(request.args)
        # Recovery codes are shown once, when they are made.
        if request.endpoint == "security.mf_recovery_codes":
            request.args = ImmutableMultiDict()
        request.form = _without_bad_next(request.form)
        if _comes_back_to_the_code():
            return redirect(current_app.config["SECURITY_POST_LOGIN_VIEW"])
        return view(**values)

    return wrapper


def _comes_back_to_the_code() -> bool:
    """Tell whether one who is logged in opens the page that asks for a code.

    As the browser's back button does. Flask-Security would log them out.
    """
    return (
        request.endpoint == "security.two_factor_token_validation"
        and request.method in {"GET", "HEAD"}
        and current_editor() is not None
        and session.get("tf_state") != "validating_profile"
    )


def _without_bad_next(values: MultiDict[str, str]) -> ImmutableMultiDict[str, str]:
    """Leave `next` out unless it leads into the workspace."""
    return ImmutableMultiDict(
        (name, value)
        for name, value in values.items(multi=True)
        if name != "next" or NEXT.fullmatch(value)
    )


def _gone(**_: Any) -> Any:
    """Stand where a code could be had by mail: that would be no second factor."""
    abort(404)


def _offer_codes(_app: Flask, user: Editor, **_: Any) -> None:
    """Lead who has just set a factor up to recovery codes, once."""
    session[NEW_FACTOR] = not user.mf_recovery_codes


class _Words:
    """Flask-Security's messages in the words of this request."""

    @staticmethod
    def gettext(message: str, **values: object) -> str:
        return rendering.words().gettext(str(message), **values)

    @staticmethod
    def ngettext(one: str, many: str, num: int, **values: object) -> str:
        return rendering.words().ngettext(one, many, num, **values)

    @staticmethod
    def format_list(names: list[str], **_: object) -> str:
        return rendering.words().enumeration(names)


class _LoginForm(LoginForm):
    remember = None  # a session has an end

    def validate(self, **kwargs: Any) -> bool:
        if len(self.password.data or "") > MAX_PASSWORD_CHARACTERS:
            self.password.data = ""
        return bool(super().validate(**kwargs))
