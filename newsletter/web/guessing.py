"""Limits on guessing passwords and codes (SEC-19).

Attempts are counted per account and network together, so that nobody can lock an editor
out from elsewhere, and per network, so that nobody can walk through a list of accounts.
A second factor is counted per account alone: who gets that far has the password.
A login that succeeds wipes its own account's count.
"""

import hashlib
import hmac
from datetime import timedelta
from typing import Any

from flask import Flask, request, session
from flask_login import current_user
from flask_security.signals import user_authenticated
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import transaction, utcnow
from newsletter.errors import N_, TooMany
from newsletter.models import Editor, Rate
from newsletter.subscribers.consent import cut_network, upsert
from newsletter.web.security import client_address, current_settings

WINDOWS = ((timedelta(minutes=15), 10), (timedelta(hours=24), 40))
NETWORK_WINDOWS = ((timedelta(minutes=15), 100), (timedelta(hours=24), 1000))

PASSWORDS = frozenset({"login", "forgot_password", "verify", "change_password"})
CODES = frozenset(
    {"two_factor_token_validation", "mf_recovery", "two_factor_setup_validate"}
)
OTHERS = frozenset({"reset_password", "wan_signin_response"})


def init_app(app: Flask) -> None:
    """Count every attempt before it is looked at."""
    app.before_request(_count)
    user_authenticated.connect(_forget, app)


def _count() -> None:
    blueprint, _, name = (request.endpoint or "").partition(".")
    if request.method != "POST" or blueprint != "security":
        return
    if name not in PASSWORDS | CODES | OTHERS:
        return
    settings = current_settings()
    keys = {_network_key(settings): NETWORK_WINDOWS}
    if account := _account(name):
        keys[_account_key(settings, name, account)] = WINDOWS
    with transaction() as writing:
        for key in keys:
            _add(writing, key)
        full = any(_is_full(writing, key, windows) for key, windows in keys.items())
    if full:
        raise TooMany(
            N_("That was many attempts. Wait a quarter of an hour, then try again.")
        )


def _forget(_app: Flask, user: Editor, **_: Any) -> None:
    settings = current_settings()
    keys = [_account_key(settings, "login", user.email.lower())]
    keys += [_account_key(settings, name, user.fs_uniquifier) for name in CODES]
    with transaction() as writing:
        writing.execute(delete(Rate).where(Rate.key.in_(keys)))


def _account(name: str) -> str:
    """Return whose password or code is tried."""
    if name in {"login", "forgot_password"}:
        return request.form.get("email", "").strip().lower()[:320]
    if name in CODES and "tf_user_id" in session:
        return str(session["tf_user_id"])
    return str(getattr(current_user, "fs_uniquifier", ""))


def _account_key(settings: Settings, name: str, account: str) -> str:
    if name in CODES:
        return _keyed(settings, "code", account)
    kind = "forgot" if name == "forgot_password" else "password"
    return _keyed(settings, kind, f"{account} {_network()}")


def _network_key(settings: Settings) -> str:
    return _keyed(settings, "doors", _network())


def _network() -> str:
    return cut_network(client_address(request), {4: 24, 6: 56})


def _keyed(settings: Settings, kind: str, text: str) -> str:
    digest = hmac.new(settings.pepper, text.encode(), hashlib.sha256).hexdigest()
    return f"login:{kind}:{digest}"[:80]


def _add(writing: Session, key: str) -> None:
    minute = int(utcnow().timestamp()) // 60
    writing.execute(
        upsert(writing, Rate)
        .values(key=key, minute=minute, count=1)
        .on_conflict_do_update(
            index_elements=["key", "minute"], set_={"count": Rate.count + 1}
        )
    )


def _is_full(
    writing: Session, key: str, windows: tuple[tuple[timedelta, int], ...]
) -> bool:
    now = utcnow()
    for window, most in windows:
        since = int((now - window).timestamp()) // 60
        query = select(func.coalesce(func.sum(Rate.count), 0)).where(
            Rate.key == key, Rate.minute > since
        )
        if (writing.scalar(query) or 0) > most:
            return True
    return False
