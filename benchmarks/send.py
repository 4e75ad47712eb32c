"""A whole send on SQLite into a fast local sink: rate, memory, and a plain contender.

    make bench
    .venv/bin/python -m benchmarks.send --readers 20000

The readers, the posts and the issue are real ones in a real database, and the sender is
the one that `work` runs. Each measurement has a process of its own, so that its peak
memory is its own.
"""

import argparse
import json
import os
import resource
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

import uvloop
from sqlalchemy import insert

from benchmarks.sink import Running
from newsletter import config, links, migrate
from newsletter.app import create_app
from newsletter.config import Settings
from newsletter.db import Database, current_database, utcnow
from newsletter.demo import sample
from newsletter.digests import drafts, publish
from newsletter.mail.sender import Sender
from newsletter.models import Message, Newsletter, Status, Subscriber, Subscription

SMALL = 2_000
PLAIN = 1_000


@contextmanager
def installation(folder: Path, smtp_port: int) -> Iterator[tuple[Database, Settings]]:
    """Open the installation in `folder`."""
    settings = config.load_settings(
        {
            "NEWSLETTER_SECRET_KEYS": "benchmark" * 4,
            "NEWSLETTER_INSTANCE_DIR": str(folder),
            "NEWSLETTER_EHLO_NAME": "localhost",
            "NEWSLETTER_SMTP_URL": f"smtp://127.0.0.1:{smtp_port}?connections=10",
        }
    )
    with create_app(settings).app_context():
        yield current_database(), settings


def prepare(folder: Path, smtp_port: int, readers: int) -> float:
    """Make a database with an issue under way; return the seconds queueing took."""
    with installation(folder, smtp_port) as (database, settings):
        migrate.upgrade(database.engine)
        sample.prepare(database, settings, now=utcnow())
        add_readers(database, readers)
        with database.transaction() as session:
            newsletter = session.get_one(Newsletter, 1)
            issue_id = drafts.draft(session, newsletter, now=utcnow()).id
        began = time.perf_counter()
        with database.transaction() as session:
            issue = drafts.find(session, issue_id)
            assert publish.send(session, settings, issue, now=utcnow()) == readers
        return time.perf_counter() - began


def add_readers(database: Database, readers: int) -> None:
    """Add active readers in bulk."""
    now = utcnow()
    with database.transaction() as session:
        newsletter = session.get_one(Newsletter, 1)
        numbers = range(1, readers + 1)
        session.execute(
            insert(Subscriber),
            [
                {
                    "id": number,
                    "email": f"reader{number}@exempel{number % 997}.example",
                    "email_key": f"reader{number}@exempel{number % 997}.example",
                    "address_hash": f"{number:064x}",
                    "created_at": now,
                }
                for number in numbers
            ],
        )
        session.execute(
            insert(Subscription),
            [
                {
                    "newsletter_id": newsletter.id,
                    "subscriber_id": number,
                    "status": Status.ACTIVE,
                    "language": "sv",
                    "rhythm": newsletter.default_rhythm,
                    "leave_token": links.new_token(),
                    "preferences_token": links.new_token(),
                    "confirmed_at": now,
                    "created_at": now,
                }
                for number in numbers
            ],
        )


def send(folder: Path, smtp_port: int) -> dict[str, float]:
    """Send what is queued, as `work` does; runs in a process of its own."""
    with installation(folder, smtp_port) as (database, settings):
        began = time.perf_counter()
        sent = uvloop.run(Sender(database, settings).send_until_idle())
        seconds = time.perf_counter() - began
    return {"sent": sent, "seconds": seconds, "cpu": cpu(), "peak_mb": peak_mb()}


def plain(folder: Path, smtp_port: int, readers: int) -> dict[str, float]:
    """Send the same digest with smtplib and an EmailMessage for each reader."""
    with installation(folder, smtp_port) as (database, _settings):
        with database.reading() as session:
            message = session.get_one(Message, 1)
            subject, text, html = message.subject, message.text, message.html
        began = time.perf_counter()
        with smtplib.SMTP("127.0.0.1", smtp_port) as relay:
            for number in range(readers):
                mail = EmailMessage()
                mail["From"] = "Runt kvarteret <brev@bjorkvik.example>"
                mail["To"] = f"reader{number}@exempel.example"
                mail["Subject"] = subject
                mail["List-Unsubscribe"] = f"<https://exempel.example/u/{number}>"
                mail.set_content(text)
                mail.add_alternative(html, subtype="html")
                relay.send_message(mail)
        seconds = time.perf_counter() - began
    return {"sent": readers, "seconds": seconds, "cpu": cpu(), "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return this process's peak memory.

    Not `ru_maxrss`, which a child takes over from the process that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def cpu() -> float:
    """Return the processor seconds this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def apart(*arguments: object) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.send", *map(str, arguments)],
        stdout=subprocess.PIPE,
        check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("NEWSLETTER_")},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(readers: int) -> None:
    """Measure everything and print it."""
    with tempfile.TemporaryDirectory() as name, Running() as sink:
        folder, small = Path(name) / "large", Path(name) / "small"
        queueing = prepare(folder, sink.port, readers)
        prepare(small, sink.port, SMALL)
        few = apart("--send", small, sink.port)
        before = sink.taken.value
        many = apart("--send", folder, sink.port)
        taken = sink.taken.value - before
        slow = apart("--plain", folder, sink.port)
    assert taken == many["sent"] == readers, (taken, many)
    rate, plain_rate = readers / many["seconds"], slow["sent"] / slow["seconds"]
    print(f"queueing {readers} readers      {queueing:8.2f} s")
    print(f"sending, messages a second   {rate:8.0f}   ({many['seconds']:.2f} s)")
    # What the larger send took more than the smaller: starting up is in both.
    each = (many["cpu"] - few["cpu"]) / (readers - SMALL) if readers > SMALL else 0
    print(f"processor, µs a message      {each * 1e6:8.0f}")
    print(f"smtplib + EmailMessage       {plain_rate:8.0f}   ({PLAIN} readers)")
    print(f"ratio                        {rate / plain_rate:8.1f}")
    print(f"peak memory, {SMALL:6} readers {few['peak_mb']:8.1f} MB")
    print(f"peak memory, {readers:6} readers {many['peak_mb']:8.1f} MB")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description="Measure a whole send.")
    parser.add_argument("--readers", type=int, default=20_000)
    parser.add_argument("--send", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--plain", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send:
        print(json.dumps(send(Path(given.send[0]), int(given.send[1]))))
    elif given.plain:
        folder, port = Path(given.plain[0]), int(given.plain[1])
        print(json.dumps(plain(folder, port, PLAIN)))
    else:
        measure(given.readers)


if __name__ == "__main__":
    main()
