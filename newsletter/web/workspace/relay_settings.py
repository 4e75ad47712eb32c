"""The relay of a newsletter: the installation's, or one of its own that is tried first.

The password is written and never read: no page holds it, and a trial sends the kept one
only where it was typed for.
"""

import math
from datetime import date

import flask
from flask import Blueprint, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from newsletter import undoing
from newsletter.db import db, utcnow
from newsletter.errors import N_, ConfigError, InkorgError, InvalidInput
from newsletter.mail import own_relays, probing, relays
from newsletter.mail.own_relays import CONNECTIONS, SECURITIES, Draft
from newsletter.mail.probing import Probe
from newsletter.models import Newsletter, NewsletterRelay, Role
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    undoable,
    writing,
)

bp = Blueprint("relay_settings", __name__)

USUAL_PORTS = {"tls": 465, "starttls": 587, "plain": 25}
SECURITY_WORDS = {
    "tls": N_("From the first byte (TLS, usually port 465)"),
    "starttls": N_("After a greeting (STARTTLS, usually port 587)"),
    "plain": N_("None; for a host on your own network"),
}
LIMITS = ("rate_per_second", "per_day", "warmup_first", "warmup_from")
FIELDS = (*("host", "port", "security", "user", "connections"), *LIMITS)
LONGEST = 1_000  # characters of a field
N_NOT_USED = N_(
    "It is not used yet, since the trial failed: see below. Mend it and type the"
    " password again, or use it all the same."
)


@bp.get("/editor/<slug>/settings/relay")
@needs(Role.OWNER)
def show(newsletter: Newsletter) -> str:
    """Show by which relay the newsletter's mail goes."""
    return _page(newsletter)


@bp.post("/editor/<slug>/settings/relay")
@needs(Role.OWNER)
def save(newsletter: Newsletter) -> Response | tuple[str, int]:
    """Use a relay of its own, if it takes mail or that is not to matter."""
    settings = current_settings()
    try:
        typed = _typed()
        probe = _tried(newsletter, typed)
        if probe.state == probing.WRONG and "anyway" not in request.form:
            return _page(newsletter, InvalidInput(N_NOT_USED), probe), 400
        with writing(newsletter) as (session, here):
            own_relays.save(session, settings, here, typed, now=utcnow())
    except InkorgError as error:
        return _page(newsletter, error), status_of(error)
    say(N_("From now on the mail goes by %(host)s."), host=typed.host.strip())
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/relay/try")
@needs(Role.OWNER)
def try_(newsletter: Newsletter) -> str:
    """Try the relay as typed; nothing is sent or saved.

    Of the fields alone it says what is wrong, and reaches for no server.
    """
    if request.args.get("part") == "fields":
        return render("editor/_faults.html", newsletter, faults=_faults())
    error = None
    try:
        probe = _tried(newsletter, _typed())
    except InkorgError as refused:
        error = refused
        name = request.form.get("host", "")[:LONGEST].strip() or "–"
        values = {key: str(value) for key, value in refused.values.items()}
        probe = Probe(name, probing.WRONG, refused.message, values)
    if "part" in request.args:
        return render("editor/_mail_check.html", newsletter, probes=[probe])
    return _page(newsletter, error, probe, keep_typed=True)


@bp.post("/editor/<slug>/settings/relay/switch")
@needs(Role.OWNER)
def switch(newsletter: Newsletter) -> Response:
    """Use the installation's relay, or the newsletter's own that is kept."""
    on = request.form.get("on") == "1"
    with writing(newsletter) as (session, here):
        host = own_relays.switch(session, here, on=on, now=utcnow())
    if on:
        say(N_("From now on the mail goes by %(host)s."), host=host)
    else:
        say(N_("From now on the mail goes by the installation's relay."))
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/relay/forget")
@needs(Role.OWNER)
def forget(newsletter: Newsletter) -> Response:
    """Forget the newsletter's own relay and its password, an hour from now for good."""
    with writing(newsletter) as (session, here):
        kept = own_relays.kept(session, here).newsletter_id
        undo = undoable(
            session,
            here,
            "relay",
            undoing.keep(session, "relay", kept),
            role=Role.OWNER,
        )
        own_relays.forget(session, here)
    say_done(N_("Its own relay and the password are forgotten."), undo)
    return _back(newsletter)


