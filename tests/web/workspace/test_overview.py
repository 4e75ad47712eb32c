"""The overview: what comes next, how it goes, what needs a person."""

import json
import re
from datetime import timedelta
from itertools import count

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from newsletter import editors, i18n
from newsletter.db import Database, utcnow
from newsletter.models import (
    Delivery,
    DeliveryState,
    Feed,
    Issue,
    IssuePost,
    IssueState,
    Kind,
    Message,
    Newsletter,
    PostState,
    RelayHealth,
    Role,
    Status,
    Worker,
)
from newsletter.subscribers.directory import Growth
from newsletter.web.workspace import charts
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor, csrf_token

HOME = "/editor/labbet/"
_numbers = count(1)
SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, "labbet")


def make_issue(
    session: Session, newsletter: Newsletter, state: IssueState, **states: int
) -> Issue:
    """Create an issue with some deliveries in each state."""
    issue = Issue(
        newsletter_id=newsletter.id,
        state=state,
        number=None if state is IssueState.DRAFT else next(_numbers),
        subject="Fyra nya inlägg",
        total=sum(states.values()),
        started_at=None if state is IssueState.DRAFT else NOW,
    )
    session.add(issue)
    session.flush()
    message = Message(
        kind=Kind.DIGEST,
        newsletter_id=newsletter.id,
        issue_id=issue.id,
        lane=1,
        language="sv",
        subject="Fyra nya inlägg",
        sender="labbet@allmannyttan.example",
        nonce="n",
        frozen=b"",
    )
    session.add(message)
    session.flush()
    for name, many in states.items():
        for number in range(many):
            session.add(
                Delivery(
                    message_id=message.id,
                    occasion=f"issue:{issue.id}",
                    address=f"{name}{number}@exempel.example",
                    lane=1,
                    state=DeliveryState(name),
                )
            )
    return issue


def page(app: Flask, role: Role = Role.OWNER) -> str:
    answer = as_editor(app, role).get(HOME)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text.partition("<main")[2]).split())


def test_an_empty_newsletter_tells_the_first_step(
    app: Flask, labbet: Newsletter
) -> None:
    text = page(app)
    assert "Först något att läsa" in text
    assert "Lägg till ett flöde" in text
    assert "Ingen än." in text


