"""The editors' workspace in a real browser: accessible, by keyboard, with passkeys."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import editors
from newsletter.db import EXTENSION, Database, utcnow
from newsletter.digests import drafts, planning, publish
from newsletter.errors import InkorgError
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Kind,
    Message,
    Mode,
    Newsletter,
    Role,
    Status,
    WebAuthn,
)
from tests.browser.conftest import Live, NewPage, axe
from tests.factories import NOW, make_newsletter, make_post, make_subscription

pytestmark = pytest.mark.browser

EMAIL = "redaktor.med.langt.namn@redaktionen.example"


@pytest.fixture
def database(live: Live) -> Database:
    found: Database = live.app.extensions[EXTENSION]
    return found


@pytest.fixture
def filled(database: Database) -> int:
    """A newsletter with a reader of each kind, and an issue that is being sent."""
    with database.transaction() as session:
        labbet = make_newsletter(session, "labbet", mode=Mode.HELD)
        for number in range(4):
            make_post(session, labbet, title=f"Integrationskör i behov nummer {number}")
        for status in Status:
            email = f"en.ganska.lang.adress.{status}@en.ganska.lang.doman.example"
            make_subscription(session, labbet, email, status=status)
        return sending(session, labbet)


def sending(session: Session, newsletter: Newsletter) -> int:
    """Put an issue under way: 3 of 5 sent."""
    issue = Issue(
        newsletter_id=newsletter.id,
        state=IssueState.SENDING,
        number=1,
        subject="Fyra nya inlägg",
        total=5,
        started_at=NOW,
    )
    session.add(issue)
    session.flush()
    message = Message(
        kind=Kind.DIGEST,
        newsletter_id=newsletter.id,
        issue_id=issue.id,
        lane=1,
        language="sv",
        subject="Fyra nya inlägg",
        sender="labbet@allmannyttan.example",
        nonce="n",
        frozen=b"",
    )
    session.add(message)
    session.flush()
    for number in range(5):
        session.add(
            Delivery(
                message_id=message.id,
                occasion=f"issue:{issue.id}",
                address=f"l{number}@exempel.example",
                lane=1,
                state=DeliveryState.SENT if number < 3 else DeliveryState.QUEUED,
            )
        )
    return issue.id


def assert_fits(page: Page, width: int) -> None:
    page.wait_for_load_state()  # with all its style
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"{page.url} is {wide} px wide"


def test_the_keyboard_reaches_everything_and_question_mark_lists_keys(
    live: Live, database: Database, filled: int, page: Page
) -> None:
    live.log_in(page)
    page.goto(live.url("/editor/labbet/"))
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Hoppa till innehållet")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Tangenter")
    expect(dialog).to_be_visible()
    axe(page)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("5")
    page.wait_for_url("**/labbet/subscribers/")
    page.keyboard.press("/")
    expect(page.get_by_label("En del av en adress")).to_be_focused()
    page.keyboard.type("3?pending")
    expect(dialog).to_be_hidden()
    assert page.url.endswith("/subscribers/")


def test_an_issue_is_approved_on_a_phone_without_javascript(
    live: Live, database: Database, filled: int, new_page: NewPage
) -> None:
    with database.transaction() as session:
        labbet = session.get_one(Issue, filled).newsletter
        session.get_one(Issue, filled).state = IssueState.SENT
        session.get_one(Issue, filled).finished_at = NOW
        labbet.last_number, labbet.undo_seconds = 1, 0
        made = drafts.draft(session, labbet, subject="Långa ord " * 9, now=NOW)
        publish.hold(session, made, InkorgError(planning.N_LATE))
    page = new_page(width=320, java_script_enabled=False)
    live.log_in(page)
    page.goto(live.url("/editor/labbet/calendar/"))
    page.get_by_role("link", name="Läs det").click()
    approve = page.get_by_role("button", name="Godkänn och skicka till 1 läsare")
    expect(approve).to_be_visible()  # so the page has come, and can be measured
    assert_fits(page, 320)
    approve.click()
    expect(page.get_by_text("Skickas").first).to_be_visible()


def test_keys_can_be_switched_off(
    live: Live, database: Database, filled: int, page: Page
) -> None:
    live.log_in(page)
    page.goto(live.url("/editor/labbet/"))
    page.keyboard.press("?")
    page.get_by_label("Tangenterna är på i den här webbläsaren").uncheck()
    page.get_by_role("button", name="Stäng").click()
    page.keyboard.press("5")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.url.endswith("/editor/labbet/")


def test_what_is_being_sent_moves_by_itself(
    live: Live, database: Database, filled: int, page: Page
) -> None:
    live.log_in(page)
    page.goto(live.url("/editor/labbet/"))
    expect(page.get_by_text("3 av 5 skickade")).to_be_visible()
    with database.transaction() as session:
        for delivery in session.scalars(select(Delivery)):
            delivery.state = DeliveryState.SENT
    expect(page.get_by_text("5 av 5 skickade")).to_be_visible()
    with database.transaction() as session:
        session.get_one(Issue, filled).state = IssueState.SENT
    expect(page.get_by_role("progressbar")).to_have_count(0)


def test_the_colour_sample_follows_what_is_typed(
    live: Live, database: Database, filled: int, page: Page
) -> None:
    live.log_in(page)
    page.goto(live.url("/editor/labbet/settings/"))
    sample = page.get_by_role("img", name="Färgen på ljus och på mörk botten")
    before = sample.inner_html()
    page.get_by_label("Färg", exact=True).fill("#1a4f8b")
    expect(sample.locator('rect[fill="#1a4f8b"]')).to_have_count(1)
    assert sample.inner_html() != before
    expect(page.get_by_label("Välj en färg")).to_have_value("#1a4f8b")


@pytest.fixture
def passkeys(page: Page) -> Iterator[Page]:
    """A page in a browser whose phone holds passkeys."""
    tools = page.context.new_cdp_session(page)
    tools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    tools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield page


def test_a_passkey_logs_in(
    live: Live, database: Database, filled: int, passkeys: Page
) -> None:
    page = passkeys
    base = live.base_url.replace("127.0.0.1", "localhost")  # no passkeys for numbers
    with database.transaction() as session:
        settings = live.app.extensions["inkorg.settings"]
        url = editors.invite(session, settings, EMAIL, Role.OWNER, now=utcnow())
    page.goto(base + urlsplit(url).path)
    page.get_by_role("button", name="Logga in").click()
    page.wait_for_url(re.compile(r"/editor/(?!invite)"))
    page.goto(f"{base}/editor/account/passkeys")
    page.get_by_label("Var finns den?").fill("Min telefon")
    page.get_by_role("button", name="Lägg till en nyckel").click()
    page.wait_for_url("**/editor/account/")
    expect(page.get_by_text("Nyckeln Min telefon är sparad.")).to_be_visible()
    page.get_by_role("button", name="Logga ut").click()
    page.wait_for_url("**/editor/login")
    page.get_by_role("button", name="Logga in med en nyckel").click()
    page.wait_for_url("**/editor/labbet/")
    page.goto(f"{base}/editor/account/passkeys")
    remove = page.get_by_role("button", name="Ta bort Min telefon")
    remove.click()
    expect(remove).to_have_count(0)
    with database.reading() as session:
        assert session.scalars(select(WebAuthn)).all() == []


def test_everything_works_without_javascript(
    live: Live, database: Database, filled: int, new_page: NewPage
) -> None:
    page = new_page(java_script_enabled=False)
    live.log_in(page)
    page.goto(live.url("/editor/labbet/subscribers/?q=active"))
    page.get_by_role("link", name="active@").click()
    page.get_by_role("button", name="Stoppa mejlen").click()
    expect(page.get_by_text("Inga fler mejl går dit")).to_be_visible()
    page.get_by_role("link", name="Inställningar").click()
    page.get_by_label("Telefon").fill("08-123 456")
    page.get_by_role("button", name="Spara inställningarna").click()
    expect(page.get_by_text("Inställningarna är sparade.")).to_be_visible()
    expect(page.get_by_label("Telefon")).to_have_value("08-123 456")
