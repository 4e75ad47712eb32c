"""The relay of a newsletter: tried, used, gone back from; its password never shown."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.db import Database, utcnow
from newsletter.errors import RelayError
from newsletter.mail import relays
from newsletter.mail.relays import Health
from newsletter.models import (
    AuditEntry,
    Message,
    Newsletter,
    NewsletterRelay,
    Role,
    Undo,
)
from newsletter.web.security import SETTINGS
from tests.factories import make_newsletter
from tests.smtp_server import SmtpServer
from tests.web.at_work import as_editor, csrf_token

PAGE = "/editor/labbet/settings/relay"


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer(login=("lab", "hemligt-ord")) as server:
        yield server


@pytest.fixture
def open_app(app: Flask) -> Iterator[Flask]:
    """The application, where this host may be named."""
    before = app.extensions[SETTINGS]
    app.extensions[SETTINGS] = replace(before, relay_allow=("127.0.0.1",))
    yield app
    app.extensions[SETTINGS] = before


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, "labbet")


@pytest.fixture
def client(open_app: Flask, labbet: Newsletter) -> FlaskClient:
    return as_editor(open_app, Role.OWNER, labbet)


def filled(client: FlaskClient, server: SmtpServer, **over: Any) -> dict[str, Any]:
    return {
        "csrf_token": csrf_token(client, PAGE),
        "host": "127.0.0.1",
        "port": str(server.port),
        "security": "plain",
        "user": "lab",
        "password": "hemligt-ord",
        "connections": "3",
        "rate_per_second": "2,5",
        "per_day": "",
        "warmup_first": "",
        "warmup_from": "",
        **over,
    }


def kept(database: Database) -> NewsletterRelay | None:
    with database.reading() as session:
        return session.scalars(select(NewsletterRelay)).one_or_none()


def test_a_relay_is_tried_used_changed_and_left_again(
    client: FlaskClient, database: Database, server: SmtpServer
) -> None:
    assert "installationens" in client.get(PAGE).text
    for password, said in (("fel", "535 5.7.8 Wrong"), ("hemligt-ord", "Den svarar")):
        typed = filled(client, server, password=password)
        for query in ("", "?part=1"):
            answer = client.post(f"{PAGE}/try{query}", data=typed)
            assert answer.status_code == 200
            assert said in answer.text
            assert ("<form" in answer.text) == (not query)
            assert password not in answer.text
    assert kept(database) is None

    refused = client.post(PAGE, data=filled(client, server, password="fel"))
    assert refused.status_code == 400
    assert 'name="anyway"' in refused.text
    assert 'value="2,5"' in refused.text
    assert kept(database) is None

    assert client.post(PAGE, data=filled(client, server)).location == PAGE
    row = kept(database)
    assert row
    assert (row.rate_per_second, row.connections, row.active) == (2.5, 3, True)
    page = client.get(PAGE).text
    assert f"127.0.0.1:{server.port}" in page
    assert "hemligt-ord" not in page

    # The password that is kept, for the same place; and for no other.
    limit = filled(client, server, password="", per_day="900")
    assert client.post(PAGE, data=limit).location == PAGE
    row = kept(database)
    assert row
    assert row.per_day == 900
    with SmtpServer(login=("lab", "x")) as stranger:
        elsewhere = filled(client, stranger, password="")
        for path in (f"{PAGE}/try?part=1", PAGE):
            assert "Skriv lösenordet." in client.post(path, data=elsewhere).text
        assert stranger.connections == 0

    token = {"csrf_token": csrf_token(client, PAGE)}
    for on in ("0", "1", "0"):
        answer = client.post(f"{PAGE}/switch", data={**token, "on": on})
        assert answer.location == PAGE
        row = kept(database)
        assert row
        assert row.active == (on == "1")
        check = client.post("/editor/labbet/settings/check?part=1", data=token).text
        assert (f"127.0.0.1:{server.port}" in check) == row.active
    assert client.post(f"{PAGE}/forget", data=token).location == PAGE
    assert kept(database) is None
    assert client.post(f"{PAGE}/forget", data=token).status_code == 404
    told = changes(database, 6)
    assert "hemligt-ord" not in told
    assert "127.0.0.1" in told
    assert server.count == 0


def test_what_was_forgotten_is_back_with_its_password_unless_there_is_another(
    client: FlaskClient, database: Database, server: SmtpServer
) -> None:
    plan = {"warmup_first": "50", "warmup_from": "2026-12-24", "spare": "1"}
    client.post(PAGE, data=filled(client, server, **plan))
    token = {"csrf_token": csrf_token(client, PAGE)}
    with database.reading() as session:
        before = session.execute(select(NewsletterRelay.__table__)).all()
    client.post(f"{PAGE}/forget", data=token)
    page = client.get(PAGE).text
    undo = re.search(r'action="(/editor/labbet/undo/\d+)"', page)
    assert undo
    with database.reading() as session:
        assert "hemligt-ord" not in page + str(session.scalars(select(Undo.data)).all())
    assert client.post(undo[1], data=token).location == PAGE
    assert "hemligt-ord" not in client.get(PAGE).text
    with database.reading() as session:
        assert session.execute(select(NewsletterRelay.__table__)).all() == before
    # It still opens the relay; and what was typed in meanwhile is not overwritten.
    again = filled(client, server, password="")
    assert "Den svarar" in client.post(f"{PAGE}/try", data=again).text
    client.post(f"{PAGE}/forget", data=token)
    undo = re.search(r'action="(/editor/labbet/undo/\d+)"', client.get(PAGE).text)
    assert undo
    client.post(PAGE, data=filled(client, server, per_day="7"))
    client.post(undo[1], data=token)
    assert "kan inte komma tillbaka" in client.get(PAGE).text
    row = kept(database)
    assert row
    assert row.per_day == 7
    assert "hemligt-ord" not in changes(database, 5)


def changes(database: Database, count: int) -> str:
    """Return all that the audit log tells of relays."""
    with database.reading() as session:
        entries = session.scalars(
            select(AuditEntry).where(AuditEntry.kind == "relay")
        ).all()
    assert len(entries) == count
    return "".join(f"{e.label} {e.before} {e.after}" for e in entries)


def test_what_cannot_be_is_said_at_its_field(
    client: FlaskClient, database: Database, server: SmtpServer
) -> None:
    for field, value in (
        ("host", "<script>"),
        ("port", "många"),
        ("rate_per_second", "nan"),
        ("connections", "500"),
        ("warmup_from", "i morgon"),
        ("security", "rot13"),
    ):
        answer = client.post(PAGE, data=filled(client, server, **{field: value}))
        assert answer.status_code == 400
        assert f'id="{field}-error"' in answer.text
        assert "<script>" not in answer.text.replace('<script src="', "")
        part = client.post(
            f"{PAGE}/try?part=1", data=filled(client, server, **{field: value})
        )
        assert part.status_code == 200
        told = client.post(
            f"{PAGE}/try?part=fields", data=filled(client, server, **{field: value})
        )
        assert f'data-fault="{field}"' in told.text
    seen = server.connections
    fine = client.post(f"{PAGE}/try?part=fields", data=filled(client, server)).text
    assert "data-fault" not in fine
    assert server.connections == seen
    assert kept(database) is None
    anyway = filled(client, server, password="fel", anyway="1")
    assert client.post(PAGE, data=anyway).location == PAGE
    assert kept(database)


def test_inside_hosts_are_closed_to_owners(
    app: Flask, database: Database, labbet: Newsletter, server: SmtpServer
) -> None:
    """Neither by number nor by name, and no other port tells what listens there."""
    client = as_editor(app, Role.OWNER, labbet)
    for host, port, security in (
        ("127.0.0.1", str(server.port), "plain"),
        ("127.0.0.1", "465", "tls"),
        ("localhost", "587", "starttls"),
        ("169.254.169.254", "25", "starttls"),
        ("::1", "465", "tls"),
    ):
        over = {"host": host, "port": port, "security": security}
        text = client.post(
            f"{PAGE}/try?part=1", data=filled(client, server, **over)
        ).text
        assert "NEWSLETTER_RELAY_ALLOW" in text or "465 eller 587" in text, host
    assert server.connections == 0
    assert 'value="plain"' not in client.get(PAGE).text


def test_only_its_own_owner_learns_of_a_relay(
    open_app: Flask, client: FlaskClient, database: Database, server: SmtpServer
) -> None:
    """Not its editors, nor others' owners; and their overviews say nothing of it."""
    assert client.post(PAGE, data=filled(client, server)).location == PAGE
    with database.transaction() as session:
        row = session.scalars(select(NewsletterRelay)).one()
        labbet = session.get_one(Newsletter, row.newsletter_id)
        other = make_newsletter(session, "annat")
        trouble = RelayError("535 5.7.8 Wrong")
        name = relays.own_name(row, labbet.slug)
        relays.report(session, Health(name, trouble, failures=9), now=utcnow())
    own = client.get("/editor/labbet/").text
    assert "535 5.7.8 Wrong" in own
    assert f'href="{PAGE}"' in own
    assert "535 5.7.8 Wrong" in client.get(PAGE).text
    editor = as_editor(open_app, Role.EDITOR, labbet, "e@labbet.example")
    assert editor.get(PAGE).status_code == 403
    stranger = as_editor(open_app, Role.OWNER, other, "o@annat.example")
    assert stranger.get(PAGE).status_code == 404
    token = {"csrf_token": csrf_token(stranger)}
    for path in ("", "/try", "/switch", "/forget"):
        assert stranger.post(f"{PAGE}{path}", data=token).status_code == 404
    assert "535 5.7.8" not in stranger.get("/editor/annat/").text


def test_a_new_password_for_an_account_avoids_the_relay(
    client: FlaskClient, open_app: Flask, database: Database, server: SmtpServer
) -> None:
    """Else who names a relay could read the link of an owner of all."""
    assert client.post(PAGE, data=filled(client, server)).location == PAGE
    as_editor(open_app, Role.OWNER, None, "alla@redaktion.example")
    asking = open_app.test_client()
    page = "/editor/login/forgotten"
    answer = asking.post(
        page,
        data={
            "csrf_token": csrf_token(asking, page),
            "email": "alla@redaktion.example",
        },
    )
    assert answer.status_code in {200, 302}
    with database.reading() as session:
        assert session.scalars(select(Message.newsletter_id)).all() == [None]
