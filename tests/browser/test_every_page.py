"""Every page once, in turn in each theme, language and width: nothing is wrong."""

import pytest
from playwright.sync_api import Browser, Page

from newsletter.db import Database
from tests.browser.conftest import Live, axe
from tests.browser.every_page import ALIKE, LANGUAGES, WAYS, Tour

pytestmark = pytest.mark.browser


def test_axe_sees_what_is_wrong(page: Page) -> None:
    page.set_content("<html lang=sv><title>x</title><main><h1>x</h1><img src=x></main>")
    with pytest.raises(AssertionError, match="image-alt"):
        axe(page)


def test_every_page_is_accessible_fits_and_keeps_to_itself(
    live: Live, database: Database, chromium: Browser
) -> None:
    """A11Y-01, A11Y-03; WCAG 2.2: 1.4.4 large text, 1.4.10 reflow, 2.4.7 focus, 2.5.8
    target; LEG-34.
    """
    tour = Tour(live, chromium, database)
    places = [place for place in tour.places if place.name not in ALIKE]
    wrong: list[str] = []
    for turn, language in enumerate(LANGUAGES):
        tour.speak(language)
        ways = [way for way in WAYS if way.language == language]
        for number, place in enumerate(places[turn :: len(LANGUAGES)]):
            way = ways[number % len(ways)]
            for _, line in tour.look(place, [way]):
                wrong.append(f"{place.name} {way}: {line}")
    tour.close()
    assert wrong == [], "\n".join(wrong)
