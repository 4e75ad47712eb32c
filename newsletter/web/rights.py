"""Links that were mailed for one purpose: a new address, one's data, erasure."""

import json
from datetime import datetime
from typing import Any

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from newsletter import links
from newsletter.db import db, transaction, utcnow
from newsletter.models import Subscription
from newsletter.subscribers import moving, rights
from newsletter.subscribers.addresses import readable
from newsletter.web import frame
from newsletter.web.security import current_settings

bp = Blueprint("rights", __name__)
frame.keep_private(bp)


@bp.get("/address/<token>")
def look_at_address(token: str) -> ResponseReturnValue:
    """Show which address would be used from now on."""
    view = moving.look_at_address_change(db.session(), current_settings(), token)
    return _address_page(view)


@bp.post("/address/<token>")
@frame.acts_by_token(bp)
def confirm_address(token: str) -> ResponseReturnValue:
    """Use the new address."""
    settings = current_settings()
    with transaction() as session:
        view = moving.look_at_address_change(session, settings, token)
        if view.state == "ready":
            if view.subscription:
                frame.enter_for(view.subscription)
            origin = frame.origin()
            moving.confirm_address_change(
                session, settings, token, origin=origin, now=utcnow()
            )
    return _address_page(
        moving.look_at_address_change(db.session(), settings, token), just_now=True
    )


@bp.get("/data/<token>")
def look_at_data(token: str) -> str:
    """Show what is to be fetched, and a button."""
    return _page("public/data.html", _owner(links.DATA, token))


@bp.post("/data/<token>")
@frame.acts_by_token(bp)
def data(token: str) -> Response:
    """Hand over everything we know about the reader, as a file."""
    subscription = _owner(links.DATA, token)
    found = rights.collect_data(db.session(), current_settings(), token)
    text = json.dumps(found, ensure_ascii=False, indent=2, default=_plain)
    name = f"{subscription.newsletter.slug}.json"
    return Response(
        text + "\n",
        mimetype="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@bp.get("/erase/<token>")
def look_at_erase(token: str) -> str:
    """Show what erasing means, and a button."""
    return _page("public/erase.html", _owner(links.ERASE, token), done=False)


@bp.post("/erase/<token>")
@frame.acts_by_token(bp)
def erase(token: str) -> str:
    """Erase the reader."""
    settings, now = current_settings(), utcnow()
    with transaction() as session:
        subscription = rights.look_at_link(session, settings, links.ERASE, token)
        newsletter = frame.enter_for(subscription)
        rights.erase(session, settings, token, now=now)
    return frame.show("public/erase.html", newsletter, done=True, email="")


def _owner(purpose: links.Purpose, token: str) -> Subscription:
    return rights.look_at_link(db.session(), current_settings(), purpose, token)


def _page(template: str, subscription: Subscription, **values: Any) -> str:
    newsletter = frame.enter_for(subscription)
    email = readable(subscription.subscriber.email)
    return frame.show(template, newsletter, email=email, **values)


def _address_page(
    view: moving.AddressView, *, just_now: bool = False
) -> ResponseReturnValue:
    newsletter = frame.enter_for(view.subscription) if view.subscription else None
    page = frame.show(
        "public/address.html",
        newsletter,
        state=view.state,
        email=readable(view.email),
        just_now=just_now,
    )
    return page, 404 if view.state == "invalid" else 200


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
