"""Whole errands of an editor in a real browser, from the first click to the last."""

import csv
import re
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select, update

from newsletter import editors, jobs
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.models import (
    DeliveryState,
    Editor,
    Newsletter,
    Role,
    Status,
    Subscription,
)
from newsletter.web import login
from tests.browser.conftest import Live, NewPage
from tests.factories import make_newsletter, make_subscription
from tests.web.workspace.test_importing import FILE, work
from tests.web.workspace.test_reports import make_issue

pytestmark = pytest.mark.browser
OWNER, BO = "owner@redaktion.example", "bo@redaktion.example"
HOME = "/editor/labbet/"
PASSWORD = "fyra fiskmåsar på en brygga"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session)


def follow_link(
    live: Live, database: Database, settings: Settings, page: Page, email: str
) -> None:
    """Log in by a one-time link; what is written is English from then on."""
    with database.transaction() as session:
        editor = editors.by_email(session, email)
        if editor is None:
            url = editors.invite(
                session, settings, email, Role.OWNER, None, now=utcnow()
            )
            editor = editors.by_email(session, email)
        else:
            url = editors.new_link(session, settings, editor)
        assert editor
        editor.language = "en"
    page.goto(url)
    page.locator("main button").click()
    page.wait_for_url(re.compile(r"/editor/(?!invite)"))


@pytest.fixture
def desk(
    live: Live, database: Database, settings: Settings, labbet: Newsletter, page: Page
) -> Page:
    """The owner's page."""
    follow_link(live, database, settings, page, OWNER)
    return page


def downloaded(page: Page, name: str) -> str:
    """Press what hands a file over; return what is in it."""
    with page.expect_download() as waiting:
        page.locator(f"a:has-text('{name}'), button:has-text('{name}')").first.click()
    return Path(waiting.value.path()).read_text("utf-8-sig")


def test_a_file_is_looked_at_tried_imported_and_its_report_taken_home(
    live: Live, desk: Page, database: Database, settings: Settings
) -> None:
    desk.goto(live.url(f"{HOME}subscribers/"))
    desk.get_by_role("link", name="Import readers").click()
    file = {"name": "members.csv", "mimeType": "text/csv", "buffer": FILE.encode()}
    desk.get_by_label("The file").set_input_files(file)  # type: ignore[arg-type]
    desk.get_by_role("button", name="Upload and look").click()
    expect(desk.get_by_text("Recognised as Ghost's")).to_be_visible()
    expect(desk.get_by_label("email", exact=True)).to_have_value("email")
    expect(desk.locator(".sample").filter(has_text="<b>Åsa</b>")).to_be_visible()
    desk.get_by_role("button", name="Try it first").click()
    under_way = desk.get_by_role("progressbar", name="Lines that are done")
    expect(under_way).to_be_visible()
    work(database, settings)
    expect(desk.get_by_text("Tried, waits for you")).to_be_visible()
    desk.get_by_label("Where does their consent come from?").fill("The old list")
    desk.get_by_role("button", name="Import 5 lines").click()
    expect(under_way).to_be_visible()
    work(database, settings, hours=2)
    expect(desk.locator(".state", has_text="Imported")).to_be_visible()
    expect(desk.get_by_role("link", name="Show the subscribers")).to_be_visible()
    report = list(csv.reader(downloaded(desk, "Download the lines").splitlines()))
    assert [row[1:3] for row in report[1:]] == [
        ["4", "'=cmd(1)@"],
        ["6", "HÄR@example.org"],
    ]
    desk.get_by_role("link", name="Import and export").first.click()
    desk.wait_for_url("**/subscribers/import/")
    assert "asa@example.org" in downloaded(desk, "Readers")
    assert "asa@example.org" in downloaded(desk, "Consents")
    desk.goto(live.url(f"{HOME}subscribers/?q=asa"))
    desk.get_by_role("link", name="asa@example.org").click()
    expect(desk.get_by_text("The old list").first).to_be_attached()


