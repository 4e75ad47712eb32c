"""The digest as a mail program shows it: any width, light and dark, for everyone."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.digests import compose, drafts, themes
from newsletter.digests.look import PARTS, Look, Picture
from newsletter.models import Newsletter
from tests.browser.conftest import NewPage, Theme, axe
from tests.digests.sample import OPENING, real_newsletter
from tests.factories import NOW, make_newsletter, make_post

THEMES: tuple[Theme, ...] = ("light", "dark")
SHOTS = os.environ.get("INKORG_SHOTS", "")
# The mail program is the page; its landmarks stand around the mail.
NOT_FOR_MAIL = ("landmark-one-main", "region")
FONT_SIZES = """() => [...document.querySelectorAll('p, h1, h2, a, b, li')]
    .filter(e => e.innerText.trim() && e.getClientRects().length)
    .map(e => [parseFloat(getComputedStyle(e).fontSize), !!e.closest('.foot')])"""


def written(session: Session, settings: Settings, newsletter: Newsletter) -> str:
    issue = drafts.draft(session, newsletter, opening=OPENING, now=NOW)
    words = i18n.language(newsletter.language)
    letter = compose.compose(settings, issue, newsletter, issue.posts, words)
    return compose.sample(letter).html


def look_at(page: Page, html: str, name: str) -> None:
    page.route("https://blogg.example/**", lambda route: route.abort())
    page.set_content(html)
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / f"{name}-{theme}.png", full_page=True)
        axe(page, without=NOT_FOR_MAIL)
    assert (
        page.evaluate("document.documentElement.scrollWidth")
        <= (page.viewport_size or {"width": 0})["width"]
    )
    for pixels, in_footer in page.evaluate(FONT_SIZES):
        assert pixels >= (14 if in_footer else 16)


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 600, 1200])
def test_the_digest_reads_well(
    session: Session, settings: Settings, new_page: NewPage, width: int
) -> None:
    html = written(session, settings, real_newsletter(session))
    look_at(new_page(width=width), html, f"digest-{width}")


@pytest.mark.browser
@pytest.mark.parametrize("look", [theme.name for theme in themes.BUILT_IN])
def test_a_difficult_digest_reads_well_in_every_theme(
    session: Session, settings: Settings, new_page: NewPage, look: str
) -> None:
    """Words that do not break, an accent nobody can read, an image, no author."""
    newsletter = make_newsletter(
        session,
        accent="#ffe600",
        title="Bostadsbolagsordförandekonferensförberedelsegruppens nyhetsbrev",
    )
    long_word = "Fastighetsskötarutbildningssamordningsansvarig" * 2
    make_post(session, newsletter, title=long_word, excerpt=long_word + " tycker om …")
    pictured = make_post(
        session,
        newsletter,
        image_url="https://blogg.example/bild.jpg",
        image_alt="Kören sjunger på scenen i Boden",
    )
    assert pictured.author
    pictured.author.portrait_url = "https://blogg.example/portratt.jpg"
    pictured.author.byline = long_word
    nobody = make_post(session, newsletter, excerpt="")
    nobody.author = None
    logo = Picture("https://blogg.example/logo.png", 280, 70)
    chosen = Look(
        theme=look,
        accent="#ffe600",
        logo=logo,
        parts=PARTS,
        words={"sv": {"closing": f"## {long_word}", "reply": long_word}},
    )
    issue = drafts.draft(session, newsletter, opening=OPENING, now=NOW)
    words = i18n.language("sv")
    letter = compose.compose(
        settings, issue, newsletter, issue.posts, words, look=chosen, whole=2
    )
    html = compose.sample(letter).html
    look_at(new_page(width=320), html, f"difficult-{look}-320")
