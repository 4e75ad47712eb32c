"""Previews: what an editor or a feed wrote, shown where no script can run.

A preview is an answer of its own with its own Content-Security-Policy, shown in a
sandboxed frame: mail needs inline styles, which no page of the workspace allows
(SEC-09). `allow-same-origin` without `allow-scripts` lets our page keep the place the
editor had scrolled to, and lets nothing in the frame run.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from flask import Response
from markupsafe import Markup

from newsletter import i18n
from newsletter.db import utcnow
from newsletter.mail import mime
from newsletter.mail.mime import Frozen
from newsletter.models import Issue, Newsletter
from newsletter.web import rendering

POLICY = (
    "sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox;"
    " default-src 'none'; style-src 'self' 'unsafe-inline'; font-src 'self';"
    " img-src 'self' https: data:; frame-ancestors 'self'; base-uri 'none';"
    " form-action 'none'"
)
SCHEMES = ("light", "dark")
_ASKS_FOR_DARK = re.compile(r"\(\s*prefers-color-scheme\s*:\s*dark\s*\)", re.IGNORECASE)
_HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)
_BODY = re.compile(r"<body[^>]*>", re.IGNORECASE)
_NOTE = Markup(
    '<p style="margin:0;padding:10px 16px;background:#1d1b18;color:#ffffff;'
    'font:14px/20px system-ui,sans-serif;text-align:left">{}</p>'
)


@dataclass(frozen=True, slots=True)
class Row:
    """An issue in a list of mails; what is `made` stands where nothing was written."""

    subject: str
    preview_text: str
    made_subject: str
    made_preview_text: str
    date: str


def row(issue: Issue, *, made_subject: str, made_preview_text: str) -> Row:
    """Return an issue as it looks in a list of mails."""
    at = issue.scheduled_at or utcnow()
    words = i18n.language(issue.newsletter.language)
    return Row(
        subject=issue.subject or made_subject,
        preview_text=issue.preview_text or made_preview_text,
        made_subject=made_subject,
        made_preview_text=made_preview_text,
        date=words.short_day(at, issue.newsletter.timezone),
    )


def mail(html: str, *, scheme: str, note: str = "") -> Response:
    """Show a mail in light or dark, whatever the editor's own screen prefers.

    A `note` stands above it, set apart from the mail.
    """
    scheme = scheme if scheme in SCHEMES else SCHEMES[0]
    always, never = "(min-width:0)", "(max-width:0)"
    html = _ASKS_FOR_DARK.sub(always if scheme == "dark" else never, html)
    ours = (
        f'<base target="_blank"><style>:root{{color-scheme:{scheme}!important}}</style>'
    )
    head = _HEAD.search(html)
    at = head.end() if head else 0
    html = html[:at] + ours + html[at:]
    if note:
        body = _BODY.search(html)
        at = body.end() if body else len(html)
        html = html[:at] + str(_NOTE.format(note)) + html[at:]
    return _answer(html)


def languages(newsletter: Newsletter) -> list[tuple[str, str]]:
    """Return the languages readers may choose, each with its own name for itself."""
    codes = dict.fromkeys([newsletter.language, *newsletter.languages])
    return [(code, i18n.language(code).name) for code in codes]


def source(frozen: Frozen, *, now: datetime) -> str:
    """Return the whole message as it travels, to nobody."""
    return frozen.splice(
        address=f"nobody@{frozen.domain}",
        delivery_id=0,
        nonce="preview",
        leave_token=mime.NOBODY,
        preferences_token=mime.NOBODY,
        at=now,
    ).decode()


def plain(text: str, *, title: str, scheme: str) -> Response:
    """Show a text part, or the source of a mail, as it is."""
    return _page(title=title, text=text, scheme=scheme)


def post(title: str, excerpt: str, html: str) -> Response:
    """Show a post; `html` must have been sanitised."""
    return _page(title=title, excerpt=excerpt, html=Markup(html))  # noqa: S704


def problem(message: str) -> Response:
    """Say in the frame why there is nothing to see."""
    return _page(title=message, problem=message)


def _page(**values: object) -> Response:
    return _answer(rendering.render("editor/preview.html", **values))


def _answer(html: str) -> Response:
    response = Response(html, mimetype="text/html")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
