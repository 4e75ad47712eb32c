"""An entry as a feed wrote it, and the clean entry it becomes. Pure."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urljoin

from newsletter import markup
from newsletter.errors import N_
from newsletter.markup import Image
from newsletter.plaintext import clean, one_line, squeeze
from newsletter.posts.entries import (
    MAX_BYLINE_CHARACTERS,
    MAX_ENCLOSURES,
    MAX_GUID_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    MAX_TOPICS,
    MAX_URL_CHARACTERS,
    Enclosure,
    Entry,
)

MADE_UP_TITLE_CHARACTERS = 80
MAX_AUTHORS = 3
MAX_FILE_BYTES = 10**12
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,80}")
# "kor-300x200.jpg?w=600" is the picture "kor.jpg" in one of its sizes.
_SIZE = re.compile(r"(?:-\d+x\d+|-scaled)?(\.\w+)(?:\?.*)?$")
_EMAIL = re.compile(r"[^\s()<>,@]*@[^\s()<>,]*")
_NO_TOPIC = frozenset({"uncategorized", "uncategorised", "okategoriserade", "allmänt"})

# What WordPress adds below a post: "Inlägget … dök först upp på …".
_APPEARED_FIRST = re.compile(
    r"<p>\s*(?:The post|Inlägget) <a [^>]*>[^<]*</a> (?:appeared first on"
    r"|first appeared on|dök först upp på|publicerades först på) <a [^>]*>[^<]*</a>"
    r"\.?\s*</p>\s*$"
)
_READ_MORE = re.compile(
    r"(<p>)?\s*<a [^>]*>\s*(?:Continue reading|Read more|Read on|Fortsätt läsa|Läs mer"
    r"|Läs hela|Läs vidare)\b[^<]{0,300}</a>\s*(?(1)</p>|(</p>)?)\s*$"
)
# "<p><strong>Anna Kanervo</strong><br>projektansvarig för …</p>" at the very end.
_SIGNATURE = re.compile(
    r"<p>\s*(?:<(strong|b|em|i)>)?(?P<name>[^<]{2,200}?)(?(1)</\1>)\s*[,:]?\s*<br>"
    r"(?P<byline>.{1,1000}?)</p>(?P<end>(?:\s|</div>)*)$",
    re.DOTALL,
)


@dataclass(slots=True)
class Raw:
    """An entry in its writer's own words; bodies are HTML, not yet sanitised."""

    title: str
    guid: str
    link: str
    html: str
    summary: str
    authors: list[str]
    published_at: datetime | None
    title_is_html: bool = False
    topics: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)  # addresses, the best first
    files: list[Enclosure] = field(default_factory=list)
    language: str = ""


def build(raw: Raw, *, base_url: str, language: str) -> Entry | str:
    """Return the clean entry, or the reason why it cannot be one."""
    link = _absolute(raw.link, base_url)
    author = _author(raw.authors)
    html = _without_extras(markup.sanitise(raw.html, link or base_url))
    html, byline = split_signature(html, author)
    excerpt = _excerpt(raw, html, author, link or base_url)
    first = markup.first_image(html)
    title = _title(raw, html or excerpt) or (first.alt if first else "")
    if not title:
        return N_("It has neither a title nor a text.")
    image = _picture(raw, html, link or base_url)
    return Entry(
        title=title,
        guid=_guid(raw.guid),
        link=link,
        html=html,
        excerpt=excerpt,
        author=author,
        byline=byline,
        published_at=raw.published_at,
        topics=_topics(raw.topics),
        image_url=image.url,
        image_alt=image.alt,
        enclosures=_enclosures(raw.files, base_url),
        language=_language(raw.language or language),
    )


def split_signature(html: str, author: str) -> tuple[str, str]:
    """Take the author's signature off the end; return the text and the byline.

    A signature is a last paragraph with the author's own name and, on a line below it,
    what they are.
    """
    start = html.rfind("<p>")
    match = _SIGNATURE.match(html, start) if author and start >= 0 else None
    if match is None or _bare(match["name"]) != _bare(author):
        return html, ""
    byline = markup.plain(match["byline"].replace("<br>", ", "))
    if not byline or len(byline) > MAX_BYLINE_CHARACTERS:
        return html, ""
    return html[:start].rstrip() + match["end"].strip(), byline


