"""`make bench`: measures Inkorg against others and itself, and says what it reached.

    python -m benchmarks                        everything; writes docs/performance.md
    python -m benchmarks --quick                a fifth of it, to see that it works
    python -m benchmarks --only send,crash      some parts
    python -m benchmarks --only send --sink csink --contenders inkorg-sqlite,smtp-source
"""

import argparse
import time

from benchmarks import report, send
from benchmarks.contenders import Bench
from benchmarks.installation import Stock
from benchmarks.report import Section

PARTS = ("send",)


def run_part(name: str, bench: Bench, given: argparse.Namespace) -> Section:
    """Run one part."""
    return send.measure(
        bench,
        rounds=given.rounds,
        sinks=given.sink,
        contenders=given.contenders,
    )


def names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def main() -> None:
    """Read the arguments and run the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=names, default=list(PARTS), metavar="PART,…")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sink", type=names, default=[], metavar="smtp-sink,csink")
    parser.add_argument("--contenders", type=names, default=[], metavar="NAME,…")
    given = parser.parse_args()
    with Stock() as stock:
        bench = Bench(stock, quick=given.quick)
        for name in given.only:
            began = time.monotonic()
            section = run_part(name, bench, given)
            print(report.on_terminal(send.timed(section, began)), flush=True)


if __name__ == "__main__":
    main()
