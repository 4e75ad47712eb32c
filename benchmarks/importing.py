"""A million lines brought in: how fast, in how long transactions, in how much memory.

The file is read, understood and written by the very functions that the command and the
worker use, in a process of its own. Against it stands, in the same round on the same
disk, what the database alone can do: `executemany` with `ON CONFLICT` of an address and
its key into a table that has nothing else.
"""

import json
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from benchmarks import postgres
from benchmarks.contenders import Bench, Child
from benchmarks.inkorg import measured
from benchmarks.installation import Place, opened, settings_for
from benchmarks.report import Goal, Section, Spread, figure
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.models import Newsletter, Status
from newsletter.serving import make_ready
from newsletter.subscribers import columns, sheets
from newsletter.subscribers.importing import Importer, Lines, Report, Source, ahead

MANY, SOME, QUICK_MANY = 1_000_000, 300_000, 100_000
ASKED = 30_000  # lines a second, on SQLite
LONGEST = 0.25  # seconds that a sign-up may have to wait
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
DOMAINS = ("gmail.com", "telia.com", "hotmail.com", "kommun.example.se", "bolaget.se")


def measure(bench: Bench, *, rounds: int, whole: bool = False) -> Section:
    """Bring a file, if `whole` of a million, in a few times on either database."""
    lines = QUICK_MANY if bench.quick else MANY if whole else SOME
    section = Section(
        "import",
        f"{lines:,} lines of a CSV file imported",
        ("", "lines/s", "of bare executemany", "longest write, s", "peak, MB"),
    )
    file = bench.stock.folder / "readers.csv"
    write_file(file, lines)
    dialects = ["sqlite", "postgresql"]
    if not postgres.available():
        dialects.remove("postgresql")
        section.notes.append(f"Left out, PostgreSQL: {postgres.MISSING}.")
    for dialect in dialects:
        on(bench, section, dialect, file, lines, rounds)
    file.unlink()
    section.notes.append(
        "Each line has an address, a name, a status and two dates. Bare is SQLite's"
        " executemany with ON CONFLICT of address and key into a table with one unique"
        " column; an import writes three tables with fourteen indexes."
    )
    return section


def on(
    bench: Bench,
    section: Section,
    dialect: str,
    file: Path,
    lines: int,
    rounds: int,
) -> None:
    """Measure on one database."""
    found, bare = [], []
    for _ in range(rounds):
        bare.append(bare_rate(bench.stock.folder / "bare.sqlite3", file))
        with bench.stock.place(dialect, 1, send=False) as place:
            found.append(imported(place, file))
        print(f"  {NAMES[dialect]}: {found[-1]['rate']:,.0f}/s", flush=True)
    rate = Spread.of([one["rate"] for one in found])
    ratio = Spread.of([a["rate"] / b for a, b in zip(found, bare, strict=True)])
    longest = Spread.of([one["longest"] for one in found])
    memory = Spread.of([one["peak_mb"] for one in found])
    section.rows.append(
        [NAMES[dialect], *(s.show(figure) for s in (rate, ratio, longest, memory))]
    )
    section.data[dialect] = {"rounds": found, "bare": bare}
    what = f"{lines:,} lines imported, {NAMES[dialect]}"
    if dialect == "sqlite":
        section.goals.append(Goal(what, rate, at_least=ASKED, unit="lines/s"))
    what = f"the longest write of an import, {NAMES[dialect]}"
    section.goals.append(Goal(what, longest, at_most=LONGEST, unit="s"))


def write_file(path: Path, lines: int) -> None:
    """Write addresses that stand in no order, as exports have them."""
    drawn = random.Random(1)
    with path.open("w") as out:
        out.write("email,name,status,requested_at,confirmed_at\n")
        for number in range(lines):
            email = f"{drawn.getrandbits(40):x}.{number}@{drawn.choice(DOMAINS)}"
            out.write(
                f"{email},Åsa Öberg,subscribed,2024-05-{number % 28 + 1:02}T10:00:00Z,"
                f"2024-05-{number % 28 + 1:02}T10:05:00Z\n"
            )


def bare_rate(path: Path, file: Path) -> float:
    """Return how many rows a second `executemany` alone writes."""
    with file.open() as lines:
        next(lines)
        emails = [line.partition(",")[0] for line in lines]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE reader (id INTEGER PRIMARY KEY, email TEXT, key TEXT UNIQUE)"
        )
        began = time.perf_counter()
        for start in range(0, len(emails), sheets.BATCH_RECORDS):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO reader (email, key) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(one, one) for one in emails[start : start + sheets.BATCH_RECORDS]],
            )
            connection.execute("COMMIT")
        seconds = time.perf_counter() - began
    for ending in ("", "-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    return len(emails) / seconds


def imported(place: Place, file: Path) -> dict[str, Any]:
    """Import in a process of its own."""
    child = Child("benchmarks.importing", place.url, str(file))
    child.go()
    found = child.result()
    seconds = (found["ended"] - found["began"]) / 1e9
    return {**found, "rate": found["lines"] / seconds}


def bring_in(database: Database, settings: Settings, file: Path) -> Report:
    """Do what the command does."""
    report, at = Report(), utcnow()
    with file.open("rb") as opened_file:
        for sheet in sheets.read(opened_file, file.name):
            layout = columns.check(sheet.layout)
            with database.reading() as session:
                here = session.get_one(Newsletter, 1)
                lines = Lines(session, settings, here, layout, Status.ACTIVE, at)
            for batch in ahead(map(lines.look, sheets.pieces(sheet))):
                with database.transaction(much=True) as session:
                    Importer(
                        session,
                        settings,
                        session.get_one(Newsletter, 1),
                        layout,
                        status=Status.ACTIVE,
                        source=Source("the old list"),
                        at=at,
                        now=utcnow(),
                    ).run(batch, report)
    return report


class _Timed(Database):
    """A database that remembers its longest transaction.

    The log is copied into the file when others may write: that is not in it.
    """

    longest = ended = 0.0

    def _tidy(self) -> None:
        self.ended = time.perf_counter()
        super()._tidy()

    @contextmanager
    def transaction(self, **how: bool) -> Iterator[Session]:
        """Open a transaction, and look at the clock before and after."""
        self.ended = 0.0
        with super().transaction(**how) as session:
            began = time.perf_counter()
            yield session
        ended = self.ended or time.perf_counter()
        self.longest = max(self.longest, ended - began)


def main() -> None:
    """Import a file, when told to."""
    url, file = sys.argv[1], Path(sys.argv[2])
    make_ready()  # as workers do
    with opened(url) as database:
        timed, reports = _Timed(database.engine), []

        def work() -> int:
            reports.append(bring_in(timed, settings_for(url), file))
            return reports[0].counts["added"]

        found = measured(work)
        lines, longest = reports[0].lines, timed.longest
        print(json.dumps({**found, "lines": lines, "longest": longest}))


if __name__ == "__main__":
    main()
