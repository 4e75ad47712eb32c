"""Every page there is, in both themes and languages, at three widths: what is wrong.

    python -m tests.browser.every_page                  what is wrong, as it is found
    python -m tests.browser.every_page --pictures DIR   and pictures of every page
    python -m tests.browser.every_page --only reports --ways sv-dark

The list of pages is the URL map, so that a new page is looked at too; where it needs an
example of its own or has several looks, say so in LOOKS. A page is opened once for each
language and then looked at in each theme and width. The suite goes through all pages
once, each in one of the twelve ways (`test_every_page.py`).
"""

import io
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from flask import Flask
from flask_security.recoverable import generate_reset_password_token
from PIL import Image, ImageChops
from playwright.sync_api import Browser, Error, Page, Route
from sqlalchemy import create_engine, update

from newsletter import config, editors, links, migrate
from newsletter.app import create_app
from newsletter.config import Settings
from newsletter.db import Database, engine_options, prepare_engine, utcnow
from newsletter.models import Editor, Newsletter, Role, Subscription
from newsletter.web import login
from tests import world as everything
from tests.browser.conftest import (
    AXE,
    PATIENCE_MS,
    Live,
    Theme,
    browsing,
    serving,
    violations,
)
from tests.ports import free_port
from tests.web.at_work import as_editor, csrf_token

THEMES: tuple[Theme, ...] = ("light", "dark")
LANGUAGES = ("sv", "en")
WIDTHS = (320, 360, 1280)
PICTURED = (360, 1280)
HEIGHT = 900
TALLEST = 1800  # of a picture
COLOURS = 112
UNSEEN_DIFFERENCE = 8  # of 255
OWNER = "agare@bjorkvik.example"
CAREFUL = "noga@bjorkvik.example"  # has a second factor
PASSWORD = "fyra fiskmåsar på en brygga"

# What answers a GET and is no page of its own.
NO_PAGES = {
    "archive.atom", "calls.confirm", "design.accent_sample", "design.stored",
    "changes.download", "clicks.lead", "embed.script", "home.favicon", "home.health",
    "home.robots",
    "importing.progress", "importing.report", "issue_preview.stored",
    "issue_versions.mail", "issue_versions.saved", "look.logo", "look.stylesheet",
    "overview.under_way", "pictures.show", "portraits.show", "posts.preview_empty",
    "posts.preview_stored", "reports.clicks_csv", "reports.issue_csv",
    "reports.issues_csv",
    "reports.months_csv", "security.tf_select", "security.two_factor_rescue",
    "security.wan_delete", "sending.progress", "settings.accent_sample",
    "signup.form", "sitemap.index", "sitemap.show", "static",
}  # fmt: skip
DESK, ISSUE = "/editor/{slug}/", "/editor/{slug}/issues/"
# Pages that look different with more in their address, or need an example of their own.
LOOKS: dict[str, dict[str, str]] = {
    "overview.start": {"": "/editor/?all=1"},
    "issues.show": {
        "draft": ISSUE + "{issue_id}/",
        "scheduled": "/editor/{slug}/letters/{scheduled}/",
        "held": ISSUE + "{held}/",
        "leaving": ISSUE + "{leaving}/",
        "sending": ISSUE + "{sending}/",
        "paused": ISSUE + "{paused_issue}/",
        "sent": ISSUE + "{sent}/",
        "cancelled": ISSUE + "{cancelled}/",
    },
    "sending.ask_cancel": {"": ISSUE + "{sending}/cancel"},
    "outcome.readers": {"": ISSUE + "{sent}/readers?which=bounced"},
    "outcome.ask_retry": {"": ISSUE + "{sent}/retry"},
    "reports.show": {"": ISSUE + "{sent}/report"},
    "posts.show": {"": DESK + "posts/{post_id}/", "held": DESK + "posts/{held_post}/"},
    "posts.index": {"": DESK + "posts/", "nothing": DESK + "posts/?q=finns+inte"},
    "subscribers.index": {
        "": DESK + "subscribers/",
        "some": DESK + "subscribers/?q=an&status=active",
    },
    "calendar.change": {"": ""},  # its address is taken from the calendar
    "importing.show": {
        "": DESK + "subscribers/import/{run_id}",
        "done": DESK + "subscribers/import/{imported}",
    },
    "archive.show": {"": "/{slug}/issues/2/"},
    "leaving.show": {
        "": "/unsubscribe/{leave}",
        "left": "/unsubscribe/{left}",
        "gone": "/unsubscribe/gone",
    },
    "preferences.show": {
        "": "/preferences/{preferences}",
        "welcome": "/preferences/{preferences}?said=confirmed",
        "paused": "/preferences/{paused}?said=saved",
    },
    "pages.show": {"": "/{slug}/", "nothing": "/{empty}/"},
    "signup_by_token.look": {"forged": "/confirm/forged"},
    "home.front": {"": "/", "error": "/nowhere/"},
}
# Looks of a page that the suite sees in others; the command sees them all.
ALIKE = {
    "issues.show scheduled", "issues.show paused", "issues.show cancelled",
    "posts.show held", "posts.index nothing", "subscribers.index some",
    "preferences.show paused", "pages.show nothing", "issues.pick empty",
    "posts.index empty", "reports.index empty", "feeds.index empty",
    "authors.index empty", "topics.index empty", "segments.index empty",
    "changes.index empty", "archive.index empty",
}  # fmt: skip
# Of these the newsletter without anything shows another page.
EMPTY_TOO = {
    "overview.show", "calendar.index", "issues.index", "issues.pick", "posts.index",
    "subscribers.index", "reports.index", "feeds.index", "authors.index",
    "topics.index", "segments.index", "changes.index", "archive.index",
}  # fmt: skip
SANDBOXED = {"archive.show", "archive.view"}  # a mail, in which nothing runs
AS_SENT = SANDBOXED  # in the language it went out in
NOT_FOUND = {"signup_by_token.look forged", "home.front error"}
LOGIN = ("/editor/login", "/editor/invite")
HALFWAY = {"security.two_factor_token_validation", "security.mf_recovery"}


