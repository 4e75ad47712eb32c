"""`make bench`: measures Inkorg against others and itself, and says what it reached.

    python -m benchmarks                        everything; writes docs/performance.md
    python -m benchmarks --quick                a fifth of it, to see that it works
    python -m benchmarks --only send,crash      some parts
    python -m benchmarks --only send --sink csink --contenders inkorg-sqlite,smtp-source

The results are also in build/bench/results.json.
"""

import argparse
import functools
import json
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks import (
    confirm,
    crash,
    hosts,
    importing,
    latency,
    machine,
    million,
    pages,
    planning,
    report,
    send,
    signing,
    tools,
)
from benchmarks.contenders import Bench
from benchmarks.installation import Stock
from benchmarks.report import GOAL_COLUMNS, Section

PARTS = (
    *("send", "latency", "million", "planning", "pages", "import", "confirm"),
    *("dkim", "crash", "hosts"),
)
RESULTS = tools.CACHE / "results.json"
DOCUMENT = tools.ROOT / "docs" / "performance.md"
PICTURES = tools.ROOT / "docs" / "pictures"
BEGIN, END = "<!-- made by make bench: begin -->", "<!-- made by make bench: end -->"


def work(bench: Bench, given: argparse.Namespace) -> dict[str, Callable[[], Section]]:
    """Return what each part does."""
    rounds = given.rounds
    return {
        "send": functools.partial(
            send.measure,
            bench,
            rounds=rounds,
            sinks=given.sink,
            contenders=given.contenders,
        ),
        "latency": functools.partial(latency.measure, bench, rounds=rounds),
        "million": functools.partial(
            million.measure,
            bench,
            rounds=rounds,
            all_on_postgresql=given.million_postgresql,
        ),
        "planning": functools.partial(planning.measure, bench, rounds=rounds),
        "pages": functools.partial(
            pages.measure, bench, rounds=rounds, whole=given.whole
        ),
        "import": functools.partial(
            importing.measure, bench, rounds=rounds, whole=given.whole
        ),
        "confirm": functools.partial(confirm.measure, bench),
        "dkim": functools.partial(signing.measure, bench, rounds=rounds),
        "crash": functools.partial(crash.measure, bench, seed=given.seed),
        "hosts": functools.partial(hosts.measure, bench),
    }


def run(given: argparse.Namespace) -> list[Section]:
    """Run the parts that were asked for, one after the other."""
    done = []
    with Stock() as stock:
        bench = Bench(stock, quick=given.quick)
        parts = work(bench, given)
        for name in given.only:
            print(f"\n{name} …", flush=True)
            began = time.monotonic()
            try:
                section = parts[name]()
            except Exception as error:  # the other parts are worth having
                traceback.print_exc()
                section = Section(name, name, notes=[f"Broke off: {error!r:.300}"])
                section.broken = True
            section.seconds = time.monotonic() - began
            print(report.on_terminal(section), flush=True)
            done.append(section)
    return done


def as_json(sections: list[Section], about: dict[str, Any]) -> str:
    """Return the results for a program to read."""
    parts = {section.name: section.as_json() for section in sections}
    return json.dumps({**about, "parts": parts}, indent=2, ensure_ascii=False)


def as_document(sections: list[Section], about: dict[str, Any]) -> str:
    """Return the results as they stand in docs/performance.md."""
    goals = [goal.cells() for section in sections for goal in section.goals]
    made_on = [[name, value] for name, value in about["machine"].items()]
    minutes = sum(section.seconds for section in sections) / 60
    blocks = [
        f"Made on {about['at'][:10]} at commit {about['commit']},"
        f" {about['rounds']} rounds, in {minutes:.0f} minutes.",
        report.markdown(("Machine", ""), made_on),
        "### What it was to reach",
        report.markdown(GOAL_COLUMNS, goals),
        *(report.in_document(section, "pictures") for section in sections),
    ]
    return "\n\n".join(blocks)


def write_document(sections: list[Section], about: dict[str, Any]) -> None:
    """Put the results between the markers, and the plots beside them."""
    for section in sections:
        for name, picture in section.plots.items():
            (PICTURES / name).write_text(picture)
    new = as_document(sections, about)
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(report.replace_between(text, BEGIN, END, new))


def commit() -> str:
    """Name the version that was measured."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=tools.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"


def names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parts_of(text: str) -> list[str]:
    """Read the names of parts."""
    found = names(text)
    if unknown := set(found) - set(PARTS):
        raise argparse.ArgumentTypeError(
            f"{min(unknown)} is none of {', '.join(PARTS)}"
        )
    return found


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=parts_of, default=list(PARTS), metavar="PART,…",
                        help=", ".join(PARTS))  # fmt: skip
    parser.add_argument("--rounds", type=int, help="3; with --quick 1")
    parser.add_argument("--quick", action="store_true", help="a fifth of the mails")
    parser.add_argument("--sink", type=names, default=[], metavar="NAME,…",
                        help="for send: smtp-sink, csink, python")  # fmt: skip
    parser.add_argument("--contenders", type=names, default=[], metavar="NAME,…",
                        help="for send: inkorg-sqlite, smtp-source, …")  # fmt: skip
    parser.add_argument("--million-postgresql", action="store_true",
                        help="send all of the million on PostgreSQL too")  # fmt: skip
    parser.add_argument("--whole", action="store_true",
                        help="pages and import with a million readers, not 200,000 and"
                        " 300,000")  # fmt: skip
    parser.add_argument("--seed", type=int, help="for crash: the moments of the kills")
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction,
                        help="write docs/performance.md; as it is, only when everything"
                        " is measured")  # fmt: skip
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 3)
    if given.docs is None:
        given.docs = given.only == list(PARTS) and not given.quick
    return given


def main() -> None:
    """Measure, print, and write down."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and take everything down
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "rounds": given.rounds,
        "quick": given.quick,
        "machine": machine.describe(),
    }
    print(", ".join(f"{name} {value}" for name, value in about["machine"].items()))
    sections = run(given)
    goals = [goal.cells() for section in sections for goal in section.goals]
    if len(sections) > 1 and goals:
        print("\n" + report.table(GOAL_COLUMNS, goals))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(as_json(sections, about))
    print(f"\nAs JSON: {RESULTS.relative_to(tools.ROOT)}")
    if any(section.broken for section in sections):
        sys.exit("Something broke off: see above. The document is left as it was.")
    if given.docs:
        write_document(sections, about)
        print(f"Written into {DOCUMENT.relative_to(tools.ROOT)}")


if __name__ == "__main__":
    main()
