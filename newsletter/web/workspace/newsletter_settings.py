"""The settings of a newsletter, one page of it."""

import re
from collections.abc import Iterator
from typing import Any

import flask
from flask import Blueprint, request
from werkzeug.wrappers import Response

from newsletter import colours, i18n, newsletters
from newsletter.db import db, utcnow
from newsletter.errors import N_, ConfigError, InkorgError, InvalidInput
from newsletter.mail import own_relays, probing
from newsletter.mail.probing import Probe
from newsletter.models import Newsletter, Role
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace import timezones
from newsletter.web.workspace.access import needs, render, say, writing

bp = Blueprint("settings", __name__)

LINES = (
    *("title", "tagline", "from_name", "from_email", "reply_to", "publisher"),
    *("about", "postal_address", "phone", "contact_email", "website", "privacy"),
    *("accent", "language", "timezone"),
)
NUMBERS = ("posts_on_page", "undo_seconds")
SWITCHES = (
    *("listed", "record_network", "public_archive", "hold_unknown"),
    "count_clicks",
)
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
SOCIAL_ROWS = 4
MOST_TYPED = 20_000


@bp.get("/editor/<slug>/settings/")
@needs(Role.OWNER)
def show(newsletter: Newsletter) -> str:
    """Show the settings."""
    values = {name: getattr(newsletter, name) for name in LINES}
    return _page(newsletter, values)


@bp.post("/editor/<slug>/settings/")
@needs(Role.OWNER)
def save(newsletter: Newsletter) -> Response | tuple[str, int]:
    """Save the settings, all or none."""
    try:
        values = _typed()
        with writing(newsletter) as (_session, here):
            newsletters.change(here, **values)
    except InkorgError as error:
        typed = {name: request.form.get(name, "") for name in LINES}
        return _page(newsletter, typed, error), status_of(error)
    say(N_("The settings are saved."))
    return flask.redirect(flask.url_for("settings.show", slug=newsletter.slug))


@bp.post("/editor/<slug>/settings/check")
@needs(Role.OWNER)
def check(newsletter: Newsletter) -> str:
    """Try the relay and look up the sender's domain as typed; nothing is saved.

    Of the fields alone, it says what is wrong and how the rest would look.
    """
    typed = {name: request.form.get(name, "")[:MOST_TYPED] for name in LINES}
    if request.args.get("part") == "fields":
        return render(
            "editor/_settings_check.html",
            newsletter,
            sample=_sample(newsletter, typed),
            sender_line=_sender_line(typed),
            faults=_faults(),
        )
    found = _checked(newsletter, typed)
    if "part" in request.args:
        sample = _sample(newsletter, typed)
        return render("editor/_mail_check.html", newsletter, sample=sample, **found)
    return _page(newsletter, typed, checked=found)


@bp.get("/editor/<slug>/settings/accent")
@needs(Role.OWNER)
def accent_sample(newsletter: Newsletter) -> str:
    """Draw a colour as readers would see it, while it is being chosen."""
    told = told_accent(request.args.get("accent", ""))
    return render("editor/_accent_told.html", newsletter, **told)


def _typed() -> dict[str, Any]:
    values, wrong = _read()
    for error in wrong.values():
        raise error
    return values


def _read() -> tuple[dict[str, Any], dict[str, InvalidInput]]:
    """Return what stands in the form, and by its field what cannot be read."""
    form = request.form
    values: dict[str, Any] = {name: form.get(name, "") for name in LINES}
    values |= {name: name in form for name in SWITCHES}
    values["languages"] = form.getlist("languages")
    values["social"] = [
        {"name": name.strip(), "url": url.strip()}
        for name, url in zip(
            form.getlist("social_name"), form.getlist("social_url"), strict=False
        )
        if name.strip() or url.strip()
    ]
    wrong = {}
    for name in NUMBERS:
        number = form.get(name, "")
        if number.isdecimal() and len(number) <= 4:
            values[name] = int(number)
        else:
            wrong[name] = InvalidInput(N_("Write a number."), field=name)
    return values, wrong


def _faults() -> dict[str, str]:
    """Say what is wrong with what is typed, by field."""
    values, wrong = _read()
    found = {**newsletters.faults(**values), **wrong}
    return {name: rendering.words().error(error) for name, error in found.items()}