@dataclass(frozen=True, slots=True)
class Place:
    """A page to look at: what it is called, where it is, who may see it."""

    name: str
    path: str
    endpoint: str
    rule: str = ""

    @property
    def who(self) -> str:
        """Return whose page it is: an owner's, somebody's who logs in, a reader's."""
        if not self.path.startswith("/editor/"):
            return "reader"
        if self.endpoint in HALFWAY:
            return "halfway"
        return "stranger" if self.path.startswith(LOGIN) else "owner"


@dataclass(frozen=True, slots=True)
class Way:
    """How a page is looked at."""

    language: str
    theme: Theme
    width: int

    def __str__(self) -> str:
        return f"{self.language}-{self.theme}-{self.width}"


WAYS = [
    Way(language, theme, width)
    for language in LANGUAGES
    for theme in THEMES
    for width in WIDTHS
]


class Tour:
    """Every page of one installation, in a browser of each who may see some of them."""

    def __init__(
        self, live: Live, browser: Browser, database: Database, *, tidy: bool = False
    ) -> None:
        """Make the world, its names as long as they may be or tidy; and log in."""
        self.live, self.database = live, database
        settings: Settings = live.app.extensions["inkorg.settings"]
        with database.transaction() as session:
            self.world = everything.make(session, settings)
            everything.open_links(session)
            if not tidy:
                everything.stretch(session, self.world)
        self.places = list(places(live.app, settings, self.world))
        self._pages = {
            who: _page(browser) for who in ("owner", "halfway", "stranger", "reader")
        }
        self._troubles: list[str] = []
        for page in self._pages.values():
            self._listen(page)
        live.log_in(self._pages["owner"], Role.OWNER, email=OWNER)
        live.lend(self._pages["halfway"], self._halfway())
        self._find_more()

    def close(self) -> None:
        """Close the browsers' windows."""
        for page in self._pages.values():
            page.context.close()

    def speak(self, language: str) -> None:
        """Let editors, readers, newsletters and browsers speak a language."""
        with self.database.transaction() as session:
            for model in (Editor, Subscription, Newsletter):
                session.execute(update(model).values(language=language))
        for page in self._pages.values():
            page.set_extra_http_headers({"Accept-Language": language})

    def show(self, place: Place, way: Way) -> tuple[Page, int]:
        """Open a page in a way; return it, and the status of its answer."""
        page = self._pages[place.who]
        stand(page, way)
        answer = page.goto(self.live.url(place.path))
        return page, answer.status if answer else 0

    def look(
        self, place: Place, ways: Sequence[Way], pictures: Path | None = None
    ) -> Iterator[tuple[Way, str]]:
        """Open a page and look at it in ways of one language; yield what is wrong."""
        self._troubles.clear()
        page = self._pages[place.who]
        if place.endpoint in SANDBOXED:
            page.route("**/*", _without_sandbox)
        try:
            yield from self._look(place, ways, pictures)
        except Error as error:  # a download, a way out of here, a browser's fault
            yield ways[0], f"cannot be looked at: {error.message}"
        page.unroute_all()

    def _look(
        self, place: Place, ways: Sequence[Way], pictures: Path | None
    ) -> Iterator[tuple[Way, str]]:
        page, status = self.show(place, ways[0])
        if status != (404 if place.name in NOT_FOUND else 200):
            yield ways[0], f"answers {status}"
        if not page.url.endswith(place.path):
            yield ways[0], f"leads to {page.url}"
        for way in ways:
            if pictures and way.width in PICTURED:
                stand(page, way)
                name = place.name.replace(" ", "-")
                save(page.screenshot(full_page=True), pictures / f"{way}/{name}.webp")
        page.evaluate(UNFOLD)
        page.evaluate(AXE)
        for way in ways:
            stand(page, way)
            for line in _wrong(page, place, way):
                yield way, line
            for line in self._troubles:
                if not (status == 404 and "404" in line):
                    yield way, line
            self._troubles.clear()

    def _listen(self, page: Page) -> None:
        def hear(kind: str, text: str) -> None:
            if kind in ("error", "warning"):
                self._troubles.append(f"console: {text}")

        def ask(url: str) -> None:
            parts = urlsplit(url)
            if parts.scheme != "data" and parts.netloc != home:
                self._troubles.append(f"asks {parts.netloc}")

        home = urlsplit(self.live.base_url).netloc
        page.on("pageerror", lambda error: self._troubles.append(f"error: {error}"))
        page.on("console", lambda said: hear(said.type, said.text))
        page.on("request", lambda request: ask(request.url))

    def _halfway(self) -> Any:
        """Give the password of somebody who has a second factor; no more."""
        with self.live.app.app_context():
            hashed = login.hash_new_password(PASSWORD)
        with self.database.transaction() as session:
            editor = editors.add(session, CAREFUL, Role.OWNER, now=utcnow())
            editor.password, editor.confirmed_at = hashed, utcnow()
            editor.tf_primary_method, editor.tf_totp_secret = "authenticator", "{}"
        client = self.live.app.test_client()
        agent = self._pages["halfway"].evaluate("navigator.userAgent")
        client.environ_base["HTTP_USER_AGENT"] = agent
        data = {"email": CAREFUL, "password": PASSWORD}
        data["csrf_token"] = csrf_token(client, "/editor/login")
        assert client.post("/editor/login", data=data).status_code == 302
        return client

    def _find_more(self) -> None:
        """Take addresses that only the program itself can say."""
        client = as_editor(self.live.app, email=OWNER)
        calendar = client.get(f"/editor/{self.world['slug']}/calendar/").text
        change = re.search(r'href="([^"]*/calendar/change[^"]*)"', calendar)
        assert change
        with self.database.transaction() as session:
            editor = editors.by_email(session, CAREFUL)
            with self.live.app.test_request_context():
                token = generate_reset_password_token(editor)
        settings = self.live.app.extensions["inkorg.settings"]
        invited = links.sign(settings, links.INVITE, self.world["invited"])
        exact = {
            "invitations.show": links.INVITE.path + invited,
            "calendar.change": change[1].replace("&amp;", "&"),
            "security.reset_password": f"/editor/login/forgotten/{token}",
        }
        self.places = [
            replace(place, path=exact.get(place.endpoint, place.path))
            for place in self.places
        ]


