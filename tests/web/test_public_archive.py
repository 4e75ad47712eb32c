"""The public archive: what was sent, less what was anyone's own."""

import re
import xml.etree.ElementTree as ET

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import drafts, publish
from newsletter.models import Issue, IssueState, Message, Newsletter, Post, Subscription
from tests.factories import NOW, make_newsletter, make_post, make_subscription

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
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "frame-ancestors 'none'" in policy


def test_an_issue_leads_back_to_the_form(
    client: FlaskClient, labbet: Newsletter
) -> None:
    page = client.get("/labbet/issues/1/").text
    above = page[page.index("<body") : page.index("</nav>")]
    assert 'href="/labbet/"' in above
    assert "Få nya inlägg i din inkorg" in above


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


def test_a_long_archive_comes_in_pages(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        for number in range(2, 60):
            session.add(
                Issue(
                    newsletter_id=labbet.id,
                    number=number,
                    state=IssueState.SENT,
                    subject=f"Utskick {number}",
                    started_at=NOW,
                )
            )
    seen: list[str] = []
    path = "/labbet/issues/"
    while path:
        page = client.get(path).text
        seen += re.findall(r'href="/labbet/issues/(\d+)/"', page)
        older = re.search(r'<p class="pager"><a href="([^"]+)"', page)
        path = older[1] if older else ""
    assert seen == [str(number) for number in range(59, 0, -1)]
    assert client.get("/labbet/issues/?before=x").status_code == 200
