"""Subscribers: counted, searched, added, explained, stopped, handed over, erased."""

import html
import json
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import (
    AuditEntry,
    Consent,
    Delivery,
    Message,
    Newsletter,
    Role,
    Status,
    Subscriber,
    Subscription,
    Suppression,
    Wording,
)
from newsletter.subscribers import (
    addresses,
    consent,
    directory,
    reckonings,
    suppression,
)
from newsletter.subscribers.consent import Origin
from tests.factories import NOW, make_newsletter, make_subscription
from tests.web.at_work import as_editor, csrf_token

LIST = "/editor/labbet/subscribers/"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, "labbet")


@pytest.fixture
def client(app: Flask, labbet: Newsletter) -> FlaskClient:
    return as_editor(app, Role.OWNER, labbet)


def add(
    database: Database,
    settings: Settings,
    labbet: Newsletter,
    email: str,
    status: Status,
) -> int:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        reader = make_subscription(session, here, email, status=status)
        reader.subscriber.address_hash = addresses.address_hash(settings, email)
        origin = Origin(
            "https://labbet.example/", "192.0.2.44", "Ja, tack.\nVarje vecka."
        )
        consent.record(session, reader, consent.CONFIRMED, origin, now=NOW)
        return reader.id


@pytest.fixture
def reader_id(database: Database, settings: Settings, labbet: Newsletter) -> int:
    return add(database, settings, labbet, "anna@exempel.example", Status.ACTIVE)


def test_an_empty_list_tells_the_first_step(client: FlaskClient) -> None:
    page = client.get(LIST).text
    assert "Ingen prenumererar än" in page
    assert 'href="/labbet/"' in page


