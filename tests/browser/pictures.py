"""Make the README's pictures from a running demo: `make pictures`."""

import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import CHROMIUM
from tests.journey.outside import ROOT, Demo, fetch, link_in

PICTURES = ROOT / "docs" / "pictures"
SLUG = "runt-kvarteret"
READER = "elsa.berg@lund.example"
PAGE = (1120, 1180)
MAIL = (680, 1180)
PHONE = (390, 844)
Theme = Literal["light", "dark"]


def main() -> None:
    """Start a demo, send a digest, take pictures, stop."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder) / "instance")
        demo.start()
        try:
            digest = send_digest(demo, Path(folder) / "preview")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
                )
                page = f"{demo.base}/{SLUG}/"
                take(browser, page, PAGE, "newsletter")
                take(browser, page, PHONE, "newsletter-phone-dark", "dark")
                take(browser, digest, MAIL, "digest")
                take(browser, digest, PHONE, "digest-phone-dark", "dark")
                browser.close()
        finally:
            demo.stop()


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
