"""Who gets in where: role by route by method over the whole URL map."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select
from werkzeug.routing import Rule

from newsletter import editors
from newsletter.db import Database
from newsletter.digests import design, letters, saved_segments
from newsletter.digests.design import Draft
from newsletter.editors import RANK
from newsletter.models import (
    AuthorSpelling,
    Delivery,
    DeliveryState,
    Feed,
    ImportState,
    Issue,
    IssueState,
    Kind,
    Membership,
    Message,
    Newsletter,
    Role,
)
from newsletter.posts import topics
from newsletter.subscribers import notes, uploads
from newsletter.web.login import LOGIN, NEEDS, NOTHING
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor, csrf_token

OWN, FOREIGN = "labbet", "annat"
READ = {"GET", "HEAD", "OPTIONS"}
# What a stranger's request to a page that needs a login gets.
SENT_AWAY = {302, 401}


def rules(app: Flask) -> list[Rule]:
    """Return the workspace's part of the URL map."""
    return [r for r in app.url_map.iter_rules() if r.rule.startswith("/editor/")]


def of_newsletter(app: Flask) -> Iterator[tuple[Rule, str, Role]]:
    """Yield each rule, method and role needed of the pages about a newsletter."""
    for rule in rules(app):
        needed = getattr(app.view_functions[rule.endpoint], NEEDS, None)
        if "slug" in rule.arguments and isinstance(needed, Role):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method, needed


def test_a_page_that_is_not_there_leads_back_to_where_one_was(
    app: Flask, client: FlaskClient
) -> None:
    """A used invitation says to log in, so it leads there."""
    used = client.get("/editor/invite/used")
    assert used.status_code == 404
    assert 'href="/editor/">Logga in</a>' in used.text
    lost = as_editor(app).get("/editor/nowhere/")
    assert lost.status_code == 404
    assert 'href="/editor/">Till arbetsplatsen</a>' in lost.text
    assert 'href="/">Till startsidan</a>' in client.get("/nowhere/").text


@pytest.fixture
def ids(app: Flask, database: Database) -> dict[str, dict[str, Any]]:
    """Two newsletters, each with something of every kind."""
    found: dict[str, dict[str, Any]] = {}
    with database.transaction() as session:
        for slug in (OWN, FOREIGN):
            newsletter = make_newsletter(session, slug)
            post = make_post(session, newsletter)
            issue = Issue(newsletter_id=newsletter.id, state=IssueState.DRAFT)
            feed = Feed(newsletter_id=newsletter.id, url=f"https://{slug}.example/f")
            topic = topics.create(session, newsletter, "Klimat")
            letter = letters.write(session, newsletter, now=NOW)
            spelling = AuthorSpelling(
                newsletter_id=newsletter.id, author_id=post.author_id, name="B. Ek"
            )
            session.add_all([issue, feed, spelling])
            reader = make_subscription(session, newsletter)
            session.flush()
            for _ in range(1 + (slug == FOREIGN)):
                design.save(session, newsletter, Draft(), editor=None, now=NOW)
            run = uploads.begin(session, newsletter, "x.csv", editor_id=None, now=NOW)
            run.state = ImportState.READY
            member = editors.add(
                session, f"bo@{slug}.example", Role.EDITOR, newsletter, now=NOW
            )
            session.flush()
            note = notes.add(session, reader, "Ringde", by="a@x.example", now=NOW)
            saved = saved_segments.save(
                session, newsletter, None, "Engelska", "language:en", now=NOW
            )
            found[slug] = {
                "note_id": note.id,
                "segment_id": saved.id,
                "run_id": run.id,
                "slug": slug,
                "newsletter": newsletter,
                "post_id": post.id,
                "author_id": post.author_id,
                "spelling_id": spelling.id,
                "issue_id": issue.id,
                "letter_id": letter.id,
                "topic_id": topic.id,
                "feed_id": feed.id,
                "subscription_id": reader.id,
                "membership_id": member.roles[0].id,
                "session_id": 0,
                "number": newsletter.last_design,
            }
    return found


def url(rule: Rule, values: dict[str, Any]) -> str:
    built = rule.rule
    for name in rule.arguments:
        converter = "int:" if f"<int:{name}>" in built else ""
        built = built.replace(f"<{converter}{name}>", str(values[name]))
    return built


