"""Pictures for mail: uploads are checked, made small, kept under their content's name.

What comes from outside is read by Pillow (only here) and written anew: what is stored
is a picture and nothing else, without the place and the camera that a phone writes into
it. It lies in the database, so that every host has it. Its address holds the SHA-256 of
its content and its size: it never changes, and a mail can keep room for it.
"""

import hashlib
import io
import re
import struct
import zlib
from dataclasses import dataclass
from datetime import datetime

from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError
from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from newsletter.errors import N_, InvalidInput
from newsletter.models import Newsletter, Picture

MAX_UPLOAD_BYTES = 12 * 1024 * 1024
MAX_PICTURES = 5000  # of a newsletter
WIDTH = 1040  # twice the mail's column, for screens with fine pixels
HEIGHT = 3000
MAX_PIXELS = 40_000_000
MAX_JPEG_PIXELS = 200_000_000  # read at an eighth of its size
MAX_FRAMES = 200
MAX_MOVING_PIXELS = 60_000_000  # of all frames together
MAX_MOVING_BYTES = 2 * 1024 * 1024
PNG_BYTES = 400_000  # a larger one without holes is a photograph
MAX_PROFILE_BYTES = 4096
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
TYPES = {"jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif"}
_NAME = re.compile(r"([0-9a-f]{64})-(\d{1,5})x(\d{1,5})\.(jpeg|png|gif)", re.ASCII)
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError),
    *(struct.error, zlib.error, OverflowError, AssertionError),
)

# Sizes are checked here before anything is unpacked.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture as it is kept."""

    format: str
    width: int
    height: int
    content: bytes


def prepare(data: bytes) -> Prepared:
    """Read an upload and write it anew, small enough for mail. Raises InvalidInput.

    JPEG, PNG, GIF and WebP are read; what comes out is JPEG, PNG or (moving) GIF, since
    not every mail program shows WebP.
    """
    if not data:
        raise _wrong(N_("Choose a picture first."))
    if len(data) > MAX_UPLOAD_BYTES:
        raise _wrong(
            N_("That file is too large: %(limit)s MB fit. Choose a smaller one."),
            limit=MAX_UPLOAD_BYTES // 1024 // 1024,
        )
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image)
            if image.format == "GIF" and getattr(image, "is_animated", False):
                return _moving(image)
            return _still(image)
    except UnidentifiedImageError:
        raise _wrong(
            N_("That is no picture we can use. Choose a JPEG, PNG, GIF or WebP file.")
        ) from None
    except _UNREADABLE:
        raise _wrong(
            N_("The picture is damaged and cannot be read. Save it anew and try again.")
        ) from None


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


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    limit = MAX_JPEG_PIXELS if image.format == "JPEG" else MAX_PIXELS
    _check_pixels(width * height, limit)


def _still(image: Image.Image) -> Prepared:
    drawn = image.format in ("PNG", "GIF")
    image.draft("RGB", (2 * WIDTH, 2 * WIDTH))  # a JPEG is read at a fraction
    _check_pixels(image.size[0] * image.size[1], MAX_PIXELS)
    profile = image.info.get("icc_profile") or b""
    upright = ImageOps.exif_transpose(image)
    has_holes = upright.has_transparency_data
    upright = upright.convert("RGBA" if has_holes else "RGB")
    upright.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    ours = image.mode in ("RGB", "RGBA") and len(profile) <= MAX_PROFILE_BYTES
    kept = profile if ours else None
    if has_holes or drawn:
        content = _saved(upright, "PNG", optimize=True, icc_profile=kept)
        if has_holes or len(content) <= PNG_BYTES:
            return Prepared("png", *upright.size, content)
    content = _saved(
        upright, "JPEG", quality=82, optimize=True, progressive=True, icc_profile=kept
    )
    return Prepared("jpeg", *upright.size, content)


def _check_pixels(count: int, limit: int) -> None:
    if count > limit:
        raise _wrong(
            N_("That picture has %(count)s million pixels. Make it smaller first."),
            count=count // 1_000_000,
        )


def _moving(image: Image.Image) -> Prepared:
    frames: list[Image.Image] = []
    times: list[int] = []
    pixels = 0
    for frame in ImageSequence.Iterator(image):
        pixels += frame.size[0] * frame.size[1]
        if len(frames) >= MAX_FRAMES or pixels > MAX_MOVING_PIXELS:
            raise _too_much_motion()
        still = frame.convert("RGBA")
        still.thumbnail((WIDTH // 2, HEIGHT))
        frames.append(still)
        times.append(max(20, int(frame.info.get("duration", 100))))
    content = _saved(
        frames[0],
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=times,
        loop=0,
        disposal=2,
    )
    if len(content) > MAX_MOVING_BYTES:
        raise _too_much_motion()
    return Prepared("gif", *frames[0].size, content)


def _too_much_motion() -> InvalidInput:
    return _wrong(
        N_("That moving picture is too long for mail. Use a shorter one, or a still.")
    )


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()
