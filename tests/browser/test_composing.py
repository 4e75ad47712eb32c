"""Writing and sending in a real browser: keyboard, live preview, hostile text, axe."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import drafts, publish
from newsletter.mail import ledger
from newsletter.mail.ledger import Outcome
from newsletter.models import (
    DeliveryState,
    Issue,
    IssueState,
    Message,
    Post,
    PostState,
    Role,
    Subscriber,
    Subscription,
)
from tests.browser.conftest import PATIENCE_MS, Live, NewPage, axe, press, until
from tests.factories import make_newsletter, make_post, make_subscription

pytestmark = pytest.mark.browser

TITLES = (
    "Nu gäller det att använda tiden rätt",
    "En egen kväll för tjejer",
    "Integrationskör i behov av framtidsfinansiering",
)
LONG = "Donaudampfschiffahrtsgesellschaftskapitän" * 3
SAVE_AND_SHOW = """() => {
    const form = document.querySelector("form[data-compose]");
    form.requestSubmit(form.querySelector("[data-save]"));
    form.dispatchEvent(new CustomEvent("inkorg:taken"));
}"""


@pytest.fixture
def issue_id(database: Database) -> int:
    """A newsletter with posts, one of them with a very long title, and a draft."""
    with database.transaction() as session:
        labbet = make_newsletter(session, undo_seconds=0)
        for title in TITLES:
            make_post(session, labbet, title=title)
        make_post(session, labbet, title=LONG, state=PostState.HELD, position=None)
        for _ in range(4):
            make_subscription(session, labbet)
        make_subscription(session, labbet, language="en")
        return drafts.draft(session, labbet, now=utcnow()).id


@pytest.fixture
def desk(live: Live, new_page: NewPage, issue_id: int) -> Page:
    """An editor's page."""
    page = new_page()
    live.log_in(page, Role.EDITOR)
    return page


def settle(database: Database, issue_id: int, *states: str) -> None:
    """Let a worker claim as many deliveries and report these states."""
    now = utcnow()
    with database.transaction() as session:
        left = list(states)
        for message in session.scalars(
            select(Message).where(Message.issue_id == issue_id)
        ).all():
            claimed = ledger.claim(
                session, worker="w", limit=len(left), now=now, message_id=message.id
            )
            outcomes = [
                Outcome(c.id, message.id, DeliveryState(left.pop()), "550 5.1.1 No")
                for c in claimed.claims
            ]
            ledger.settle(session, "w", outcomes, now=now)
        publish.finish_settled(session, now=now)


def shown(page: Page) -> Any:
    """Return the frame that shows the mail now."""
    return page.frame_locator("[data-frames] iframe:not(.is-waiting)")


def refuse(dialog: Dialog, heard: list[str]) -> None:
    heard.append(dialog.type)
    dialog.dismiss()


def path(live: Live, rest: str) -> str:
    return live.url(f"/editor/labbet/{rest}")


def test_the_mail_follows_what_is_typed(live: Live, desk: Page, issue_id: int) -> None:
    desk.goto(path(live, f"issues/{issue_id}/"))
    history = desk.evaluate("history.length")
    for words in ("Hej på er!", "Hej igen, **alla**!"):
        desk.get_by_label("Inledning").fill(words)
        expect(shown(desk).locator("body")).to_contain_text(words.split(",")[0])
    expect(shown(desk).locator("strong", has_text="alla")).to_be_visible()
    desk.locator("label", has_text="Följer med").first.click()
    expect(shown(desk).locator("body")).not_to_contain_text(TITLES[2])
    desk.locator(".segments label", has_text="Text").click()
    expect(shown(desk).locator("pre")).to_contain_text("Hej igen, alla!")
    assert desk.evaluate("history.length") == history
    # Saved in the very moment in which the preview is due, it is saved all the same.
    desk.evaluate(SAVE_AND_SHOW)
    expect(desk.locator(".said")).to_have_text("Sparat.")


def test_the_mail_can_be_seen_on_a_phone_in_the_dark_and_in_english(
    live: Live, desk: Page, issue_id: int
) -> None:
    desk.goto(path(live, f"issues/{issue_id}/"))
    desk.locator(".segments label", has_text="Telefon").click()
    frame = desk.locator("[data-frames] iframe")
    expect(frame).to_have_js_property("offsetWidth", 360)
    desk.locator(".segments label", has_text="Mörkt").click()
    expect(shown(desk).locator(":root")).to_have_css("color-scheme", "dark")
    desk.locator(".segments label", has_text="English").click()
    expect(shown(desk).locator("body")).to_contain_text("Three new posts")


