"""A mail as its reader meets it: words, links, pictures, can it be read. Pure.

Both look at a mail with this: the preflight of an issue and the check of a theme.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

from newsletter import colours
from newsletter.digests import dark_mode

LARGE_PIXELS = 24  # text for which less contrast will do
AA_LARGE = 3.0
FORBIDDEN = ("script", "form", "iframe", "link", "object", "embed", "video", "audio")
_HEX = re.compile(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})\b", re.IGNORECASE)
_DECLARED = re.compile(
    r"(?:^|;)\s*(color|background|background-color|font-size|font)\s*:([^;]+)"
)
_PIXELS = re.compile(r"(\d+)px")
_VOID = frozenset({"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})


@dataclass(frozen=True, slots=True)
class Picture:
    """An <img>: where it lies, and its words; None where it has no alt at all."""

    url: str
    alt: str | None


@dataclass(frozen=True, slots=True)
class Faint:
    """Words that are hard to read on their ground."""

    ink: str
    ground: str
    ratio: float
    words: str


@dataclass(slots=True)
class _Element:
    tag: str
    ink: str
    ground: str
    pixels: int
    hidden: bool
    selected: dark_mode.Element


class Page(HTMLParser):
    """Everything a check asks about a mail, read once; in the order it stands there.

    With `night` its words are as they look in dark mode.
    """

    def __init__(self, html: str, *, night: bool = False) -> None:
        """Read `html`."""
        super().__init__(convert_charrefs=True)
        ink, ground = colours.INK, colours.PAPER
        if night:
            ink, ground = dark_mode.INK, dark_mode.GROUND
        self._rules = dark_mode.rules(html) if night else []
        nothing = dark_mode.Element("", frozenset())
        self._opened = [_Element("", ink, ground, 16, False, nothing)]
        self._words: list[str] = []
        self._contrasts: dict[tuple[str, str], float] = {}
        self.links: dict[str, None] = {}
        self.pictures: list[Picture] = []
        self.faint: dict[tuple[str, str], Faint] = {}
        self.forbidden: dict[str, None] = {}
        self.tags: dict[str, None] = {}
        self.styles: list[str] = []  # of elements
        self.sheets: list[str] = []  # <style>
        self.headings = 0
        self.lang = ""
        self.feed(html)
        self.close()
        self.text = " ".join("".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element, and take note of how its words look."""
        values = {name: value or "" for name, value in attrs}
        self._look_at(tag, values)
        if tag not in _VOID:
            self._opened.append(self._styled(tag, values))

    def handle_endtag(self, tag: str) -> None:
        """Close an element, and those left open in it."""
        for index in range(len(self._opened) - 1, 0, -1):
            if self._opened[index].tag == tag:
                del self._opened[index:]
                return

    def handle_data(self, data: str) -> None:
        """Read words, unless nobody sees them."""
        here = self._opened[-1]
        if here.tag == "style":
            self.sheets.append(data)
        if here.hidden:
            return
        self._words.append(data)
        words = " ".join(data.split())
        if not any(c.isalnum() for c in words):
            return
        pair = (here.ink, here.ground)
        if (ratio := self._contrasts.get(pair)) is None:
            ratio = self._contrasts[pair] = colours.contrast(*pair)
        if ratio < (AA_LARGE if here.pixels >= LARGE_PIXELS else colours.AA_TEXT):
            faint = Faint(here.ink, here.ground, ratio, words)
            self.faint.setdefault(pair, faint)

    def _look_at(self, tag: str, values: dict[str, str]) -> None:
        self.tags.setdefault(tag)
        if values.get("style"):
            self.styles.append(values["style"])
        if tag == "a":
            self.links.setdefault(values.get("href", ""))
        if tag == "html" and values.get("lang") not in {"", "und"}:
            self.lang = values.get("lang", "")
        self.headings += tag == "h1"
        if tag == "img":
            self.pictures.append(Picture(values.get("src", ""), values.get("alt")))
        if tag in FORBIDDEN or tag.startswith("mj-"):
            self.forbidden.setdefault(tag)

    def _styled(self, tag: str, values: dict[str, str]) -> _Element:
        above = self._opened[-1]
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
        if self._rules:
            opened = [element.selected for element in self._opened[1:]]
            yield from dark_mode.declared(self._rules, [*opened, made.selected])


@functools.lru_cache(maxsize=32)
def read(html: str, *, night: bool = False) -> Page:
    """Return a mail as read; one that is looked at again is not read again."""
    return Page(html, night=night)


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
