"""The whole URL map: no GET changes anything, nothing else works without a token."""

import io
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import select

from newsletter import links, pictures
from newsletter.config import Settings
from newsletter.db import Base, Database, utcnow
from newsletter.digests import (
    design,
    drafts,
    letters,
    publish,
    saved_segments,
    versions,
)
from newsletter.models import (
    Author,
    CountedLink,
    Feed,
    FeedPush,
    LinkClicks,
    Logo,
    Message,
    Portrait,
    Role,
    Status,
)
from newsletter.posts import topics
from newsletter.subscribers import notes, sheets, uploads
from newsletter.web import security
from newsletter.web.clicks import EXTENSION, Counter
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor

# What a GET may write: the session's own bookkeeping lives in a signed cookie, so none.
SCANNERS = (
    "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; Trident/5.0)",
    "Barracuda Sentinel (EE)",
    "Mimecast URL Protection",
    "GoogleImageProxy",
    "Slackbot-LinkExpanding 1.0",
)


@pytest.fixture(name="world")
def one_of_everything(database: Database, settings: Settings) -> dict[str, Any]:
    """One of everything, and what the routes' variables stand for."""
    with database.transaction() as session:
        labbet = make_newsletter(session, count_clicks=True)
        feed = Feed(newsletter_id=labbet.id, url="https://blogg.example/feed/")
        session.add(feed)
        session.flush()
        labbet.ping_token = links.new_token()
        push = FeedPush(
            feed_id=feed.id,
            hub="https://hub.example/",
            topic=feed.url,
            token=links.new_token(),
            secret=links.new_token(),
            # A hub has been asked, and may come back at any moment.
            asked_at=utcnow(),
            next_attempt_at=utcnow(),
        )
        session.add(push)
        key = "0" * 32
        asa = Author(newsletter_id=labbet.id, name="Åsa Öberg", portrait_key=key)
        session.add(asa)
        session.flush()
        session.add(Portrait(author_id=asa.id, key=key, image=b"JPEG"))
        post = make_post(session, labbet, link="")
        reader = make_subscription(session, labbet, "anna@exempel.example")
        note = notes.add(session, reader, "Ringde", by="a@x.example", now=NOW)
        waiting = make_subscription(
            session, labbet, "bo@exempel.example", status=Status.PENDING
        )
        topic = topics.create(session, labbet, "Klimat")
        saved = saved_segments.save(
            session, labbet, None, "Engelska", "language:en", now=NOW
        )
        issue = drafts.draft(session, labbet, now=NOW)
        publish.send(session, settings, issue, now=NOW)
        issue.started_at = utcnow()  # clicks on links of old issues are not counted
        make_post(session, labbet)
        draft = drafts.draft(session, labbet, now=NOW)
        versions.note(session, draft, now=NOW)
        logo = Logo(
            newsletter_id=labbet.id,
            digest="ab",
            kind="png",
            width=9,
            height=9,
            data=b"",
        )
        session.add(logo)
        design.save(session, labbet, design.Draft(logo=logo), editor=None, now=NOW)
        out = io.BytesIO()
        Image.new("RGB", (2, 2)).save(out, "PNG")
        picture = pictures.store(session, labbet, out.getvalue(), now=NOW)
        run = uploads.begin(session, labbet, "x.csv", editor_id=None, now=utcnow())
        for sheet in sheets.read(io.BytesIO(b"email\na@example.org\n"), "x.csv"):
            uploads.add_piece(session, run.id, 0, sheet, list(sheet.records))
        uploads.received(session, run.id)
        return {
            "run_id": run.id,
            "logo_name": "ab.png",
            "picture": pictures.name_of(picture),
            "letter_id": letters.write(session, labbet, now=NOW).id,
            "slug": labbet.slug,
            "newsletter_id": labbet.id,
            "post_id": post.id,
            "author_id": post.author_id,
            "feed_id": feed.id,
            "push": push.token,
            "key": key,
            "spelling_id": 1,
            "ping": labbet.ping_token,
            "topic_id": topic.id,
            "editor_id": 1,
            "membership_id": 1,
            "session_id": 1,
            "number": 1,
            "issue_id": draft.id,
            "subscription_id": reader.id,
            "note_id": note.id,
            "segment_id": saved.id,
            "subscriber_id": reader.subscriber_id,
            "waiting": [waiting.id, waiting.round],
            "reader": [reader.id, reader.round],
            "leave": reader.leave_token,
            "preferences": reader.preferences_token,
            "view": session.scalar(select(Message.view_token)),
            "link": session.scalar(select(CountedLink.token)),
        }


def token_for(path: str, settings: Settings, world: dict[str, Any]) -> str:
    """Return a token that works at `path`."""
    if path.startswith("/unsubscribe/"):
        return str(world["leave"])
    for name in ("preferences", "websub", "ping"):
        if path.startswith(f"/{name}/"):
            return str(world["push" if name == "websub" else name])
    if path.startswith("/l/"):
        return str(world["link"])
    if "/view/" in path:
        return str(world["view"])
    purpose = next((p for p in links.PURPOSES if path.startswith(p.path)), None)
    if purpose is None:
        return links.new_token()
    about = world["waiting"] if purpose is links.CONFIRM else world["reader"]
    return links.sign(settings, purpose, about)


