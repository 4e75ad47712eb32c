"""Pictures of letters, as mails and pages ask for them."""

from flask import Blueprint, Response, request

from newsletter import newsletters, pictures
from newsletter.db import db
from newsletter.errors import N_, NotFound

bp = Blueprint("pictures", __name__)

A_YEAR = "public, max-age=31536000, immutable"  # the address is made of the content


@bp.get("/<slug>/pictures/<picture>")
def show(slug: str, picture: str) -> Response:
    """Serve a picture; webmail's proxies fetch it too."""
    newsletter = newsletters.by_slug(db.session(), slug)
    found = pictures.find(db.session(), newsletter, picture)
    if found is None:
        raise NotFound(N_("There is no such picture."))
    response = Response(found.content, mimetype=pictures.TYPES[found.format])
    response.headers["Cache-Control"] = A_YEAR
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.set_etag(found.digest)
    response.make_conditional(request.environ)
    return response
