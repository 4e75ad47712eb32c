"""The design page: previewed, saved as versions, refused where it must be."""

import io
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import select
from werkzeug.test import TestResponse

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import design, logos
from newsletter.errors import InvalidInput
from newsletter.models import Design, Logo, Newsletter, Role
from tests.factories import make_newsletter, make_post
from tests.web.at_work import as_editor, csrf_token
from tests.web.workspace.compose_world import contents

PAGE = "/editor/labbet/design/"
ORDER = ["opening", "headlines", "posts", "authors", "closing"]


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, languages=["sv", "en"])


@pytest.fixture
def client(app: Flask, labbet: Newsletter) -> FlaskClient:
    return as_editor(app, Role.EDITOR, labbet)


def picture(
    kind: str = "PNG", size: tuple[int, int] = (400, 100), mode: str = "RGB"
) -> io.BytesIO:
    made = io.BytesIO()
    Image.new(mode, size, "#8b2e24").save(made, kind)
    made.seek(0)
    return made


def send(client: FlaskClient, path: str = "", **over: Any) -> TestResponse:
    form = {
        "csrf_token": csrf_token(client),
        "based_on": "0",
        "theme": "pictures",
        "accent": "#1a4f8b",
        "part": ORDER,
        "show-opening": "1",
        "show-closing": "1",
        **over,
    }
    return client.post(
        PAGE + path, data={k.replace("__", "-"): v for k, v in form.items()}
    )


def designs_of(database: Database) -> list[Design]:
    with database.reading() as session:
        return list(session.scalars(select(Design).order_by(Design.number)))


def test_a_newsletter_without_a_design_shows_what_holds(client: FlaskClient) -> None:
    page = client.get(PAGE).text
    assert re.search(r'value="calm"[^>]* checked', page)
    assert "Inget är sparat ännu" in page
    assert 'placeholder="Fyra nya inlägg"' in page
    assert 'placeholder="Läs ”{{ title }}”"' in page
    assert "<summary>English</summary>" in page
    mail = client.get(PAGE + "preview").text
    assert "Kören som inte ville sluta sjunga" in mail


def test_what_is_typed_is_shown_and_stored_nowhere(
    client: FlaskClient, database: Database
) -> None:
    token = csrf_token(client)
    before = contents(database)
    form: dict[str, Any] = {
        "csrf_token": token,
        "part": ["closing", "posts"],
        "sv__greeting": "Hej på er!",
        "sv__closing": "Vi ses i {{ newsletter }}",
        "count": "1",
        "logo": (picture(), "logo.svg"),
    }
    mail = send(client, "preview", **form)
    assert "Hej på er!" in mail.text
    places = [mail.text.rindex(x) for x in ("Vi ses i Allmännyttans", "Kören som")]
    assert places == sorted(places)
    assert 'src="data:image/png;base64,' in mail.text
    assert "sandbox" in mail.headers["Content-Security-Policy"]
    form.pop("logo")
    assert "Hej på er!" in send(client, "preview", **form, view="text").text
    english = send(client, "preview", **form, view="source", language="en").text
    assert "Content-Language: en" in english
    assert "Hej på er" not in english
    wrong = send(client, "preview", **{**form, "sv__greeting": "{{ okänd }}"}).text
    assert "{{ okänd }} finns inte här" in wrong
    assert contents(database) == before