def ask(client: FlaskClient, method: str, path: str, token: str) -> int:
    data = None if method in READ else {"csrf_token": token}
    return client.open(path, method=method, data=data).status_code


def test_every_view_says_what_it_needs(app: Flask) -> None:
    missing = [
        rule.endpoint
        for rule in rules(app)
        if getattr(app.view_functions[rule.endpoint], NEEDS, None) is None
    ]
    assert missing == []


def test_a_page_about_a_newsletter_needs_a_role(app: Flask) -> None:
    for rule in rules(app):
        needed = getattr(app.view_functions[rule.endpoint], NEEDS)
        assert isinstance(needed, Role) == ("slug" in rule.arguments), rule


def test_what_writes_needs_more_than_a_viewer(app: Flask) -> None:
    for rule, method, needed in of_newsletter(app):
        if method not in READ:
            assert needed is not Role.VIEWER, rule


def test_what_only_owners_do_is_known(app: Flask) -> None:
    """Settings, people, and what takes every address along or somebody away."""
    for rule, method, needed in of_newsletter(app):
        is_theirs = any(
            part in f"{rule.rule}/"
            for part in ("/settings/", "/subscribers/export/", "/erase/")
        )
        assert (needed is Role.OWNER) == is_theirs, (rule, method, needed)


def test_only_doors_are_open_to_strangers(app: Flask) -> None:
    found = {
        rule.rule
        for rule in rules(app)
        if getattr(app.view_functions[rule.endpoint], NEEDS) == NOTHING
    }
    inside = ("/editor/login", "/editor/logout", "/editor/invite/")
    assert all(rule.startswith(inside) for rule in found), found


def test_a_stranger_gets_nothing(app: Flask, ids: dict[str, dict[str, Any]]) -> None:
    client = app.test_client()
    token = csrf_token(client, "/editor/login")
    for rule in rules(app):
        if getattr(app.view_functions[rule.endpoint], NEEDS) == NOTHING:
            continue
        path = url(rule, {**ids[OWN], "token": "x"})
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            status = ask(client, method, path, token)
            assert status in SENT_AWAY, f"{method} {path}: {status}"


@pytest.mark.parametrize("role", list(Role))
def test_a_role_does_what_it_may_and_no_more(
    app: Flask, ids: dict[str, dict[str, Any]], role: Role
) -> None:
    client = as_editor(app, role, ids[OWN]["newsletter"])
    token = csrf_token(client)
    for rule, method, needed in of_newsletter(app):
        allowed = RANK[role] >= RANK[needed]
        if allowed and method not in READ:
            continue  # what they do is tested where it is done
        path = url(rule, ids[OWN])
        status = ask(client, method, path, token)
        if allowed:
            assert status not in {401, 403}, f"{method} {path}: {status}"
        else:
            assert status == 403, f"{method} {path}: {status}"


def test_another_newsletter_is_not_there(
    app: Flask, ids: dict[str, dict[str, Any]]
) -> None:
    client = as_editor(app, Role.OWNER, ids[OWN]["newsletter"])
    token = csrf_token(client)
    for rule, method, _ in of_newsletter(app):
        path = url(rule, ids[FOREIGN])
        status = ask(client, method, path, token)
        assert status == 404, f"{method} {path}: {status}"


def test_another_newsletters_things_are_not_in_ours(
    app: Flask, ids: dict[str, dict[str, Any]]
) -> None:
    client = as_editor(app, Role.OWNER, ids[OWN]["newsletter"])
    token = csrf_token(client)
    for rule, method, _ in of_newsletter(app):
        if rule.arguments - {"slug"}:
            path = url(rule, {**ids[FOREIGN], "slug": OWN})
            status = ask(client, method, path, token)
            assert status == 404, f"{method} {path}: {status}"


@pytest.mark.parametrize(
    "path", ["/editor//labbet/", "/editor/labbet//", "//editor/", "/EDITOR/labbet/"]
)
def test_another_spelling_is_no_other_decision(
    app: Flask, ids: dict[str, dict[str, Any]], path: str
) -> None:
    stranger = app.test_client()
    answer = stranger.get("/", environ_overrides={"PATH_INFO": path})
    assert answer.status_code in {302, 308, 404}
    assert "Innovationslabbet" not in answer.text


