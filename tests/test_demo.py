"""The demo: its own settings, a sample once, processes that live and die together."""

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from newsletter.cli.main import cli
from newsletter.config import Settings, load_settings, read_env_file
from newsletter.db import Database
from newsletter.demo import content, environment, sample
from newsletter.demo.supervisor import Child, Supervisor, smtp_answers, web_answers
from newsletter.errors import ConfigError, Conflict, InkorgError
from newsletter.models import Newsletter, Post
from tests.factories import NOW
from tests.journey.outside import Demo
from tests.ports import free_port


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "instance")
    yield demo
    if demo.process and demo.process.poll() is None:
        demo.process.kill()
        demo.process.wait()
    if demo.process and demo.process.stdout:
        demo.process.stdout.close()


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def supervisor(instance: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    for name in [name for name in os.environ if name.startswith("NEWSLETTER_")]:
        monkeypatch.delenv(name)
    values = environment.write(instance, 8000, 2525)
    run = Supervisor(environment.for_children(values, instance), instance / "demo.log")
    yield run
    run.stop_all()


def mailbox(port: int) -> Child:
    return Child(
        "mailbox", ("mailbox", "--port", str(port)), lambda: smtp_answers(port)
    )


def test_the_settings_are_written_so_that_commands_beside_it_find_them(
    instance: Path,
) -> None:
    environment.write(instance, 8123, 2626)
    settings = load_settings({"NEWSLETTER_INSTANCE_DIR": str(instance)})
    assert settings.demo
    assert settings.base_url == "http://127.0.0.1:8123"
    assert settings.relay.port == 2626
    assert settings.mailbox_dir == instance / "mailbox"
    assert (instance / "demo.env").stat().st_mode & 0o077 == 0


def test_the_secret_keys_stay_from_start_to_start(instance: Path) -> None:
    first = environment.write(instance, 8123, 2626)
    second = environment.write(instance, 8124, 2626)
    assert first["NEWSLETTER_SECRET_KEYS"] == second["NEWSLETTER_SECRET_KEYS"]
    assert read_env_file(instance / "demo.env") == second


def test_a_real_installations_settings_never_reach_the_demo(
    instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSLETTER_SECRET_KEYS", "real" * 10)
    monkeypatch.setenv("NEWSLETTER_DATABASE_URL", "postgresql://real/inkorg")
    monkeypatch.setenv("NEWSLETTER_SMTP_URL", "smtp://relay.example")
    values = environment.write(instance, 8123, 2626)
    environ = environment.for_children(values, instance)
    assert "real" not in environ["NEWSLETTER_SECRET_KEYS"]
    assert environ["NEWSLETTER_DATABASE_URL"].endswith("/demo.sqlite3")
    assert environ["NEWSLETTER_SMTP_URL"].startswith("smtp://127.0.0.1:2626")


def test_one_demo_has_the_folder_at_a_time(instance: Path) -> None:
    environment.write(instance, 8123, 2626)
    with environment.alone(instance), pytest.raises(Conflict, match="already runs"):
        environment.alone(instance).__enter__()
    with environment.alone(instance):
        pass


def test_the_sample_is_made_once_and_the_login_link_anew(
    database: Database, settings: Settings
) -> None:
    first = sample.prepare(database, settings, now=NOW)
    second = sample.prepare(database, settings, now=NOW + timedelta(days=9))
    assert first.login != second.login
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Newsletter)) == 1
        posts = session.scalars(select(Post)).all()
    assert len(posts) == len(content.samples()) == 8


def test_the_sample_reads_well_on_any_day(
    database: Database, settings: Settings
) -> None:
    sample.prepare(database, settings, now=NOW)
    with database.reading() as session:
        posts = session.scalars(select(Post).order_by(Post.position)).all()
    assert [post.published_at for post in posts] == sorted(
        post.published_at for post in posts
    )
    for post in posts:
        assert NOW - timedelta(days=60) < post.published_at < NOW
        assert post.author
        assert post.author.byline
        assert 80 <= len(re.findall(r"\w+", post.markdown or "")) <= 210


def test_processes_start_answer_and_stop(supervisor: Supervisor) -> None:
    port = free_port()
    assert supervisor.start([mailbox(port)])
    assert smtp_answers(port)
    process = supervisor.running["mailbox"]
    supervisor.stop_all()
    assert process.returncode == 0
    assert not smtp_answers(port)


def test_one_that_dies_ends_the_start_with_its_last_words(
    supervisor: Supervisor,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        child = Child("mailbox", ("mailbox", "--port", str(port)), lambda: False)
        with pytest.raises(InkorgError, match=f"mailbox stopped.*Port {port} is taken"):
            supervisor.start([child])


def test_one_that_dies_later_ends_the_watch(supervisor: Supervisor) -> None:
    assert supervisor.start([mailbox(free_port())])
    supervisor.running["mailbox"].kill()
    with pytest.raises(InkorgError, match="mailbox stopped by itself"):
        supervisor.watch()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_parent_that_is_gone_is_a_wish_to_stop(supervisor: Supervisor) -> None:
    supervisor.parent = os.getppid() + 1
    assert supervisor.start([mailbox(free_port())]) is False


def test_nothing_answers_where_nothing_listens() -> None:
    port = free_port()
    assert not web_answers(port)
    assert not smtp_answers(port)


def test_a_taken_port_is_said_with_what_to_do(
    instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSLETTER_INSTANCE_DIR", str(instance))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for options, variable in (
            (("--port", port, "--smtp-port", free_port()), "PORT"),
            (("--port", free_port(), "--smtp-port", port), "MAILBOX_SMTP_PORT"),
        ):
            done = CliRunner().invoke(cli, ["demo", *map(str, options)])
            assert isinstance(done.exception, ConfigError)
            said = str(done.exception)
            assert said.startswith(f"Port {port} cannot be used: address already in")
            assert f"make run {variable}=" in said
    assert not (instance / "demo.env").exists()


def test_a_second_demo_in_the_same_folder_is_refused(
    instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSLETTER_INSTANCE_DIR", str(instance))
    with environment.alone(instance):
        done = CliRunner().invoke(cli, ["demo"])
    assert isinstance(done.exception, Conflict)


@pytest.mark.slow
def test_the_demo_starts_answers_stops_keeps_its_data_and_dies_whole(
    demo: Demo,
) -> None:
    said = demo.start()
    page, login, mails = re.findall(r"http://\S+", said)[:3]
    assert page == f"{demo.base}/{content.SLUG}/"
    assert "/editor/invite/" in login
    assert mails == f"{demo.base}/mailbox/"
    assert "Bänken som ville ha sällskap" in demo.get(page).text
    assert demo.get(mails).status == 200

    code, said, seconds = demo.stop(signal.SIGINT)
    assert (code, said.strip()) == (0, "Stopped.")
    assert seconds < 10
    assert not web_answers(demo.port)
    assert not smtp_answers(demo.smtp_port)
    log = (demo.instance / environment.LOG_FILE).read_text()
    assert "Traceback" not in log

    said = demo.start()
    assert page in said
    assert login not in said
    assert demo.process
    demo.process.kill()  # outright: no process is left
    demo.process.wait()
    for _ in range(1_200):
        if not web_answers(demo.port) and not smtp_answers(demo.smtp_port):
            return
        signal.sigtimedwait([], 0.05)
    pytest.fail("something still answers")
