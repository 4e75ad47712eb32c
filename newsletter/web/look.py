"""How pages look: a newsletter's accent as a stylesheet, and files that are kept.

The accent itself is worked out in `colours.py`; here it becomes custom properties.
"""

import functools
import hashlib
from pathlib import Path

from flask import Blueprint, Response, request, url_for

from newsletter import colours, newsletters
from newsletter.config import ROOT
from newsletter.db import db
from newsletter.digests import logos

bp = Blueprint("look", __name__)

STATIC = ROOT / "newsletter" / "static"
YEAR = 365 * 24 * 3600
# Static files whose contents never change under their name.
UNCHANGING = "fonts/"
# --ink and --paper of static/tokens.css: what --accent-strong and -wash lean towards.
LIGHT = ("#1d1b18", "#fbfaf7")
DARK = ("#ede9e2", "#151412")


@bp.get("/<slug>/look.css")
def stylesheet(slug: str) -> Response:
    """Serve a newsletter's own colours."""
    newsletter = newsletters.by_slug(db.session(), slug)
    response = Response(properties(newsletter.accent), mimetype="text/css")
    current = request.args.get("v") == newsletter.accent[1:]
    response.cache_control.public = True
    response.cache_control.max_age = YEAR if current else 60
    return response


@bp.get("/<slug>/logo/<logo_name>")
def logo(slug: str, logo_name: str) -> Response:
    """Serve a logo: its name says what is in it, so it may be kept for ever."""
    session = db.session()
    digest, _, kind = logo_name.partition(".")
    found = logos.find(session, newsletters.by_slug(session, slug), digest, kind)
    response = Response(found.data, mimetype=logos.TYPES[found.kind])
    response.cache_control.public = True
    response.cache_control.immutable = True
    response.cache_control.max_age = YEAR
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def properties(accent: str) -> str:
    """Write the accent's custom properties for both themes."""
    found = colours.accent(accent)
    day = _rule(found.light, found.on_light, *LIGHT)
    night = _rule(found.dark, found.on_dark, *DARK)
    return f"{day}\n@media (prefers-color-scheme: dark) {{\n{night}\n}}\n"


@bp.app_template_global()
def asset(name: str) -> str:
    """Return the address of a static file, new whenever the file is."""
    return url_for("static", filename=name, v=_version(STATIC / name))


@bp.after_app_request
def keep(response: Response) -> Response:
    """Let browsers keep a file that has its version in its address."""
    if request.endpoint == "static" and response.status_code == 200:
        name = str((request.view_args or {}).get("filename", ""))
        if name.startswith(UNCHANGING) or "v" in request.args:
            response.cache_control.no_cache = None
            response.cache_control.public = True
            response.cache_control.immutable = True
            response.cache_control.max_age = YEAR
    return response


def _rule(accent: str, on: str, ink: str, paper: str) -> str:
    values = {
        "accent": accent,
        "accent-strong": mix(accent, ink, 0.2),
        "on-accent": on,
        "accent-wash": mix(accent, paper, 0.92),
    }
    lines = "".join(f"  --{name}: {value};\n" for name, value in values.items())
    return f":root {{\n{lines}}}"


def mix(one: str, other: str, share: float) -> str:
    """Return `one` with `share` of `other` in it."""
    pairs = ((int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


@functools.cache
def _version(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]
