"""`editor invite`, `editor list`, `editor forget-second-factor`."""

import json
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from newsletter import editors
from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Role
from tests.conftest import SECRET
from tests.factories import NOW, make_newsletter

EMAIL = "asa@redaktion.example"


@pytest.fixture
def run(settings: Settings, app: Flask) -> "Run":
    return Run(settings)


class Run:
    """Call a command on this test's database."""

    def __init__(self, settings: Settings) -> None:
        self.environment = {
            "NEWSLETTER_SECRET_KEYS": SECRET,
            "NEWSLETTER_DATABASE_URL": settings.database_url,
            "NEWSLETTER_BASE_URL": settings.base_url,
            "NEWSLETTER_INSTANCE_DIR": str(settings.instance_dir),
        }

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(cli, list(words), env=self.environment)


def test_invite_prints_a_link_that_logs_in_once(run: Run, app: Flask) -> None:
    result = run("editor", "invite", EMAIL, "--role", "owner")
    assert result.exit_code == 0, result.output
    link = result.output.strip()
    assert link.startswith("http://localhost/editor/invite/")
    client = app.test_client()
    path = urlsplit(link).path
    assert client.get(path).status_code == 200
    assert client.get(path).status_code == 200, "looking uses nothing up"


def test_invite_for_one_newsletter(run: Run, database: Database) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session, "labbet")
        annat = make_newsletter(session, "annat")
    args = ("--role", "viewer", "--newsletter", "labbet")
    assert run("editor", "invite", EMAIL, *args).exit_code == 0
    with database.reading() as session:
        editor = editors.by_email(session, EMAIL)
        assert editor is not None
        assert editors.role_of(editor, labbet) is Role.VIEWER
        assert editors.role_of(editor, annat) is None


def test_invite_says_what_is_wrong(run: Run) -> None:
    wrong = run("editor", "invite", "asa@gmial.com", "--role", "owner")
    assert "asa@gmail.com" in str(wrong.exception)
    missing = run(
        "editor", "invite", EMAIL, "--role", "owner", "--newsletter", "finns-inte"
    )
    assert "finns-inte" in str(missing.exception)
    assert run("editor", "invite", EMAIL, "--role", "boss").exit_code == 2
    assert run("editor", "invite", EMAIL).exit_code == 2


def test_list_names_everyone(run: Run, database: Database) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session, "labbet")
        editors.add(session, EMAIL, Role.OWNER, now=NOW)
        editors.add(session, "b@redaktion.example", Role.EDITOR, labbet, now=NOW)
    rows = json.loads(run("editor", "list", "--json").output)
    assert rows == [
        {
            "email": EMAIL,
            "name": "",
            "role": "owner",
            "newsletter": None,
            "has_logged_in": False,
        },
        {
            "email": "b@redaktion.example",
            "name": "",
            "role": "editor",
            "newsletter": "labbet",
            "has_logged_in": False,
        },
    ]
    assert run("editor", "list").output.splitlines() == [
        f"{EMAIL}\towner\t(all)",
        "b@redaktion.example\teditor\tlabbet",
    ]


def test_a_lost_phone_is_no_lost_account(run: Run, database: Database) -> None:
    with database.transaction() as session:
        editor = editors.add(session, EMAIL, Role.OWNER, now=NOW)
        editor.tf_primary_method = "authenticator"
    assert run("editor", "forget-second-factor", EMAIL.upper()).exit_code == 0
    with database.reading() as session:
        found = editors.by_email(session, EMAIL)
        assert found is not None
        assert found.tf_primary_method is None
    unknown = run("editor", "forget-second-factor", "okand@b.example")
    assert "okand@b.example" in str(unknown.exception)


@pytest.mark.parametrize("command", ["invite", "list", "forget-second-factor"])
def test_help_shows_an_example(run: Run, command: str) -> None:
    assert "python -m newsletter editor" in run("editor", command, "--help").output
