"""Relays from the command line: given, switched, looked at, backed up and restored."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from newsletter.cli.backup import _find as program
from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.models import NewsletterRelay
from tests.conftest import SECRET
from tests.factories import make_newsletter
from tests.smtp_server import SmtpServer

Run = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer(login=("lab", "hemligt-ord")) as server:
        yield server


@pytest.fixture
def run(settings: Settings, database: Database) -> Run:
    with database.transaction() as session:
        make_newsletter(session)
    environ = {
        "NEWSLETTER_SECRET_KEYS": SECRET,
        "NEWSLETTER_DATABASE_URL": settings.database_url,
        "NEWSLETTER_INSTANCE_DIR": str(settings.instance_dir),
        "NEWSLETTER_SMTP_URL": "smtp://127.0.0.1:1",
        "NEWSLETTER_RELAY_ALLOW": "127.0.0.1",
    }

    def call(*words: object, typed: str = "", **more: str) -> Result:
        env = {**environ, **more}
        return CliRunner().invoke(cli, [str(w) for w in words], input=typed, env=env)

    return call


def give(run: Run, server: SmtpServer, *more: object, typed: str = "") -> Result:
    place = ("--host", "127.0.0.1", "--port", server.port, "--security", "plain")
    words = ("relay", "set", "labbet", *place, "--user", "lab", *more)
    return run(*words, typed=typed)


def test_a_relay_is_given_switched_off_and_forgotten(
    run: Run, database: Database, server: SmtpServer
) -> None:
    refused = give(run, server, typed="fel\n")
    assert isinstance(refused.exception, Conflict)
    assert "535 5.7.8 Wrong" in str(refused.exception)
    assert isinstance(give(run, server, "--keep-password").exception, InvalidInput)
    done = give(run, server, "--per-day", 500, "--spare", typed="hemligt-ord\n")
    assert done.output == f"labbet\tits own\t127.0.0.1:{server.port}\tplain\n"
    changed = give(run, server, "--warmup-first", 50, "--keep-password")
    assert changed.exit_code == 0
    listed = run("relay", "list", "--json").output
    assert "hemligt" not in listed
    own = json.loads(listed)[0]["own"]
    assert (own["per_day"], own["spare"], own["warmup_first"]) == (0, False, 50)
    assert own["warmup_from"]
    doctor = run("doctor", "labbet").output
    assert f"✓ labbet, relay 127.0.0.1:{server.port}, today: 50 of 50 mails" in doctor
    assert f"· labbet, relay 127.0.0.1:{server.port}: It answers" in doctor
    for word, said, listing in (
        ("off", "installation's\t127.0.0.1:1", "its own, off\t127"),
        ("on", "its own\t127", "its own\t127"),
    ):
        assert said in run("relay", word, "labbet").output
        assert listing in run("relay", "list").output
    assert "127.0.0.1:1\n" in run("relay", "forget", "labbet").output
    assert isinstance(run("relay", "off", "labbet").exception, NotFound)
    with database.reading() as session:
        assert session.scalars(select(NewsletterRelay)).all() == []


def test_a_backup_needs_the_secret_key_it_was_made_with(
    run: Run, database: Database, server: SmtpServer, tmp_path: Path
) -> None:
    if not database.is_sqlite and not program("pg_dump"):
        pytest.skip("pg_dump is missing")
    give(run, server, typed="hemligt-ord\n")
    file = tmp_path / "one.backup"
    assert run("backup", file).exit_code == 0
    assert b"hemligt-ord" not in file.read_bytes()
    same = run("restore", file, "--force")
    assert same.exit_code == 0
    assert "no mail of it leaves" not in same.output
    other = {"NEWSLETTER_SECRET_KEYS": "another key and nothing of the old one"}
    strange = run("restore", file, "--force", **other)
    assert strange.exit_code == 0
    assert "labbet: no mail of it leaves. The relay's password was" in strange.stderr
    assert "✗ labbet, relay 127.0.0.1" in run("doctor", "labbet", **other).output