def test_posts_are_ordered_by_keyboard_alone(
    live: Live, desk: Page, database: Database, issue_id: int
) -> None:
    desk.goto(path(live, f"issues/{issue_id}/"))
    rows = desk.locator("[data-posts] > li")
    first, second, third = (rows.nth(n).get_attribute("data-title") for n in range(3))
    desk.get_by_role("button", name=f"Flytta upp: {third}").focus()
    desk.keyboard.press("Enter")
    assert desk.evaluate("document.activeElement.dataset.move") == "up"
    expect(desk.locator("[data-voice]")).to_contain_text("plats 2 av 3")
    desk.keyboard.press("Enter")
    # At the top the arrow up is spent: the focus goes to the one beside it.
    assert desk.evaluate("document.activeElement.dataset.move") == "down"
    desk.keyboard.press("Alt+ArrowDown")
    titles = [rows.nth(n).get_attribute("data-title") for n in range(3)]
    assert titles == [first, third, second]
    assert rows.nth(0).locator("[data-move=up]").is_disabled()
    expect(desk.locator("[data-saved]")).to_contain_text("Sparat ")
    desk.keyboard.press("Control+s")
    expect(desk.locator(".said")).to_have_text("Sparat.")
    with database.reading() as session:
        issue = session.get_one(Issue, issue_id)
        assert [entry.post.title for entry in issue.posts] == titles
    # On to sending and back, thrown away and brought back: the keyboard alone.
    press(desk, "g")
    desk.wait_for_url("**/send")
    desk.goto(path(live, f"issues/{issue_id}/"))
    desk.locator("form.discard button").focus()
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("button", name="Ångra")).to_be_visible()
    axe(desk)
    desk.keyboard.press("z")
    desk.wait_for_url(f"**/issues/{issue_id}/")
    expect(desk.locator(".said")).to_contain_text("Nu är det som förut.")
    assert [rows.nth(n).get_attribute("data-title") for n in range(3)] == titles


def test_posts_are_dragged_featured_and_seen_in_a_list_of_mails(
    live: Live, desk: Page, new_page: NewPage, issue_id: int
) -> None:
    desk.goto(path(live, f"issues/{issue_id}/"))
    rows = desk.locator("[data-posts] > li")
    first, second, third = (rows.nth(n).get_attribute("data-title") for n in range(3))

    def drag(escapes: bool = False) -> None:
        grip = rows.nth(2).locator("[data-grip]")
        grip.scroll_into_view_if_needed()
        start, top = grip.bounding_box(), rows.nth(0).bounding_box()
        assert start
        assert top
        desk.mouse.move(start["x"] + 8, start["y"] + 8)
        desk.mouse.down()
        desk.mouse.move(start["x"] + 8, top["y"] + 4, steps=4)
        expect(rows.nth(0)).to_have_class("is-dragged")
        if escapes:
            desk.keyboard.press("Escape")
        desk.mouse.up()

    desk.set_viewport_size({"width": 1280, "height": 1800})
    drag(escapes=True)
    assert rows.nth(2).get_attribute("data-title") == third
    drag()
    assert [rows.nth(n).get_attribute("data-title") for n in range(3)] == [
        third,
        first,
        second,
    ]
    expect(desk.locator("[data-voice]")).to_contain_text("plats 1 av 3")
    expect(rows.nth(0).locator("[data-move=up]")).to_be_disabled()
    for row in (0, 2):
        rows.nth(row).get_by_label(re.compile("Först och störst")).check()
    expect(desk.locator("[data-only-one]:checked")).to_have_count(1)
    expect(shown(desk).locator("h2.featured")).to_have_text(second or "")
    subject = desk.locator(".inbox-light .inbox-subject")
    expect(subject).to_contain_text("3 nya inlägg")
    desk.get_by_label("Ämnesrad").fill("Ett ämne som är längre än telefoner visar det")
    expect(subject).to_have_text("Ett ämne som är längre än telefoner visar det")
    expect(desk.locator("#subject-count")).to_contain_text("45 tecken. Telefoner")
    expect(desk.locator("[data-saved]")).to_contain_text("Sparat ")

    phone = new_page(width=360)
    live.log_in(phone, Role.EDITOR)
    phone.goto(path(live, f"issues/{issue_id}/"))
    expect(phone.locator(".mail-pane")).to_be_hidden()
    phone.locator(".sides label").nth(1).click()
    expect(phone.get_by_label("Ämnesrad")).to_be_hidden()
    expect(shown(phone).locator("h2.featured")).to_have_text(second or "")
    axe(phone)
    phone.keyboard.press("e")  # back to the words, where one writes
    expect(phone.get_by_label("Ämnesrad")).to_be_focused()


