"""Logos: what an editor uploads becomes a small picture that every mail program shows.

It is written as PNG or JPEG, and kept: mail already sent goes on showing it.
"""

import base64
import hashlib
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter import images
from newsletter.digests.look import Picture
from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import Logo, Newsletter

UPLOAD_BYTES = 900_000  # two of them fit into a form
LIMITS = images.Limits(UPLOAD_BYTES, 16_000_000, jpeg_pixels=16_000_000, side=16)
SHOWN = (280, 72)  # at most, in CSS pixels
STORED = (2 * SHOWN[0], 2 * SHOWN[1])  # for screens with two pixels for each
QUALITY = 88
MOST_LOGOS = 200  # of one newsletter; they are kept
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
    if _is_svg(data):
        raise InvalidInput(
            N_(
                "Mail programs do not show SVG. Export the logo as PNG and choose that."
            ),
            field=field,
        )
    with images.opened(data, LIMITS, field=field) as upload:
        photo = upload.format == "JPEG"
        made = upload.still().within(STORED, alpha=not photo)
        drawn = made.jpeg(QUALITY) if photo else made.png()
    kind = "jpg" if photo else "png"
    return Prepared(kind, drawn.width, drawn.height, drawn.content)


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
