"""The preflight in the workspace: what stops a send, what asks, whose mail it is."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from newsletter.db import Database
from newsletter.models import (
    Issue,
    IssueState,
    Newsletter,
    OutsideCheck,
    Post,
    PostTopic,
    Role,
    SubscriptionTopic,
)
from newsletter.posts import topics
from tests.factories import make_subscription
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import (
    TITLES,
    form_of,
    make_draft,
    newsletter_of,
    post,
    state_of,
)

ISSUES = "/editor/labbet/issues/"


@pytest.fixture
def issue_id(database: Database) -> int:
    made = make_draft(database)
    with database.transaction() as session:
        for row in session.query(Post):
            row.link = ""  # to our own pages: nobody outside is asked
    return made


@pytest.fixture
def editor(app: Flask, issue_id: int) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def change(database: Database, issue_id: int, **values: str) -> None:
    with database.transaction() as session:
        issue = session.get_one(Issue, issue_id)
        for name, value in values.items():
            setattr(issue, name, value)


def asked(editor: FlaskClient, issue_id: int) -> dict[str, str]:
    """Return the fields of the form that sends, as its page has them."""
    page = editor.get(f"{ISSUES}{issue_id}/send").text
    form = page.partition('/send" class="ask"')[2].partition("</form>")[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


def test_a_warning_asks_and_the_yes_is_for_that_warning(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    send = f"{ISSUES}{issue_id}/send"
    assert "seen" not in asked(editor, issue_id)  # nothing to say yes to
    change(database, issue_id, subject="VIKTIGT MEDDELANDE TILL ALLA")
    form = asked(editor, issue_id)
    page = editor.get(send).text
    assert "Ämnesraden skriker." in page
    assert 'type="checkbox" name="seen"' in page
    assert "required" in page.partition('name="seen"')[2][:80]

    without = post(editor, send, {**form, "seen": ""})
    assert without.status_code == 409
    assert "Det finns varningar." in without.text
    later = {**form, "seen": "", "at": "2099-01-01T08:00"}
    assert post(editor, f"{ISSUES}{issue_id}/schedule", later).status_code == 409
    assert state_of(database, issue_id) is IssueState.DRAFT

    change(database, issue_id, opening="Hej [namn]!")
    other = {**form, "fingerprint": asked(editor, issue_id)["fingerprint"]}
    assert post(editor, send, other).status_code == 409
    assert post(editor, send, asked(editor, issue_id)).status_code == 302
    assert state_of(database, issue_id) is IssueState.SENDING


def test_an_error_leaves_no_way_to_send(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = asked(editor, issue_id)
    change(database, issue_id, opening="Hej {{ förnamn }}! Lorem ipsum.")
    page = editor.get(f"{ISSUES}{issue_id}/send").text
    assert "En kopplingskod är kvar i det du skrev." in page
    assert "{{ förnamn }}" in page
    assert "/send" not in page.partition("<main")[2]
    assert "/schedule" not in page
    form["fingerprint"] = "x"
    change(database, issue_id, opening="Hej")
    form = asked(editor, issue_id)
    change(database, issue_id, state=IssueState.HELD, opening="Lorem ipsum")
    held = editor.get(f"{ISSUES}{issue_id}/").text
    assert "Måste rättas" in held
    assert "Godkänn" not in held
    assert "Måste rättas" in editor.get(f"{ISSUES}{issue_id}/?edit=1").text
    assert post(editor, f"{ISSUES}{issue_id}/send", form).status_code == 409
    assert state_of(database, issue_id) is IssueState.HELD


def test_others_are_asked_by_a_button_and_what_was_typed_is_saved(
    app: Flask, editor: FlaskClient, database: Database, issue_id: int
) -> None:
    page = f"{ISSUES}{issue_id}/"
    assert "har inte provats än" in editor.get(page).text
    form = form_of(database, issue_id, subject="Höstens första", action="preflight")
    answer = post(editor, page, form)
    assert answer.status_code == 302
    assert answer.location.endswith("/?looked=1#preflight-result")
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).subject == "Höstens första"
        assert session.get_one(OutsideCheck, issue_id).findings
    shown = editor.get(page).text
    assert "En påhittad domän: den slås inte upp." in shown
    assert "Provat " in shown

    back = post(editor, f"{page}preflight", {"back": "send"})
    assert back.location.endswith("/send?looked=1#preflight-result")
    viewer = as_editor(app, Role.VIEWER)
    assert post(viewer, f"{page}preflight", {}).status_code == 403
    assert "Prova länkar" not in viewer.get(page).text


def test_the_mail_is_shown_as_one_reader_gets_it(
    app: Flask, editor: FlaskClient, database: Database, issue_id: int
) -> None:
    with database.transaction() as session:
        labbet = session.get_one(Newsletter, newsletter_of(database).id)
        labbet.languages = ["sv", "en"]
        music, money = (topics.create(session, labbet, t) for t in ("Musik", "Pengar"))
        issue = session.get_one(Issue, issue_id)
        for entry in issue.posts:
            about = music if entry.post.title == TITLES[2] else money
            session.add(PostTopic(post_id=entry.post_id, topic_id=about.id))
        anna = make_subscription(
            session, labbet, "anna@exempel.example", language="en", all_topics=False
        )
        anna.subscriber.name = "Anna <Åkesson>"
        session.add(SubscriptionTopic(subscription_id=anna.id, topic_id=music.id))
    preview = f"{ISSUES}{issue_id}/preview"
    mail = editor.get(f"{preview}?reader=Anna@exempel.example").text
    assert TITLES[2] in mail
    assert TITLES[0] not in mail
    assert "You get this because" in mail
    assert "Anna &lt;Åkesson&gt; · anna@exempel.example · engelska" in mail
    assert "Musik" in mail.partition("<table")[0]  # above the mail, which is whole
    assert "&lt;table" not in mail

    nobody = editor.get(f"{preview}?reader=bo@exempel.example").text
    assert "Ingen med den adressen" in nobody
    typed = form_of(
        database, issue_id, opening="Kära läsare", reader=anna.subscriber.email
    )
    drawn = post(editor, preview, typed).text
    assert "Kära läsare" in drawn
    assert TITLES[0] not in drawn
    viewer = as_editor(app, Role.VIEWER)
    refused = viewer.get(f"{preview}?reader=anna@exempel.example").text
    assert TITLES[2] not in refused
    assert "engelska" not in refused
    assert TITLES[2] in viewer.get(preview).text
