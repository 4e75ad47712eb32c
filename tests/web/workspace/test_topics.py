"""The page of topics: make, rename, hide, order, merge, and map categories."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.db import Database
from newsletter.models import Category, Newsletter, Post, Role, Topic
from newsletter.posts import categories, topics
from tests.factories import make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import post

TOPICS = "/editor/labbet/topics/"


@pytest.fixture
def editor(app: Flask, database: Database) -> FlaskClient:
    """A newsletter with two topics from its feed and one that is nobody's."""
    with database.transaction() as session:
        labbet = make_newsletter(session)
        first = make_post(session, labbet)
        categories.take(session, labbet, first, ["Klimat", "Miljö"])
        topics.create(session, labbet, "Bygga")
        make_subscription(session, labbet)
    return as_editor(app, Role.EDITOR)


def stored(database: Database) -> dict[str, Topic]:
    with database.reading() as session:
        labbet = session.scalars(select(Newsletter)).one()
        return {topic.name: topic for topic in topics.topics(session, labbet)}


def test_without_topics_the_page_says_what_to_do(
    app: Flask, database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    page = as_editor(app, Role.EDITOR).get(TOPICS).text
    assert "Det finns inga ämnen ännu" in page
    assert "Inga har kommit ännu" in page
    viewer = as_editor(app, Role.VIEWER).get(TOPICS).text
    assert "Skapa ämnet" not in viewer


def test_topics_are_made_renamed_hidden_and_moved(
    editor: FlaskClient, database: Database
) -> None:
    assert f'href="{TOPICS}"' in editor.get("/editor/labbet/posts/").text
    answer = post(editor, TOPICS, {"name": "Ålder & <omsorg>"})
    assert "Ålder &amp; &lt;omsorg&gt;" in editor.get(answer.location).text
    answer = post(editor, TOPICS, {"name": "KLIMAT"})
    assert answer.status_code == 409
    assert "Det finns redan ett ämne som heter Klimat" in answer.text
    assert 'value="KLIMAT"' in answer.text

    found = stored(database)
    assert list(found) == ["Bygga", "Klimat", "Miljö", "Ålder & <omsorg>"]
    path = f"{TOPICS}{found['Klimat'].id}/"
    assert post(editor, path, {"action": "up"}).status_code == 302
    assert next(iter(stored(database))) == "Klimat"
    assert post(editor, path, {"name": "Klimatet"}).status_code == 302
    assert stored(database)["Klimatet"].hidden
    assert "Erbjuds inte" in editor.get(TOPICS).text
    assert post(editor, path, {"name": "Klimat", "offered": "1"}).status_code == 302
    assert not stored(database)["Klimat"].hidden
    answer = post(editor, path, {"name": " ", "offered": "1"})
    assert (answer.status_code, "högst 80 tecken" in answer.text) == (400, True)


def test_merging_is_asked_about_once(editor: FlaskClient, database: Database) -> None:
    found = stored(database)
    path = f"{TOPICS}{found['Miljö'].id}/merge"
    page = editor.get(path).text
    assert "Dess 1 inlägg följer med" in page
    for wrong in ("", str(found["Miljö"].id)):
        answer = post(editor, path, {"into": wrong})
        assert answer.status_code == 400
        assert "Välj ett annat ämne" in answer.text
    assert post(editor, path, {"into": "99999"}).status_code == 404
    answer = post(editor, path, {"into": str(found["Klimat"].id)})
    assert "”Miljö” ingår nu i ”Klimat”." in editor.get(answer.location).text
    assert list(stored(database)) == ["Bygga", "Klimat"]


def test_a_topic_that_nobody_uses_can_be_removed(
    editor: FlaskClient, database: Database
) -> None:
    found = stored(database)
    assert editor.get(TOPICS).text.count("Ta bort ämnet") == 1
    answer = post(editor, f"{TOPICS}{found['Klimat'].id}/remove", {})
    assert answer.status_code == 409
    assert "Slå ihop det med ett annat ämne, eller dölj det" in answer.text
    assert 'value="Klimat"' in answer.text
    answer = post(editor, f"{TOPICS}{found['Bygga'].id}/remove", {})
    assert "”Bygga” är borttaget." in editor.get(answer.location).text
    assert list(stored(database)) == ["Klimat", "Miljö"]


def test_categories_are_gathered(editor: FlaskClient, database: Database) -> None:
    found = stored(database)
    with database.reading() as session:
        ids = {c.slug: c.id for c in session.scalars(select(Category))}
    form = {
        f"category-{ids['klimat']}": str(found["Bygga"].id),
        f"category-{ids['miljo']}": "0",
        "category-x": "1",
        "category-77777777777777777777": "1",
    }
    assert post(editor, TOPICS + "categories", form).status_code == 302
    with database.reading() as session:
        labbet = session.scalars(select(Newsletter)).one()
        assert labbet.new_topics is False
        only = session.scalars(select(Post)).one()
        assert [t.name for t in topics.topics_of(session, only)] == ["Bygga"]
    page = editor.get(TOPICS).text
    assert 'name="new_topics" value="1">' in page
