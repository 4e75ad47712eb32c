"""The mail itself: both parts, both languages, safe, small enough, for everyone."""

import os
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from sqlalchemy.orm import Session

from newsletter import i18n, plaintext
from newsletter.config import Settings
from newsletter.digests import compose, drafts
from newsletter.errors import InvalidInput
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import Issue, PostState
from tests.digests.sample import GOLDEN, real_issue
from tests.factories import NOW, make_newsletter, make_post

ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</p></td></tr></table><h1>Hej</h1>",
    "{{ config }} {{ 7*7 }} {% for x in y %}",
    "</mj-text><mj-raw><script>alert(1)</script></mj-raw>",
    "<mj-include path='/etc/passwd' />",
    "<!--personal--><!--/personal--> ]]> <![CDATA[ <!--[if mso]>",
    "&lt;b&gt; &amp;lt; &#60;script&#62;",
    "%(title)s %s %n",
    "a\x00b\x08c\x1b[31md\u202ee\ufffe\uffff\ud800f",
    "Bcc: x@y.example\r\n\r\n<h1>x",
    "=?utf-8?q?=0D=0ABcc:_x@y.example?=",
]


def write(settings: Settings, issue: Issue, code: str = "sv") -> Letter:
    words = i18n.language(code)
    return compose.compose(settings, issue, issue.newsletter, issue.posts, words)


