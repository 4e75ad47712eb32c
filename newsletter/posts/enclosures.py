"""What comes with a post, in words: an episode to listen to, a report to fetch."""

from urllib.parse import unquote

from newsletter.errors import N_
from newsletter.i18n import Language
from newsletter.markup import is_web
from newsletter.models import Post
from newsletter.plaintext import one_line

SHOWN_MEGABYTES = 0.1
NAME_CHARACTERS = 80
WORDS = {
    "audio": N_("Listen: %(name)s"),
    "video": N_("Watch: %(name)s"),
    "": N_("Fetch: %(name)s"),
}


def in_words(post: Post, words: Language) -> list[tuple[str, str]]:
    """Return the addresses of what comes with a post, each with words for it."""
    found = []
    for file in post.enclosures or ():  # none yet on a post that was not stored
        url = str(file.get("url", ""))
        if not is_web(url) or not url.isprintable() or " " in url:
            continue
        kind = str(file.get("type", "")).partition("/")[0]
        name = file.get("title") or unquote(url.partition("?")[0].rpartition("/")[2])
        label = words.gettext(
            WORDS.get(kind, WORDS[""]), name=one_line(name or url, NAME_CHARACTERS)
        )
        megabytes = int(file.get("length", 0)) / 1_000_000
        if megabytes >= SHOWN_MEGABYTES:
            label += f" ({words.number(round(megabytes, 1))} MB)"
        found.append((url, label))
    return found
