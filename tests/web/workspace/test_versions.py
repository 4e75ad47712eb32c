"""Two editors in one draft, autosave, versions: on the wire, without a browser."""

import re
import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from newsletter.db import Database, utcnow
from newsletter.digests import letters
from newsletter.models import Issue, IssueState, Role
from tests.web.at_work import as_editor, csrf_token
from tests.web.workspace.compose_world import form_of, make_draft, post, state_of

ISSUES = "/editor/labbet/issues/"


@pytest.fixture
def issue_id(database: Database) -> int:
    return make_draft(database)


@pytest.fixture
def anna(app: Flask, issue_id: int) -> FlaskClient:
    return as_editor(app, Role.EDITOR, email="anna@redaktion.example")


@pytest.fixture
def bo(app: Flask, issue_id: int) -> FlaskClient:
    return as_editor(app, Role.EDITOR, email="bo@redaktion.example")


def shown(client: FlaskClient, path: str) -> dict[str, str]:
    """Return what the form on a page was shown, as it sends it back."""
    return hidden(client.get(path).text)


def hidden(page: str) -> dict[str, str]:
    names = ("fingerprint", "version", "sitting")
    found = {n: re.search(rf'name="{n}" value="([^"]*)"', page) for n in names}
    return {name: match[1] for name, match in found.items() if match}


def stored(database: Database, issue_id: int) -> Issue:
    with database.reading() as session:
        return session.get_one(Issue, issue_id)


def test_words_save_themselves_and_tell_the_page_what_it_now_shows(
    anna: FlaskClient, database: Database, issue_id: int
) -> None:
    page = f"{ISSUES}{issue_id}/"
    form = {**form_of(database, issue_id), **shown(anna, page), "add": "1"}
    for opening in ("Hej", "Hej på er"):
        answer = post(anna, f"{page}autosave", {**form, "opening": opening})
        assert answer.status_code == 200
        said = answer.get_json()
        assert said["said"].startswith("Sparat ")
        form |= {n: str(said[n]) for n in ("fingerprint", "version")}
    assert stored(database, issue_id).opening == "Hej på er"
    assert hidden(anna.get(page).text)["fingerprint"] == form["fingerprint"]
    assert anna.get(f"{page}saved").get_json()["fingerprint"] == form["fingerprint"]

    long = post(anna, f"{page}autosave", {**form, "subject": "å" * 250})
    assert long.status_code == 400
    assert "250 tecken" in long.get_json()["error"]
    # The button saves over what the same page saved, whichever it was told of.
    late = {**form_of(database, issue_id), **form, "opening": "Sist", "version": "0"}
    late["fingerprint"] = "som inte kom fram"
    assert post(anna, page, late).status_code == 302
    assert stored(database, issue_id).opening == "Sist"


def test_different_fields_are_joined_and_the_same_are_both_kept(
    anna: FlaskClient, bo: FlaskClient, database: Database, issue_id: int
) -> None:
    page = f"{ISSUES}{issue_id}/"
    start = form_of(database, issue_id)
    annas = {**start, **shown(anna, page)}
    bos = {**start, **shown(bo, page)}
    post(bo, page, {**bos, "subject": "Bos ämne"})

    joined = post(anna, f"{page}autosave", {**annas, "opening": "Annas"}).get_json()
    assert joined["fields"] == {"subject": "Bos ämne"}
    assert "bo@redaktion.example" in joined["told"]
    issue = stored(database, issue_id)
    assert (issue.subject, issue.opening) == ("Bos ämne", "Annas")

    # Bo's page still shows what it showed; both have now changed the opening.
    clash = {**bos, "subject": "Bos ämne", "opening": "Bos"}
    told = post(bo, f"{page}autosave", clash)
    assert told.status_code == 409
    assert "anna@redaktion.example" in told.get_json()["conflict"]
    answer = post(bo, page, clash)
    assert answer.status_code == 409
    assert "Skrivet av anna@redaktion.example" in answer.text
    assert ">Annas</blockquote>" in answer.text
    assert ">Bos</textarea>" in answer.text
    assert stored(database, issue_id).opening == "Annas"
    # Closing the window loses nothing: it is among the versions, and told of.
    again = bo.get(page).text
    link = re.search(rf'href="({page}versions/\d+/)"', again)
    assert link
    version = bo.get(link[1]).text
    assert ">Bos</span>" in version
    assert ">Annas</span>" in version
    assert "finns inte i utkastet" not in anna.get(page).text
    # Choosing is saving what the page shows now.
    assert post(bo, page, {**clash, **hidden(answer.text)}).status_code == 302
    assert stored(database, issue_id).opening == "Bos"
    listed = bo.get(f"{page}versions/").text
    assert "undanlagt, inte i utkastet" in listed
    assert listed.count("anna@redaktion.example") == 1