def _picture(raw: Raw, html: str, base_url: str) -> Image:
    """Return the picture that stands for the post.

    The feed's own choice, with the words that its text has for it. A picture of the
    text that has words comes before a chosen one that has none.
    """
    shown = [one for one in markup.images(html) if len(one.url) < MAX_URL_CHARACTERS]
    alts = {_picture_name(one.url): one.alt for one in reversed(shown)}
    chosen = [_absolute(url, base_url) for url in raw.pictures[:10]]
    chosen = [ours for url in chosen if (ours := markup.own_picture(url, base_url))]
    for url in chosen:
        if alt := alts.get(_picture_name(url)):
            return Image(url, alt)
    if shown:
        return shown[0]
    return Image(chosen[0], "") if chosen else Image("", "")


def _picture_name(url: str) -> str:
    return _SIZE.sub(r"\1", url.partition("://")[2])


def _enclosures(files: list[Enclosure], base_url: str) -> tuple[Enclosure, ...]:
    found: dict[str, Enclosure] = {}
    for file in files:
        kind = file.type.strip().lower()
        kind = kind if _MEDIA_TYPE.fullmatch(kind) else ""
        url = _absolute(file.url, base_url)
        if url and len(found) < MAX_ENCLOSURES:
            size = file.length if 0 < file.length < MAX_FILE_BYTES else 0
            made = Enclosure(url, kind, size, one_line(file.title, 200))
            found.setdefault(url, made)
    return tuple(found.values())


def _bare(name: str) -> str:
    return markup.plain(name).casefold().strip(" ,:.")


def _excerpt(raw: Raw, html: str, author: str, base_url: str) -> str:
    if raw.summary == raw.html:
        return markup.excerpt(html)
    summary = _without_extras(markup.sanitise(raw.summary, base_url))
    summary, _byline = split_signature(summary, author)
    words = markup.plain(summary)
    # What another program has cut, we cut ourselves, if there is more of it.
    if not words or (markup.is_cut(summary) and len(markup.plain(html)) > len(words)):
        summary = html or summary
    return markup.excerpt(summary)


def _without_extras(html: str) -> str:
    start = max(html.rfind("<p>"), 0)
    if _APPEARED_FIRST.match(html, start):
        html = html[:start].rstrip()
    tail = max(len(html) - 3000, 0)
    return html[:tail] + _READ_MORE.sub(lambda match: match[2] or "", html[tail:])


def _title(raw: Raw, text: str) -> str:
    title = markup.plain(raw.title) if raw.title_is_html else squeeze(raw.title)
    if not title:
        return markup.excerpt(text, MADE_UP_TITLE_CHARACTERS)
    return one_line(title, MAX_TITLE_CHARACTERS)


def _absolute(link: str, base_url: str) -> str:
    if not link.strip():
        return ""
    try:
        url = urljoin(base_url, clean(link).strip().replace(" ", "%20"))
    except ValueError:
        return ""
    return url if len(url) <= MAX_URL_CHARACTERS and markup.is_web(url) else ""


def _guid(guid: str) -> str:
    guid = squeeze(guid)
    if len(guid) <= MAX_GUID_CHARACTERS:
        return guid
    return f"sha256:{hashlib.sha256(guid.encode()).hexdigest()}"


def _author(authors: list[str]) -> str:
    """Return the names; an e-mail address beside or for one is not to be published."""
    bare = (_EMAIL.sub("", markup.plain(name)) for name in authors)
    names = _distinct(
        one_line(name.strip(" ()<>,"), MAX_NAME_CHARACTERS) for name in bare
    )
    return one_line(", ".join(names[:MAX_AUTHORS]), MAX_NAME_CHARACTERS)


def _topics(topics: list[str]) -> tuple[str, ...]:
    names = _distinct(one_line(markup.plain(topic), 80) for topic in topics)
    return tuple(
        name
        for name in names
        if name.casefold() not in _NO_TOPIC and not markup.is_web(name)
    )[:MAX_TOPICS]


def _language(code: str) -> str:
    base = code.strip().replace("_", "-").partition("-")[0].lower()
    return base if base.isascii() and base.isalpha() and len(base) <= 3 else ""


def _distinct(names: Iterable[str]) -> list[str]:
    found: dict[str, str] = {}
    for name in names:
        if name:
            found.setdefault(name.casefold(), name)
    return list(found.values())
