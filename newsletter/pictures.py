"""Pictures for mail: uploads are checked, made small, kept under their content's name.

They lie in the database, so that every host has them. An address holds the SHA-256 of
the content and its size: it never changes, and a mail can keep room for it.
"""

import hashlib
import re
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from newsletter import images
from newsletter.errors import N_, InvalidInput
from newsletter.models import Newsletter, Picture

MAX_UPLOAD_BYTES = 12 * 1024 * 1024
QUALITY = 82
MAX_PICTURES = 5000  # of a newsletter
WIDTH = 1040  # twice the mail's column, for screens with fine pixels
HEIGHT = 3000
LIMITS = images.Limits(MAX_UPLOAD_BYTES, 40_000_000, jpeg_pixels=200_000_000)
MAX_FRAMES = 200
MAX_MOVING_PIXELS = 60_000_000  # of all frames together
MAX_MOVING_BYTES = 2 * 1024 * 1024
PNG_BYTES = 400_000  # a larger one without holes is a photograph
TYPES = {"jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif"}
_NAME = re.compile(r"([0-9a-f]{64})-(\d{1,5})x(\d{1,5})\.(jpeg|png|gif)", re.ASCII)


def prepare(data: bytes) -> images.Drawn:
    """Read an upload and write it anew, small enough for mail. Raises InvalidInput.

    JPEG, PNG, GIF and WebP are read; what comes out is JPEG, PNG or (moving) GIF, since
    not every mail program shows WebP.
    """
    if not data:
        raise _wrong(N_("Choose a picture first."))
    with images.opened(data, LIMITS, field="picture") as upload:
        return _moving(upload) if upload.moves else _still(upload)


def store(
    session: Session, newsletter: Newsletter, data: bytes, *, now: datetime
) -> Picture:
    """Keep an upload; the same one twice is kept once. Raises InvalidInput."""
    ready = prepare(data)
    digest = hashlib.sha256(ready.content).hexdigest()
    if found := _by_digest(session, newsletter, digest):
        return found
    of_newsletter = Picture.newsletter_id == newsletter.id
    count = session.scalar(select(func.count()).where(of_newsletter)) or 0
    if count >= MAX_PICTURES:
        raise _wrong(
            N_("This newsletter has its %(limit)s pictures. Use one of them."),
            limit=MAX_PICTURES,
        )
    picture = Picture(
        newsletter_id=newsletter.id,
        digest=digest,
        format=ready.format,
        width=ready.width,
        height=ready.height,
        size_bytes=len(ready.content),
        content=ready.content,
        created_at=now,
    )
    session.add(picture)
    session.flush()
    return picture


def name_of(picture: Picture) -> str:
    """Return what a picture's address ends in."""
    size = f"{picture.width}x{picture.height}"
    return f"{picture.digest}-{size}.{picture.format}"


def find(session: Session, newsletter: Newsletter, name: str) -> Picture | None:
    """Return the picture whose address ends in `name`, with its content."""
    match = _NAME.fullmatch(name)
    found = match and _by_digest(session, newsletter, match[1], whole=True)
    return found if found and name_of(found) == name else None


def _by_digest(
    session: Session, newsletter: Newsletter, digest: str, *, whole: bool = False
) -> Picture | None:
    query = select(Picture).where(
        Picture.newsletter_id == newsletter.id, Picture.digest == digest
    )
    return session.scalar(query.options(undefer(Picture.content)) if whole else query)


def _wrong(message: str, **values: object) -> InvalidInput:
    return InvalidInput(message, field="picture", **values)


def _still(upload: images.Upload) -> images.Drawn:
    whole = upload.still(near=2 * WIDTH)
    made = whole.within((WIDTH, HEIGHT), alpha=whole.has_holes)
    if whole.has_holes or upload.format in ("PNG", "GIF"):
        drawn = made.png()
        if whole.has_holes or len(drawn.content) <= PNG_BYTES:
            return drawn
    return made.jpeg(QUALITY, progressive=True, profile=True)


def _moving(upload: images.Upload) -> images.Drawn:
    frames: list[images.Still] = []
    times: list[int] = []
    pixels = 0
    for frame, time in upload.frames():
        pixels += frame.pixels
        if len(frames) >= MAX_FRAMES or pixels > MAX_MOVING_PIXELS:
            raise _too_much_motion()
        frames.append(frame.within((WIDTH // 2, HEIGHT), alpha=True, fast=True))
        times.append(time)
    drawn = images.gif(frames, times)
    if len(drawn.content) > MAX_MOVING_BYTES:
        raise _too_much_motion()
    return drawn


def _too_much_motion() -> InvalidInput:
    return _wrong(
        N_("That moving picture is too long for mail. Use a shorter one, or a still.")
    )
