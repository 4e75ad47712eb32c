"""Logos: what an editor uploads becomes a small picture that every mail program shows.

Pillow reads a picture's contents, never its name; what is stored is written anew, as
PNG or JPEG, so that nothing hides in it.
"""

import base64
import hashlib
import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter.digests.look import Picture
from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import Logo, Newsletter

UPLOAD_BYTES = 900_000  # two of them fit into a form
MOST_PIXELS = 16_000_000
LEAST_SIDE = 16
SHOWN = (280, 72)  # at most, in CSS pixels
STORED = (2 * SHOWN[0], 2 * SHOWN[1])  # for screens with two pixels for each
MOST_LOGOS = 200  # of one newsletter; they are kept
FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
_UNREADABLE = (
    *(UnidentifiedImageError, Image.DecompressionBombError),
    *(OSError, SyntaxError, ValueError, EOFError),
)
TYPES = {"png": "image/png", "jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A logo as it will be stored."""

    kind: str
    width: int
    height: int
    data: bytes

    @property
    def digest(self) -> str:
        """Return what names it."""
        return hashlib.sha256(self.data).hexdigest()[:32]

    def shown(self) -> Picture:
        """Return it as a mail would show it, before it is stored."""
        encoded = base64.b64encode(self.data).decode()
        return shown(
            f"data:{TYPES[self.kind]};base64,{encoded}", self.width, self.height
        )


def prepare(data: bytes, *, field: str = "logo") -> Prepared:
    """Read an uploaded picture. Raises InvalidInput, saying what would do."""
    if len(data) > UPLOAD_BYTES:
        raise InvalidInput(
            N_(
                "That picture is larger than 900 kB. Export it smaller, about 600 wide."
            ),
            field=field,
        )
    if _is_svg(data):
        raise InvalidInput(
            N_(
                "Mail programs do not show SVG. Export the logo as PNG and choose that."
            ),
            field=field,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image, field)
                return _write(image)
    except _UNREADABLE as error:
        raise InvalidInput(
            N_("That is no picture Inkorg can read. Choose a PNG, JPEG, GIF or WebP."),
            field=field,
        ) from error


def store(session: Session, newsletter: Newsletter, made: Prepared) -> Logo:
    """Keep a logo; the same picture is kept once. Raises InvalidInput."""
    mine = Logo.newsletter_id == newsletter.id
    found = session.scalar(select(Logo).where(mine, Logo.digest == made.digest))
    if found:
        return found
    count = session.scalar(select(func.count()).select_from(Logo).where(mine)) or 0
    if count >= MOST_LOGOS:
        raise InvalidInput(
            N_("You have had %(count)s logos. Go back to a version with one of those."),
            field="logo",
            count=count,
        )
    logo = Logo(
        newsletter_id=newsletter.id,
        digest=made.digest,
        kind=made.kind,
        width=made.width,
        height=made.height,
        data=made.data,
    )
    session.add(logo)
    session.flush()
    return logo


def find(session: Session, newsletter: Newsletter, digest: str, kind: str) -> Logo:
    """Return a newsletter's logo by what names it. Raises NotFound."""
    found = session.scalar(
        select(Logo).where(
            Logo.newsletter_id == newsletter.id,
            Logo.digest == digest[:64],
            Logo.kind == kind[:4],
        )
    )
    if found is None:
        raise NotFound(N_("There is no such picture."))
    return found


def shown(url: str, width: int, height: int) -> Picture:
    """Return a picture as a mail shows it: within limits, and never enlarged."""
    scale = min(1.0, SHOWN[0] / width, SHOWN[1] / height)
    return Picture(url, max(1, round(width * scale)), max(1, round(height * scale)))


def _is_svg(data: bytes) -> bool:
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in head


def _check_size(image: Image.Image, field: str) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise InvalidInput(
            N_("That picture is %(width)s × %(height)s pixels. Make it smaller first."),
            field=field,
            width=width,
            height=height,
        )
    if min(width, height) < LEAST_SIDE:
        raise InvalidInput(
            N_("That picture is %(width)s × %(height)s pixels: too small for a logo."),
            field=field,
            width=width,
            height=height,
        )


def _write(image: Image.Image) -> Prepared:
    """Write the first frame anew: turned as it says, no larger than is shown."""
    photo = image.format == "JPEG"
    made: Image.Image = ImageOps.exif_transpose(image)
    made = made.convert("RGB" if photo else "RGBA")
    made.thumbnail(STORED, Image.Resampling.LANCZOS)
    target = io.BytesIO()
    if photo:
        made.save(target, "JPEG", quality=88, optimize=True)
    else:
        made.save(target, "PNG", optimize=True)
    kind = "jpg" if photo else "png"
    return Prepared(kind, made.width, made.height, target.getvalue())
