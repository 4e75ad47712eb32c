"""Issues from the command line: draft, look, try, send, follow, stop."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select, update

from newsletter.cli.main import cli
from newsletter.config import ROOT, Settings
from newsletter.db import Database, utcnow
from newsletter.errors import InkorgError
from newsletter.mail import destinations
from newsletter.models import (
    ClaimMark,
    Delivery,
    DeliveryState,
    Issue,
    Newsletter,
    Post,
    Subscription,
    Worker,
)
from tests.conftest import SECRET
from tests.factories import make_newsletter, make_post, make_subscription
from tests.smtp_server import SmtpServer

Run = Callable[..., Result]


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


@pytest.fixture
def environment(settings: Settings, smtp: SmtpServer) -> dict[str, str]:
    """What the commands read: this test's database and mail server."""
    return {
        "NEWSLETTER_SECRET_KEYS": SECRET,
        "NEWSLETTER_DATABASE_URL": settings.database_url,
        "NEWSLETTER_BASE_URL": "http://localhost",
        "NEWSLETTER_INSTANCE_DIR": str(settings.instance_dir),
        "NEWSLETTER_EHLO_NAME": "inkorg.test",
        "NEWSLETTER_SMTP_URL": f"smtp://127.0.0.1:{smtp.port}?connections=2",
    }


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def command(*words: object) -> Result:
        return CliRunner().invoke(cli, [str(word) for word in words])

    return command


@pytest.fixture
def newsletter(database: Database) -> Newsletter:
    """A newsletter with three posts and three readers."""
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        for _ in range(3):
            make_post(session, newsletter)
        for name in "abc":
            make_subscription(session, newsletter, f"{name}@exempel.example")
    return newsletter


def drafted(run: Run, *options: object) -> str:
    result = run("issue", "draft", "labbet", *options)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def refused(result: Result) -> str:
    assert isinstance(result.exception, InkorgError), result.output
    message = str(result.exception)
    assert "\n" not in message
    return message


def figures(run: Run, issue_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        run("issue", "status", issue_id, "--json").stdout
    )
    return found


def seen_now(database: Database) -> None:
    """Let a worker have been heard of just now."""
    with database.transaction() as session:
        session.add(Worker(name="w", started_at=utcnow(), seen_at=utcnow()))


def test_draft_prints_the_id_alone(
    run: Run, newsletter: Newsletter, database: Database, tmp_path: Path
) -> None:
    opening = tmp_path / "inledning.md"
    opening.write_text("Hej på er!", encoding="utf-8")

    made = drafted(run, "--subject", "Höst", "--opening", opening)

    assert made.isdecimal()
    with database.reading() as session:
        issue = session.get_one(Issue, int(made))
        assert (issue.subject, issue.opening) == ("Höst", "Hej på er!")
        assert len(issue.posts) == 3


def test_draft_takes_the_posts_that_are_picked(
    run: Run, newsletter: Newsletter, database: Database
) -> None:
    with database.reading() as session:
        picked = session.scalars(select(Post.id).order_by(Post.id)).first()
    made = drafted(run, "--post", picked, "--opening", "Bara ord " * 200)
    with database.reading() as session:
        posts = session.get_one(Issue, int(made)).posts
        assert [entry.post_id for entry in posts] == [picked]


def test_draft_with_nothing_new_says_what_to_do(run: Run, database: Database) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    assert "Fetch or import posts first" in refused(run("issue", "draft", "labbet"))
    assert "no newsletter called" in refused(run("issue", "draft", "finns-inte"))