def test_two_editors_in_one_draft_are_told_and_lose_nothing(
    live: Live,
    desk: Page,
    new_page: NewPage,
    database: Database,
    settings: Settings,
    issue_id: int,
) -> None:
    def opening() -> str:
        with database.reading() as session:
            return session.get_one(Issue, issue_id).opening

    asked: list[str] = []
    desk.on("dialog", lambda dialog: refuse(dialog, asked))
    other = new_page()
    live.log_in(other, Role.OWNER)
    for page in (desk, other):
        page.goto(path(live, f"issues/{issue_id}/"))
    # It saves itself; what the other has not touched comes into their page.
    other.get_by_label("Ämnesrad").fill("Ägarens ämne")
    expect(other.locator("[data-saved]")).to_contain_text("Sparat ")
    desk.get_by_label("Inledning").fill("Mina ord")
    expect(desk.get_by_label("Ämnesrad")).to_have_value("Ägarens ämne")
    expect(desk.locator("[data-notice]")).to_contain_text("owner@redaktion.example")
    assert opening() == "Mina ord"
    # Leaving within a pause asks nothing, and loses nothing.
    desk.get_by_label("Inledning").fill("Mina sista ord")
    desk.get_by_role("link", name="Inlägg", exact=True).click()
    desk.wait_for_url("**/posts/")
    assert asked == []
    until(desk, lambda: opening() == "Mina sista ord")
    # Both have now written an opening: both are kept, and one chooses.
    other.get_by_label("Inledning").fill("Ägarens ord")
    other.get_by_role("button", name="Se båda och välj").click()
    expect(other.locator(".theirs blockquote")).to_have_text("Mina sista ord")
    axe(other)
    expect(other.get_by_label("Inledning")).to_have_value("Ägarens ord")
    assert opening() == "Mina sista ord"
    other.locator(".theirs").get_by_role("button").click()
    expect(other.get_by_label("Inledning")).to_have_value("Mina sista ord")
    other.get_by_label("Inledning").fill("Mina sista ord. Ägarens ord")
    other.keyboard.press("Control+s")
    expect(other.locator(".said").first).to_have_text("Sparat.")
    assert opening() == "Mina sista ord. Ägarens ord"
    other.get_by_role("link", name="Versioner").click()
    expect(other.locator(".version-list")).to_contain_text("undanlagt")
    axe(other)
    other.locator(".version-list a").nth(1).click()
    expect(other.locator(".then-now")).to_contain_text("Ägarens ord")
    axe(other)
    other.get_by_role("button", name="Gå tillbaka till den här versionen").click()
    expect(other.locator(".said").first).to_contain_text("igen")


def test_what_was_sent_is_taken_back_by_one_key(
    live: Live, desk: Page, database: Database, settings: Settings, issue_id: int
) -> None:
    with database.transaction() as session:
        issue, now = drafts.find(session, issue_id), utcnow()
        publish.send_soon(session, settings, issue, seconds=90, expected=5, now=now)
    desk.goto(path(live, f"issues/{issue_id}/"))
    expect(desk.get_by_role("button", name="Ångra")).to_be_focused()
    desk.keyboard.press("Enter")
    expect(desk.locator(".said")).to_contain_text("Ingen har fått något")


