"""Portraits: any picture becomes a small square JPEG of our own. A doorway to Pillow.

What is stored has been drawn anew, so nothing of the file that came in is left: no
place where it was taken, no second file inside. Pictures lie in the database, so that
every host has them.
"""

import hashlib
import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from newsletter.errors import N_, FeedError, InvalidInput
from newsletter.models import Author, Newsletter, Portrait
from newsletter.posts.download import Client

MAX_BYTES = 8 * 1024 * 1024
SIDE = 240  # pixels; shown at 40 to 80
QUALITY = 85
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
# A JPEG is read at a fraction of its size; the others have to be unpacked whole.
MAX_PIXELS = {"JPEG": 80_000_000}
MAX_PIXELS_UNPACKED = 16_000_000
TOO_MANY = N_("The picture has too many pixels. Make it smaller.")
SMALLEST = 40
FACES = (0.5, 0.35)  # where the middle of the square lies: faces are above the middle
PAPER = (255, 255, 255)  # under what is transparent


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
    if len(data) > MAX_BYTES:
        raise _refusal(N_("The picture is larger than 8 MB. Choose a smaller one."))
    try:
        with warnings.catch_warnings():
            # We count pixels ourselves, before anything is unpacked.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _drawn(data)
    except UnidentifiedImageError:
        raise _refusal(
            N_("That is not a picture we can read. Use JPEG, PNG, WebP or GIF.")
        ) from None
    except Image.DecompressionBombError:
        raise _refusal(TOO_MANY) from None
    except (OSError, ValueError, SyntaxError, EOFError):
        raise _refusal(
            N_("The picture is damaged. Save it anew and try again.")
        ) from None


def _drawn(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS.get(image.format or "", MAX_PIXELS_UNPACKED):
            raise _refusal(TOO_MANY)
        if min(width, height) < SMALLEST:
            raise _refusal(
                N_("The picture is too small: it needs at least 40 pixels each way.")
            )
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        upright = ImageOps.exif_transpose(image)
        square = ImageOps.fit(
            _on_paper(upright), (SIDE, SIDE), Image.Resampling.LANCZOS, centering=FACES
        )
    square.info.clear()  # or a comment in the file would be written again
    out = io.BytesIO()
    square.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def _on_paper(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    paper = Image.new("RGB", seen.size, PAPER)
    paper.paste(seen, mask=seen.getchannel("A"))
    return paper


def _refusal(message: str) -> InvalidInput:
    return InvalidInput(message, field="portrait")
