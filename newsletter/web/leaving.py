"""Leaving by a mail's link: one click in the mail program, or one button on a page.

A button's answer is a redirect, so that reloading and the browser's back button ask
nothing. One click gets its page at once, as RFC 8058 wants it.
"""

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue

from newsletter import rhythms
from newsletter.db import db, transaction, utcnow
from newsletter.models import Status, Subscription
from newsletter.subscribers import leaving
from newsletter.subscribers.addresses import readable
from newsletter.web import frame
from newsletter.web.rendering import words
from newsletter.web.security import current_settings

bp = Blueprint("leaving", __name__)
frame.keep_private(bp)

ONE_CLICK = ("List-Unsubscribe", "One-Click")  # RFC 8058 §3.1
SAID = ("undone", "fewer")  # what a page can say was done


@bp.get("/unsubscribe/<token>")
def show(token: str) -> str:
    """Show the button, or that the reader has left or stays."""
    subscription = leaving.find_by_leave_token(db.session(), token)
    return _page(subscription, token, said=request.args.get("said", ""))


@bp.post("/unsubscribe/<token>")
@frame.open_to_all(bp)  # mail programs on the web post from where they are
def leave(token: str) -> ResponseReturnValue:
    """End the subscription at once. RFC 8058: 200, no redirect, no cookie."""
    name, value = ONE_CLICK
    one_click = request.form.get(name) == value
    with transaction() as session:
        subscription = leaving.leave(
            session,
            current_settings(),
            token,
            origin=frame.origin(),
            how="one-click" if one_click else "page",
            now=utcnow(),
        )
        if subscription:
            frame.enter_for(subscription)
    return _page(subscription, token) if one_click else _back(token)


@bp.post("/unsubscribe/<token>/undo")
@frame.acts_by_token(bp)
def undo(token: str) -> ResponseReturnValue:
    """Take it back."""
    with transaction() as session:
        leaving.undo(
            session,
            current_settings(),
            token,
            origin=frame.origin(),
            now=utcnow(),
        )
    return _back(token, said="undone")


@bp.post("/unsubscribe/<token>/fewer")
@frame.acts_by_token(bp)
def fewer(token: str) -> ResponseReturnValue:
    """Get fewer mails instead of none."""
    with transaction() as session:
        leaving.choose_rhythm(
            session,
            current_settings(),
            token,
            request.form.get("rhythm", ""),
            origin=frame.origin(),
            now=utcnow(),
        )
    return _back(token, said="fewer")


def _back(token: str, said: str | None = None) -> ResponseReturnValue:
    return redirect(url_for("leaving.show", token=token, said=said), 303)


def _page(
    subscription: Subscription | None,
    token: str,
    *,
    said: str = "",
) -> str:
    """Show where a subscription stands; one that is gone is a subscription left."""
    if subscription is None:
        return frame.show("public/unsubscribe.html", None, state="gone")
    newsletter = frame.enter_for(subscription)
    has_left = subscription.status in (Status.LEFT, Status.SUPPRESSED)
    can_undo = leaving.can_undo(subscription, now=utcnow())
    offered = leaving.fewer_rhythms(subscription)
    return frame.show(
        "public/unsubscribe.html",
        newsletter,
        state="left" if has_left else "active",
        token=token,
        email=readable(subscription.subscriber.email),
        said=said if said in SAID and not has_left else "",
        can_undo=can_undo,
        rhythm=frame.rhythm_in_a_sentence(subscription.rhythm),
        fewer=rhythms.describe_each(
            offered if can_undo or not has_left else [], words()
        ),
    )
