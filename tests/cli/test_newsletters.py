"""Newsletters from the command line: created with everything, listed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import Conflict, InvalidInput
from newsletter.models import Feed, Newsletter
from tests.conftest import SECRET
from tests.factories import NOW

Run = Callable[..., Result]
NEEDED = [
    *("--title", "Innovationslabbet", "--from-name", "Labbet"),
    *("--from-email", "labbet@blogg.example"),
]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEWSLETTER_SECRET_KEYS", SECRET)
    monkeypatch.setenv("NEWSLETTER_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("NEWSLETTER_BASE_URL", "https://brev.example")

    def invoke(*args: str) -> Result:
        return CliRunner().invoke(cli, ["newsletter", *args])

    return invoke


def only(database: Database) -> Newsletter:
    with database.reading() as session:
        return session.scalars(select(Newsletter)).one()


def test_a_newsletter_is_created_with_everything(
    run: Run, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "feed.xml"
    file.write_text("<rss/>")
    result = run(
        *("create", "labbet", *NEEDED, "--language", "sv"),
        *("--feed", "https://blogg.example/feed/", "--feed", str(file)),
        *("--postal-address", "Box 474\n101 29 Stockholm", "--phone", "08-406 55 00"),
        *("--publisher", "Sveriges Allmännytta", "--website", "https://blogg.example/"),
        *("--social", "Instagram=https://instagram.example/labbet"),
        *("--timezone", "Europe/Helsinki", "--accent", "#123ABC"),
        *("--rhythm", "weekly:fri@09:00", "--rhythm", "each"),
        *("--posts-on-page", "5", "--no-public-archive", "--reply-to", "a@b.example"),
    )
    assert result.exit_code == 0, result.output
    assert result.output == "https://brev.example/labbet/\n"
    made = only(database)
    assert made.postal_address == "Box 474\n101 29 Stockholm"
    assert made.social == [
        {"name": "Instagram", "url": "https://instagram.example/labbet"}
    ]
    assert (made.timezone, made.accent) == ("Europe/Helsinki", "#123abc")
    assert made.rhythms == ["weekly:fri@09:00", "each"]
    assert made.default_rhythm == "weekly:fri@09:00"
    assert (made.posts_on_page, made.public_archive) == (5, False)
    assert made.languages == ["sv", "en"]
    with database.reading() as session:
        urls = set(session.scalars(select(Feed.url)))
    assert urls == {"https://blogg.example/feed/", str(file)}


def test_when_digests_go_out_is_changed_and_the_rest_stays(
    run: Run, database: Database
) -> None:
    run("create", "labbet", *NEEDED, "--mode", "held", "--at-least", "2")
    result = run(
        *("set", "labbet", "--mode", "automatic", "--rhythm", "daily@07:00"),
        *("--rhythm", "each", "--quiet-day", "sun", "--quiet-day", "sat"),
        *("--holiday", "2026-12-24", "--holiday-country", "se", "--by-language"),
        *("--wait-days", "9", "--at-most", "0"),
    )
    assert result.exit_code == 0, result.output
    assert result.output == "labbet: automatic, daily@07:00, each\n"
    found = only(database)
    assert (found.mode, found.at_least, found.wait_days) == ("automatic", 2, 9)
    assert found.default_rhythm == "daily@07:00"
    assert (found.quiet_days, found.by_language) == (["sat", "sun"], True)
    assert (found.holidays, found.holiday_country) == (["2026-12-24"], "SE")
    for option, on in (("--count-clicks", True), ("--no-count-clicks", False)):
        assert run("set", "labbet", option).exit_code == 0
        assert only(database).count_clicks is on
    assert run("set", "labbet").exit_code == 2
    refused = run("set", "labbet", "--rhythm", "sometimes")
    assert isinstance(refused.exception, InvalidInput)


def test_a_person_lets_digests_go_after_a_restored_backup(
    run: Run, database: Database
) -> None:
    run("create", "labbet", *NEEDED, "--mode", "automatic")
    with database.transaction() as session:
        session.scalars(select(Newsletter)).one().halted_at = NOW
    assert run("go-ahead", "labbet").exit_code == 0
    assert only(database).halted_at is None


def test_the_least_is_a_title_and_a_sender(run: Run, database: Database) -> None:
    result = run("create", "labbet", *NEEDED)
    assert result.exit_code == 0
    assert "postal address" in result.stderr
    assert only(database).language == "sv"


def test_the_list_names_newsletters_and_their_feeds(run: Run) -> None:
    run("create", "labbet", *NEEDED, "--feed", "https://blogg.example/feed/")
    assert run("list").output == (
        "labbet\tInnovationslabbet\tsv\thttps://brev.example/labbet/\n"
    )
    (row,) = json.loads(run("list", "--json").output)
    assert row["from_email"] == "labbet@blogg.example"
    assert row["feeds"] == [
        {
            "url": "https://blogg.example/feed/",
            "checked_at": None,
            "failing_since": None,
            "error": "",
        }
    ]


@pytest.mark.parametrize(
    "extra",
    [
        *(["--from-email", "nej"], ["--rhythm", "sometimes"], ["--title", " "]),
        *(["--feed", "/finns/inte.xml"], ["--feed", "ftp://x/"]),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_created(
    run: Run, database: Database, extra: list[str]
) -> None:
    result = run("create", "labbet", *NEEDED, *extra)
    assert result.exit_code == 1
    assert isinstance(result.exception, InvalidInput)
    with database.reading() as session:
        assert session.scalars(select(Newsletter)).all() == []


@pytest.mark.parametrize("slug", ["editor", "static", "Labbet", "a b", "-", "x" * 64])
def test_a_slug_that_cannot_be_is_refused(
    run: Run, database: Database, slug: str
) -> None:
    result = run("create", *NEEDED, "--", slug)
    assert isinstance(result.exception, InvalidInput)


def test_a_slug_is_taken_once(run: Run, database: Database) -> None:
    run("create", "labbet", *NEEDED)
    assert isinstance(run("create", "labbet", *NEEDED).exception, Conflict)


@pytest.mark.parametrize(
    "args", [["create"], ["create", "x"], ["create", "x", *NEEDED, "--social", "hej"]]
)
def test_wrong_usage_exits_with_two(run: Run, args: list[str]) -> None:
    assert run(*args).exit_code == 2
