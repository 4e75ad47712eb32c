"""The local mailbox's pages: what the demo would have sent, as a reader sees it."""

import re
from dataclasses import asdict

from flask import Blueprint, Response, jsonify, request, url_for

from newsletter import mailbox
from newsletter.mailbox import Kept, Mailbox
from newsletter.web.rendering import render
from newsletter.web.security import current_settings

bp = Blueprint("mailbox", __name__, url_prefix="/mailbox")

ON_A_PAGE = 50
IN_JSON = 1000
ZONE = "Europe/Stockholm"  # the sample newsletter's
MAX_PAGES = 1 + mailbox.KEEP // ON_A_PAGE

# A mail's own HTML, alone in a frame: no script, no form, no access to our pages. Its
# links open outside the frame, where our own rules hold again.
MAIL_POLICY = (
    "default-src 'none'; img-src * data:; style-src 'unsafe-inline'; font-src 'none';"
    " base-uri 'self'; form-action 'none'; frame-ancestors 'self';"
    " sandbox allow-popups allow-popups-to-escape-sandbox"
)
_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
_BASE = '<base target="_blank">'


@bp.get("/")
def mails() -> str | Response:
    """List the mails, the newest first; `format=json` for programs, `to=` to search."""
    to = request.args.get("to", "").strip()[:320]
    if request.args.get("format") == "json":
        limit = _number("limit", IN_JSON, mailbox.KEEP)
        return jsonify([_plain(kept) for kept in _box().newest(limit, to=to)])
    page = _number("page", 1, MAX_PAGES)
    found = _box().newest(ON_A_PAGE + 1, to=to, skip=(page - 1) * ON_A_PAGE)
    return render(
        "mailbox/list.html",
        mails=found[:ON_A_PAGE],
        to=to,
        zone=ZONE,
        page=page,
        more=len(found) > ON_A_PAGE,
    )


@bp.get("/<name>/")
def mail(name: str) -> str:
    """Show a mail: as HTML, as text, its headers."""
    raw = _box().raw(name)
    message = mailbox.parse(raw)
    return render(
        "mailbox/mail.html",
        mail=mailbox.summary(name, raw),
        zone=ZONE,
        sender=str(message.get("From", "")),
        has_html=bool(mailbox.body(message, "html")),
        text=mailbox.body(message, "plain"),
        headers=[(key, " ".join(str(value).split())) for key, value in message.items()],
    )


@bp.get("/<name>/html")
def html(name: str) -> Response:
    """Return the mail's HTML alone, for the frame."""
    text = mailbox.body(mailbox.parse(_box().raw(name)), "html")
    head = _HEAD.search(text)
    at = head.end() if head else 0
    response = Response(text[:at] + _BASE + text[at:], mimetype="text/html")
    response.headers["Content-Security-Policy"] = MAIL_POLICY
    return response


@bp.get("/<name>.eml")
def source(name: str) -> Response:
    """Return the mail's bytes."""
    response = Response(_box().raw(name), mimetype="message/rfc822")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.eml"'
    return response


def _box() -> Mailbox:
    folder = current_settings().mailbox_dir
    assert folder  # noqa: S101  (else this blueprint is not registered)
    return Mailbox(folder)


def _number(name: str, default: int, most: int) -> int:
    text = request.args.get(name, "")
    return min(max(int(text), 1), most) if re.fullmatch(r"\d{1,6}", text) else default


def _plain(kept: Kept) -> dict[str, object]:
    return {
        **asdict(kept),
        "at": kept.at.isoformat(),
        "url": url_for("mailbox.mail", name=kept.id),
        "source_url": url_for("mailbox.source", name=kept.id),
    }
