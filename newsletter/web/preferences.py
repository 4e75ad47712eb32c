"""A reader's own page: how often, about what, in which language; a pause, an address.

Each form posts to its own address and comes back here with `?said=`, so that reloading
is harmless. What cannot be used comes back at once with the fault beside its field.
"""

from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from flask import Blueprint, redirect, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from newsletter import i18n, rhythms
from newsletter.db import db, transaction, utcnow
from newsletter.errors import N_, InvalidInput
from newsletter.models import Status, Subscription
from newsletter.subscribers import choices, leaving, moving, preferences, rights
from newsletter.subscribers.addresses import readable
from newsletter.web import frame
from newsletter.web.rendering import words
from newsletter.web.security import current_settings

bp = Blueprint("preferences", __name__)
frame.keep_private(bp)

# What the page can say after something was done; "confirmed" greets a new reader.
SAID = {
    "saved": N_("Saved. It applies from the next email."),
    "paused": N_("Done. We send nothing until then, and you will not miss anything."),
    "resumed": N_("Welcome back. The next email comes as usual."),
    "address": N_(
        "We have sent an email to the new address. Confirm there, and the change is"
        " made. Until then everything stays as it is."
    ),
    "data": N_("We have emailed you a link to your data. It works for one day."),
    "erase": N_("We have emailed you a link that erases you. It works for one day."),
    "left": N_("You have unsubscribed. We will not send anything more."),
    "undone": N_("Good to have you back. Everything is as it was."),
}


@bp.get("/preferences/<token>")
def show(token: str) -> str:
    """Show a reader's choices."""
    return _page(token, said=request.args.get("said", ""))


@bp.post("/preferences/<token>")
@frame.acts_by_token(bp)
def change(token: str) -> ResponseReturnValue:
    """Change rhythm, topics and language."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        preferences.change(
            session,
            subscription,
            rhythm=request.form.get("rhythm"),
            language=request.form.get("language"),
            all_topics=request.form.get("which") == "all",
            topics=_topics(),
            origin=frame.origin(),
            now=now,
        )

    return _do(token, "saved", act)


@bp.post("/preferences/<token>/pause")
@frame.acts_by_token(bp)
def pause(token: str) -> ResponseReturnValue:
    """Send nothing until a day."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        zone = ZoneInfo(subscription.newsletter.timezone)
        until = datetime.combine(_day(), time(), zone)
        preferences.pause(session, subscription, until, origin=frame.origin(), now=now)

    return _do(token, "paused", act)


@bp.post("/preferences/<token>/resume")
@frame.acts_by_token(bp)
def resume(token: str) -> ResponseReturnValue:
    """End a pause."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        preferences.resume(session, subscription, origin=frame.origin(), now=now)

    return _do(token, "resumed", act)


@bp.post("/preferences/<token>/address")
@frame.acts_by_token(bp)
def address(token: str) -> ResponseReturnValue:
    """Ask at a new address."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        typed = request.form.get("suggested") or request.form.get("email", "")
        moving.request_address_change(
            session,
            current_settings(),
            subscription,
            typed,
            origin=frame.origin(),
            now=now,
        )

    return _do(token, "address", act)


@bp.post("/preferences/<token>/data")
@frame.acts_by_token(bp)
def data(token: str) -> ResponseReturnValue:
    """Mail a link to the reader's data."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        rights.request_data_link(session, current_settings(), subscription, now=now)

    return _do(token, "data", act)


@bp.post("/preferences/<token>/erase")
@frame.acts_by_token(bp)
def erase(token: str) -> ResponseReturnValue:
    """Mail a link that erases the reader."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        rights.request_erase_link(session, current_settings(), subscription, now=now)

    return _do(token, "erase", act)


@bp.post("/preferences/<token>/leave")
@frame.acts_by_token(bp)
def leave(token: str) -> ResponseReturnValue:
    """End the subscription."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        how = "preferences"
        leaving.end(session, subscription, origin=frame.origin(), how=how, now=now)

    return _do(token, "left", act)


@bp.post("/preferences/<token>/undo")
@frame.acts_by_token(bp)
def undo(token: str) -> ResponseReturnValue:
    """Take leaving back."""

    def act(session: Session, subscription: Subscription, now: datetime) -> None:
        leaving.undo(
            session,
            current_settings(),
            subscription.leave_token,
            origin=frame.origin(),
            now=now,
        )

    return _do(token, "undone", act)


def _do(token: str, said: str, act: frame.Act) -> ResponseReturnValue:
    """Do something in one transaction, then lead back to the page that says so."""
    try:
        with transaction() as session:
            subscription = preferences.find_by_preferences_token(session, token)
            frame.enter_for(subscription)
            act(session, subscription, utcnow())
    except InvalidInput as error:
        return _page(token, error=error), 400
    return redirect(frame.preferences_path(subscription, said=said), 303)


def _page(token: str, *, said: str = "", error: InvalidInput | None = None) -> str:
    subscription = preferences.find_by_preferences_token(db.session(), token)
    newsletter = frame.enter_for(subscription)
    now = utcnow()
    return frame.show(
        "public/preferences.html",
        newsletter,
        token=token,
        subscription=subscription,
        email=readable(subscription.subscriber.email),
        reads=subscription.status in (Status.ACTIVE, Status.PAUSED),
        can_undo=leaving.can_undo(subscription, now=now),
        welcome=said == "confirmed" and subscription.status is Status.ACTIVE,
        said=words().gettext(SAID[said]) if said in SAID else "",
        wrong={error.field: words().error(error)} if error else {},
        suggestion=error.values.get("suggestion", "") if error else "",
        typed=request.form.get("email", "")[:300],
        rhythms=rhythms.describe_each(
            _with(choices.offered_rhythms(newsletter), subscription.rhythm), words()
        ),
        languages=[
            (code, i18n.language(code).name)
            for code in _with(
                choices.offered_languages(newsletter), subscription.language
            )
        ],
        topics=choices.offered_topics(db.session(), newsletter),
        chosen=choices.chosen_topics(db.session(), subscription),
        today=now.astimezone(ZoneInfo(newsletter.timezone)).date(),
    )


def _with(offered: list[str], own: str) -> list[str]:
    """Return what is offered, and what the reader has had since before."""
    return offered if own in offered else [own, *offered]


def _topics() -> list[str] | None:
    if request.form.get("which") != "some":
        return None
    chosen = request.form.getlist("topics")
    if not chosen:
        raise InvalidInput(
            N_("Choose at least one topic, or all of them."), field="topics"
        )
    return chosen


def _day() -> date:
    try:
        return date.fromisoformat(request.form.get("until", ""))
    except ValueError:
        raise InvalidInput(
            N_("Write the date like this: 2026-08-17."), field="until"
        ) from None
