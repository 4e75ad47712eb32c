"""Markup: nothing harmful comes through, and what is meant to be read does."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from newsletter import markup
from newsletter.errors import InvalidInput
from newsletter.markup import INLINE, excerpt, plain, sanitise, to_text
from newsletter.plaintext import BLOCKS

BLOG = "https://blogg.example/inlagg/"

XSS = [
    "<script>alert(1)</script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<script>alert(1)",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<p style=\"background:url('javascript:alert(1)')\">x</p>",
    "<img src=x onerror=alert(1) alt=x>",
    "<img/src='x'/onerror='alert(1)'alt='x'>",
    '<img src="javascript:alert(1)" alt="x">',
    "<img src=`x` onerror=alert(1) alt=x>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href="jAvAsCrIpT&colon;alert(1)">x</a>',
    '<a href="java\tscript:alert(1)">x</a>',
    '<a href=" &#14; javascript:alert(1)">x</a>',
    '<a href="&#106;&#97;&#118;&#97;script:alert(1)">x</a>',
    '<a href="vbscript:msgbox(1)">x</a>',
    '<a href="data:text/html;base64,PHNjcmlwdD4=">x</a>',
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<math href=javascript:alert(1)>x</math>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe src=https://evil.example/>",
    "<object data=javascript:alert(1)></object><embed src=x>",
    "<form action=https://evil.example/><input name=password><button>x</button></form>",
    "<isindex action=javascript:alert(1) type=image>",
    "<body onload=alert(1)>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    "<template><script>alert(1)</script></template>",
    "<textarea><script>alert(1)</script></textarea>",
    "<title><img src=x onerror=alert(1)></title>",
    "<xmp><script>alert(1)</script></xmp>",
    "<!--><script>alert(1)</script-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml-stylesheet href='javascript:alert(1)'?>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "<p\x00 onclick=alert(1)>x</p>",
    "<a href='https://a.example/' onclick=alert(1) id=x class=y style=z>x</a>",
    "<video><source onerror=alert(1)></video>",
    "<details open ontoggle=alert(1)>x</details>",
    "<select><noembed></select><script>x='alert(1)'</script>",
    "\ud800<script>alert(1)</script>",
]


class Strict(HTMLParser):
    """Reads what came out and refuses everything that is not on the list."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in BLOCKS | INLINE, tag
        for name, value in attrs:
            assert name in ALLOWED, name
            if name in {"href", "src"}:
                assert re.match(r"(?:https?|mailto):", value or "", re.IGNORECASE)


ALLOWED = {
    *("dir", "lang", "href", "title", "src", "alt", "start"),
    *("colspan", "rowspan", "scope"),
}


def check(html: str) -> None:
    reader = Strict()
    reader.feed(html)
    reader.close()


@pytest.mark.parametrize("base", ["", BLOG])
@pytest.mark.parametrize("attack", XSS)
def test_no_attack_comes_through(attack: str, base: str) -> None:
    cleaned = sanitise(f"<p>före</p>{attack}<p>efter</p>", base)
    check(cleaned)
    assert "alert(1)</script" not in cleaned
    assert "före" in cleaned


SOUP = st.lists(
    st.sampled_from(
        [
            *("<p>", "</p>", "<b>", "</b>", "<i>", "<div>", "</div>", "<li>", "<ul>"),
            *("<script>", "</script>", "<style>", "<svg>", "<math>", "<table>", "<tr>"),
            *("<td>", "<a href='/x'>", "<a href='javascript:x'>", "</a>", "<h2>"),
            *("<img src=/a.png alt='en bild'>", "<img src=/a.png>", "<br>", "<!--"),
            *("-->", "<![CDATA[", "]]>", "&lt;", "&amp;lt;", "&", "<", '"', "'", ">"),
            *("å", " ", "\n", "ord", "<figure>", "</figure>", "<title>", "\x00"),
        ]
    )
    | st.text(max_size=8),
    max_size=40,
).map("".join)


@example("<li><table><li>", "")
@given(SOUP, st.sampled_from(["", BLOG]))
@settings(max_examples=200, deadline=None)
def test_sanitising_twice_changes_nothing_more(soup: str, base: str) -> None:
    once = sanitise(soup, base)
    check(once)
    assert sanitise(once, base) == once


