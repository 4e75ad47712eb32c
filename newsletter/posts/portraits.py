"""Portraits: any picture becomes a small square JPEG of our own.

They lie in the database, so that every host has them.
"""

import hashlib

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from newsletter import images
from newsletter.errors import N_, FeedError, InvalidInput
from newsletter.models import Author, Newsletter, Portrait
from newsletter.posts.download import Client

MAX_BYTES = 8 * 1024 * 1024
SIDE = 240  # pixels; shown at 40 to 80
QUALITY = 85
# A JPEG is read at a fraction of its size; the others have to be unpacked whole.
LIMITS = images.Limits(MAX_BYTES, 16_000_000, jpeg_pixels=80_000_000, side=40)
FACES = (0.5, 0.35)  # where the middle of the square lies: faces are above the middle


def set_portrait(session: Session, author: Author, picture: bytes) -> None:
    """Give an author a portrait, as `draw` made it."""
    key = hashlib.sha256(picture).hexdigest()[:32]
    session.merge(Portrait(author_id=author.id, key=key, image=picture))
    author.portrait_key = key
    session.flush()


def remove_portrait(session: Session, author: Author) -> None:
    """Take an author's portrait away."""
    session.execute(delete(Portrait).where(Portrait.author_id == author.id))
    author.portrait_key, author.portrait_url = "", ""
    session.flush()


def find(session: Session, key: str) -> bytes | None:
    """Return a portrait by its key."""
    if not (len(key) == 32 and key.isascii() and key.isalnum()):
        return None
    return session.scalar(select(Portrait.image).where(Portrait.key == key).limit(1))


def any_of(session: Session, newsletter: Newsletter) -> bool:
    """Tell whether any author of a newsletter has a portrait."""
    found = select(Author.id).where(
        Author.newsletter_id == newsletter.id, Author.portrait_key != ""
    )
    return session.scalar(found.limit(1)) is not None


def fetch(client: Client, url: str) -> bytes:
    """Download a picture and draw it. Raises InvalidInput."""
    try:
        body = client.get(url).body
    except FeedError:
        raise InvalidInput(
            N_("No picture could be fetched from that address. Upload it instead."),
            field="portrait_url",
        ) from None
    return draw(body)


def draw(data: bytes) -> bytes:
    """Return a picture as a small square JPEG. Raises InvalidInput."""
    with images.opened(data, LIMITS, field="portrait") as upload:
        square = upload.still(near=2 * SIDE).square(SIDE, FACES)
        return square.jpeg(QUALITY).content