def test_from_a_draft_to_everyones_inbox(
    live: Live, desk: Page, database: Database, issue_id: int
) -> None:
    desk.goto(path(live, f"issues/{issue_id}/"))
    desk.get_by_label("Ämnesrad").fill("Fyra nya inlägg")
    desk.get_by_role("button", name="Granska och skicka …").click()
    expect(desk.get_by_role("heading", level=1)).to_have_text("Skicka till 5 läsare?")
    expect(desk.locator(".asked-subject")).to_have_text("Fyra nya inlägg")
    desk.get_by_role("button", name="Skicka till 5 läsare nu").click()
    expect(desk.locator("[data-summary]")).to_have_text("0 av 5 skickade")
    desk.evaluate("window.stayed = true")
    settle(database, issue_id, "sent", "sent")
    expect(desk.locator("[data-summary]")).to_have_text("2 av 5 skickade")
    assert desk.evaluate("window.stayed")
    desk.get_by_role("button", name="Pausa").click()
    expect(desk.locator(".facts .state")).to_have_text("Pausat")
    desk.get_by_role("button", name="Fortsätt skicka").click()
    expect(desk.locator(".facts .state")).to_have_text("Skickas nu")
    settle(database, issue_id, "sent", "sent", "sent")
    expect(desk.locator(".facts .state")).to_have_text("Skickat")
    expect(desk.locator(".big")).to_have_text("5 av 5")
    press(desk, "r")
    desk.wait_for_url("**/report")


def test_it_all_works_without_javascript(
    live: Live,
    database: Database,
    settings: Settings,
    new_page: NewPage,
    issue_id: int,
) -> None:
    page = new_page(java_script_enabled=False)
    live.log_in(page, Role.EDITOR)
    page.goto(path(live, f"issues/{issue_id}/"))
    page.get_by_label("Inledning").fill("Utan skript")
    page.locator(".segments label", has_text="Text").click()
    page.locator("noscript button").click()
    expect(page.frame_locator("iframe").locator("pre")).to_contain_text("Utan skript")
    page.get_by_role("button", name=f"Flytta ner: {TITLES[2]}").click()
    expect(page.locator(".place-title").nth(1)).to_have_text(TITLES[2])
    expect(page.get_by_label("Inledning")).to_have_value("Utan skript")
    page.get_by_role("button", name="Granska och skicka …").click()
    page.get_by_role("button", name="Skicka till 5 läsare nu").click()
    expect(page.locator("[data-summary]")).to_have_text("0 av 5 skickade")
    settle(database, issue_id, "sent")
    expect(page.locator("[data-summary]")).to_have_text("1 av 5 skickade")


def test_a_post_is_written_with_its_preview_beside(
    live: Live, desk: Page, database: Database
) -> None:
    desk.goto(path(live, "posts/new"))
    desk.get_by_label("Rubrik").fill("Kören sjunger vidare")
    desk.get_by_label("Text", exact=True).fill("Nu i **åtta** orter.")
    expect(shown(desk).locator("h1")).to_have_text("Kören sjunger vidare")
    expect(shown(desk).locator("strong")).to_have_text("åtta")
    desk.get_by_role("button", name="Spara och publicera").click()
    expect(desk.locator(".said")).to_contain_text("är publicerat")
    with database.reading() as session:
        newest = session.scalars(select(Post).order_by(Post.id.desc())).first()
    assert newest
    assert newest.state is PostState.PUBLISHED


RUNS = "top.document.documentElement.dataset.ran=1;alert(1)"
HOSTILE = (
    f'<script>{RUNS}</script><img src=x onerror="{RUNS}">'
    f'<svg onload="{RUNS}"></svg><a id=a href="javascript:{RUNS}">tryck</a>'
    f'<iframe srcdoc="<script>{RUNS}</script>"></iframe>'
    f'<meta http-equiv=refresh content="0;url=javascript:{RUNS}">'
    f'<form action="/editor/"><button autofocus onfocus="{RUNS}">x</button></form>'
)


@pytest.fixture
def open_desk(live: Live, chromium: Browser, issue_id: int) -> Iterator[Page]:
    """A page on which what the policy stops may be reported without a failure."""
    context = chromium.new_context(locale="sv-SE")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    live.log_in(page, Role.EDITOR)
    yield page
    context.close()


