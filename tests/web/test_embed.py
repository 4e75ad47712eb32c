"""The form on another site: who may frame it, what the script puts there."""

import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.db import Database
from newsletter.models import Status, Subscription
from tests.factories import make_newsletter


@pytest.fixture(autouse=True)
def labbet(database: Database) -> None:
    with database.transaction() as session:
        make_newsletter(session, title='Lab "bet" \u2028 </script>')


def test_any_page_may_frame_the_form_but_no_other_page_of_ours(
    client: FlaskClient,
) -> None:
    for path in ("/embed/labbet", "/embed/labbet/sent"):
        policy = client.get(path).headers["Content-Security-Policy"]
        assert "frame-ancestors *" in policy
        assert "script-src 'self';" in policy
    for path in ("/labbet/", "/labbet/sent/", "/editor/login", "/nowhere/"):
        policy = client.get(path).headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy


def test_the_framed_form_is_the_same_form(client: FlaskClient) -> None:
    page = client.get("/embed/labbet").text
    assert "Få nya inlägg i din inkorg</h1>" in page
    assert 'action="/labbet/subscribe?framed=1"' in page
    assert 'target="_blank" rel="noopener"' in page
    english = client.get("/embed/labbet?lang=en").text
    assert "Get new posts in your inbox</h1>" in english


def test_signing_up_stays_within_the_frame(
    client: FlaskClient, database: Database
) -> None:
    path = "/labbet/subscribe?framed=1"
    wrong = client.post(path, data={"email": "anna"})
    assert wrong.status_code == 400
    assert "frame-ancestors *" in wrong.headers["Content-Security-Policy"]
    assert 'id="email-error"' in wrong.text
    answer = client.post(path, data={"email": "anna@bostaden.se"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/embed/labbet/sent"
    assert "Titta i din inkorg" in client.get(answer.headers["Location"]).text
    with database.reading() as session:
        assert session.scalars(select(Subscription.status)).all() == [Status.PENDING]


def test_the_script_puts_the_frame_there(client: FlaskClient) -> None:
    answer = client.get("/embed/labbet.js")
    assert answer.mimetype == "text/javascript"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert 'frame.src = "http://localhost/embed/labbet";' in answer.text
    assert "Set-Cookie" not in answer.headers
    english = client.get("/embed/labbet.js?lang=en").text
    assert "embed/labbet?lang=en" in english
    assert "\u2028" not in answer.text
    assert not re.search(r"{[{%]", answer.text)


def test_there_is_no_form_for_what_is_not_there(client: FlaskClient) -> None:
    for path in ("/embed/nowhere", "/embed/nowhere.js", "/embed/nowhere/sent"):
        assert client.get(path).status_code == 404
