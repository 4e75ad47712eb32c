"""Feeds in every format and every bad shape, built rather than collected.

`feeds()` yields a name, the bytes, and what must come of them: how many entries at
least, or None where a refusal with a reason is right too.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

TEXT = "Åsa och Örjan övade sånger hela kvällen – i Östersund."
TITLES = ("En egen kväll för tjejer", "Kören söker pengar", "Vårt Rannebergen")


@dataclass(frozen=True, slots=True)
class Item:
    """What one entry says; None is left out."""

    title: str | None
    link: str | None
    guid: str | None
    date: str | None  # RFC 3339
    html: str
    author: str = "Anna Kanervo"


@dataclass(frozen=True, slots=True)
class Built:
    """A feed and what must come of it."""

    name: str
    body: bytes
    content_type: str = ""
    at_least: int | None = 0
    says: str = ""  # words that must come through


def items(count: int = 3) -> list[Item]:
    return [
        Item(
            title=TITLES[n % 3] + ("" if n < 3 else f" {n}"),
            link=f"https://blogg.example/inlagg-{n}/",
            guid=f"https://blogg.example/?p={n}",
            date=f"2019-10-{n % 28 + 1:02}T09:00:00Z",
            html=f"<p>{TEXT} <b>Nummer {n}</b></p>",
        )
        for n in range(count)
    ]


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def tag(name: str, text: str | None, attributes: str = "") -> str:
    return "" if text is None else f"<{name}{attributes}>{text}</{name}>"


def rfc822(date: str | None) -> str | None:
    return f"Fri, {date[8:10]} Oct {date[:4]} 09:00:00 GMT" if date else None


def rss(version: str, entries: list[Item]) -> str:
    parts = [
        "<item>"
        + tag("title", item.title and escape(item.title))
        + tag("link", item.link)
        + tag("guid", item.guid, ' isPermaLink="false"')
        + tag("pubDate", rfc822(item.date))
        + tag("description", escape(item.html))
        + "</item>"
        for item in entries
    ]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><rss version="{version}"><channel>'
        "<title>Blåbärsbloggen</title><link>https://blogg.example/</link>"
        f"<description>x</description>{''.join(parts)}</channel></rss>"
    )


def rss20_content(entries: list[Item]) -> str:
    feed = rss("2.0", entries).replace(
        '<rss version="2.0">',
        '<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:content="http://purl.org/rss/1.0/modules/content/">',
    )
    for item in entries:
        old = tag("description", escape(item.html))
        new = (
            f"<description>{escape(item.html)[:60]}...</description>"
            f"<dc:creator><![CDATA[{item.author}]]></dc:creator>"
            f"<category>Integration</category>"
            f"<content:encoded><![CDATA[{item.html}]]></content:encoded>"
        )
        feed = feed.replace(old, new, 1)
    return feed


def rdf(entries: list[Item], *, old: bool) -> str:
    namespace = (
        "http://my.netscape.com/rdf/simple/0.9/" if old else "http://purl.org/rss/1.0/"
    )
    parts = [
        f'<item rdf:about="{item.guid or item.link or ""}">'
        + tag("title", item.title and escape(item.title))
        + tag("link", item.link)
        + tag("description", escape(item.html))
        + tag("dc:date", item.date)
        + "</item>"
        for item in entries
    ]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        f' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns="{namespace}">'
        "<channel><title>Blåbärsbloggen</title></channel>"
        f"{''.join(parts)}</rdf:RDF>"
    )


def atom(entries: list[Item], *, old: bool = False, xhtml: bool = False) -> str:
    namespace = "http://purl.org/atom/ns#" if old else "http://www.w3.org/2005/Atom"
    dated = "issued" if old else "published"

    def content(item: Item) -> str:
        if xhtml:
            div = f'<div xmlns="http://www.w3.org/1999/xhtml">{item.html}</div>'
            return tag("content", div, ' type="xhtml"')
        kind = ' type="text/html" mode="escaped"' if old else ' type="html"'
        return tag("content", escape(item.html), kind)

    parts = [
        "<entry>"
        + tag("title", item.title and escape(item.title))
        + (f'<link rel="alternate" href="{item.link}"/>' if item.link else "")
        + tag("id", item.guid)
        + tag(dated, item.date)
        + tag("author", tag("name", item.author))
        + content(item)
        + "</entry>"
        for item in entries
    ]
    version = ' version="0.3"' if old else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><feed xmlns="{namespace}"{version}>'
        f"<title>Blåbärsbloggen</title>{''.join(parts)}</feed>"
    )


def json_feed(version: str, entries: list[Item]) -> str:
    parts = [
        {
            name: value
            for name, value in {
                "id": item.guid,
                "url": item.link,
                "title": item.title,
                "content_html": item.html,
                "date_published": item.date,
                "authors": [{"name": item.author}],
                "tags": ["Integration"],
            }.items()
            if value is not None
        }
        for item in entries
    ]
    return json.dumps(
        {
            "version": f"https://jsonfeed.org/version/{version}",
            "title": "Blåbärsbloggen",
            "items": parts,
        },
        ensure_ascii=False,
    )


FORMATS: dict[str, Callable[[list[Item]], str]] = {
    "rss-0.90": lambda entries: rdf(entries, old=True),
    "rss-0.91": lambda entries: rss("0.91", entries),
    "rss-0.92": lambda entries: rss("0.92", entries),
    "rss-1.0": lambda entries: rdf(entries, old=False),
    "rss-2.0": lambda entries: rss("2.0", entries),
    "rss-2.0-content": rss20_content,
    "atom-0.3": lambda entries: atom(entries, old=True),
    "atom-1.0": atom,
    "atom-1.0-xhtml": lambda entries: atom(entries, xhtml=True),
    "json-1": lambda entries: json_feed("1", entries),
    "json-1.1": lambda entries: json_feed("1.1", entries),
}

LONG_ONES = {"rss-2.0-content", "atom-1.0", "json-1.1"}


def without(**names: None) -> list[Item]:
    return [replace(item, **names) for item in items()]  # type: ignore[arg-type]


def saying(html: str) -> list[Item]:
    return [replace(item, html=html) for item in items()]


# What an entry lacks or holds: three entries must come through all the same.
CONTENTS: dict[str, list[Item]] = {
    "plain": items(),
    "no-guids": without(guid=None),
    "no-links": without(link=None),
    "no-dates": without(date=None),
    "no-titles": without(title=None),
    "nothing-to-know-it-by": without(guid=None, link=None, date=None),
    "same-guid-everywhere": [replace(item, guid="x:1") for item in items()],
    "same-link-everywhere": [
        replace(item, link="https://b.example") for item in items()
    ],
    "endless-guids": [
        replace(item, guid=f"x:{'9' * 5000}{n}") for n, item in enumerate(items())
    ],
    "script": saying(f"<p>{TEXT}</p><p onclick='x()'>b</p>"),
    "far-future": [replace(item, date="2099-01-01T00:00:00Z") for item in items()],
    "nonsense-dates": [replace(item, date="2019-99-99T99:00:00Z") for item in items()],
    "long-titles": [replace(item, title=f"{item.title} " * 200) for item in items()],
    "markup-in-titles": [
        replace(item, title=f"<b>{item.title}</b> & mer") for item in items()
    ],
    "bad-links": [
        replace(item, link=f"javascript:alert({n})") for n, item in enumerate(items())
    ],
    "relative-links": [
        replace(item, link=f"/inlagg/{n}") for n, item in enumerate(items())
    ],
    "hundreds": items(300),
}


def _bytes(text: str) -> bytes:
    return text.encode()


# What happens to the bytes: how many entries must survive it, if any must.
DAMAGES: dict[str, tuple[Callable[[str], bytes], int | None]] = {
    "bom": (lambda text: b"\xef\xbb\xbf" + _bytes(text), 3),
    "spaces-before": (lambda text: b" \r\n\n " + _bytes(text), 3),
    "junk-after": (lambda text: _bytes(text) + b"\n<!-- 0.3 s --> hej", None),
    "null-bytes": (lambda text: _bytes(text.replace("övade", "ö\x00vade")), None),
    "control-characters": (
        lambda text: _bytes(text.replace(" och ", " \x01\x0b ")),
        None,
    ),
    "cut-in-half": (lambda text: _bytes(text)[: len(text) // 2], None),
    "cut-at-the-end": (lambda text: _bytes(text)[:-12], None),
    "utf-16": (lambda text: text.replace("UTF-8", "UTF-16").encode("utf-16"), None),
    "latin-1": (
        lambda text: text.replace("UTF-8", "ISO-8859-1").encode("latin-1", "replace"),
        None,
    ),
    "latin-1-called-utf-8": (lambda text: text.encode("latin-1", "replace"), None),
    "windows-1252": (
        lambda text: text.replace("UTF-8", "windows-1252").encode("cp1252"),
        None,
    ),
    "unknown-encoding": (lambda text: _bytes(text.replace("UTF-8", "klingon")), None),
    "bare-ampersands": (lambda text: _bytes(text.replace(" och ", " & ")), None),
    "unknown-entities": (lambda text: _bytes(text.replace("Åsa", "&Aring;sa")), None),
    "utf-7": (lambda text: text.replace("UTF-8", "UTF-7").encode("utf-7"), None),
    "half-a-character": (lambda text: _bytes(text).replace(b"\xc3\x85", b"\xc3"), None),
}


def feeds() -> Iterator[Built]:
    """Yield every format with every content and every damage."""
    for kind, write in FORMATS.items():
        mime = "application/feed+json" if kind.startswith("json") else "text/xml"
        for name, entries in CONTENTS.items():
            if name == "hundreds" and kind not in LONG_ONES:
                continue
            count = 100 if name == "hundreds" else 3
            yield Built(
                f"{kind}/{name}",
                _bytes(write(entries)),
                mime,
                at_least=count,
                says="Örjan",
            )
        for name, (damage, least) in DAMAGES.items():
            yield Built(f"{kind}/{name}", damage(write(items())), mime, at_least=least)
    yield from hostile()


def hostile() -> Iterator[Built]:
    """Yield what is no feed, or one that means harm; `None`: a refusal is right."""
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    item = "<item><title>{}</title><description>x</description></item>"
    frame = '<?xml version="1.0"?>{}<rss version="2.0"><channel>{}</channel></rss>'
    cdata = item.format("ok").replace(
        "x</desc", "<![CDATA[<script>alert(1)</script><p>text</p>]]></desc"
    )
    yield from (
        Built(f"hostile/{name}", body, at_least=None)
        for name, body in {
            "empty": b"",
            "blank": b" \n\t ",
            "a-word": b"hej",
            "web-page": b"<!DOCTYPE html><html><body><p>Hej</p></body></html>",
            "web-page-with-feed": b"<html><head><link rel=alternate"
            b' type="application/rss+xml" href="/feed/"></head></html>',
            "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
            "packed": b"\x1f\x8b\x08\x00" + bytes(range(256)) * 20,
            "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj",
            "path": b"/etc/passwd",
            "address": b"http://127.0.0.1/feed",
            "json-list": b"[1, 2, 3]",
            "json-string": b'{"version": 7}',
            "json-other": b'{"version": "https://jsonfeed.org/version/1", "items": 3}',
            "json-deep": b"[" * 200_000,
            "json-nulls": b'{"version": "https://jsonfeed.org/version/1.1",'
            b' "title": null, "items": [null, 1, {"id": null, "tags": 3,'
            b' "authors": 4, "content_text": "\\ud800 x"}]}',
            "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>x</script></svg>',
            "opml": b'<opml version="2.0"><body><outline text="x"/></body></opml>',
            "billion-laughs": frame.format(
                f'<!DOCTYPE x [<!ENTITY l0 "lol">{lol}]>', item.format("&l9;")
            ).encode(),
            "quadratic-blowup": frame.format(
                f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]>', item.format("&a;" * 500)
            ).encode(),
            "reads-a-file": frame.format(
                '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>',
                item.format("&f; ok"),
            ).encode(),
            "fetches-a-dtd": frame.format(
                '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">', item.format("ok")
            ).encode(),
            "parameter-entity": frame.format(
                '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]>',
                item.format("ok"),
            ).encode(),
            "nested-markup": frame.format(
                "", item.format("ok").replace("x<", f"{escape('<div>' * 9000)}<")
            ).encode(),
            "cdata-script": frame.format("", cdata).encode(),
            "namespaces": frame.format("", item.format("ok"))
            .replace(
                "<rss", "<rss " + " ".join(f'xmlns:n{n}="u:{n}"' for n in range(500))
            )
            .encode(),
            "one-big-entry": frame.format(
                "", item.format("ok").replace("x<", f"{'ord ' * 400_000}<")
            ).encode(),
            "many-empty-entries": frame.format("", "<item/>" * 5000).encode(),
        }.items()
    )
