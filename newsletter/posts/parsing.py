"""RSS, Atom and JSON Feed → entries. Pure, and run in a limited process of its own.

`feeds.py` starts that process: feedparser takes the square of an element's attributes
in time (429 kB cost 17 s), and no limit on bytes helps against that.
"""

import calendar
import io
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

from feedparser.api import parse as parse_xml
from feedparser.exceptions import CharacterEncodingOverride, NonXMLContentType

from newsletter import markup
from newsletter.errors import N_, FeedError
from newsletter.plaintext import clean, one_line
from newsletter.posts import entries
from newsletter.posts.entries import Enclosure, Parsed
from newsletter.posts.raw import Raw, build

SMALL_PICTURE = 200  # pixels wide: less is an icon
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_WEB_PAGE = re.compile(rb"<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_FEED_LINK = re.compile(
    r"<link\b[^<>]*application/(?:rss\+xml|atom\+xml|feed\+json)[^<>]*>", re.IGNORECASE
)
_HREF = re.compile(r"""\bhref\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)


def parse(body: bytes, *, url: str = "", content_type: str = "") -> Parsed:
    """Read a feed's bytes. Raises FeedError with the reason, if they are none."""
    start = body[:4096].lstrip(b"\xef\xbb\xbf \t\r\n\x00")
    if not start:
        raise FeedError(N_("There is nothing in it: it is empty."))
    if start.startswith((b"{", b"[")):
        return _parse_json(body, url)
    return _parse_xml(body, url, content_type, start)


def _parse_xml(body: bytes, url: str, content_type: str, start: bytes) -> Parsed:
    headers = {"content-location": url} if url else {}
    if "charset" in content_type.lower():
        headers["content-type"] = content_type
    # Only ever a stream: feedparser opens a path or an address that it is given.
    found = parse_xml(io.BytesIO(body), response_headers=headers, sanitize_html=False)
    items = list(found.entries)
    if not found.get("version") and not items:
        raise _not_a_feed(body, start, url)
    feed = found.feed
    warnings = []
    if found.get("bozo") and not isinstance(
        found.get("bozo_exception"), (CharacterEncodingOverride, NonXMLContentType)
    ):
        warnings.append(N_("The feed is damaged; what could be read was taken."))
    atom = str(found.get("version", "")).startswith("atom")
    raws = [_raw_xml(item, feed, atom=atom) for item in items]
    return _finish(
        raws,
        title=markup.plain(_text(feed.get("title"))),
        link=_web(_text(feed.get("link")), url),
        language=_text(feed.get("language")),
        hub=_web(_linked(feed, "hub"), url),
        topic=_web(_linked(feed, "self"), url),
        base_url=url,
        warnings=warnings,
    )


def _linked(feed: Any, relation: str) -> str:
    found = [link for link in feed.get("links") or [] if link.get("rel") == relation]
    return _text(found[0].get("href")) if found else ""


def _not_a_feed(body: bytes, start: bytes, url: str) -> FeedError:
    if not _WEB_PAGE.search(start):
        return FeedError(
            N_("This is not a feed that Inkorg can read: not RSS, Atom or JSON Feed.")
        )
    page = body[:200_000].decode("utf-8", "replace")
    for tag in _FEED_LINK.findall(page):
        if href := _HREF.search(tag):
            return FeedError(
                N_("This is a web page, not a feed. Its feed may be at %(url)s"),
                url=clean(urljoin(url, href[1]))[:500],
            )
    return FeedError(
        N_("This is a web page, not a feed. Look on it for the address of its feed.")
    )


def _raw_xml(item: Any, feed: Any, *, atom: bool) -> Raw:
    html, summary = _bodies(item)
    title = item.get("title_detail") or {}
    return Raw(
        title=_text(title.get("value")),
        title_is_html=title.get("type") in _HTML_TYPES,
        guid=_text(item.get("id")),
        link=_text(item.get("link")) or _alternate(item),
        html=html,
        summary=summary,
        # RFC 4287 §4.2.1; the authors of an RSS channel are its webmasters.
        authors=_names(item, atom=atom) or (_names(feed, atom=True) if atom else []),
        published_at=_moment(item),
        topics=[_text(tag.get("term")) for tag in item.get("tags") or []],
        pictures=_pictures(item),
        files=[file for file in _files(item) if not file.type.startswith("image/")],
        language=_text((item.get("title_detail") or {}).get("language")),
    )


def _pictures(item: Any) -> list[str]:
    """Return the addresses of an entry's pictures, the best first."""
    media = [
        one
        for one in item.get("media_content") or []
        if _text(one.get("medium")) == "image"
        or _text(one.get("type")).startswith("image/")
    ]
    media.sort(key=lambda one: -_whole(one.get("width")))
    files = [{"url": f.url} for f in _files(item) if f.type.startswith("image/")]
    cover = item.get("image") or {}
    covers = [{"url": cover.get("href")}] if isinstance(cover, dict) else []
    found = [*media, *files, *covers, *(item.get("media_thumbnail") or [])]
    return [
        url
        for one in found
        if (url := _text(one.get("url")))
        and not 0 < _whole(one.get("width")) < SMALL_PICTURE
    ]


def _files(item: Any) -> list[Enclosure]:
    return [
        Enclosure(
            url=_text(link.get("href")),
            type=_text(link.get("type")),
            length=_whole(link.get("length")),
            title=_text(link.get("title")),
        )
        for link in item.get("links") or []
        if link.get("rel") == "enclosure"
    ]


def _bodies(item: Any) -> tuple[str, str]:
    """Return an entry's content and its summary, both as HTML."""
    contents = [part for part in item.get("content") or [] if part.get("value")]
    contents.sort(key=lambda part: part.get("type") not in _HTML_TYPES)
    summary = item.get("summary_detail") or {}
    summary_html = _as_html(summary.get("value"), summary.get("type"))
    if not contents:
        return summary_html, summary_html
    return _as_html(contents[0].value, contents[0].get("type")), summary_html


def _as_html(value: object, kind: object) -> str:
    text = _text(value)
    return text if kind in _HTML_TYPES else markup.from_text(text)


def _alternate(item: Any) -> str:
    links = [link for link in item.get("links") or [] if link.get("href")]
    pages = [link for link in links if link.get("rel") == "alternate"]
    return _text(pages[0].href) if pages else ""


def _names(source: Any, *, atom: bool) -> list[str]:
    people = source.get("authors") or []
    named = [_text(person.get("name")) for person in people if person]
    whole = _text(source.get("author"))
    if "@" in whole and not atom:  # feedparser knows few kinds of address
        named = [whole]
    return [name for name in named or [whole] if name]


def _moment(item: Any) -> datetime | None:
    for name in ("published_parsed", "created_parsed", "updated_parsed"):
        # A plain lookup would have feedparser stand in one date for another.
        if moment := dict.get(item, name):
            try:
                at = datetime.fromtimestamp(calendar.timegm(moment), UTC)
            except (ValueError, OverflowError, OSError):
                continue
            if at >= _EARLIEST:
                return at
    return None


def _parse_json(body: bytes, url: str) -> Parsed:
    """Read JSON Feed 1 and 1.1 (https://www.jsonfeed.org/version/1.1/)."""
    try:
        feed = json.loads(body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))
    except ValueError:
        raise FeedError(N_("This is neither a JSON Feed nor whole JSON.")) from None
    version = _text(feed.get("version")) if isinstance(feed, dict) else ""
    if not version.startswith(
        ("https://jsonfeed.org/version/1", "http://jsonfeed.org/version/1")
    ):
        raise FeedError(N_("This is JSON, but not a JSON Feed."))
    items = feed.get("items")
    if not isinstance(items, list):
        raise FeedError(N_("This JSON Feed has no list of items."))
    raws = [_raw_json(item, feed) for item in items if isinstance(item, dict)]
    return _finish(
        raws,
        title=_text(feed.get("title")),
        link=_web(_text(feed.get("home_page_url")), url),
        language=_text(feed.get("language")),
        hub=_web(_json_hub(feed), url),
        topic=_web(_text(feed.get("feed_url")), url),
        base_url=url,
        warnings=[],
    )


