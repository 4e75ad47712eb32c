"""The sign-up form on another site: a frame, and a script that puts it there."""

import json

from flask import Blueprint, Response

from newsletter.errors import InvalidInput
from newsletter.models import Newsletter
from newsletter.web import frame, pages
from newsletter.web.rendering import render, words
from newsletter.web.security import CONTENT_SECURITY_POLICY, current_settings

bp = Blueprint("embed", __name__)

# Any page may show these, and nothing in them can be clicked by mistake for harm.
FRAMED_POLICY = CONTENT_SECURITY_POLICY.replace(
    "frame-ancestors 'none'", "frame-ancestors *"
)


@bp.get("/embed/<slug>")
def form(slug: str) -> Response:
    """Show the form alone."""
    return form_page(frame.enter(slug))


@bp.get("/embed/<slug>/sent")
def sent(slug: str) -> Response:
    """Ask to look in the inbox, within the frame."""
    newsletter = frame.enter(slug)
    return _framed(frame.show("public/embed_sent.html", newsletter))


@bp.get("/embed/<slug>.js")
def script(slug: str) -> Response:
    """Serve the script that puts the frame where the script stands."""
    newsletter = frame.enter(slug)
    address = current_settings().base_url + frame.link(newsletter, "embed.form")
    text = render(
        "public/embed.js",
        address=json.dumps(address),
        title=json.dumps(words().gettext("Get new posts in your inbox")),
    )
    response = Response(text, mimetype="text/javascript")
    response.cache_control.public = True
    response.cache_control.max_age = 3600
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def form_page(
    newsletter: Newsletter, *, typed: str = "", error: InvalidInput | None = None
) -> Response:
    """Render the form alone, with what was wrong with what someone typed."""
    values = pages.form(newsletter, typed=typed, error=error)
    values["action"] = frame.link(newsletter, "signup.subscribe", framed=1)
    values["elsewhere"] = "_blank"
    return _framed(frame.show("public/embed.html", newsletter, **values))


def _framed(page: str) -> Response:
    return Response(page, headers={"Content-Security-Policy": FRAMED_POLICY})
