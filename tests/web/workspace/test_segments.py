"""Saved segments: kept from the list, counted, chosen for letters, removed and back."""

import html
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Issue, Role, SavedSegment
from tests.factories import NOW, make_newsletter, make_subscription
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import post

SEGMENTS = "/editor/labbet/segments/"
LIST = "/editor/labbet/subscribers/"


@pytest.fixture
def editor(app: Flask, database: Database) -> FlaskClient:
    with database.transaction() as session:
        labbet = make_newsletter(session)
        make_subscription(session, labbet, "anna@exempel.example", language="en")
        make_subscription(session, labbet, "bo@exempel.example")
    return as_editor(app, Role.EDITOR)


def test_a_filter_gets_a_name_and_a_count(
    editor: FlaskClient, database: Database, settings: Settings
) -> None:
    assert "Inget segment har ett namn än" in editor.get(SEGMENTS).text
    page = editor.get(f"{LIST}?segment=language:en").text
    link = re.search(r'href="([^"]+)#new-title"', page)
    assert link
    assert 'value="language:en"' in editor.get(html.unescape(link[1])).text
    data = {"name": "På <engelska>", "segment": "language:en"}
    assert post(editor, SEGMENTS, data).location == SEGMENTS
    page = editor.get(SEGMENTS).text
    assert "På &lt;engelska&gt;" in page
    assert "1 aktiv läsare" in page
    assert "På &lt;engelska&gt;" in editor.get(LIST).text
    again = post(editor, SEGMENTS, data)
    assert again.status_code == 400
    assert 'id="name-new-error"' in again.text
    wrong = post(editor, f"{SEGMENTS}1/", {"name": "Ny", "segment": "language:en x:y"})
    assert wrong.status_code == 400
    assert "language:en <mark>x:y</mark>" in wrong.text
    changed = {"name": "Svenska", "segment": "-language:en"}
    assert post(editor, f"{SEGMENTS}1/", changed).location == SEGMENTS
    with database.transaction() as session:
        labbet = session.scalars(select(SavedSegment)).one()
        assert (labbet.name, labbet.readers) == ("Svenska", 1)
        labbet.readers = None
    assert "count-segments" in jobs.tick(database, settings, now=NOW)
    with database.reading() as session:
        assert session.scalars(select(SavedSegment.readers)).one() == 1
    assert post(editor, f"{SEGMENTS}1/count", {}).location == SEGMENTS
    back = post(editor, f"{SEGMENTS}1/remove", {}).location
    page = editor.get(back).text
    assert "”Svenska” är borttaget." in page
    assert post(editor, f"{SEGMENTS}1/remove", {}).status_code == 404


def test_a_letter_takes_over_a_segments_conditions(
    editor: FlaskClient, database: Database
) -> None:
    post(editor, SEGMENTS, {"name": "Engelska", "segment": "language:en"})
    path = post(editor, "/editor/labbet/letters/new", {}).location
    page = editor.get(path).text
    assert '<option value="language:en"' in page
    fingerprint = re.search(r'name="fingerprint" value="([^"]*)"', page)
    assert fingerprint
    data = {"subject": "Hej", "who": "saved", "saved": "language:en"}
    post(editor, path, {**data, "fingerprint": fingerprint[1]})
    post(editor, f"{SEGMENTS}1/remove", {})
    with database.reading() as session:
        assert session.scalars(select(Issue.segment)).all() == ["language:en"]
