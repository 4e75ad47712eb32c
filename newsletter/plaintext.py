"""Plain text: clean lines, shortened at a word, and HTML written as text. Pure."""

import re
import textwrap
import unicodedata
from dataclasses import dataclass, field
from html.parser import HTMLParser

# What HTML shows on lines of its own.
BLOCKS = frozenset(
    {
        *("blockquote", "caption", "dd", "div", "dl", "dt", "figcaption", "figure"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "table"),
        *("tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
    }
)
# An ellipsis glued to a word is an author's pause in a short text, and in a longer one
# the place where a program cut it, perhaps in the middle of that word.
CUT_BY_PROGRAM_CHARACTERS = 100

_CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]"
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPACES = re.compile(r"[^\S\u00a0\u202f]+")  # not the ones that must not break
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:\.\.\.|…)\s*\]|\.\.\.+|…)\s*$")


def clean(text: str) -> str:
    """Return `text` without what no database, header or terminal should be given.

    That is: control characters except line breaks and tabs, halves of characters, and
    the marks that make text run backwards.
    """
    text = _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _CONTROLS.sub("", text.replace("\u2028", "\n").replace("\u2029", "\n"))


def squeeze(text: str) -> str:
    """Return clean text with every run of spaces and line breaks as one space."""
    return _SPACES.sub(" ", clean(text)).strip()


def one_line(text: str, limit: int = 500) -> str:
    """Return `text` as one clean line of at most `limit` characters."""
    line = squeeze(text)
    return line if len(line) <= limit else shorten(line, limit)


def begin(line: str, limit: int) -> str:
    """Return the beginning of one line of text; see `markup.excerpt`."""
    whole = _without_ellipsis(line)
    if whole == line:
        return line if len(line) <= limit else shorten(line, limit)
    if len(whole) + 2 > limit:
        return shorten(whole, limit)
    glued = line[len(whole)] in {".", "…"}
    if glued and len(whole) < CUT_BY_PROGRAM_CHARACTERS:
        return f"{whole}…"
    if glued and whole[-1:].isalnum():
        whole = whole.rpartition(" ")[0] or whole
    return _end(whole)


def is_cut(line: str) -> bool:
    """Tell whether a program has shortened this line."""
    return len(line) >= CUT_BY_PROGRAM_CHARACTERS and _without_ellipsis(line) != line


def shorten(line: str, limit: int) -> str:
    """Return at most `limit` characters of a longer line: whole words and " …"."""
    room = limit - 2
    head = line[:room]
    if not line[room : room + 1].isspace():
        cut = re.search(r"\s+\S*$", head)
        if cut and cut.start():
            head = head[: cut.start()]
        else:  # one word longer than the room: at least no accent loses its letter
            while head and unicodedata.combining(line[len(head)]):
                head = head[:-1]
    return _end(head)


def _without_ellipsis(line: str) -> str:
    # Only the end is looked at: a hundred thousand dots must not cost their square.
    return line[:-20] + _ELLIPSIS.sub("", line[-20:])


def _end(text: str) -> str:
    return f"{text.rstrip(' ,;:–—-(«”/')} …".strip()


def to_lines(html: str, *, links: bool, width: int = 0) -> str:
    """Write sanitised HTML as text; see `markup.to_text`."""
    writer = _Writer(links=links, width=width)
    writer.feed(html)
    writer.close()
    return writer.text()


@dataclass(slots=True)
class _Block:
    """A paragraph under way: its words, and what stands before its lines."""

    first: str = ""
    rest: str = ""
    words: list[str] = field(default_factory=list)
    preformatted: bool = False


