"""A million readers: from `send` to the first mail, then all of them, and the memory.

The ruler for the start is the bare `INSERT … SELECT` of the same rows into a table with
the ledger's columns and indexes, without its foreign keys and without anything else
that sending does: rendering, freezing, counting, the worker noticing.
"""

import time
from typing import Any

from sqlalchemy import (
    MetaData,
    Table,
    func,
    insert,
    literal,
    quoted_name,
    select,
)

from benchmarks import postgres, tools
from benchmarks.contenders import Bench, Child
from benchmarks.installation import (
    Place,
    counts,
    opened,
    relay_url,
    settings_for,
    start,
)
from benchmarks.report import Goal, Section, Spread, figure
from benchmarks.sinks import CSink
from newsletter.db import Database, utcnow
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    Status,
    Subscriber,
    Subscription,
)

MANY, FEW = 1_000_000, 10_000
QUICK_MANY = 100_000
STALLED_SECONDS = 60
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def measure(bench: Bench, *, rounds: int, all_on_postgresql: bool = False) -> Section:
    """Start a great issue a few times, then send one to its end."""
    readers = QUICK_MANY if bench.quick else MANY
    section = Section(
        "million",
        f"An issue to {readers:,} readers",
        ("", "bare INSERT … SELECT, s", "send to first mail, s", "×"),
    )
    if not tools.compiled("csink"):
        section.notes.append(f"Left out: {tools.NO_COMPILER}.")
        return section
    dialects = ["sqlite", "postgresql"]
    if not postgres.available():
        dialects.remove("postgresql")
        section.notes.append(f"Left out, PostgreSQL: {postgres.MISSING}.")
    for dialect in dialects:
        starting(bench, section, dialect, readers, rounds)
        if dialect == "sqlite" or all_on_postgresql:
            memory(bench, section, dialect, readers)
        bench.stock.forget(dialect, readers, send=False)
    return section


def starting(
    bench: Bench, section: Section, dialect: str, readers: int, rounds: int
) -> None:
    """Measure the bare statement and the real start in turns."""
    bare, first = [], []
    for _ in range(rounds):
        with bench.stock.place(dialect, readers, send=False) as place:
            bare.append(bare_insert(place))
        with bench.stock.place(dialect, readers, send=False) as place:
            first.append(first_mail(place))
        print(
            f"  {NAMES[dialect]}: bare {bare[-1]:.2f} s, first mail {first[-1]:.2f} s",
            flush=True,
        )
    ratio = Spread.of([b / a for a, b in zip(bare, first, strict=True)])
    section.rows.append(
        [
            NAMES[dialect],
            Spread.of(bare).show(figure),
            Spread.of(first).show(figure),
            ratio.show(figure),
        ]
    )
    section.data[f"{dialect} start"] = {"bare": bare, "first_mail": first}
    what = (
        f"{readers:,} readers, {NAMES[dialect]}: send to first mail, against the rows"
    )
    section.goals.append(Goal(what, ratio, at_most=4.0))


def bare_insert(place: Place) -> float:
    """Return how long the rows alone take, committed."""
    with opened(place.url) as database:
        ledger = like_the_ledger(database)
        issued = {
            "message_id": literal(1),
            "subscription_id": Subscription.id,
            "occasion": literal("issue:1"),
            "address": Subscriber.email,
            "lane": literal(1),
            "state": literal(DeliveryState.QUEUED, Delivery.state.type),
            "attempts": literal(0),
            "resent": literal(False),
            "created_at": literal(utcnow(), Delivery.created_at.type),
        }
        rows = (
            select(*issued.values())
            .select_from(Subscription)
            .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
            .where(
                Subscription.newsletter_id == 1, Subscription.status == Status.ACTIVE
            )
        )
        statement: Any = insert(ledger).from_select(
            list(issued), rows, include_defaults=False
        )
        began = time.perf_counter()
        with database.transaction() as session:
            session.execute(statement)
        seconds = time.perf_counter() - began
        with database.reading() as session:
            found = session.scalar(select(func.count()).select_from(ledger))
            assert found == place.readers, found
    return seconds


