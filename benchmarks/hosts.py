"""Three hosts on one PostgreSQL; one is killed, one is cut off from the database.

As root each host is a network namespace with two cables of its own, one to the
database and one to the relay, and cutting off is pulling the first: the host goes on
mailing what it has claimed and cannot say so. Elsewhere the hosts are three processes,
and the second is stopped in the middle (SIGSTOP) and goes on later. In both it comes
back when the others are done: what it then has to say must not confuse anything.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import select

from benchmarks import postgres, tools
from benchmarks.contenders import Bench, Child
from benchmarks.crash import Found, look
from benchmarks.installation import counts, make, opened, relay_url, settings_for, start
from benchmarks.postgres import Cluster
from benchmarks.report import Goal, Section, Spread
from benchmarks.sinks import CSink
from newsletter.models import Delivery, Issue

READERS, QUICK_READERS = 20_000, 6_000
HOSTS = 3
LEASE_SECONDS = 3.0
RATE = 1_500  # a second: slow enough to be in the middle when it happens
RELAY = "10.202.0.1"


@dataclass(frozen=True, slots=True)
class Host:
    """Where a worker runs, and how it reaches the others."""

    number: int
    within: tuple[str, ...] = ()
    database: str = "127.0.0.1"
    relay: str = "127.0.0.1"

    @property
    def cable(self) -> str:
        """Name our end of its cable to the database."""
        return f"inkd{self.number}"


def measure(bench: Bench) -> Section:
    """Send one issue from three hosts and lose two of them."""
    section = Section(
        "hosts",
        "Three hosts, one killed, one cut off from the database",
        ("", "readers", "lost", "repeated", "listed"),
    )
    if missing := _missing():
        section.notes.append(f"Left out: {missing}.")
        return section
    with hosts() as places:
        apart = bool(places[0].within)
        section.notes.append(
            "The hosts are network namespaces; the cable to the database is pulled."
            if apart
            else "No network namespaces here: the hosts are processes, and the second"
            " is stopped (SIGSTOP) and let go on later."
        )
        found = run(places, QUICK_READERS if bench.quick else READERS)
    describe(section, found)
    return section


def _missing() -> str:
    if not tools.compiled("csink"):
        return tools.NO_COMPILER
    return "" if postgres.available() else postgres.MISSING


@contextmanager
def hosts() -> Iterator[list[Host]]:
    """Make three hosts, in namespaces if we may; take them down afterwards."""
    made, apart_here = [Host(number) for number in range(1, HOSTS + 1)], _may()
    try:
        apart = [_namespace(host.number) for host in made] if apart_here else []
        yield apart or made
    finally:
        for host in made if apart_here else ():
            _take_down(_name(host.number))


def _may() -> bool:
    """Tell whether namespaces can be made here."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    trial = _name(0)
    adding = ["ip", "netns", "add", trial]
    if subprocess.run(adding, capture_output=True, check=False).returncode:
        return False
    _take_down(trial)
    return True


def _take_down(name: str) -> None:
    """Remove a namespace and its cables."""
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _name(number: int) -> str:
    return f"inkorg-bench-{number}"


def _namespace(number: int) -> Host:
    """Make a host with a cable to the database and one to the relay."""
    name = _name(number)
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")
    for ours, net in ((f"inkd{number}", 201), (f"inkm{number}", 202)):
        theirs = ours.replace("ink", "far")
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        _ip("addr", "add", f"10.{net}.{number}.1/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "addr", "add", f"10.{net}.{number}.2/30", "dev", theirs)
        _ip("-n", name, "link", "set", theirs, "up")
    if number == 1:  # the relay has one address for all
        _ip("addr", "add", f"{RELAY}/32", "dev", "inkm1")
    _ip("-n", name, "route", "add", RELAY, "via", f"10.202.{number}.1")
    return Host(number, ("ip", "netns", "exec", name), f"10.201.{number}.1", RELAY)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def run(places: list[Host], readers: int) -> Found:
    """Send from all; kill the first, cut off the second; compare at the end."""
    addresses = dict.fromkeys(["127.0.0.1", *(host.database for host in places)])
    with (
        Cluster(",".join(addresses)) as cluster,
        CSink(records=True, address="0.0.0.0") as sink,
    ):
        url = cluster.create("hosts")
        make(url, readers, send=False)
        workers = [start_worker(host, cluster, sink) for host in places]
        with opened(url) as database:
            with database.reading() as session:
                issue_id = session.scalars(select(Issue.id)).one()
            start(database, settings_for(url), issue_id)
        wait_for(sink, readers // 5)
        workers[0].process.kill()
        killed_at = [time.monotonic_ns()]
        wait_for(sink, readers * 2 // 5)
        cut(places[1], workers[1])
        killed_at.append(time.monotonic_ns())
        while counts(url).left:
            time.sleep(0.2)
        time.sleep(LEASE_SECONDS)
        mend(places[1], workers[1])
        time.sleep(LEASE_SECONDS)
        for worker in workers[1:]:
            worker.process.terminate()
        for worker in workers:
            finish(worker)
        seen, left = sink.seen(), counts(url)
        with opened(url) as database, database.reading() as session:
            everybody = set(session.scalars(select(Delivery.address)))
            resent = select(Delivery.address).where(Delivery.resent)
            listed = set(session.scalars(resent))
    return look(everybody, listed, seen, killed_at, left)


def start_worker(host: Host, cluster: Cluster, sink: CSink) -> Child:
    """Start a worker on a host."""
    worker = Child(
        "benchmarks.inkorg",
        cluster.url("hosts", host.database),
        relay_url(sink.port, host.relay, rate=RATE),
        "--lease",
        LEASE_SECONDS,
        "--until-told",
        within=host.within,
    )
    worker.go()
    return worker


def wait_for(sink: CSink, number: int) -> None:
    """Wait until so many have come."""
    end = time.monotonic() + 60
    while sink.count() < number:
        if time.monotonic() > end:
            raise RuntimeError(f"{sink.count()} of {number} came in a minute")
        time.sleep(0.002)


def cut(host: Host, worker: Child) -> None:
    """Take a host's database away, or stop it."""
    if host.within:
        _ip("link", "set", host.cable, "down")
    else:
        worker.process.send_signal(signal.SIGSTOP)


def mend(host: Host, worker: Child) -> None:
    """Give it back."""
    if host.within:
        _ip("link", "set", host.cable, "up")
    else:
        worker.process.send_signal(signal.SIGCONT)


def finish(worker: Child) -> None:
    """Wait for a worker's end, or make it."""
    try:
        worker.process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.communicate()
        raise


def describe(section: Section, found: Found) -> None:
    """Put what was found into the table and the goals."""
    numbers = (found.readers, found.lost, sum(found.repeats), found.listed)
    section.rows.append(["three workers", *(f"{number:,}" for number in numbers)])
    section.data["hosts"] = {
        "lost": found.lost,
        "repeats": sum(found.repeats),
        "different_message_ids": found.renamed,
        "unlisted": found.unlisted,
        "listed": found.listed,
    }
    for what, number in (
        ("lost", found.lost),
        ("repeated with another Message-ID", found.renamed),
        ("repeated and not listed", found.unlisted),
        ("not sent, by the ledger", found.readers - found.counts.sent),
    ):
        section.goals.append(
            Goal(f"three hosts: {what}", Spread.of([number]), at_most=0, unit="readers")
        )
