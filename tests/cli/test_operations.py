"""The commands that run and keep an installation, as a shell sees them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import dns.resolver
import dns.rrset
import pytest
from click.testing import CliRunner, Result
from flask import Flask
from sqlalchemy import select

from newsletter import serving
from newsletter.cli import doctor
from newsletter.cli.main import cli
from newsletter.config import ROOT, Relay, Settings, parse_relay
from newsletter.db import Database, utcnow
from newsletter.digests import drafts, publish
from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.jobs import ran_since, tick
from newsletter.mail import destinations, limits, mime, outbox
from newsletter.models import (
    Issue,
    IssueState,
    Kind,
    Message,
    MessageState,
    Mode,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
)
from newsletter.subscribers import leaving, rights, suppression
from newsletter.subscribers.consent import Origin
from tests.conftest import SECRET
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.ports import free_port
from tests.postgres import program
from tests.smtp_server import SmtpServer

Run = Callable[..., Result]


@pytest.fixture
def environ(database_url: str, settings: Settings) -> dict[str, str]:
    return {
        "NEWSLETTER_SECRET_KEYS": SECRET,
        "NEWSLETTER_DATABASE_URL": database_url,
        "NEWSLETTER_BASE_URL": "https://brev.bjorkvik.se",
        "NEWSLETTER_INSTANCE_DIR": str(settings.instance_dir),
        "NEWSLETTER_EHLO_NAME": "inkorg.test",
    }


@pytest.fixture
def run(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [n for n in os.environ if n.startswith("NEWSLETTER_")]:
        monkeypatch.delenv(name)

    def call(*words: object, **more: str) -> Result:
        env = {**environ, **more}
        return CliRunner().invoke(cli, [str(word) for word in words], env=env)

    return call


@pytest.fixture
def needs_tools(database: Database) -> None:
    if not database.is_sqlite and not program("pg_dump"):
        pytest.skip("pg_dump is missing")


# doctor


def found(findings: Iterator[doctor.Finding]) -> dict[str, str]:
    return {finding.about: finding.state for finding in findings}


def test_the_doctor_is_content_with_what_is_well(
    run: Run, database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    tick(database, settings, now=utcnow())
    with SmtpServer() as relay:
        url = f"smtp://127.0.0.1:{relay.port}"
        done = run("doctor", NEWSLETTER_SMTP_URL=url, NEWSLETTER_ADDRESS_PEPPER="p" * 9)
        assert done.exit_code == 0, done.output
        assert "✗" not in done.output
        assert "made-up domain" in done.output
        as_json = run("doctor", "labbet", "--json", NEWSLETTER_SMTP_URL=url)
        assert {entry["state"] for entry in json.loads(as_json.stdout)} <= {
            "good",
            "note",
        }
        assert relay.received == []


def test_the_doctor_says_what_is_wrong_and_exits_1(
    run: Run, database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session, postal_address="", from_email="labbet@gmail.com")
    done = run(
        "doctor",
        NEWSLETTER_BASE_URL="http://localhost:8000",
        NEWSLETTER_SMTP_URL="smtp://127.0.0.1:9",
    )
    assert done.exit_code == 1
    for words in (
        "✗ base URL: http://localhost:8000 cannot be reached from a mail",
        "✗ worker: none is running",
        "✗ labbet, postal address: missing",
        "✗ labbet, sender: gmail.com does not let others send in its name",
        "✗ relay 127.0.0.1:9: Connection refused",
    ):
        assert words in done.output


def test_the_doctor_knows_a_password_that_the_relay_refuses() -> None:
    with SmtpServer(login=("anna", "right")) as server:
        relay = Relay("127.0.0.1", server.port, user="anna", password="wrong")
        states = found(doctor.check_relay(relay))
    assert states == {f"relay {relay.name}": "wrong"}


def test_the_doctor_tries_every_relay_and_tells_what_is_left_of_its_day(
    run: Run, database: Database
) -> None:
    with SmtpServer() as server:
        first = f"smtp://127.0.0.1:{server.port}?per_day=40"
        relay = parse_relay(first)
        with database.transaction() as session:
            limits.take(session, relay, 30, now=utcnow())
            said = {"gmail.com": "421 4.7.28 An unusual rate of mail"}
            destinations.slow(session, relay.name, said, now=utcnow())
        both = run("doctor", NEWSLETTER_SMTP_URL=f"{first} smtp://127.0.0.1:9")
    for words in (
        f"✓ relay {relay.name}: answers",
        f"✓ relay {relay.name}, today: 10 of 40 mails left until midnight (UTC)",
        f"· relay {relay.name}: gmail.com asked us to slow down; next try ",
        " UTC. It said: 421 4.7.28 An unusual rate of mail",
        "✗ relay 127.0.0.1:9: Connection refused",
    ):
        assert words in both.output
    assert "127.0.0.1:9, today" not in both.output


ZONE = {
    "brev.bjorkvik.se.": "v=spf1 include:relay.example -all",
    "_dmarc.bjorkvik.se.": "v=DMARC1; p=none",
    "s1._domainkey.brev.bjorkvik.se.": "v=DKIM1; k=rsa; p=MIIBIjAN",
    "s2._domainkey.brev.bjorkvik.se.": "v=DKIM1; p=",
    "open.se.": "v=spf1 +all",
    "long.se.": "v=spf1 " + " ".join(f"include:r{n}.example" for n in range(11)),
}


class Zone(dns.resolver.Resolver):
    """A resolver that knows one zone and asks nobody."""

    def resolve(self, qname: object, rdtype: object = "A", **_: object) -> object:  # type: ignore[override]
        name = f"{qname}."
        if name not in ZONE:
            raise dns.resolver.NXDOMAIN
        return dns.rrset.from_text(name, 60, "IN", "TXT", f'"{ZONE[name]}"')


@pytest.mark.parametrize(
    ("domain", "selector", "states"),
    [
        ("brev.bjorkvik.se", "s1", {"SPF": "good", "DMARC": "good", "DKIM": "good"}),
        ("brev.bjorkvik.se", "s2", {"SPF": "good", "DMARC": "good", "DKIM": "wrong"}),
        ("brev.bjorkvik.se", None, {"SPF": "good", "DMARC": "good", "DKIM": "note"}),
        ("nothing.se", "s1", {"SPF": "wrong", "DMARC": "wrong", "DKIM": "wrong"}),
        ("open.se", None, {"SPF": "wrong", "DMARC": "wrong", "DKIM": "note"}),
        ("long.se", None, {"SPF": "wrong", "DMARC": "wrong", "DKIM": "note"}),
    ],
)
def test_the_doctor_reads_the_dns(
    domain: str, selector: str | None, states: dict[str, str]
) -> None:
    lookup = doctor.txt_lookup(Zone(configure=False))
    newsletter = Newsletter(slug="labbet", from_email=f"hej@{domain}")
    got = found(doctor.check_domain(newsletter, lookup, selector))
    assert got == {f"{domain}, {what}": state for what, state in states.items()}


def test_a_silent_dns_is_a_note_and_not_an_alarm() -> None:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = free_port()
    newsletter = Newsletter(slug="labbet", from_email="hej@bjorkvik.se")
    lookup = doctor.txt_lookup(resolver)
    assert found(doctor.check_domain(newsletter, lookup)) == {"bjorkvik.se": "note"}


# backup and restore


@pytest.mark.usefixtures("needs_tools")
def test_what_is_backed_up_comes_back(
    run: Run, database: Database, tmp_path: Path
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, title="Före")
        make_subscription(session, newsletter, "asa@lund.example")
    file = tmp_path / "inkorg.backup"
    assert run("backup", file).exit_code == 0
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.glob("*.part")] == []

    with database.transaction() as session:
        session.scalars(select(Newsletter)).one().title = "Efter"
        session.delete(session.scalars(select(Subscriber)).one())
    refused = run("restore", file)
    assert isinstance(refused.exception, Conflict)
    done = run("restore", file, "--force")
    assert done.exit_code == 0, done.output
    with database.reading() as session:
        assert session.scalars(select(Newsletter.title)).all() == ["Före"]
        assert session.scalars(select(Subscriber.email)).all() == ["asa@lund.example"]


@pytest.mark.usefixtures("needs_tools")
def test_a_restored_copy_sends_nothing_by_itself(
    run: Run, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, mode=Mode.AUTOMATIC)
        make_newsletter(session, "annat")
        make_subscription(session, newsletter, "asa@lund.example")
        for title in ("Ett", "Två"):
            make_post(session, newsletter, title=title)
        sending = drafts.draft(session, newsletter, now=NOW)
        publish.send(session, settings, sending, now=NOW)
        make_post(session, newsletter, title="Tre")
        scheduled = drafts.draft(session, newsletter, now=NOW)
        scheduled.state = IssueState.SCHEDULED
        scheduled.scheduled_at = NOW
        letter = mime.Letter(
            kind=Kind.CONFIRM,
            language="sv",
            subject="Bekräfta",
            from_name="Labbet",
            from_email="labbet@allmannyttan.example",
            text="Hej",
            html="<p>Hej</p>",
        )
        outbox.queue_single(
            session, letter, address="bo@malmo.example", occasion="confirm:1", now=NOW
        )
        ids = sending.id, scheduled.id
    file = tmp_path / "inkorg.backup"
    assert run("backup", file).exit_code == 0
    done = run("restore", file, "--force")
    assert "Held: 1 issues, paused: 1 issues, dropped: 1 single mails" in done.output
    assert "newsletter go-ahead labbet" in done.output
    assert "go-ahead annat" not in done.output  # it is sent by hand
    with database.reading() as session:
        halted = dict(
            session.execute(select(Newsletter.slug, Newsletter.halted_at)).all()
        )
        assert halted["labbet"]
        assert halted["annat"] is None
        reasons = session.scalars(select(Issue.held_reason)).all()
        assert {reason[:21] for reason in reasons} == {"A backup was restored"}
        assert [session.get_one(Issue, one).state for one in ids] == [
            IssueState.PAUSED,
            IssueState.HELD,
        ]
        states = dict(session.execute(select(Message.kind, Message.state)).all())
    assert states == {
        Kind.DIGEST: MessageState.PAUSED,
        Kind.CONFIRM: MessageState.CANCELLED,
    }


@pytest.mark.usefixtures("needs_tools")
def test_who_left_after_the_backup_stays_away(
    run: Run, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        left = make_subscription(session, newsletter, "asa@lund.example")
        never = make_subscription(session, newsletter, "bo@malmo.example")
        make_subscription(session, newsletter, "cecilia@ystad.example")
        make_subscription(session, newsletter, "dan@eslov.example")
        token, unwanted = left.leave_token, never.subscriber.address_hash
    file = tmp_path / "inkorg.backup"
    assert run("backup", file).exit_code == 0
    with database.transaction() as session:
        leaving.leave(
            session, settings, token, origin=Origin("page"), how="page", now=NOW
        )
        suppression.suppress(session, unwanted, reason="never", now=NOW)
        by_address = select(Subscriber).where(Subscriber.email == "dan@eslov.example")
        rights.erase_subscriber(session, session.scalars(by_address).one(), now=NOW)
    done = run("restore", file, "--force")
    assert "Left again: 3 readers" in done.output, done.exception
    with database.reading() as session:
        statuses = select(Subscription.status).order_by(Subscription.id)
        assert session.scalars(statuses).all() == [
            Status.LEFT,
            Status.SUPPRESSED,
            Status.ACTIVE,
        ]
        assert suppression.reasons(session, unwanted, 1) == {"never"}
        assert session.scalar(by_address) is None


def test_a_backup_replaces_no_file_and_needs_its_folder(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "precious"
    file.write_text("mine")
    assert isinstance(run("backup", file).exception, Conflict)
    assert file.read_text() == "mine"
    nowhere = run("backup", tmp_path / "no" / "such" / "folder")
    assert isinstance(nowhere.exception, NotFound)


def test_what_is_no_backup_is_not_restored(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "holiday.jpg"
    file.write_bytes(b"\xff\xd8\xff")
    assert isinstance(run("restore", file, "--force").exception, InvalidInput)
    assert isinstance(run("restore", tmp_path / "gone").exception, NotFound)


# serve and work


@contextmanager
def started(environ: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NEWSLETTER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "newsletter", *words],
        cwd=ROOT,
        env={**kept, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    pytest.fail(f"never said {words!r}: {said}")


@pytest.mark.slow
def test_the_server_answers_and_stops_in_order(
    environ: dict[str, str], database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    port = str(free_port())
    with started(environ, "serve", "--port", port, "--access-log") as process:
        wait_for(process, "serve host=")
        base = f"http://127.0.0.1:{port}"
        for _ in range(1_200):
            try:
                assert urlopen(f"{base}/labbet/").status == 200
                break
            except OSError:
                signal.sigtimedwait([], 0.05)
        with pytest.raises(OSError, match="404"):
            urlopen(f"{base}/confirm/a-secret-token")
        with started(environ, "serve", "--port", port) as second:
            said, _ = second.communicate(timeout=60)
            assert second.returncode == 1
            assert said == (
                f"Cannot listen at 127.0.0.1 port {port}: address already in use.\n"
            )
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert "request method=GET path=/labbet/ status=200" in said
    assert "path=/confirm/…" in said
    assert "a-secret-token" not in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_worker_ticks_and_stops_in_order(
    environ: dict[str, str], database: Database
) -> None:
    began = utcnow()
    with started(environ, "work") as process:
        wait_for(process, "work worker=")
        for _ in range(1_200):
            if ran_since(database, began):
                break
            signal.sigtimedwait([], 0.05)
        else:
            pytest.fail("the clock did not tick")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert "work stopped" in said
    assert "Traceback" not in said


def test_an_old_schema_stops_the_start(
    environ: dict[str, str], run: Run, tmp_path: Path
) -> None:
    fresh = {"NEWSLETTER_DATABASE_URL": f"sqlite:///{tmp_path}/fresh.sqlite3"}
    for command in ("serve", "work"):
        done = run(command, **fresh)
        assert "python -m newsletter db upgrade" in str(done.exception)
    for _twice in range(2):
        assert run("db", "upgrade", **fresh).exit_code == 0


@pytest.mark.slow
def test_a_database_that_is_away_is_one_line(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["NEWSLETTER_DATABASE_URL"] = f"sqlite:///{tmp_path}/empty.sqlite3"
    with started(environ, "newsletter", "list") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("The database cannot be used: no such table: newsletter.")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("path", "masked"),
    [
        ("/ping/abc-DEF_1", "/ping/…"),
        ("/websub/abc-DEF_1", "/websub/…"),
        ("/labbet/view/abc/", "/labbet/view/…/"),
        ("/labbet/", "/labbet/"),
        ("/labbet/issues/12/", "/labbet/issues/12/"),
        ("/confirm/abc.def", "/confirm/…"),
        ("/unsubscribe/abc", "/unsubscribe/…"),
        ("/preferences/abc/pause", "/preferences/…/pause"),
        ("/editor/invite/abc", "/editor/invite/…"),
        ("/editor/login/forgotten", "/editor/login/forgotten"),
        ("/editor/login/forgotten/abc.def", "/editor/login/forgotten/…"),
        ("/editor/", "/editor/"),
    ],
)
def test_tokens_are_masked_in_the_log(path: str, masked: str) -> None:
    assert serving.mask(path) == masked


def test_every_address_that_ends_in_a_token_is_masked(app: Flask) -> None:
    rules = [rule.rule for rule in app.url_map.iter_rules()]
    with_token = [rule for rule in rules if "<token>" in rule]
    assert len(with_token) > 15
    for rule in with_token:
        path = rule.replace("<token>", "secret")
        assert "secret" not in serving.mask(path), rule
