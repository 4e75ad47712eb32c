"""Feeds to entries: the first user's own feed, and what each format may say."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from newsletter.errors import FeedError
from newsletter.posts import entries
from newsletter.posts.entries import Enclosure, Entry, Parsed
from newsletter.posts.parsing import parse
from newsletter.posts.raw import split_signature

REAL = (Path(__file__).parent / "feeds" / "innovationslabb.rss").read_bytes()
FRAME = (
    '<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>B</title>'
    "<link>https://blogg.example/</link><item>{}</item></channel></rss>"
)


def one(inside: str, url: str = "https://blogg.example/feed/") -> Entry:
    parsed = parse(FRAME.format(inside).encode(), url=url)
    assert parsed.refused == []
    return parsed.entries[0]


def body(html: str) -> str:
    return f"<title>t</title><content:encoded><![CDATA[{html}]]></content:encoded>"


def test_the_first_users_feed_is_read_as_people_read_it() -> None:
    parsed = parse(REAL)
    assert parsed.title == "Allmännyttans innovationslabb"
    assert parsed.warnings == []
    first = parsed.entries[0]
    assert first == Entry(
        title="Integrationskör i behov av framtidsfinansiering",
        guid="https://blogg.example/?p=105",
        link="https://blogg.example/integrationskor-i-behov-av-framtidsfinansiering/",
        html=first.html,
        excerpt="Integrationskören The Rockin’ Pots – med ursprung i Östersund – har"
        " nu startats i flera orter, bland annat i Boden i samarbete med BIS. Idag hade"
        " vi ett videomöte där vi spånade idéer kring hur verksamheten kan finansieras"
        " i framtiden, när …",
        author="Anna Kanervo",
        byline="projektansvarig för Allmännyttans innovationslabb",
        published_at=datetime(2019, 10, 11, 9, 0, tzinfo=UTC),
        language="sv",
    )
    assert [entry.byline for entry in parsed.entries] == [
        "projektansvarig för Allmännyttans innovationslabb",
        "stadsdelsutvecklare på Telge Bostäder",
        "projektansvarig för Allmännyttans innovationslabb",
        "projektansvarig för Allmänyttans innovationslabb",
        "strateg på Hyresgästföreningen",
    ]
    assert not any("<strong>" in entry.html for entry in parsed.entries)


def test_a_text_cut_in_a_word_ends_at_the_word_before() -> None:
    second = parse(REAL).entries[1]
    assert second.excerpt.endswith("och därför kändes det …")


@pytest.mark.parametrize(
    ("end", "rest", "byline"),
    [
        ("<p><strong>Åsa Ö</strong><br>strateg</p>", "", "strateg"),
        ("<p><b>Åsa Ö</b>,<br>strateg på X</p>", "", "strateg på X"),
        ("<p>Åsa Ö<br>strateg</p>", "", "strateg"),
        ("<p><em>åsa  ö:</em><br>strateg<br>på X</p>", "", "strateg, på X"),
        ("<p><strong>Åsa Ö</strong><br>strateg</p></div>", "</div>", "strateg"),
        ("<p><strong>Läs mer</strong><br>om kören</p>", None, ""),
        ("<p><strong>Åsa Ö</strong></p>", None, ""),
        (f"<p><strong>Åsa Ö</strong><br>{'lång ' * 50}</p>", None, ""),
        ("<p><strong>Åsa Ö</strong><br>strateg</p><p>PS.</p>", None, ""),
    ],
)
def test_a_signature_is_the_authors_own_name_at_the_end(
    end: str, rest: str | None, byline: str
) -> None:
    html = f"<p>Text.</p>{end}"
    expected = html if rest is None else f"<p>Text.</p>{rest}"
    assert split_signature(html, "Åsa Ö") == (expected, byline)


def test_without_an_author_nothing_is_taken_for_a_signature() -> None:
    html = "<p><strong>Folkets hus</strong><br>Storgatan 5</p>"
    assert split_signature(html, "") == (html, "")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("<dc:creator>Åsa Ö</dc:creator>", "Åsa Ö"),
        ("<author>asa@blogg.example (Åsa Ö)</author>", "Åsa Ö"),
        ("<author>asa@blogg.example</author>", ""),
        ("<dc:creator>Åsa\n  Ö\u202e</dc:creator>", "Åsa Ö"),
        ("<dc:creator>&lt;b&gt;Åsa&lt;/b&gt;</dc:creator>", "Åsa"),
    ],
)
def test_authors_are_names_and_never_addresses(given: str, shown: str) -> None:
    assert one(f"<title>t</title>{given}").author == shown


def test_an_atom_entry_takes_its_author_from_the_feed() -> None:
    feed = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>B</title>'
        "<author><name>Åsa</name></author><entry><title>t</title><id>x:1</id></entry>"
        "<entry><title>u</title><id>x:2</id><author><name>Ö</name></author>"
        "<author><name>Ä</name></author></entry></feed>"
    )
    assert [e.author for e in parse(feed.encode()).entries] == ["Åsa", "Ö, Ä"]


def test_a_summary_written_by_hand_is_the_excerpt() -> None:
    entry = one(f"<description>Kort sagt.</description>{body('<p>Hela texten.</p>')}")
    assert entry.excerpt == "Kort sagt."
    assert entry.html == "<p>Hela texten.</p>"


def test_a_summary_cut_by_a_program_gives_way_to_the_text() -> None:
    text = "Vi träffades på torget och pratade om allt möjligt. " * 4
    cut = f"{text[:150]} [&amp;#8230;]"
    entry = one(f"<description>{cut}</description>{body(f'<p>{text}</p>')}")
    assert len(entry.excerpt) > 160
    assert entry.excerpt in text


@pytest.mark.parametrize(
    "extra",
    [
        '<p>The post <a href="/a">A</a> appeared first on <a href="/">B</a>.</p>',
        '<p>Inlägget <a href="/a">A</a> dök först upp på <a href="/">B</a>.</p>',
        '<p><a href="/a">Fortsätt läsa <span>”A”</span> →</a></p>',
        ' <a href="/a" class="more-link">Continue reading<span> A</span></a>',
    ],
)
def test_what_wordpress_adds_is_not_part_of_the_text(extra: str) -> None:
    entry = one(body(f"<p>Text.</p>{extra}"))
    assert entry.html == "<p>Text.</p>"
    assert entry.excerpt == "Text."


def test_titles_may_hold_markup_and_entities_in_any_disguise() -> None:
    assert (
        one("<title>&lt;b&gt;Kör&lt;/b&gt; &amp;amp; sång</title>").title
        == "Kör & sång"
    )
    assert one("<title>Kör &amp; sång\n i  kör</title>").title == "Kör & sång i kör"
    assert one("<title><![CDATA[Kör & s&aring;ng]]></title>").title == "Kör & sång"


def test_a_title_that_is_missing_is_the_first_words() -> None:
    text = "Idag var vi i Boden och pratade med alla som ville. " * 3
    title = one(f"<description>{text}</description>").title
    assert title.endswith(" …")
    assert text.startswith(title.removesuffix(" …"))
    assert len(title) <= 80


def test_a_picture_alone_is_called_what_it_shows() -> None:
    entry = one("<description><![CDATA[<img src='/1.jpg' alt='Kören'>]]></description>")
    assert entry.title == "Kören"


def test_an_entry_without_title_and_text_is_refused_and_the_others_are_not() -> None:
    feed = FRAME.format(
        "<link>https://blogg.example/1</link></item><item><title>t</title>"
    )
    parsed = parse(feed.encode())
    assert [entry.title for entry in parsed.entries] == ["t"]
    assert parsed.refused == [("", "It has neither a title nor a text.")]
    assert not parsed.whole


def test_categories_become_topics() -> None:
    inside = "".join(
        f"<category>{name}</category>"
        for name in ("Integration", "integration", "Uncategorized", "Kör &amp; sång")
    )
    assert one(f"<title>t</title>{inside}").topics == ("Integration", "Kör & sång")


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("Fri, 11 Oct 2019 09:00:00 +0200", datetime(2019, 10, 11, 7, tzinfo=UTC)),
        ("2019-10-11T09:00:00+02:00", datetime(2019, 10, 11, 7, tzinfo=UTC)),
        ("11 Oct 2019", datetime(2019, 10, 11, tzinfo=UTC)),
        ("i fredags", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Fri, 99 Oct 99999 09:00:00 GMT", None),
    ],
)
def test_dates_are_read_or_left_out(date: str, moment: datetime | None) -> None:
    assert one(f"<title>t</title><pubDate>{date}</pubDate>").published_at == moment


def test_links_are_resolved_against_the_place_of_the_feed_and_of_the_post() -> None:
    inside = (
        '<title>t</title><link>/inlagg/1</link><description><![CDATA[<a href="2">x</a>\
]]></description>'
    )
    entry = one(inside)
    assert entry.link == "https://blogg.example/inlagg/1"
    assert 'href="https://blogg.example/' in entry.html


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "ftp://x/y", "http://[::1", ""]
)
def test_a_link_that_is_no_web_address_is_left_out(link: str) -> None:
    assert one(f"<title>t</title><link>{link}</link>").link == ""


MEDIA = "https://blogg.example"


def media(inside: str, html: str = "") -> Entry:
    """Read an entry in whose feed the Media RSS namespace is known."""
    frame = FRAME.replace("<rss ", '<rss xmlns:media="http://search.yahoo.com/mrss/" ')
    feed = frame.format(body(html or "<p>Text</p>") + inside)
    return parse(feed.encode(), url=f"{MEDIA}/feed/").entries[0]


@pytest.mark.parametrize(
    ("inside", "html", "wanted"),
    [
        # The largest, with the words that the text has for the same picture.
        (
            f'<media:content url="{MEDIA}/kor-1024x683.jpg" medium="image"'
            ' width="1024"/>'
            f'<media:content url="{MEDIA}/annan.jpg" medium="image" width="600"/>',
            f'<p>T</p><img src="{MEDIA}/liten.png" alt="Annat">'
            f'<img src="{MEDIA}/kor-300x200.jpg?x=1" alt="Kören på scen">',
            ("kor-1024x683.jpg", "Kören på scen"),
        ),
        # What has words comes before what has none.
        (
            f'<media:content url="{MEDIA}/a.jpg" type="image/jpeg"/>',
            f'<img src="{MEDIA}/b.png" alt="Åsa">',
            ("b.png", "Åsa"),
        ),
        (f'<media:thumbnail url="{MEDIA}/t.jpg"/>', "", ("t.jpg", "")),
        (f'<media:thumbnail url="{MEDIA}/t.jpg" width="75"/>', "", None),
        (
            f'<enclosure url="{MEDIA}/e.png" type="image/png" length="9"/>',
            "",
            ("e.png", ""),
        ),
        ('<media:content url="https://annat.example/x.jpg" medium="image"/>', "", None),
        (f'<media:content url="{MEDIA}/film.mp4" medium="video"/>', "", None),
        ('<media:content url="javascript:x" medium="image" width="1e9"/>', "", None),
    ],
)
def test_the_best_picture_stands_for_the_post(
    inside: str, html: str, wanted: tuple[str, str] | None
) -> None:
    entry = media(inside, html)
    url, alt = wanted or ("", "")
    assert (entry.image_url, entry.image_alt) == (f"{MEDIA}/{url}" if url else "", alt)


def test_what_comes_with_a_post_is_kept() -> None:
    entry = media(
        '<enclosure url="/avsnitt 1.mp3" type="Audio/MPEG" length="12345678"/>'
        '<enclosure url="/avsnitt 1.mp3" type="audio/mpeg" length="1"/>'
        '<enclosure url="ftp://a.example/x.mp3" type="audio/mpeg"/>'
        '<enclosure url="/rapport.pdf" type="<b>" length="många"/>'
        + "".join(f'<enclosure url="/{n}.pdf"/>' for n in range(9))
    )
    assert entry.enclosures[:2] == (
        Enclosure(f"{MEDIA}/avsnitt%201.mp3", "audio/mpeg", 12345678),
        Enclosure(f"{MEDIA}/rapport.pdf"),
    )
    assert len(entry.enclosures) == entries.MAX_ENCLOSURES
    feed = {
        "version": "https://jsonfeed.org/version/1.1",
        "hubs": [{"type": "rssCloud", "url": "https://n"}, {"type": "WebSub"}],
        "feed_url": "https://blogg.example/feed.json",
        "items": [
            {
                "id": 1,
                "title": "t",
                "image": "/bild.jpg",
                "attachments": [
                    None,
                    {"url": "/a.m4a", "mime_type": "audio/mp4", "title": "Avsnitt"},
                    {"url": "/b", "size_in_bytes": -1},
                ],
            }
        ],
    }
    parsed = parse(json.dumps(feed).encode(), url=f"{MEDIA}/feed/")
    assert parsed.topic == "https://blogg.example/feed.json"
    assert parsed.entries[0].image_url == f"{MEDIA}/bild.jpg"
    assert parsed.entries[0].enclosures == (
        Enclosure(f"{MEDIA}/a.m4a", "audio/mp4", 0, "Avsnitt"),
        Enclosure(f"{MEDIA}/b"),
    )
    assert entries.load(json.loads(entries.dump(parsed))) == parsed


def test_an_entry_may_speak_another_language_than_its_feed() -> None:
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="sv-SE"><title>B</title>'
        '<link rel="hub" href="/hub"/><link rel="self" href="/feed/"/>'
        "<entry><title>Ett</title></entry>"
        '<entry xml:lang="en"><title>Two</title></entry>'
        "</feed>"
    )
    parsed = parse(atom.encode(), url=f"{MEDIA}/feed/")
    assert [entry.language for entry in parsed.entries] == ["sv", "en"]
    assert (parsed.hub, parsed.topic) == (f"{MEDIA}/hub", f"{MEDIA}/feed/")
    rss = FRAME.replace("<item>", "<language>no-NO</language><item>")
    found = parse(rss.format(body("<p>x</p>")).encode())
    assert found.entries[0].language == "no"


def test_the_first_image_with_words_stands_for_the_post() -> None:
    html = '<p>x</p><img src="/1.png"><img src="/2.png" alt="Kören på scen">'
    entry = one(body(html) + "<link>https://blogg.example/1/</link>")
    assert entry.image_url == "https://blogg.example/2.png"
    assert entry.image_alt == "Kören på scen"


def test_a_long_feed_gives_its_newest_hundred() -> None:
    inside = "</item><item>".join(
        f"<title>n{n}</title><dc:date>{2000 + n // 12}-{n % 12 + 1:02}-01</dc:date>"
        for n in range(150)  # oldest first
    )
    parsed = parse(FRAME.format(inside).encode())
    assert len(parsed.entries) == entries.MAX_ENTRIES
    assert parsed.entries[0].title == "n149"
    assert parsed.warnings == [
        "The feed is long; its newest hundred entries were taken."
    ]


def test_a_guid_of_any_length_fits() -> None:
    guids = [
        one(f"<title>t</title><guid>x:{'9' * 5000}{n}</guid>").guid for n in (1, 2)
    ]
    assert len(set(guids)) == 2
    assert max(map(len, guids)) <= entries.MAX_GUID_CHARACTERS


def test_json_feed_says_the_same_as_the_others() -> None:
    feed = """{"version": "https://jsonfeed.org/version/1.1", "title": "B",
        "language": "sv-SE", "home_page_url": "https://blogg.example/",
        "authors": [{"name": "Åsa"}], "items": [
        {"id": 7, "url": "/1", "title": "Kören", "tags": ["Sång", 3, null],
         "content_html": "<p>Hej <script>x</script></p>", "summary": "Kort.",
         "date_published": "2019-10-11T09:00:00+02:00", "author": {"name": "Ö"}},
        {"id": "8", "content_text": "Rad ett\\n\\nRad två"}]}"""
    parsed = parse(feed.encode(), url="https://blogg.example/feed.json")
    assert parsed.entries == [
        Entry(
            title="Kören",
            guid="7",
            link="https://blogg.example/1",
            html="<p>Hej </p>",
            excerpt="Kort.",
            author="Ö",
            published_at=datetime(2019, 10, 11, 7, tzinfo=UTC),
            topics=("Sång", "3"),
            language="sv",
        ),
        Entry(
            title="Rad ett Rad två",
            guid="8",
            html="<p>Rad ett</p><p>Rad två</p>",
            excerpt="Rad ett Rad två",
            author="Åsa",
            language="sv",
        ),
    ]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (b"", "There is nothing in it"),
        (b"hej", "not RSS, Atom or JSON Feed"),
        (b"<!doctype html><p>x", "This is a web page"),
        (b"{", "nor whole JSON"),
        (b"{}", "not a JSON Feed"),
    ],
)
def test_what_is_no_feed_is_refused_with_the_reason(page: bytes, reason: str) -> None:
    with pytest.raises(FeedError, match=reason):
        parse(page)


def test_a_web_page_names_the_feed_it_links_to() -> None:
    page = b'<html><link type="application/atom+xml" rel="alternate" href="/atom">'
    with pytest.raises(FeedError) as caught:
        parse(page, url="https://blogg.example/om/")
    assert caught.value.values["url"] == "https://blogg.example/atom"


def test_a_feed_survives_the_trip_between_processes() -> None:
    parsed = parse(REAL)
    assert isinstance(parsed, Parsed)
    assert entries.load(json.loads(entries.dump(parsed))) == parsed
