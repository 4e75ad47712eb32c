"""The calendar and approving: what is to come, changed and sent by editors alone."""

import re
from datetime import datetime, timedelta
from html import unescape
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import calendar, drafts
from newsletter.models import (
    Delivery,
    Issue,
    IssueState,
    Mode,
    Newsletter,
    Post,
    Role,
    Schedule,
)
from tests.digests.weeks import WEEK, WEEKLY, Weeks
from tests.web.at_work import as_editor, csrf_token

HERE = "/editor/labbet/calendar/"


@pytest.fixture
def weeks(database: Database, settings: Settings) -> Weeks:
    """A newsletter of the present, whose weekly digest has a post to come."""
    weeks = Weeks(
        database, settings, rhythms=[WEEKLY], quiet_days=["sat", "sun"], undo_seconds=0
    )
    with database.transaction() as session:
        session.execute(update(Schedule).values(until=utcnow()))
    weeks.reader("anna")
    weeks.reader("bo")
    weeks.post("Nya grannar", utcnow() - timedelta(hours=1))
    return weeks


@pytest.fixture
def editor(app: Flask, weeks: Weeks) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def dues(weeks: Weeks) -> list[datetime]:
    with weeks.database.reading() as session:
        newsletter = weeks.newsletter(session)
        return [
            one.due_at
            for one in calendar.upcoming(session, newsletter, now=utcnow())
            if one.can_change
        ]


def press(
    editor: FlaskClient, what: str, due: datetime, **fields: str
) -> tuple[int, str]:
    data = {
        "csrf_token": csrf_token(editor),
        "rhythm": WEEKLY,
        "due": due.isoformat(),
        **fields,
    }
    answer = editor.post(f"{HERE}{what}", data=data)
    if answer.status_code == 302:
        return 302, editor.get(answer.headers["Location"]).text
    return answer.status_code, answer.text


def fields_of(page: str, action: str) -> dict[str, str]:
    form = page[page.index(f'action="{action}"') :].partition("</form>")[0]
    return dict(re.findall(r'name="(\w+)"\s+value="([^"]*)"', form))


def change_page(editor: FlaskClient, due: datetime) -> str:
    where = f"{HERE}change?rhythm={quote(WEEKLY)}&due={quote(due.isoformat())}"
    return editor.get(where).text


def test_it_shows_what_goes_out_when_to_how_many(
    editor: FlaskClient, weeks: Weeks
) -> None:
    page = editor.get(HERE).text
    assert page.count('class="due') == len(dues(weeks)) >= 4
    assert "Nya grannar" in page
    assert "2 läsare · 1 inlägg" in page
    assert "av sig själva" in page
    posts = editor.get("/editor/labbet/posts/").text
    assert re.search(r"Nya grannar.*?Kommer den |Nya grannar.*?Kommer ", posts, re.S)


def test_the_overview_says_what_goes_next_and_where_to_change_it(
    editor: FlaskClient, weeks: Weeks
) -> None:
    def told() -> str:
        page = editor.get("/editor/labbet/").text
        card = page[page.index('id="next-title"') :].partition("</section>")[0]
        return " ".join(re.sub(r"<[^>]+>", " ", card).split())

    due, later = dues(weeks)[:2]
    zone = ZoneInfo("Europe/Stockholm")
    clock = due.astimezone(zone).strftime("%H:%M")
    assert re.search(rf"Varje vecka, på måndagar .* {clock} .*Europe/Stockholm", told())
    assert "1 inlägg · 2 läsare Nya grannar" in told()
    page = editor.get("/editor/labbet/").text
    change = re.search(r'href="([^"]*calendar/change[^"]*)"', page)
    assert change and "Nya grannar" in editor.get(unescape(change[1])).text
    press(editor, "skip", due)
    assert f"{later.astimezone(zone).day} " in told()
    weeks.change(mode=Mode.HELD)
    assert "väntar det på en redaktörs ja" in told()
    with weeks.database.transaction() as session:
        issue = drafts.draft(session, weeks.newsletter(session), now=utcnow())
        issue.subject = "Ett eget brev"
        number = issue.id
    assert "Ett utkast skrivs: Ett eget brev" in told()
    with weeks.database.transaction() as session:  # sooner than the digest
        issue = session.get_one(Issue, number)
        issue.state, issue.scheduled_at = IssueState.SCHEDULED, utcnow()
    assert "Ett eget brev" in told()
    assert "Varje vecka" not in told()


