"""A relay that is far away: what a round trip costs, what more connections bring."""

from collections import defaultdict
from contextlib import ExitStack

from benchmarks import plot, tools
from benchmarks.contenders import BY_NAME, CONNECTIONS, Bench, Contender, Run
from benchmarks.report import Goal, Section, Spread, figure
from benchmarks.send import Runs, ratios, report_run
from benchmarks.sinks import CSink, Delayed, Sink

FAR_MS = 30
ROUND_TRIPS_MS = (0, 5, 15, 30, 60)
CONNECTION_COUNTS = (1, 2, 5, 10, 20, 50)
SIZES = (30, 100, 300, 1_000, 3_000, 10_000, 30_000)
SECONDS = 2.0

# Who takes part in the block, and how many mails are about three seconds' worth.
NEAR: dict[str, dict[str, int]] = {
    "DATA": {
        "inkorg-sqlite": 1_000,
        "inkorg-postgresql": 1_000,
        "smtp-source": 250,
        "aiosmtplib": 250,
        "smtplib": 250,
        "email": 30,
    },
    "CHUNKING": {
        "inkorg-sqlite": 3_000,
        "inkorg-postgresql": 3_000,
        "smtp-source": 250,
    },
}
GOALS = {"DATA": 3.5, "CHUNKING": 8.0}

# The lines of the plots: label, contender, CHUNKING, round trips a mail, most a second.
LINES: tuple[tuple[str, str, bool, float, float], ...] = (
    ("Inkorg, CHUNKING", "inkorg-sqlite", True, 1 / 3, 15_000),
    ("Inkorg, DATA", "inkorg-sqlite", False, 1, 15_000),
    ("smtp-source", "smtp-source", False, 4, 10_000),
    ("aiosmtplib", "aiosmtplib", False, 4, 1_000),
)


def measure(bench: Bench, *, rounds: int) -> Section:
    """Run the block at 30 ms, then draw the two curves."""
    section = Section(
        "latency",
        f"A relay {FAR_MS} ms away, {CONNECTIONS} connections",
        ("", "server offers", "messages/s (min–max)", "× smtp-source", "client CPU µs"),
    )
    if not tools.compiled("csink"):
        section.notes.append(f"Left out: {tools.NO_COMPILER}.")
        return section
    runs = block(bench, section, rounds)
    for offer, least in GOALS.items():
        if ratio := ratios(runs, offer, "inkorg-sqlite", "smtp-source"):
            what = f"SQLite, {FAR_MS} ms round trip, {offer}, against smtp-source"
            section.goals.append(Goal(what, ratio, at_least=least))
    if not bench.quick:
        curves(bench, section)
    return section


def block(bench: Bench, section: Section, rounds: int) -> Runs:
    """Run everybody in turns."""
    runs: Runs = defaultdict(list)
    with ExitStack() as stack:
        targets = {}
        for offer in NEAR:
            sink = stack.enter_context(CSink(chunking=offer == "CHUNKING"))
            targets[offer] = stack.enter_context(Delayed(sink, FAR_MS))
        seen_ms = targets["DATA"].measured_ms()
        section.notes.append(f"A NOOP takes {seen_ms:.1f} ms from end to end and back.")
        for number in range(rounds):
            for offer, amounts in NEAR.items():
                for name, amount in amounts.items():
                    if BY_NAME[name].missing():
                        continue
                    scaled = max(30, amount // 3) if bench.quick else amount
                    run = BY_NAME[name].run(bench, targets[offer], scaled)
                    runs[offer, name].append(run)
                    report_run(number, offer, name, run)
    for (offer, name), found in runs.items():
        ratio = ratios(runs, offer, name, "smtp-source")
        rate = Spread.of([run.rate for run in found])
        cpu = Spread.of([run.cpu_us for run in found])
        section.rows.append(
            [
                BY_NAME[name].what,
                offer,
                rate.show(figure),
                figure(ratio.middle) if ratio else "",
                cpu.show(figure),
            ]
        )
        section.data[f"{offer} {name}"] = [round(run.rate, 1) for run in found]
    return runs


def curves(bench: Bench, section: Section) -> None:
    """Measure the two plots, one run a point."""
    over: dict[str, list[tuple[float, float]]] = defaultdict(list)
    by_trip: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for label, name, chunking, trips, most in LINES:
        if BY_NAME[name].missing():
            continue
        for connections in CONNECTION_COUNTS:
            run = point(bench, name, chunking, FAR_MS, connections, trips, most)
            over[label].append((connections, run.rate))
        for trip in ROUND_TRIPS_MS:
            run = point(bench, name, chunking, trip, CONNECTIONS, trips, most)
            by_trip[label].append((trip, run.rate))
    section.plots = {
        "rate-connections.svg": plot.chart(
            f"Messages a second, {FAR_MS} ms round trip",
            "connections",
            "messages/s",
            over,
            log_across=True,
        ),
        "rate-round-trip.svg": plot.chart(
            f"Messages a second, {CONNECTIONS} connections",
            "round trip, ms",
            "messages/s",
            by_trip,
        ),
    }
    section.captions = {
        "rate-connections.svg": "Rate against the number of connections",
        "rate-round-trip.svg": "Rate against the round trip",
    }
    section.notes.append("The two plots have one run a point.")
    section.data["over connections"] = dict(over)
    section.data["over round trips"] = dict(by_trip)


def point(
    bench: Bench,
    name: str,
    chunking: bool,
    trip_ms: float,
    connections: int,
    trips: float,
    most: float,
) -> Run:
    """Measure one point of a plot, for about two seconds."""
    expected = min(most, connections / (trips * trip_ms / 1000) if trip_ms else most)
    amount = next((s for s in SIZES if s >= expected * SECONDS), SIZES[-1])
    with CSink(chunking=chunking) as sink:
        if not trip_ms:
            return shown(bench, BY_NAME[name], sink, amount, connections)
        with Delayed(sink, trip_ms) as far:
            return shown(bench, BY_NAME[name], far, amount, connections)


def shown(
    bench: Bench, contender: Contender, sink: Sink, amount: int, connections: int
) -> Run:
    """Run, and say so."""
    run = contender.run(bench, sink, amount, connections)
    report_run(0, f"{sink.name} × {connections}", contender.name, run)
    return run
