"""Readers from a file, in the browser: upload, columns, trial, import, report."""

from collections.abc import Iterator
from itertools import chain
from typing import IO

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as AnyResponse

from newsletter.db import current_database, db, transaction, utcnow
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import ImportRun, ImportState, Newsletter, Role
from newsletter.subscribers import exporting, sheets, uploads
from newsletter.subscribers.columns import FIELDS, WHOLE_FILES, Layout
from newsletter.web import rendering
from newsletter.web.security import MAX_FORM_BYTES, current_settings, status_of
from newsletter.web.workspace.access import needs, render, say, this_editor, writing

bp = Blueprint("importing", __name__)

STATE_WORDS = {
    ImportState.RECEIVING: N_("Being uploaded"),
    ImportState.READY: N_("Waits for you"),
    ImportState.CHECKING: N_("Being tried"),
    ImportState.CHECKED: N_("Tried, waits for you"),
    ImportState.RUNNING: N_("Being imported"),
    ImportState.DONE: N_("Imported"),
    ImportState.CANCELLED: N_("Stopped"),
    ImportState.FAILED: N_("Broke off"),
}
STATE_COLOURS = {
    ImportState.READY: "warn",
    ImportState.CHECKED: "warn",
    ImportState.RUNNING: "good",
    ImportState.FAILED: "bad",
}
# What became of lines, in the order they are told.
OUTCOMES = {
    "added": N_("New readers"),
    "already": N_("Subscribe already"),
    "duplicate": N_("Twice in the file"),
    "stopped": N_("Left or bounced there: never mailed"),
    "left": N_("Have left here: stay gone"),
    "suppressed": N_("Not to be mailed"),
    "refused": N_("Cannot be used"),
}
REPORT_HEADING = ("file", "line", "email", "outcome", "reason")


@bp.url_value_preprocessor
def allow_files(_endpoint: str | None, _values: object) -> None:
    """Let a long file in; before anything reads the form."""
    megabytes = current_settings().import_megabytes
    request.max_content_length = megabytes * 1024 * 1024 + MAX_FORM_BYTES


@bp.get("/editor/<slug>/subscribers/import/")
@needs(Role.EDITOR)
def index(newsletter: Newsletter) -> str:
    """Show the form for a file, and the imports there have been."""
    return _index_page(newsletter)


