"""Pictures: what is uploaded becomes small, clean and the same wherever it is asked."""

import io

import pytest
from flask import Flask
from PIL import Image, ImageDraw
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter import pictures
from newsletter.db import Database
from newsletter.errors import InvalidInput
from newsletter.models import Picture
from tests.factories import NOW, make_newsletter
from tests.test_images import bomb, spreading

SECRET = "59.3293N 18.0686E"


def drawn(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    image = Image.new(mode, size)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1]), fill="white")
    return image


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def photograph(size: tuple[int, int]) -> bytes:
    """A JPEG as a phone takes it: lying on its side, with the place in it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    exif[0x010E] = SECRET
    return saved(drawn(size=size), "JPEG", exif=exif)


def moving(frames: int, size: tuple[int, int] = (30, 20)) -> bytes:
    rest = [Image.new("RGB", size, (n, 0, 255 - n)) for n in range(1, frames)]
    return saved(drawn(size=size), "GIF", save_all=True, append_images=rest)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (photograph((2400, 1200)), ("jpeg", 1040, 2080)),
        (saved(drawn(size=(2080, 100)), "PNG"), ("png", 1040, 50)),
        (saved(drawn("RGBA"), "WEBP"), ("png", 60, 40)),
        (saved(drawn(), "WEBP"), ("jpeg", 60, 40)),
        (saved(drawn("CMYK"), "JPEG"), ("jpeg", 60, 40)),
        (saved(drawn("P"), "GIF"), ("png", 60, 40)),
        (moving(3), ("gif", 30, 20)),
    ],
)
def test_a_picture_is_written_anew_small_and_upright(
    data: bytes, expected: tuple[str, int, int]
) -> None:
    ready = pictures.prepare(data + b"<script>alert(1)</script>")
    assert (ready.format, ready.width, ready.height) == expected
    assert SECRET.encode() not in ready.content
    assert b"<script" not in ready.content
    with Image.open(io.BytesIO(ready.content)) as image:
        assert image.size == (ready.width, ready.height)
        assert getattr(image, "n_frames", 1) == (3 if ready.format == "gif" else 1)
    assert pictures.prepare(data) == ready


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Choose a picture first"),
        (b"x" * (pictures.MAX_UPLOAD_BYTES + 1), "12 MB fit"),
        (b"%PDF-1.7 not a picture", "PNG, JPEG, GIF or WebP"),
        (bomb(6_400, 6_400), "6400 × 6400 pixels"),
        (spreading(20_000), "too many pixels"),
        (moving(210), "too long for mail"),
    ],
)
def test_what_is_no_picture_for_mail_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        pictures.prepare(data)
    assert refused.value.field == "picture"


def test_the_same_picture_is_kept_once(session: Session) -> None:
    labbet, other = make_newsletter(session), make_newsletter(session, "annat")
    first = pictures.store(session, labbet, photograph((80, 40)), now=NOW)
    again = pictures.store(session, labbet, photograph((80, 40)), now=NOW)
    assert first.id == again.id
    assert pictures.find(session, other, pictures.name_of(first)) is None
    pictures.store(session, other, photograph((80, 40)), now=NOW)
    assert session.scalar(select(func.count()).select_from(Picture)) == 2


def test_a_picture_is_served_for_ever_and_can_only_be_looked_at(
    app: Flask, database: Database
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session)
        made = pictures.store(session, labbet, photograph((80, 40)), now=NOW)
        name, content = pictures.name_of(made), made.content
    client = app.test_client()
    answer = client.get(f"/labbet/pictures/{name}")
    assert (answer.status_code, answer.data) == (200, content)
    assert answer.mimetype == "image/jpeg"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    etag = {"If-None-Match": answer.headers["ETag"]}
    assert client.get(f"/labbet/pictures/{name}", headers=etag).status_code == 304
    for wrong in (name.replace("jpeg", "png"), name.replace("-40x80", "-41x80"), "x"):
        assert client.get(f"/labbet/pictures/{wrong}").status_code == 404