def test_new_posts_wait_for_an_issue(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        for number in range(8):
            make_post(session, here, title=f"Inlägg nummer {number}")
    text = page(app)
    assert "8 nya inlägg" in text
    assert "och 2 till" in text
    assert "Inlägg nummer 7" in text
    client = as_editor(app)
    answer = client.post(
        "/editor/labbet/issues/new", data={"csrf_token": csrf_token(client)}
    )
    assert answer.status_code == 302


def test_a_draft_leads_with_its_posts_and_readers(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        issue = make_issue(session, here, IssueState.DRAFT)
        post = make_post(session, here, title="En egen kväll för tjejer")
        session.add(IssuePost(issue_id=issue.id, post_id=post.id, place=0))
        make_subscription(session, here)
    text = page(app)
    assert "Nästa utskick Fyra nya inlägg Utkast · 1 inlägg · 1 läsare" in text
    assert "En egen kväll för tjejer" in text
    assert "Fortsätt med utkastet" in text


def test_a_viewer_is_offered_nothing_to_do(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        make_post(session, session.get_one(Newsletter, labbet.id))
    text = page(app, Role.VIEWER)
    assert "1 nytt inlägg" in text
    assert "Skriv ett inlägg" not in text
    assert "Gör ett utskick" not in text


def test_what_is_being_sent_is_followed(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        issue = make_issue(
            session, here, IssueState.SENDING, sent=5, queued=3, deferred=1, bounced=1
        )
        issue_id = issue.id
    client = as_editor(app)
    part = client.get("/editor/labbet/now").text
    assert 'data-follow="/editor/labbet/now"' in part
    assert re.search(r'<progress max="10" value="6"', part)
    assert "<html" not in part
    with database.transaction() as session:
        session.get_one(Issue, issue_id).state = IssueState.SENT
    assert "data-follow" not in client.get("/editor/labbet/now").text


def test_the_last_issue_says_how_it_went(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        make_issue(session, here, IssueState.SENT, sent=7, bounced=2, skipped=1)
    text = page(app)
    assert "7 av 10" in text
    assert "Kom i retur 2" in text


LINE = "Inget inlägg därifrån än. Svarar 404 sedan"


def test_what_needs_a_person_stands_there(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    now = utcnow()
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        here.postal_address = ""
        feed = Feed(newsletter_id=here.id, url="https://blogg.example/f")
        feed.failing_since, feed.error_status = now - timedelta(days=20), 404
        session.add(feed)
        make_post(session, here, state=PostState.HELD)
        session.add(
            RelayHealth(
                name="smtp.example:25",
                blocked_until=now + timedelta(minutes=5),
                reason='{"message": "451 too fast", "values": {}}',
            )
        )
    text = page(app)
    assert "smtp.example:25 tar inte emot just nu: 451 too fast" in text
    assert "Inget skickas, för ingen process arbetar." in text
    assert "1 inlägg från flödet väntar på ditt ja." in text
    since = i18n.language("sv").day(now - timedelta(days=20), "Europe/Stockholm")
    assert f"Flödet https://blogg.example/f: {LINE} {since}." in text
    assert "Postadressen saknas." in text
    assert "Du har inget lösenord än" in text


def test_when_all_is_well_nothing_is_asked(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        session.add(Worker(name="w", started_at=utcnow(), seen_at=utcnow()))
        editor = editors.add(session, "b@redaktion.example", Role.OWNER, now=NOW)
        editor.password = "$argon2id$"
    client = as_editor(app, Role.OWNER, email="b@redaktion.example")
    assert "Allt är som det ska." in client.get(HOME).text


def test_figures_are_counted_and_drawn(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    now = utcnow()
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        here.created_at = now - timedelta(days=300)
        for days in (200, 100, 50, 3, 2):
            make_subscription(session, here, confirmed_at=now - timedelta(days=days))
        make_subscription(session, here, status=Status.PENDING, confirmed_at=None)
        make_subscription(session, here, status=Status.LEFT, left_at=now)
    html = as_editor(app).get(HOME).text
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "Prenumeranter 5 +" in text
    assert "1 har inte bekräftat" in text
    assert re.search(r'<svg class="chart"[^>]*role="img" aria-label="Från ', html)
    assert html.count("<tr>") > 5, "the same figures as a table"


def test_the_line_ends_where_we_are() -> None:
    growth = [
        Growth((NOW - timedelta(days=30 * n)).date(), joined, left)
        for n, joined, left in ((2, 10, 0), (1, 5, 2), (0, 0, 1))
    ]
    line = charts.readers_over_time(growth, 12)
    assert line is not None
    assert [total for _, total in line.totals] == [10, 13, 12]
    assert line.path.count("L") == 2
    assert all(
        0 <= float(y) <= 100 for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line.path)
    )


@pytest.mark.parametrize("growth", [[], [Growth(NOW.date(), 3, 0)]])
def test_no_line_without_a_story(growth: list[Growth]) -> None:
    assert charts.readers_over_time(growth, 3) is None
    still = [Growth(NOW.date(), 0, 0), Growth(NOW.date(), 0, 0)]
    assert charts.readers_over_time(still, 3) is None
    level = charts.line([("1", 40), ("2", 40)])  # no change is not nothing
    assert level
    assert level.path == "M0 12 L300 12"


def test_nothing_that_was_stored_runs(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        here.title = here.publisher = here.tagline = here.about = SCRIPT
        here.postal_address = here.privacy = here.from_name = SCRIPT
        issue = make_issue(session, here, IssueState.SENDING, bounced=1)
        issue.subject = SCRIPT
        sent = make_issue(session, here, IssueState.SENT, sent=1)
        sent.subject = SCRIPT
        make_post(session, here, title=SCRIPT, excerpt=SCRIPT)
        feed = Feed(newsletter_id=here.id, url=f"https://a.example/{SCRIPT}")
        feed.failing_since, feed.error, feed.title = NOW, SCRIPT, SCRIPT
        session.add(feed)
        reader = make_subscription(session, here, source=SCRIPT)
        reader.subscriber.name = SCRIPT
        reader.subscriber.email = f"{SCRIPT}@exempel.example"
        reader_id = reader.id
        session.add(
            RelayHealth(
                name=SCRIPT,
                blocked_until=utcnow() + timedelta(hours=1),
                reason=json.dumps({"message": SCRIPT, "values": {}}),
            )
        )
        editor = editors.add(session, "b@redaktion.example", Role.EDITOR, here, now=NOW)
        editor.name = SCRIPT
    client = as_editor(app)
    for path in (
        HOME,
        "/editor/",
        "/editor/?all=1",
        "/editor/labbet/now",
        "/editor/labbet/posts/",
        "/editor/labbet/issues/",
        "/editor/labbet/subscribers/",
        f"/editor/labbet/subscribers/?q={SCRIPT}",
        f"/editor/labbet/subscribers/{reader_id}/",
        "/editor/labbet/settings/",
        "/editor/labbet/settings/people/",
    ):
        text = client.get(path, follow_redirects=True).text
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path
        assert 'onerror=alert(2)>"' not in text, path


def test_several_newsletters_are_listed_and_one_is_opened(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    client = as_editor(app)
    assert client.get("/editor/").location == HOME
    with database.transaction() as session:
        make_newsletter(session, "annat", title="Ett annat")
    text = client.get("/editor/").text
    assert "Ett annat" in text
    assert 'href="/editor/new"' in text


def test_an_owner_of_all_creates_a_newsletter(app: Flask, database: Database) -> None:
    client = as_editor(app)
    assert "Skapa det första nyhetsbrevet" in client.get("/editor/").text
    data = {
        "title": "Labbet",
        "slug": "labbet",
        "from_name": "Innovationslabbet",
        "from_email": "labbet@allmannyttan.example",
        "language": "sv",
        "postal_address": "Box 474",
        "csrf_token": csrf_token(client, "/editor/new"),
    }
    wrong = client.post("/editor/new", data={**data, "slug": "Inte så"})
    assert wrong.status_code == 400
    assert 'id="slug-error"' in wrong.text
    assert 'value="Innovationslabbet"' in wrong.text, "what was typed is kept"
    assert client.post("/editor/new", data=data).location == HOME
    again = client.post("/editor/new", data=data)
    assert again.status_code == 409
    assert client.get(HOME).status_code == 200


def test_others_create_nothing(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    client = as_editor(app, Role.OWNER, labbet)
    assert client.get("/editor/new").status_code == 403
    data = {"slug": "nytt", "csrf_token": csrf_token(client)}
    assert client.post("/editor/new", data=data).status_code == 403


def test_pages_speak_the_editors_language(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    client = as_editor(app)
    assert '<html lang="sv">' in client.get(HOME).text
    with database.transaction() as session:
        editor = editors.by_email(session, "owner@redaktion.example")
        assert editor is not None
        editor.language = "en"
    page = client.get(HOME).text
    assert '<html lang="en">' in page
    assert "To see to" in page
