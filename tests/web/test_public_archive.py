"""The public archive: what was sent, less what was anyone's own."""

import json
import re
import xml.etree.ElementTree as ET
from datetime import datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import drafts, publish
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Message,
    Newsletter,
    Post,
    Subscription,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription

SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture
def labbet(database: Database, settings: Settings) -> Newsletter:
    """A newsletter that has sent one issue, in two languages."""
    with database.transaction() as session:
        found = make_newsletter(session)
        make_post(session, found, title="En egen kväll för tjejer")
        make_post(session, found, title="Tio minuter om livet")
        make_subscription(session, found, language="sv")
        make_subscription(session, found, language="en")
        issue = drafts.draft(session, found, now=NOW)
        publish.send(session, settings, issue, now=NOW)
        return found


def test_the_list_shows_date_subject_and_posts(
    client: FlaskClient, labbet: Newsletter
) -> None:
    page = client.get("/labbet/issues/").text
    assert ">22 november 2026</time>" in page
    assert 'href="/labbet/issues/1/"' in page
    assert "En egen kväll för tjejer" in page
    english = client.get("/labbet/issues/?lang=en").text
    assert ">November 22, 2026</time>" in english
    assert 'href="/labbet/issues/1/?lang=en"' in english
    assert "Tidigare utskick" in client.get("/labbet/").text


