"""Previews: what they show, and that their policy lets nothing run."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import drafts, publish
from newsletter.mail import mime
from newsletter.models import Role
from newsletter.web.workspace import preview
from tests.factories import make_post
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import TITLES, form_of, make_draft, post

ISSUES = "/editor/labbet/issues/"
HOSTILE = (
    "<script>document.title='ran'</script>",
    '<img src=x onerror="document.title=1">',
    "<svg onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "</style><iframe srcdoc='<script>1</script>'>",
)


@pytest.fixture
def issue_id(database: Database) -> int:
    return make_draft(database)


@pytest.fixture
def editor(app: Flask, issue_id: int) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def test_a_preview_may_run_nothing(editor: FlaskClient, issue_id: int) -> None:
    policies = [
        editor.get(path).headers["Content-Security-Policy"]
        for path in (
            f"{ISSUES}{issue_id}/preview",
            f"{ISSUES}{issue_id}/preview?view=source",
            "/editor/labbet/posts/1/preview",
        )
    ]
    assert set(policies) == {preview.POLICY}
    directives = [part.split() for part in preview.POLICY.split(";")]
    assert ["default-src", "'none'"] in directives
    sandbox = next(words for words in directives if words[0] == "sandbox")
    assert "allow-scripts" not in sandbox
    assert not any(words[0].startswith("script-src") for words in directives)


def test_the_pages_frame_is_sandboxed_too(editor: FlaskClient, issue_id: int) -> None:
    page = editor.get(f"{ISSUES}{issue_id}/")
    frame = page.text.partition("<iframe")[2].partition(">")[0]
    assert 'sandbox="' in frame
    assert "allow-scripts" not in frame
    assert "'unsafe-inline'" not in page.headers["Content-Security-Policy"]


def test_the_mail_the_text_and_the_source_are_shown(
    editor: FlaskClient, issue_id: int
) -> None:
    mail = editor.get(f"{ISSUES}{issue_id}/preview").text
    text = editor.get(f"{ISSUES}{issue_id}/preview?view=text").text
    source = editor.get(f"{ISSUES}{issue_id}/preview?view=source").text
    assert all(title in mail and title in text for title in TITLES)
    assert "<table" in mail
    assert "<pre>" in text
    assert "<table" not in text
    assert "List-Unsubscribe: " in source
    assert "multipart/alternative" in source


def test_the_mail_is_light_or_dark_by_choice(
    editor: FlaskClient, issue_id: int
) -> None:
    light = editor.get(f"{ISSUES}{issue_id}/preview?scheme=light").text
    dark = editor.get(f"{ISSUES}{issue_id}/preview?scheme=dark").text
    assert "prefers-color-scheme: dark" not in light + dark
    assert "@media (max-width:0)" in light
    assert "@media (min-width:0)" in dark


def test_the_mail_speaks_the_language_asked_for(
    editor: FlaskClient, issue_id: int
) -> None:
    assert 'lang="sv"' in editor.get(f"{ISSUES}{issue_id}/preview").text
    for code, wanted in (("en", "en"), ("xx", "sv")):
        page = editor.get(f"{ISSUES}{issue_id}/preview?language={code}").text
        assert f'lang="{wanted}"' in page


def test_no_link_in_a_preview_leads_to_a_readers_own_pages(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    mail = editor.get(f"{ISSUES}{issue_id}/preview").text
    for path in {
        word.partition('"')[0]
        for part in ("/unsubscribe/", "/preferences/")
        for word in mail.split(part)[1:]
    }:
        assert path == mime.NOBODY


def test_what_is_being_typed_is_shown_before_it_is_saved(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = form_of(database, issue_id, opening="Hej **alla**!", view="mail")
    last = form["post"][-1]
    form[f"title-{last}"] = "Med andra ord"
    del form[f"show-{form['post'][0]}"]
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        hidden = issue.posts[0].post.title
        added = make_post(session, issue.newsletter, title="Nyss kommet")
        form["add"] = str(added.id)
    mail = post(editor, f"{ISSUES}{issue_id}/preview", form).text
    assert "<strong>alla</strong>" in mail
    assert "Med andra ord" in mail
    assert "Nyss kommet" in mail
    assert hidden not in mail
    assert "Hej <strong>" not in editor.get(f"{ISSUES}{issue_id}/preview").text


@pytest.mark.parametrize("attack", HOSTILE)
def test_markup_in_titles_and_texts_stays_text(
    editor: FlaskClient, database: Database, issue_id: int, attack: str
) -> None:
    form = form_of(database, issue_id, opening=attack, subject=attack)
    form[f"title-{form['post'][0]}"] = attack
    form[f"excerpt-{form['post'][0]}"] = attack
    answers = [post(editor, f"{ISSUES}{issue_id}/preview", form)]
    answers += [
        post(editor, f"{ISSUES}{issue_id}/preview", {**form, "view": view})
        for view in ("text", "source")
    ]
    typed = {"title": attack, "markdown": attack, "excerpt": attack}
    answers.append(post(editor, "/editor/labbet/posts/preview", typed))
    for answer in answers:
        assert answer.status_code == 200
        page = answer.text.lower()
        assert attack.lower() not in page
        assert "<script" not in page
        assert "<svg" not in page
        assert "<iframe" not in page
        assert "javascript:alert(1)'>" not in page


def test_what_was_sent_is_shown_as_it_was_sent(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        publish.send(session, settings, issue, now=utcnow())
        issue.posts[0].post.title = "Ändrad efteråt"
    for view in ("mail", "text", "source"):
        page = editor.get(f"{ISSUES}{issue_id}/preview?view={view}").text
        assert "ndrad efter" not in page
        assert "använda tiden" in page or view == "source"


def test_too_much_text_says_so_in_the_frame(editor: FlaskClient) -> None:
    typed = {"title": "x", "markdown": "å" * 210_000}
    answer = post(editor, "/editor/labbet/posts/preview", typed)
    assert answer.status_code == 200
    assert "för lång" in answer.text


def test_a_viewer_sees_previews(app: Flask, issue_id: int) -> None:
    viewer = as_editor(app, Role.VIEWER)
    assert viewer.get(f"{ISSUES}{issue_id}/preview").status_code == 200
    assert viewer.get("/editor/labbet/posts/1/preview").status_code == 200


def test_a_stranger_sees_none(app: Flask, issue_id: int) -> None:
    answer = app.test_client().get(f"{ISSUES}{issue_id}/preview")
    assert answer.status_code == 302
    assert TITLES[0] not in answer.text
