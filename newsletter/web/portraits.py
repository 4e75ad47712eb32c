"""Authors' portraits, from our own origin, kept by browsers and mail clients."""

from flask import Blueprint, Response

from newsletter.db import db
from newsletter.digests import samples
from newsletter.errors import N_, NotFound
from newsletter.posts import portraits

bp = Blueprint("portraits", __name__)

YEAR = 365 * 24 * 3600


@bp.get("/portraits/<key>.jpg")
def show(key: str) -> Response:
    """Serve a portrait; another picture has another address."""
    image = samples.portrait(key) or portraits.find(db.session(), key)
    if image is None:
        raise NotFound(N_("There is no such picture. It may have been replaced."))
    response = Response(image, mimetype="image/jpeg")
    response.cache_control.public = True
    response.cache_control.immutable = True
    response.cache_control.max_age = YEAR
    return response
