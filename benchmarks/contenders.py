"""Who is measured: each sends N mails into a sink from processes of its own.

A contender says how long its processes took between its first and its last mail and how
much processor they used meanwhile, all threads together. For Inkorg that is the whole
pipeline: claiming from the ledger, splicing, SMTP, committing what became of each.
"""

import atexit
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import postgres, tools
from benchmarks.installation import Place, Stock, counts, relay_url, sample_mail
from benchmarks.sinks import CSink, Sink

CONNECTIONS = 10
SENDER = "brev@bjorkvik.example"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took; `cpu` is the client's, in seconds."""

    messages: int
    seconds: float
    cpu: float
    peak_mb: float = 0.0

    @property
    def rate(self) -> float:
        """Return messages a second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """Return the client's processor time for a message, in microseconds."""
        return self.cpu / self.messages * 1e6


class Child:
    """A process of ours that is measured: see `benchmarks.inkorg.measured`."""

    def __init__(self, module: str, *arguments: object, within: tuple[str, ...] = ()):
        """Start it and wait until it is ready."""
        command = [*within, sys.executable, "-m", module, *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            cwd=tools.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environ(),
        )
        atexit.register(self.process.kill)  # nothing is left if the bench breaks off
        assert self.process.stdout
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{module} did not start")

    def go(self) -> None:
        """Give the word."""
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait for the end; return what it took."""
        said, _ = self.process.communicate()
        if self.process.returncode:
            raise RuntimeError(
                f"a measured process ended with {self.process.returncode}"
            )
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found


def clean_environ() -> dict[str, str]:
    """Return the environment without the settings of an installation that is here."""
    return {k: v for k, v in os.environ.items() if not k.startswith("NEWSLETTER_")}


def together(children: list[Child]) -> tuple[Run, int]:
    """Let processes run at once; return what they took, and how many they say went."""
    for child in children:
        child.go()
    found = [child.result() for child in children]
    sent = sum(each["sent"] for each in found)
    span = max(each["ended"] for each in found) - min(each["began"] for each in found)
    run = Run(
        messages=sent,
        seconds=span / 1e9,
        cpu=sum(each["cpu"] for each in found),
        peak_mb=max(each["peak_mb"] for each in found),
    )
    return run, sent


@dataclass
class Bench:
    """What contenders share: the databases, and a mail as it goes over the wire."""

    stock: Stock
    quick: bool = False
    mail: Path = field(init=False)
    mail_bytes: int = field(init=False)
    source_length: int = 0  # what smtp-source is to be told, for a mail as long

    def __post_init__(self) -> None:
        """Take a mail from a small installation."""
        self.mail = self.stock.folder / "mail"
        self.mail.write_bytes(sample_mail(self.stock.base("sqlite", 100)))
        self.mail_bytes = self.mail.stat().st_size
        self.source_length = self.mail_bytes
        if tools.compiled("csink") and tools.postfix("smtp-source"):
            self._measure_source()

    def _measure_source(self) -> None:
        """Find the length with which smtp-source's mails are as long as ours."""
        with CSink() as sink:
            run_smtp_source(sink, 20, 1, self.source_length)
            mean = sink.counted().bytes / 20
        self.source_length -= round(mean) - self.mail_bytes


class Contender:
    """One way to send."""

    name = ""
    what = ""

    def missing(self) -> str:
        """Say in a line why this cannot run here; empty if it can."""
        return ""

    def run(
        self, bench: Bench, sink: Sink, number: int, connections: int = CONNECTIONS
    ) -> Run:
        """Send `number` mails; check that the sink took as many."""
        before = sink.count()
        run = self.send(bench, sink, number, connections)
        taken = sink.settled_count(before + number) - before
        if not taken == run.messages == number:
            raise RuntimeError(
                f"{self.name}: {number} to send, {run.messages} sent, {taken} taken"
            )
        return run

    def send(self, bench: Bench, sink: Sink, number: int, connections: int) -> Run:
        """Send."""
        raise NotImplementedError


class Inkorg(Contender):
    """Our own sender on a database, one process or several."""

    def __init__(self, dialect: str, workers: int = 1) -> None:
        """Name it."""
        self.dialect, self.workers = dialect, workers
        self.name = f"inkorg-{dialect}" + (f"-{workers}" if workers > 1 else "")
        database = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[dialect]
        self.what = f"Inkorg on {database}"
        self.what += f", {workers} workers" if workers > 1 else ""

    def missing(self) -> str:
        if self.dialect == "postgresql" and not postgres.available():
            return postgres.MISSING
        return ""

    def send(self, bench: Bench, sink: Sink, number: int, connections: int) -> Run:
        with bench.stock.place(self.dialect, number) as place:
            return send_all(place, sink, connections, self.workers)


def send_all(place: Place, sink: Sink, connections: int, workers: int = 1) -> Run:
    """Send what a place has queued; check it against the ledger."""
    share = max(1, connections // workers)
    url = relay_url(sink.port, connections=share)
    children = [Child("benchmarks.inkorg", place.url, url) for _ in range(workers)]
    run, sent = together(children)
    found = counts(place.url)
    if not found.sent == found.total == sent:
        raise RuntimeError(f"the ledger says {found}, the sender {sent}")
    return run


class Peer(Contender):
    """Another way to send from Python: see `benchmarks.peers`."""

    def __init__(self, name: str, kind: str, what: str) -> None:
        """Name it."""
        self.name, self.kind, self.what = name, kind, what

    def send(self, bench: Bench, sink: Sink, number: int, connections: int) -> Run:
        arguments = (self.kind, sink.port, number, connections, bench.mail)
        return together([Child("benchmarks.peers", *arguments)])[0]


class SmtpSource(Contender):
    """Postfix's own load generator, in C."""

    name = "smtp-source"
    what = "smtp-source (C, from Postfix)"

    def missing(self) -> str:
        return "" if tools.postfix("smtp-source") else tools.NO_POSTFIX

    def send(self, bench: Bench, sink: Sink, number: int, connections: int) -> Run:
        return run_smtp_source(sink, number, connections, bench.source_length)


def run_smtp_source(sink: Sink, number: int, connections: int, length: int) -> Run:
    """Run smtp-source; its start, a millisecond, is in its time.

    `-d` keeps its connections open, as everybody here does: it connects for each mail
    otherwise.
    """
    program = tools.postfix("smtp-source")
    assert program
    command = [str(program), "-d", "-s", str(connections), "-m", str(number)]
    command += ["-l", str(length), "-f", SENDER, "-t", "reader@exempel.example"]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(
        [*command, f"127.0.0.1:{sink.port}"], check=True, env=tools.postfix_environ()
    )
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime
    return Run(number, seconds, cpu)


CONTENDERS: tuple[Contender, ...] = (
    Inkorg("sqlite"),
    Inkorg("sqlite", workers=2),
    Inkorg("postgresql"),
    Inkorg("postgresql", workers=2),
    SmtpSource(),
    Peer("aiosmtplib", "aiosmtplib", "aiosmtplib, finished bytes"),
    Peer("smtplib", "smtplib", "smtplib, finished bytes, a thread a connection"),
    Peer("email", "email", "smtplib, an EmailMessage per reader, 1 connection"),
    Peer("flask", "flask", "the same, a template and a connection per reader"),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
