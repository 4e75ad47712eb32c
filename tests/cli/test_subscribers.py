"""The commands about readers, as a shell sees them."""

import csv
import io
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from newsletter import newsletters
from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import InvalidInput, NotFound
from newsletter.models import (
    AuditEntry,
    Consent,
    ImportChunk,
    ImportKey,
    ImportRun,
    Issue,
    IssueState,
    Kind,
    Status,
    Subscriber,
    Subscription,
)
from newsletter.subscribers import leaving, suppression
from newsletter.subscribers.addresses import address_hash
from newsletter.subscribers.consent import Origin
from tests.conftest import SECRET
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.subscribers.letterbox import mails

Run = Callable[..., Result]


@pytest.fixture
def run(
    database: Database,
    database_url: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run a command on this test's database, which has one newsletter."""
    for name in [n for n in os.environ if n.startswith("NEWSLETTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEWSLETTER_SECRET_KEYS", SECRET)
    monkeypatch.setenv("NEWSLETTER_DATABASE_URL", database_url)
    monkeypatch.setenv("NEWSLETTER_BASE_URL", "http://localhost")
    monkeypatch.setenv("NEWSLETTER_INSTANCE_DIR", str(settings.instance_dir))
    with database.transaction() as session:
        make_newsletter(session)

    def call(*words: str) -> Result:
        return CliRunner().invoke(cli, ["subscribers", *words])

    return call


def write(tmp_path: Path, text: str, encoding: str = "utf-8") -> str:
    path = tmp_path / "readers.csv"
    path.write_bytes(text.encode(encoding))
    return str(path)


def statuses(database: Database) -> dict[str, Status]:
    with database.reading() as session:
        return {
            s.subscriber.email: s.status for s in session.scalars(select(Subscription))
        }


def test_importing_adds_readers_and_reports_the_rest(
    run: Run, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.transaction() as session:
        hashed = address_hash(settings, "erased@example.org")
        suppression.suppress(session, hashed, reason="erased", now=NOW)
    text = (
        "Namn;E-post\n"
        "Åsa;asa@example.org\n"
        "Bo;bo@exämple.se\n"
        ";\n"
        "Carin;carin(a)example.org\n"
        "Dan;dan@gmial.com\n"
        "Eva;erased@example.org\n"
        "Åsa igen;ASA@example.org\n"
    )
    file = write(tmp_path, text)
    result = run("import", "labbet", file, "--status", "active", "--consent", "mässan")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "Added 2, already there 0, twice in the file 1, had left 0, not to be mailed 1,"
        " left or bounced elsewhere 0, refused 2.\n"
    )
    assert result.stderr.splitlines() == [
        "Line 5: carin(a)example.org: There is no @ in the address. It should look like"
        " anna@example.org.",
        "Line 6: dan@gmial.com: Did you mean dan@gmail.com?",
    ]
    assert statuses(database) == {
        "asa@example.org": Status.ACTIVE,
        "bo@xn--exmple-cua.se": Status.ACTIVE,
    }
    with database.reading() as session:
        assert session.scalars(select(Subscriber.name)).first() == "Åsa"
        consent = session.scalars(select(Consent)).first()
        assert consent
        assert (consent.event, consent.detail["source"]) == ("imported", "mässan")
        assert mails(session) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_files_are_read_as_spreadsheets_write_them(
    run: Run, database: Database, tmp_path: Path, encoding: str, delimiter: str
) -> None:
    rows = f"name{delimiter}email\r\nÅsa Öberg{delimiter}asa@example.org\r\n"
    file = write(tmp_path, rows, encoding)
    result = run("import", "labbet", file, "--consent", "blanketter", "--json")
    assert json.loads(result.stdout)["added"] == 1
    with database.reading() as session:
        assert session.scalars(select(Subscriber.name)).one() == "Åsa Öberg"
    assert statuses(database) == {"asa@example.org": Status.ACTIVE}


def test_without_a_word_on_their_consent_readers_are_asked(
    run: Run, database: Database, tmp_path: Path
) -> None:
    file = write(tmp_path, "email\nasa@example.org\nbo@example.org\n")
    assert run("import", "labbet", file).exit_code == 0
    assert set(statuses(database).values()) == {Status.PENDING}
    with database.reading() as session:
        assert len(mails(session, Kind.CONFIRM)) == 2
    run("import", "labbet", file)
    with database.reading() as session:
        assert len(mails(session, Kind.CONFIRM)) == 2


def test_who_left_is_not_brought_back(
    run: Run, database: Database, tmp_path: Path
) -> None:
    with database.transaction() as session:
        reader = make_subscription(
            session, make_newsletter(session, "annat"), "asa@example.org"
        )
        leaving.end(session, reader, origin=Origin(), how="page", now=NOW)
    file = write(
        tmp_path, "email,status\nasa@example.org,\nbo@example.org,unsubscribed\n"
    )
    result = run("import", "annat", file, "--status", "active", "--json")
    report = json.loads(result.stdout)
    assert (report["added"], report["left"], report["stopped"]) == (0, 1, 1)
    assert statuses(database) == {"asa@example.org": Status.LEFT}


def test_a_trial_says_what_an_import_would_do_and_changes_nothing(
    run: Run, database: Database, tmp_path: Path
) -> None:
    text = "email\nanna@example.org\nAnna@example.org\n=bo\neva@example.org\n"
    file, report = write(tmp_path, text), tmp_path / "odd.csv"
    tried = run(
        "import", "labbet", file, "--dry-run", "--report", str(report), "--json"
    )
    assert tried.exit_code == 0, tried.output
    assert statuses(database) == {}
    with database.reading() as session:
        for model in (ImportRun, ImportChunk, ImportKey):
            assert session.scalars(select(model)).all() == []
    found = list(csv.DictReader(io.StringIO(report.read_text("utf-8"))))
    assert [(one["line"], one["outcome"]) for one in found] == [
        ("3", "duplicate"),
        ("4", "refused"),
    ]
    assert found[1]["email"] == "'=bo"  # no formula
    done = run("import", "labbet", file, "--consent", "mässan", "--json")
    assert json.loads(tried.output) == json.loads(done.output)
    said = run("import", "labbet", file, "--dry-run")
    assert "already there 2" in said.output
    assert "nothing has been changed" in said.output
    assert run("import", "labbet", file, "--report", str(report)).exit_code == 2
    empty = run("import", "labbet", write(tmp_path, "email\n"), "--dry-run")
    assert empty.exit_code == 1
    with database.reading() as session:
        assert session.scalars(select(ImportRun)).all() == []


def test_a_long_file_is_imported_in_batches(
    run: Run, database: Database, tmp_path: Path
) -> None:
    lines = "".join(f"reader{n}@example.org\n" for n in range(1203))
    file = write(tmp_path, "email\n" + lines)
    result = run("import", "labbet", file, "--status", "active", "--json")
    assert json.loads(result.stdout)["added"] == 1203
    found = statuses(database)
    assert len(found) == 1203
    assert set(found.values()) == {Status.ACTIVE}


def test_a_line_that_cannot_be_read_keeps_nobody_out_who_stands_before(
    run: Run, database: Database, tmp_path: Path
) -> None:
    text = 'email,name\nanna@example.org,Anna\nbo,Bo\neva@example.org,"Eva\n'
    file = write(tmp_path, text + "ida@example.org,Ida\n")
    said = "Line 4 cannot be read as CSV. Nothing after it was read."
    for how in ("--dry-run", "--status=active"):
        result = run("import", "labbet", file, how, "--json")
        assert (result.exit_code, str(result.exception)) == (1, said)
        report = json.loads(result.stdout)
        assert (report["added"], report["refused"]) == (1, 1)
    assert statuses(database) == {"anna@example.org": Status.ACTIVE}
    with database.reading() as session:
        noted = session.scalars(select(AuditEntry.kind)).all()
    assert noted == ["readers"]
    first = write(tmp_path, 'email,name\neva@example.org,"Eva\n')
    result = run("import", "labbet", first, "--dry-run")
    assert str(result.exception) == said.replace("4", "2")


def test_a_file_without_addresses_is_refused(run: Run, tmp_path: Path) -> None:
    for text in ("", "name\nÅsa\n", "status,name\nactive,Åsa\n"):
        result = run("import", "labbet", write(tmp_path, text))
        assert isinstance(result.exception, InvalidInput)
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04\x00\x00\x00\x00")
    (tmp_path / "x.xls").write_bytes(b"\xd0\xcf\x11\xe0\x00\x00\x00\x00")
    result = run("import", "labbet", str(tmp_path / "x.xls"))
    assert isinstance(result.exception, InvalidInput)
    result = run("import", "labbet", str(tmp_path / "x.xlsx"))
    assert isinstance(result.exception, InvalidInput)
    result = run("import", "nowhere", write(tmp_path, "email\n"))
    assert isinstance(result.exception, NotFound)
    assert run("import", "labbet", "no-such-file.csv").exit_code == 2


FORMULAS = ["=1+1", "+46 8", "-x", "@SUM(A1)", "\ttab", "＝1", "'quoted", "'=x"]


def test_an_exported_cell_is_never_a_formula_and_comes_back_as_it_was(
    run: Run, database: Database, tmp_path: Path
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, "annat")
        make_newsletter(session, "tredje")
        for number, name in enumerate(FORMULAS):
            reader = make_subscription(session, newsletter, f"+r{number}@example.org")
            reader.subscriber.name = name.strip()
    out = tmp_path / "out.csv"
    assert run("export", "annat", "--out", str(out)).exit_code == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert len(rows) == len(FORMULAS)
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    with database.transaction() as session:
        for subscriber in session.scalars(select(Subscriber)):
            session.delete(subscriber)
    result = run("import", "tredje", str(out), "--status", "active", "--json")
    assert json.loads(result.stdout)["added"] == len(FORMULAS), result.stdout
    with database.reading() as session:
        names = {s.email: s.name for s in session.scalars(select(Subscriber))}
    assert names == {
        f"+r{number}@example.org": name.strip() for number, name in enumerate(FORMULAS)
    }


def test_an_export_is_the_same_as_csv_and_as_json(run: Run, database: Database) -> None:
    assert json.loads(run("export", "labbet", "--json").stdout) == []
    with database.transaction() as session:
        newsletter = make_newsletter(session, "annat")
        for number in range(3):
            make_subscription(session, newsletter, f"r{number}@example.org")
    as_csv = list(csv.DictReader(io.StringIO(run("export", "annat").stdout)))
    as_json = json.loads(run("export", "annat", "--json").stdout)
    assert as_csv == as_json
    assert [row["email"] for row in as_csv] == [f"r{n}@example.org" for n in range(3)]
    assert run("export", "annat", "--status", "left", "--json").stdout == "[]\n"


def test_one_reader_is_shown_and_explained(run: Run, database: Database) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, "annat")
        make_subscription(session, newsletter, "asa@example.org")
        issue = Issue(
            newsletter_id=newsletter.id,
            number=1,
            state=IssueState.SENT,
            started_at=NOW - timedelta(days=1),
        )
        session.add(issue)
        session.flush()
        issue_id = str(issue.id)
    shown = json.loads(run("show", "ASA@example.org", "--json").stdout)
    assert shown["email"] == "asa@example.org"
    assert shown["subscriptions"][0]["newsletter"] == "annat"
    assert shown["subscriptions"][0]["status"] == "active"
    assert shown["subscriptions"][0]["topics"] == "all"
    assert {"consents", "deliveries"} <= set(shown)
    assert "annat: active" in run("show", "asa@example.org").stdout
    sentence = "Not sent: they had not confirmed their subscription when it went out."
    told = run("explain", "asa@example.org", "--issue", issue_id)
    assert told.stdout == f"annat, issue {issue_id}: {sentence}\n"
    told = run("explain", "asa@example.org", "--json")
    assert json.loads(told.stdout) == [
        {
            "newsletter": "annat",
            "issue": int(issue_id),
            "posts": [],
            "explanation": sentence,
            "gets": False,
            "delivery": None,
        }
    ]
    with database.transaction() as session:
        post = make_post(session, newsletters.by_slug(session, "annat"))
    told = run("explain", "asa@example.org", "--post", str(post.id))
    assert told.stdout.startswith(f"annat, post {post.id}: Not yet: digests go out by")
    assert isinstance(
        run("explain", "asa@example.org", "--post", "0").exception, NotFound
    )
    both = run("explain", "asa@example.org", "--post", "1", "--issue", issue_id)
    assert both.exit_code == 2
    assert isinstance(run("show", "nobody@example.org").exception, NotFound)


def test_an_erased_reader_is_gone(run: Run, database: Database) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, "annat")
        make_subscription(session, newsletter, "asa@example.org")
    result = run("erase", "asa@example.org")
    assert (result.exit_code, result.stdout) == (0, "asa@example.org is erased.\n")
    assert statuses(database) == {}
    assert isinstance(run("erase", "asa@example.org").exception, NotFound)
