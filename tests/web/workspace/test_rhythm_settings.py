"""When digests go out: an owner's choice, explained, checked, and kept."""

import re
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter import i18n
from newsletter.db import Database, utcnow
from newsletter.digests import drafts, planning
from newsletter.models import IssueState, Mode, Newsletter, Role
from tests.factories import NOW, make_newsletter, make_post
from tests.web.at_work import as_editor, csrf_token

PAGE = "/editor/labbet/settings/rhythms"
OVERVIEW = "/editor/labbet/"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, "labbet", rhythms=["weekly:tue@06:30"])


@pytest.fixture
def client(app: Flask, labbet: Newsletter) -> FlaskClient:
    return as_editor(app, Role.OWNER, labbet)


def filled(client: FlaskClient, **over: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "csrf_token": csrf_token(client, PAGE),
        "mode": "held",
        "rhythms": ["each", "weekly:mon@08:00"],
        "default_rhythm": "weekly:mon@08:00",
        "add_often": "last",
        "add_day": "fri",
        "add_date": "1",
        "add_time": "07:45",
        "at_least": "2",
        "at_most": "10",
        "wait_days": "14",
        "by_language": "1",
        "quiet_days": ["sun", "sat"],
        "holiday_country": "SE",
        "holidays": "2026-12-24\r\n 2026-12-31\r\n",
    }
    return {**values, **over}


def stored(database: Database) -> Newsletter:
    with database.reading() as session:
        return session.scalars(select(Newsletter)).one()


def test_everything_is_saved_and_shown_again(
    client: FlaskClient, database: Database
) -> None:
    assert stored(database).mode is Mode.HAND  # nothing goes before somebody says so
    page = client.get(PAGE).text
    assert "Varje vecka, på tisdagar, kl. 06:30" in page
    assert client.post(PAGE, data=filled(client)).location == PAGE
    found = stored(database)
    assert found.mode is Mode.HELD
    assert found.rhythms == ["each", "weekly:mon@08:00", "monthly:last-fri@07:45"]
    assert (found.default_rhythm, found.by_language) == ("weekly:mon@08:00", True)
    assert (found.at_least, found.at_most, found.wait_days) == (2, 10, 14)
    assert found.quiet_days == ["sat", "sun"]
    assert (found.holiday_country, found.holidays) == (
        *("SE", ["2026-12-24", "2026-12-31"]),
    )
    page = client.get(PAGE).text
    assert "Takterna är sparade." in page
    for shown in (
        'value="held" aria-describedby="mode-held-hint" checked',
        'value="monthly:last-fri@07:45" checked',
        '<option value="SE" selected>Sverige</option>',
        "2026-12-24\n2026-12-31",
    ):
        assert shown in page


@pytest.mark.parametrize(
    ("often", "made"),
    [
        ("", None),
        ("daily", "daily@07:45"),
        ("weekly", "weekly:fri@07:45"),
        ("date", "monthly:9@07:45"),
        ("second", "monthly:second-fri@07:45"),
    ],
)
def test_a_rhythm_is_put_together(
    client: FlaskClient, database: Database, often: str, made: str | None
) -> None:
    client.post(PAGE, data=filled(client, add_often=often, add_date="09"))
    assert stored(database).rhythms[2:] == ([made] if made else [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "ibland"),
        ("rhythms", ["varje fullmåne"]),
        ("default_rhythm", "daily@25:00"),
        ("add_time", "8"),
        ("add_often", "never"),
        ("at_least", "0"),
        ("at_least", "fem"),
        ("at_most", "101"),
        ("wait_days", "-1"),
        ("wait_days", "99999"),
        ("quiet_days", ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]),
        ("holiday_country", "XX"),
        ("holidays", "julafton"),
    ],
)
def test_what_cannot_be_is_refused_and_what_was_typed_is_kept(
    client: FlaskClient, database: Database, field: str, value: Any
) -> None:
    data = {**filled(client, holidays="2031-01-02"), field: value}
    answer = client.post(PAGE, data=data)
    assert answer.status_code == 400, answer.text
    assert "Inget är sparat än." in answer.text
    name = {"add_time": "add_often", "default_rhythm": "rhythms"}.get(field, field)
    assert f'id="{name}-error"' in answer.text
    if field != "holidays":
        assert "2031-01-02" in answer.text
    assert stored(database).mode is Mode.HAND


def test_the_next_times_and_what_cannot_be_are_told_as_typed(
    client: FlaskClient, database: Database
) -> None:
    soon = utcnow() + timedelta(minutes=1)
    today = soon.astimezone(ZoneInfo("Europe/Stockholm")).date()
    mondays = [today + timedelta(days=n) for n in range(36)]
    mondays = [day for day in mondays if day.weekday() == 0]
    assert "följer inläggen" not in client.get(PAGE).text
    typed = filled(
        client,
        quiet_days=["mon"],
        holidays=(mondays[1] + timedelta(days=1)).isoformat(),
        holiday_country="",
        add_often="weekly",
        add_day="mon",
        add_time="23:59",
    )
    part = client.post(f"{PAGE}/check?part=1", data=typed).text
    words = i18n.language("sv")
    told = re.search(r"på måndagar, kl. 23:59</span>(.+?)</li>", part)
    assert told
    said = re.findall(r'coming-day">([^<]+)', told[1])
    moved = [1, 2, 1]  # the second one's Tuesday is quiet too
    assert said[:3] == [
        f"{words.weekday(day + timedelta(days=more))}, då {words.weekday(day)} är tyst"
        for day, more in zip(mondays, moved, strict=False)
    ]
    assert "följer inläggen" in part
    assert "data-fault" not in part
    # Every fault at once, each for its field; the rest is told all the same.
    wrong = {"at_most": "101", "wait_days": "x", "holidays": "jul", "add_time": "8"}
    part = client.post(f"{PAGE}/check?part=1", data={**typed, **wrong}).text
    assert set(re.findall(r'data-fault="(\w+)"', part)) == {
        *("at_most", "wait_days", "holidays", "add_often"),
    }
    assert "på måndagar, kl. 08:00" in part
    page = client.post(f"{PAGE}/check", data=typed).text  # without the script
    assert said[0] in page
    assert 'value="23:59"' in page
    assert stored(database).mode is Mode.HAND
    assert stored(database).quiet_days == []


def test_after_a_restored_backup_an_owner_lets_digests_go_again(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        found = session.scalars(select(Newsletter)).one()
        found.mode, found.halted_at = Mode.AUTOMATIC, NOW
    assert "En säkerhetskopia har lästs tillbaka." in client.get(OVERVIEW).text
    page = client.get(PAGE).text
    assert "Låt utskicken gå av sig själva igen" in page
    address = "/editor/labbet/settings/go-ahead"
    token = {"csrf_token": csrf_token(client, PAGE)}
    assert client.post(address, data=token).location == PAGE
    assert stored(database).halted_at is None
    assert "Nästa utskick" in client.get(OVERVIEW).text


def test_the_overview_tells_of_what_waits_and_what_comes_next(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        found = session.scalars(select(Newsletter)).one()
        make_post(session, found)
        found.mode = Mode.AUTOMATIC
    assert "Europe/Stockholm" in client.get(OVERVIEW).text
    with database.transaction() as session:
        found = session.scalars(select(Newsletter)).one()
        issue = drafts.draft(session, found, now=NOW)
        issue.state, issue.held_reason = IssueState.HELD, planning.N_LATE
    page = client.get(OVERVIEW).text
    assert re.search(
        r"väntar på ditt ja sedan [^<]*\. Det kunde inte gå ut i tid", page
    )
