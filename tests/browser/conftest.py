"""A real browser and a real server for it.

    def test_something(live: Live, page: Page) -> None:
        live.log_in(page, Role.EDITOR)
        page.goto(live.url("/editor/labbet/"))
        axe(page)                     # no accessibility violation on this page

Every page as it comes is looked at by `every_page.py`; `axe` is for what it becomes.

After a press that leads to another page, expect something of that page before anything
that does not wait by itself: `evaluate`, a count, an address, a key, the database. Keys
are heard, and fields followed, by scripts that come last: `press`, or `wait_for_url`.

Playwright's loop lives on the test's own thread as long as the browser is open, so
nothing here may call `asyncio.run`: use `in_a_thread(coroutine)`.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    expect,
    sync_playwright,
)
from werkzeug.serving import WSGIRequestHandler, make_server

from newsletter.config import Settings
from newsletter.models import Role
from tests.web.at_work import as_editor

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
AXE = (Path(__file__).parent.parent / "vendor" / "axe.min.js").read_text()
AXE_TAGS = [
    *("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"),
    *("EN-301-549", "best-practice"),
]
T = TypeVar("T")
Theme = Literal["light", "dark"]
NewPage = Callable[..., Page]
# How long anything may take on the slowest machine; what comes is not waited for.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


def in_a_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, away from Playwright's loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def axe(page: Page, within: str = "document", without: tuple[str, ...] = ()) -> None:
    """Fail with a readable list if axe-core finds anything wrong on the page.

    `without` names rules that do not apply, such as a page's for a mail.
    """
    page.wait_for_load_state()
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    report = violations(page, within, without)
    assert not report, f"{page.url}\n" + "\n".join(report)


def press(page: Page, *keys: str) -> None:
    """Press keys on a page that has begun to show, once its scripts hear them."""
    page.wait_for_load_state()
    for key in keys:
        page.keyboard.press(key)


def until(page: Page, true: Callable[[], bool]) -> None:
    """Wait for what no `expect` can see, such as the database, while the page lives."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not true():
        assert time.monotonic() < end, "it never came true"
        page.wait_for_timeout(20)


def violations(
    page: Page, within: str = "document", without: tuple[str, ...] = ()
) -> list[str]:
    """Return what axe-core, which must be there, finds wrong on the page.

    It does not look into frames: they hold mails, in which no script runs.
    """
    rules = ", ".join(f"'{rule}': {{enabled: false}}" for rule in without)
    options = f"runOnly: {AXE_TAGS}, resultTypes: ['violations'], rules: {{{rules}}}"
    found = page.evaluate(f"axe.run({within}, {{{options}, iframes: false}})")
    return [
        f"{violation['id']}: {violation['help']}\n    "
        + "\n    ".join(
            f"{node['html'][:200]}  {node.get('failureSummary', '')}"
            for node in violation["nodes"]
        )
        for violation in found["violations"]
    ]


@dataclass(frozen=True)
class Live:
    """The application, answering on a port of its own."""

    app: Flask
    base_url: str

    def url(self, path: str) -> str:
        return self.base_url + path

    def log_in(self, page: Page, role: Role = Role.OWNER, email: str = "") -> None:
        """Let a page be an editor's, as `as_editor` makes them; in no transaction."""
        agent = page.evaluate("navigator.userAgent")  # a session is one browser's
        self.lend(page, as_editor(self.app, role, email=email, agent=agent))

    def lend(self, page: Page, client: FlaskClient) -> None:
        """Give a page the session of a client."""
        name = self.app.config["SESSION_COOKIE_NAME"]
        cookie = client.get_cookie(name)
        assert cookie
        page.context.add_cookies(
            [{"name": name, "value": cookie.value, "url": self.base_url}]
        )


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Leave the test's output alone."""


@pytest.fixture(scope="package")
def door() -> Iterator[socket.socket]:
    """A port that is ours all the time, so that nobody takes it between two tests."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening


@pytest.fixture
def settings(settings: Settings, door: socket.socket) -> Settings:
    """The suite's settings, with the address that the browser will use."""
    return replace(settings, base_url=f"http://127.0.0.1:{door.getsockname()[1]}")


@contextmanager
def serving(
    app: Flask, base_url: str, port: int = 0, door: socket.socket | None = None
) -> Iterator[Live]:
    """Serve the application, at the port of its address unless another is given."""
    port = port or int(base_url.rpartition(":")[2])
    server = make_server(
        "127.0.0.1",
        port,
        app,
        threaded=True,
        request_handler=_Quiet,
        fd=door.fileno() if door else None,
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Live(app, base_url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def live(app: Flask, settings: Settings, door: socket.socket) -> Iterator[Live]:
    """The application behind a real server, stopped when the test ends."""
    with serving(app, settings.base_url, door=door) as running:
        yield running


@contextmanager
def browsing(*options: str) -> Iterator[Browser]:
    """Run a Chromium."""
    usual = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*usual, *options]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One Chromium for all tests in this folder, or a loud skip (a failure in CI)."""
    if not Path(CHROMIUM).exists():
        missing = f"{CHROMIUM} is missing: install the package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with browsing() as browser:
        yield browser


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[NewPage]:
    """Open pages, each in a fresh context: `new_page(theme="dark", width=320)`.

    Further keywords go to Playwright's `new_context`. A test fails if one of its pages
    throws or breaks the content security policy.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda said: (
                wrong.append(f"{page.url}: {said.text}")
                if "Content Security Policy" in said.text
                else None
            ),
        )

    def open_page(
        *, theme: Theme = "light", width: int = 1280, height: int = 900, **options: Any
    ) -> Page:
        options.setdefault("reduced_motion", "reduce")
        options.setdefault("locale", "sv-SE")
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, **options
        )
        contexts.append(context)
        context.on("page", watch)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """A desktop page in the light theme."""
    return new_page()
