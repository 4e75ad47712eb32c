"""Letters and topics in a real browser: keyboard, counting, pictures, axe."""

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from newsletter.db import Database, utcnow
from newsletter.digests import letters
from newsletter.models import Role
from newsletter.posts import categories, topics
from newsletter.subscribers import choices
from tests.browser.conftest import Live
from tests.factories import make_newsletter, make_post, make_subscription

pytestmark = pytest.mark.browser

LONG = "Donaudampfschiffahrtsgesellschaftskapitän" * 2


@pytest.fixture
def letter_id(database: Database) -> int:
    """Topics, one with a very long name, readers, and a letter."""
    with database.transaction() as session:
        labbet = make_newsletter(session)
        post = make_post(session, labbet)
        categories.take(session, labbet, post, ["Klimat", "Äldres boende", "Nyheter"])
        topics.create(session, labbet, LONG[: topics.MAX_NAME_CHARACTERS])
        climate = next(t for t in topics.topics(session, labbet) if t.slug == "klimat")
        for _ in range(4):
            make_subscription(session, labbet)
        english = make_subscription(session, labbet, language="en")
        choices.set_topics(session, english, [climate.id])
        return letters.write(
            session, labbet, subject="Vi flyttar", body="Till Söder.\n", now=utcnow()
        ).id


def test_readers_are_counted_and_pictures_put_in_while_one_writes(
    live: Live, page: Page, letter_id: int
) -> None:
    live.log_in(page, Role.EDITOR)
    page.goto(live.url(f"/editor/labbet/letters/{letter_id}/"))
    count = page.locator("#audience-count")
    expect(count).to_contain_text("Till 5 av 5 läsare")
    page.get_by_label("Några av dem, valda här").check()
    page.get_by_label("engelska", exact=True).check()
    expect(count).to_contain_text("Till 1 av 5 läsare")
    expect(count).to_contain_text("Läsare på engelska")

    out = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(out, "PNG")
    text = page.get_by_label("Brevet", exact=True)
    text.evaluate("field => field.setSelectionRange(0, 0)")
    page.get_by_text("Lägg in en bild").first.click()
    page.get_by_role("button", name="Lägg den i brevet").click()
    expect(page.locator("[data-upload-said]")).to_contain_text("Välj en bild först")
    page.get_by_label("Bild", exact=True).set_input_files(
        {"name": "hus.png", "mimeType": "image/png", "buffer": out.getvalue()}
    )
    page.get_by_label("Vad den visar").fill("Ett hus")
    page.get_by_role("button", name="Lägg den i brevet").click()
    expect(text).to_have_value(
        re.compile(r"^!\[Ett hus\]\(http\S+-300x200\.png\)\s+Till Söder\.\s*$")
    )
    frame = page.frame_locator("[data-frames] iframe:not(.is-waiting)")
    image = frame.get_by_role("img", name="Ett hus")
    expect(image).to_be_visible()
    expect(image).to_have_js_property("naturalWidth", 300)

    page.get_by_role("button", name="Granska och skicka …").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Skicka till 1 läsare?")
    expect(page.locator("main")).to_contain_text("Läsare på engelska")
    page.go_back()
    expect(page.locator("#audience-count")).to_contain_text("Till 1 av 5 läsare")
