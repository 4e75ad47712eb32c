"""The words around the posts: title, subject, preview text, merge tags. Pure."""

import re
from collections.abc import Mapping, Sequence

from newsletter import plaintext
from newsletter.errors import N_
from newsletter.i18n import Language

SUBJECT_CHARACTERS = 200
PREVIEW_CHARACTERS = 140
LINK_TITLE_CHARACTERS = 36
# What an editor may write in an opening, a subject or a preview text. Everything else
# in braces stays as it was typed.
MERGE_TAGS = ("newsletter", "number_of_posts", "date")
_TAG = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")

COUNTS = (
    *(N_("Two"), N_("Three"), N_("Four"), N_("Five"), N_("Six"), N_("Seven")),
    *(N_("Eight"), N_("Nine"), N_("Ten"), N_("Eleven"), N_("Twelve")),
)


def merge(text: str, tags: Mapping[str, str]) -> str:
    """Fill in the merge tags that are known; the rest stays."""
    return _TAG.sub(lambda found: tags.get(found[1], found[0]), text)


def title(number_of: int, words: Language, *, new: bool = True) -> str:
    """Write the heading of a digest: "Four new posts"."""
    number = in_words(number_of, words)
    if new:
        return words.ngettext(
            "One new post", "%(count)s new posts", number_of, count=number
        )
    return words.ngettext("One post", "%(count)s posts", number_of, count=number)


def in_words(count: int, words: Language) -> str:
    """Write a number of posts as a word, if it is a small one: "Four"."""
    if count == 1:
        return words.gettext("One")
    spelled = 2 <= count < 2 + len(COUNTS)
    return words.gettext(COUNTS[count - 2]) if spelled else words.number(count)


def subject(titles: Sequence[str], words: Language, *, new: bool = True) -> str:
    """Make a subject of the posts: their number and the first of them."""
    if len(titles) < 2:
        return shorten("".join(titles), SUBJECT_CHARACTERS)
    first, count = titles[0], len(titles)
    if new:
        made = words.ngettext(
            "%(num)s new post: %(title)s",
            "%(num)s new posts: %(title)s",
            count,
            title=first,
        )
    else:
        made = words.ngettext(
            "%(num)s post: %(title)s", "%(num)s posts: %(title)s", count, title=first
        )
    return shorten(made, SUBJECT_CHARACTERS)


def preview(titles: Sequence[str], excerpt: str) -> str:
    """Make the line that mail programs show beside the subject: what it leaves out."""
    return shorten(" · ".join(titles[1:]) or excerpt, PREVIEW_CHARACTERS)


def shorten(text: str, limit: int) -> str:
    """Cut a line at a word, if it has more than `limit` characters."""
    return text if len(text) <= limit else plaintext.shorten(text, limit)
