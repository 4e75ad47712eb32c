"""When digests go out: which rhythms, by themselves or by hand, and when not."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import flask
from flask import Blueprint, request
from werkzeug.wrappers import Response

from newsletter import newsletters, quiet, rhythms
from newsletter.db import utcnow
from newsletter.digests import occurrences, planning
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.i18n import Language
from newsletter.models import Mode, Newsletter, Role
from newsletter.quiet import Quiet
from newsletter.rhythms import DAY_NAMES, DAYS, ORDINALS
from newsletter.web import rendering
from newsletter.web.security import status_of
from newsletter.web.workspace.access import needs, render, say, writing

bp = Blueprint("rhythm_settings", __name__)

# What can be ticked; a newsletter's own other ones stay.
USUAL = (
    "each",
    "daily@08:00",
    *(f"weekly:{day}@08:00" for day in ("mon", "wed", "fri")),
    *("monthly:first-mon@08:00", "monthly:last-fri@08:00", "monthly:1@08:00"),
)
MODES = (
    (
        Mode.HAND,
        N_("By hand"),
        N_("You make each issue; it goes to everybody, whatever rhythm they chose."),
    ),
    (
        Mode.HELD,
        N_("By themselves, when you say yes"),
        N_("When a rhythm falls due, the issue is made and you get a mail about it."),
    ),
    (
        Mode.AUTOMATIC,
        N_("By themselves"),
        N_("When a rhythm falls due and there is something new, it goes out."),
    ),
)
NUMBERS = ("at_least", "at_most", "wait_days")
SHOWN_TIMES = 3
LONGEST_NUMBER = 4  # characters
LISTED = 8_000  # characters of the list of days


@bp.get("/editor/<slug>/settings/rhythms")
@needs(Role.OWNER)
def show(newsletter: Newsletter) -> str:
    """Show when digests go out."""
    return _page(newsletter)


@bp.post("/editor/<slug>/settings/rhythms")
@needs(Role.OWNER)
def save(newsletter: Newsletter) -> Response | tuple[str, int]:
    """Save it, all or nothing."""
    try:
        with writing(newsletter) as (_session, here):
            newsletters.change(here, **_typed())
    except InkorgError as error:
        return _page(newsletter, error), status_of(error)
    say(N_("The rhythms are saved."))
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/rhythms/check")
@needs(Role.OWNER)
def check(newsletter: Newsletter) -> str:
    """Show the next times as typed, and what cannot be; nothing is saved."""
    values, wrong = _read()
    wrong = newsletters.faults(**values) | wrong
    if "part" not in request.args:
        first = next(iter(wrong.items()), None)
        return _page(newsletter, first[1] if first else None, keep_typed=True)
    words = rendering.words()
    return render(
        "editor/_rhythm_check.html",
        newsletter,
        times=_times(newsletter, values, wrong),
        faults={_field(name): words.error(error) for name, error in wrong.items()},
    )


@bp.post("/editor/<slug>/settings/go-ahead")
@needs(Role.OWNER)
def go_ahead(newsletter: Newsletter) -> Response:
    """Let digests go by themselves again after a backup was restored."""
    with writing(newsletter) as (session, here):
        planning.go_ahead(session, here)
    say(N_("Digests go by themselves again, from the next one on."))
    return _back(newsletter)


def _typed() -> dict[str, object]:
    values, wrong = _read()
    for error in wrong.values():
        raise error
    return values


def _read() -> tuple[dict[str, Any], dict[str, InvalidInput]]:
    """Return what stands in the form, and by its field what cannot be read."""
    form = request.form
    values: dict[str, Any] = {
        "mode": form.get("mode", ""),
        "default_rhythm": form.get("default_rhythm", ""),
        "by_language": "by_language" in form,
        "quiet_days": form.getlist("quiet_days"),
        "holiday_country": form.get("holiday_country", ""),
        "holidays": form.get("holidays", "")[:LISTED].split(),
    }
    chosen = values["rhythms"] = form.getlist("rhythms")
    wrong: dict[str, InvalidInput] = {}
    try:
        chosen.append(_added())
    except InvalidInput as error:
        wrong["add_often"] = error
    chosen.append(values["default_rhythm"])
    values["rhythms"] = [one for one in dict.fromkeys(chosen) if one]
    for name in NUMBERS:
        try:
            values[name] = _number(name)
        except InvalidInput as error:
            wrong[name] = error
    return values, wrong


def _added() -> str:
    """Return the rhythm that was put together; "" for none. Raises InvalidInput."""
    form = request.form
    often, at = form.get("add_often", ""), form.get("add_time", "")
    made = {
        "": "",
        "daily": f"daily@{at}",
        "weekly": f"weekly:{form.get('add_day', '')}@{at}",
        "date": f"monthly:{form.get('add_date', '').lstrip('0')}@{at}",
        **{
            ordinal: f"monthly:{ordinal}-{form.get('add_day', '')}@{at}"
            for ordinal in ORDINALS
        },
    }.get(often, often)
    if made:
        try:
            rhythms.parse(made)
        except InvalidInput:
            raise InvalidInput(
                N_("Choose a day (1–28 in a month) and a time, as 08:00."),
                field="add_often",
            ) from None
    return made


def _number(name: str) -> int:
    text = request.form.get(name, "").strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > LONGEST_NUMBER:
        raise InvalidInput(N_("Write a number."), field=name)
    return int(text)


def _page(
    newsletter: Newsletter,
    error: InkorgError | None = None,
    *,
    keep_typed: bool = False,
) -> str:
    words, form = rendering.words(), request.form
    again = keep_typed or error is not None
    values, wrong = _read() if again else ({}, {})
    offered = [*USUAL, *newsletter.rhythms, newsletter.default_rhythm]
    listed = [
        (text, _with_time(text, words)) for text in sorted(set(offered), key=_order)
    ]
    days = [(name, words.gettext(DAY_NAMES[name])) for name in DAYS]
    return render(
        "editor/rhythms.html",
        newsletter,
        modes=MODES,
        mode=form.get("mode", "") if again else newsletter.mode.value,
        all_rhythms=listed,
        times=_times(newsletter, values, wrong),
        chosen=form.getlist("rhythms") if again else newsletter.rhythms,
        default=form.get("default_rhythm", "") if again else newsletter.default_rhythm,
        numbers={
            name: form.get(name, "") if again else getattr(newsletter, name)
            for name in NUMBERS
        },
        by_language="by_language" in form if again else newsletter.by_language,
        days=days,
        ordinals=[(name, words.gettext(text)) for name, text in ORDINALS.items()],
        quiet_days=form.getlist("quiet_days") if again else newsletter.quiet_days,
        countries=_countries(words),
        country=form.get("holiday_country", "")
        if again
        else newsletter.holiday_country,
        holidays=form.get("holidays", "") if again else "\n".join(newsletter.holidays),
        form=form,
        limits=newsletters,
        now=utcnow(),
        field=_field(getattr(error, "field", "") or ""),
        error=words.error(error) if error else "",
    )


def _with_time(text: str, words: Language) -> str:
    rhythm = rhythms.parse(text)
    described = rhythms.describe(text, words)
    if rhythm.kind == "each":
        return described
    return words.gettext(
        "%(rhythm)s, at %(time)s",
        rhythm=described,
        time=f"{rhythm.hour:02}:{rhythm.minute:02}",
    )


def _times(
    newsletter: Newsletter,
    values: Mapping[str, Any],
    wrong: Mapping[str, InvalidInput],
) -> list[tuple[str, list[str]]]:
    """Return each rhythm that readers can choose with its next times, in words.

    Of what is typed; where that cannot be, of what is kept.
    """

    def chosen(name: str) -> Any:
        if name not in values or name in wrong:
            return getattr(newsletter, name)
        is_wrong = newsletters.faults(**{name: values[name]})
        return getattr(newsletter, name) if is_wrong else values[name]

    words = rendering.words()
    quiet_days = Quiet.of(
        newsletter.timezone,
        *(chosen(name) for name in ("quiet_days", "holidays", "holiday_country")),
    )
    found = []
    for text in sorted(set(chosen("rhythms")), key=_order):
        moments = occurrences.coming(
            text, quiet_days, after=utcnow(), count=SHOWN_TIMES
        )
        said = [_time(words, newsletter.timezone, due, at) for due, at in moments]
        found.append((_with_time(text, words), said))
    return found


def _time(words: Language, timezone: str, due: datetime, at: datetime) -> str:
    """Say on which day a digest comes, and in place of which quiet one."""
    zone = ZoneInfo(timezone)
    day, named = at.astimezone(zone).date(), due.astimezone(zone).date()
    if day == named:
        return words.weekday(day)
    return words.gettext(
        "%(day)s, as %(quiet)s is quiet",
        day=words.weekday(day),
        quiet=words.weekday(named),
    )


def _field(name: str) -> str:
    """Return where on the page a fault of a field is said."""
    return {"rhythm": "rhythms", "default_rhythm": "rhythms"}.get(name, name)


def _order(text: str) -> tuple[object, ...]:
    rhythm = rhythms.parse(text)
    day = DAYS.index(rhythm.day) if rhythm.day else -1
    return rhythm.days_between, day, rhythm.date, rhythm.ordinal, text[-5:]


def _countries(words: Language) -> list[tuple[str, str]]:
    found = [(code, words.country(code)) for code in quiet.countries()]
    return sorted(found, key=lambda one: one[1])


def _back(newsletter: Newsletter) -> Response:
    return flask.redirect(flask.url_for("rhythm_settings.show", slug=newsletter.slug))
