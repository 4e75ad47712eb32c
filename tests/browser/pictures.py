"""Make the pictures of README and docs: `make pictures`.

`make pictures ONLY=pages` makes those of every page, and docs/pages.md to show them;
`ONLY=themes` those of docs/themes.md; `ONLY=demo` those of README, from a running demo.
"""

import functools
import html
import io
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import time_machine
from PIL import Image
from playwright.sync_api import Browser, Route

from newsletter import i18n
from newsletter.config import Relay, Settings
from newsletter.digests import compose, samples, themes
from newsletter.digests.look import Look
from newsletter.models import Issue, Newsletter
from tests.browser.conftest import browsing
from tests.browser.every_page import PICTURED, Place, Way, save, stand, touring
from tests.journey.outside import ROOT, Demo, fetch, link_in
from tests.ports import free_port

DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
PAGES = PICTURES / "pages"
SLUG = "runt-kvarteret"
READER = "elsa.berg@lund.example"
PAGE = (1120, 1180)
MAIL = (680, 1180)
PHONE = (390, 844)
WIDTHS = (320, 600, 1200)  # of the themes' pictures
# Every page has one name and one moment, so that pictures only change where pages do.
HOST = "brev.bjorkvik.example"
MOMENT = datetime(2026, 11, 24, 8, 41, tzinfo=UTC)
LANGUAGE = "en"
PARTS = {
    "For readers": ("reader",),
    "For editors": ("owner",),
    "Logging in": ("stranger", "halfway"),
}
HEAD = """# Every page

All that Inkorg shows in a browser, as it looks on a computer (1280 px) and on a phone
(360 px), in English and by day. `make pictures ONLY=pages` makes this page and its
pictures. What the editors' pages are for stands in [workspace.md](workspace.md).

The newsletter is made up: what it says is in Swedish, in every language of the pages. A
picture ends after 1800 px.
"""
TALLEST = 1500
SHRINK = 0.75
COLOURS = 112
Theme = Literal["light", "dark"]


def main() -> None:
    """Make all pictures, or those that are asked for."""
    port = free_port()
    takers: dict[str, Callable[[Browser], None]] = {
        "demo": take_demo,
        "themes": take_themes,
        "pages": functools.partial(take_pages, port=port),
    }
    with browsing(
        f"--host-resolver-rules=MAP {HOST} 127.0.0.1:{port}",
        f"--unsafely-treat-insecure-origin-as-secure=http://{HOST}",
    ) as browser:
        for name, take_some in takers.items():
            if name in sys.argv or not sys.argv[1:]:
                take_some(browser)


def take_demo(browser: Browser) -> None:
    """Take the README's pictures."""
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder) / "instance")
        demo.start()
        try:
            digest = send_digest(demo, Path(folder) / "preview")
            page = f"{demo.base}/{SLUG}/"
            take(browser, page, PAGE, "newsletter")
            take(browser, page, PHONE, "newsletter-phone-dark", "dark")
            take(browser, digest, MAIL, "digest")
            take(browser, digest, PHONE, "digest-phone-dark", "dark")
        finally:
            demo.stop()


def take_pages(browser: Browser, port: int) -> None:
    """Take every page, wide and on a phone, and write the page that shows them."""
    stale = set(PAGES.glob("*.webp"))
    shown: dict[str, list[str]] = {part: [] for part in PARTS}
    with (
        time_machine.travel(MOMENT, tick=False),
        touring(browser, HOST, port) as tour,
    ):
        tour.speak(LANGUAGE)
        with tour.database.transaction() as session:
            leaving = session.get_one(Issue, tour.world["leaving"])
            leaving.scheduled_at = MOMENT + timedelta(seconds=27)
            newsletter = session.get_one(Newsletter, tour.world["newsletter_id"])
            newsletter.ping_token = "as-drawn-by-lot-22-long"
        for place in tour.places:
            ways = [Way(LANGUAGE, "light", width) for width in PICTURED]
            page, _ = tour.show(place, ways[0])
            for way in ways:
                stand(page, way)
                save(page.screenshot(full_page=True), picture_of(place, way.width))
                stale.discard(picture_of(place, way.width))
            part = next(name for name, whose in PARTS.items() if place.who in whose)
            shown[part].append(entry(place, page.title().partition(" · ")[0]))
        tour.close()
    for picture in stale:
        picture.unlink()
    parts = [f"## {part}\n\n" + "\n".join(entries) for part, entries in shown.items()]
    (DOCS / "pages.md").write_text("\n".join([HEAD, *parts]))


