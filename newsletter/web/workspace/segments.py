"""Saved segments: some of the readers under a name, with a count that is kept."""

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter import undoing
from newsletter.db import current_database, db, utcnow
from newsletter.digests import saved_segments, segments
from newsletter.digests.segments import Known
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import Newsletter, Role, SavedSegment
from newsletter.web import rendering
from newsletter.web.security import status_of
from newsletter.web.workspace import subscriber_filter
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    undoable,
    writing,
)

bp = Blueprint("segments", __name__)


@bp.get("/editor/<slug>/segments/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """List the segments, and a form for another one."""
    return _page(newsletter)


@bp.post("/editor/<slug>/segments/")
@needs(Role.EDITOR)
def create(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Keep a segment."""
    return _save(newsletter, None)


@bp.post("/editor/<slug>/segments/<int:segment_id>/")
@needs(Role.EDITOR)
def change(newsletter: Newsletter, segment_id: int) -> AnyResponse | tuple[str, int]:
    """Change a segment's name or conditions."""
    return _save(newsletter, segment_id)


@bp.post("/editor/<slug>/segments/<int:segment_id>/count")
@needs(Role.EDITOR)
def count(newsletter: Newsletter, segment_id: int) -> AnyResponse:
    """Count a segment's readers now."""
    saved = saved_segments.find(db.session(), newsletter, segment_id)
    _count(saved)
    return redirect(_address(newsletter))


@bp.post("/editor/<slug>/segments/<int:segment_id>/remove")
@needs(Role.EDITOR)
def remove(newsletter: Newsletter, segment_id: int) -> AnyResponse:
    """Forget a segment."""
    with writing(newsletter) as (session, here):
        saved = saved_segments.find(session, here, segment_id)
        name, kept = saved.name, undoing.keep(session, "segment", saved.id)
        saved_segments.remove(session, saved)
        undo = undoable(session, here, "segment", kept)
    say_done(N_("“%(name)s” is removed."), undo, name=name)
    return redirect(_address(newsletter))


def _save(
    newsletter: Newsletter, segment_id: int | None
) -> AnyResponse | tuple[str, int]:
    try:
        with writing(newsletter) as (session, here):
            known = (
                saved_segments.find(session, here, segment_id) if segment_id else None
            )
            saved = saved_segments.save(
                session,
                here,
                known,
                request.form.get("name", ""),
                request.form.get("segment", ""),
                now=utcnow(),
            )
    except InvalidInput as error:
        return _page(newsletter, segment_id, error), status_of(error)
    if saved.readers is None:
        _count(saved)
    say(N_("“%(name)s” is saved."), name=saved.name)
    return redirect(_address(newsletter))


def _count(saved: SavedSegment) -> None:
    """Count outside the transaction that writes it down: it looks at every reader."""
    readers = saved_segments.count(db.session(), saved, now=utcnow())
    with current_database().transaction() as session:
        saved_segments.keep_count(session, saved, readers, now=utcnow())


def _page(
    newsletter: Newsletter,
    segment_id: int | None = None,
    error: InkorgError | None = None,
) -> str:
    session, words = db.session(), rendering.words()
    known = segments.known(session, newsletter)
    typed = request.form if error else request.args
    return render(
        "editor/segments.html",
        newsletter,
        saved=[
            (one, *_described(one.text, known))
            for one in saved_segments.of(session, newsletter)
        ],
        wrong=segment_id or ("new" if error else None),
        error=words.error(error) if error else "",
        field=getattr(error, "field", "") or "name" if error else "",
        marked=subscriber_filter.marked(
            typed.get("segment", ""), error if isinstance(error, InvalidInput) else None
        ),
        name=typed.get("name", "")[: saved_segments.MAX_NAME],
        segment=typed.get("segment", "")[: segments.MAX_CHARACTERS],
        MAX_NAME=saved_segments.MAX_NAME,
        MAX_SEGMENT=segments.MAX_CHARACTERS,
    )


def _described(text: str, known: Known) -> tuple[str, str]:
    """Say a segment in words, or why it no longer makes sense."""
    words = rendering.words()
    try:
        return segments.describe(segments.parse(text, known), known, words), ""
    except InvalidInput as error:
        return "", words.error(error)


def _address(newsletter: Newsletter, **query: str) -> str:
    return url_for("segments.index", slug=newsletter.slug, **query)  # type: ignore[arg-type]
