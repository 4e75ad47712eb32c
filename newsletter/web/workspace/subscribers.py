"""Subscribers: how many, who, one added by hand, all as a file."""

import dataclasses
import functools
from collections.abc import Iterator
from datetime import date
from zoneinfo import ZoneInfo

import flask
from flask import Blueprint, Response, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from newsletter.audit import recording
from newsletter.db import current_database, db, utcnow
from newsletter.digests import saved_segments, segments
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import Newsletter, Role, Status
from newsletter.subscribers import directory, exporting, reckonings, signup
from newsletter.subscribers.consent import Origin
from newsletter.web import rendering
from newsletter.web.security import client_address, current_settings, status_of
from newsletter.web.workspace import subscriber_filter
from newsletter.web.workspace.access import needs, render, say, this_editor, writing
from newsletter.web.workspace.subscriber_filter import Wanted

bp = Blueprint("subscribers", __name__)

PAGE = 50
SEGMENTS_SHOWN = 8  # before the rest is folded away
FIRST_YEAR = 1990  # nobody asked for a newsletter by mail before
STATUS_WORDS = {
    Status.ACTIVE: N_("Active"),
    Status.PENDING: N_("Not confirmed"),
    Status.PAUSED: N_("On a pause"),
    Status.LEFT: N_("Has left"),
    Status.SUPPRESSED: N_("Mail stopped"),
}
STATUS_COLOURS = {
    Status.ACTIVE: "good",
    Status.PENDING: "warn",
    Status.SUPPRESSED: "bad",
}