def _checked(newsletter: Newsletter, typed: dict[str, str]) -> dict[str, object]:
    """Return what the relays and the DNS say of what is typed."""
    domain = typed["from_email"].rpartition("@")[2].strip().lower()
    signing = probing.signing_keys(db.session(), newsletter, domain)
    return {
        "probes": [
            *_probed(newsletter),
            *probing.domain_probes(domain, signing, probing.txt_lookup()),
            probing.answers_probe(typed["reply_to"].strip() or typed["from_email"]),
        ],
    }


def _sample(newsletter: Newsletter, typed: dict[str, Any]) -> dict[str, str]:
    """Return how the sender and a moment would look in an inbox."""
    code, zone = typed["language"], typed["timezone"]
    words = i18n.language(code) if code in i18n.available() else rendering.words()
    if zone not in timezones.names(newsletter.timezone):
        zone = newsletter.timezone
    return {
        "from_name": typed["from_name"].strip(),
        "from_email": typed["from_email"].strip(),
        "date": words.moment(utcnow(), zone),
    }


def _sender_line(typed: dict[str, Any]) -> str:
    """Return who sends and from where, as each mail says it; "" without an address."""
    names = ("publisher", "from_name", "postal_address")
    publisher, from_name, postal_address = (typed[name].strip() for name in names)
    if not postal_address:
        return ""
    return newsletters.line_of(publisher, from_name, postal_address)


def _probed(newsletter: Newsletter) -> Iterator[Probe]:
    """Try the relays that the newsletter's mail goes by."""
    settings = current_settings()
    row = own_relays.in_use(db.session(), newsletter.id)
    if row is not None:
        try:
            own = own_relays.opened(settings, row, newsletter.slug)
        except ConfigError as error:
            yield Probe(f"{row.host}:{row.port}", probing.WRONG, error.message)
        else:
            yield probing.own_relay_probe(own, settings.ehlo_name)
    if row is None or row.spare:
        yield from map(probing.relay_probe, settings.relays)


def _page(
    newsletter: Newsletter,
    values: dict[str, Any],
    error: InkorgError | None = None,
    checked: dict[str, object] | None = None,
) -> str:
    words = rendering.words()
    field = getattr(error, "field", "")
    retyped = error is not None or checked is not None
    return render(
        "editor/settings.html",
        newsletter,
        values=values,
        switches={
            name: name in request.form if retyped else getattr(newsletter, name)
            for name in SWITCHES
        },
        **{name: request.form.get(name, getattr(newsletter, name)) for name in NUMBERS},
        chosen_languages=request.form.getlist("languages")
        if retyped
        else newsletter.languages,
        all_languages=[(code, i18n.language(code).name) for code in i18n.available()],
        all_zones=timezones.names(newsletter.timezone),
        social=_social(newsletter, retyped=retyped),
        **told_accent(values["accent"]),
        sample=_sample(newsletter, values),
        sender_line=_sender_line(values),
        field=field,
        error=words.error(error) if error else "",
        **(checked or {}),
    )


def _social(newsletter: Newsletter, *, retyped: bool) -> list[dict[str, str]]:
    rows = list(newsletter.social)
    if retyped:
        pairs = zip(
            request.form.getlist("social_name"),
            request.form.getlist("social_url"),
            strict=False,
        )
        rows = [{"name": name, "url": url} for name, url in pairs]
    rows = [row for row in rows if row.get("name") or row.get("url")]
    empty = {"name": "", "url": ""}
    return rows + [empty] * max(1, SOCIAL_ROWS - len(rows))


def told_accent(typed: str) -> dict[str, object]:
    """Return a colour, and what becomes of it where it would be hard to read."""
    colour = safe_accent(typed).lower()
    return {
        "accent": colours.accent(colour),
        "colour": colour,
        "by_day": colours.contrast(colour, colours.LIGHT_GROUND),
        "by_night": colours.contrast(colour, colours.DARK_GROUND),
    }


def safe_accent(text: str) -> str:
    """Return a colour as it is, or the default where it is none."""
    return text if COLOUR.fullmatch(text) else "#8b2e24"
