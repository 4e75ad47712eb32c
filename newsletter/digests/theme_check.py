"""Checking a theme: what a reader would miss, found before they do. Nothing is stored.

The theme writes sample mails of 0, 1, 3 and 30 posts in every language, once with short
names and once with long ones. Words are English: operators read them in a terminal.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

from newsletter import colours, i18n
from newsletter.config import Relay, Settings
from newsletter.digests import compose, dark_mode, look, samples
from newsletter.digests.look import Look, Picture
from newsletter.digests.themes import Theme
from newsletter.errors import InkorgError
from newsletter.i18n import Language
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import Issue, Newsletter

COUNTS = (0, 1, 3, 30)
GMAIL_CUTS = 102_400
LARGE_PIXELS = 24  # text for which less contrast will do
AA_LARGE = 3.0
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BASE = "https://inkorg.example"
ADDRESS = "Provgatan 17, 123 45 Provstad"
LONG = "Bostadsbolagsordförandekonferensförberedelsegruppens nyhetsbrev om allt möjligt"
CLOSING = "Tack för den här gången"
GREETING = "Hej på er allihop"
NOTE = "Görs av frivilliga krafter"
FORBIDDEN = ("script", "form", "iframe", "link", "object", "embed", "video", "audio")
_HEX = re.compile(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})\b", re.IGNORECASE)
_DECLARED = re.compile(
    r"(?:^|;)\s*(color|background|background-color|font-size|font)\s*:([^;]+)"
)
_PIXELS = re.compile(r"(\d+)px")
_VOID = frozenset({"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})


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
    letter, page = case.letter, _Page(case.letter.html)
    yield from _missing_words(letter, page)
    yield from _posts(case, page)
    yield from page.flaws()
    yield from _Page(letter.html, night=True).found
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


def _missing_words(letter: Letter, page: "_Page") -> Iterator[str]:
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


def _posts(case: Case, page: "_Page") -> Iterator[str]:
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


@dataclass(slots=True)
class _Element:
    tag: str
    ink: str
    ground: str
    pixels: int
    hidden: bool
    selected: dark_mode.Element


class _Page(HTMLParser):
    """Read a mail as its reader does: words, links, pictures, and can it be read.

    `night`: in dark mode, and then only what is hard to read is looked for.
    """

    def __init__(self, html: str, *, night: bool = False) -> None:
        super().__init__(convert_charrefs=True)
        self.night = night
        self.rules = dark_mode.rules(html) if night else []
        ink, ground = colours.INK, colours.PAPER
        if night:
            ink, ground = dark_mode.INK, dark_mode.GROUND
        nothing = dark_mode.Element("", frozenset())
        self.opened = [_Element("", ink, ground, 16, False, nothing)]
        self.words: list[str] = []
        self.links: set[str] = set()
        self.found: dict[str, None] = {}
        self.headings = 0
        self.lang = ""
        self.feed(html)
        self.close()
        self.text = " ".join("".join(self.words).split())

    def flaws(self) -> Iterator[str]:
        """Yield what stands in a reader's way."""
        yield from self.found
        if self.headings != 1:
            yield f"digest.mjml: {self.headings} headings <h1> instead of one"
        if not self.lang:
            yield 'digest.mjml: <mjml lang="{{ lang }}"> is missing'

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if not self.night:
            self._look_at(tag, values, dict(attrs))
        if tag not in _VOID:
            self.opened.append(self._styled(tag, values))

    def handle_endtag(self, tag: str) -> None:
        for index in range(len(self.opened) - 1, 0, -1):
            if self.opened[index].tag == tag:
                del self.opened[index:]
                return

    def handle_data(self, data: str) -> None:
        here = self.opened[-1]
        if here.hidden:
            return
        self.words.append(data)
        words = " ".join(data.split())
        if not any(c.isalnum() for c in words):
            return
        ratio = colours.contrast(here.ink, here.ground)
        if ratio < (AA_LARGE if here.pixels >= LARGE_PIXELS else colours.AA_TEXT):
            self._add(
                f"digest.mjml: text in {here.ink} on {here.ground} is hard to read"
                f"{' in dark mode' if self.night else ''} ({ratio:.1f}:1)"
            )

    def _look_at(
        self, tag: str, values: dict[str, str], given: dict[str, str | None]
    ) -> None:
        if tag == "a":
            self.links.add(values.get("href", ""))
        if tag == "html" and values.get("lang") not in {"", "und"}:
            self.lang = values.get("lang", "")
        self.headings += tag == "h1"
        if tag == "img" and "alt" not in given:
            self._add("digest.mjml: a picture has no alternative text (alt)")
        if tag in FORBIDDEN or tag.startswith("mj-"):
            self._add(f"digest.mjml: mail programs do not know <{tag}>")

    def _styled(self, tag: str, values: dict[str, str]) -> _Element:
        above = self.opened[-1]
        style = values.get("style", "").lower()
        hidden = "display:none" in style.replace(" ", "")
        made = _Element(
            tag,
            above.ink,
            _colour(values.get("bgcolor", "")) or above.ground,
            above.pixels,
            above.hidden or hidden or tag in {"style", "title", "head"},
            dark_mode.Element(tag, frozenset(values.get("class", "").lower().split())),
        )
        ruled = list(self._ruled(made))
        for name, value in (
            *(one[:2] for one in ruled if not one[2]),
            *_DECLARED.findall(style),
            *(one[:2] for one in ruled if one[2]),
        ):
            _apply(made, name, value)
        return made

    def _ruled(self, made: _Element) -> Iterator[tuple[str, str, bool]]:
        """Yield what dark mode's rules say of an element."""
        if self.rules:
            opened = [element.selected for element in self.opened[1:]]
            yield from dark_mode.declared(self.rules, [*opened, made.selected])

    def _add(self, flaw: str) -> None:
        self.found.setdefault(flaw)


def _apply(made: _Element, name: str, value: str) -> None:
    if name == "color":
        made.ink = _colour(value) or made.ink
    elif name.startswith("background"):
        made.ground = _colour(value) or made.ground
    elif pixels := _PIXELS.search(value):
        made.pixels = int(pixels[1])


def _colour(text: str) -> str:
    found = _HEX.search(text.replace("white", "#ffffff").replace("black", "#000000"))
    if not found:
        return ""
    colour = found[0].lower()
    return colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
