"""Posts from the command line: fetched, imported, listed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import FeedError, InkorgError, NotFound
from newsletter.models import PostState
from newsletter.posts import sources
from tests.conftest import SECRET
from tests.factories import make_newsletter, make_post
from tests.feed_server import Answer, FeedServer

Run = Callable[..., Result]
REAL = Path(__file__).parent.parent / "posts" / "feeds" / "innovationslabb.rss"


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as `main` does, errors and all."""
    monkeypatch.setenv("NEWSLETTER_SECRET_KEYS", SECRET)
    monkeypatch.setenv("NEWSLETTER_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("NEWSLETTER_INSTANCE_DIR", str(settings.instance_dir))
    monkeypatch.setenv("NEWSLETTER_FETCH_ALLOW", "127.0.0.1")

    def invoke(*args: str) -> Result:
        return CliRunner().invoke(cli, args)

    return invoke


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


@pytest.fixture
def labbet(database: Database) -> None:
    with database.transaction() as session:
        make_newsletter(session)


def said(result: Result) -> str:
    assert isinstance(result.exception, InkorgError), result.output
    return str(result.exception)


def test_the_real_feed_is_imported_and_importing_again_changes_nothing(
    run: Run, labbet: None
) -> None:
    assert run("posts", "import", "labbet", str(REAL)).output == (
        "5 new, 0 changed, 0 unchanged\n"
    )
    assert run("posts", "import", "labbet", str(REAL)).output == (
        "0 new, 0 changed, 5 unchanged\n"
    )
    report = json.loads(run("posts", "import", "labbet", str(REAL), "--json").output)
    assert (report["new"], report["unchanged"], report["refused"]) == (0, 5, [])
    rows = json.loads(run("posts", "list", "labbet", "--json").output)
    assert rows[1]["title"] == "En egen kväll för tjejer"
    assert rows[1]["author"] == "Martin Kesenci"
    assert rows[1]["byline"] == "stadsdelsutvecklare på Telge Bostäder"
    assert rows[1]["published_at"] == "2019-10-07T08:59:00+00:00"
    assert [row["position"] for row in rows] == [5, 4, 3, 2, 1]


def test_the_list_is_short_and_in_one_state_if_asked(
    run: Run, database: Database
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        for number in range(3):
            make_post(session, newsletter, title=f"Inlägg {number}")
        make_post(session, newsletter, title="Väntar", state=PostState.HELD)
    assert run("posts", "list", "labbet", "--limit", "2").output.count("\n") == 2
    held = run("posts", "list", "labbet", "--state", "held").output
    assert "Väntar" in held
    assert held.count("\n") == 1


def test_refused_entries_and_warnings_are_told(
    run: Run, labbet: None, tmp_path: Path
) -> None:
    file = tmp_path / "feed.xml"
    file.write_text(
        "<rss version='2.0'><channel><item><title>Ett</title></item><item></item>"
    )
    output = run("posts", "import", "labbet", str(file)).output
    assert output.startswith("1 new, 0 changed, 0 unchanged, 1 refused\n")
    assert "refused: (no title): It has neither a title nor a text." in output
    assert "The feed is damaged" in output


def test_a_file_that_is_no_feed_fails_with_the_reason(
    run: Run, labbet: None, tmp_path: Path
) -> None:
    page = tmp_path / "sida.html"
    page.write_text("<!doctype html><p>Hej")
    result = run("posts", "import", "labbet", str(page))
    assert result.exit_code == 1
    assert "This is a web page" in said(result)


def test_an_unknown_newsletter_is_named(run: Run, database: Database) -> None:
    for args in (["import", "nej", str(REAL)], ["fetch", "nej"], ["list", "nej"]):
        result = run("posts", *args)
        assert isinstance(result.exception, NotFound)
        assert "nej" in said(result)


@pytest.mark.parametrize(
    "args", [["import"], ["import", "labbet", "/finns/inte"], ["list"], ["nonsense"]]
)
def test_wrong_usage_exits_with_two(run: Run, args: list[str]) -> None:
    assert run("posts", *args).exit_code == 2


def test_feeds_are_fetched_and_a_failing_one_is_an_error(
    run: Run, database: Database, server: FeedServer
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        sources.add_feed(session, newsletter, server.url())
    result = run("posts", "fetch")
    assert result.exit_code == 0
    assert result.output == f"{server.url()}: 1 new, 0 changed, 0 unchanged\n"
    server.answers["/feed"] = Answer(b"", 404)
    result = run("posts", "fetch", "labbet")
    assert isinstance(result.exception, FeedError)
    assert "no feed at this address" in result.output
    assert said(result).startswith("1 of 1 feeds failed")
    rows = json.loads(run("posts", "fetch", "--json").stdout)
    assert rows[0]["error"] == "There is no feed at this address (404)."


def test_without_feeds_it_says_how_to_add_one(run: Run, labbet: None) -> None:
    assert "newsletter create --feed" in run("posts", "fetch").output
