"""kill -9, thirty times in one issue: who is lost, who gets it twice, who is listed.

Each worker is killed after a random number of mails, so that the kills spread over the
whole issue, and a random few milliseconds later, so that they fall anywhere between two
writes. The lease is short; what a dead worker had claimed is taken up after it.
"""

import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from sqlalchemy import select

from benchmarks import postgres, tools
from benchmarks.contenders import Bench, Child
from benchmarks.installation import Place, counts, opened, relay_url
from benchmarks.million import NAMES
from benchmarks.report import Goal, Section, Spread
from benchmarks.sinks import CSink, Record
from newsletter.mail.ledger import Counts
from newsletter.models import Delivery

READERS, KILLS = 20_000, 30
QUICK_READERS, QUICK_KILLS = 4_000, 5
LEASE_SECONDS = 2.0
STALLED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Found:
    """What became of everybody, as the sink and the ledger saw it."""

    readers: int
    kills: int
    counts: Counts
    lost: int
    repeats: list[int]  # mails that came again, by the kill before
    renamed: int  # readers whose repeats have different Message-IDs
    unlisted: int  # readers who got it again and are not listed
    listed: int


def measure(bench: Bench, *, seed: int | None = None) -> Section:
    """Crash through an issue on each database."""
    section = Section(
        "crash",
        "kill -9 in the middle of an issue",
        ("", "kills", "readers", "lost", "repeated, all", "most by one kill", "listed"),
    )
    if not tools.compiled("csink"):
        section.notes.append(f"Left out: {tools.NO_COMPILER}.")
        return section
    seed = random.randrange(10**6) if seed is None else seed
    section.notes.append(f"Seed {seed}; leases of {LEASE_SECONDS:g} s.")
    for dialect, name in NAMES.items():
        if dialect == "postgresql" and not postgres.available():
            section.notes.append(f"Left out, PostgreSQL: {postgres.MISSING}.")
            continue
        readers = QUICK_READERS if bench.quick else READERS
        with bench.stock.place(dialect, readers) as place:
            kills = QUICK_KILLS if bench.quick else KILLS
            found = crash(place, kills, random.Random(seed))
        describe(section, name, found)
    section.notes.append(
        "Listed are all whose outcome was unknown for a moment (`issue status` names"
        " them), also those who had got nothing yet and so got one mail."
    )
    return section


def describe(section: Section, name: str, found: Found) -> None:
    """Put what was found into the table and the goals."""
    most, every = max(found.repeats, default=0), sum(found.repeats)
    numbers = (found.kills, found.readers, found.lost, every, most, found.listed)
    section.rows.append([name, *(f"{number:,}" for number in numbers)])
    section.data[name] = {
        "lost": found.lost,
        "repeats_by_kill": found.repeats,
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
        goal = Goal(
            f"{name}, {found.kills} kills: {what}",
            Spread.of([number]),
            at_most=0,
            unit="readers",
        )
        section.goals.append(goal)


def crash(place: Place, kills: int, dice: random.Random) -> Found:
    """Kill worker after worker, let a last one finish, and look."""
    killed_at: list[int] = []
    marks = sorted(dice.sample(range(1, int(place.readers * 0.95)), kills))
    with CSink(records=True) as sink:
        for mark in marks:
            worker = start_worker(place, sink)
            # The mark may lie behind already: then a little later.
            later = sink.count() + dice.randint(1, max(1, place.readers // kills // 2))
            wait_for(sink, max(mark, later), place)
            time.sleep(dice.random() * 0.005)
            worker.process.kill()
            killed_at.append(time.monotonic_ns())
            worker.process.communicate()
            print(f"  killed {len(killed_at)} at {sink.count():,}", flush=True)
        worker = start_worker(place, sink)
        while (left := counts(place.url)).left:
            time.sleep(0.2)
        worker.process.terminate()
        worker.result()
        seen = sink.seen()
    with opened(place.url) as database, database.reading() as session:
        everybody = set(session.scalars(select(Delivery.address)))
        listed = set(session.scalars(select(Delivery.address).where(Delivery.resent)))
    return look(everybody, listed, seen, killed_at, left)


def start_worker(place: Place, sink: CSink) -> Child:
    """Start a worker with short leases and let it send."""
    arguments = ("--lease", LEASE_SECONDS, "--until-told")
    worker = Child("benchmarks.inkorg", place.url, relay_url(sink.port), *arguments)
    worker.go()
    return worker


def wait_for(sink: CSink, number: int, place: Place) -> None:
    """Wait until so many have come, or nothing is left to come."""
    last, since = -1, time.monotonic()
    while (found := sink.count()) < number:
        if found != last:
            last, since = found, time.monotonic()
        waited = time.monotonic() - since
        if waited > 1 and not counts(place.url).left:
            return
        if waited > STALLED_SECONDS:
            raise RuntimeError(f"{found} of {number} came, then nothing")
        time.sleep(0.0005)


def look(
    everybody: set[str],
    listed: set[str],
    seen: list[Record],
    killed_at: list[int],
    found: Counts,
) -> Found:
    """Compare what the sink saw with what the ledger says."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    times: defaultdict[str, list[int]] = defaultdict(list)
    for record in seen:
        names[record.recipient].add(record.message_id)
        times[record.recipient].append(record.at_ns)
    repeated = {recipient for recipient, at in times.items() if len(at) > 1}
    by_kill: Counter[int] = Counter()
    for recipient in repeated:
        for at in sorted(times[recipient])[:-1]:
            # Known to the relay, unknown to the ledger: the next kill's doing.
            by_kill[sum(killed < at for killed in killed_at)] += 1
    return Found(
        readers=len(everybody),
        kills=len(killed_at),
        counts=found,
        lost=len(everybody - times.keys()),
        repeats=[by_kill[number] for number in range(len(killed_at) + 1)],
        renamed=sum(len(names[recipient]) > 1 for recipient in repeated),
        unlisted=len(repeated - listed),
        listed=len(listed),
    )