@bp.post("/editor/<slug>/subscribers/import/")
@needs(Role.EDITOR)
def upload(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Take a file in, a piece at a time."""
    try:
        file = request.files.get("file")
        if file is None or not file.filename:
            raise InvalidInput(N_("Choose a file first."), field="file")
        run_id = _take_in(newsletter, file, request.form.get("encoding", ""))
    except InkorgError as error:
        return _index_page(newsletter, error), status_of(error)
    return redirect(_page_of(newsletter, run_id))


@bp.get("/editor/<slug>/subscribers/import/<int:run_id>")
@needs(Role.EDITOR)
def show(newsletter: Newsletter, run_id: int) -> str:
    """Show an import: its columns, how far it is, or what came of it."""
    return _page(newsletter, uploads.find(db.session(), newsletter, run_id))


@bp.get("/editor/<slug>/subscribers/import/<int:run_id>/progress")
@needs(Role.EDITOR)
def progress(newsletter: Newsletter, run_id: int) -> str:
    """Show how far it is, for a page that is open."""
    run = uploads.find(db.session(), newsletter, run_id)
    return render("editor/_import_progress.html", newsletter, **_values(run))


@bp.post("/editor/<slug>/subscribers/import/<int:run_id>")
@needs(Role.EDITOR)
def act(newsletter: Newsletter, run_id: int) -> AnyResponse | tuple[str, int]:
    """Try it, import it, stop it or delete it, as the button said."""
    action = request.form.get("action", "")
    try:
        with writing(newsletter) as (session, here):
            run = uploads.find(session, here, run_id)
            if action in {"try", "import"}:
                uploads.start(
                    session,
                    run,
                    _layouts(run),
                    consent=request.form.get("consent", ""),
                    asks=request.form.get("how") == "ask",
                    trial=action == "try",
                    now=utcnow(),
                )
            elif action == "stop":
                uploads.cancel(session, run, now=utcnow())
            elif action == "delete":
                uploads.discard(session, run)
            else:
                raise InvalidInput(N_("Press one of the buttons on the page."))
    except InkorgError as error:
        run = uploads.find(db.session(), newsletter, run_id)
        return _page(newsletter, run, error), status_of(error)
    if action == "delete":
        say(N_("The file and its report are deleted. Who was imported stays."))
        return redirect(url_for("importing.index", slug=newsletter.slug))
    return redirect(_page_of(newsletter, run_id))


@bp.get("/editor/<slug>/subscribers/import/<int:run_id>/report.csv")
@needs(Role.EDITOR)
def report(newsletter: Newsletter, run_id: int) -> Response:
    """Hand over the lines that brought nobody, with their reasons."""
    uploads.find(db.session(), newsletter, run_id)
    database, newsletter_id = current_database(), newsletter.id
    words = rendering.words()

    def rows() -> Iterator[tuple[str, ...]]:
        with database.reading(slowly=True) as session:
            here = session.get_one(Newsletter, newsletter_id)
            run = uploads.find(session, here, run_id)
            for file_name, one in uploads.problems(session, run):
                outcome = words.gettext(OUTCOMES[one.outcome])
                reason = words.error(one.error)
                yield file_name, str(one.line), one.email, outcome, reason

    return Response(
        exporting.table_lines(chain([REPORT_HEADING], rows())),
        mimetype="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="import-{run_id}.csv"',
            "Cache-Control": "no-store",
        },
    )


def _take_in(newsletter: Newsletter, file: FileStorage, encoding: str) -> int:
    """Store a file in short transactions; return the import's id."""
    stream: IO[bytes] = file.stream
    with writing(newsletter) as (session, here):
        run = uploads.begin(
            session,
            here,
            file.filename or "",
            editor_id=this_editor().id,
            now=utcnow(),
        )
    try:
        for number, sheet in enumerate(sheets.read(stream, run.file_name, encoding)):
            for batch in sheets.pieces(sheet):
                with transaction() as session:
                    uploads.add_piece(session, run.id, number, sheet, batch)
        with transaction() as session:
            uploads.received(session, run.id)
    except InkorgError:
        with writing(newsletter) as (session, here):
            uploads.discard(session, uploads.find(session, here, run.id))
        raise
    return run.id


def _layouts(run: ImportRun) -> list[Layout]:
    """Return what the form says of each sheet's columns."""
    found = []
    for number, sheet in enumerate(run.sheets):
        fields = tuple(
            request.form.get(f"column-{number}-{place}", "")
            for place in range(len(sheet["heading"]))
        )
        whole = request.form.get(f"whole-{number}", "")
        found.append(Layout(fields, sheet["system"], whole))
    return found


def _index_page(newsletter: Newsletter, error: InkorgError | None = None) -> str:
    return render(
        "editor/imports.html",
        newsletter,
        runs=uploads.all_of(db.session(), newsletter),
        encodings=_translated(sheets.ENCODINGS),
        megabytes=current_settings().import_megabytes,
        days=uploads.KEPT.days,
        error=rendering.words().error(error) if error else "",
        field=getattr(error, "field", ""),
        STATE_WORDS=STATE_WORDS,
        STATE_COLOURS=STATE_COLOURS,
    )


def _page(
    newsletter: Newsletter, run: ImportRun, error: InkorgError | None = None
) -> str:
    words, form = rendering.words(), request.form
    is_open = run.state in uploads.OPEN
    return render(
        "editor/import.html",
        newsletter,
        **_values(run),
        is_open=is_open,
        samples=uploads.preview(db.session(), run) if is_open else [],
        fields=[("", words.gettext(N_("Not used"))), *_translated(FIELDS)],
        wholes=_translated(WHOLE_FILES),
        layouts=_shown_layouts(run) if is_open else [],
        consent=form.get("consent", run.consent),
        asks=form.get("how") == "ask" if form else run.asks,
        days=uploads.KEPT.days,
        error=words.error(error) if error else "",
        field=getattr(error, "field", ""),
    )


def _shown_layouts(run: ImportRun) -> list[Layout]:
    if request.method == "POST":
        return _layouts(run)
    return [uploads.layout_of(sheet) for sheet in run.sheets]


def _values(run: ImportRun) -> dict[str, object]:
    counted = run.state not in {ImportState.READY, ImportState.RECEIVING}
    return {
        "run": run,
        "under_way": run.state in uploads.UNDER_WAY,
        "figures": [(word, run.counts.get(name, 0)) for name, word in OUTCOMES.items()]
        if counted
        else [],
        "odd": sum(n for name, n in run.counts.items() if name not in _QUIET),
        "STATE_WORDS": STATE_WORDS,
        "STATE_COLOURS": STATE_COLOURS,
    }


_QUIET = {"added", "stopped"}


def _translated(words: dict[str, str]) -> list[tuple[str, str]]:
    return [(key, rendering.words().gettext(text)) for key, text in words.items()]


def _page_of(newsletter: Newsletter, run_id: int) -> str:
    return url_for("importing.show", slug=newsletter.slug, run_id=run_id)
