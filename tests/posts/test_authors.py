"""Authors: spellings that are one person, portraits that are drawn anew."""

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.errors import InvalidInput, NotFound
from newsletter.models import Author, Newsletter, Portrait, Post
from newsletter.posts import authors, portraits
from newsletter.posts.download import Client
from newsletter.posts.guard import Guard
from tests.factories import make_newsletter, make_post
from tests.feed_server import Answer, FeedServer
from tests.test_images import bomb


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def picture(
    kind: str = "PNG",
    size: tuple[int, int] = (300, 500),
    mode: str = "RGB",
    **more: int,
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 0 if mode == "P" else "red").save(out, kind, **more)
    return out.getvalue()


def opened(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "RGBA", "LA", "P", "1", "I;16")),
        *(("JPEG", mode) for mode in ("RGB", "CMYK", "L")),
        *(("WEBP", "RGBA"), ("GIF", "P")),
    ],
)
def test_any_picture_becomes_a_small_square(kind: str, mode: str) -> None:
    color_free = io.BytesIO()
    Image.new(mode, (300, 500)).save(color_free, kind)
    drawn = portraits.draw(color_free.getvalue())
    image = opened(drawn)
    assert (image.format, image.size, image.mode) == ("JPEG", (240, 240), "RGB")
    assert len(drawn) < 20_000


def test_a_photo_stands_upright_and_tells_nothing_about_where_it_was_taken() -> None:
    photo = Image.new("RGB", (400, 800), "blue")
    photo.paste("red", (0, 0, 200, 800))
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    exif.get_ifd(0x8825)[1] = "N"
    out = io.BytesIO()
    photo.save(out, "JPEG", exif=exif, comment=b"Storgatan 1")
    drawn = portraits.draw(out.getvalue())
    image = opened(drawn)
    assert not image.getexif()
    assert b"Storgatan" not in drawn
    pixel = image.convert("RGB").getpixel
    top, bottom = pixel((120, 20)), pixel((120, 220))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > 60 > top[2]  # what was at the left is on top
    assert bottom[2] > 200


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no picture"),
        (bomb(4_100, 4_000), "4100 × 4000 pixels"),
        (picture("PNG", (1000, 39)), "at least 40"),
        (bytes(portraits.MAX_BYTES + 1), "8 MB"),
    ],
)
def test_what_is_no_fit_picture_is_refused_in_words(data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        portraits.draw(data)
    assert caught.value.field == "portrait"


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


def test_a_portrait_is_fetched_from_the_public_web_only(server: FeedServer) -> None:
    server.answers["/asa.png"] = Answer(picture())
    allowed = Client(Guard(["127.0.0.1"]), seconds=3)
    drawn = portraits.fetch(allowed, server.url("/asa.png"))
    assert opened(drawn).size == (240, 240)
    asked = len(server.asked)
    for client, path in ((Client(Guard()), "/asa.png"), (allowed, "/borta.png")):
        with pytest.raises(InvalidInput, match="Upload it instead"):
            portraits.fetch(client, server.url(path))
    assert len(server.asked) == asked + 1


def test_a_portrait_is_stored_replaced_found_and_taken_away(
    session: Session, newsletter: Newsletter
) -> None:
    author = authors.named(session, newsletter, "Åsa Öberg")
    assert author
    assert (author.portrait, author.initials) == ("", "ÅÖ")
    assert not portraits.any_of(session, newsletter)
    first, second = (portraits.draw(picture(mode=mode)) for mode in ("RGB", "L"))
    portraits.set_portrait(session, author, first)
    key = author.portrait_key
    assert author.portrait == f"/portraits/{key}.jpg"
    portraits.set_portrait(session, author, second)
    assert portraits.find(session, author.portrait_key) == second
    assert portraits.find(session, key) is None
    assert portraits.any_of(session, newsletter)
    for odd in ("", "x" * 33, "%" * 32, "\x00" * 32):
        assert portraits.find(session, odd) is None
    portraits.remove_portrait(session, author)
    assert session.scalars(select(Portrait)).all() == []
    assert author.portrait == ""


@pytest.mark.parametrize(
    ("name", "initials"),
    [("Åsa Maria Öberg", "ÅÖ"), ("redaktionen", "R"), ("– (x)", ""), ("", "")],
)
def test_initials_stand_for_a_name(name: str, initials: str) -> None:
    assert Author(name=name, display_name="").initials == initials


def test_two_spellings_become_one_author_for_what_comes_later_too(
    session: Session, newsletter: Newsletter
) -> None:
    right = authors.named(session, newsletter, "Anna Kanervo")
    wrong = authors.named(session, newsletter, "Kanervo, Anna")
    worse = authors.named(session, newsletter, "anna k")
    assert right
    assert wrong
    assert worse
    authors.correct_author(session, wrong, byline="projektansvarig")
    portraits.set_portrait(session, wrong, portraits.draw(picture()))
    for author in (right, wrong, worse):
        make_post(session, newsletter, author=author)
    assert authors.merge(session, worse, wrong) == 1
    assert authors.merge(session, wrong, right) == 2
    assert authors.authors(session, newsletter) == [right]
    assert {post.author_id for post in session.scalars(select(Post))} == {right.id}
    assert right.byline == "projektansvarig"
    assert portraits.find(session, right.portrait_key)
    for name in ("Kanervo, Anna", "anna k", "Anna Kanervo"):
        assert authors.named(session, newsletter, name) is right
    other = make_newsletter(session, "annat")
    theirs = authors.named(session, other, "anna k")
    assert theirs is not right
    assert theirs
    for one, two in ((right, right), (right, theirs)):
        with pytest.raises(InvalidInput):
            authors.merge(session, one, two)
    spelt = authors.spellings(session, newsletter)
    assert [one.name for one in spelt[right.id]] == ["Kanervo, Anna", "anna k"]
    with pytest.raises(NotFound):
        authors.split(session, other, spelt[right.id][1].id)
    assert authors.split(session, newsletter, spelt[right.id][1].id) == "anna k"
    assert authors.named(session, newsletter, "anna k") is not right