def places(app: Flask, settings: Settings, world: dict[str, Any]) -> Iterator[Place]:
    """Yield every page of the URL map. Raises KeyError for one without an example."""
    known = {rule.endpoint for rule in app.url_map.iter_rules()}
    if gone := (NO_PAGES | EMPTY_TOO | HALFWAY | SANDBOXED | set(LOOKS)) - known:
        raise KeyError(f"there is no {', '.join(sorted(gone))} any more")
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        name = rule.endpoint
        if "GET" not in (rule.methods or ()) or name in NO_PAGES:
            continue
        token = everything.token_for(rule.rule, settings, world)
        try:
            usual = everything.fill(rule.rule, {**world, "token": token})
        except KeyError as missing:
            raise KeyError(f"{name} has no example of {missing}") from missing
        looks = dict(LOOKS.get(name, {"": usual}))
        if "<token>" in rule.rule:
            looks.setdefault("", usual)
        if name in EMPTY_TOO:
            empty = {**world, "slug": world["empty"]}
            looks["empty"] = everything.fill(rule.rule, empty)
        for look, path in looks.items():
            yield Place(
                f"{name} {look}".strip(), path.format_map(world), name, rule.rule
            )


# What can be pressed on a reader's page and is smaller than 24 px. A round or square
# field counts with its label; links within a sentence are excepted, as WCAG does.
TOO_SMALL = """
    () => [...document.querySelectorAll("button, summary, .choice,"
        + " input:not([type=hidden], [type=radio], [type=checkbox]), nav a,"
        + " .button, .foot a, .contact a, h3 a, .issues a")]
      .filter(e => !e.closest(".trap"))
      .map(e => [e.outerHTML.slice(0, 120), e.getBoundingClientRect()])
      .filter(([_, box]) => box.width > 0 && (box.width < 24 || box.height < 24))
      .map(([html, box]) => `small: ${html} ${box.width}x${box.height}`)
"""
# Of each kind of thing that takes the focus, one that does not show it: by its own
# outline, or its label's or neighbour's where the thing itself is hidden.
UNSEEN = """() => {
    const shows = (e) => e && getComputedStyle(e).outlineStyle !== "none";
    const kinds = new Set(), unseen = [];
    for (const e of document.querySelectorAll(
        "a[href], button, input, select, textarea, summary, [tabindex='0']")) {
        const kind = [e.tagName, e.type, e.className, e.parentElement.className].join();
        if (kinds.has(kind) || e.disabled || e.closest(".trap")) continue;
        if (!e.checkVisibility({ visibilityProperty: true })) continue;
        kinds.add(kind);
        e.focus({ preventScroll: true });
        if (document.activeElement !== e) continue;
        const near = [e, e.parentElement, e.closest("label"), e.nextElementSibling];
        if (!near.some(shows)) unseen.push(`no focus: ${e.outerHTML.slice(0, 120)}`);
    }
    return unseen;
}"""
# As it is, and with text twice the size: what is wider than the window, and whether the
# navigation lies under what stands at the foot of it.
FITS = """() => ["", "200%"].flatMap((size) => {
    const page = document.documentElement, found = [];
    page.style.fontSize = size;
    const how = size && " with text twice the size";
    const wide = page.scrollWidth - innerWidth;
    if (wide > 0) found.push(`${wide} px too wide${how}`);
    const parts = [".side", ".side-foot"].map((s) => document.querySelector(s));
    const [side, foot] = parts.map((part) => part?.getBoundingClientRect());
    if (side && foot && side.bottom > foot.top) found.push(`foot over side${how}`);
    page.style.removeProperty("font-size");
    return found;
})"""
SHAPE = """() => ({
    headings: document.querySelectorAll("h1").length,
    language: document.documentElement.lang,
    kept: localStorage.length + sessionStorage.length,
})"""
UNFOLD = "document.querySelectorAll('details').forEach(d => d.open = true)"


