"""What anyone may read: the newsletter's page, a post, privacy, the front page."""

import re
from datetime import UTC, datetime, timedelta

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from newsletter.db import Database
from newsletter.models import Author, Newsletter, PostState
from tests.factories import make_newsletter, make_post

SWEDISH = {"Accept-Language": "sv"}
OCTOBER = datetime(2019, 10, 11, 9, tzinfo=UTC)


def test_the_page_shows_the_form_the_posts_and_who_is_behind(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(
            session,
            tagline="Vi berättar om bostadsområden som prövar nytt.",
            about="Sveriges Allmännytta är en bransch- och intresseorganisation.",
            phone="08-406 55 00",
            contact_email="labbet@allmannyttan.example",
            website="https://www.sverigesallmannytta.se/",
            social=[{"name": "Instagram", "url": "https://instagram.com/allmannyttan"}],
        )
        author = Author(
            newsletter_id=labbet.id, name="Anna Kanervo", byline="projektansvarig"
        )
        session.add(author)
        session.flush()
        make_post(
            session,
            labbet,
            author=author,
            title="Integrationskör i behov av framtidsfinansiering",
            excerpt="Kören har nu startats i flera orter …",
            link="https://blogg.example/kor/",
            published_at=OCTOBER,
        )
    page = client.get("/labbet/").text
    assert '<html lang="sv">' in page
    assert "Få nya inlägg i din inkorg" in page
    assert "Ett mejl när det finns något nytt, högst en gång i veckan." in page
    assert "Du väljer takten själv." in page
    assert "Vi skickar först ett mejl där du bekräftar." in page
    assert ">11 oktober 2019</time>" in page
    assert (
        '<a href="https://blogg.example/kor/">'
        "Integrationskör i behov av framtidsfinansiering</a>"
    ) in page
    assert "Kören har nu startats i flera orter …" in page
    assert "<b>Anna Kanervo</b>, projektansvarig" in page
    assert "Box 474, 101 29 Stockholm" in page
    assert '<a href="tel:084065500">08-406 55 00</a>' in page
    assert '<a href="mailto:labbet@allmannyttan.example">' in page
    assert ">sverigesallmannytta.se</a>" in page
    assert '<a href="https://instagram.com/allmannyttan">Instagram</a>' in page


def test_the_promise_follows_the_rhythm(
    client: FlaskClient, database: Database
) -> None:
    said = {
        "each": "Ett mejl för varje nytt inlägg.",
        "daily@07:00": "högst en gång om dagen.",
        "monthly:1@08:00": "högst en gång i månaden.",
    }
    with database.transaction() as session:
        for number, rhythm in enumerate(said):
            make_newsletter(
                session, f"brev{number}", rhythms=[rhythm], default_rhythm=rhythm
            )
    for number, words in enumerate(said.values()):
        page = client.get(f"/brev{number}/").text
        assert words in page
        assert "Du väljer takten själv." not in page


def test_dates_are_in_the_newsletters_time_zone(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session)
        late = datetime(2019, 10, 10, 22, 30, tzinfo=UTC)
        make_post(session, labbet, published_at=late)
    assert ">11 oktober 2019</time>" in client.get("/labbet/").text


def test_the_page_speaks_the_newsletters_languages_only(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        make_post(session, make_newsletter(session), published_at=OCTOBER)
        make_newsletter(session, "svensk", languages=["sv"])
    page = client.get("/labbet/?lang=en", headers=SWEDISH).text
    assert '<html lang="en">' in page
    assert "Get new posts in your inbox" in page
    assert ">October 11, 2019</time>" in page
    assert 'action="/labbet/subscribe?lang=en"' in page
    assert 'href="/labbet/privacy/?lang=en"' in page
    assert '<a href="/labbet/" hreflang="sv" lang="sv"' in page
    page = client.get("/svensk/?lang=en", headers={"Accept-Language": "en"}).text
    assert '<html lang="sv">' in page
    assert "hreflang" not in page
    assert client.get("/labbet/?lang=xx").status_code == 200


def test_words_in_another_language_than_the_pages_are_marked(
    client: FlaskClient, database: Database
) -> None:
    """WCAG 3.1.2: a screen reader changes voice."""
    with database.transaction() as session:
        labbet = make_newsletter(session, about="Om oss.")
        make_post(session, labbet, title="På svenska")
        make_post(session, labbet, title="In English", language="en")
    swedish, english = (client.get(f"/labbet/?lang={c}").text for c in ("sv", "en"))
    assert '<h1 lang="sv">' in english
    assert '<p class="about" lang="sv">' in english
    assert re.findall(r"<div( lang=..*)?>\s*<h3>", english) == ["", ' lang="sv"']
    assert "<h1>" in swedish
    assert re.findall(r"<div( lang=..*)?>\s*<h3>", swedish) == [' lang="en"', ""]


def test_an_empty_newsletter_says_what_will_come(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session, publisher="", postal_address="")
    page = client.get("/labbet/").text
    assert "Inget är publicerat än." in page
    assert "Vi som står bakom" not in page
    assert "Tidigare utskick" not in page


def test_only_published_posts_show_newest_first(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session, posts_on_page=2)
        for days, title in enumerate(["Tredje", "Andra", "Första"]):
            when = OCTOBER - timedelta(days=days)
            make_post(session, labbet, title=title, published_at=when)
        for state in (PostState.DRAFT, PostState.HELD, PostState.WITHDRAWN):
            make_post(session, labbet, title="Hemligt", state=state, position=None)
    page = client.get("/labbet/").text
    assert re.findall(r"<h3><a[^>]*>(\w+)<", page) == ["Tredje", "Andra"]


def test_nothing_an_editor_wrote_becomes_markup_or_a_dangerous_link(
    client: FlaskClient, database: Database
) -> None:
    evil = '"><script>alert(1)</script>'
    with database.transaction() as session:
        labbet = make_newsletter(session)
        for name in ("title", "tagline", "publisher", "about", "postal_address"):
            setattr(labbet, name, evil)
        # Past the checks on the way in: what if one of them had a hole?
        labbet.phone = labbet.contact_email = evil[:60]
        labbet.website = "javascript:alert(1)"
        labbet.social = [{"name": evil, "url": "javascript:alert(1)"}, {"url": ""}]
        author = Author(newsletter_id=labbet.id, name=evil, byline=evil)
        session.add(author)
        session.flush()
        post = make_post(
            session, labbet, author=author, title=evil, excerpt=evil, link=""
        )
        post_id = post.id
    for path in ("/labbet/", f"/labbet/posts/{post_id}/", "/labbet/privacy/"):
        page = client.get(path).text
        assert "<script>" not in page
        assert "javascript:" not in page


def test_a_post_written_here_has_a_page(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session)
        other = make_newsletter(session, "annat")
        post = make_post(session, labbet, link="", html="<p>Hela texten.</p>")
        foreign = make_post(session, other, link="").id
        draft = make_post(
            session, labbet, link="", state=PostState.DRAFT, position=None
        ).id
        post_id = post.id
    assert f'<a href="/labbet/posts/{post_id}/">' in client.get("/labbet/").text
    page = client.get(f"/labbet/posts/{post_id}/")
    assert "<p>Hela texten.</p>" in page.text
    for hidden in (foreign, draft, 999):
        assert client.get(f"/labbet/posts/{hidden}/").status_code == 404


def test_a_posts_pictures_may_come_from_the_blog(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        post_id = make_post(session, make_newsletter(session), link="").id
    policy = client.get(f"/labbet/posts/{post_id}/").headers["Content-Security-Policy"]
    assert "img-src 'self' data: https:" in policy
    assert "script-src 'self';" in policy


def test_privacy_is_our_text_or_the_newsletters_own(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
        own = "## Så gör vi\n\nLäs *mer*. <script>alert(1)</script>"
        make_newsletter(session, "eget", privacy=own)
        make_newsletter(session, "tyst", record_network=False)
    ours = client.get("/labbet/privacy/").text
    assert "Sveriges Allmännytta ansvarar för adresserna" in ours
    assert "första delen av din nätverksadress" in ours
    assert "nätverksadress" not in client.get("/tyst/privacy/").text
    assert "We do not sell" in client.get("/labbet/privacy/?lang=en").text
    page = client.get("/eget/privacy/").text
    assert "<em>mer</em>" in page
    assert "<script>" not in page
    assert "säljer" not in page


def test_the_front_page_leads_on(client: FlaskClient, database: Database) -> None:
    page = client.get("/", headers=SWEDISH).text
    assert "Här finns inget nyhetsbrev än" in page
    assert "newsletter create" in page
    with database.transaction() as session:
        make_newsletter(session)
    assert client.get("/").headers["Location"] == "/labbet/"
    with database.transaction() as session:
        make_newsletter(session, "annat", title="Annat brev")
    page = client.get("/").text
    assert '<a href="/annat/">' in page
    assert '<a href="/labbet/">' in page


def test_what_is_not_listed_is_found_by_its_address_alone(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        hidden = make_newsletter(session)
        make_newsletter(session, "annat", title="Annat brev")
        hidden.listed = False
    assert client.get("/").headers["Location"] == "/annat/"
    assert "/labbet/" not in client.get("/sitemap.xml").text
    page = client.get("/labbet/").text
    assert '<meta name="robots" content="noindex">' in page
    assert "noindex" not in client.get("/annat/").text
    with database.transaction() as session:
        session.execute(update(Newsletter).values(listed=False))
    front = client.get("/", headers=SWEDISH).text
    assert "newsletter create" not in front
    assert "/annat/" not in front


def test_robots_keep_out_of_personal_pages(client: FlaskClient) -> None:
    text = client.get("/robots.txt").text
    for path in ("/confirm/", "/unsubscribe/", "/preferences/", "/editor/"):
        assert f"Disallow: {path}\n" in text


def test_health_tells_how_long_mail_has_waited(
    client: FlaskClient, database: Database, app: Flask
) -> None:
    healthy = {"status": "ok", "database": "ok", "queue_age_seconds": 0}
    assert client.get("/healthz").json == healthy
    with database.transaction() as session:
        make_newsletter(session)
    client.post("/labbet/subscribe", data={"email": "anna@bostaden.se"})
    assert client.get("/healthz").json["queue_age_seconds"] < 60  # type: ignore[index]


def test_an_error_page_says_what_to_do(client: FlaskClient) -> None:
    missing = client.get("/finns-inte/", headers=SWEDISH)
    assert missing.status_code == 404
    assert "Här finns inget" in missing.text
    assert "Det finns inget nyhetsbrev som heter finns-inte." in missing.text
    assert "Fel 404" in missing.text
    wrong = client.delete("/robots.txt", headers=SWEDISH)
    assert wrong.status_code in {400, 405}
    assert "<h1>" in wrong.text


def test_too_big_a_form_gets_a_page_too(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    answer = client.post("/labbet/subscribe", data={"email": "x" * 3_000_000})
    assert answer.status_code == 413
    assert "<h1>" in answer.text


def test_public_pages_set_no_cookies_and_load_nothing_from_elsewhere(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    for path in ("/labbet/", "/labbet/privacy/", "/labbet/sent/", "/labbet/issues/"):
        answer = client.get(path)
        assert "Set-Cookie" not in answer.headers
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(
            r'(?:src|rel="stylesheet" href)="(?:https?:)?//', answer.text
        )
