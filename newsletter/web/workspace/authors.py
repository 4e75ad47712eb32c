"""Authors: a name, a byline or a portrait corrected once for all posts."""

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter.db import db
from newsletter.errors import N_, InkorgError
from newsletter.models import Newsletter, Role
from newsletter.posts import authors, listing
from newsletter.web import rendering
from newsletter.web.security import status_of
from newsletter.web.workspace.access import needs, render, say, writing

bp = Blueprint("authors", __name__)

FIELDS = ("display_name", "byline", "portrait_url")


@bp.get("/editor/<slug>/authors/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """List the authors, each with a form."""
    return _page(newsletter)


@bp.post("/editor/<slug>/authors/<int:author_id>/")
@needs(Role.EDITOR)
def correct(newsletter: Newsletter, author_id: int) -> AnyResponse | tuple[str, int]:
    """Correct an author for all of their posts."""
    try:
        with writing(newsletter) as (session, here):
            author = authors.find(session, here, author_id)
            authors.correct_author(
                session,
                author,
                **{name: request.form.get(name, "") for name in FIELDS},
            )
    except InkorgError as error:
        return _page(newsletter, author_id, error), status_of(error)
    say(N_("Saved for all posts by %(name)s."), name=author.shown_name)
    place = f"#author-{author_id}"
    return redirect(url_for("authors.index", slug=newsletter.slug) + place)


def _page(
    newsletter: Newsletter, author_id: int = 0, error: InkorgError | None = None
) -> str:
    session = db.session()
    return render(
        "editor/authors.html",
        newsletter,
        authors=authors.authors(session, newsletter),
        posts_by=listing.counts_by_author(session, newsletter),
        wrong=author_id,
        typed={name: request.form.get(name, "") for name in FIELDS},
        errors={"form": rendering.words().error(error)} if error else {},
    )
