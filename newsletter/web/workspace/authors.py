"""Authors: a name, a byline or a portrait corrected once for all posts; spellings."""

from flask import Blueprint, Request, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter.db import db
from newsletter.errors import N_, InkorgError
from newsletter.models import Author, Newsletter, Role
from newsletter.posts import authors, fetching, listing, portraits
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace.access import needs, render, say, writing

bp = Blueprint("authors", __name__)

FIELDS = ("display_name", "byline", "portrait_url")
FORM_BYTES = 64 * 1024  # what a form needs beside its picture


@bp.url_value_preprocessor
def allow_pictures(_endpoint: str | None, _values: object) -> None:
    """Let a photo in as a telephone takes it; before anything reads the form."""
    allowed: Request = request
    allowed.max_content_length = portraits.MAX_BYTES + FORM_BYTES


@bp.get("/editor/<slug>/authors/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """List the authors, each with a form."""
    return _page(newsletter)


@bp.post("/editor/<slug>/authors/<int:author_id>/")
@needs(Role.EDITOR)
def correct(newsletter: Newsletter, author_id: int) -> AnyResponse | tuple[str, int]:
    """Correct an author for all of their posts."""
    form = request.form
    try:
        url = authors.portrait_address(form.get("portrait_url", ""))
        picture = _picture(authors.find(db.session(), newsletter, author_id), url)
        with writing(newsletter) as (session, here):
            author = authors.find(session, here, author_id)
            authors.correct_author(
                session,
                author,
                display_name=form.get("display_name", ""),
                byline=form.get("byline", ""),
            )
            if picture:
                author.portrait_url = "" if request.files.get("portrait") else url
                portraits.set_portrait(session, author, picture)
            elif "remove" in form:
                portraits.remove_portrait(session, author)
    except InkorgError as error:
        return _page(newsletter, author_id, error), status_of(error)
    say(N_("Saved for all posts by %(name)s."), name=author.shown_name)
    return _back(newsletter, f"author-{author_id}")


@bp.post("/editor/<slug>/authors/merge")
@needs(Role.EDITOR)
def merge(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Make two spellings of one author one, for what comes later too."""
    try:
        with writing(newsletter) as (session, here):
            one, into = (
                authors.find(session, here, request.form.get(name, 0, type=int))
                for name in ("author", "into")
            )
            name, spelling, place = into.shown_name, one.name, f"author-{into.id}"
            authors.merge(session, one, into)
    except InkorgError as error:
        return _page(newsletter, 0, error), status_of(error)
    say(
        N_("“%(spelling)s” is %(name)s from now on, in new posts too."),
        spelling=spelling,
        name=name,
    )
    return _back(newsletter, place)


@bp.post("/editor/<slug>/authors/spellings/<int:spelling_id>/split")
@needs(Role.EDITOR)
def split(newsletter: Newsletter, spelling_id: int) -> AnyResponse:
    """Let a spelling be someone else again, from the next post on."""
    with writing(newsletter) as (session, here):
        name = authors.split(session, here, spelling_id)
    say(
        N_("New posts by “%(name)s” have an author of their own. Earlier ones stay."),
        name=name,
    )
    return _back(newsletter)


def _picture(author: Author, url: str) -> bytes | None:
    """Return the new portrait, drawn. Nothing is locked while the network answers."""
    if file := request.files.get("portrait"):
        return portraits.draw(file.read(portraits.MAX_BYTES + 1))
    if url and (url != author.portrait_url or not author.portrait_key):
        return portraits.fetch(fetching.make_client(current_settings()), url)
    return None


def _page(
    newsletter: Newsletter, author_id: int = 0, error: InkorgError | None = None
) -> str:
    session = db.session()
    return render(
        "editor/authors.html",
        newsletter,
        authors=authors.authors(session, newsletter),
        spellings=authors.spellings(session, newsletter),
        posts_by=listing.counts_by_author(session, newsletter),
        wrong=author_id,
        typed={name: request.form.get(name, "") for name in FIELDS},
        errors={"form": rendering.words().error(error)} if error else {},
    )


def _back(newsletter: Newsletter, anchor: str = "") -> AnyResponse:
    place = url_for("authors.index", slug=newsletter.slug, _anchor=anchor or None)
    return redirect(place)
