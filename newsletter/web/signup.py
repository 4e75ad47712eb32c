"""Signing up: the form's answer, the page that confirms, "never again"."""

from flask import Blueprint, redirect, request
from flask.typing import ResponseReturnValue

from newsletter import newsletters
from newsletter.db import db, transaction, utcnow
from newsletter.errors import InvalidInput
from newsletter.models import Newsletter, Subscription
from newsletter.subscribers import gate, signup
from newsletter.subscribers.addresses import readable
from newsletter.subscribers.signup import ConfirmationView
from newsletter.web import embed, frame, pages
from newsletter.web.offer import Offer, Request
from newsletter.web.rendering import words
from newsletter.web.security import current_settings

bp = Blueprint("signup", __name__)
by_token = Blueprint("signup_by_token", __name__)
frame.keep_private(by_token)


@bp.post("/<slug>/subscribe")
@frame.open_to_all(bp)  # any site may hold the form: it only asks for a confirmation
def subscribe(slug: str) -> ResponseReturnValue:
    """Take a wish to subscribe; the answer is the same for every address."""
    newsletter = frame.enter(slug)
    framed = "framed" in request.args
    # A press on "Yes, use …" sends what we guessed along with what was typed.
    typed = request.form.get("suggested") or request.form.get("email", "")
    try:
        if not gate.is_trapped(request.form.get(gate.TRAP_FIELD, "")):
            _record(newsletter, typed)
    except InvalidInput as error:
        if framed:
            return embed.form_page(newsletter, typed=typed, error=error), 400
        return pages.newsletter_page(newsletter, typed=typed, error=error), 400
    answer = "embed.sent" if framed else "signup.sent"
    return redirect(frame.link(newsletter, answer), 303)


@bp.get("/<slug>/subscribe")
def form(slug: str) -> ResponseReturnValue:
    """Lead a stray visit to the form."""
    return redirect(frame.link(frame.enter(slug), "pages.show"), 303)


@bp.get("/<slug>/sent/")
def sent(slug: str) -> str:
    """Ask to look in the inbox. Says the same to everybody, however often."""
    newsletter = frame.enter(slug)
    return frame.show(
        "public/sent.html", newsletter, others=frame.other_languages(newsletter)
    )


@by_token.get("/confirm/<token>")
def look(token: str) -> ResponseReturnValue:
    """Show what the link would do."""
    now = utcnow()
    view = signup.look_at_confirmation(db.session(), current_settings(), token, now=now)
    return _confirmation_page(view, token)


@by_token.post("/confirm/<token>")
@frame.acts_by_token(by_token)
def confirm(token: str) -> ResponseReturnValue:
    """Make the reader a reader, then let them choose how often and what."""
    settings, now = current_settings(), utcnow()
    with transaction() as session:
        view = signup.look_at_confirmation(session, settings, token, now=now)
        if view.state == "ready" and view.subscription:
            frame.enter_for(view.subscription)
            origin = frame.origin(_shown(view.subscription))
            signup.confirm(session, settings, token, origin=origin, now=now)
    if view.state == "ready" and view.subscription:
        return redirect(
            frame.preferences_path(view.subscription, said="confirmed"), 303
        )
    return _confirmation_page(view, token)


@by_token.post("/confirm/<token>/again")
@frame.acts_by_token(by_token)
def again(token: str) -> ResponseReturnValue:
    """Send a new confirmation mail, within the limits."""
    settings, now = current_settings(), utcnow()
    with transaction() as session:
        view = signup.look_at_confirmation(session, settings, token, now=now)
        if view.newsletter and view.subscription:
            frame.enter_for(view.subscription)
            origin = frame.origin(Offer.of(view.newsletter, words()).wording)
            signup.send_again(session, settings, token, origin=origin, now=now)
    if view.newsletter is None:
        return _confirmation_page(view, token)
    return redirect(frame.link(view.newsletter, "signup.sent"), 303)


@by_token.get("/never/<token>")
def look_at_never(token: str) -> str:
    """Show what "never again" means."""
    signup.look_at_never(current_settings(), token)
    return frame.show("public/never.html", None, done=False)


@by_token.post("/never/<token>")
@frame.acts_by_token(by_token)
def never(token: str) -> str:
    """Never write to that address again."""
    with transaction() as session:
        signup.never_again(session, current_settings(), token, now=utcnow())
    return frame.show("public/never.html", None, done=True)


def _record(newsletter: Newsletter, typed: str) -> None:
    offer = Offer.of(newsletter, words())
    with transaction() as session:
        signup.request_subscription(
            session,
            current_settings(),
            newsletters.by_slug(session, newsletter.slug),
            typed,
            origin=frame.origin(offer.wording),
            language=words().code,
            rhythm=request.form.get("rhythm"),
            topics=request.form.getlist("topics") or None,
            now=utcnow(),
        )


def _shown(subscription: Subscription) -> str:
    email = readable(subscription.subscriber.email)
    return Request.of(subscription, words()).wording(email)


def _confirmation_page(view: ConfirmationView, token: str) -> ResponseReturnValue:
    request_ = None
    if view.subscription:
        frame.enter_for(view.subscription)
        request_ = Request.of(view.subscription, words())
    state = view.state if view.newsletter else "invalid"
    page = frame.show(
        "public/confirm.html",
        view.newsletter,
        state=state,
        token=token,
        request_=request_,
        email=readable(view.subscription.subscriber.email) if view.subscription else "",
    )
    return page, 404 if state == "invalid" else 200
