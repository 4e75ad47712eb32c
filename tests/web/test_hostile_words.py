"""Script typed into every field of every form comes back as text, on every page."""

import re
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Message, Role
from tests.test_routes import addresses, one_of_everything  # noqa: F401 - a fixture
from tests.web.at_work import as_editor
from tests.web.hostile import MARKDOWN, WORDS, Form, Forms, acting

IN_MARKDOWN = {"opening", "markdown", "privacy"}
TYPES = {"text/html", "application/atom+xml", "application/xml", "image/svg+xml"}


def text_of(client: FlaskClient, path: str) -> str:
    answer = client.get(path)
    text = answer.text if answer.mimetype in TYPES else ""
    answer.close()
    return text


def test_what_is_typed_anywhere_comes_back_as_text(
    app: Flask, settings: Settings, database: Database, world: dict[str, Any]
) -> None:
    owner = as_editor(app, Role.OWNER)
    pages = [
        path
        for method, path, endpoint in addresses(app, settings, world, get=True)
        if method == "GET" and endpoint != "static"
    ]
    forms: dict[tuple[str, frozenset[str]], Form] = {}
    for path in pages:
        for form in Forms(path, text_of(owner, path)).found:
            # A new password is shown nowhere, and would end the session.
            left_out = form.method == "DIALOG" or "new_password" in form.typed
            if form.typed and not left_out:
                alike = re.sub(r"\d+", "1", form.action)
                forms.setdefault((alike, frozenset(form.typed)), form)
    found: list[tuple[str, Any]] = []
    stored: set[str] = set()

    def type_in(form: Form, **typed: str) -> int:
        values = form.filled(**typed)
        if form.method == "GET":
            answer = owner.get(form.action, query_string=values)
        else:
            answer = owner.post(form.action, data=values)
        if answer.status_code >= 500 or acting(answer.text):
            found.append((f"{form.action} {list(typed)}", acting(answer.text)))
        answer.close()
        return answer.status_code

    for form in forms.values():
        hostile = {n: MARKDOWN if n in IN_MARKDOWN else WORDS for n in form.typed}
        if type_in(form, **hostile) in {302, 303}:
            stored |= set(hostile)
        else:
            for name, words in hostile.items():
                if type_in(form, **{name: words}) in {302, 303}:
                    stored.add(name)
        # What no database takes, and more than any field does.
        type_in(form, **dict.fromkeys(form.typed, "\0"))
        type_in(form, **dict.fromkeys(form.typed, "å" * 3_000))
    assert found == []
    assert owner.get("/lab%00bet/").status_code == 404
    for path in pages:
        client = owner if path.startswith("/editor/") else app.test_client()
        found.append((path, acting(text_of(client, path))))
    with database.reading() as session:
        mails = session.scalars(select(Message.html)).all()
    found += [("a mail", acting(html)) for html in mails]
    assert [one for one in found if one[1]] == []
    assert {"title", "about", "subject", "display_name", "consent", "note"} <= stored
    assert text_of(owner, "/editor/account/")  # still logged in, as on each page
