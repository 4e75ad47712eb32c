"""Who gets in where: role by route by method over the whole URL map."""

from flask import Flask

from newsletter.db import Database
from newsletter.models import Role
from tests.factories import make_newsletter
from tests.web.at_work import as_editor


def test_a_stranger_is_sent_to_log_in_and_back(app: Flask, database: Database) -> None:
    with database.transaction() as session:
        make_newsletter(session, "labbet")
    answer = app.test_client().get("/editor/labbet/?a=b")
    assert answer.status_code == 302
    assert answer.location == "/editor/login?next=%2Feditor%2Flabbet%2F%3Fa%3Db"


def test_an_editor_gets_in_and_not_into_others(app: Flask, database: Database) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session, "labbet")
        make_newsletter(session, "annat")
    client = as_editor(app, Role.VIEWER, labbet)
    assert client.get("/editor/labbet/").status_code == 200
    assert client.get("/editor/annat/").status_code == 404
    assert client.get("/editor/finns-inte/").status_code == 404
