"""The front page, and what machines ask for: health, robots, an icon."""

from flask import Blueprint, Response, jsonify, redirect, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from newsletter import newsletters
from newsletter.db import db, utcnow
from newsletter.mail import ledger
from newsletter.models import Delivery, DeliveryState, Message, MessageState
from newsletter.web import frame
from newsletter.web.security import current_settings

bp = Blueprint("home", __name__)

BULK = 1
# Personal links and the workspace are nobody's business to index.
ROBOTS = """User-agent: *
Disallow: /address/
Disallow: /confirm/
Disallow: /data/
Disallow: /editor/
Disallow: /embed/
Disallow: /erase/
Disallow: /mailbox/
Disallow: /never/
Disallow: /preferences/
Disallow: /unsubscribe/
"""


@bp.get("/")
def front() -> ResponseReturnValue:
    """Lead to the only newsletter, list several, or tell the first step."""
    found = newsletters.listed_newsletters(db.session())
    if len(found) == 1:
        return redirect(url_for("pages.show", slug=found[0].slug))
    is_new = not (found or newsletters.all_newsletters(db.session()))
    return frame.show("public/front.html", None, newsletters=found, is_new=is_new)


@bp.get("/robots.txt")
def robots() -> Response:
    """Tell programs what not to follow."""
    text = f"{ROBOTS}\nSitemap: {current_settings().base_url}/sitemap.xml\n"
    return Response(text, mimetype="text/plain")


@bp.get("/favicon.ico")
def favicon() -> ResponseReturnValue:
    """Lead to the icon."""
    return redirect(url_for("static", filename="favicon.svg"), 301)


@bp.get("/healthz")
def health() -> ResponseReturnValue:
    """Tell whether the database answers, and how long the oldest mail has waited."""
    try:
        age = _queue_age_seconds()
    except SQLAlchemyError:
        return jsonify(status="failing", database="failing"), 503
    return jsonify(status="ok", database="ok", queue_age_seconds=age)


def _queue_age_seconds() -> int:
    """Return how long the mail that has waited longest has waited; 0 if none does."""
    single = db.session.scalar(
        select(Delivery.created_at)
        .where(Delivery.lane == 0, Delivery.state == DeliveryState.QUEUED)
        .order_by(Delivery.id)
        .limit(1)
    )
    bulk = db.session.scalar(
        select(func.min(Message.created_at)).where(
            Message.state == MessageState.OPEN,
            Message.lane == BULK,
            ledger.has_queued(),
        )
    )
    moments = [moment for moment in (single, bulk) if moment]
    return int((utcnow() - min(moments)).total_seconds()) if moments else 0