def addresses(
    app: Flask, settings: Settings, world: dict[str, Any], *, get: bool
) -> list[tuple[str, str, str]]:
    """Return (method, path, endpoint) of every route, its variables filled in."""
    found = []
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for name in re.findall(r"<(?:\w+:)?(\w+)>", path):
            value = world.get(name, "tokens.css")
            if name == "token":
                value = token_for(path, settings, world)
            path = re.sub(rf"<(?:\w+:)?{name}>", str(value), path)
        methods = (rule.methods or set()) - {"OPTIONS"}
        wanted = methods & {"GET", "HEAD"} if get else methods - {"GET", "HEAD"}
        found += [(method, path, rule.endpoint) for method in sorted(wanted)]
    return found


def contents(database: Database) -> dict[str, list[str]]:
    """Return every row of every table."""
    with database.reading() as session:
        return {
            table.name: sorted(repr(row) for row in session.execute(select(table)))
            for table in Base.metadata.sorted_tables
        }


def test_no_get_changes_the_database(
    app: Flask, settings: Settings, database: Database, world: dict[str, Any]
) -> None:
    owner = as_editor(app, Role.OWNER)
    before = contents(database)
    statuses = {}
    for method, path, _endpoint in addresses(app, settings, world, get=True):
        for client in (app.test_client(), owner):
            for agent in SCANNERS[:1] if client is owner else SCANNERS:
                answer = client.open(path, method=method, headers={"User-Agent": agent})
                statuses[method, path] = answer.status_code
                answer.close()
    # It was one who is logged in that looked, to the last page.
    assert status(owner, "/editor/account/") == 200
    assert {k: v for k, v in statuses.items() if v >= 500} == {}
    assert contents(database) == before
    # The one exception, and it is a sum: what counted links were opened for is written
    # later, in the background. Scanners are no readers.
    counter: Counter = app.extensions[EXTENSION]
    counter.write(everything=True)
    after = contents(database)
    assert {name for name in after if after[name] != before[name]} == {"link_clicks"}
    with database.reading() as session:
        sums = session.scalars(select(LinkClicks)).all()
    assert [(row.clicks, row.machines > 0) for row in sums] == [(0, True)]


def status(client: FlaskClient, path: str) -> int:
    answer = client.get(path)
    answer.close()
    sent_away = (answer.location or "").startswith("/editor/login")
    return 401 if sent_away else answer.status_code


def test_the_pages_themselves_are_there(
    app: Flask, settings: Settings, world: dict[str, Any]
) -> None:
    owner = as_editor(app, Role.OWNER)
    missing = [
        path
        for method, path, endpoint in addresses(app, settings, world, get=True)
        if method == "GET"
        and not endpoint.startswith("security.")
        and "token" not in endpoint
        and status(owner, path) in {401, 404}
    ]
    # Tokens that must be made for the occasion, and files that are not there.
    assert [p for p in missing if "/static/" not in p and not _made_up(p)] == []


def _made_up(path: str) -> bool:
    return path.startswith(
        ("/address/", "/data/", "/erase/", "/never/", "/editor/invite/", "/websub/")
    )


def test_nothing_but_get_works_without_its_token(
    app: Flask, settings: Settings, database: Database, world: dict[str, Any]
) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    owner = as_editor(app, Role.OWNER)
    before = contents(database)
    allowed = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "<token>" in rule.rule and not rule.rule.startswith("/editor/")
    } | security.OPEN_TO_ALL
    accepted = []
    for method, path, endpoint in addresses(app, settings, world, get=False):
        if endpoint in allowed:
            continue
        for headers in ({}, {"Origin": "https://evil.example"}):
            for body in ({}, {"csrf_token": "wrong"}):
                answer = owner.open(path, method=method, headers=headers, data=body)
                if answer.status_code not in {400, 403}:
                    accepted.append((method, path, answer.status_code))
    assert accepted == []
    assert contents(database) == before


def test_what_strangers_pages_may_post_to_is_known(app: Flask) -> None:
    assert {r.endpoint for r in app.url_map.iter_rules()} >= security.OPEN_TO_ALL
    rules = {
        r.rule for r in app.url_map.iter_rules() if r.endpoint in security.OPEN_TO_ALL
    }
    assert rules == {"/<slug>/subscribe", "/unsubscribe/<token>"}


def test_public_pages_set_no_cookie(
    app: Flask, client: FlaskClient, settings: Settings, world: dict[str, Any]
) -> None:
    for method, path, _endpoint in addresses(app, settings, world, get=True):
        if method == "GET" and not path.startswith("/editor/"):
            answer = client.get(path)
            assert "Set-Cookie" not in answer.headers, path
            answer.close()
