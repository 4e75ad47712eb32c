"""The settings of a newsletter, its people."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter import editors
from newsletter.db import Database
from newsletter.mail import mime
from newsletter.models import Editor, Membership, Message, Newsletter, Role
from newsletter.web.security import SETTINGS
from tests.factories import NOW, make_newsletter
from tests.web.at_work import as_editor, csrf_token

PAGE = "/editor/labbet/settings/"
PEOPLE = "/editor/labbet/settings/people/"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, "labbet")


@pytest.fixture
def client(app: Flask, labbet: Newsletter) -> FlaskClient:
    return as_editor(app, Role.OWNER, labbet)


def filled(client: FlaskClient, **over: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "csrf_token": csrf_token(client, PAGE),
        "title": "Labbet",
        "tagline": "Vi prövar nytt.",
        "from_name": "Innovationslabbet",
        "from_email": "labbet@allmannyttan.example",
        "reply_to": "",
        "publisher": "Sveriges Allmännytta",
        "about": "Bransch- och intresseorganisation.",
        "postal_address": "Box 474\n101 29 Stockholm",
        "phone": "08-406 55 00",
        "contact_email": "",
        "website": "https://www.sverigesallmannytta.se",
        "privacy": "",
        "accent": "#1a4f8b",
        "language": "sv",
        "languages": ["sv", "en"],
        "timezone": "Europe/Helsinki",
        "posts_on_page": "12",
        "undo_seconds": "45",
        "record_network": "1",
        "social_name": ["Instagram", ""],
        "social_url": ["https://instagram.example/a", ""],
    }
    return {**values, **over}


def test_what_is_typed_is_checked_and_not_saved(
    app: Flask, client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.reading() as session:
        before = session.get_one(Newsletter, labbet.id).from_name
    typed = filled(client, from_name="Nytt <namn>", from_email="ny@brev.example")
    for query in ("", "?part=1"):
        answer = client.post(f"{PAGE}check{query}", data=typed)
        assert answer.status_code == 200
        assert ("<form" in answer.text) == (not query)
        assert "Nytt &lt;namn&gt;" in answer.text
        assert "A made-up domain" in answer.text or "påhittad" in answer.text
        for relay in app.extensions[SETTINGS].relays:
            assert relay.name in answer.text
    with database.reading() as session:
        assert session.get_one(Newsletter, labbet.id).from_name == before
    viewer = as_editor(app, Role.EDITOR, labbet, "redaktor@labbet.example")
    assert viewer.post(f"{PAGE}check", data=typed).status_code in {400, 403}


def test_each_fault_is_told_as_typed_at_its_field(
    client: FlaskClient, database: Database
) -> None:
    where = f"{PAGE}check?part=fields"
    part = client.post(where, data=filled(client)).text
    assert "data-fault" not in part
    assert "Sveriges Allmännytta, Box 474, 101 29 Stockholm" in part
    wrong = {
        "title": "",
        "reply_to": "nix",
        "website": "javascript:alert(1)",
        "undo_seconds": "x",
        "accent": "röd",
        "postal_address": " ",
    }
    part = client.post(where, data=filled(client, **wrong)).text
    faults = set(re.findall(r'data-fault="(\w+)"', part))
    assert faults == set(wrong) - {"postal_address"}
    assert "går inget utskick att skicka" in part
    assert stored(database).title != "Labbet"


def stored(database: Database) -> Newsletter:
    with database.reading() as session:
        return session.scalars(select(Newsletter)).one()


def test_everything_is_saved(client: FlaskClient, database: Database) -> None:
    assert client.post(PAGE, data=filled(client)).location == PAGE
    found = stored(database)
    assert (found.title, found.accent, found.posts_on_page) == ("Labbet", "#1a4f8b", 12)
    assert found.undo_seconds == 45
    assert not found.count_clicks  # off unless it is asked for
    assert found.timezone == "Europe/Helsinki"
    assert (found.record_network, found.public_archive) == (True, False)
    assert found.social == [{"name": "Instagram", "url": "https://instagram.example/a"}]
    page = client.get(PAGE).text
    assert "Inställningarna är sparade." in page
    assert 'value="https://instagram.example/a"' in page
    client.post(PAGE, data=filled(client, count_clicks="1"))
    assert stored(database).count_clicks


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", "x" * 300),
        ("from_email", "ingen adress"),
        ("from_email", "a@b.se\r\nBcc: c@d.se"),
        ("reply_to", "nix"),
        ("website", "javascript:alert(1)"),
        ("accent", "röd"),
        ("accent", "#12345g"),
        ("timezone", "Mars/Olympus"),
        ("language", "tlh"),
        ("languages", ["sv", "tlh"]),
        ("posts_on_page", "0"),
        ("undo_seconds", "121"),
        ("posts_on_page", "många"),
        ("posts_on_page", "99999999"),
        ("social_url", ["javascript:alert(1)", ""]),
    ],
)
def test_what_cannot_be_is_refused_and_what_was_typed_is_kept(
    client: FlaskClient, database: Database, field: str, value: Any
) -> None:
    before = stored(database).title
    answer = client.post(PAGE, data=filled(client, **{field: value, "about": "Kvar!"}))
    assert answer.status_code == 400, answer.text
    assert "Inget är sparat än." in answer.text
    assert "Kvar!" in answer.text
    name = "social" if field.startswith("social") else field
    assert f'id="{name}-error"' in answer.text
    assert stored(database).title == before


def test_the_colour_is_drawn_while_it_is_chosen(client: FlaskClient) -> None:
    sample = client.get(f"{PAGE}accent?accent=%23ffee00").text
    assert "Läsarna ser" in sample
    fills = re.findall(r'fill="(#[0-9a-f]{6})"', sample)
    assert "#ffee00" not in fills[2:4], "too light to read on paper: made darker"
    assert client.get(f"{PAGE}accent?accent=<script>").status_code == 200


def invite(client: FlaskClient, email: str, role: str = "editor") -> int:
    data = {"email": email, "role": role, "csrf_token": csrf_token(client, PEOPLE)}
    return client.post(PEOPLE, data=data).status_code


def mailed(database: Database) -> list[str]:
    with database.reading() as session:
        messages = session.scalars(select(Message).order_by(Message.id)).all()
    parts = [b"".join(mime.Frozen.unpack(m.frozen).segments) for m in messages]
    return [part.replace(b"=\r\n", b"").decode() for part in parts]


def test_an_invitation_goes_to_the_address_alone(
    client: FlaskClient, database: Database, app: Flask
) -> None:
    assert invite(client, "ny@redaktion.example") == 302
    page = client.get(PEOPLE).text
    assert "ny@redaktion.example" in page
    assert "Inbjuden, har inte loggat in än" in page
    assert "/editor/invite/" not in page, "who invites does not get the key"
    mail = mailed(database)[0]
    link = re.search(r"http://localhost(/editor/invite/[\w.-]+)", mail)
    assert link
    person = app.test_client()
    answer = person.post(link[1], data={"csrf_token": csrf_token(person, link[1])})
    assert answer.location == "/editor/"
    assert person.get("/editor/labbet/posts/").status_code == 200
    assert person.get(PAGE).status_code == 403


def test_someone_who_is_here_already_gets_no_key(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        boss = editors.add(session, "chef@redaktion.example", Role.OWNER, now=NOW)
        boss.confirmed_at = NOW
    assert invite(client, "chef@redaktion.example", "viewer") == 302
    assert "/editor/invite/" not in mailed(database)[0]
    with database.reading() as session:
        found = session.scalars(
            select(Editor).where(Editor.email == "chef@redaktion.example")
        ).one()
    assert found.invite_nonce == ""


@pytest.mark.parametrize(
    ("email", "role"), [("nix", "editor"), ("a@b.example", "boss"), ("", "")]
)
def test_an_invitation_needs_an_address_and_a_role(
    client: FlaskClient, database: Database, email: str, role: str
) -> None:
    assert invite(client, email, role) == 400
    assert mailed(database) == []


def test_a_role_is_changed_and_taken_away(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        editor = editors.add(session, "b@redaktion.example", Role.VIEWER, here, now=NOW)
        number = editor.roles[0].id
    token = csrf_token(client, PEOPLE)
    data = {"role": "editor", "csrf_token": token}
    assert client.post(f"{PEOPLE}{number}/role", data=data).location == PEOPLE
    with database.reading() as session:
        assert session.get_one(Membership, number).name is Role.EDITOR
    client.post(f"{PEOPLE}{number}/remove", data=data)
    with database.reading() as session:
        assert session.get(Membership, number) is None


def test_the_last_owner_cannot_leave(client: FlaskClient, database: Database) -> None:
    with database.reading() as session:
        number = session.scalars(select(Membership.id)).one()
    token = csrf_token(client, PEOPLE)
    answer = client.post(f"{PEOPLE}{number}/remove", data={"csrf_token": token})
    assert answer.status_code == 409
    assert "behöver en ägare" in answer.text