def test_preview_writes_three_files(
    run: Run, newsletter: Newsletter, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "folder"
    result = run("issue", "preview", drafted(run), "--out", out)
    assert result.exit_code == 0, result.output

    html = (out / "digest.html").read_text(encoding="utf-8")
    text = (out / "digest.txt").read_text(encoding="utf-8")
    mail = message_from_bytes((out / "digest.eml").read_bytes(), policy=policy.default)

    assert isinstance(mail, EmailMessage)
    assert "Tre nya inlägg" in html
    assert "Tre nya inlägg" in text
    assert mail["Subject"].startswith("3 nya inlägg: En egen kväll för tjejer")
    parts = [part.get_content_type() for part in mail.iter_parts()]
    assert parts == ["text/plain", "text/html"]
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain and plain.get_content().splitlines() == text.splitlines()
    assert rich and rich.get_content().splitlines() == html.splitlines()
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_preview_in_another_language(
    run: Run, newsletter: Newsletter, tmp_path: Path
) -> None:
    issue = drafted(run)
    run("issue", "preview", issue, "--out", tmp_path, "--language", "en")
    assert "Three new posts" in (tmp_path / "digest.txt").read_text(encoding="utf-8")
    wrong = run("issue", "preview", issue, "--out", tmp_path, "--language", "xx")
    assert "Inkorg speaks" in refused(wrong)


def test_a_folder_that_cannot_be_written_is_named(
    run: Run, newsletter: Newsletter, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "folder"
    assert str(out) in refused(run("issue", "preview", drafted(run), "--out", out))


def test_a_test_mail_is_queued(run: Run, newsletter: Newsletter) -> None:
    issue = drafted(run)
    result = run("issue", "test", issue, "--to", "jag@exempel.example")
    assert result.exit_code == 0
    assert "No worker is running" in result.stderr
    assert figures(run, issue)["state"] == "draft"
    wrong = run("issue", "test", issue, "--to", "ingen adress")
    assert "not an e-mail address" in refused(wrong)


def test_send_wait_sends_it_where_no_worker_does(
    run: Run, newsletter: Newsletter, smtp: SmtpServer, database: Database
) -> None:
    issue = drafted(run)

    result = run("issue", "send", issue, "--wait")

    assert result.exit_code == 0, result.output + repr(result.exception)
    assert "No worker is running: sending from here" in result.stderr
    assert "Sent. 3 of 3 sent." in result.stdout
    assert {got.to for got in smtp.received} == {f"{n}@exempel.example" for n in "abc"}
    mail = smtp.received[0].message
    assert mail["Subject"].startswith("3 nya inlägg: En egen kväll för tjejer")
    with database.reading() as session:
        assert set(session.scalars(select(Subscription.cursor))) == {3}


def test_sending_twice_sends_once(
    run: Run, newsletter: Newsletter, smtp: SmtpServer
) -> None:
    issue = drafted(run)
    assert run("issue", "send", issue, "--wait").exit_code == 0
    assert "already being sent" in refused(run("issue", "send", issue))
    again = run("issue", "send", issue, "--wait")
    assert again.exit_code == 0
    assert len(smtp.received) == 3


def test_what_is_sent_later_can_be_taken_back(
    run: Run, newsletter: Newsletter, database: Database
) -> None:
    issue_id = drafted(run)
    for words, said in (
        (("--after", 60), "Leaves in 60 s, to 3 readers."),
        (("--at", "2190-07-01T08:00"), "2190-07-01T08:00 (Europe/Stockholm)."),
    ):
        result = run("issue", "send", issue_id, *words)
        assert said in result.stdout
        assert figures(run, issue_id)["state"] == "scheduled"
        assert run("issue", "undo", issue_id).exit_code == 0
        assert figures(run, issue_id)["state"] == "draft"
    assert run("issue", "send", issue_id, "--after", 9, "--wait").exit_code == 2


def test_wait_follows_a_worker_that_is_alive(
    run: Run, newsletter: Newsletter, database: Database, smtp: SmtpServer
) -> None:
    seen_now(database)
    issue = drafted(run)
    assert run("issue", "send", issue).exit_code == 0
    with database.transaction() as session:  # what that worker does meanwhile
        session.execute(update(Delivery).values(state=DeliveryState.SENT))
        session.execute(
            update(ClaimMark).values(
                last_id=select(func.max(Delivery.id)).scalar_subquery(), passed=3
            )
        )

    result = run("issue", "send", issue, "--wait")

    assert result.exit_code == 0
    assert "No worker" not in result.stderr
    assert smtp.received == []


def test_wait_ends_with_an_error_when_the_issue_is_paused(
    run: Run, newsletter: Newsletter, database: Database
) -> None:
    seen_now(database)
    issue = drafted(run)
    assert "No worker" not in run("issue", "send", issue).stderr
    assert run("issue", "pause", issue).exit_code == 0
    assert figures(run, issue)["state"] == "paused"
    assert "already being sent" in refused(run("issue", "send", issue, "--wait"))
    assert run("issue", "resume", issue).exit_code == 0
    assert "not paused" in refused(run("issue", "resume", issue))
    assert run("issue", "cancel", issue).exit_code == 0
    assert figures(run, issue)["skipped"] == 3


def test_status_has_the_contracts_figures(run: Run, newsletter: Newsletter) -> None:
    issue = drafted(run)
    found = figures(run, issue)
    assert found["state"] == "draft"
    run("issue", "send", issue)
    found = figures(run, issue)
    keys = ("total", "queued", "sent", "deferred", "bounced", "failed", "skipped")
    assert {key: found[key] for key in keys} == {
        **dict.fromkeys(keys, 0),
        "total": 3,
        "queued": 3,
    }
    assert (found["state"], found["resent"], found["rate_per_second"]) == (
        "sending",
        0,
        0.0,
    )
    assert run("issue", "status", issue).stdout.startswith(
        "sending: 0 of 3 sent, 3 left"
    )


def test_bounces_are_counted(
    run: Run, newsletter: Newsletter, smtp: SmtpServer
) -> None:
    smtp.refuse("b@exempel.example")
    issue = drafted(run)
    result = run("issue", "send", issue, "--wait")
    assert result.exit_code == 0
    found = figures(run, issue)
    assert (found["state"], found["sent"], found["bounced"]) == ("sent", 2, 1)
    assert "2 of 3 sent, 1 bounced" in result.stdout


def test_the_failed_are_listed_and_tried_again(
    run: Run, newsletter: Newsletter, smtp: SmtpServer
) -> None:
    smtp.refuse("a@exempel.example", "554 5.6.0 not like this")
    issue_id = drafted(run)
    assert run("issue", "send", issue_id, "--wait").exit_code == 0
    listed = run("issue", "retry", issue_id).stdout
    assert "content\t1 of 1\t554" in listed
    assert "1 reader can be tried again" in listed
    assert figures(run, issue_id)["state"] == "sent"
    done = run("issue", "retry", issue_id, "--reason", "content", "--yes", "--json")
    assert json.loads(done.stdout)["queued"] == 1
    assert figures(run, issue_id)["queued"] == 1
    assert "at least one reason" in refused(
        run("issue", "retry", issue_id, "--reason", "none", "--yes")
    )


def test_list_shows_issues(run: Run, newsletter: Newsletter) -> None:
    issue = drafted(run, "--subject", "Höstens första")
    assert run("issue", "list").stdout == (
        f"{issue}\tlabbet\t-\tdraft\t0\tHöstens första\n"
    )
    (row,) = json.loads(run("issue", "list", "labbet", "--json").stdout)
    assert (row["id"], row["state"]) == (int(issue), "draft")


def test_status_tells_who_asked_us_to_slow_down(
    run: Run, newsletter: Newsletter, database: Database, smtp: SmtpServer
) -> None:
    issue = drafted(run)
    with database.transaction() as session:
        said = {"gmail.com": "421 4.7.28 An unusual rate of mail"}
        destinations.slow(session, f"127.0.0.1:{smtp.port}", said, now=utcnow())
    words = "gmail.com asked us to slow down; next try "
    assert words not in run("issue", "status", issue).stdout
    run("issue", "send", issue)
    assert words in run("issue", "status", issue).stdout
    json.loads(run("issue", "status", issue, "--json").stdout)


@pytest.mark.parametrize(
    "command",
    ["preview 999 --out /tmp", "test 999 --to a@b.example", "status 999"]
    + [f"{verb} 999" for verb in ("send", "pause", "resume", "cancel")],
)
def test_an_issue_that_is_not_there_is_said_to_be_missing(
    run: Run, command: str
) -> None:
    assert "no issue with the id 999" in refused(run("issue", *command.split()))


@pytest.mark.parametrize(
    "command",
    ["draft", "list", "preview", "test", "send", "status", "pause", "resume", "cancel"],
)
def test_every_command_shows_an_example(run: Run, command: str) -> None:
    result = run("issue", command, "--help")
    assert result.exit_code == 0
    assert f"python -m newsletter issue {command}" in result.stdout
    assert run("issue", command, "--nonsense").exit_code == 2


def heed_ctrl_c() -> None:
    """Undo what a shell does for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_stops_looking_and_not_the_issue(
    newsletter: Newsletter,
    run: Run,
    environment: dict[str, str],
    smtp: SmtpServer,
    database: Database,
) -> None:
    smtp.script("greeting", stall=30)
    issue = drafted(run)
    with database.transaction() as session:  # a worker that has just been busy
        session.add(
            Worker(
                name="w", started_at=utcnow(), seen_at=utcnow() + timedelta(minutes=1)
            )
        )
    command = [sys.executable, "-m", "newsletter", "issue", "send", issue, "--wait"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    ) as waiting:
        assert waiting.stdout
        assert waiting.stdout.readline() == "Issue 1 goes to 3 readers.\n"
        assert waiting.stdout.readline().startswith("0 of 3 sent, 3 left")
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "still being sent" in said
    assert "Traceback" not in said
    assert figures(run, issue)["state"] == "sending"


def test_status_lists_who_got_an_issue_once_more(
    run: Run, newsletter: Newsletter, database: Database
) -> None:
    issue = drafted(run)
    run("issue", "send", issue)
    with database.transaction() as session:
        one = session.scalars(select(Delivery).order_by(Delivery.id)).first()
        assert one
        one.resent = True
        address = one.address
    assert f"  {address}\n" in run("issue", "status", issue).stdout
    told = figures(run, issue)
    assert (told["resent"], told["resent_addresses"]) == (1, [address])


def test_a_letter_is_written_looked_at_and_sent_to_some(
    run: Run, newsletter: Newsletter, smtp: SmtpServer, tmp_path: Path
) -> None:
    file = tmp_path / "brev.md"
    file.write_text("Vi **flyttar** i höst.", encoding="utf-8")
    words = ("issue", "letter", "labbet", "--subject", "Vi flyttar", "--body", file)
    assert "There are: sv, en" in refused(run(*words, "--to", "language:tyska"))
    assert "cannot be read: No such file" in refused(run(*words[:-1], "nej.md"))

    result = run(*words, "--to", "language:sv since:2026-01-01")
    assert result.exit_code == 0, result.output
    made = result.stdout.strip()
    assert made.isdecimal()
    run("issue", "preview", made, "--out", tmp_path)
    assert "<strong>flyttar</strong>" in (tmp_path / "digest.html").read_text()
    (row,) = json.loads(run("issue", "list", "labbet", "--json").stdout)
    assert (row["kind"], row["subject"]) == ("letter", "Vi flyttar")
    assert run("issue", "send", made, "--wait").exit_code == 0
    assert {mail.message["Subject"] for mail in smtp.received} == {"Vi flyttar"}
    assert figures(run, made)["sent"] == 3


def test_a_preflight_is_shown_and_its_errors_stop_the_send(
    run: Run, database: Database, newsletter: Newsletter
) -> None:
    with database.transaction() as session:
        for row in session.scalars(select(Post)):
            row.link = ""  # to our own pages: nobody outside is asked
    issue_id = run("issue", "draft", "labbet").output.strip()
    good = run("issue", "check", issue_id)
    assert good.exit_code == 0, good.output
    assert "✓ The postal address is there." in good.output
    assert "? A made-up domain: nothing is looked up for it." in good.output

    with database.transaction() as session:
        issue = session.get_one(Issue, int(issue_id))
        issue.subject, issue.opening = "HELA STADEN SKRIKER", "Hej {{ du }}"
    bad = run("issue", "check", issue_id, "--json")
    assert bad.exit_code == 1
    found = {one["code"]: one for one in json.loads(bad.output)}
    assert found["placeholder.tag.opening"]["level"] == "error"
    assert found["placeholder.tag.opening"]["where"] == ["{{ du }}"]
    assert found["subject.shouts"]["level"] == "warning"
    refused = run("issue", "send", issue_id)
    assert isinstance(refused.exception, InkorgError)
    assert "merge tag" in str(refused.exception)

    with database.transaction() as session:
        session.get_one(Issue, int(issue_id)).opening = ""
    sent = run("issue", "send", issue_id)
    assert sent.exit_code == 0, sent.output
    assert "! The subject shouts." in sent.stderr
