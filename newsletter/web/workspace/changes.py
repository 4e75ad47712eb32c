"""The log of changes: who changed what, when, and how it was before."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, request
from sqlalchemy.orm import Session

from newsletter import editors
from newsletter.audit import reading
from newsletter.audit.reading import Filter
from newsletter.audit.recording import HIDDEN
from newsletter.db import current_database, db, utcnow
from newsletter.models import AuditEntry, Newsletter, Role
from newsletter.subscribers.exporting import neutral
from newsletter.web import rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace.access import MAX_ID, needs, render, this_editor
from newsletter.web.workspace.change_words import (
    ACTS,
    FIELDS,
    KINDS,
    MODES,
    PARTS,
    POST_STATES,
    VALUES,
)
from newsletter.web.workspace.people import ROLE_WORDS
from newsletter.web.workspace.sending import STATE_WORDS
from newsletter.web.workspace.subscribers import STATUS_WORDS

bp = Blueprint("changes", __name__)

SHOWN = 50
COMMANDS = "command"  # among the people one can choose
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
VALUE_WORDS: dict[tuple[str, str], Mapping[Any, str]] = {
    ("membership", "name"): ROLE_WORDS,
    ("issue", "state"): STATE_WORDS,
    ("reader", "status"): STATUS_WORDS,
    ("post", "state"): POST_STATES,
    ("newsletter", "mode"): MODES,
}
COLUMNS = ("at", "who", "what", "kind", "id", "name", "before", "after")


@dataclass(frozen=True, slots=True)
class Line:
    """One value that was changed."""

    name: str
    before: str
    after: str


@bp.get("/editor/<slug>/settings/changes/")
@needs(Role.OWNER)
def index(newsletter: Newsletter) -> str:
    """Show the newest changes, those that somebody looks for."""
    session, wanted = db.session(), _wanted(newsletter)
    found = reading.entries(
        session,
        newsletter,
        wanted,
        everything=editors.may_create(this_editor()),
        before=_number("before"),
        limit=SHOWN + 1,
    )
    return render(
        "editor/changes.html",
        newsletter,
        entries=[
            (entry, _lines(entry, newsletter.timezone)) for entry in found[:SHOWN]
        ],
        next_before=found[SHOWN - 1].id if len(found) > SHOWN else None,
        people=reading.people(session, newsletter),
        chosen={name: request.args.get(name, "") for name in _FIELDS},
        is_filtered=wanted != Filter(),
        is_first="before" not in request.args,
        keeps_days=current_settings().audit_days,
        ACTS=ACTS,
        KINDS=KINDS,
        COMMANDS=COMMANDS,
        SHOWN=SHOWN,
    )


@bp.get("/editor/<slug>/settings/changes.csv")
@needs(Role.OWNER)
def download(newsletter: Newsletter) -> Response:
    """Hand over the same as CSV, all of it."""
    database, newsletter_id = current_database(), newsletter.id
    wanted, everything = _wanted(newsletter), editors.may_create(this_editor())

    def lines() -> Iterator[str]:
        with database.reading(slowly=True) as session:
            here = session.get_one(Newsletter, newsletter_id)
            yield from _csv(session, here, wanted, everything)

    name = f"{newsletter.slug}-{utcnow():%Y-%m-%d}-changes.csv"
    return Response(
        lines(),
        mimetype="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


_FIELDS = ("person", "kind", "since", "until")


def _wanted(newsletter: Newsletter) -> Filter:
    """Read what somebody looks for; what makes no sense is not looked for."""
    person, kind = request.args.get("person", ""), request.args.get("kind", "")
    until = _day("until")
    return Filter(
        editor_id=_number("person"),
        commands=person == COMMANDS,
        kind=kind if kind in KINDS else "",
        since=_midnight(_day("since"), newsletter),
        until=_midnight(until and until + timedelta(days=1), newsletter),
    )


def _number(name: str) -> int | None:
    text = request.args.get(name, "")
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID))
    return int(text) if is_number and int(text) <= MAX_ID else None


def _day(name: str) -> date | None:
    try:
        day = date.fromisoformat(request.args.get(name, ""))
    except ValueError:
        return None
    return day if 1970 <= day.year <= 2999 else None


def _midnight(day: date | None, newsletter: Newsletter) -> datetime | None:
    zone = ZoneInfo(newsletter.timezone)
    return datetime.combine(day, time(), zone) if day else None


def _lines(entry: AuditEntry, zone: str) -> list[Line]:
    """Set what was beside what is, in the words of the page."""
    names = dict.fromkeys((*entry.before, *entry.after))
    return [
        Line(
            _name(entry.kind, name),
            _told(entry.kind, name, entry.before.get(name), zone),
            _told(entry.kind, name, entry.after.get(name), zone),
        )
        for name in names
    ]


def _told(kind: str, name: str, value: Any, zone: str) -> str:
    """Write a value as the pages write it: a role, a state, a moment."""
    words = rendering.words()
    known: Mapping[Any, str] = VALUE_WORDS.get((kind, name), {})
    if isinstance(value, str) and value in known:
        shown = known[value]
        return words.gettext(shown)
    if isinstance(value, str) and MOMENT.fullmatch(value):
        return words.moment(datetime.fromisoformat(value), zone)
    return _value(value)


def _name(kind: str, name: str) -> str:
    """Name a column, or that of a part: "post 12.excerpt"."""
    words = rendering.words()
    if (kind, name) == ("membership", "name"):
        shown = KINDS[kind]
        return words.gettext(shown)
    whole, _, last = name.rpartition(".")
    part, _, which = (whole or name).partition(" ")
    shown = words.gettext(FIELDS[last]) if last in FIELDS else last.replace("_", " ")
    if part not in PARTS or not which:
        return shown
    named = f"{words.gettext(PARTS[part])} {which}"
    return f"{named}: {shown}" if whole else named


def _value(value: Any) -> str:
    match value:
        case bool():
            shown = VALUES["yes" if value else "no"]
            return rendering.words().gettext(shown)
        case None | "" | [] | {}:
            return ""
        case list():
            return ", ".join(_value(one) for one in value)
        case dict():
            return ", ".join(f"{name}: {_value(one)}" for name, one in value.items())
        case str() if value == HIDDEN:
            shown = VALUES["hidden"]
            return rendering.words().gettext(shown)
    return str(value)


def _csv(
    session: Session, newsletter: Newsletter, wanted: Filter, everything: bool
) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for entry in reading.all_entries(
        session, newsletter, wanted, everything=everything
    ):
        cells = (
            entry.at.isoformat(timespec="seconds"),
            entry.who,
            entry.what,
            entry.kind,
            entry.subject_id or "",
            entry.label,
            _json(entry.before),
            _json(entry.after),
        )
        writer.writerow([neutral(str(cell)) for cell in cells])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) if values else ""