def _wrong(page: Page, place: Place, way: Way) -> list[str]:
    """Return what is wrong on a page as it stands."""
    shape = page.evaluate(SHAPE)
    found: list[str] = page.evaluate(FITS)
    if place.endpoint in SANDBOXED:
        for part in ("header", "main + .around"):
            found += violations(page, f"document.querySelector({part!r})")
        return found
    if shape["headings"] != 1:
        found.append(f"{shape['headings']} main headings")
    if shape["language"] != way.language:
        found.append(f"speaks {shape['language']}")
    # The mail in a frame is `test_digest_mail.py`'s.
    found += violations(page)
    page.keyboard.press("Tab")
    found += page.evaluate(UNSEEN)
    if not place.path.startswith("/editor/"):
        found += page.evaluate(TOO_SMALL)
        if shape["kept"] or (page.context.cookies() and place.who == "stranger"):
            found.append("keeps something in the browser")
    return found


def _page(browser: Browser) -> Page:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page


def _without_sandbox(route: Route) -> None:
    """Let axe run: the page itself forbids all scripts."""
    answer = route.fetch()
    headers = {**answer.headers, "content-security-policy": "img-src 'self'"}
    route.fulfill(response=answer, headers=headers)


def stand(page: Page, way: Way) -> None:
    """Turn a page to a theme and a width."""
    page.emulate_media(color_scheme=way.theme, reduced_motion="reduce")
    page.set_viewport_size({"width": way.width, "height": HEIGHT})


