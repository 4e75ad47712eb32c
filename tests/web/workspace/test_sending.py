"""Sending by hand: undone, at a time of one's own, followed, tried again."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import drafts, letters, publish
from newsletter.errors import InkorgError
from newsletter.mail import destinations
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Message,
    Newsletter,
    Role,
)
from newsletter.web.security import SETTINGS
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import (
    contents,
    form_of,
    make_draft,
    newsletter_of,
    post,
    state_of,
)
from tests.web.workspace.test_issues import ISSUES, deliveries, question, settle

PAST_UNDO = timedelta(seconds=31)


def kept(database: Database) -> dict[str, list[str]]:
    """Return every row of every table but the log, which tells of both."""
    return {name: rows for name, rows in contents(database).items() if name != "audit"}


@pytest.fixture
def issue_id(database: Database) -> int:
    return make_draft(database, undo_seconds=30)


@pytest.fixture
def editor(app: Flask, issue_id: int) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def test_what_was_sent_can_be_undone_as_if_it_never_was(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    before = kept(database)
    asked = question(editor, issue_id)
    assert "ångra i 30 sekunder" in editor.get(f"{ISSUES}{issue_id}/send").text
    for _ in range(2):
        post(editor, f"{ISSUES}{issue_id}/send", asked)
    jobs.start_scheduled(database, settings, utcnow())
    page = editor.get(f"{ISSUES}{issue_id}/").text
    assert re.search(r"Går om (2\d|30) sekunder", page)
    assert "Till 3 läsare" in page
    part = editor.get(f"{ISSUES}{issue_id}/progress")
    assert part.headers["X-Issue-State"] == "scheduled"
    # Nobody changes what is leaving, by any way.
    assert editor.get(f"{ISSUES}{issue_id}/send").status_code == 302
    typed = form_of(database, issue_id, subject="I sista stund")
    assert post(editor, f"{ISSUES}{issue_id}/", typed).status_code == 409
    post(editor, f"{ISSUES}{issue_id}/discard", {})
    for _ in range(2):
        post(editor, f"{ISSUES}{issue_id}/undo", {})
    assert kept(database) == before
    assert "Ingen har fått något" in editor.get(f"{ISSUES}{issue_id}/").text
    typed = form_of(database, issue_id, subject="I lugn och ro")
    assert post(editor, f"{ISSUES}{issue_id}/", typed).status_code == 302


def test_after_that_it_goes_and_undoing_says_that_it_is_too_late(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    post(editor, f"{ISSUES}{issue_id}/send", question(editor, issue_id))
    assert deliveries(database) == 0
    late = utcnow() + PAST_UNDO
    jobs.start_scheduled(database, settings, late)
    assert state_of(database, issue_id) is IssueState.SENDING
    assert deliveries(database) == 3
    post(editor, f"{ISSUES}{issue_id}/undo", {})
    assert state_of(database, issue_id) is IssueState.SENDING
    assert "Det har redan börjat gå ut" in editor.get(f"{ISSUES}{issue_id}/").text


def test_a_letter_and_a_held_issue_become_what_they_were(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    with database.transaction() as session:
        labbet = newsletter_of(database)
        letter = letters.write(
            session, labbet, subject="Hej", body="Hej på er!", now=utcnow()
        )
        publish.hold(session, drafts.find(session, issue_id), InkorgError("Vänta."))
        letter_id = letter.id
    before = kept(database)
    for one in (letter_id, issue_id):
        path = f"{ISSUES}{one}/"
        post(editor, f"{path}send", question(editor, one))
        assert "Ångra" in editor.get(path).text
        written = editor.get(f"/editor/labbet/letters/{letter_id}/")
        assert written.status_code == (302 if one == letter_id else 200)
        post(editor, f"{path}undo", {})
    assert kept(database) == before


@dataclass
class Meanwhile:
    """A database where something happens after the clock has looked."""

    real: Database
    issue_id: int

    def reading(self) -> object:
        return self.real.reading()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with self.real.transaction() as session:
            issue = session.get_one(Issue, self.issue_id)
            if drafts.is_leaving(issue):
                publish.undo(session, issue, now=utcnow())
        with self.real.transaction() as session:
            yield session


def test_what_is_undone_while_the_clock_reaches_for_it_stays(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    post(editor, f"{ISSUES}{issue_id}/send", question(editor, issue_id))
    between = cast(Database, Meanwhile(database, issue_id))
    late = utcnow() + PAST_UNDO
    assert jobs.start_scheduled(between, settings, late) == 1  # it had looked
    assert state_of(database, issue_id) is IssueState.DRAFT
    assert deliveries(database) == 0


def test_hours_that_the_clocks_leave_out_or_repeat_are_explained(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = {**question(editor, issue_id), "at": "2190-03-28T02:30"}
    answer = post(editor, f"{ISSUES}{issue_id}/schedule", form)
    assert answer.status_code == 400
    assert "02:30 finns inte. Välj 03:30" in answer.text
    form["at"] = "2190-10-31T02:30"
    assert post(editor, f"{ISSUES}{issue_id}/schedule", form).status_code == 302
    with database.reading() as session:
        at = session.get_one(Issue, issue_id).scheduled_at
    assert at
    assert at.isoformat() == "2190-10-31T00:30:00+00:00"
    assert "det går första gången" in editor.get(f"{ISSUES}{issue_id}/").text
    # It is changed where it was chosen, and is no sending to undo.
    assert 'value="2190-10-31T02:30"' in editor.get(f"{ISSUES}{issue_id}/send").text
    post(editor, f"{ISSUES}{issue_id}/undo", {})
    assert state_of(database, issue_id) is IssueState.SCHEDULED


def test_an_issue_can_be_kept_out_of_the_archive(
    app: Flask, editor: FlaskClient, database: Database, issue_id: int
) -> None:
    ask, switch = (f"{ISSUES}{issue_id}/{page}" for page in ("send", "archive"))
    assert "Ja, där kan alla läsa det." in editor.get(ask).text
    answer = post(editor, switch, {"listed": "0"})
    page = editor.get(answer.location).text
    assert "Det hålls utanför arkivet." in page
    assert "Nej, bara de som får det kan läsa det på webben." in page
    post(editor, switch, {"listed": "1"})
    assert "Ja, där kan alla läsa det." in editor.get(ask).text
    post(editor, switch, {"listed": "0"})
    with database.transaction() as session:
        session.execute(update(Newsletter).values(public_archive=False))
    assert "I arkivet" not in editor.get(ask).text
    with database.transaction() as session:
        session.execute(update(Newsletter).values(public_archive=True))
        issue = session.get_one(Issue, issue_id)
        publish.send(session, app.extensions[SETTINGS], issue, now=utcnow())
    assert post(editor, switch, {"listed": "1"}).status_code == 409
    reader = app.test_client()
    assert "issues/1/" not in reader.get("/labbet/issues/").text
    assert reader.get("/labbet/issues/1/").status_code == 404
    with database.reading() as session:
        mail = session.scalars(select(Message.text).where(Message.issue_id == issue_id))
        (link,) = set(re.findall(r"http://localhost(/labbet/view/\S+)", mail.one()))
    assert "Nu gäller det att använda tiden rätt" in reader.get(link).text


def test_the_outcome_is_told_by_reason_and_domain_and_the_failed_tried_again(
    app: Flask,
    editor: FlaskClient,
    database: Database,
    settings: Settings,
    issue_id: int,
) -> None:
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        publish.send(session, settings, issue, now=utcnow())
    settle(
        database,
        issue_id,
        [("sent", "250 ok"), ("bounced", "550 5.1.1 <i>No</i>"), ("failed", "554 No")],
    )
    path = f"{ISSUES}{issue_id}/"
    page = editor.get(path).text
    assert "550 5.1.1 &lt;i&gt;No&lt;/i&gt;" in page
    assert re.search(
        r'<th scope="row">exempel.example</th>\s*<td>0</td>\s*<td><a', page
    )
    link = re.search(r'href="([^"]*which=bounced[^"]*reason=unknown_mailbox)"', page)
    assert link
    listed = editor.get(link[1].replace("&amp;", "&")).text
    assert listed.count("@exempel.example</b>") == 1
    refused = editor.get(f"{path}readers?which=refused&domain=exempel.example").text
    assert refused.count("@exempel.example</b>") == 2
    assert "Här finns ingen" in editor.get(f"{path}readers?domain=x.example").text
    # A viewer sees the figures, and no address.
    seen = as_editor(app, Role.VIEWER).get(path).text
    assert "Per domän" in seen
    assert "/readers" not in seen
    ask = editor.get(f"{path}retry").text
    assert "högst 2 läsare" in ask
    wrong = {"reason": ["unknown_mailbox"], "readers-unknown_mailbox": "40"}
    assert post(editor, f"{path}retry", wrong).status_code == 409
    assert post(editor, f"{path}retry", {}).status_code == 400
    chosen = {"reason": ["unknown_mailbox"], "readers-unknown_mailbox": "1"}
    assert post(editor, f"{path}retry", chosen).status_code == 302
    page = editor.get(path).text
    assert state_of(database, issue_id) is IssueState.SENDING
    assert "Nya försök" in page
    assert "editor@redaktion.example" in page
    post(editor, f"{path}pause", {})
    part = editor.get(f"{path}progress").text
    assert "Pausat av editor@redaktion.example." in part
    assert editor.get(f"{path}retry").status_code == 302


def test_why_readers_wait_is_told_in_sentences(
    app: Flask,
    editor: FlaskClient,
    database: Database,
    settings: Settings,
    issue_id: int,
) -> None:
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        publish.send(session, settings, issue, now=utcnow())
    part = f"{ISSUES}{issue_id}/progress"
    assert "Starta en arbetsprocess" in editor.get(part).text
    settle(database, issue_id, [("deferred", "451 4.7.1 later")])
    with database.transaction() as session:
        deferred = update(Delivery).where(Delivery.state == DeliveryState.DEFERRED)
        session.execute(deferred.values(next_attempt_at=utcnow()))
        groups = {f"{name}.example": "421 Slow down" for name in "abcd"}
        destinations.slow(session, settings.relay.name, groups, now=utcnow())
        others = {"hemligt.example": "421 Slow down"}
        destinations.slow(session, "annans.example:465@annat", others, now=utcnow())
    said = editor.get(part).text
    assert said.count("bad oss ta det lugnare") == 3
    assert "Det gjorde också 1 till." in said
    assert "1 har skjutits upp av sin server" in said