def _back(newsletter: Newsletter) -> Response:
    return flask.redirect(flask.url_for("relay_settings.show", slug=newsletter.slug))


def _tried(newsletter: Newsletter, typed: Draft) -> Probe:
    settings = current_settings()
    relay = own_relays.drafted(db.session(), settings, newsletter, typed)
    return probing.own_relay_probe(relay, settings.ehlo_name)


def _faults() -> dict[str, str]:
    try:
        own_relays.checked(current_settings(), _typed())
    except InvalidInput as error:
        return {error.field or "host": rendering.words().error(error)}
    return {}


def _typed() -> Draft:
    form = request.form
    security = form.get("security", "")
    return Draft(
        host=form.get("host", "")[:LONGEST],
        port=_whole(form, "port", USUAL_PORTS.get(security, 0)),
        security=security,
        user=form.get("user", "")[:LONGEST],
        password=form.get("password") or None,
        connections=_whole(form, "connections", CONNECTIONS),
        rate_per_second=_rate(form.get("rate_per_second", "")),
        per_day=_whole(form, "per_day", 0),
        warmup_from=_day(form.get("warmup_from", "")),
        warmup_first=_whole(form, "warmup_first", 0),
        spare="spare" in form,
    )


def _whole(form: MultiDict[str, str], name: str, default: int) -> int:
    text = form.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InvalidInput(N_("Write a whole number."), field=name)
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text.strip().replace(",", ".")[:LONGEST] or 0)
    except ValueError:
        rate = math.nan
    if math.isnan(rate):
        raise InvalidInput(N_("Write a number."), field="rate_per_second")
    return rate


def _day(text: str) -> date | None:
    if not text.strip():
        return None
    try:
        return date.fromisoformat(text.strip()[:LONGEST])
    except ValueError:
        raise InvalidInput(
            N_("Write the day as 2026-12-24."), field="warmup_from"
        ) from None


def _page(
    newsletter: Newsletter,
    error: InkorgError | None = None,
    probe: Probe | None = None,
    *,
    keep_typed: bool = False,
) -> str:
    """Show the page; what was typed stands there still, but for the password."""
    session, settings, words = db.session(), current_settings(), rendering.words()
    row = own_relays.of(session, newsletter.id)
    blocked = relays.blocked(session, newsletter, now=utcnow())
    retyped = keep_typed or error is not None
    values = _typed_values() if retyped else _values(row)
    field = getattr(error, "field", "")
    return render(
        "editor/relay.html",
        newsletter,
        row=row,
        places=[relay.name for relay in settings.relays],
        closed=_closed(row),
        blocked=[words.error(relays.told(one)) for one in blocked],
        values=values,
        limits_open=field in (*LIMITS, "connections") or any(map(values.get, LIMITS)),
        spare="spare" in request.form if retyped else bool(row and row.spare),
        securities=_securities(row),
        has_password=bool(row and row.password),
        field=field,
        error=words.error(error) if error else "",
        may_anyway=bool(error and error.message == N_NOT_USED),
        probes=[probe] if probe else [],
    )


def _closed(row: NewsletterRelay | None) -> str:
    """Say why the kept password cannot be opened, if that is so."""
    if row is None:
        return ""
    try:
        own_relays.opened(current_settings(), row, "")
    except ConfigError as error:
        return rendering.words().error(error)
    return ""


def _securities(row: NewsletterRelay | None) -> list[tuple[str, str]]:
    """Return the choices; none unencrypted unless the operator allows a host."""
    allowed = bool(current_settings().relay_allow)
    words = rendering.words()
    return [
        (key, words.gettext(SECURITY_WORDS[key]))
        for key in SECURITIES
        if key != "plain" or allowed or (row and row.security == key)
    ]


def _typed_values() -> dict[str, object]:
    return {name: request.form.get(name, "")[:LONGEST] for name in FIELDS}


def _values(row: NewsletterRelay | None) -> dict[str, object]:
    """Return what the form holds; a number that says nothing is left out."""
    if row is None:
        usual = {"port": USUAL_PORTS["tls"], "security": "tls"}
        return dict.fromkeys(FIELDS, "") | usual | {"connections": CONNECTIONS}
    values: dict[str, object] = {name: getattr(row, name) or "" for name in FIELDS}
    if row.rate_per_second:
        values["rate_per_second"] = f"{row.rate_per_second:g}"
    return values