def test_a_newsletter_by_hand_tells_the_first_step(
    editor: FlaskClient, weeks: Weeks
) -> None:
    weeks.change(mode=Mode.HAND)
    page = editor.get(HERE).text
    assert "Utskicken görs för hand" in page
    assert 'class="due' not in page


def test_one_is_skipped_taken_back_and_moved(editor: FlaskClient, weeks: Weeks) -> None:
    due = dues(weeks)[0]
    status, page = press(editor, "skip", due)
    assert (status, "Överhoppat." in page, "due-off" in page) == (302, True, True)
    assert press(editor, "skip", due)[0] == 302  # twice is once
    status, page = press(editor, "unskip", due)
    assert (status, "due-off" in page) == (302, False)
    there = due + timedelta(days=1)
    status, page = press(editor, "move", due, to=there.strftime("%Y-%m-%dT%H:%M"))
    assert (status, ">Flyttat<" in page) == (302, True)
    late = (due + 3 * WEEK).strftime("%Y-%m-%dT%H:%M")
    for wrong in (late, "2020-01-01T08:00", "snart"):
        status, page = press(editor, "move", due, to=wrong)
        assert status == 400
        assert 'id="to-error"' in page
        assert f'value="{wrong}"' in page  # what was typed stays
    with weeks.database.reading() as session:
        newsletter = weeks.newsletter(session)
        first = calendar.upcoming(session, newsletter, now=utcnow())[0]
        assert abs(first.at - there) <= timedelta(hours=2)  # typed on Stockholm's clock


def test_it_is_sent_now_only_as_it_was_seen(editor: FlaskClient, weeks: Weeks) -> None:
    due = dues(weeks)[0]
    seen = fields_of(change_page(editor, due), f"{HERE}send")
    assert seen["readers"] == "2"
    weeks.post("Ett till", utcnow())
    status, page = press(editor, "send", due, **without_names(seen))
    assert (status, "har ändrats" in page) == (409, True)
    assert weeks.issues() == []
    seen = fields_of(change_page(editor, due), f"{HERE}send")
    status, _page = press(editor, "send", due, **without_names(seen))
    assert status == 302
    (issue,) = weeks.issues()
    assert (issue.state, issue.total) == (IssueState.SENDING, 2)
    assert press(editor, "send", due, **without_names(seen))[0] != 200
    assert len(weeks.issues()) == 1


def without_names(seen: dict[str, str]) -> dict[str, str]:
    return {name: seen[name] for name in ("posts", "readers")}


def test_what_is_no_more_leads_back(editor: FlaskClient, weeks: Weeks) -> None:
    for query in ("", "?rhythm=x&due=y", f"?rhythm={WEEKLY}&due=2020-01-01T00:00:00Z"):
        assert editor.get(f"{HERE}change{query}").status_code == 302
    status, page = press(editor, "skip", utcnow() - 9 * WEEK)
    assert status == 302
    assert 'class="said said-warn"' in page


def test_a_viewer_looks_and_changes_nothing(app: Flask, weeks: Weeks) -> None:
    viewer = as_editor(app, Role.VIEWER)
    page = viewer.get(HERE).text
    assert "Nya grannar" in page
    assert "calendar/change" not in page
    assert "Dessutom" not in page
    weeks.change(rhythms=[WEEKLY, "each"])
    weeks.reader("cia", "each")
    assert "Dessutom får 1 läsare varje inlägg när det kommer." in viewer.get(HERE).text


@pytest.fixture
def held(weeks: Weeks) -> int:
    """An issue that waits for an editor; its id."""
    weeks.change(mode=Mode.HELD)
    due = dues(weeks)[0]
    jobs.plan_digests(weeks.database, weeks.settings, due + timedelta(minutes=1))
    (issue,) = weeks.issues()
    assert issue.state is IssueState.HELD
    return issue.id