def test_a_reader_is_added_found_by_segment_noted_stopped_and_erased(
    live: Live, desk: Page, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        for email, language in (("anna@x.example", "en"), ("bo@x.example", "sv")):
            make_subscription(session, labbet, email, language=language)
    desk.goto(live.url(f"{HOME}subscribers/add"))
    desk.get_by_label("Their email address").fill("carin@x.example")
    desk.get_by_label("How and when did they ask?").fill("On paper, at the fair")
    desk.locator("main form button.button").first.click()
    expect(desk.locator(".said")).to_contain_text("once they confirm")
    desk.goto(live.url(f"{HOME}segments/"))
    desk.get_by_label("Name").fill("English readers")
    desk.get_by_label("Conditions").fill("language:en")
    desk.get_by_role("button", name="Save the segment").click()
    desk.get_by_role("button", name="Count again").click()
    expect(desk.get_by_text("1 active reader")).to_be_visible()
    desk.get_by_role("link", name="Show them").click()
    desk.wait_for_url("**/subscribers/?segment=**")
    expect(desk.locator("main")).not_to_contain_text("bo@x.example")
    desk.get_by_role("link", name="anna@").click()
    desk.get_by_label("For yourselves").fill("Called on Monday")
    desk.get_by_role("button", name="Keep the note").click()
    expect(desk.locator(".notes")).to_contain_text("Called on Monday")
    assert "Called on Monday" in downloaded(desk, "Download their data")
    desk.get_by_label("In your own words").fill("Asked by phone")
    desk.get_by_role("button", name="Stop the mail").click()
    expect(desk.locator(".said-bad")).to_contain_text("No mail goes to this address")
    expect(desk.locator("#consent-title ~ ol li").first).to_contain_text("by phone")
    desk.get_by_label("Why the stop is lifted").fill("Asked again")
    desk.get_by_role("button", name="Lift the stop").click()
    expect(desk.locator(".said-bad")).to_have_count(0)
    desk.get_by_role("link", name="Erase them").click()
    desk.get_by_role("button", name="Erase everything about them").click()
    expect(desk.locator(".said")).to_be_visible()
    with database.reading() as session:
        left = session.scalars(select(Subscription)).all()
        assert {one.subscriber.email for one in left} == {
            "bo@x.example",
            "carin@x.example",
        }
        assert {one.status for one in left} == {Status.ACTIVE, Status.PENDING}


def test_what_became_of_issues_is_read_compared_and_taken_home(
    live: Live, desk: Page, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    now = utcnow()
    with database.transaction() as session:
        readers = [make_subscription(session, labbet) for _ in range(4)]
        for number, bad in ((1, 0), (2, 1)):
            outcome = [(r, DeliveryState.SENT, "") for r in readers[bad:]]
            outcome += [(r, DeliveryState.BOUNCED, "user") for r in readers[:bad]]
            make_issue(
                session, labbet, number, outcome, at=now - timedelta(days=9 - number)
            )
    while jobs.count_issues(database, settings, now):
        pass
    desk.goto(live.url(f"{HOME}issues/"))
    desk.get_by_role("link", name="Reports").click()
    desk.wait_for_url("**/reports/")
    assert len(downloaded(desk, "Download as CSV").strip().splitlines()) == 3
    desk.get_by_role("link", name="Fyra nya inlägg").first.click()
    desk.wait_for_url("**/report")
    expect(desk.locator("main")).to_contain_text("75")
    assert "bounced" in downloaded(desk, "Download as CSV")
    # On a phone the figures keep their labels, and nothing has to be scrolled sideways.
    desk.set_viewport_size({"width": 320, "height": 700})
    shown = desk.get_by_role("region", name="Outcome")
    expect(shown.get_by_role("columnheader", name="Usual share")).to_be_visible()
    delivered = shown.get_by_role("row", name=re.compile("^Delivered"))
    expect(delivered.get_by_role("cell").nth(1)).to_have_text("75%")
    assert shown.evaluate("box => box.scrollWidth <= box.clientWidth")
    desk.goto(live.url(f"{HOME}reports/"))
    for name in ("By issue", "By month"):
        box = desk.get_by_role("region", name=name)
        assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    first = desk.get_by_role("region", name="By issue").get_by_role("row").nth(1)
    label = "cell => getComputedStyle(cell, '::before').content"
    assert "Bounced" in first.get_by_role("cell").nth(3).evaluate(label)


def test_somebody_is_invited_given_a_role_and_made_to_take_a_second_factor(
    live: Live,
    desk: Page,
    new_page: NewPage,
    database: Database,
    settings: Settings,
) -> None:
    people = live.url(f"{HOME}settings/people/")
    desk.goto(people)
    desk.get_by_label("Their email address").fill(BO)
    desk.get_by_role("radio", name="Editor").check()
    desk.get_by_role("button", name="Send the invitation").click()
    expect(desk.get_by_text("Invited, has not logged in yet")).to_be_visible()
    bo = new_page()
    follow_link(live, database, settings, bo, BO)
    bo.goto(live.url(f"{HOME}posts/new"))
    expect(bo.get_by_role("heading", level=1)).to_be_visible()
    desk.goto(people)
    desk.get_by_label(f"What {BO} may do").select_option("viewer")
    desk.get_by_role("button", name=f"Change {BO}").click()
    expect(desk.locator(".said")).to_contain_text("is changed")
    bo.reload()
    expect(bo.locator("main")).to_contain_text("Your role lets you look")
    desk.get_by_label("Everybody here needs a second factor").check()
    desk.get_by_role("button", name="Save").last.click()
    desk.wait_for_url("**/account/second-factor")
    bo.goto(live.url(HOME))
    bo.wait_for_url("**/account/second-factor")
    bo.locator("button[value=authenticator]").click()
    key = re.sub("[ -]", "", bo.locator("code.key").inner_text())
    bo.get_by_label("The code that the app shows now").fill(pyotp.TOTP(key).now())
    bo.get_by_role("button", name="Switch the second factor on").click()
    bo.wait_for_url("**/editor/account/*")
    bo.goto(live.url(HOME))
    expect(bo.get_by_role("heading", level=1)).to_be_visible()
    assert bo.url == live.url(HOME)
    # Logged in anew, neither a link nor the password is enough: a code is asked for.
    with live.app.app_context():
        hashed = login.hash_new_password(PASSWORD)
    with database.transaction() as session:
        session.execute(
            update(Editor).where(Editor.email == BO).values(password=hashed)
        )
    bo.get_by_role("button", name="Log out").click()
    bo.wait_for_url("**/editor/login")
    follow_link(live, database, settings, bo, BO)
    bo.wait_for_url("**/editor/login")
    bo.locator("[name=email]").fill(BO)
    bo.locator("[name=password]").fill(PASSWORD)
    bo.keyboard.press("Enter")
    bo.wait_for_url("**/editor/login/code?**")
    bo.locator("[name=code]").fill("000000")
    bo.keyboard.press("Enter")
    expect(bo.locator(".said-error, .said-bad, .error").first).to_be_visible()
    later = pyotp.TOTP(key).at(utcnow() + timedelta(seconds=30))  # each works once
    bo.locator("[name=code]").fill(later)
    bo.keyboard.press("Enter")
    bo.wait_for_url(re.compile(r"/editor/(?!login)"))
    # The owner has none yet, and is led to it like everybody else.
    desk.goto(people)
    desk.wait_for_url("**/account/second-factor")
    with database.reading() as session:
        editor = session.scalars(select(Editor).where(Editor.email == BO)).one()
        assert editor.tf_primary_method == "authenticator"
