"""Editors at work, for tests: a logged-in browser, and the token its forms carry."""

import re
from urllib.parse import urlsplit

from flask import Flask
from flask.testing import FlaskClient

from newsletter import editors
from newsletter.db import EXTENSION, Database
from newsletter.models import Newsletter, Role
from newsletter.web.security import SETTINGS
from tests.factories import NOW


def as_editor(
    app: Flask,
    role: Role = Role.OWNER,
    newsletter: Newsletter | None = None,
    email: str = "",
    agent: str = "",
) -> FlaskClient:
    """Return a browser in which an editor has logged in by a one-time link.

    Without a newsletter the role is for all of them; `agent` is what the browser calls
    itself. Not to be called inside a transaction.
    """
    database: Database = app.extensions[EXTENSION]
    email = email or f"{role.value}@redaktion.example"
    with database.transaction() as session:
        url = editors.invite(
            session, app.extensions[SETTINGS], email, role, newsletter, now=NOW
        )
    client = app.test_client()
    if agent:
        client.environ_base["HTTP_USER_AGENT"] = agent
    path = urlsplit(url).path
    answer = client.post(path, data={"csrf_token": csrf_token(client, path)})
    assert answer.status_code == 302, answer.text
    return client


def csrf_token(client: FlaskClient, path: str = "/editor/account/") -> str:
    """Return the token that the forms of a page carry."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', answer.text)
    assert found, f"no form on {path}"
    return found[1]
