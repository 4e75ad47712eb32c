"""The calendar: what goes out when, to how many, with which posts; changing that."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from flask import Blueprint, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from newsletter import moments, rhythms
from newsletter.db import db, utcnow
from newsletter.digests import calendar
from newsletter.digests.calendar import State, Upcoming
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import Mode, Newsletter, Role
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    undoable,
    writing,
)
from newsletter.web.workspace.sending import Changed, refuse_other_number

bp = Blueprint("calendar", __name__)

STATE_WORDS = {
    State.SKIPPED: N_("Skipped"),
    State.HELD: N_("Waits for you"),
    State.SCHEDULED: N_("Scheduled by hand"),
}
STATE_COLOURS = {State.HELD: "warn", State.SCHEDULED: "good"}
MAX_SEEN = 10_000  # characters of post ids: what the editor saw
Before = tuple[str, dict[str, str]] | None  # how to undo it: kind and data


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the calendar, in words."""

    one: Upcoming
    rhythm: str
    due: str  # names it, in forms
    day: date
    why: str
    quiet: bool  # put off, since its day is quiet


@dataclass(frozen=True, slots=True)
class Week:
    """The lines of one week, Monday to Sunday."""

    begins: date
    ends: date
    entries: list[Entry]


@bp.get("/editor/<slug>/calendar/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """Show the next four weeks."""
    found = calendar.upcoming(db.session(), newsletter, now=utcnow())
    entries = [_entry(newsletter, one) for one in found]
    return render(
        "editor/calendar.html",
        newsletter,
        weeks=_by_week(entries),
        by_hand=newsletter.mode is Mode.HAND,
        approves=newsletter.mode is Mode.HELD,
        of_each=calendar.readers_of_each(db.session(), newsletter),
        halted=newsletter.halted_at is not None,
        N_HALTED=calendar.N_HALTED,
        weekday=rendering.words().weekday,
        STATE_WORDS=STATE_WORDS,
        STATE_COLOURS=STATE_COLOURS,
    )


@bp.get("/editor/<slug>/calendar/change")
@needs(Role.EDITOR)
def change(newsletter: Newsletter) -> str | AnyResponse:
    """Show one digest to come, and what can be done with it."""
    one = _asked(newsletter, request.args)
    if one is None:
        return _back(newsletter)
    return _change_page(newsletter, one)


@bp.post("/editor/<slug>/calendar/skip")
@needs(Role.EDITOR)
def skip(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Let one go by. Safe to press twice."""

    def act(
        session: Session, here: Newsletter, rhythm: str, due_at: datetime
    ) -> Before:
        calendar.skip(session, here, rhythm, due_at, now=utcnow())
        return "skipped", _named_again(rhythm, due_at)

    return _act(newsletter, act, N_("Skipped. Its posts come with the next digest."))


@bp.post("/editor/<slug>/calendar/unskip")
@needs(Role.EDITOR)
def unskip(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Let a skipped one take place after all. Safe to press twice."""

    def act(
        session: Session, here: Newsletter, rhythm: str, due_at: datetime
    ) -> Before:
        calendar.unskip(session, here, rhythm, due_at, now=utcnow())
        return "unskipped", _named_again(rhythm, due_at)

    return _act(newsletter, act, N_("It takes place after all."))


@bp.post("/editor/<slug>/calendar/move")
@needs(Role.EDITOR)
def move(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Let one take place at another time."""

    def act(
        session: Session, here: Newsletter, rhythm: str, due_at: datetime
    ) -> Before:
        was = calendar.moved_to(session, here, rhythm, due_at)
        to = moments.read(request.form.get("to", ""), here.timezone, field="to")
        calendar.move(session, here, rhythm, due_at, to=to, now=utcnow())
        at = was.isoformat() if was else ""
        return "moved", {**_named_again(rhythm, due_at), "at": at}

    return _act(newsletter, act, N_("Moved. The ones after it stay where they are."))


@bp.post("/editor/<slug>/calendar/send")
@needs(Role.EDITOR)
def send(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Send the next digest of a rhythm now, if it is what the editor saw."""
    issue_ids: list[int] = []

    def act(
        session: Session, here: Newsletter, rhythm: str, due_at: datetime
    ) -> Before:
        now = utcnow()
        found = _one_of(session, here, rhythm, due_at, now)
        if found is not None:
            _refuse_other(found)
        issue = calendar.send_now(
            session,
            current_settings(),
            here,
            rhythm,
            due_at,
            undo_seconds=here.undo_seconds,
            now=now,
        )
        issue_ids.append(issue.id)
        return None  # its own page has the button, while there is time

    answer = _act(newsletter, act, "")
    if not issue_ids:
        return answer
    return redirect(url_for("issues.show", slug=newsletter.slug, issue_id=issue_ids[0]))


def _act(
    newsletter: Newsletter,
    act: Callable[[Session, Newsletter, str, datetime], Before],
    said: str,
) -> AnyResponse | tuple[str, int]:
    """Do something with one digest to come, or show its page and why it cannot be."""
    try:
        rhythm, due_at = _named(request.form)
        with writing(newsletter) as (session, here):
            before = act(session, here, rhythm, due_at)
            undo = undoable(session, here, *before) if before else ""
    except InkorgError as error:
        words = rendering.words()
        one = _asked(newsletter, request.form)
        if one is None:
            say(error.message, "warn", **error.values)
            return _back(newsletter)
        field = error.field if isinstance(error, InvalidInput) else "form"
        errors = {field or "form": words.error(error)}
        return _change_page(newsletter, one, errors), status_of(error)
    if undo:
        say_done(said, undo)
    return _back(newsletter)


def _named_again(rhythm: str, due_at: datetime) -> dict[str, str]:
    return {"rhythm": rhythm, "due": due_at.isoformat()}


def _change_page(
    newsletter: Newsletter, one: Upcoming, errors: dict[str, str] | None = None
) -> str:
    entry = _entry(newsletter, one)
    return render(
        "editor/calendar_change.html",
        newsletter,
        entry=entry,
        one=one,
        seen=_seen(one),
        errors=errors or {},
        to=request.form.get("to", "") or moments.write(one.at, newsletter.timezone),
        earliest=moments.write(utcnow(), newsletter.timezone),
    )


def _named(form: dict[str, str]) -> tuple[str, datetime]:
    """Read which digest is meant. Raises InvalidInput."""
    try:
        due_at = datetime.fromisoformat(form.get("due", ""))
        return form.get("rhythm", "")[:40], due_at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            N_("There is no such digest in the calendar (any more).")
        ) from None


def _asked(newsletter: Newsletter, form: dict[str, str]) -> Upcoming | None:
    """Return the digest a form or a link names, if it can be changed."""
    try:
        rhythm, due_at = _named(form)
    except InvalidInput:
        return None
    return _one_of(db.session(), newsletter, rhythm, due_at, utcnow())


def _one_of(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    due_at: datetime,
    now: datetime,
) -> Upcoming | None:
    for one in calendar.upcoming(session, newsletter, now=now):
        if one.rhythm == rhythm and one.due_at == due_at and one.can_change:
            return one
    return None


def _refuse_other(one: Upcoming) -> None:
    """Raise Changed if this is not what the editor said yes to."""
    if request.form.get("posts", "")[:MAX_SEEN] != _seen(one):
        raise Changed(
            N_("Its posts have changed since you looked. Read them before you send it.")
        )
    refuse_other_number(one.readers)


def _seen(one: Upcoming) -> str:
    return " ".join(str(post.id) for post in one.posts)[:MAX_SEEN]


def _entry(newsletter: Newsletter, one: Upcoming) -> Entry:
    words, zone = rendering.words(), ZoneInfo(newsletter.timezone)
    described = rhythms.describe(one.rhythm, words) if one.rhythm else ""
    return Entry(
        one=one,
        rhythm=described or words.gettext("To everybody, by hand"),
        due=one.due_at.isoformat(),
        day=one.at.astimezone(zone).date(),
        why=words.gettext(one.why) if one.why and one.state is not State.HELD else "",
        quiet=not one.moved and bool(one.rhythm) and one.at.date() != one.due_at.date(),
    )


def _by_week(entries: list[Entry]) -> list[Week]:
    found: dict[date, Week] = {}
    for entry in entries:
        monday = entry.day - timedelta(days=entry.day.weekday())
        week = found.setdefault(monday, Week(monday, monday + timedelta(days=6), []))
        week.entries.append(entry)
    return list(found.values())


def _back(newsletter: Newsletter) -> AnyResponse:
    return redirect(url_for("calendar.index", slug=newsletter.slug))