def test_a_strange_host_gets_no_page(app: Flask) -> None:
    answer = app.test_client().get("/editor/", headers={"Host": "evil.example"})
    assert answer.status_code == 400


def test_a_viewer_sees_no_address(
    app: Flask, database: Database, ids: dict[str, dict[str, Any]]
) -> None:
    with database.transaction() as session:  # an issue that did not reach its reader
        issue = session.get_one(Issue, ids[OWN]["issue_id"])
        issue.state, issue.number, issue.total = IssueState.SENT, 1, 1
        issue.started_at = NOW
        message = Message(
            kind=Kind.DIGEST,
            newsletter_id=issue.newsletter_id,
            issue_id=issue.id,
            language="sv",
            subject="Fyra nya inlägg",
            sender="labbet@allmannyttan.example",
            nonce="n",
            frozen=b"",
        )
        session.add(message)
        session.flush()
        session.add(
            Delivery(
                message_id=message.id,
                subscription_id=ids[OWN]["subscription_id"],
                occasion=f"issue:{issue.id}",
                address="nadd.inte@exempel.example",
                state=DeliveryState.BOUNCED,
                reply="550 5.1.1 <nadd.inte@exempel.example> unknown",
            )
        )
    client = as_editor(app, Role.VIEWER, ids[OWN]["newsletter"])
    for rule, method, needed in of_newsletter(app):
        if method == "GET" and needed is Role.VIEWER:
            page = client.get(url(rule, ids[OWN])).text
            assert "@exempel.example" not in page, rule


def test_every_write_needs_its_token(
    app: Flask, ids: dict[str, dict[str, Any]]
) -> None:
    client = as_editor(app, Role.OWNER)
    token = csrf_token(client)
    other = csrf_token(as_editor(app, Role.OWNER, email="b@redaktion.example"))
    for rule in rules(app):
        for method in sorted((rule.methods or set()) - READ):
            path = url(rule, {**ids[OWN], "token": "x"})
            assert client.open(path, method=method).status_code == 400, path
            assert ask(client, method, path, "wrong") == 400, path
            assert ask(client, method, path, other) == 400, path
            status = client.open(
                path,
                method=method,
                data={"csrf_token": token},
                headers={"Origin": "https://evil.example"},
            ).status_code
            assert status == 403, path


def test_a_stranger_is_sent_to_log_in_and_back(
    app: Flask, ids: dict[str, dict[str, Any]]
) -> None:
    answer = app.test_client().get("/editor/labbet/?a=b")
    assert answer.status_code == 302
    assert answer.location == "/editor/login?next=%2Feditor%2Flabbet%2F%3Fa%3Db"


def test_what_changes_about_a_person_holds_at_once_and_everywhere(
    app: Flask, database: Database, ids: dict[str, dict[str, Any]]
) -> None:
    """Asked for a second factor, made a viewer, removed: in the same open session."""
    client = as_editor(app, Role.OWNER, ids[OWN]["newsletter"])
    token = csrf_token(client)

    def all_answer(get: int, other: int, at_least: Role = Role.VIEWER) -> None:
        for rule, method, needed in of_newsletter(app):
            if RANK[needed] >= RANK[at_least]:
                path = url(rule, ids[OWN])
                status = ask(client, method, path, token)
                assert status == (get if method in READ else other), (method, path)

    with database.transaction() as session:
        labbet = session.get_one(Newsletter, ids[OWN]["newsletter"].id)
        labbet.needs_factor = True
    all_answer(302, 403)
    assert client.get("/editor/labbet/").location == "/editor/account/second-factor"
    with database.transaction() as session:
        session.get_one(Newsletter, labbet.id).needs_factor = False
        for one in session.scalars(select(Membership)):
            one.name = Role.VIEWER
    assert client.get("/editor/labbet/").status_code == 200
    all_answer(403, 403, at_least=Role.EDITOR)
    with database.transaction() as session:
        session.execute(delete(Membership))
    all_answer(404, 404)


def test_pages_without_a_newsletter_need_a_login(app: Flask) -> None:
    needed = {
        getattr(app.view_functions[rule.endpoint], NEEDS)
        for rule in rules(app)
        if rule.rule in {"/editor/", "/editor/new", "/editor/account/"}
    }
    assert needed == {LOGIN}
