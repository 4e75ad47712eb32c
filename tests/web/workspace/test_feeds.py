"""Feeds in the workspace: added after a look, paused, removed, and how they are."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.models import Feed, FeedPush, Newsletter, Post, Role
from tests.factories import make_newsletter
from tests.feed_server import Answer, FeedServer
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import post

FEEDS = "/editor/labbet/feeds/"


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, fetch_allow=("127.0.0.1",))


@pytest.fixture
def editor(app: Flask, database: Database) -> FlaskClient:
    with database.transaction() as session:
        make_newsletter(session)
    return as_editor(app, Role.EDITOR)


def feeds(database: Database) -> list[Feed]:
    with database.reading() as session:
        return list(session.scalars(select(Feed).order_by(Feed.id)))


def follow(editor: FlaskClient, path: str, **form: str) -> str:
    """Post a form and return the page that it leads to."""
    answer = post(editor, path, form)
    assert answer.status_code == 302, answer.text
    return editor.get(answer.location).text


def test_a_feed_is_looked_at_added_paused_resumed_and_removed(
    editor: FlaskClient, database: Database, server: FeedServer
) -> None:
    assert "Här finns inga flöden än" in editor.get(FEEDS).text
    page = follow(editor, FEEDS, url=f" {server.url()} ")
    assert "Flödet ”Kören” är tillagt" in page
    assert "1 inlägg kom." in page
    (feed,) = feeds(database)
    with database.reading() as session:
        assert session.scalars(select(Post.feed_id)).all() == [feed.id]
    assert len(server.asked) == 1  # looking and fetching is one
    assert "Det flödet finns redan." in post(editor, FEEDS, {"url": server.url()}).text
    own = f"{FEEDS}{feed.id}/"
    assert "Flödet är pausat. Senaste nya inlägg" in follow(editor, f"{own}pause")
    assert "Följ igen" in editor.get(FEEDS).text
    assert "följs igen" in follow(editor, f"{own}resume")
    assert feeds(database)[0].next_check_at is None
    assert "Det finns inget nytt i flödena." in follow(editor, f"{own}check")
    assert "Flödet är borttaget." in follow(editor, f"{own}remove")
    assert feeds(database) == []
    with database.reading() as session:
        assert len(session.scalars(select(Post)).all()) == 1


@pytest.mark.parametrize(
    ("path", "answer", "says"),
    [
        ("/borta", None, "Det finns inget flöde på adressen (404)."),
        ("/tom", Answer(b""), "Det är tomt"),
        (
            "/sida",
            Answer(
                b"<!doctype html><link rel=alternate type=application/rss+xml"
                b' href="/feed">'
            ),
            "webbsida",
        ),
    ],
)
def test_what_is_no_feed_is_not_added_and_it_says_why(
    editor: FlaskClient,
    database: Database,
    server: FeedServer,
    path: str,
    answer: Answer | None,
    says: str,
) -> None:
    if answer:
        server.answers[path] = answer
    page = post(editor, FEEDS, {"url": server.url(path)})
    assert page.status_code >= 400
    assert says in page.text
    # What the page itself names as its feed stands in the field, ready to be tried.
    shown = server.url("/feed") if path == "/sida" else server.url(path)
    assert f'value="{shown}"' in page.text
    assert feeds(database) == []


@pytest.mark.parametrize(
    "url",
    [
        *("/etc/passwd", "file:///etc/passwd", "", "ftp://a.se/f", "http://[::1"),
        *("http://10.0.0.1/feed", "http://u:p@a.se/", "http://169.254.169.254/"),
    ],
)
def test_a_feed_from_the_browser_is_on_the_public_web(
    editor: FlaskClient, database: Database, url: str
) -> None:
    assert 400 <= post(editor, FEEDS, {"url": url}).status_code <= 500
    assert feeds(database) == []


def test_how_a_feed_is_stands_there(editor: FlaskClient, database: Database) -> None:
    now = utcnow()
    with database.transaction() as session:
        newsletter = session.scalars(select(Newsletter)).one()
        feed = Feed(
            newsletter_id=newsletter.id,
            url="https://blogg.example/feed/" + "x" * 200,
            checked_at=now,
            failing_since=now - timedelta(days=30),
            error="The feed asks for a password (401).",
            error_status=401,
            moved_to="https://ny.example/feed/",
        )
        session.add(feed)
        session.flush()
        session.add(
            FeedPush(
                feed_id=feed.id,
                hub="https://h.example/",
                topic=feed.url,
                token="t",
                secret="s",
                next_attempt_at=now,
                lease_until=now + timedelta(days=1),
            )
        )
    page = editor.get(FEEDS).text
    for words in (
        "Inget inlägg därifrån än. Svarar 401 sedan",
        "Flödet kräver lösenord (401).",
        "flyttat för gott till https://ny.example/feed/",
        "En nod meddelar nya inlägg genast",
    ):
        assert words in page


def test_a_ping_address_is_made_and_made_anew(
    editor: FlaskClient, app: Flask, database: Database
) -> None:
    def token() -> str | None:
        with database.reading() as session:
            return session.scalars(select(Newsletter.ping_token)).one()

    assert token() is None
    page = follow(editor, f"{FEEDS}ping")
    first = token()
    assert f"http://localhost/ping/{first}" in page
    viewer = as_editor(app, Role.VIEWER)
    assert str(first) not in viewer.get(FEEDS).text  # it lets one do something
    follow(editor, f"{FEEDS}ping")
    assert token() != first
