"""Signing up while an issue goes out: how long until the confirmation is on the wire.

Two spells, each with people signing up at a steady pace: one with the relay taking all
it can get, and one where the sender is told to hand over no more than so many a second,
so that the issue lasts. Waiting counts from the moment a sign-up is due to the arrival
of its mail.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

from benchmarks import postgres, tools
from benchmarks.contenders import Bench, Child, clean_environ
from benchmarks.installation import Place, environ_for, relay_url
from benchmarks.million import NAMES, send
from benchmarks.report import Goal, Section, Spread, figure
from benchmarks.signups import MARK
from benchmarks.sinks import CSink

COME_SECONDS = 20  # for the last confirmation, after the issue


@dataclass(frozen=True, slots=True)
class Spell:
    """How an issue goes out while people sign up."""

    what: str
    readers: int
    signups: float  # a second
    rate: int = 0  # of the relay; 0 is as fast as it goes


SPELLS = (
    Spell("full speed", 300_000, signups=20),
    Spell("4,000/s", 100_000, signups=10, rate=4_000),
)
QUICK = (
    Spell("full speed", 30_000, signups=20),
    Spell("4,000/s", 20_000, signups=10, rate=4_000),
)


def measure(bench: Bench) -> Section:
    """Run every spell on every database."""
    section = Section(
        "confirm",
        "Confirmations while an issue goes out",
        ("", "issue", "lasts, s", "sign-ups", "p50, ms", "p99, ms", "max, ms"),
    )
    if not tools.compiled("csink"):
        section.notes.append(f"Left out: {tools.NO_COMPILER}.")
        return section
    for dialect, name in NAMES.items():
        if dialect == "postgresql" and not postgres.available():
            section.notes.append(f"Left out, PostgreSQL: {postgres.MISSING}.")
            continue
        for spell in QUICK if bench.quick else SPELLS:
            with bench.stock.place(dialect, spell.readers, send=False) as place:
                lasted, waits = run(place, spell)
            p99 = percentile(waits, 0.99)
            row = [name, f"{spell.readers:,} at {spell.what}", f"{lasted:.1f}"]
            row += [str(len(waits)), figure(median(waits)), figure(p99)]
            section.rows.append([*row, figure(max(waits))])
            section.data[f"{dialect} {spell.what}"] = [round(w, 1) for w in waits]
            what = f"{name}, issue at {spell.what}: confirmation, 99th percentile"
            section.goals.append(
                Goal(what, Spread.of([p99 / 1000]), at_most=2.0, unit="s")
            )
            print("  " + "  ".join(section.rows[-1]), flush=True)
    section.notes.append(
        "Only sign-ups made between the issue's first and last mail count. The issue is"
        " held back in the second spell alone, by the relay's rate in the settings."
    )
    return section


def run(place: Place, spell: Spell) -> tuple[float, list[float]]:
    """Send the issue while people sign up; return its seconds and their waits (ms)."""
    with CSink(records=True, only=MARK) as sink:
        people = Child("benchmarks.signups", place.url, spell.signups)
        worker = subprocess.Popen(
            [sys.executable, "-m", "newsletter", "work"],
            cwd=tools.ROOT,
            env={
                **clean_environ(),
                **environ_for(place.url, relay_url(sink.port, rate=spell.rate)),
            },
            stderr=subprocess.DEVNULL,
        )
        time.sleep(2.0)
        try:
            people.go()
            send(place)
            first, last = window(sink, place.readers)
            made = people.result()
            waits = arrivals(sink, made, first, last)
        finally:
            worker.terminate()
            worker.wait()
    return (last - first) / 1e9, waits


def window(sink: CSink, readers: int) -> tuple[int, int]:
    """Wait for the issue; return the moments of its beginning and end."""
    before = sink.count()
    while sink.count() < before + 20:
        time.sleep(0.002)
    first, since, seen = time.monotonic_ns(), time.monotonic(), 0
    while (found := sink.count()) < readers:
        if found != seen:
            seen, since = found, time.monotonic()
        if time.monotonic() - since > 60:
            raise RuntimeError(f"{found} of {readers} came, then nothing")
        time.sleep(0.01)
    return first, time.monotonic_ns()


def arrivals(sink: CSink, made: dict[str, int], first: int, last: int) -> list[float]:
    """Wait for every confirmation; return the waits of those asked for meanwhile."""
    end = time.monotonic() + COME_SECONDS
    while True:
        came = {record.recipient: record.at_ns for record in sink.seen()}
        if made.keys() <= came.keys():
            break
        if time.monotonic() > end:
            lost = len(made.keys() - came.keys())
            raise RuntimeError(f"{lost} of {len(made)} confirmations did not come")
        time.sleep(0.1)
    return [
        (came[address] - at) / 1e6
        for address, at in made.items()
        if first <= at <= last
    ]


def percentile(values: list[float], part: float) -> float:
    """Return the value that `part` of them do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]
