"""Subscribers: how many, who, one added by hand, all as a file."""

from collections.abc import Iterator

import flask
from flask import Blueprint, Response, request
from werkzeug.wrappers import Response as AnyResponse

from newsletter.audit import recording
from newsletter.db import current_database, db, utcnow
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import Newsletter, Role, Status
from newsletter.subscribers import directory, exporting, signup
from newsletter.subscribers.consent import Origin
from newsletter.web import rendering
from newsletter.web.security import client_address, current_settings, status_of
from newsletter.web.workspace.access import needs, render, say, this_editor, writing

bp = Blueprint("subscribers", __name__)

PAGE = 50
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
def index(newsletter: Newsletter) -> str:
    """Count the subscribers, and list those whose address holds a text."""
    session = db.session()
    wanted = request.args.get("status", "")
    status = Status(wanted) if wanted in list(Status) else None
    text = request.args.get("q", "").strip()[:254]
    after = request.args.get("after", "")[:400]
    page = directory.search(
        session, newsletter, text=text, status=status, after=after, limit=PAGE
    )
    return render(
        "editor/subscribers.html",
        newsletter,
        counts=directory.counts(session, newsletter),
        page=page,
        status=status,
        text=text,
        first_page=not after,
        STATUS_WORDS=STATUS_WORDS,
        STATUS_COLOURS=STATUS_COLOURS,
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


@bp.post("/editor/<slug>/subscribers/export")
@needs(Role.OWNER)
def export(newsletter: Newsletter) -> Response:
    """Hand over all subscribers as CSV; a POST, as it takes addresses out."""
    database, newsletter_id = current_database(), newsletter.id
    with writing(newsletter) as (session, _here):
        recording.note(session, "exported", "readers")

    def lines() -> Iterator[str]:
        with database.reading() as session:
            here = session.get_one(Newsletter, newsletter_id)
            yield from exporting.csv_lines(exporting.export_rows(session, here))

    name = f"{newsletter.slug}-{utcnow():%Y-%m-%d}.csv"
    return Response(
        lines(),
        mimetype="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


def _add_page(newsletter: Newsletter, error: InkorgError | None = None) -> str:
    return render(
        "editor/subscriber_add.html",
        newsletter,
        error=rendering.words().error(error) if error else "",
        field=getattr(error, "field", ""),
        email=request.form.get("email", ""),
        source=request.form.get("source", ""),
    )