def picture_of(place: Place, width: int) -> Path:
    """Return where a page's picture lies."""
    return PAGES / f"{place.name.replace(' ', '-')}-{width}.webp"


def entry(place: Place, title: str) -> str:
    """Write a page's name, address and pictures as Markdown."""
    wide, phone = (
        f'<img src="{picture_of(place, width).relative_to(DOCS)}" width="{share}%"'
        f' loading="lazy" alt="{html.escape(title)}, {width} px wide">'
        for width, share in ((1280, 68), (360, 19))
    )
    look = place.name.partition(" ")[2]
    title += f" ({look})" if look else ""
    return f"### {title}\n\n`{place.rule}`\n\n<p>{wide}\n{phone}</p>\n"


def take_themes(browser: Browser) -> None:
    """Take each theme at three widths, light and dark side by side."""
    for theme in themes.BUILT_IN:
        mail = sample_mail(theme.name)
        for width in WIDTHS:
            shots = [shoot(browser, mail, width, way) for way in ("light", "dark")]
            height = min(TALLEST, max(shot.height for shot in shots))
            sheet = Image.new("RGB", (2 * width + 16, height), "#8a8378")
            for place, shot in enumerate(shots):
                sheet.paste(shot, (place * (width + 16), 0))
            size = (round(sheet.width * SHRINK), round(sheet.height * SHRINK))
            small = sheet.resize(size, Image.Resampling.LANCZOS)
            small.quantize(COLOURS, dither=Image.Dither.NONE).save(
                PICTURES / f"theme-{theme.name}-{width}.png", optimize=True
            )


def sample_mail(theme: str) -> str:
    """Write a mail of four made-up posts."""
    settings = Settings(
        secret_keys=("x" * 32,),
        database_url="sqlite://",
        base_url="https://inkorg.example",
        relay=Relay("127.0.0.1", 25),
        instance_dir=Path("."),
    )
    newsletter = Newsletter(
        id=1,
        slug=SLUG,
        title="Runt kvarteret",
        language="sv",
        languages=[],
        timezone="Europe/Stockholm",
        from_name="Runt kvarteret",
        from_email="hej@kvarteret.example",
        reply_to="",
        publisher="Kvarterets tidning",
        postal_address="Storgatan 1, 111 11 Stockholm",
        contact_email="",
        public_archive=True,
        at_most=0,
    )
    words = i18n.language("sv")
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    issue = samples.issue(settings, newsletter, words, 4, now=now)
    issue.opening = "Den här veckan: en kör, en trädgård och årets **sista båt**."
    said = {
        "greeting": "Hej granne!",
        "closing": "Vi ses på gården på lördag.",
        "reply": "Svara gärna på det här mejlet. Vi läser allt.",
    }
    look = Look(theme=theme, words={"sv": said})
    letter = compose.compose(
        settings,
        issue,
        newsletter,
        issue.posts,
        words,
        look=look,
        rhythm="Varje måndag.",
    )
    return compose.sample(letter).html


def shoot(browser: Browser, mail: str, width: int, way: Theme) -> Image.Image:
    """Show a mail in Chromium and return its picture."""

    def answer(route: Route) -> None:
        name = PurePosixPath(urlsplit(route.request.url).path).name
        name = name.removeprefix("sample-")  # the portraits
        route.fulfill(path=samples.FOLDER / name)

    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=way)
    page.route("https://inkorg.example/**", answer)
    page.set_content(mail, wait_until="networkidle")
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    page.close()
    return shot


def send_digest(demo: Demo, folder: Path) -> str:
    """Confirm a reader, send an issue and return where its HTML lies."""
    target, fields = demo.get(f"/{SLUG}/").form("subscribe")
    demo.post(target, {**fields, "email": READER})
    (confirmation,) = demo.wait_for_mails(READER, 1)
    target, fields = fetch(link_in(confirmation, "/confirm/")).form()
    demo.post(target, fields)
    issue = demo.command("issue", "draft", SLUG).strip()
    demo.command("issue", "preview", issue, "--out", str(folder))
    demo.command("issue", "send", issue, "--wait")
    return (folder / "digest.html").as_uri()


def take(
    browser: Browser,
    url: str,
    size: tuple[int, int],
    name: str,
    theme: Theme = "light",
) -> None:
    """Take one picture."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=theme,
        device_scale_factor=1.5,
        locale="sv-SE",
    )
    page.goto(url)
    page.evaluate("document.fonts.ready")
    page.screenshot(path=PICTURES / f"{name}.png")
    page.close()


if __name__ == "__main__":
    main()