def save(shot: bytes, path: Path) -> None:
    """Keep a screenshot in few bytes: not too tall, in few colours, without loss.

    What is there already and looks the same is left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, TALLEST)))
    few = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    if path.exists() and _alike(few.convert("RGB"), Image.open(path).convert("RGB")):
        return
    few.save(path, lossless=True, method=2)  # 6: a twentieth less, 50 × as slow


def _alike(one: Image.Image, other: Image.Image) -> bool:
    """Tell whether pictures differ by no more than the edges of letters do."""
    if one.size != other.size:
        return False
    grey = ImageChops.difference(one, other).convert("L")
    return not any(grey.histogram()[UNSEEN_DIFFERENCE + 1 :])


@contextmanager
def touring(browser: Browser, host: str = "", port: int = 0) -> Iterator[Tour]:
    """Make an installation for a tour, and serve it.

    With a host's name, which the browser must know with the port, it is a tidy one.
    """
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/pages.sqlite3"
        settings = config.load_settings(
            {
                "NEWSLETTER_SECRET_KEYS": "every-page" * 4,
                "NEWSLETTER_DATABASE_URL": url,
                "NEWSLETTER_BASE_URL": f"http://{host or f'127.0.0.1:{port}'}",
                "NEWSLETTER_INSTANCE_DIR": f"{folder}/instance",
            }
        )
        engine = create_engine(url, **engine_options(url))
        prepare_engine(engine)
        migrate.upgrade(engine)
        app = create_app(settings)
        app.testing = True
        with serving(app, settings.base_url, port) as live:
            yield Tour(live, browser, Database(engine), tidy=bool(host))
        engine.dispose()


@click.command()
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", default="", help="Pages whose name begins so.")
@click.option("--ways", default="", help="As in sv-dark-320, or a part of that.")
def main(pictures: Path | None, only: str, ways: str) -> None:
    """Look at every page in every way; say what is wrong."""
    wanted = [
        [w for w in WAYS if w.language == lang and ways in str(w)] for lang in LANGUAGES
    ]
    with ProcessPoolExecutor(len(LANGUAGES), get_context("spawn")) as processes:
        walks = [
            processes.submit(walk, some, only, pictures) for some in wanted if some
        ]
        found = {way: line for walked in walks for way, line in walked.result().items()}
    for way, (pages, wrong) in found.items():
        click.echo(f"{way!s:<14} {pages} pages, {wrong} things wrong")
    raise SystemExit(any(wrong for _, wrong in found.values()))


def walk(
    ways: Sequence[Way], only: str, pictures: Path | None
) -> dict[Way, tuple[int, int]]:
    """Look at pages in ways of one language; return how many pages and faults in each.

    What is wrong is said at once, so that a walk that is stopped was not in vain.
    """
    wrong = dict.fromkeys(ways, 0)
    with browsing() as browser, touring(browser) as tour:
        tour.speak(ways[0].language)
        places = [place for place in tour.places if place.name.startswith(only)]
        for number, place in enumerate(places, 1):
            began = time.monotonic()
            for way, line in tour.look(place, ways, pictures):
                wrong[way] += 1
                click.echo(f"{place.name}  {way}  {line}")
            told = f"{ways[0].language} {number}/{len(places)} {place.name}"
            click.echo(f"{told} {time.monotonic() - began:.1f} s", err=True)
            sys.stdout.flush()
        tour.close()
    return {way: (len(places), count) for way, count in wrong.items()}


if __name__ == "__main__":
    main()