class _Writer(HTMLParser):
    """Write sanitised HTML as text."""

    def __init__(self, *, links: bool, width: int = 0) -> None:
        super().__init__(convert_charrefs=True)
        self.links = links
        self.width = width
        self.done: list[str] = []
        self.block = _Block()
        self.prefixes: list[tuple[str, str]] = []  # (tag, what lines begin with)
        self.counters: list[int | None] = []  # of the lists we are in
        self.mark = ""  # of a list item that has no words yet
        self.href: tuple[str, int] | None = None
        self.in_table = False

    def text(self) -> str:
        return re.sub(r"\n{3,}", "\n\n", "".join(self.done)).strip("\n")

    def close(self) -> None:
        super().close()
        self._finish()

    def handle_data(self, data: str) -> None:
        if not self.block.preformatted:
            data = _SPACES.sub(" ", data)
        self.block.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "br":
            self.block.words.append("\n")
        elif tag == "a":
            self.href = (values.get("href") or "", len(self.block.words))
        elif tag == "img" and self.links:
            self.block.words.append(f"[{values.get('alt') or ''}]")
        elif tag in {"td", "th"}:
            if self._words():
                self.block.words.append(" | " if self.links else " ")
        elif tag in BLOCKS:
            self._finish()
            self._open(tag, values)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._write_link()
        elif tag in BLOCKS and tag not in {"td", "th"}:
            self._finish()
            self._shut(tag)

    def _open(self, tag: str, values: dict[str, str | None]) -> None:
        if tag == "blockquote":
            self.prefixes.append((tag, "> "))
        elif tag in {"ul", "ol"}:
            start = values.get("start") or ""
            first = int(start) if start.isdecimal() and len(start) < 6 else 1
            self.counters.append(first if tag == "ol" else None)
        elif tag == "li":
            self._open_item()
        elif tag == "table":
            self.in_table = True
        elif tag == "pre":
            self.block.preformatted = True
        elif tag == "hr" and self.links:
            self.done.append("* * *\n\n")

    def _open_item(self) -> None:
        number = self.counters[-1] if self.counters else None
        self.mark = "- " if number is None else f"{number}. "
        if number is not None:
            self.counters[-1] = number + 1
        self.prefixes.append(("li", " " * len(self.mark)))

    def _shut(self, tag: str) -> None:
        if tag in {"ul", "ol"} and self.counters:
            self.counters.pop()
            if not self.counters and self.done:
                self.done.append("\n")
        elif tag == "table":
            self.in_table = False
            self.done.append("\n")
        elif tag in {"blockquote", "li"}:
            for index in reversed(range(len(self.prefixes))):
                if self.prefixes[index][0] == tag:
                    del self.prefixes[index]
                    break
            self.mark = "" if tag == "li" else self.mark

    def _write_link(self) -> None:
        if self.href is None:
            return
        url, start = self.href
        self.href = None
        words = "".join(self.block.words[start:]).strip()
        address = url.removeprefix("mailto:")
        if self.links and url and words.rstrip("/") != address.rstrip("/"):
            self.block.words.append(f" <{address}>")

    def _words(self) -> str:
        words = "".join(self.block.words)
        if self.block.preformatted:
            return words.strip("\n")
        return re.sub(r" *\n *", "\n", re.sub(r" {2,}", " ", words)).strip()

    def _finish(self) -> None:
        words = self._words()
        block, self.block = self.block, _Block()
        if self.href is not None:  # a link around several blocks
            self.href = (self.href[0], 0)
        if not words:
            self.block.preformatted = block.preformatted
            return
        prefix = "".join(text for _tag, text in self.prefixes)
        first = prefix
        if self.mark:
            first, self.mark = prefix[: -len(self.mark)] + self.mark, ""
        lines = self._fold(words, len(prefix), keep=block.preformatted)
        self.done.append(
            "\n".join([first + lines[0], *(prefix + x for x in lines[1:])])
        )
        # Items of a list and rows of a table stand close together, all else apart.
        self.done.append("\n" if self.counters or self.in_table else "\n\n")

    def _fold(self, words: str, used: int, *, keep: bool) -> list[str]:
        lines = words.split("\n")
        if keep or not self.width:
            return lines
        folded: list[str] = []
        for line in lines:
            folded += textwrap.wrap(
                line,
                max(20, self.width - used),
                break_long_words=False,
                break_on_hyphens=False,
            ) or [""]
        return folded
