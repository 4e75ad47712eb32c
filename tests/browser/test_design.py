"""The Design page in a real browser: what is typed is seen, and what is moved moves."""

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from newsletter.db import Database
from newsletter.models import Design, Role
from tests.browser.conftest import Live, NewPage, axe
from tests.factories import make_newsletter

pytestmark = pytest.mark.browser


def test_a_design_is_tried_seen_and_saved_by_keyboard(
    live: Live, database: Database, new_page: NewPage
) -> None:
    with database.transaction() as session:
        make_newsletter(session, languages=["sv", "en"])
    page = new_page(width=320)
    live.log_in(page, Role.EDITOR)
    page.goto(live.url("/editor/labbet/design/"))
    mail = page.frame_locator("iframe[data-name=mail]:not(.is-waiting)")
    expect(mail.locator("h1")).to_have_text("Fyra nya inlägg")

    page.get_by_label("Bilder").press("Space")
    expect(mail.locator(".fill").first).to_be_visible()
    page.locator("#sv-greeting").fill("Hej på er!")
    expect(mail.get_by_text("Hej på er!")).to_be_visible()
    page.get_by_label("Färg", exact=True).fill("#ffe600")
    expect(page.locator("#accent-shown")).to_contain_text("Läsarna ser #")
    page.locator("[name=show-authors]").press("Space")
    page.locator("[name=show-authors]").press("Alt+ArrowUp")
    expect(page.locator("[data-voice]")).to_contain_text("plats 3 av 5")
    expect(mail.get_by_role("heading", name="De som har skrivit")).to_be_visible()
    page.locator("#sv-greeting").fill("{{ namn }}")
    expect(mail.locator(".problem")).to_contain_text("{{ namn }} finns inte här")
    page.locator("#sv-greeting").fill("Hej på er i {{ newsletter }}!")
    expect(mail.get_by_text("Hej på er i Allmännyttans innov")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    axe(page)

    page.keyboard.press("Control+s")
    expect(page.get_by_role("status").first).to_contain_text("sparat som version 1")
    with database.reading() as session:
        stored = session.scalars(select(Design)).one()
    assert stored.theme == "pictures"
    assert stored.order == ["opening", "headlines", "authors", "posts", "closing"]
    assert stored.words["sv"] == {"greeting": "Hej på er i {{ newsletter }}!"}