def _raw_json(item: dict[str, Any], feed: dict[str, Any]) -> Raw:
    html = _text(item.get("content_html"))
    if not html:
        html = markup.from_text(_text(item.get("content_text")))
    tags = item.get("tags")
    return Raw(
        title=_text(item.get("title")),
        guid=_text(item.get("id")),
        link=_text(item.get("url")) or _text(item.get("external_url")),
        html=html,
        summary=markup.from_text(_text(item.get("summary"))) or html,
        authors=_json_names(item) or _json_names(feed),
        published_at=_json_moment(item),
        topics=[_text(tag) for tag in tags] if isinstance(tags, list) else [],
        pictures=[_text(item.get("image")), _text(item.get("banner_image"))],
        files=_json_files(item),
        language=_text(item.get("language")),
    )


def _json_hub(feed: dict[str, Any]) -> str:
    hubs = feed.get("hubs")
    for hub in hubs if isinstance(hubs, list) else []:
        if isinstance(hub, dict) and _text(hub.get("type")).lower() == "websub":
            return _text(hub.get("url"))
    return ""


def _json_files(item: dict[str, Any]) -> list[Enclosure]:
    files = item.get("attachments")
    return [
        Enclosure(
            url=_text(file.get("url")),
            type=_text(file.get("mime_type")),
            length=_whole(file.get("size_in_bytes")),
            title=_text(file.get("title")),
        )
        for file in (files if isinstance(files, list) else [])
        if isinstance(file, dict)
    ]