def test_who_moved_posts_while_another_did_sees_both_orders(
    anna: FlaskClient, bo: FlaskClient, database: Database, issue_id: int
) -> None:
    page = f"{ISSUES}{issue_id}/"
    start = form_of(database, issue_id)
    one, two, three = start["post"]
    annas = {**start, **shown(anna, page), "post": [three, one, two]}
    post(bo, page, {**start, **shown(bo, page), "post": [two, one, three]})
    assert post(anna, f"{page}autosave", annas).status_code == 409
    answer = post(anna, page, annas).text
    assert f'data-use-order="{two} {one} {three}"' in answer
    assert answer.index(f'id="post-{three}"') < answer.index(f'id="post-{one}"')
    # Where only Bo moved them, Anna's other words do not undo it.
    del annas["post"]
    mine = {**start, **hidden(anna.get(page).text), "opening": "Hej"}
    mine["fingerprint"] = "gammalt"
    mine["version"] = "1"
    assert post(anna, page, mine).status_code == 302
    with database.reading() as session:
        entries = session.get_one(Issue, issue_id).posts
        assert [str(entry.post_id) for entry in entries] == [two, one, three]


def test_half_a_sentence_does_not_go_out_with_a_scheduled_issue(
    anna: FlaskClient, database: Database, issue_id: int
) -> None:
    page = f"{ISSUES}{issue_id}/"
    with database.transaction() as session:
        issue = session.get_one(Issue, issue_id)
        issue.state, issue.scheduled_at = IssueState.SCHEDULED, utcnow()
    form = {**form_of(database, issue_id), **shown(anna, page), "opening": "Halva m"}
    said = post(anna, f"{page}autosave", form)
    assert said.status_code == 200
    assert "tryck på Spara" in said.get_json()["kept"]
    assert stored(database, issue_id).opening == ""
    assert "inte i utkastet" in anna.get(page).text
    assert post(anna, page, form).status_code == 302
    assert stored(database, issue_id).opening == "Halva m"
    assert state_of(database, issue_id) is IssueState.SCHEDULED
    assert "inte i utkastet" not in anna.get(page).text


def test_a_version_is_looked_at_and_put_back(
    anna: FlaskClient, app: Flask, database: Database, issue_id: int
) -> None:
    page = f"{ISSUES}{issue_id}/"
    for opening in ("Första <b>utkastet</b>", "Andra"):
        post(anna, page, form_of(database, issue_id, opening=opening))
    viewer = as_editor(app, Role.VIEWER)
    version = viewer.get(f"{page}versions/2/").text
    assert "Första &lt;b&gt;utkastet&lt;/b&gt;" in version
    assert "Gå tillbaka" not in version
    mail = viewer.get(f"{page}versions/2/mail")
    assert "Första" in mail.text
    assert "sandbox" in mail.headers["Content-Security-Policy"]
    assert viewer.get(f"{page}versions/77/").status_code == 404
    answer = post(anna, f"{page}versions/2/restore", {})
    assert answer.location == f"{page}?edit=1"
    assert stored(database, issue_id).opening == "Första <b>utkastet</b>"
    assert "som version 2" in anna.get(f"{page}versions/").text


def test_a_letter_is_saved_met_and_put_back_the_same_way(
    anna: FlaskClient, bo: FlaskClient, database: Database, issue_id: int
) -> None:
    with database.transaction() as session:
        labbet = session.get_one(Issue, issue_id).newsletter
        letter = letters.write(session, labbet, subject="Vi flyttar", now=utcnow()).id
    page = f"/editor/labbet/letters/{letter}/"
    start = {"subject": "Vi flyttar", "who": "all", "preview_text": ""}
    annas, bos = ({**start, **shown(c, page), "opening": ""} for c in (anna, bo))
    post(bo, page, {**bos, "opening": "Bos", "who": "typed", "segment": "language:sv"})
    # Whom it is for cannot change in a page that is open: it is to be looked at.
    assert post(anna, f"{page}autosave", {**annas, "subject": "X"}).status_code == 409
    assert post(anna, page, {**annas, "subject": "X"}).status_code == 302
    issue = stored(database, letter)
    assert (issue.subject, issue.opening, issue.segment) == ("X", "Bos", "language:sv")
    clash = post(anna, page, {**annas, "opening": "Annas"})
    assert clash.status_code == 409
    assert ">Bos</blockquote>" in clash.text
    assert "Vi flyttar" in anna.get(f"{ISSUES}{letter}/versions/1/mail").text
    back = post(anna, f"{ISSUES}{letter}/versions/1/restore", {})
    assert back.location == page
    assert stored(database, letter).segment == ""


def test_of_two_who_save_at_the_same_instant_one_is_told(
    app: Flask, anna: FlaskClient, bo: FlaskClient, database: Database, issue_id: int
) -> None:
    form = form_of(database, issue_id)
    tokens = [csrf_token(client) for client in (anna, bo)]
    start = threading.Barrier(2)
    answers: list[TestResponse] = []

    def save(client: FlaskClient, opening: str, token: str) -> None:
        data: dict[str, Any] = {**form, "opening": opening, "csrf_token": token}
        start.wait()
        answers.append(client.post(f"{ISSUES}{issue_id}/", data=data))

    threads = [
        threading.Thread(target=save, args=(client, opening, token))
        for client, opening, token in zip(
            (anna, bo), ("Annas", "Bos"), tokens, strict=True
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [302, 409]
    told = next(answer.text for answer in answers if answer.status_code == 409)
    assert {"Annas</", "Bos</"} == {w for w in ("Annas</", "Bos</") if w in told}