class Reading(HTMLParser):
    """What a reader sees, what links there are and how the page is built."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.silent = 0
        self.feed(html)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.silent += tag in {"style", "title", "script"}
        if tag == "a":
            self.links.append(dict(attrs).get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in {"style", "title", "script"}

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.words.append(data)


@pytest.fixture
def issue(session: Session) -> Issue:
    return real_issue(session)


@pytest.fixture
def letter(settings: Settings, issue: Issue) -> Letter:
    return write(settings, issue)


@pytest.mark.parametrize("code", ["sv", "en"])
def test_the_digest_of_real_posts_is_the_golden_one(
    settings: Settings, issue: Issue, code: str
) -> None:
    """After an intended change: INKORG_GOLDEN=write pytest …, and look at the diff."""
    base = replace(settings, base_url="https://nyheter.example")
    letter = compose.sample(write(base, issue, code))
    for name, made in (("txt", letter.text), ("html", letter.html)):
        path = GOLDEN / f"digest.{code}.{name}"
        if os.environ.get("INKORG_GOLDEN") == "write":
            path.write_text(made)
        assert path.read_text() == made


def test_both_parts_hold_the_same_posts_and_links(letter: Letter, issue: Issue) -> None:
    """STD-006."""
    html = Reading(letter.html)
    flat = " ".join(letter.text.split())
    for entry in issue.posts:
        post = entry.post
        for said in (post.title, post.excerpt, "11 oktober 2019"):
            assert said in html.text
            assert said in flat
        assert post.author
        assert f"{post.author.name}, {post.author.byline}" in flat
        assert f"{post.author.name}, {post.author.byline}" in html.text
    in_text = set(re.findall(r"https?://[^\s>]+", letter.text))
    assert {link for link in html.links if link.startswith("http")} == in_text


def test_the_text_part_has_72_columns_and_whole_links(letter: Letter) -> None:
    links = [x for x in letter.text.split("\n") if x.startswith("http")]
    assert len(links) == 5 + 3
    for line in letter.text.split("\n"):
        assert len(line) <= 72 or line.startswith("http")
    assert "\n-- \n" in letter.text
    assert "\n\n\n\n" not in letter.text
    assert "|" not in letter.text


def test_the_footer_says_who_why_and_how_to_leave(letter: Letter) -> None:
    """LEG-20, in both parts."""
    for part in (letter.text, letter.html):
        assert "Sveriges Allmännytta, Box 474, 101 29 Stockholm" in part
        assert "labbet@allmannyttan.example" in part
        assert f"http://localhost/unsubscribe/{mime.LEAVE}" in part
        assert f"http://localhost/preferences/{mime.PREFERENCES}" in part
        why = "Du får det här för att du anmälde dig till Allmännyttans"
        assert why in " ".join(part.split())


def test_the_html_is_built_for_everyone(letter: Letter) -> None:
    """A11Y-06."""
    html = Reading(letter.html)
    by_tag = dict(reversed(html.attributes))
    assert by_tag["html"]["lang"] == "sv"
    wrapper = [a for tag, a in html.attributes if a.get("role") == "article"]
    assert wrapper[0]["lang"] == "sv"
    headings = [tag for tag in html.tags if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * 5
    tables = [a for tag, a in html.attributes if tag == "table"]
    assert all(a.get("role") == "presentation" for a in tables)
    assert "<title>5 nya inlägg" in letter.html
    for tag, attributes in html.attributes:
        assert tag not in {"script", "link", "iframe", "form", "img"}
        assert not any(name.startswith("on") for name in attributes)
    sizes = [
        int(px) for px in re.findall(r"font(?:-size)?:[^;\"]*?(\d+)px", letter.html)
    ]
    visible = {px for px in sizes if px > 1}  # MJML's cells have size 0
    assert min(visible) == 14
    assert "url(" not in letter.html
    assert "@import" not in letter.html


@pytest.mark.parametrize("outlook", [True, False])
def test_the_html_is_well_formed_with_and_without_outlooks_comments(
    letter: Letter, outlook: bool
) -> None:
    """Word shows what stands in conditional comments, all others what does not."""
    html = letter.html
    assert html.count("<!--[if") == html.count("<![endif]")
    assert '<!--[if mso | IE]><table border="0"' in html
    assert 'width="600"' in html
    for_word = re.compile(r"<!--\[if [^!][^]]*\]>(.*?)<!\[endif\]-->", re.DOTALL)
    html = for_word.sub(r"\1" if outlook else "", html)
    opened: list[str] = []
    without_end = "meta|br|img|o:AllowPNG"
    for closing, tag in re.findall(rf"<(/?)(?!{without_end})([a-z][\w:]*)", html):
        if closing:
            assert opened.pop() == tag
        else:
            opened.append(tag)
    assert opened == []


def test_no_style_block_is_longer_than_gmail_reads(letter: Letter) -> None:
    blocks = re.findall(r"<style[^>]*>(.*?)</style>", letter.html, re.DOTALL)
    assert 0 < sum(map(len, blocks)) < 8_192


def test_nothing_is_loaded_but_images_that_have_words(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    image = "https://blogg.example/kor.jpg"
    make_post(session, newsletter, image_url=image)
    make_post(session, newsletter, image_url=image, image_alt="  ")
    make_post(session, newsletter, image_url="data:image/png;base64,xx", image_alt="x")
    shown = make_post(session, newsletter, image_url=image, image_alt='"Kören" på scen')
    issue = drafts.draft(session, newsletter, now=NOW)

    html = Reading(write(settings, issue).html)

    images = [a for tag, a in html.attributes if tag == "img"]
    assert [(a["src"], a["alt"]) for a in images] == [(image, '"Kören" på scen')]
    assert shown.title in html.text


def test_the_language_of_each_part_is_said(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    make_post(session, newsletter, title="På svenska")
    make_post(session, newsletter, title="In English", language="en")
    issue = drafts.draft(session, newsletter, now=NOW)

    html = write(settings, issue, "en").html

    assert re.search(r'<h2 lang="sv"[^>]*><a[^>]*>På svenska', html)
    assert re.search(r"<h2 style[^>]*><a[^>]*>In English", html)


def test_a_short_digest_has_no_list_of_headlines(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    make_post(session, newsletter)
    make_post(session, newsletter)
    letter = write(settings, drafts.draft(session, newsletter, now=NOW))
    assert "I det här utskicket" not in letter.text
    assert Reading(letter.html).links.count("https://blogg.example/") == 0
    titles = [t for t in letter.text.split("\n") if t.startswith("En egen kväll")]
    assert len(titles) == 2


def test_the_subject_and_preview_are_made_or_the_editors(
    session: Session, settings: Settings, issue: Issue
) -> None:
    letter = write(settings, issue)
    assert letter.subject == (
        "5 nya inlägg: Integrationskör i behov av framtidsfinansiering"
    )
    assert "En egen kväll för tjejer · Tio minuter" in letter.html

    drafts.edit(
        session,
        issue,
        subject="{{ newsletter }} {{ date }} {{ okänd }}",
        preview_text="{{ number_of_posts }} saker",
    )
    letter = write(settings, issue)
    assert letter.subject == "Allmännyttans innovationslabb 14 oktober 2019 {{ okänd }}"
    assert "5 saker" in letter.html


def test_the_opening_is_markdown_with_merge_tags_and_nothing_else(
    session: Session, settings: Settings, issue: Issue
) -> None:
    issue.newsletter.title = "Kör & <b>sång</b>"
    drafts.edit(
        session,
        issue,
        opening="# Rubrik\n\n*Hej* {{ newsletter }} {{ 7*7 }} <b>fet</b> "
        "[ut](javascript:alert(1)) [hem](https://blogg.example/hem)",
    )
    letter = write(settings, issue)
    html = Reading(letter.html)
    assert "<em>Hej</em> Kör &amp; &lt;b&gt;sång&lt;/b&gt; {{ 7*7 }}" in letter.html
    assert "&lt;b&gt;fet&lt;/b&gt;" in letter.html
    assert not [link for link in html.links if "javascript" in link]
    assert html.tags.count("h1") == 1
    assert "hem <https://blogg.example/hem>" in " ".join(letter.text.split())


@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_is_written_shows_as_text(
    session: Session, settings: Settings, attack: str
) -> None:
    """Posts come from feeds, and editors paste: nothing of it is code here."""
    newsletter = make_newsletter(session)
    post = make_post(session, newsletter)
    make_post(session, newsletter)
    issue = drafts.draft(session, newsletter, now=NOW)
    expected = Reading(write(settings, issue).html).tags
    assert post.author

    with session.no_autoflush:  # half a character is nothing a database takes
        issue.subject = issue.preview_text = attack
        for entry in issue.posts:
            entry.title = entry.excerpt = attack
        post.author.name = post.author.byline = attack
        newsletter.title = newsletter.publisher = attack
        letter = write(settings, issue)
    session.expire_all()

    html = Reading(letter.html)
    said = plaintext.squeeze(attack).replace("\ufffe", "").replace("\uffff", "")
    assert html.tags == expected
    assert said in html.text.replace("\ufffe", "").replace("\uffff", "")
    assert "<script" not in letter.html
    frozen = mime.freeze(letter)
    assert frozen.size < 102_400


@pytest.mark.parametrize(
    "link",
    [
        *("javascript:alert(1)", "data:text/html,x", "//evil.example", "file:///x", ""),
        *(
            "https://",
            "https://a b",
            "https://x.example/\nhttps://y.example",
            "mailto:x",
        ),
    ],
)
def test_a_post_without_a_proper_link_gets_our_page(
    session: Session, settings: Settings, link: str
) -> None:
    newsletter = make_newsletter(session)
    post = make_post(session, newsletter, link=link)
    letter = write(settings, drafts.draft(session, newsletter, now=NOW))
    assert f"http://localhost/labbet/posts/{post.id}/" in letter.text
    assert f'href="http://localhost/labbet/posts/{post.id}/"' in letter.html


def test_a_post_withdrawn_since_drops_out(
    session: Session, settings: Settings, issue: Issue
) -> None:
    gone = issue.posts[0].post
    gone.state = PostState.WITHDRAWN
    drafts.edit(session, issue, hidden=[issue.posts[1].post_id])
    letter = write(settings, issue)
    assert gone.title not in letter.text
    assert issue.posts[1].post.title not in letter.html
    assert letter.subject.startswith("3 nya inlägg: Tio minuter")
    assert "<h1" in letter.html
    assert "Tre nya inlägg" in letter.html


@pytest.mark.parametrize("posts", [40, 500])
def test_a_long_digest_stays_under_what_gmail_cuts(
    session: Session, settings: Settings, posts: int
) -> None:
    """STD-010: excerpts first, then the last posts; the footer always."""
    newsletter = make_newsletter(session)
    ids = [
        make_post(
            session,
            newsletter,
            title=f"Åäö {number} " + "lång rubrik på svenska " * 3,
            excerpt="Såväl äldre som yngre på ön är överens om ämnet. " * 30,
            published_at=NOW - timedelta(hours=number),
        ).id
        for number in range(posts)
    ]
    issue = drafts.draft(session, newsletter, post_ids=ids, now=NOW)

    letter = write(settings, issue)

    assert compose.encoded_size(letter.html) <= 100_000
    assert mime.freeze(letter).size < 2 * 102_400
    shown = re.findall(r"Åäö (\d+)", Reading(letter.html).text)
    in_text = re.findall(r"Åäö (\d+)", letter.text)
    assert set(shown) == set(in_text)
    assert "0" in shown
    for part in (letter.html, letter.text):
        assert mime.LEAVE in part
        assert "Box 474" in part
    left_out = posts - len(set(shown))
    if left_out:
        words = f"Läs {left_out} inlägg till på webben"
        assert words in Reading(letter.html).text
        assert words in " ".join(letter.text.split())
    assert (left_out > 0) == (posts == 500)
    assert f"{posts} nya inlägg" in letter.html


def test_an_opening_that_would_be_cut_is_refused(
    session: Session, settings: Settings, issue: Issue
) -> None:
    drafts.edit(session, issue, opening="\N{SMILING FACE WITH OPEN MOUTH}" * 10_000)
    with pytest.raises(InvalidInput, match="opening is too long"):
        write(settings, issue)


def test_the_web_version_is_nobodys(letter: Letter) -> None:
    """STD-011."""
    for html in (letter.html, mime.without_fields(letter.html)):
        public = compose.web_version(html)
        for secret in (mime.LEAVE, mime.PREFERENCES, mime.NOBODY, "/unsubscribe/"):
            assert secret not in public
        assert "preferences" not in public
        assert "Box 474" in public
        assert "Integrationskör" in public


def test_two_readers_mails_differ_in_their_own_links_alone(letter: Letter) -> None:
    """LEG-30: no pixel, no link that tells who clicked."""
    frozen = mime.freeze(letter)

    def splice(leave: str, preferences: str) -> bytes:
        return frozen.splice(
            address="a@example.org",
            delivery_id=1,
            nonce="n",
            leave_token=leave,
            preferences_token=preferences,
            at=NOW,
        )

    one, other = splice("a" * 22, "b" * 22), splice("c" * 22, "d" * 22)
    masked = other.replace(b"c" * 22, b"a" * 22).replace(b"d" * 22, b"b" * 22)
    assert one == masked


def test_a_closed_archive_is_not_linked(
    settings: Settings, issue: Issue, session: Session
) -> None:
    issue.number = 4
    issue.newsletter.public_archive = False
    letter = write(settings, issue)
    assert "/issues/" not in letter.text + letter.html
    assert letter.archive_url == ""


def test_the_feedback_id_names_no_reader(letter: Letter) -> None:
    """STD-039."""
    assert re.fullmatch(r"issue\d+:labbet:digest:[a-z0-9]{5,15}", letter.feedback_id)
