"""More errands of an editor: sending later and again, settings tried, several of us."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import dns.resolver
import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from sqlalchemy import select

from newsletter import editors, jobs
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import drafts
from newsletter.models import (
    Delivery,
    Issue,
    IssueState,
    Mode,
    Newsletter,
    NewsletterRelay,
    Role,
)
from newsletter.posts import topics
from newsletter.web.security import SETTINGS
from tests.browser.conftest import Live, NewPage, axe, press
from tests.browser.test_composing import settle
from tests.browser.test_flows import HOME, OWNER, desk, downloaded, follow_link, labbet
from tests.cli.test_dkim import Dns
from tests.factories import make_newsletter, make_post, make_subscription
from tests.feed_server import RSS, Answer, FeedServer
from tests.smtp_server import SmtpServer

pytestmark = pytest.mark.browser
__all__ = ["desk", "labbet"]  # fixtures
EDITOR = "elin@redaktion.example"


def pressed(page: Page, name: str, *, exact: bool = False) -> None:
    page.get_by_role("button", name=name, exact=exact).press("Enter")


def undo_by_key(page: Page) -> None:
    expect(page.get_by_role("button", name="Undo", exact=True)).to_be_visible()
    press(page, "z")


def test_an_issue_goes_at_a_time_or_in_a_rhythm_and_once_more_to_the_failed(
    live: Live, desk: Page, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        here.mode, here.undo_seconds = Mode.HELD, 0
        make_post(session, here)
        for _ in range(3):
            make_subscription(session, here)
        number = drafts.draft(session, here, now=utcnow()).id
    page = live.url(f"{HOME}issues/{number}/")

    def state() -> IssueState:
        with database.reading() as session:
            return session.get_one(Issue, number).state

    # A test to several, by Return where they stand.
    desk.goto(page)
    desk.get_by_label("Send it to").fill("anna@x.example, bo@x.example")
    desk.keyboard.press("Enter")
    expect(desk.locator(".said")).to_contain_text("bo@x.example")
    with database.reading() as session:
        tests = session.scalars(
            select(Delivery.address).where(Delivery.occasion.not_like("issue:%"))
        ).all()
    assert sorted(tests) == ["anna@x.example", "bo@x.example"]
    # In a rhythm, for its readers alone; the calendar has it; then not after all.
    desk.goto(f"{page}send")
    desk.get_by_label("As the next digest").select_option("weekly:mon@08:00")
    pressed(desk, "Let it go then")
    expect(desk.get_by_text("It is the digest of a rhythm")).to_be_visible()
    desk.goto(live.url(f"{HOME}calendar/"))
    expect(desk.locator(f"a[href*='/issues/{number}/']").first).to_be_visible()
    desk.goto(page)
    pressed(desk, "Cancel the schedule")
    expect(desk.locator(".said")).to_contain_text("a draft again")
    # At a time: one that is over is refused, with what was typed still there.
    desk.goto(f"{page}send")
    at = utcnow() + timedelta(days=2)
    desk.get_by_label("Day and time").fill("2020-01-01T08:00")
    desk.locator("form.later").first.evaluate("form => form.noValidate = true")
    pressed(desk, "Schedule it")
    expect(desk.locator("#at-error")).to_be_visible()
    expect(desk.get_by_label("Day and time")).to_have_value("2020-01-01T08:00")
    axe(desk)
    desk.get_by_label("Day and time").fill(at.strftime("%Y-%m-%dT08:30"))
    pressed(desk, "Schedule it")
    expect(desk.locator(".said")).to_contain_text("Goes out by itself on")
    expect(desk.locator(".said")).to_contain_text("8:30")
    with database.reading() as session:
        due = session.get_one(Issue, number).scheduled_at
    assert due
    assert jobs.start_scheduled(database, settings, due - timedelta(seconds=1)) == 0
    assert jobs.start_scheduled(database, settings, due) == 1
    desk.reload()
    expect(desk.locator("[data-summary]")).to_have_text("0 of 3 sent")
    settle(database, number, "sent", "bounced", "bounced")
    # Two had no mailbox: they are tried again once somebody has seen to it.
    expect(desk.locator(".big")).to_have_text("1 of 3")
    expect(desk.get_by_role("cell", name="Show 2 readers")).to_be_visible()
    desk.get_by_role("link", name="Try the failed again").press("Enter")
    desk.wait_for_url("**/retry")
    axe(desk)
    desk.get_by_role("checkbox").check()
    pressed(desk, "Try the chosen ones again")
    expect(desk.locator("[data-summary]")).to_have_text("1 of 3 sent")
    settle(database, number, "sent", "sent")
    expect(desk.locator(".big")).to_have_text("3 of 3")
    expect(desk.locator("section", has_text="Tried again")).to_contain_text(OWNER)
    assert state() is IssueState.SENT
    # Another one is stopped on its way: held, let go, and then ended for good.
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        make_post(session, here)
        other = drafts.draft(session, here, now=utcnow()).id
    desk.goto(live.url(f"{HOME}issues/{other}/send"))
    pressed(desk, "Send to 3 readers now")
    desk.wait_for_url(f"**/issues/{other}/")
    settle(database, other, "sent")
    expect(desk.locator("[data-summary]")).to_have_text("1 of 3 sent")
    press(desk, "p")
    expect(desk.locator(".facts .state")).to_have_text("Sending is paused")
    desk.get_by_role("link", name="Cancel …").press("Enter")
    expect(desk.locator(".ask-words")).to_contain_text("2 readers are left")
    axe(desk)
    pressed(desk, "Cancel the issue")
    expect(desk.locator(".facts .state")).to_have_text("Cancelled")
    expect(desk.locator(".big")).to_have_text("1 of 3")


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer(login=("lab", "hemligt-ord")) as server:
        yield server


@pytest.fixture
def open_app(app: Flask) -> Iterator[Flask]:
    """The application, where a relay and a feed on this host may be named."""
    before, here = app.extensions[SETTINGS], ("127.0.0.1",)
    app.extensions[SETTINGS] = replace(before, relay_allow=here, fetch_allow=here)
    yield app
    app.extensions[SETTINGS] = before


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Dns:
    """A DNS in which one domain vouches for its sender and another does not."""
    made = Dns()
    made.file = (
        'brev 60 IN TXT "v=spf1 mx -all"\n_dmarc.brev 60 IN TXT "v=DMARC1; p=none"\n'
        "brev 60 IN MX 10 post.brev.se.\n"
    )
    monkeypatch.setattr(dns.resolver, "default_resolver", made)
    return made


def test_settings_are_judged_as_typed_the_dns_looked_at_and_a_relay_tried(
    open_app: Flask,
    live: Live,
    desk: Page,
    database: Database,
    server: SmtpServer,
    zone: Dns,
) -> None:
    # What cannot be is said at its field while one is in it, and a sample follows.
    desk.goto(live.url(f"{HOME}settings/"))
    desk.get_by_label("Answers go to").fill("nobody")
    expect(desk.locator("#reply_to-error")).to_contain_text("is not an e-mail address")
    expect(desk.get_by_label("Answers go to")).to_have_attribute("aria-invalid", "true")
    axe(desk)
    desk.get_by_label("Answers go to").fill("")
    expect(desk.locator("#reply_to-error")).to_have_count(0)
    desk.get_by_label("Postal address").fill("")
    expect(desk.locator("#sender-line")).to_contain_text("no issue can be sent")
    desk.get_by_label("Postal address").fill("Box 1\n111 11 Staden")
    expect(desk.locator("#sender-line")).to_contain_text("Box 1, 111 11 Staden")
    desk.get_by_label("Colour", exact=True).fill("#ffee00")
    expect(desk.locator("#accent-shown")).to_contain_text("hard to read")
    sender = desk.get_by_label("Sender's email address")
    for domain, said in (("tyst.se", "There is no record"), ("brev.se", "p=none")):
        sender.fill(f"labbet@{domain}")
        sender.press("Tab")
        expect(desk.locator("#mail-check")).to_contain_text(said)
    expect(desk.locator("#mail-check")).to_contain_text("taken by post.brev.se")
    # The next three times of each rhythm, with quiet days thought of.
    desk.get_by_role("link", name="Rhythms").click()
    desk.wait_for_url("**/settings/rhythms")
    desk.get_by_label("How often").select_option("weekly")
    desk.get_by_label("Day", exact=True).select_option("fri")
    coming = desk.locator("#coming li", has_text="on Friday")
    expect(coming.locator(".coming-day")).to_have_count(3)
    desk.get_by_role("checkbox", name="Friday", exact=True).check()
    expect(coming).to_contain_text(re.compile(r"Sat, .+ as Fri, .+ is quiet"))
    desk.get_by_label("Other quiet days").fill("Christmas")
    expect(desk.locator("#holidays-error")).to_contain_text("is not a date")
    axe(desk)
    # A relay of one's own: tried, used, left, forgotten, and back again.
    desk.get_by_role("link", name="Relay", exact=True).click()
    desk.wait_for_url("**/settings/relay")
    desk.get_by_label("Server").fill("127.0.0.1")
    desk.get_by_label("Encryption").select_option("plain")
    desk.get_by_label("Port").fill("99999")
    expect(desk.locator("#port-error")).to_be_visible()
    desk.get_by_label("Port").fill(str(server.port))
    expect(desk.locator("#port-error")).to_have_count(0)
    desk.get_by_label("User name").fill("lab")
    for password, said in (("wrong", "535 5.7.8"), ("hemligt-ord", "It answers")):
        desk.get_by_label("Password").fill(password)
        pressed(desk, "Try it", exact=True)
        expect(desk.locator("#mail-check")).to_contain_text(said)
    pressed(desk, "Try it and use it from now on")
    expect(desk.locator(".said")).to_contain_text("goes by 127.0.0.1")
    pressed(desk, "Go back to the installation's relay")
    pressed(desk, "Forget it and its password")
    expect(desk.locator(".said")).to_contain_text("are forgotten")
    undo_by_key(desk)
    pressed(desk, "Use 127.0.0.1 again")
    expect(desk.locator(".said")).to_contain_text("goes by 127.0.0.1")
    assert "hemligt-ord" not in desk.content()
    with database.reading() as session:
        assert session.scalars(select(NewsletterRelay)).one().active
    assert server.count == 0


def test_several_newsletters_sessions_ended_and_a_log_of_it_all(
    live: Live,
    desk: Page,
    new_page: NewPage,
    database: Database,
    settings: Settings,
    labbet: Newsletter,
) -> None:
    with database.transaction() as session:
        other = make_newsletter(
            session, "annat", title="Något annat", accent="#1a4f8b", language="en"
        )
        editors.add(session, EDITOR, Role.EDITOR, other, now=utcnow())
    elin = new_page(width=360, theme="dark")
    follow_link(live, database, settings, elin, EDITOR)
    # Over to the other newsletter and its own settings; nothing of the first is there.
    desk.goto(live.url(f"{HOME}settings/"))
    desk.get_by_text("Other newsletters").press("Enter")
    desk.get_by_role("link", name="Något annat").press("Enter")
    desk.wait_for_url("**/editor/annat/")
    desk.keyboard.press("7")
    expect(desk.get_by_label("Colour", exact=True)).to_have_value("#1a4f8b")
    expect(desk.get_by_label("Name", exact=True)).to_have_value("Något annat")
    # Who works with one alone has no way to the other.
    expect(elin.locator(".switcher")).to_have_count(0)
    answer = elin.goto(live.url(HOME))
    assert answer
    assert answer.status == 404
    # A role is changed, and whoever has it is logged out everywhere, at once.
    desk.goto(live.url("/editor/annat/settings/people/"))
    desk.get_by_label(f"What {EDITOR} may do").select_option("viewer")
    pressed(desk, f"Change {EDITOR}")
    expect(desk.locator(".said")).to_contain_text("is changed")
    pressed(desk, f"Log out everywhere {EDITOR}")
    expect(desk.locator(".said")).to_contain_text("logged out")
    elin.goto(live.url("/editor/annat/"))
    elin.wait_for_url("**/editor/login?*")
    # One's own: the other browser is seen, ended, and out.
    second = new_page()
    follow_link(live, database, settings, second, OWNER)
    desk.goto(live.url("/editor/account/"))
    rows = desk.locator("#sessions + ul > li")
    expect(rows).to_have_count(2)
    axe(desk)
    rows.get_by_role("button", name="End").press("Enter")
    expect(rows).to_have_count(1)
    second.goto(live.url(HOME))
    second.wait_for_url("**/editor/login?*")
    # Who, what, before and after stand in the log, and can be taken home.
    desk.goto(live.url("/editor/annat/settings/changes"))
    desk.get_by_label("Who").select_option(label=OWNER)
    pressed(desk, "Show")
    desk.wait_for_url("**/settings/changes/?**")
    entry = desk.locator(".changes li", has_text=EDITOR).filter(has_text="Role").last
    expect(entry).to_contain_text(OWNER)
    expect(entry.locator("del")).to_contain_text("ditor")
    expect(entry.locator("ins")).to_contain_text("iewer")
    axe(desk)
    assert "viewer" in downloaded(desk, "Download as CSV")


def test_a_segment_is_saved_from_the_list_downloaded_and_brought_back_by_a_key(
    live: Live, desk: Page, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        topics.create(session, here, "Klimat")
        for email, language in (("anna@x.example", "en"), ("bo@x.example", "sv")):
            make_subscription(session, here, email, language=language)
    # A filter from the list gets a name, and is what is taken home.
    desk.goto(live.url(f"{HOME}subscribers/?segment=language:en"))
    desk.get_by_role("link", name="Give it a name").press("Enter")
    desk.get_by_label("Name").fill("English readers")
    pressed(desk, "Save the segment")
    expect(desk.locator(".segments li")).to_have_count(1)
    press(desk, "5")
    desk.get_by_role("link", name="English readers").press("Enter")
    desk.wait_for_url("**/subscribers/?segment=**")
    lines = downloaded(desk, "Download these as CSV").strip().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["anna@x.example"]
    # What is removed is back at the press of a key; the second time it says so.
    undone = desk.locator(".said", has_text="Undone")
    desk.get_by_role("link", name="Segments …").press("Enter")
    pressed(desk, "Remove : English readers")
    expect(desk.get_by_role("button", name="Undo", exact=True)).to_be_visible()
    expect(desk.locator(".segments li")).to_have_count(0)
    axe(desk)
    undo_by_key(desk)
    expect(undone).to_be_visible()
    expect(desk.locator(".segments li")).to_contain_text("language")
    desk.goto(live.url(f"{HOME}topics/"))
    desk.locator("main details summary").first.click()
    pressed(desk, "Remove the topic : Klimat")
    undo_by_key(desk)
    expect(undone).to_be_visible()
    expect(desk.locator("main")).to_contain_text("Klimat")
    desk.goto(live.url(f"{HOME}subscribers/?q=bo@"))
    desk.get_by_role("link", name="bo@x.example").press("Enter")
    pressed(desk, "Stop the mail")
    expect(desk.locator(".said-bad")).to_contain_text("No mail goes to this address")
    undo_by_key(desk)
    expect(undone).to_be_visible()
    expect(desk.locator(".said-bad")).to_have_count(0)


def test_a_feed_fills_the_calendar_whose_digests_are_moved_skipped_and_sent_by_hand(
    open_app: Flask, live: Live, desk: Page, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        here.mode, here.undo_seconds = Mode.AUTOMATIC, 90
        make_subscription(session, here)
    desk.goto(live.url(f"{HOME}feeds/"))
    published = format_datetime(utcnow() - timedelta(hours=1)).encode()
    with FeedServer() as blog:
        body = RSS.replace(b"Sun, 22 Nov 2026 08:00:00 +0000", published)
        blog.answers["/feed"] = Answer(body)
        desk.get_by_label("The feed's web address").fill(blog.url())
        desk.keyboard.press("Enter")
        expect(desk.locator(".feeds li")).to_contain_text("Kören")
    pressed(desk, "Pause the feed")
    expect(desk.get_by_role("button", name="Follow again")).to_be_visible()
    undo_by_key(desk)
    expect(desk.get_by_role("button", name="Pause the feed")).to_be_visible()
    # Its post stands in the next digest. That is moved, and put back by a key.
    press(desk, "4")
    due = desk.locator(".due-next")
    expect(due).to_contain_text("En egen kväll")
    first = due.inner_text()
    change = due.get_by_role("link", name="Change …")
    change.press("Enter")
    desk.wait_for_url("**/calendar/change?**")
    axe(desk)
    at = utcnow().astimezone(ZoneInfo(labbet.timezone)) + timedelta(minutes=90)
    desk.get_by_label("Day and time").fill(at.strftime("%Y-%m-%dT%H:%M"))
    desk.locator("form.later").first.evaluate("form => form.noValidate = true")
    pressed(desk, "Move it there")
    expect(desk.locator(".due .state", has_text="Moved")).to_be_visible()
    undo_by_key(desk)
    expect(desk.locator(".due .state", has_text="Moved")).to_have_count(0)
    expect(due).to_have_text(first, use_inner_text=True)
    # Skipped, its posts go with the one after it; then not after all.
    change.press("Enter")
    pressed(desk, "Skip this one")
    expect(desk.locator(".due-off")).to_contain_text("come with the next one")
    undo_by_key(desk)
    expect(desk.locator(".due-off")).to_have_count(0)
    # Sent instead of waiting, and taken back while nothing has left.
    change.press("Enter")
    pressed(desk, "Send to 1 reader now")
    expect(desk.get_by_role("button", name="Undo")).to_be_focused()
    desk.keyboard.press("Enter")
    expect(desk.locator(".said")).to_contain_text("Nobody has got anything")