def _json_names(source: dict[str, Any]) -> list[str]:
    people = source.get("authors")
    people = people if isinstance(people, list) else [source.get("author")]
    return [_text(p.get("name")) for p in people if isinstance(p, dict)]


def _json_moment(item: dict[str, Any]) -> datetime | None:
    for name in ("date_published", "date_modified"):
        try:
            moment = datetime.fromisoformat(_text(item.get(name)))
            at = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            continue
        if at >= _EARLIEST:
            return at
    return None


def _finish(
    raws: list[Raw],
    *,
    title: str,
    link: str,
    language: str,
    hub: str,
    topic: str,
    base_url: str,
    warnings: list[str],
) -> Parsed:
    if len(raws) > entries.MAX_ENTRIES:
        raws = _newest(raws)[: entries.MAX_ENTRIES]
        warnings.append(N_("The feed is long; its newest hundred entries were taken."))
    parsed = Parsed(
        title=one_line(title, entries.MAX_TITLE_CHARACTERS),
        link=link,
        language=clean(language)[:12],
        hub=hub,
        topic=topic,
        warnings=warnings,
    )
    for raw in raws:
        entry = build(raw, base_url=base_url or link, language=parsed.language)
        if isinstance(entry, str):
            parsed.refused.append((one_line(raw.title, 100), entry))
        else:
            parsed.entries.append(entry)
    return parsed


def _newest(raws: list[Raw]) -> list[Raw]:
    """Put the newest first; where an entry has no date, trust the feed's own order."""
    dates = [raw.published_at for raw in raws if raw.published_at]
    if len(dates) < len(raws):
        return raws
    return sorted(raws, key=lambda raw: raw.published_at or _EARLIEST, reverse=True)


def _web(url: str, base: str) -> str:
    try:
        whole = urljoin(base, clean(url).strip()) if url else ""
    except ValueError:
        return ""
    short = len(whole) <= entries.MAX_URL_CHARACTERS
    return whole if short and markup.is_web(whole) else ""


def _whole(value: object) -> int:
    """Return a number that stands in an attribute; 0 if it is none."""
    text = _text(value).partition(".")[0].strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 15 else 0


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    return ""