def test_an_issue_is_the_mail_without_anyones_links(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    answer = client.get("/labbet/issues/1/")
    assert answer.status_code == 200
    assert "En egen kväll för tjejer" in answer.text
    assert "/unsubscribe/" not in answer.text
    assert "/preferences/" not in answer.text
    with database.reading() as session:
        for reader in session.scalars(select(Subscription)):
            assert reader.leave_token not in answer.text
            assert reader.preferences_token not in answer.text
            assert reader.subscriber.email not in answer.text
        frozen = session.scalars(select(Message.html)).all()
    assert all("unsubscribe" in html for html in frozen)  # they were there to remove


def test_an_issue_can_show_and_link_and_nothing_else(
    client: FlaskClient, labbet: Newsletter
) -> None:
    policy = client.get("/labbet/issues/1/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "sandbox " in policy
    assert "allow-scripts" not in policy  # so `allow-same-origin` opens nothing
    assert "form-action 'self'" in policy  # to sign up
    assert "frame-ancestors 'none'" in policy


def test_an_issue_leads_back_to_the_form(
    client: FlaskClient, labbet: Newsletter
) -> None:
    page = client.get("/labbet/issues/1/").text
    above = page[page.index("<body") : page.index("</header>")]
    assert 'href="/labbet/"' in above
    assert 'href="#signup-title"' in above
    assert page.index("En egen kväll") < page.index('action="/labbet/subscribe"')
    assert page.count("<main") == page.count("</main>") == 1
    sent = client.post(
        "/labbet/subscribe",
        data={"email": "ny@exempel.example"},
        headers={"Referer": "http://localhost/labbet/issues/1/"},
    )
    assert sent.status_code == 303


def test_an_issue_comes_in_the_language_asked_for(
    client: FlaskClient, labbet: Newsletter
) -> None:
    assert re.search(r'<html[^>]*lang="sv"', client.get("/labbet/issues/1/").text)
    english = client.get("/labbet/issues/1/?lang=en").text
    assert re.search(r'<html[^>]*lang="en"', english)


def test_an_issue_stays_as_it_was_sent(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    before = client.get("/labbet/issues/1/").text
    with database.transaction() as session:
        session.execute(update(Post).values(title="Ändrad efteråt", excerpt="Ny"))
    assert client.get("/labbet/issues/1/").text == before


@pytest.mark.parametrize(
    "state", [s for s in IssueState if s not in {"sending", "paused", "sent"}]
)
def test_what_has_not_gone_out_is_not_there(
    client: FlaskClient, database: Database, labbet: Newsletter, state: IssueState
) -> None:
    with database.transaction() as session:
        session.execute(update(Issue).values(state=state))
    assert client.get("/labbet/issues/1/").status_code == 404
    assert "issues/1" not in client.get("/labbet/issues/").text
    assert "issues/1" not in client.get("/labbet/issues.atom").text


def test_one_newsletters_issue_is_not_anothers(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        make_newsletter(session, "annat")
    assert client.get("/annat/issues/1/").status_code == 404
    page = client.get("/annat/issues/")
    assert "Inget än." in page.text


def test_a_closed_archive_is_closed(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        session.execute(update(Newsletter).values(public_archive=False))
    for path in ("issues/", "issues/1/", "issues.atom"):
        assert client.get(f"/labbet/{path}").status_code == 404
    page = client.get("/labbet/").text
    assert "/issues" not in page


def test_the_feed_is_atom(client: FlaskClient, labbet: Newsletter) -> None:
    answer = client.get("/labbet/issues.atom")
    assert answer.mimetype == "application/atom+xml"
    feed = ET.fromstring(answer.data)
    assert feed.findtext(f"{ATOM}title") == "Allmännyttans innovationslabb"
    (entry,) = feed.findall(f"{ATOM}entry")
    assert entry.findtext(f"{ATOM}id") == "http://localhost/labbet/issues/1/"
    assert entry.findtext(f"{ATOM}updated") == NOW.isoformat()
    assert "En egen kväll för tjejer" in (entry.findtext(f"{ATOM}summary") or "")


def arrive(database: Database) -> None:
    """Let all mail arrive."""
    with database.transaction() as session:
        session.execute(update(Delivery).values(state=DeliveryState.SENT))
        publish.finish_settled(session, now=NOW)


def many(database: Database, newsletter: Newsletter, days: dict[int, str]) -> None:
    """Add issues by number, sent at noon UTC or at the moment given."""
    with database.transaction() as session:
        for number, day in days.items():
            session.add(
                Issue(
                    newsletter_id=newsletter.id,
                    number=number,
                    state=IssueState.SENT,
                    subject=f"Utskick {number}",
                    started_at=datetime.fromisoformat(day),
                )
            )


def test_a_long_archive_comes_in_pages(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    many(database, labbet, dict.fromkeys(range(2, 100), "2026-11-22T12:00Z"))
    seen: list[str] = []
    path = "/labbet/issues/"
    for _ in range(4):
        page = client.get(path).text
        assert ("Till det nyaste" in page) is ("before" in path)
        seen += re.findall(r'href="/labbet/issues/(\d+)/"', page)
        older = re.search(r'<a href="([^"]+)" rel="next">', page)
        if older is None:
            break
        path = older[1]
    assert seen == [str(number) for number in range(99, 0, -1)]
    for strange in ("before=x", "before=99999999999999999999", "year=x"):
        assert client.get(f"/labbet/issues/?{strange}").status_code == 200
    for empty in ("before=1", "before=-5", "year=1999", "year=-3", "year=99999999"):
        assert client.get(f"/labbet/issues/?{empty}").status_code == 404


def test_a_year_is_the_newsletters_own(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    """At 23:30 UTC on New Year's Eve it is next year in Stockholm."""
    days = {2: "2023-06-01T00:00Z", 3: "2024-12-31T22:30Z", 4: "2024-12-31T23:30Z"}
    many(database, labbet, days)
    page = client.get("/labbet/issues/").text
    assert re.findall(r'<h2 id="year-(\d+)"', page) == ["2026", "2025", "2024", "2023"]
    years = re.findall(r'href="/labbet/issues/\?year=(\d+)"', page)
    assert years == ["2026", "2025", "2024", "2023"]
    one = client.get("/labbet/issues/?year=2024").text
    assert "Utskick från 2024" in one
    assert re.findall(r"<b>Utskick (\d)", one) == ["3"]
    assert 'href="/labbet/issues/?year=2024" aria-current="page"' in one


def test_a_page_tells_search_engines_and_messengers(
    client: FlaskClient, labbet: Newsletter
) -> None:
    page = client.get("/labbet/issues/1/").text
    head = page[: page.index("<body")]
    assert '<link rel="canonical" href="http://localhost/labbet/issues/1/">' in head
    said = dict(
        re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', head)
    )
    assert said["og:title"] == "2 nya inlägg: Tio minuter om livet"
    assert said["og:url"] == "http://localhost/labbet/issues/1/"
    assert said["description"] == said["og:description"] == "En egen kväll för tjejer"
    assert said["og:site_name"] == "Allmännyttans innovationslabb"
    assert said["article:published_time"] == NOW.isoformat()
    assert said["twitter:card"] == "summary"
    assert "robots" not in said
    data = re.search(r'<script type="application/ld\+json">(.*?)</script>', head)
    assert data
    assert json.loads(data[1])["headline"] == said["og:title"]
    english = client.get("/labbet/issues/1/?lang=en")
    assert '<meta name="robots" content="noindex">' in english.text
    assert english.headers["X-Robots-Tag"] == "noindex"
    assert '<link rel="canonical" href="http://localhost/labbet/issues/1/">' in (
        english.text
    )


def test_an_issue_leads_to_those_beside_it(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    arrive(database)
    many(database, labbet, {2: "2026-11-23T12:00Z"})
    with database.transaction() as session:
        newsletter = session.get_one(Newsletter, labbet.id)
        newsletter.last_number = 2
        make_post(session, newsletter, title="Tredje")
        third = drafts.draft(session, newsletter, now=NOW)
        publish.send(session, settings, third, now=NOW)
        session.execute(update(Issue).where(Issue.number == 2).values(listed=False))
    first, last = (client.get(f"/labbet/issues/{n}/").text for n in (1, 3))
    assert 'href="/labbet/issues/3/" rel="next"' in first
    assert 'rel="prev"' not in first
    assert 'href="/labbet/issues/1/" rel="prev"' in last
    assert 'rel="next"' not in last


def test_what_is_not_for_everybody_is_not_in_the_archive(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        session.execute(update(Issue).values(listed=False))
    assert client.get("/labbet/issues/1/").status_code == 404
    for path in ("/labbet/issues/", "/labbet/issues.atom", "/labbet/sitemap.xml"):
        assert "issues/1/" not in client.get(path).text


def links_on_the_web(database: Database, number: int = 2) -> dict[str, str]:
    """Return where the mails of an issue's editions say it can be read, by its name."""
    with database.reading() as session:
        rows = session.execute(
            select(Message.edition, Message.text)
            .join(Issue, Issue.id == Message.issue_id)
            .where(Issue.number == number)
        ).all()
    found = {}
    for edition, text in rows:
        match = re.search(
            r"(?:Läs på webben|Read on the web):\nhttp://localhost(\S+)", text
        )
        assert match, text
        found[edition] = match[1]
    return found


def test_view_in_browser_shows_the_edition_the_reader_got(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    arrive(database)
    with database.transaction() as session:
        newsletter = session.get_one(Newsletter, labbet.id)
        make_post(session, newsletter, title="Tredje")
        make_post(session, newsletter, title="Fjärde")
        make_subscription(session, newsletter, "sen@exempel.example", cursor=3)
        issue = drafts.draft(session, newsletter, now=NOW)
        publish.send(session, settings, issue, now=NOW)
    found = links_on_the_web(database)
    (partial,) = (found.pop(name) for name in list(found) if "/" in name)
    assert found == {"sv": "/labbet/issues/2/", "en": "/labbet/issues/2/?lang=en"}
    assert re.fullmatch(r"/labbet/view/[\w-]{22}/", partial)

    answer = client.get(partial)

    assert answer.status_code == 200
    assert "Fjärde" in answer.text
    assert "Tredje" not in answer.text.partition("</main>")[0]
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert answer.headers["Cache-Control"].startswith("private")
    assert '<meta name="robots" content="noindex">' in answer.text
    assert "canonical" not in answer.text
    with database.reading() as session:
        for reader in session.scalars(select(Subscription)):
            for secret in (reader.leave_token, reader.preferences_token):
                assert secret not in answer.text
            assert reader.subscriber.email not in answer.text
        frozen = session.scalars(select(Message.frozen)).all()
    assert all(len(set(re.findall(rb"/view/([\w-]+)", f))) <= 1 for f in frozen)
    with database.transaction() as session:
        make_newsletter(session, "annat")
    assert client.get(partial.replace("labbet", "annat")).status_code == 404
    assert client.get("/labbet/view/nix/").status_code == 404
    assert client.get(f"/labbet/view/{'x' * 500}/").status_code == 404


@pytest.mark.parametrize("closed", [{"public_archive": False}, {}])
def test_what_is_not_public_is_read_at_its_own_address_alone(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    labbet: Newsletter,
    closed: dict[str, bool],
) -> None:
    arrive(database)
    with database.transaction() as session:
        newsletter = session.get_one(Newsletter, labbet.id)
        newsletter.public_archive = closed.get("public_archive", True)
        make_post(session, newsletter, title="Bara för läsare")
        issue = drafts.draft(session, newsletter, now=NOW)
        issue.listed = bool(closed)
        publish.send(session, settings, issue, now=NOW)
    found = links_on_the_web(database)
    assert len(set(found.values())) == 2
    for name, path in found.items():
        page = client.get(path)
        assert "Bara för läsare" in page.text
        assert f'lang="{name}"' in page.text
        assert "/labbet/issues/" not in page.text
        assert 'action="/labbet/subscribe' in page.text
    assert client.get("/labbet/issues/2/").status_code == 404
    with database.transaction() as session:
        session.execute(update(Issue).values(state=IssueState.CANCELLED))
    assert client.get(path).status_code == 200  # for those whom it reached


def test_pages_are_kept_and_asked_for_by_what_they_were(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    for path in ("issues/", "issues/1/", "issues.atom", "sitemap.xml"):
        first = client.get(f"/labbet/{path}")
        assert first.headers["Cache-Control"].startswith("public, max-age=")
        head = client.head(f"/labbet/{path}")
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["ETag"] == first.headers["ETag"]
        assert head.headers["Content-Length"] == first.headers["Content-Length"]
        same = {"If-None-Match": first.headers["ETag"]}
        assert client.get(f"/labbet/{path}", headers=same).status_code == 304
    since = {
        "If-Modified-Since": client.get("/labbet/issues/1/").headers["Last-Modified"]
    }
    assert client.get("/labbet/issues/1/", headers=since).status_code == 304
    many(database, labbet, {2: "2026-11-23T12:00Z"})
    assert client.get("/labbet/issues/1/", headers=since).status_code == 200


def test_machines_find_the_issues(client: FlaskClient, labbet: Newsletter) -> None:
    robots = client.get("/robots.txt").text
    assert "\nSitemap: http://localhost/sitemap.xml\n" in robots
    index = ET.fromstring(client.get("/sitemap.xml").data)
    assert [e.text for e in index.iter(f"{SITEMAP}loc")] == [
        "http://localhost/labbet/sitemap.xml"
    ]
    answer = client.get("/labbet/sitemap.xml")
    assert answer.mimetype == "application/xml"
    places = {
        url.findtext(f"{SITEMAP}loc"): url.findtext(f"{SITEMAP}lastmod")
        for url in ET.fromstring(answer.data)
    }
    assert places == {
        "http://localhost/labbet/": None,
        "http://localhost/labbet/issues/": NOW.isoformat(),
        "http://localhost/labbet/issues/1/": NOW.isoformat(),
    }


def test_the_feed_keeps_to_rfc_4287(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    many(database, labbet, {n: f"2026-12-{n:02}T12:00Z" for n in range(2, 30)})
    feed = ET.fromstring(client.get("/labbet/issues.atom").data)
    for element in (feed, *(entries := feed.findall(f"{ATOM}entry"))):
        for name in ("id", "title", "updated"):
            assert len(element.findall(f"{ATOM}{name}")) == 1
            assert element.findtext(f"{ATOM}{name}")
        moment = datetime.fromisoformat(element.findtext(f"{ATOM}updated") or "")
        assert moment.tzinfo is not None
    assert feed.findtext(f"{ATOM}author/{ATOM}name") == "Sveriges Allmännytta"
    links_to = {
        link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")
    }
    assert links_to == {
        "self": "http://localhost/labbet/issues.atom",
        "alternate": "http://localhost/labbet/issues/",
    }
    ids = [entry.findtext(f"{ATOM}id") for entry in entries]
    assert ids == [f"http://localhost/labbet/issues/{n}/" for n in range(29, 9, -1)]
    assert feed.findtext(f"{ATOM}updated") == "2026-12-29T12:00:00+00:00"