def test_each_save_is_a_version_to_go_back_to(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        make_post(session, session.get_one(Newsletter, labbet.id), title="Eget inlägg")
    logo = (picture("WEBP", (1200, 300)), "hej.txt")
    saved = send(client, sv__greeting="Hej!", en__greeting="Hello!", logo=logo)
    assert saved.location == PAGE
    send(client, based_on="1", theme="headlines", accent="#ffe600", no_logo="1")

    first, second = designs_of(database)
    assert (first.number, first.theme, first.accent) == (1, "pictures", "#1a4f8b")
    assert first.words == {"sv": {"greeting": "Hej!"}, "en": {"greeting": "Hello!"}}
    assert first.shown == ["opening", "posts", "closing"]
    assert (second.number, second.logo_id) == (2, None)
    page = client.get(PAGE).text
    assert "editor@redaktion.example" in page
    assert "7,4:1" not in page
    assert re.search(r"Läsarna ser #[0-9a-f]{6} då", page)
    with database.reading() as session:
        here = session.get_one(Newsletter, labbet.id)
        assert here.accent == "#ffe600"
        assert design.look_of(settings, here).theme == "headlines"

    compare = client.get(PAGE + "versions/1/").text
    assert "Annorlunda än nu: temat, färgen, logotypen, orden." in compare
    assert "Eget inlägg" in client.get(PAGE + "preview?version=1").text
    restored = client.post(
        PAGE + "versions/1/restore", data={"csrf_token": csrf_token(client)}
    )
    assert restored.location == PAGE
    third = designs_of(database)[2]
    assert (third.number, third.restores, third.words) == (3, 1, first.words)
    assert third.logo_id == first.logo_id
    with database.reading() as session:
        look = design.look_of(settings, session.get_one(Newsletter, labbet.id))
    assert look.logo
    assert (look.accent, look.logo.width, look.logo.height) == ("#1a4f8b", 280, 70)

    served = client.get(look.logo.url.removeprefix(settings.base_url))
    assert served.mimetype == "image/png"
    assert served.cache_control.immutable
    assert Image.open(io.BytesIO(served.data)).size == (560, 140)
    assert client.get("/labbet/logo/0123.png").status_code == 404
    assert client.get(PAGE + "versions/9/").status_code == 404


@pytest.mark.parametrize(
    ("over", "field", "words"),
    [
        ({"accent": "red"}, "accent", "#8b2e24"),
        ({"theme": "../../etc"}, "", "inte installerat"),
        ({"sv__heading": "Hej {{ name }}"}, "sv-heading", "{{ name }} finns inte"),
        ({"sv__closing": "{% for x in y %}"}, "sv-closing", "{% for x in y %} finns"),
        ({"sv__note": "{{ config }}"}, "sv-note", "{{ newsletter }}"),
        ({"sv__heading": "{{ date"}, "sv-heading", "finns inte här"),
        ({"sv__link": "Läs mer"}, "sv-link", "{{ title }} måste finnas med"),
        (
            {"en__link": "{{ date }} {{ title }}"},
            "en-link",
            "{{ title }}, {{ author }}",
        ),
        ({"sv__greeting": "x" * 201}, "sv-greeting", "200"),
        ({"logo": (io.BytesIO(b"<svg xmlns='x'/>"), "a.png")}, "logo", "SVG"),
        ({"logo": (io.BytesIO(b"<?xml?> <svg/>"), "a.png")}, "logo", "SVG"),
        ({"logo": (io.BytesIO(b"GIF89a and then"), "a.gif")}, "logo", "ingen bild"),
        ({"logo": (picture("BMP"), "a.png")}, "logo", "ingen bild"),
        ({"logo": (picture(size=(400, 9)), "a.png")}, "logo", "för liten"),
        (
            {"dark_logo": (picture(size=(9000, 9000), mode="1"), "a")},
            "dark_logo",
            "mindre först",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    client: FlaskClient,
    database: Database,
    over: dict[str, Any],
    field: str,
    words: str,
) -> None:
    answer = send(client, **{"sv__reply": "Det här ska finnas kvar", **over})
    assert answer.status_code in {400, 409}
    told = re.search(r'role="alert">(.*?)</p>', answer.text, re.DOTALL)
    assert told
    assert words in told[1]
    assert not field or f'id="{field}-error"' in answer.text
    assert "Det här ska finnas kvar" in answer.text
    assert designs_of(database) == []


def test_parts_move_without_javascript(client: FlaskClient, database: Database) -> None:
    moved = send(client, action="up-posts", sv__note="Kvar")
    assert re.findall(r'name="part" value="(\w+)"', moved.text) == [
        *("opening", "posts", "headlines", "authors", "closing"),
    ]
    assert 'value="1" data-preview-now checked' in moved.text
    assert "Kvar" in moved.text
    assert designs_of(database) == []
    assert "data-dirty" in moved.text


def test_whoever_comes_second_is_told_and_loses_nothing(
    client: FlaskClient, database: Database
) -> None:
    send(client)
    late = send(client, sv__note="Mitt")
    assert late.status_code == 409
    assert "Någon annan har sparat version 1" in late.text
    assert "Mitt" in late.text
    assert 'name="based_on" value="1"' in late.text
    assert len(designs_of(database)) == 1


def test_a_viewer_looks_and_changes_nothing(app: Flask, labbet: Newsletter) -> None:
    viewer = as_editor(app, Role.VIEWER, labbet)
    page = viewer.get(PAGE).text
    assert "En redaktör kan ändra det" in page
    assert "based_on" not in page
    assert viewer.get(PAGE + "preview").status_code == 200
    for path in ("", "preview", "versions/1/restore"):
        assert send(viewer, path).status_code == 403


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_logo_is_written_anew_and_kept_once(
    database: Database, labbet: Newsletter, kind: str
) -> None:
    hidden = b"<script>alert(1)</script>"
    made = logos.prepare(picture(kind, (900, 500)).read() + hidden)
    assert hidden not in made.data
    assert (made.kind, made.width, made.height) == (
        "jpg" if kind == "JPEG" else "png",
        259,
        144,
    )
    assert made.shown().height == 72
    with pytest.raises(InvalidInput, match="900 kB"):
        logos.prepare(b"x" * 900_001)
    with database.transaction() as session:
        first = logos.store(session, labbet, made)
        assert logos.store(session, labbet, made) is first
    with database.reading() as session:
        assert len(session.scalars(select(Logo)).all()) == 1
