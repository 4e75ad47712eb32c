"""The whole URL map: no GET changes anything, nothing else works without a token."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Base, Database
from newsletter.models import LinkClicks, Role
from newsletter.web import security
from newsletter.web.clicks import EXTENSION, Counter
from tests import world as everything
from tests.web.at_work import as_editor

# Not for who is logged in already, or for hubs that say what they were asked.
NOT_THERE = ("calls.confirm", "invitations.show", "security.")
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
    """What the routes' variables stand for."""
    with database.transaction() as session:
        return everything.make(session, settings)


def addresses(
    app: Flask, settings: Settings, world: dict[str, Any], *, get: bool
) -> list[tuple[str, str, str]]:
    """Return (method, path, endpoint) of every route, its variables filled in."""
    found = []
    for rule in app.url_map.iter_rules():
        token = everything.token_for(rule.rule, settings, world)
        path = everything.fill(rule.rule, {**world, "token": token})
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
    """And every page is there, and those for readers set no cookie."""
    owner = as_editor(app, Role.OWNER, agent=SCANNERS[0])
    before = contents(database)
    broken, missing, cookies = [], [], []
    for method, path, endpoint in addresses(app, settings, world, get=True):
        for client in (app.test_client(), owner):
            for agent in SCANNERS[:1] if client is owner else SCANNERS:
                answer = client.open(path, method=method, headers={"User-Agent": agent})
                answer.close()
                if answer.status_code >= 500:
                    broken.append(path)
                if "Set-Cookie" in answer.headers and not path.startswith("/editor/"):
                    cookies.append(path)
        sent_away = (answer.location or "").startswith("/editor/login")
        is_there = answer.status_code != 404 and not sent_away
        if not is_there and not endpoint.startswith(NOT_THERE):
            missing.append(path)
    # It was one who is logged in that looked, to the last page.
    assert owner.get("/editor/account/").status_code == 200
    assert (broken, missing, cookies) == ([], [], [])
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
