"""Markup: sanitise HTML, render Markdown, find excerpts and images. Pure.

Everything that came from outside and is shown as HTML has been through `sanitise`. nh3
and markdown-it are used only here.
"""

import html as entities
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt

from newsletter import plaintext
from newsletter.errors import N_, InvalidInput
from newsletter.plaintext import BLOCKS, clean, one_line

MAX_HTML_CHARACTERS = 200_000
MAX_DEPTH = 200  # 40,000 nested elements cost nh3 four seconds
# A parser moves what stands wrongly in a table, and what it writes may be read another
# way again: cleaning goes on until nothing changes. What never rests becomes text.
MAX_PASSES = 6
EXCERPT_CHARACTERS = 280

INLINE = frozenset(
    {
        *("a", "abbr", "b", "br", "cite", "code", "del", "em", "i", "img", "ins"),
        *("kbd", "mark", "q", "s", "small", "strong", "sub", "sup", "u"),
    }
)
ATTRIBUTES = {
    "*": {"dir", "lang"},
    "a": {"href", "title"},
    "abbr": {"title"},
    # Sizes and style are looked at to find tracking pixels, and then dropped.
    "img": {"src", "alt", "width", "height", "style"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
# Dropped with what they hold; other tags that are not allowed only lose their tags.
HOLLOW = frozenset(
    {
        *("applet", "audio", "button", "canvas", "embed", "form", "frameset", "head"),
        *("iframe", "input", "math", "noembed", "noframes", "object", "script"),
        *("select", "style", "svg", "template", "textarea", "title", "video", "xmp"),
    }
)
SCHEMES = frozenset({"http", "https", "mailto"})

# Elements that end by themselves, so that many open ones are no nesting.
_SELF_ENDING = frozenset(
    {
        *("area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input"),
        *("li", "link", "meta", "option", "p", "source", "tbody", "td", "tfoot", "th"),
        *("thead", "tr", "wbr"),
    }
)
_TRACKERS = re.compile(
    r"feedburner\.com/~|feeds\.wordpress\.com/1\.0/|(?:pixel|stats)\.wp\.com/"
    r"|doubleclick\.net/|google-analytics\.com/|feedsportal\.com/|/count(?:er)?\.gif"
    r"|/(?:pixel|spacer|blank|1x1|clear)\.(?:gif|png)|facebook\.com/tr\b|list-manage"
)
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden"
    r"|(?<!-)\b(?:width|height)\s*:\s*[01](?:px)?\s*(?:;|$)"
)
_IMAGE = re.compile(r'<img((?:[^>"]|"[^"]*")*)>')
_ATTRIBUTE = re.compile(r'([\w:-]+)="([^"]*)"')
_EMPTY = re.compile(r"<(p|a|figure|b|strong|em|i|h[1-6])(?: [^>]*)?>\s*</\1>")
_ANY_TAG = re.compile(r"<[^<>]*>")
_TAG_NAME = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
_UNSEEN = re.compile(
    r"<!--.*?(?:-->|$)|<(script|style|textarea|title|xmp)\b.*?(?:</\1|$)", re.S | re.I
)
_LOOKS_LIKE_HTML = re.compile(r"<[a-zA-Z/!]|&(?:#\d+|#[xX][\da-fA-F]+|\w+);")
_PHOTON = re.compile(r"https?://i[0-3]\.wp\.com/([\w.-]+\.[a-z]{2,}/[^\s?]*)")

_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


@dataclass(frozen=True, slots=True)
class Image:
    """A picture with the words that stand for it."""

    url: str
    alt: str


def sanitise(html: str, base_url: str = "") -> str:
    """Return harmless HTML: an allow-list, absolute links, images that say something.

    Relative links are resolved against `base_url`, or dropped where there is none.
    Images without alternative text, tracking pixels and, where `base_url` tells whose
    text this is, images from strangers' hosts are dropped: those would tell the
    stranger who reads. Doing it twice changes nothing.
    """
    html = clean(html)[:MAX_HTML_CHARACTERS]
    if _depth(html) > MAX_DEPTH:
        html = from_text(entities.unescape(_ANY_TAG.sub(" ", html)))
    based = base_url if is_web(base_url) else ""
    for _ in range(MAX_PASSES):
        result = _clean_once(html, based)
        if result == html:
            return result
        html = result
    return from_text(entities.unescape(_ANY_TAG.sub(" ", html)))


def from_text(text: str) -> str:
    """Return plain text as HTML paragraphs."""
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", clean(text)))
    return "".join(
        f"<p>{entities.escape(part, quote=False)}</p>".replace("\n", "<br>")
        for part in paragraphs
        if part
    )


def from_markdown(text: str, base_url: str = "") -> str:
    """Return Markdown as sanitised HTML; HTML in it is shown as it was typed.

    Raises InvalidInput if it is too long.
    """
    if len(text) > MAX_HTML_CHARACTERS:
        raise InvalidInput(
            N_("That text is too long. Keep it under %(count)s characters."),
            field="markdown",
            count=MAX_HTML_CHARACTERS,
        )
    rendered: str = _markdown.render(clean(text))
    return sanitise(rendered, base_url)


def to_text(html: str, width: int = 0) -> str:
    """Return sanitised HTML as text that reads well in a terminal.

    Paragraphs stand apart, lists have their marks, links follow their words in angle
    brackets (RFC 3986, appendix C). Lines are folded at `width`, if given.
    """
    return plaintext.to_lines(html, links=True, width=width)


def plain(text_or_html: str) -> str:
    """Return the words of HTML, or of plain text, on one line, without links."""
    text = text_or_html
    if _LOOKS_LIKE_HTML.search(text):
        text = plaintext.to_lines(sanitise(text), links=False)
    return plaintext.squeeze(text)


def excerpt(text_or_html: str, limit: int = EXCERPT_CHARACTERS) -> str:
    """Return the beginning as plain text; what was shortened ends in a word and " …".

    Takes over text that another program has shortened before ("stödet...",
    "det v...", "[…]") and ends it at a whole word.
    """
    return plaintext.begin(plain(text_or_html), limit)


def is_cut(text_or_html: str) -> bool:
    """Tell whether a program has shortened this text."""
    return plaintext.is_cut(plain(text_or_html))


def first_image(html: str) -> Image | None:
    """Return the first image of sanitised HTML."""
    return next(images(html), None)


def images(html: str) -> Iterator[Image]:
    """Return the images of sanitised HTML, in their order."""
    for match in _IMAGE.finditer(html):
        values = _attributes(match[1])
        yield Image(values.get("src", ""), values.get("alt", ""))


def own_picture(url: str, base_url: str) -> str:
    """Return a picture's address as it may be shown, or nothing.

    The rules are those of `sanitise`: no tracking pixels, nothing from strangers.
    """
    if photon := _PHOTON.match(url):  # WordPress's cache has the blog's address inside
        url = f"https://{photon[1]}"
    if not is_web(url) or _TRACKERS.search(url.lower()):
        return ""
    if base_url and _organisation(url) != _organisation(base_url):
        return ""
    return url


def is_web(url: str) -> bool:
    """Tell whether `url` is a whole http or https address."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False


def _clean_once(html: str, base_url: str) -> str:
    result = _clean_html(html, base_url)
    result = _IMAGE.sub(lambda match: _tidy_image(match[1], base_url), result)
    return _drop_empty(result).strip()


def _clean_html(html: str, base_url: str) -> str:
    return nh3.clean(
        html,
        tags=set(BLOCKS | INLINE),
        clean_content_tags=set(HOLLOW),
        attributes=ATTRIBUTES,
        url_schemes=set(SCHEMES),
        url_relative=("rewrite_with_base", base_url) if base_url else "deny",
        link_rel=None,
    )


def _depth(html: str) -> int:
    """Estimate how deep the elements nest.

    What hides from this estimate costs seconds at most; feeds are read in a process
    whose seconds are counted.
    """
    opened: Counter[str] = Counter()
    deepest = depth = 0
    for closing, name in _TAG_NAME.findall(_UNSEEN.sub("", html)):
        tag = name.lower()
        if tag in _SELF_ENDING:
            continue
        if not closing:
            opened[tag] += 1
            depth += 1
            deepest = max(deepest, depth)
        elif opened[tag]:
            opened[tag] -= 1
            depth -= 1
    return deepest


def _attributes(source: str) -> dict[str, str]:
    return {
        name: entities.unescape(value) for name, value in _ATTRIBUTE.findall(source)
    }


def _tidy_image(source: str, base_url: str) -> str:
    values = _attributes(source)
    url, alt = values.get("src", ""), one_line(values.get("alt", ""), 300)
    url = own_picture(url, base_url)
    if not alt or not url or _is_tracker(values):
        return ""
    return f'<img src="{entities.escape(url)}" alt="{entities.escape(alt)}">'


def _is_tracker(values: dict[str, str]) -> bool:
    sizes = {values.get("width", "").strip(), values.get("height", "").strip()}
    tiny = sizes & {"0", "1", "0px", "1px"}
    style = values.get("style", "").lower()
    return bool(tiny or _HIDDEN.search(style))


def _organisation(url: str) -> str:
    labels = (urlsplit(url).hostname or "").split(".")
    # "example.co.uk" has three labels where "example.se" has two.
    count = 3 if len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) < 4 else 2
    return ".".join(labels[-count:])


def _drop_empty(html: str) -> str:
    while (shorter := _EMPTY.sub("", html)) != html:
        html = shorter
    return html