@given(st.text(max_size=2000), st.integers(20, 400))
@settings(max_examples=200, deadline=None)
def test_an_excerpt_is_the_beginning_in_whole_words(text: str, limit: int) -> None:
    whole, short = plain(text), excerpt(text, limit)
    assert len(short) <= limit
    if plain(short) == short:  # else its own words look like HTML
        assert excerpt(short, limit) == short
    if short.endswith(" …") and not whole.endswith("…"):
        kept = short.removesuffix(" …")
        assert whole.startswith(kept)
        rest = whole[len(kept) :]
        one_word = " " not in kept and len(whole.split()[0]) > limit - 2
        assert one_word or not rest or not (rest[0].isalnum() and kept[-1:].isalnum())


@given(SOUP, st.integers(20, 300))
@settings(max_examples=150, deadline=None)
def test_an_excerpt_of_html_holds_no_markup(soup: str, limit: int) -> None:
    short = excerpt(f"<p>{soup}</p>", limit)
    words = plain(f"<p>{soup}</p>")
    assert len(short) <= limit
    assert "\n" not in short
    assert words.startswith(short.removesuffix("…").rstrip()) or "…" in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Kort och klart.", "Kort och klart."),
        ("<p>Två</p><p>stycken</p>", "Två stycken"),
        ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("Och sen då...", "Och sen då…"),
        ("Puuh… Vad mycket", "Puuh… Vad mycket"),
        ("<p>Början [&hellip;]</p>", "Början …"),
        ("Början [...]", "Början …"),
        ("Början …", "Början …"),
    ],
)
def test_short_texts_stay_whole(text: str, expected: str) -> None:
    assert excerpt(text) == expected


LONG = "Mötesplatsen i Lina Hage arrangerade nyligen en egen kväll för enbart tjejer,"
LONG += " vilket blev mycket uppskattat, och därför kändes det"


@pytest.mark.parametrize("end", [" v...", " viktigt...", " v…", " …", "...", " [...]"])
def test_what_wordpress_has_cut_ends_at_a_whole_word(end: str) -> None:
    short = excerpt(LONG + end)
    assert short.endswith(" …")
    assert LONG.startswith(short.removesuffix(" …"))
    assert len(short) >= len(LONG) - 8


def test_an_excerpt_ends_without_a_comma_before_its_dots() -> None:
    assert excerpt("Ett, två, tre, fyra", 11) == "Ett, två …"


def test_a_word_longer_than_the_excerpt_is_cut() -> None:
    assert excerpt("x" * 500, 20) == "x" * 18 + " …"


def test_links_become_absolute() -> None:
    html = sanitise('<a href="../b?c=d#e">x</a> <a href="//cdn.example/f">y</a>', BLOG)
    assert 'href="https://blogg.example/b?c=d#e"' in html
    assert 'href="https://cdn.example/f"' in html


def test_relative_links_without_a_base_lose_their_address_and_keep_their_words() -> (
    None
):
    assert sanitise('<p><a href="/x">ord</a></p>') == "<p><a>ord</a></p>"


@pytest.mark.parametrize(
    "base", ["mailto:a@b.se", "http://[::1", "nonsense", "ftp://x"]
)
def test_a_base_that_is_none_is_left_aside(base: str) -> None:
    assert sanitise('<p><a href="/x">ord</a></p>', base) == "<p><a>ord</a></p>"


@pytest.mark.parametrize(
    "image",
    [
        '<img src="/a.png">',
        '<img src="/a.png" alt="  ">',
        '<img src="/a.png" alt="x" width="1" height="1">',
        '<img src="/a.png" alt="x" style="display: none">',
        '<img src="/a.png" alt="x" style="width:1px">',
        '<img src="https://pixel.wp.com/b.gif?x" alt="x">',
        '<img src="https://feeds.feedburner.com/~r/blogg/~4/x" alt="x">',
        '<img src="https://tracker.example/open?id=3" alt="x">',
        '<img src="data:image/gif;base64,R0lGOD" alt="x">',
        '<img alt="x">',
    ],
)
def test_images_that_say_nothing_or_tell_strangers_are_dropped(image: str) -> None:
    assert sanitise(f"<p>a {image} b</p>", BLOG) == "<p>a  b</p>"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/a.png", "https://blogg.example/a.png"),
        ("https://media.blogg.example/a.png", "https://media.blogg.example/a.png"),
        ("https://i2.wp.com/blogg.example/a.png?w=600", "https://blogg.example/a.png"),
    ],
)
def test_the_blogs_own_images_stay(source: str, shown: str) -> None:
    html = sanitise(f'<p><img src="{source}" alt="Kören &quot;övar&quot;"></p>', BLOG)
    assert html == f'<p><img src="{shown}" alt="Kören &quot;övar&quot;"></p>'
    image = markup.first_image(html)
    assert image == markup.Image(shown, 'Kören "övar"')


