"""Writing a letter: whom it is for, pictures, two editors at once, sending."""

import io
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from newsletter.db import Database, utcnow
from newsletter.digests import letters, segments
from newsletter.models import (
    Delivery,
    Issue,
    IssueState,
    Message,
    Picture,
    Role,
    Topic,
)
from newsletter.web.workspace import issue_form, letter_form
from tests.factories import make_newsletter, make_subscription
from tests.web.at_work import as_editor, csrf_token
from tests.web.workspace.compose_world import newsletter_of, post, state_of

LETTERS = "/editor/labbet/letters/"


@pytest.fixture
def letter_id(database: Database) -> int:
    """A letter, and readers in two languages, one without topics."""
    with database.transaction() as session:
        labbet = make_newsletter(session, undo_seconds=0)
        session.add(Topic(newsletter_id=labbet.id, slug="klimat", name="Klimat"))
        for language in ("sv", "sv", "en"):
            make_subscription(session, labbet, language=language)
        make_subscription(session, labbet, all_topics=False)
        return letters.write(
            session, labbet, subject="Vi flyttar", body="Till Söder.", now=utcnow()
        ).id


@pytest.fixture
def editor(app: Flask, letter_id: int) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def stored(database: Database, letter_id: int) -> Issue:
    with database.reading() as session:
        return session.get_one(Issue, letter_id)


def form_of(database: Database, letter_id: int, **changes: Any) -> dict[str, Any]:
    """Return what the browser would send for a letter, with some fields changed."""
    with database.reading() as session:
        issue = session.get_one(Issue, letter_id)
        form = {
            "subject": issue.subject,
            "preview_text": issue.preview_text,
            "opening": issue.opening,
            "letter_language": issue.language,
            "fingerprint": issue_form.fingerprint(issue),
            "who": "all",
        }
    return {**form, **changes}


def picture_file(format: str = "PNG") -> tuple[io.BytesIO, str]:
    out = io.BytesIO()
    Image.new("RGB", (40, 20)).save(out, format)
    return io.BytesIO(out.getvalue()), "huset.png"