def test_states_are_counted_and_chosen(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    add(database, settings, labbet, "a@exempel.example", Status.ACTIVE)
    add(database, settings, labbet, "b@exempel.example", Status.ACTIVE)
    add(database, settings, labbet, "c@exempel.example", Status.LEFT)
    page = client.get(LIST).text
    assert re.search(r"<b>3</b> Alla", page)
    assert re.search(r"<b>2</b> Aktiv", page)
    left = client.get(f"{LIST}?status=left").text
    assert "c@exempel.example" in left
    assert "a@exempel.example" not in left
    assert client.get(f"{LIST}?status=nonsense").status_code == 200


def test_a_part_of_an_address_finds_it(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    add(database, settings, labbet, "anna.kanervo@exempel.example", Status.ACTIVE)
    add(database, settings, labbet, "martin@exempel.example", Status.ACTIVE)
    page = client.get(f"{LIST}?q=KANERVO").text
    assert "anna.kanervo@exempel.example" in page
    assert "martin@" not in page
    assert "innehåller ”100%_”" in client.get(f"{LIST}?q=100%25_").text


def test_a_long_list_is_paged(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        for number in range(120):
            make_subscription(session, here, f"a{number:03}@exempel.example")
    seen: list[str] = []
    path = LIST
    for _ in range(3):
        page = client.get(path).text
        seen += re.findall(r">(a\d{3}@exempel\.example)<", page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert not path
    assert seen == [f"a{number:03}@exempel.example" for number in reversed(range(120))]


def test_a_filter_is_kept_in_the_address_and_on_the_way_back(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        here.languages = ["sv", "en"]
        make_subscription(session, here, "anna@exempel.example", language="en")
        make_subscription(session, here, "bo@exempel.example")
    answer = client.get(f"{LIST}?pick=1&q=exempel&languages=en&since=&span=")
    assert answer.location == f"{LIST}?q=exempel&segment=language:en"
    page = client.get(answer.location).text
    assert "anna@" in page
    assert "bo@" not in page
    assert 'value="en" checked' in page
    reader = re.search(r'class="plain" href="([^"]+)"', page)
    assert reader
    back = re.search(
        r'class="crumbs"><a href="([^"]+)"', client.get(html.unescape(reader[1])).text
    )
    assert back
    assert html.unescape(back[1]) == answer.location
    # What the form's fields cannot say is said as text.
    page = client.get(f"{LIST}?segment=-language:en").text
    assert "bo@" in page
    assert "anna@" not in page
    assert 'name="languages"' not in page
    # What makes no sense is shown where it stands; nothing becomes markup.
    page = client.get(f"{LIST}?segment=language:en+topic:<b>+since:2026-01-01").text
    assert "language:en <mark>topic:&lt;b&gt;</mark> since:2026-01-01" in page
    assert "anna@" not in page
    for odd in (
        "after=x",
        "after=²",
        f"after={2**70}",
        "pick=1&since=x",
    ):
        answer = client.get(f"{LIST}?{odd}", follow_redirects=True)
        assert answer.status_code == 200, odd


def test_a_list_says_how_far_it_looked_and_when_it_counted(
    client: FlaskClient,
    database: Database,
    labbet: Newsletter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory, "FEW", 0)
    monkeypatch.setattr(reckonings, "MANY", 1)
    monkeypatch.setattr(directory, "STEPS", (1, 1))
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        for name in ("anna", "bo", "cia"):
            make_subscription(session, here, f"{name}@exempel.example", created_at=NOW)
        counted = reckonings.count(session, here, now=NOW)
        reckonings.store(session, here.id, counted, now=NOW)
    page = client.get(f"{LIST}?q=na").text
    assert "Räknat 22 november 2026" in page
    assert "dem som kommit sedan 22 november 2026" in page
    further = re.search(r'data-further href="([^"]+)"', page)
    assert further
    assert "anna@" in client.get(html.unescape(further[1])).text


def test_someone_added_by_hand_confirms_like_everybody(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    path = f"{LIST}add"
    token = csrf_token(client, path)
    data = {"email": "ny@exempel.se", "source": "Listan på mötet", "csrf_token": token}
    data["asked_on"] = "2026-05-12"
    assert client.post(path, data=data).location == LIST
    with database.reading() as session:
        found = session.scalars(select(Subscription)).one()
        assert found.status is Status.PENDING
        step = session.scalars(select(Consent)).one()
        assert step.event == "requested"
        wording = session.get_one(Wording, step.wording_id).text
        assert wording == (
            "Tillagd av owner@redaktion.example, som skrev: Listan på mötet"
            " (2026-05-12)"
        )
        kinds = session.scalars(select(Message.kind)).all()
    assert kinds == ["confirm"]


def test_adding_asks_how_they_asked(client: FlaskClient, database: Database) -> None:
    path = f"{LIST}add"
    data = {
        "email": "ny@exempel.se",
        "source": " ",
        "csrf_token": csrf_token(client, path),
    }
    answer = client.post(path, data=data)
    assert answer.status_code == 400
    assert 'id="source-error"' in answer.text
    assert 'value="ny@exempel.se"' in answer.text
    wrong = client.post(path, data={**data, "source": "möte", "asked_on": "2999-01-01"})
    assert wrong.status_code == 400
    assert 'id="asked_on-error"' in wrong.text
    wrong = client.post(path, data={**data, "source": "möte", "email": "nix"})
    assert wrong.status_code == 400
    assert 'id="email-error"' in wrong.text
    with database.reading() as session:
        assert session.scalars(select(Subscription)).all() == []


def test_the_file_of_all_has_no_formulas(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    reader = add(database, settings, labbet, "=cmd@exempel.example", Status.ACTIVE)
    with database.transaction() as session:
        session.get_one(Subscription, reader).subscriber.name = "@SUM(A1)"
    token = csrf_token(client, LIST)
    answer = client.post(f"{LIST}export", data={"csrf_token": token})
    assert answer.mimetype == "text/csv"
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "'=cmd@exempel.example,'@SUM(A1)" in answer.text


def test_what_the_list_shows_is_downloaded_whole(
    app: Flask,
    client: FlaskClient,
    database: Database,
    settings: Settings,
    labbet: Newsletter,
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        for number in range(205):  # more than a page of it
            email = f"+{number}@filter.example"
            make_subscription(session, here, email, language="en")
        make_subscription(session, here, "bo@annan.example", language="en")
    query = "q=filter&segment=language:en&status=active"
    page = client.get(f"{LIST}?{query}").text
    form = re.search(r'class="download" method="post" action="([^"]+)"', page)
    assert form
    token = csrf_token(client, LIST)
    answer = client.post(html.unescape(form[1]), data={"csrf_token": token})
    lines = answer.text.splitlines()
    assert len(lines) == 206
    assert all(line.startswith("'+") for line in lines[1:])
    assert "bo@annan" not in answer.text
    only = client.post(f"{LIST}export/found?status=pending", data={"csrf_token": token})
    assert "filter.example" not in only.text
    wrong = f"{LIST}export/found?segment=x:y"
    assert client.post(wrong, data={"csrf_token": token}).status_code == 400
    with database.reading() as session:
        told = session.scalars(
            select(AuditEntry).where(AuditEntry.what == "exported")
        ).all()
        assert told[0].after["segment"] == "language:en"
        assert "filter" not in str([one.after for one in told])
    other = as_editor(app, Role.EDITOR)
    assert 'class="download"' not in other.get(f"{LIST}?{query}").text
    theirs = {"csrf_token": csrf_token(other)}
    assert other.post(html.unescape(form[1]), data=theirs).status_code == 403


def test_a_history_shows_consent_with_its_words(
    client: FlaskClient, reader_id: int
) -> None:
    page = client.get(f"{LIST}{reader_id}/").text
    assert "Bekräftade" in page
    assert "Ja, tack.\nVarje vecka." in page
    assert "192.0.2.0/24" in page
    assert "192.0.2.44" not in page


def stop(client: FlaskClient, reader_id: int, **data: str) -> None:
    path = f"{LIST}{reader_id}/"
    token = csrf_token(client, path)
    answer = client.post(f"{path}stop", data={"csrf_token": token, **data})
    assert answer.location == path


def test_mail_is_stopped_with_a_reason_and_let_go_again(
    client: FlaskClient, database: Database, reader_id: int
) -> None:
    path = f"{LIST}{reader_id}/"
    token = csrf_token(client, path)
    wrong = client.post(f"{path}stop", data={"csrf_token": token, "reason": "other"})
    assert wrong.status_code == 400
    assert 'id="words-error"' in wrong.text
    assert 'value="other" selected' in wrong.text
    nonsense = {"csrf_token": token, "reason": "<script>"}
    assert client.post(f"{path}stop", data=nonsense).status_code == 400
    stop(client, reader_id, reason="left", words="ringde <i>i dag</i>")
    page = client.get(path).text
    assert "Inga mejl går till adressen" in page
    assert "ringde &lt;i&gt;i dag&lt;/i&gt;" in page
    data = {"csrf_token": token}
    assert client.post(f"{path}lift", data=data).status_code == 400
    data["words"] = "Vill läsa igen"
    assert client.post(f"{path}lift?back=q%3Danna", data=data).location == (
        f"{path}?back=q%3Danna"
    )
    with database.reading() as session:
        assert session.scalars(select(Suppression)).all() == []
        # Mail may go there again, but nobody is made a reader without their word.
        assert session.get_one(Subscription, reader_id).status is Status.LEFT
    assert "Vill läsa igen" in client.get(path).text


def test_never_is_the_readers_own_to_take_back(
    client: FlaskClient, database: Database, reader_id: int
) -> None:
    with database.transaction() as session:
        found = session.get_one(Subscription, reader_id)
        suppression.suppress(
            session, found.subscriber.address_hash, reason="never", now=NOW
        )
    path = f"{LIST}{reader_id}/"
    assert 'name="words"' not in client.get(path).text
    data = {"csrf_token": csrf_token(client, path), "words": "ångrade sig"}
    assert client.post(f"{path}lift", data=data).status_code == 409
    with database.reading() as session:
        assert session.scalars(select(Suppression.reason)).all() == ["never"]


def test_notes_say_who_wrote_them(
    app: Flask, client: FlaskClient, labbet: Newsletter, reader_id: int
) -> None:
    path = f"{LIST}{reader_id}/"
    colleague = as_editor(app, Role.EDITOR, labbet)
    token, theirs = csrf_token(client, path), csrf_token(colleague, path)
    empty = client.post(f"{path}notes", data={"csrf_token": token, "note": " "})
    assert empty.status_code == 400
    assert 'id="note-error"' in empty.text
    client.post(f"{path}notes", data={"csrf_token": token, "note": "Skriv <b>Du</b>"})
    page = colleague.get(path).text
    assert "Skriv &lt;b&gt;Du&lt;/b&gt;" in page
    assert "owner@redaktion.example" in page
    assert "/notes/1/remove" not in page
    gone = f"{path}notes/1/remove"
    assert colleague.post(gone, data={"csrf_token": theirs}).status_code == 403
    assert client.post(gone, data={"csrf_token": token}).location == path
    assert "Skriv" not in client.get(path).text


def test_everything_known_is_handed_over(client: FlaskClient, reader_id: int) -> None:
    path = f"{LIST}{reader_id}/"
    answer = client.post(f"{path}data", data={"csrf_token": csrf_token(client, path)})
    facts = json.loads(answer.text)
    assert facts["email"] == "anna@exempel.example"
    assert facts["consents"][0]["event"] == "confirmed"
    assert "no-store" in answer.headers["Cache-Control"]


def test_an_owner_erases(
    client: FlaskClient, database: Database, reader_id: int
) -> None:
    path = f"{LIST}{reader_id}/erase"
    page = client.get(path)
    assert "anna@exempel.example" in page.text
    answer = client.post(path, data={"csrf_token": csrf_token(client, path)})
    assert answer.location == LIST
    with database.reading() as session:
        assert session.scalars(select(Subscriber)).all() == []
        assert session.scalars(select(Delivery)).all() == []
        assert session.scalars(select(Suppression.reason)).all() == ["erased"]
    assert client.get(f"{LIST}{reader_id}/").status_code == 404


def test_an_editor_does_not_erase_or_take_all_out(
    app: Flask, labbet: Newsletter, reader_id: int
) -> None:
    client = as_editor(app, Role.EDITOR, labbet)
    page = client.get(f"{LIST}{reader_id}/").text
    assert "Radera …" not in page
    token = csrf_token(client)
    for path in (f"{LIST}{reader_id}/erase", f"{LIST}export"):
        assert client.post(path, data={"csrf_token": token}).status_code == 403


@pytest.mark.parametrize("number", [0, 10**6, 2**31, 2**64])
def test_a_reader_who_is_not_there(client: FlaskClient, number: int) -> None:
    assert client.get(f"{LIST}{number}/").status_code == 404