@pytest.mark.parametrize("place", ["posts/1/", "issues/{issue}/"])
def test_what_strangers_wrote_never_runs(
    live: Live, open_desk: Page, database: Database, issue_id: int, place: str
) -> None:
    # Past the sanitiser, straight into the database: the frame itself must hold.
    with database.transaction() as session:
        for post in session.scalars(select(Post)):
            post.title = f"{TITLES[0]} {HOSTILE}"[:500]
            post.excerpt = post.html = HOSTILE
            post.markdown = HOSTILE
        issue = session.get_one(Issue, issue_id)
        issue.opening = issue.preview_text = HOSTILE[:280]
    alarms: list[str] = []
    open_desk.on("dialog", lambda dialog: refuse(dialog, alarms))
    open_desk.goto(path(live, place.format(issue=issue_id)))
    field = "Inledning" if "issues" in place else "Ingress"
    open_desk.get_by_label(field, exact=True).fill(HOSTILE)
    open_desk.get_by_label(field, exact=True).press_sequentially("Slut.")
    expect(shown(open_desk).locator("body")).to_contain_text("Slut.")  # the last one
    expect(open_desk.locator("[data-frames] iframe")).to_have_count(1)
    for frame in open_desk.frames[1:]:
        if frame.locator("#a").count():
            frame.locator("#a").first.click(no_wait_after=True)
    open_desk.wait_for_timeout(100)
    assert alarms == []
    assert open_desk.evaluate("document.documentElement.dataset.ran") is None
    assert open_desk.url.endswith(place.format(issue=issue_id))


def test_a_viewer_can_look_at_the_mail_in_every_way(
    live: Live,
    database: Database,
    settings: Settings,
    page: Page,
    issue_id: int,
) -> None:
    live.log_in(page, Role.VIEWER)
    page.goto(path(live, f"issues/{issue_id}/"))
    expect(page.get_by_label("Inledning")).to_have_count(0)
    page.locator(".segments label", has_text="Text").click()
    expect(shown(page).locator("pre")).to_contain_text(TITLES[0])
    axe(page)


def test_a_preflight_is_worked_by_keyboard_and_a_warning_has_to_be_ticked(
    live: Live, desk: Page, database: Database, issue_id: int
) -> None:
    with database.transaction() as session:
        issue = session.get_one(Issue, issue_id)
        issue.subject, issue.opening = "HELA STADEN SKRIKER", "Hej {{ du }}"
    desk.goto(path(live, f"issues/{issue_id}/"))
    desk.locator("#preflight > summary").focus()
    desk.keyboard.press("Enter")
    expect(desk.get_by_text("En kopplingskod är kvar i det du skrev.")).to_be_visible()
    axe(desk)
    desk.get_by_label("Som en läsare").fill("ingen@exempel.example")
    desk.keyboard.press("Enter")
    expect(shown(desk).locator("body")).to_contain_text("Ingen med den adressen")
    with database.reading() as session:
        found = select(Subscriber.email).join(Subscription)
        reader = session.scalars(found.where(Subscription.language == "en")).one()
    desk.get_by_label("Som en läsare").fill(reader)
    desk.keyboard.press("Enter")
    expect(shown(desk).locator("html")).to_have_attribute("lang", "en")
    # Return in a line saves it and stays; links and sender are tried, and from what
    # is found the way to sending is short.
    desk.get_by_label("Inledning").fill("Hej")
    desk.locator("#preflight > summary").focus()
    desk.keyboard.press("e")
    desk.keyboard.press("Enter")
    expect(desk.locator("[data-saved]")).to_contain_text("Sparat ")
    expect(desk.get_by_label("Ämnesrad")).to_be_focused()
    desk.locator("#preflight [value=preflight]").focus()
    desk.keyboard.press("Enter")
    desk.wait_for_url("**#preflight-result")
    expect(desk.locator("#preflight > summary")).to_be_focused()
    expect(desk.locator("#preflight .findings")).to_be_visible()
    desk.keyboard.press("Tab")
    desk.keyboard.press("Enter")
    desk.wait_for_url("**/send")
    axe(desk)
    button = desk.get_by_role("button", name="Skicka till")
    button.click()  # the browser asks for the tick
    tick = desk.locator(".ask input[name=seen]")
    assert tick.evaluate("box => box.matches(':invalid')")
    assert desk.url.endswith("/send")
    desk.locator("#preflight-result").focus()
    for key in ("Tab", "Enter", "Tab"):
        desk.keyboard.press(key)
    expect(tick).to_be_focused()
    for key in ("Space", "Tab", "Enter"):
        desk.keyboard.press(key)
    desk.wait_for_url(f"**/issues/{issue_id}/")
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).state is not IssueState.DRAFT