@bp.get("/editor/<slug>/subscribers/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str | AnyResponse:
    """Count the subscribers, and list those one looks for."""
    if "pick" in request.args:
        return flask.redirect(_address(newsletter, subscriber_filter.picked()))
    session, now = db.session(), utcnow()
    wanted = subscriber_filter.asked()
    known = segments.known(session, newsletter)
    counts = reckonings.counts(session, newsletter)
    page, problem = directory.Page([], None), None
    try:
        segment = segments.parse(wanted.segment, known)
        page = directory.search(
            session,
            newsletter,
            text=wanted.text,
            status=wanted.status,
            conditions=segments.conditions(segment, known, now=now),
            after=wanted.after,
            limit=PAGE,
        )
    except InvalidInput as error:
        problem = error
    words = rendering.words()
    return render(
        "editor/subscribers.html",
        newsletter,
        counts=counts,
        page=page,
        wanted=wanted,
        described="" if problem else segments.describe(segment, known, words),
        problem=words.error(problem) if problem else "",
        marked=subscriber_filter.marked(wanted.segment, problem),
        address=functools.partial(_address, newsletter),
        download=flask.url_for(
            "subscribers.export_found",
            slug=newsletter.slug,
            **dataclasses.replace(wanted, after=None).query(),
        ),
        saved=saved_segments.of(session, newsletter),
        SEGMENTS_SHOWN=SEGMENTS_SHOWN,
        back=request.query_string.decode(errors="replace"),
        today=now.date().isoformat(),
        STATUS_WORDS=STATUS_WORDS,
        STATUS_COLOURS=STATUS_COLOURS,
        **subscriber_filter.fields(newsletter, wanted, known),
    )


@bp.get("/editor/<slug>/subscribers/add")
@needs(Role.EDITOR)
def add(newsletter: Newsletter) -> str:
    """Show the form for someone who asked in another way."""
    return _add_page(newsletter)


@bp.post("/editor/<slug>/subscribers/add")
@needs(Role.EDITOR)
def add_one(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Note how they asked, and send the confirmation mail like to anyone else."""
    email = request.form.get("email", "")
    source = request.form.get("source", "").strip()[:500]
    try:
        if not source:
            raise InvalidInput(
                N_("Say how they asked: you may have to show it one day."),
                field="source",
            )
        words = rendering.words().gettext(
            "Added by %(editor)s, who wrote: %(source)s",
            editor=this_editor().email,
            source=source,
        )
        words = (
            f"{words} ({asked_on})" if (asked_on := _asked_on(newsletter)) else words
        )
        with writing(newsletter) as (session, here):
            signup.request_subscription(
                session,
                current_settings(),
                here,
                email,
                origin=Origin(request.path, client_address(request), words),
                now=utcnow(),
            )
    except InkorgError as error:
        return _add_page(newsletter, error), status_of(error)
    say(
        N_("A mail is on its way to %(email)s. They are a reader once they confirm."),
        email=email.strip(),
    )
    return flask.redirect(flask.url_for("subscribers.index", slug=newsletter.slug))


def _readers(session: Session, newsletter: Newsletter) -> Iterator[str]:
    return exporting.csv_lines(exporting.export_rows(session, newsletter))


def _suppressions(session: Session, newsletter: Newsletter) -> Iterator[str]:
    return exporting.table_lines(exporting.suppression_rows(session, newsletter))


def _consents(session: Session, newsletter: Newsletter) -> Iterator[str]:
    return exporting.table_lines(exporting.consent_rows(session, newsletter))


def _found(session: Session, newsletter: Newsletter, wanted: Wanted) -> Iterator[str]:
    """Write those whom the list shows, all pages of it. Raises InvalidInput."""
    if not (wanted.text or wanted.segment):
        rows = exporting.export_rows(session, newsletter, wanted.status)
        return exporting.csv_lines(rows)
    known, now = segments.known(session, newsletter), utcnow()
    segment = segments.parse(wanted.segment, known)
    return exporting.csv_lines(
        exporting.found_rows(
            session,
            newsletter,
            text=wanted.text,
            status=wanted.status,
            conditions=segments.conditions(segment, known, now=now),
        )
    )


# What can be handed over beside the readers themselves.
EXPORTS = {"suppressions": _suppressions, "consents": _consents}


@bp.post("/editor/<slug>/subscribers/export")
@needs(Role.OWNER)
def export(newsletter: Newsletter) -> Response:
    """Hand over all subscribers as CSV; a POST, as it takes addresses out."""
    database, newsletter_id = current_database(), newsletter.id
    what = request.form.get("what", "")
    write = EXPORTS.get(what, _readers)
    with writing(newsletter) as (session, _here):
        label = what if what in EXPORTS else ""
        recording.note(session, "exported", "readers", label=label)

    def lines() -> Iterator[str]:
        with database.reading(slowly=True) as session:
            yield from write(session, session.get_one(Newsletter, newsletter_id))

    kind = f"-{what}" if what in EXPORTS else ""
    name = f"{newsletter.slug}{kind}-{utcnow():%Y-%m-%d}.csv"
    return _as_csv(lines(), name)


@bp.post("/editor/<slug>/subscribers/export/found")
@needs(Role.OWNER)
def export_found(newsletter: Newsletter) -> AnyResponse:
    """Hand over those whom the list shows; the address asks as the list's does."""
    database, newsletter_id = current_database(), newsletter.id
    wanted = dataclasses.replace(subscriber_filter.asked(), after=None)
    with writing(newsletter) as (session, here):
        segments.parse(wanted.segment, segments.known(session, here))
        # Not what was looked for in the addresses: that may be somebody's.
        said = {
            "segment": wanted.segment,
            "status": wanted.status.value if wanted.status else "",
            "searched": bool(wanted.text),
        }
        after = {name: value for name, value in said.items() if value}
        recording.note(session, "exported", "readers", label="found", after=after)

    def lines() -> Iterator[str]:
        with database.reading(slowly=True) as session:
            here = session.get_one(Newsletter, newsletter_id)
            yield from _found(session, here, wanted)

    name = f"{newsletter.slug}-found-{utcnow():%Y-%m-%d}.csv"
    return _as_csv(lines(), name)


def _as_csv(lines: Iterator[str], name: str) -> Response:
    return Response(
        lines,
        mimetype="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


def _address(newsletter: Newsletter, wanted: Wanted, **other: object) -> str:
    """Return the list's address for what is asked for, less what is not."""
    query = dataclasses.replace(wanted, **other).query()  # type: ignore[arg-type]
    return flask.url_for("subscribers.index", slug=newsletter.slug, **query)


def _asked_on(newsletter: Newsletter) -> str:
    """Return the day on which somebody asked, as it was typed."""
    typed = request.form.get("asked_on", "").strip()
    if not typed:
        return ""
    today = utcnow().astimezone(ZoneInfo(newsletter.timezone)).date()
    try:
        day = date.fromisoformat(typed) if len(typed) == len("2026-01-31") else None
    except ValueError:
        day = None
    if day is None or day > today or day.year < FIRST_YEAR:
        raise InvalidInput(
            N_("Write the day they asked on as 2026-01-31; it cannot lie ahead."),
            field="asked_on",
        )
    return day.isoformat()


def _add_page(newsletter: Newsletter, error: InkorgError | None = None) -> str:
    return render(
        "editor/subscriber_add.html",
        newsletter,
        error=rendering.words().error(error) if error else "",
        field=getattr(error, "field", ""),
        email=request.form.get("email", ""),
        source=request.form.get("source", ""),
        asked_on=request.form.get("asked_on", ""),
        today=utcnow().date().isoformat(),
    )
