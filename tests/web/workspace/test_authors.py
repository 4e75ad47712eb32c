"""Authors in the workspace and on the pages: portraits, spellings, what comes along."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import select

from newsletter import links
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Author, Newsletter, Role
from newsletter.posts import authors
from tests.factories import make_newsletter, make_post
from tests.feed_server import Answer, FeedServer
from tests.web.at_work import as_editor, csrf_token
from tests.web.workspace.compose_world import post

AUTHORS = "/editor/labbet/authors/"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, fetch_allow=("127.0.0.1",))


@pytest.fixture
def people(database: Database) -> tuple[int, int]:
    """Two authors, each with a post."""
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        made = [
            authors.named(session, newsletter, name) for name in ("Åsa Öberg", "Bo Ek")
        ]
        for author in made:
            make_post(session, newsletter, author=author, link="")
        return tuple(author.id for author in made if author)  # type: ignore[return-value]


@pytest.fixture
def editor(app: Flask, people: tuple[int, int]) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def photo(megapixels: float = 0.1) -> bytes:
    side = int((megapixels * 1e6) ** 0.5)
    out = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(out, "JPEG", quality=95)
    return out.getvalue()


def save(editor: FlaskClient, author_id: int, data: bytes = b"", **form: str) -> int:
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in {"csrf_token": csrf_token(editor), **form}.items()
    ]
    if data:
        head = 'Content-Disposition: form-data; name="portrait"; filename="../å.jpg"'
        parts.append(f"{head}\r\n\r\n".encode() + data)
    body = b"".join(b"--gran\r\n" + part + b"\r\n" for part in parts) + b"--gran--\r\n"
    kind = "multipart/form-data; boundary=gran"
    answer = editor.post(f"{AUTHORS}{author_id}/", data=body, content_type=kind)
    return answer.status_code


def author(database: Database, author_id: int) -> Author:
    with database.reading() as session:
        return session.get_one(Author, author_id)


def test_a_portrait_is_uploaded_shown_everywhere_and_taken_away(
    editor: FlaskClient,
    client: FlaskClient,
    database: Database,
    settings: Settings,
    people: tuple[int, int],
) -> None:
    asa, _bo = people
    page = client.get("/labbet/").text
    assert 'class="portrait"' not in page  # where nobody has one it is calm
    large = photo(4)
    assert 2 * 1024 * 1024 < len(large) < 8 * 1024 * 1024
    assert save(editor, asa, large, display_name="Åsa Öberg", byline="strateg") == 302
    found = author(database, asa)
    url = found.portrait
    assert links.portrait_url(settings, found) == f"http://localhost{url}"
    picture = client.get(url)
    assert (picture.status_code, picture.mimetype) == (200, "image/jpeg")
    assert "immutable" in picture.headers["Cache-Control"]
    for where in (client.get("/labbet/"), editor.get(AUTHORS)):
        assert f'src="{url}" alt="Porträtt av Åsa Öberg"' in where.text
        assert 'aria-hidden="true">BE</span>' in where.text
    assert f'src="{url}"' in client.get("/labbet/posts/1/").text
    assert save(editor, asa, display_name="Åsa Öberg", byline="strateg") == 302
    assert author(database, asa).portrait == url  # saving the rest leaves it
    assert save(editor, asa, remove="1") == 302
    assert author(database, asa).portrait == ""
    assert client.get(url).status_code == 404


def test_a_portrait_that_cannot_be_used_is_refused_and_nothing_saved(
    editor: FlaskClient, database: Database, people: tuple[int, int]
) -> None:
    assert save(editor, people[0], b"GIF89a nej", byline="Kvar") == 400
    assert save(editor, people[0], bytes(9 * 1024 * 1024)) == 413
    assert author(database, people[0]).byline == ""


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


def test_a_portrait_from_the_web_is_fetched_once_and_kept(
    editor: FlaskClient,
    database: Database,
    people: tuple[int, int],
    server: FeedServer,
) -> None:
    server.answers["/asa.jpg"] = Answer(photo())
    url = server.url("/asa.jpg")
    for _ in range(2):
        assert save(editor, people[0], portrait_url=url) == 302
    assert len(server.asked) == 1
    found = author(database, people[0])
    assert (found.portrait_url, bool(found.portrait_key)) == (url, True)
    assert save(editor, people[0], portrait_url=server.url("/nej")) == 400
    assert author(database, people[0]).portrait_key == found.portrait_key


def test_two_spellings_are_made_one_and_one_of_them_someone_else_again(
    editor: FlaskClient, app: Flask, database: Database, people: tuple[int, int]
) -> None:
    asa, bo = people
    same = post(editor, f"{AUTHORS}merge", {"author": str(bo), "into": str(bo)})
    assert (same.status_code, "Välj två olika" in same.text) == (400, True)
    answer = post(editor, f"{AUTHORS}merge", {"author": str(bo), "into": str(asa)})
    page = editor.get(answer.location).text
    assert "”Bo Ek” är Åsa Öberg från och med nu" in page
    assert "Skrivs även Bo Ek." in page
    assert "2 inlägg" in page
    assert "Skrivs även Bo Ek." in as_editor(app, Role.VIEWER).get(AUTHORS).text
    with database.transaction() as session:
        newsletter = session.scalars(select(Newsletter)).one()
        (spelling,) = authors.spellings(session, newsletter)[asa]
    answer = post(editor, f"{AUTHORS}spellings/{spelling.id}/split", {})
    assert "Nya inlägg av ”Bo Ek”" in editor.get(answer.location).text


def test_what_comes_with_a_post_is_linked_on_its_page(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        made = make_post(
            session,
            make_newsletter(session),
            enclosures=[
                {
                    "url": "https://a.example/x.mp3",
                    "type": "audio/mpeg",
                    "length": 12_345_678,
                    "title": "Avsnitt <1>",
                },
                {
                    "url": "https://a.example/r%C3%A5d.pdf",
                    "type": "",
                    "length": 0,
                    "title": "",
                },
                {"url": "javascript:alert(1)"},
            ],
        )
    page = client.get(f"/labbet/posts/{made.id}/").text
    assert (
        '<a href="https://a.example/x.mp3">Lyssna: Avsnitt &lt;1&gt; (12,3 MB)' in page
    )
    assert '<a href="https://a.example/r%C3%A5d.pdf">Hämta: råd.pdf</a>' in page
    assert "javascript" not in page