def like_the_ledger(database: Database) -> Table:
    """Make an empty table with the ledger's columns and indexes; no foreign keys."""
    table = Delivery.metadata.tables["delivery"].to_metadata(MetaData(), name="bare")
    for key in list(table.foreign_key_constraints):
        table.constraints.discard(key)
    for column in table.c:
        column.foreign_keys.clear()
    # On either database some of these names are shared by all tables.
    named: Any
    for named in (*table.indexes, *table.constraints):
        named.name = quoted_name(f"bare_{named.name}", None)
    with database.transaction() as session:
        table.create(session.connection())
    return table


def first_mail(place: Place) -> float:
    """Return how long it takes from `send` to the first mail at the relay."""
    with CSink() as sink:
        worker = Child(
            "benchmarks.inkorg", place.url, relay_url(sink.port), "--until-told"
        )
        worker.go()
        time.sleep(1.0)  # it is waiting for work, as a worker does
        began = send(place)
        wait_for(sink, 1)
        worker.process.kill()
        worker.process.communicate()
        return (sink.counted().first_ns - began) / 1e9


def memory(bench: Bench, section: Section, dialect: str, readers: int) -> None:
    """Send everything; compare the worker's peak with that of a small issue."""
    peaks: dict[int, float] = {}
    for number in (FEW, readers):
        with bench.stock.place(dialect, number, send=False) as place:
            seconds, peaks[number] = send_all(place)
        print(
            f"  {number:,} readers: {seconds:.1f} s, {peaks[number]:.0f} MB", flush=True
        )
        section.data[f"{dialect} {number}"] = {
            "seconds_from_first_to_last": round(seconds, 2),
            "peak_mb": round(peaks[number], 1),
        }
    section.notes.append(
        f"{NAMES[dialect]}: all {readers:,} mails in {seconds:,.1f} s"
        f" ({readers / seconds:,.0f}/s) from first to last; the worker's peak memory"
        f" {peaks[readers]:.0f} MB, with {FEW:,} readers {peaks[FEW]:.0f} MB."
    )
    what = f"peak memory of the worker, {readers:,} against {FEW:,} readers"
    ratio = Spread.of([peaks[readers] / peaks[FEW]])
    section.goals.append(Goal(what, ratio, at_most=1.2))


def send_all(place: Place) -> tuple[float, float]:
    """Send to everybody; return the seconds and the worker's peak memory."""
    with CSink() as sink:
        worker = Child(
            "benchmarks.inkorg", place.url, relay_url(sink.port), "--until-told"
        )
        worker.go()
        send(place)
        wait_for(sink, place.readers)
        while (found := counts(place.url)).left:
            time.sleep(0.1)
        worker.process.terminate()
        ended = worker.result()
        seen = sink.counted()
    if not found.sent == place.readers == seen.messages == ended["sent"]:
        raise RuntimeError(f"{place.readers} readers, {seen.messages} taken, {found}")
    return (seen.last_ns - seen.first_ns) / 1e9, ended["peak_mb"]


def send(place: Place) -> int:
    """Send the waiting issue; return the moment it began."""
    with opened(place.url) as database:
        with database.reading() as session:
            issue_id = session.scalars(select(Issue.id)).one()
        began = time.monotonic_ns()
        assert start(database, settings_for(place.url), issue_id) == place.readers
    return began


def wait_for(sink: CSink, number: int) -> None:
    """Wait until so many have come. Raises RuntimeError if nothing comes any more."""
    last, since = -1, time.monotonic()
    while (found := sink.count()) < number:
        if found != last:
            last, since = found, time.monotonic()
        if time.monotonic() - since > STALLED_SECONDS:
            raise RuntimeError(f"{found} of {number} came, then nothing")
        time.sleep(0.002)