def said(answer: TestResponse) -> str:
    """Return the text of a page, without tags and line breaks."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


def test_a_letter_is_begun_written_and_saved(
    app: Flask, database: Database, editor: FlaskClient
) -> None:
    assert "Skriv ett brev" in editor.get("/editor/labbet/issues/").text
    answer = post(editor, LETTERS + "new", {})
    page = editor.get(answer.location)
    assert "Ett brev utan ämnesrad" in page.text
    made = int(answer.location.rstrip("/").rpartition("/")[2])
    form = form_of(
        database,
        made,
        subject="Höst",
        opening="Hej **på er**",
        preview_text="Kort sagt",
        letter_language="en",
    )
    assert post(editor, f"{LETTERS}{made}/", form).status_code == 302
    issue = stored(database, made)
    assert (issue.subject, issue.opening) == ("Höst", "Hej **på er**")
    assert (issue.preview_text, issue.language) == ("Kort sagt", "en")
    assert "Höst" in editor.get("/editor/labbet/issues/").text
    # The pages of issues lead to the letter, and cannot overwrite it.
    issue_page = f"/editor/labbet/issues/{made}/"
    assert editor.get(issue_page).location == f"{LETTERS}{made}/"
    assert post(editor, issue_page, {}).status_code == 409
    assert post(editor, f"{LETTERS}{made}/discard", {}).status_code == 302
    assert editor.get(f"{LETTERS}{made}/").status_code == 404


@pytest.mark.parametrize(
    ("changes", "segment", "counted"),
    [
        ({}, "", "Till 4 av 4 läsare Alla läsare"),
        (
            {"who": "chosen", "topics": ["klimat"], "languages": ["sv"]},
            "topic:klimat language:sv",
            "Till 2 av 4 läsare Läsare på svenska som har valt Klimat eller alla ämnen",
        ),
        (
            {"who": "chosen", "since": "2026-01-01", "span": "active:365d"},
            "since:2026-01-01 active:365d",
            "Till 4 av 4 läsare",
        ),
        ({"who": "chosen"}, "", "Till 4 av 4 läsare Alla läsare"),
        # What stands in the parts that were not chosen does not count.
        (
            {"who": "typed", "topics": ["klimat"], "segment": " -TOPIC:Klimat "},
            "-topic:klimat",
            "Till 1 av 4 läsare",
        ),
        (
            {"who": "typed", "segment": "until:1999-12-31"},
            "until:1999-12-31",
            "Till 0 av 4 läsare",
        ),
    ],
)
def test_readers_are_chosen_and_counted(
    editor: FlaskClient,
    database: Database,
    letter_id: int,
    changes: dict[str, Any],
    segment: str,
    counted: str,
) -> None:
    form = form_of(database, letter_id, **changes)
    assert counted in said(post(editor, f"{LETTERS}{letter_id}/audience", form))
    assert stored(database, letter_id).segment == ""
    assert post(editor, f"{LETTERS}{letter_id}/", form).status_code == 302
    assert stored(database, letter_id).segment == segment
    page = editor.get(f"{LETTERS}{letter_id}/")
    assert counted in said(page)
    # The form shows again what was chosen, in the fields where they can say it.
    with database.reading() as session:
        known = segments.known(session, newsletter_of(database))
        shown = letter_form.stored(session.get_one(Issue, letter_id), known)
    assert shown.audience == segment


def test_a_condition_that_cannot_be_read_keeps_what_was_typed(
    editor: FlaskClient, database: Database, letter_id: int
) -> None:
    form = form_of(database, letter_id, who="typed", segment="topic:sport")
    for path in (f"{LETTERS}{letter_id}/audience", f"{LETTERS}{letter_id}/"):
        answer = post(editor, path, {**form, "opening": "Nya ord"})
        assert "”sport” är inget ämne här. Det finns: klimat." in answer.text
    assert answer.status_code == 400
    assert "Nya ord" in answer.text
    assert 'value="topic:sport"' in answer.text
    assert stored(database, letter_id).opening == "Till Söder."


def test_whoever_saves_second_is_told(
    editor: FlaskClient, database: Database, letter_id: int
) -> None:
    mine = form_of(database, letter_id, opening="Mina ord")
    theirs = form_of(
        database, letter_id, opening="Era", who="typed", segment="language:en"
    )
    post(editor, f"{LETTERS}{letter_id}/", theirs)
    answer = post(editor, f"{LETTERS}{letter_id}/", mine)
    assert answer.status_code == 409
    assert "Mina ord" in answer.text
    assert "Någon annan ändrade det här medan du skrev" in answer.text
    assert stored(database, letter_id).segment == "language:en"


def test_a_picture_is_put_in_with_and_without_javascript(
    app: Flask, editor: FlaskClient, database: Database, letter_id: int
) -> None:
    form = form_of(database, letter_id, action="picture", picture=picture_file())
    answer = post(editor, f"{LETTERS}{letter_id}/", form)
    assert answer.status_code == 400
    assert "Skriv vad bilden visar" in answer.text
    form = form_of(
        database,
        letter_id,
        action="picture",
        picture=picture_file(),
        picture_alt="Ett [grått] hus",
    )
    assert post(editor, f"{LETTERS}{letter_id}/", form).status_code == 302
    body = stored(database, letter_id).opening
    assert body.startswith("Till Söder.\n\n![Ett (grått) hus](http://localhost/labbet/")
    address = re.search(r"\((http[^)]+-40x20\.png)\)", body)
    assert address
    assert app.test_client().get(address[1]).status_code == 200

    upload = {"picture": picture_file(), "picture_alt": "Huset"}
    answer = post(editor, f"{LETTERS}{letter_id}/pictures", upload)
    assert answer.get_json() == {"markdown": f"![Huset]({address[1]})"}
    for wrong, field in (
        ({"picture_alt": "Huset"}, "picture"),
        ({"picture": (io.BytesIO(b"<svg/>"), "a.png"), "picture_alt": "x"}, "picture"),
        ({"picture": picture_file()}, "picture_alt"),
    ):
        answer = post(editor, f"{LETTERS}{letter_id}/pictures", wrong)
        assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    for size, status in ((13_000_000, 400), (15_000_000, 413)):
        answer = editor.post(
            f"{LETTERS}{letter_id}/pictures",
            data={"csrf_token": csrf_token(editor)},
            environ_overrides={"CONTENT_LENGTH": str(size)},
        )
        assert answer.status_code == status
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Picture)) == 1


def test_the_preview_shows_what_is_typed_and_stores_nothing(
    editor: FlaskClient, database: Database, letter_id: int
) -> None:
    form = form_of(
        database, letter_id, opening="Vi ses <script>x</script>", language="en"
    )
    answer = post(editor, f"{LETTERS}{letter_id}/preview", form)
    assert "Vi ses &lt;script&gt;" in answer.text
    assert '<div lang="sv">' in answer.text  # in an English frame
    assert "Unsubscribe" in answer.text
    assert stored(database, letter_id).opening == "Till Söder."
    too_long = form_of(database, letter_id, opening="ö" * 29_000)
    assert "för lång" in post(editor, f"{LETTERS}{letter_id}/preview", too_long).text


def test_a_letter_is_asked_about_and_sent_to_those_it_is_for(
    editor: FlaskClient, database: Database, letter_id: int
) -> None:
    form = form_of(database, letter_id, who="chosen", languages=["sv"], action="review")
    answer = post(editor, f"{LETTERS}{letter_id}/", form)
    assert answer.location.endswith(f"/issues/{letter_id}/send")
    page = editor.get(answer.location)
    assert "Skicka till 3 läsare?" in page.text
    assert "Vilka de är Läsare på svenska 3 av 4 läsare" in said(page)
    names = ("fingerprint", "readers")
    found = {n: re.findall(rf'name="{n}" value="([^"]*)"', page.text)[0] for n in names}
    answer = post(editor, answer.location, found)
    assert answer.status_code == 302
    assert state_of(database, letter_id) is IssueState.SENDING
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == 3
    assert editor.get(f"{LETTERS}{letter_id}/").location.endswith(
        f"/issues/{letter_id}/"
    )
    assert editor.get(f"/editor/labbet/issues/{letter_id}/").status_code == 200
    assert post(editor, f"{LETTERS}{letter_id}/", form).status_code == 302


def test_nobody_is_said_before_anything_is_sent(
    editor: FlaskClient, database: Database, letter_id: int
) -> None:
    form = form_of(database, letter_id, who="typed", segment="until:1999-01-01")
    post(editor, f"{LETTERS}{letter_id}/", form)
    page = editor.get(f"/editor/labbet/issues/{letter_id}/send").text
    assert "Ingen läsare hör till dem som brevet är till för" in page
    # A topic that is gone by then: said too, and nothing breaks.
    with database.transaction() as session:
        session.get_one(Issue, letter_id).segment = "topic:borta"
    page = editor.get(f"/editor/labbet/issues/{letter_id}/send").text
    assert "”borta” är inget ämne här" in page
    assert "”borta” är inget" in editor.get(f"{LETTERS}{letter_id}/").text
    assert editor.get("/editor/labbet/").status_code == 200


def test_a_letter_to_some_is_not_listed_in_the_archive(
    app: Flask, editor: FlaskClient, database: Database, letter_id: int
) -> None:
    with database.transaction() as session:
        issue = session.get_one(Issue, letter_id)
        issue.segment = "language:en"
    page = editor.get(f"/editor/labbet/issues/{letter_id}/send").text
    names = ("fingerprint", "readers")
    found = {n: re.findall(rf'name="{n}" value="([^"]*)"', page)[0] for n in names}
    post(editor, f"/editor/labbet/issues/{letter_id}/send", found)
    public = app.test_client()
    assert public.get("/labbet/issues/1/").status_code == 404
    with database.reading() as session:
        token = session.scalars(
            select(Message.view_token).where(Message.language == "en")
        ).one()
    assert "Till Söder." in public.get(f"/labbet/view/{token}/").text
    assert "Vi flyttar" not in public.get("/labbet/issues/").text
    assert "Vi flyttar" not in public.get("/labbet/issues.atom").text


def test_a_viewer_may_look(app: Flask, database: Database, letter_id: int) -> None:
    page = as_editor(app, Role.VIEWER).get(f"{LETTERS}{letter_id}/")
    assert "Du kan titta på brevet" in page.text
    assert "<textarea" not in page.text
