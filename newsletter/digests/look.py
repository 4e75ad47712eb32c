"""A digest's look: theme, colour, logo, the parts in their order and their words. Pure.

Words may hold merge tags from a fixed list. An unknown one is refused when it is saved,
so that no reader ever meets a pair of braces.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from newsletter import plaintext
from newsletter.errors import N_, InvalidInput

DEFAULT_THEME = "calm"
DEFAULT_ACCENT = "#8b2e24"
PARTS = ("opening", "headlines", "posts", "authors", "closing")
ALWAYS_SHOWN = ("posts",)
SHOWN = ("opening", "headlines", "posts", "closing")  # unless an editor says otherwise

PART_NAMES = {
    "opening": N_("Opening"),
    "headlines": N_("List of headlines"),
    "posts": N_("Posts"),
    "authors": N_("Who wrote this"),
    "closing": N_("Closing words"),
}
PART_HINTS = {
    "opening": N_("Your greeting, and what you write for each issue."),
    "headlines": N_("Stands there when there are three posts or more."),
    "posts": N_("Always there."),
    "authors": N_("Each author once, with portrait and byline."),
    "closing": N_("Your closing words, and an invitation to answer."),
}

# What an editor may write in braces, and what stands there in the mail.
TAGS = {
    "newsletter": N_("the newsletter's name"),
    "publisher": N_("who is behind it"),
    "number_of_posts": N_("how many posts, in figures: 4"),
    "number_in_words": N_("how many posts, in words: Four"),
    "date": N_("the day of the issue"),
    "title": N_("the title of the post"),
    "author": N_("who wrote the post"),
}
EVERYWHERE = ("newsletter", "publisher", "number_of_posts", "number_in_words", "date")
_BRACES = re.compile(r"\{\{(.*?)\}\}|\{%.*?%\}|\{\{|\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wording:
    """A text of the mail that an editor may write: what it is, how long, which tags."""

    name: str
    label: str
    limit: int
    hint: str = ""
    tags: tuple[str, ...] = EVERYWHERE
    lines: int = 1
    needs: str = ""  # a tag that must be there


WORDINGS = {
    wording.name: wording
    for wording in (
        Wording("greeting", N_("Greeting"), 200, N_("A line above what you write.")),
        Wording("heading", N_("Heading"), 200),
        Wording("headlines", N_("Above the list of headlines"), 100),
        Wording(
            "link",
            N_("Words of the link to a post"),
            100,
            N_("With the post's title, so that every link says where it leads."),
            ("title", "author"),
            needs="title",
        ),
        Wording("more", N_("Above the posts that are shown as headlines only"), 100),
        Wording("authors", N_("Above the authors"), 100),
        Wording(
            "closing",
            N_("Closing words"),
            2_000,
            N_("Markdown works: *italic*, **bold**, [words](https://example.org)."),
            lines=3,
        ),
        Wording("reply", N_("Invitation to answer"), 300),
        Wording("note", N_("Your own words in the footer"), 600, lines=2),
    )
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in a mail; width and height as it is shown, in CSS pixels."""

    url: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Look:
    """Everything of a digest's look that an editor decides."""

    theme: str = DEFAULT_THEME
    accent: str = DEFAULT_ACCENT
    logo: Picture | None = None
    dark_logo: Picture | None = None
    parts: tuple[str, ...] = SHOWN  # those shown, in their order
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by language

    def said(self, language: str, name: str) -> str:
        """Return what an editor wrote for `name` in a language, or nothing."""
        return self.words.get(language, {}).get(name, "")

    def of_a_letter(self) -> "Look":
        """Return the look of words without posts: all of them, and none about posts."""
        kept = {
            language: {"note": words["note"]}
            for language, words in self.words.items()
            if "note" in words
        }
        return replace(self, parts=("opening",), words=kept)


def check_order(order: Sequence[str]) -> list[str]:
    """Return all parts in the wished order, the forgotten ones last."""
    wish = [part for part in dict.fromkeys(order) if part in PARTS]
    return wish + [part for part in PARTS if part not in wish]


def check_shown(shown: Sequence[str]) -> list[str]:
    """Return the parts that are shown, among them those that always are."""
    return [part for part in PARTS if part in shown or part in ALWAYS_SHOWN]


def check_words(
    words: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, str]]:
    """Return clean words by language, without the empty ones.

    Raises InvalidInput, naming the field as "language-name".
    """
    return {
        language: {
            name: clean
            for name, wording in WORDINGS.items()
            if (clean := _check(wording, said.get(name, ""), f"{language}-{name}"))
        }
        for language, said in words.items()
    }


def _check(wording: Wording, text: str, field_name: str) -> str:
    one_line = wording.lines == 1
    clean = plaintext.squeeze(text) if one_line else plaintext.clean(text).strip()
    if len(clean) > wording.limit:
        raise InvalidInput(
            N_("That text has room for %(limit)s characters."),
            field=field_name,
            limit=wording.limit,
        )
    used = {_tag_of(found, wording, field_name) for found in _BRACES.finditer(clean)}
    if clean and wording.needs and wording.needs not in used:
        raise InvalidInput(
            N_("%(tag)s must be in it, so that every link says where it leads."),
            field=field_name,
            tag=written(wording.needs),
        )
    return clean


def _tag_of(found: re.Match[str], wording: Wording, field_name: str) -> str:
    name = (found[1] or "").strip()
    if name in wording.tags:
        return name
    raise InvalidInput(
        N_("There is no %(tag)s here. What can stand in braces: %(tags)s."),
        field=field_name,
        tag=plaintext.one_line(found[0], 60),
        tags=", ".join(written(tag) for tag in wording.tags),
    )


def written(tag: str) -> str:
    """Write a tag as it is typed."""
    return f"{{{{ {tag} }}}}"