def test_an_issue_that_waits_is_approved(
    editor: FlaskClient, weeks: Weeks, held: int
) -> None:
    where = f"/editor/labbet/issues/{held}/"
    page = editor.get(where).text
    assert "Godkänn och skicka till 2 läsare" in page
    assert "väntar på en redaktörs ja" in page  # why
    assert "sedan " in page
    assert "Nya grannar" in page
    assert 'id="compose"' not in page
    assert 'id="compose"' in editor.get(f"{where}?edit=1").text
    assert "väntar på ditt ja" in editor.get("/editor/labbet/").text
    assert "Väntar på dig" in editor.get(HERE).text
    fields = fields_of(page, f"{where}send")
    answer = editor.post(
        f"{where}send", data={**fields, "csrf_token": csrf_token(editor)}
    )
    assert answer.status_code == 302
    with weeks.database.reading() as session:
        assert len(session.scalars(select(Delivery.id)).all()) >= 2
        assert session.get_one(Issue, held).state is IssueState.SENDING


def test_a_reader_and_an_issue_are_explained(
    editor: FlaskClient, weeks: Weeks, held: int
) -> None:
    where = f"/editor/labbet/issues/{held}/readers?who="
    waits = "Inte skickat än: utskicket väntar på en redaktör."
    assert waits in editor.get(f"{where}Anna@x.example").text
    weeks.send(held, utcnow())
    assert "så snart det blir deras tur" in editor.get(f"{where}anna@x.example").text
    nobody = "Ingen med den adressen prenumererar"
    for strange in ("cissi@x.example", "x", "%25"):
        assert nobody in editor.get(f"{where}{strange}").text
    late = weeks.reader("dora")
    page = editor.get(f"/editor/labbet/subscribers/{late}/").text
    assert "De senaste inläggen" in page
    assert re.search(r"Nya grannar.*?Det kommer med deras utskick", page, re.S)


def test_an_issue_that_waits_is_skipped(
    editor: FlaskClient, weeks: Weeks, held: int
) -> None:
    where = f"/editor/labbet/issues/{held}/"
    token = {"csrf_token": csrf_token(editor)}
    answer = editor.post(f"{where}skip", data=token)
    assert answer.headers["Location"] == HERE
    assert editor.post(f"{where}skip", data=token).status_code in {302, 409}
    with weeks.database.reading() as session:
        assert session.get_one(Issue, held).state is IssueState.CANCELLED
    assert "Nya grannar" in editor.get(HERE).text  # with the next one


def test_an_issue_that_waits_says_what_keeps_it(
    app: Flask, editor: FlaskClient, weeks: Weeks, held: int
) -> None:
    where = f"/editor/labbet/issues/{held}/"
    viewer = as_editor(app, Role.VIEWER)
    assert "Godkänn" not in viewer.get(where).text
    with weeks.database.transaction() as session:
        session.get_one(Newsletter, weeks.id).postal_address = ""
    page = editor.get(where).text
    assert "Godkänn" not in page
    assert "postadress" in page
    weeks.change(postal_address="Box 1")
    with weeks.database.transaction() as session:
        session.scalars(select(Post)).one().title = "Å" * 300
    assert "Å" * 300 in editor.get(where).text


def test_a_draft_is_put_in_a_rhythm_and_taken_back(
    app: Flask, editor: FlaskClient, weeks: Weeks
) -> None:
    with weeks.database.transaction() as session:
        made = drafts.draft(session, weeks.newsletter(session), now=utcnow())
        issue_id = made.id
    path = f"/editor/labbet/issues/{issue_id}/"
    page = editor.get(f"{path}send").text
    assert "Eller i en takt" in page
    found = re.search(r'name="fingerprint" value="([^"]*)"', page)
    assert found
    form = {"fingerprint": found[1], "csrf_token": csrf_token(editor)}
    wrong = editor.post(f"{path}rhythm", data={**form, "rhythm": "each"})
    assert wrong.status_code == 404
    asked = {**form, "rhythm": WEEKLY}
    viewer = as_editor(app, Role.VIEWER)
    theirs = {**asked, "csrf_token": csrf_token(viewer)}
    assert viewer.post(f"{path}rhythm", data=theirs).status_code == 403
    assert editor.post(f"{path}rhythm", data=asked).status_code == 302
    assert "bara till läsarna i den takten" in editor.get(path).text
    assert f"{path}" in editor.get(HERE).text
    assert "Eller i en takt" not in editor.get(f"{path}send").text
    editor.post(f"{path}unschedule", data=form)
    assert "Eller i en takt" in editor.get(f"{path}send").text
