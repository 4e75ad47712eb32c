"""The three themes and one's own: same posts, any language, never too long."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.digests import compose, samples, themes
from newsletter.digests.look import Look, Picture
from newsletter.errors import ThemeError
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import Issue, Newsletter
from tests.digests.test_compose import Reading
from tests.factories import NOW, make_newsletter

THEMES = [theme.name for theme in themes.BUILT_IN]
SV = i18n.language("sv")
LONG = "Bostadsbolagsordförandekonferensförberedelsegruppens sammanträdesprotokoll "


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def issue_of(settings: Settings, newsletter: Newsletter, count: int) -> Issue:
    return samples.issue(settings, newsletter, SV, count, now=NOW)


def write(
    settings: Settings, newsletter: Newsletter, issue: Issue, look: Look, **more: object
) -> Letter:
    words = i18n.language(str(more.pop("code", "sv")))
    return compose.compose(
        settings,
        issue,
        newsletter,
        issue.posts,
        words,
        look=look,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.parametrize("code", ["sv", "en"])
@pytest.mark.parametrize("theme", THEMES)
def test_each_theme_holds_every_post_in_both_parts_and_is_never_cut(
    settings: Settings, newsletter: Newsletter, theme: str, code: str, count: int
) -> None:
    issue = issue_of(settings, newsletter, count)
    for number, entry in enumerate(issue.posts):
        entry.post.title = f"{LONG}{number}"
        entry.post.excerpt = "Såväl äldre som yngre på ön är överens om ämnet. " * 6
        entry.post.published_at = NOW - timedelta(days=number)
        entry.post.link = f"https://blogg.example/{'lång-adress-' * 6}{number}/"

    letter = write(settings, newsletter, issue, Look(theme=theme), code=code)

    assert compose.encoded_size(letter.html) < 102_000
    page = Reading(letter.html)
    text = " ".join(letter.text.split())
    for entry in issue.posts:
        assert entry.post.title in page.text
        assert entry.post.title in text
        assert entry.post.link in page.links
        assert f"{entry.post.link}\n" in letter.text
    headings = [tag for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert set(headings[1:]) <= {"h2"}
    for tag, values in page.attributes:
        assert tag != "img" or "alt" in values
        assert tag != "table" or values.get("role") == "presentation"
    assert "Box 474" in page.text
    for part in (letter.html, letter.text):
        assert mime.LEAVE in part
    assert mime.LEAVE not in compose.web_version(letter.html)
    blocks = re.findall(r"<style[^>]*>(.*?)</style>", letter.html, re.DOTALL)
    assert sum(map(len, blocks)) < 8_192
    assert "&#39;" not in "".join(blocks)


@pytest.mark.parametrize("theme", THEMES)
def test_each_post_shows_all_that_is_known_of_it(
    settings: Settings, newsletter: Newsletter, theme: str
) -> None:
    issue = issue_of(settings, newsletter, 2)
    episode = {"url": "https://a.example/x.mp3", "type": "audio/mpeg"}
    issue.posts[0].post.enclosures = [{**episode, "title": "Avsnitt <1>"}] * 3
    letter = write(settings, newsletter, issue, Look(theme=theme))
    html = letter.html
    page = Reading(html)
    assert page.text.count("Lyssna: Avsnitt <1>") == 2  # more stand on its own page
    assert letter.text.count("Lyssna: Avsnitt <1>\nhttps://a.example/x.mp3\n") == 2
    for said in ("21 nov", "20 nov", "Åsa Öberg, kulturredaktör", "Det började med"):
        assert said in page.text
    assert re.search(r"<b[^>]*>Åsa Öberg</b>, kulturredaktör", html)
    pictures = {v.get("src") for tag, v in page.attributes if tag == "img"}
    wanted = {f"http://localhost/static/samples/{n}.png" for n in ("choir", "garden")}
    assert (wanted <= pictures) == (theme != "headlines")


@pytest.mark.parametrize("theme", THEMES)
def test_the_parts_stand_in_the_editors_order_and_words(
    settings: Settings, newsletter: Newsletter, theme: str
) -> None:
    said = {
        "greeting": "HÄLSNING till alla i {{ newsletter }}",
        "heading": "{{ number_in_words }} <saker>",
        "more": "MER ATT LÄSA",
        "authors": "SKRIBENTERNA",
        "closing": "AVSLUT med *kursiv* & {{ date }}",
        "reply": "SVARA OSS",
        "note": "SIDFOTENS EGET",
        "link": "Öppna {{ title }} av {{ author }}",
    }
    issue = issue_of(settings, newsletter, 6)
    issue.opening = "INLEDNING"
    parts = ("closing", "authors", "posts", "opening")
    look = Look(theme=theme, parts=parts, words={"sv": said})
    letter = write(settings, newsletter, issue, look, whole=2, rhythm="Varje måndag.")

    ours = ["Sex <saker>", "AVSLUT med kursiv & 22 november 2026", "SVARA OSS"]
    ours += ["SKRIBENTERNA", "Kören som", "MER ATT LÄSA", "Tio minuter"]
    ours += ["HÄLSNING till alla i Allmännyttans innovationslabb", "INLEDNING"]
    ours += ["SIDFOTENS EGET", "Varje måndag."]
    flat = letter.text.replace("*kursiv*", "kursiv")
    for text in (Reading(letter.html).text, " ".join(flat.split())):
        text = text[text.index(ours[0]) :]
        places = [text.index(words) for words in ours]
        assert places == sorted(places)
        assert "I det här utskicket" not in text
    if theme != "headlines":
        assert "Öppna Så blev innergården en trädgård av Bo Ek" in letter.html
    in_english = write(settings, newsletter, issue, look, code="en")
    assert "SVARA OSS" not in in_english.html


@pytest.mark.parametrize("theme", THEMES)
def test_a_logo_is_named_and_has_a_twin_for_the_night(
    settings: Settings, newsletter: Newsletter, theme: str
) -> None:
    day = Picture("https://x.example/day.png", 200, 50)
    night = Picture("https://x.example/night.png", 200, 50)
    issue = issue_of(settings, newsletter, 1)
    for look, count in ((Look(theme, logo=day, dark_logo=night), 2), (Look(theme), 0)):
        html = write(settings, newsletter, issue, look).html
        page = Reading(html)
        logos = [
            (v["alt"], v["width"], v["height"])
            for tag, v in page.attributes
            if tag == "img" and "x.example" in str(v["src"])
        ]
        assert logos == [(newsletter.title, "200", "50")] * count
        assert html.count("<!--[if") == html.count("<![endif]")


def test_the_footer_says_how_often_where_an_issue_fell_due(
    settings: Settings, newsletter: Newsletter
) -> None:
    issue = issue_of(settings, newsletter, 1)
    for rhythm, said in (
        ("weekly:mon@08:00", "Varje vecka, på måndagar, när det finns något nytt."),
        ("each", "Varje inlägg när det kommer."),
    ):
        issue.rhythm = rhythm
        letter = write(settings, newsletter, issue, Look())
        assert said in " ".join(letter.text.split())
        assert f"innovationslabb. {said}</p>" in letter.html


@pytest.mark.parametrize("theme", THEMES)
def test_a_mail_without_posts_holds_what_else_there_is(
    settings: Settings, newsletter: Newsletter, theme: str
) -> None:
    issue = issue_of(settings, newsletter, 0)
    issue.opening = "Bara ord i dag."
    html = write(settings, newsletter, issue, Look(theme=theme)).html
    assert "Bara ord i dag." in html
    assert not re.search(r"<table[^>]*>\s*</table>", html)


def own_theme(tmp_path: Path, template: str) -> Path:
    folder = tmp_path / "eget"
    folder.mkdir(exist_ok=True)
    (folder / "digest.mjml").write_text(template)
    return folder


def test_a_theme_of_ones_own_builds_on_ours(
    settings: Settings, newsletter: Newsletter, tmp_path: Path
) -> None:
    folder = own_theme(
        tmp_path,
        '{% extends "themes/calm/digest.mjml" %}'
        "{% block masthead %}<mj-text><h1>MITT HUVUD</h1></mj-text>{% endblock %}",
    )
    (folder / "theme.toml").write_text('title = "Vårt eget"\nabout = "Med huvud"\n')
    (tmp_path / "inget").mkdir()
    (tmp_path / "calm").mkdir()
    (tmp_path / "calm" / "digest.mjml").write_text("x")
    here = replace(settings, themes_dir=tmp_path)

    found = themes.available(here)

    assert [theme.name for theme in found] == [*THEMES, "eget"]
    assert (found[-1].title, found[-1].about) == ("Vårt eget", "Med huvud")
    letter = write(here, newsletter, issue_of(here, newsletter, 3), Look("eget"))
    assert "MITT HUVUD" in letter.html
    assert "Kören som inte ville sluta sjunga" in letter.text


@pytest.mark.parametrize(
    ("template", "line", "why"),
    [
        ("<mjml>\n{% if %}", 2, "Expected an expression"),
        ("<mjml>\n\n{{ nothing.at.all }}", 3, "'nothing' is undefined"),
        ("{{ entries.append(1) }}", 1, "not safely callable|unsafe"),
        ("\n{{ ''.__class__.__mro__ }}", 2, "unsafe|undefined"),
        ("{{ 1 / 0 }}", 1, "division by zero"),
        ("<mjml><mj-body>", 0, "is not MJML"),
        ('{% extends "themes/nope.mjml" %}', 0, "themes/nope.mjml"),
    ],
)
def test_a_broken_theme_says_where_and_stops_no_issue(
    settings: Settings,
    newsletter: Newsletter,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    template: str,
    line: int,
    why: str,
) -> None:
    own_theme(tmp_path, template)
    here = replace(settings, themes_dir=tmp_path)
    issue = issue_of(here, newsletter, 1)
    with pytest.raises(ThemeError, match=why) as caught:
        write(here, newsletter, issue, Look("eget"))
    if line:
        assert f"digest.mjml, line {line}:" in str(caught.value)

    letter = write(here, newsletter, issue, Look("eget"), forgiving=True)

    assert "Kören som inte ville sluta sjunga" in letter.html
    assert "A theme is broken" in caplog.text


def test_a_theme_that_is_gone_is_named(
    settings: Settings, newsletter: Newsletter
) -> None:
    with pytest.raises(ThemeError, match="theme borta is not installed"):
        write(settings, newsletter, issue_of(settings, newsletter, 1), Look("borta"))


@pytest.mark.parametrize("theme", THEMES)
def test_the_featured_post_stands_first_and_larger_in_both_parts(
    settings: Settings, newsletter: Newsletter, theme: str
) -> None:
    issue = issue_of(settings, newsletter, 4)
    plain = write(settings, newsletter, issue, Look(theme=theme))
    last = issue.posts[-1]
    last.featured = True
    letter = write(settings, newsletter, issue, Look(theme=theme))
    title = last.post.title

    def sizes(html: str) -> dict[str, int]:
        found = re.findall(r"<h2[^>]*?bold (\d+)px[^>]*><a [^>]*>([^<]+)</a>", html)
        return {words.strip(): int(pixels) for pixels, words in found}

    larger = sizes(letter.html)
    assert next(iter(larger)) == title
    assert larger[title] > max(size for words, size in larger.items() if words != title)
    assert sizes(plain.html)[title] < larger[title]
    positions = [letter.text.rfind(entry.post.title) for entry in issue.posts]
    assert min(positions) == positions[-1]
    assert re.search(rf"^(?:\d\. )?{re.escape(title)}\n=+$", letter.text, re.MULTILINE)
    assert "===" not in plain.text
    assert letter.subject.endswith(title)
    # Hidden, it is nowhere, and nothing else takes its size.
    last.hidden = True
    hidden = write(settings, newsletter, issue, Look(theme=theme))
    assert title not in hidden.html
    assert max(sizes(hidden.html).values()) < larger[title]
