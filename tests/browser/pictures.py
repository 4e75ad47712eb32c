"""Make the pictures of README and docs from a running demo: `make pictures`.

`make pictures ONLY=themes` makes those of docs/themes.md alone, without a demo, and
`ONLY=workspace` those of docs/workspace.md.
"""

import io
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, Route, sync_playwright

from newsletter import i18n
from newsletter.config import Relay, Settings
from newsletter.digests import compose, samples, themes
from newsletter.digests.look import Look
from newsletter.models import Newsletter
from tests.browser.conftest import CHROMIUM
from tests.browser.every_page import PICTURED, Way, touring
from tests.journey.outside import ROOT, Demo, fetch, link_in

PICTURES = ROOT / "docs" / "pictures"
SLUG = "runt-kvarteret"
READER = "elsa.berg@lund.example"
PAGE = (1120, 1180)
MAIL = (680, 1180)
PHONE = (390, 844)
WIDTHS = (320, 600, 1200)  # of the themes' pictures
# Pages of the workspace, and what their pictures are called.
WORKSPACE = {
    "overview.show": "overview",
    "posts.index": "posts",
    "issues.show draft": "issue",
    "sending.ask": "sending",
    "issues.show sending": "progress",
    "calendar.index": "calendar",
    "subscribers.index": "subscribers",
    "reader.show": "reader",
    "importing.show": "import",
    "reports.show": "report",
    "design.show": "design",
    "settings.show": "settings",
}
TALLEST = 1500
SHRINK = 0.75
COLOURS = 112
Theme = Literal["light", "dark"]


def main() -> None:
    """Start a demo, send a digest, take pictures, stop."""
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, take_some in (
            ("demo", take_demo),
            ("themes", take_themes),
            ("workspace", take_workspace),
        ):
            if name in sys.argv or not sys.argv[1:]:
                take_some(browser)
        browser.close()


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


def take_workspace(browser: Browser) -> None:
    """Take pages of the workspace as an editor has them, wide and on a phone."""
    with touring(browser) as tour:
        tour.speak("en")
        places = {place.name: place for place in tour.places}
        for page, name in WORKSPACE.items():
            for width in PICTURED:
                shown, _ = tour.show(places[page], Way("en", "light", width))
                shot = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
                shot.quantize(COLOURS, dither=Image.Dither.NONE).save(
                    PICTURES / f"workspace-{name}-{width}.png", optimize=True
                )
        tour.close()


def take_themes(browser: Browser) -> None:
    """Take each theme at three widths, light and dark side by side."""
    for theme in themes.BUILT_IN:
        html = sample_mail(theme.name)
        for width in WIDTHS:
            shots = [shoot(browser, html, width, way) for way in ("light", "dark")]
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


def shoot(browser: Browser, html: str, width: int, way: Theme) -> Image.Image:
    """Show a mail in Chromium and return its picture."""

    def answer(route: Route) -> None:
        name = PurePosixPath(urlsplit(route.request.url).path).name
        name = name.removeprefix("sample-")  # the portraits
        route.fulfill(path=samples.FOLDER / name)

    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=way)
    page.route("https://inkorg.example/**", answer)
    page.set_content(html, wait_until="networkidle")
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