@pytest.mark.parametrize(
    "bomb",
    [
        "<div>" * 40_000,
        "<b>" * 60_000,
        "".join(f"<font size={i}>" for i in range(12_000)),
        "<ul><li>" * 20_000,
        "<p>" + "." * 199_000 + "x",
        "<img " * 40_000,
        "<a <b " * 30_000,
    ],
)
def test_no_text_costs_seconds(bomb: str) -> None:
    started = time.thread_time()  # others' work is not counted
    cleaned = sanitise(bomb + "slut")
    excerpt(bomb)
    to_text(cleaned)
    assert time.thread_time() - started < 4


def test_deep_nesting_leaves_the_words() -> None:
    cleaned = sanitise("<div>" * 5_000 + "orden &amp; <b>alla</b>" + "</div>" * 5_000)
    assert plain(cleaned) == "orden & alla"


def test_old_html_without_end_tags_is_not_taken_for_nesting() -> None:
    html = sanitise("<p>rad <br>" * 500 + "<ul>" + "<li>punkt" * 500)
    assert html.count("<li>") == 500


TABLE = "<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>ett</p><p>två<br>rader</p>", "ett\n\ntvå\nrader"),
        ("<ul><li>a</li><li>b</li></ul><p>c</p>", "- a\n- b\n\nc"),
        ("<ol start=9><li>a</li><li>b</li></ol>", "9. a\n10. b"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "- a\n  - b\n- c"),
        ("<p><a href='https://a.se/'>ord</a>.</p>", "ord <https://a.se/>."),
        ("<p><a href='https://a.se/'>https://a.se</a></p>", "https://a.se"),
        ("<p><a href='mailto:a@b.se'>a@b.se</a></p>", "a@b.se"),
        ("<blockquote><p>citat</p></blockquote>", "> citat"),
        ("<pre>x\n  y</pre>", "x\n  y"),
        ("<h2>Rubrik</h2><p>text</p>", "Rubrik\n\ntext"),
        ("<p>a</p><hr><p>b</p>", "a\n\n* * *\n\nb"),
        ("<p><img src=x alt='En bild'></p>", "[En bild]"),
        ("<p>&lt;b&gt; &amp;</p>", "<b> &"),
        (TABLE, "A | B\n1 | 2"),
    ],
)
def test_text_reads_well_in_a_terminal(html: str, text: str) -> None:
    assert to_text(html) == text


def test_lines_are_folded_within_their_frame() -> None:
    html = f"<blockquote><ul><li>{'ord ' * 40}</li></ul></blockquote>"
    lines = to_text(html, width=40).splitlines()
    assert lines[0].startswith("> - ord")
    assert all(line.startswith(">   ord") for line in lines[1:])
    assert max(map(len, lines)) <= 40


def test_a_long_address_is_never_broken() -> None:
    url = "https://blogg.example/" + "mycket-" * 20
    assert f"<{url}>" in to_text(f"<p>läs <a href='{url}'>här</a></p>", width=40)


@given(SOUP)
@settings(max_examples=100, deadline=None)
def test_everything_can_be_written_as_text(soup: str) -> None:
    text = to_text(sanitise(soup, BLOG), width=60)
    assert text == text.strip("\n")
    assert "\n\n\n" not in text


def test_markdown_is_rendered_and_html_in_it_is_only_shown() -> None:
    html = markup.from_markdown("# Hej\n\n*du* <script>x</script> [a](javascript:x)")
    assert "<h1>Hej</h1>" in html
    assert "<em>du</em>" in html
    assert "&lt;script&gt;" in html
    assert "href" not in html


def test_markdown_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput):
        markup.from_markdown("x" * 200_001)


def test_plain_text_becomes_paragraphs() -> None:
    assert markup.from_text("a < b\nc\n\nd") == "<p>a &lt; b<br>c</p><p>d</p>"
