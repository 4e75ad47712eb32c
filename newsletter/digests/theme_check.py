"""Checking a theme: what a reader would miss, found before they do. Nothing is stored.

The theme writes sample mails of 0, 1, 3 and 30 posts in every language, once with short
names and once with long ones. Words are English: operators read them in a terminal.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from newsletter import i18n
from newsletter.config import Relay, Settings
from newsletter.digests import compose, look, samples
from newsletter.digests.look import Look, Picture
from newsletter.digests.preflight import features
from newsletter.digests.preflight.page import Page
from newsletter.digests.themes import Theme
from newsletter.errors import InkorgError
from newsletter.i18n import Language
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import Issue, Newsletter

COUNTS = (0, 1, 3, 30)
GMAIL_CUTS = 102_400
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BASE = "https://inkorg.example"
ADDRESS = "Provgatan 17, 123 45 Provstad"
LONG = "Bostadsbolagsordförandekonferensförberedelsegruppens nyhetsbrev om allt möjligt"
CLOSING = "Tack för den här gången"
GREETING = "Hej på er allihop"
NOTE = "Görs av frivilliga krafter"


@dataclass(frozen=True, slots=True)
class Case:
    """One sample mail: what it is made of, and what came out."""

    name: str
    issue: Issue
    letter: Letter


def check(
    theme: Theme, *, base: Settings | None = None
) -> tuple[list[str], list[Case]]:
    """Return what is wrong with a theme, each once, and the sample mails it wrote."""
    settings = replace(base or _settings(), themes_dir=theme.folder.parent)
    found: dict[str, str] = {}
    cases = []
    for code, count, long in product(i18n.available(), COUNTS, (False, True)):
        name = f"{code}, {count} posts{', long names' if long else ''}"
        try:
            case = _write(settings, theme, i18n.language(code), count, long, name)
        except InkorgError as error:
            found.setdefault(str(error), name)
            continue
        cases.append(case)
        for flaw in _flaws(case, long=long):
            found.setdefault(flaw, name)
    return [f"{flaw} ({name})" for flaw, name in found.items()], cases


def _settings() -> Settings:
    """Return settings that reach nothing: checking needs no installation."""
    return Settings(
        secret_keys=("x" * 32,),
        database_url="sqlite://",
        base_url=BASE,
        relay=Relay("127.0.0.1", 25),
        instance_dir=Path("."),
    )


def _write(
    settings: Settings, theme: Theme, words: Language, count: int, long: bool, name: str
) -> Case:
    newsletter = _newsletter(long)
    issue = samples.issue(settings, newsletter, words, count, now=NOW)
    for number, entry in enumerate(issue.posts):
        post = entry.post
        post.title = f"{post.title} {LONG if long else ''} nr {number}"
        post.link = f"https://blogg.example/inlagg-{number}/"
        if long:
            post.excerpt = f"{post.excerpt} " * 3
            if post.author:
                post.author.byline = LONG
    issue.opening = f"{LONG} **och** mer."
    said = {"closing": CLOSING, "greeting": GREETING, "note": NOTE, "reply": "Svara!"}
    picture = Picture(f"{BASE}/logo.png", 240, 60)
    made = compose.compose(
        settings,
        issue,
        newsletter,
        issue.posts,
        words,
        look=Look(
            theme=theme.name,
            accent="#ffe600" if long else look.DEFAULT_ACCENT,
            logo=picture if long else None,
            parts=look.PARTS,
            words={words.code: said},
        ),
        whole=2 if long and count == 3 else 0,
    )
    return Case(name, issue, made)


def _newsletter(long: bool) -> Newsletter:
    return Newsletter(
        id=1,
        slug="prov",
        title=LONG if long else "Provbrevet",
        language="sv",
        languages=[],
        timezone="Europe/Stockholm",
        from_name="Provbrevet",
        from_email="brev@inkorg.example",
        reply_to="",
        publisher="Provredaktionen",
        postal_address=ADDRESS,
        contact_email="",
        accent=look.DEFAULT_ACCENT,
        public_archive=True,
        at_most=0,
    )


def _flaws(case: Case, *, long: bool) -> Iterator[str]:
    letter, page = case.letter, Page(case.letter.html)
    yield from _missing_words(letter, page)
    yield from _posts(case, page)
    yield from _markup(page)
    yield from _faint(Page(letter.html, night=True), " in dark mode")
    if compose.encoded_size(letter.html) > GMAIL_CUTS:
        yield "the HTML part is longer than the 102 kB at which Gmail cuts"
    if long and f"{BASE}/logo.png" not in letter.html:
        yield "digest.mjml: the logo is not shown"
    if "prefers-color-scheme" not in letter.html:
        yield "digest.mjml: no colours for dark mode (prefers-color-scheme)"
    public = compose.web_version(letter.html)
    if "/unsubscribe/" in public or "/preferences/" in public:
        yield (
            "digest.mjml: a reader's own links stand outside <!--personal--> and would"
            " be shown in the archive"
        )


def _missing_words(letter: Letter, page: Page) -> Iterator[str]:
    wanted = (
        (mime.LEAVE, "the link to unsubscribe (leave_url)"),
        (mime.PREFERENCES, "the link to preferences (preferences_url)"),
        (ADDRESS, "the postal address (sender_line)"),
        ("brev@inkorg.example", "the address for questions (contact)"),
        (CLOSING, "the closing words (closing, closing_text)"),
        (GREETING, "the greeting (greeting)"),
        (NOTE, "the newsletter's own words (note)"),
        (LONG[:40], "the opening (opening, opening_text)"),
    )
    text = " ".join(letter.text.split())
    shown = f"{page.text} {' '.join(page.links)}"
    for needle, name in wanted:
        if needle not in shown:
            yield f"digest.mjml: {name} is missing"
        if needle not in text:
            yield f"digest.txt: {name} is missing"


def _posts(case: Case, page: Page) -> Iterator[str]:
    text = set(case.letter.text.split())
    in_html, in_text = set(), set()
    for entry in case.issue.posts:
        post = entry.post
        if post.link in page.links and _start(post.title) in page.text:
            in_html.add(post.link)
        if post.link in text:
            in_text.add(post.link)
    for url in sorted(in_html ^ in_text):
        lacks = "digest.txt" if url in in_html else "digest.mjml"
        yield f"{lacks}: a post is missing that the other part has"
    if case.issue.posts and not in_html | in_text:
        yield "digest.mjml: no post is shown with its title and its link"


def _start(title: str) -> str:
    return title[:20]


def _markup(page: Page) -> Iterator[str]:
    """Yield what stands in a reader's way."""
    yield from _faint(page)
    if any(picture.alt is None for picture in page.pictures):
        yield "digest.mjml: a picture has no alternative text (alt)"
    for tag in page.forbidden:
        yield f"digest.mjml: mail programs do not know <{tag}>"
    for use in features.used(page):
        if use.name not in page.forbidden:
            yield (
                f"digest.mjml: {use.shown} is not known by {', '.join(use.lacking)}"
                " (caniemail.com)"
            )
    if page.headings != 1:
        yield f"digest.mjml: {page.headings} headings <h1> instead of one"
    if not page.lang:
        yield 'digest.mjml: <mjml lang="{{ lang }}"> is missing'


def _faint(page: Page, when: str = "") -> Iterator[str]:
    for faint in page.faint.values():
        yield (
            f"digest.mjml: text in {faint.ink} on {faint.ground} is hard to read{when}"
            f" ({faint.ratio:.1f}:1)"
        )
