"""How fast, and at what cost: everybody into the same sinks, in turns.

Round 1 has every contender into every sink, round 2 again, and so on; ratios are taken
inside a round, and the middle one counts.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import tools
from benchmarks.contenders import CONNECTIONS, CONTENDERS, Bench, Contender, Run
from benchmarks.report import Goal, Section, Spread, figure
from benchmarks.sinks import CSink, PythonSink, Sink, SmtpSink

Runs = dict[tuple[str, str], list[Run]]  # by sink and contender

# How many mails take two to five seconds.
NUMBERS: dict[str, dict[str, int]] = {
    "smtp-sink": {
        "inkorg-sqlite": 40_000,
        "inkorg-sqlite-2": 40_000,
        "inkorg-postgresql": 40_000,
        "inkorg-postgresql-2": 40_000,
        "smtp-source": 40_000,
        "aiosmtplib": 4_000,
        "smtplib": 6_000,
        "email": 500,
        "flask": 500,
    },
    "csink": {
        "inkorg-sqlite": 120_000,
        "inkorg-sqlite-2": 150_000,
        "inkorg-postgresql": 60_000,
        "inkorg-postgresql-2": 60_000,
        "smtp-source": 100_000,
        "aiosmtplib": 4_000,
        "smtplib": 6_000,
        "email": 600,
        "flask": 500,
    },
}
NUMBERS["python"] = NUMBERS["smtp-sink"]


def number_for(sink: str, contender: str, *, quick: bool) -> int:
    """Return how many mails a run is to send."""
    number = NUMBERS[sink].get(contender, 2_000)
    return max(100, number // 5) if quick else number


def measure(
    bench: Bench,
    *,
    rounds: int,
    sinks: Sequence[str] = (),
    contenders: Sequence[str] = (),
) -> Section:
    """Run the block."""
    section = Section(
        "send",
        f"Sending {bench.mail_bytes:,} bytes over {CONNECTIONS} connections",
        ("", "sink", "messages/s (min–max)", "× smtp-source", "client CPU µs/message"),
    )
    chosen = chosen_contenders(contenders, section.notes)
    runs: Runs = defaultdict(list)
    with ExitStack() as stack:
        targets = [stack.enter_context(sink) for sink in usable(sinks, section.notes)]
        for number in range(rounds):
            for sink in targets:
                for contender in chosen:
                    amount = number_for(sink.name, contender.name, quick=bench.quick)
                    run = contender.run(bench, sink, amount)
                    runs[sink.name, contender.name].append(run)
                    report_run(number, sink.name, contender.name, run)
    fill(section, runs, chosen)
    section.goals = goals(runs)
    return section


def report_run(number: int, sink: str, contender: str, run: Run) -> None:
    """Say on the terminal that something is happening."""
    print(
        f"  round {number + 1}  {sink:18} {contender:20} {run.rate:9,.0f}/s"
        f" {run.cpu_us:9,.1f} µs  ({run.messages:,} in {run.seconds:.2f} s)",
        flush=True,
    )


def chosen_contenders(names: Sequence[str], notes: list[str]) -> list[Contender]:
    """Return who takes part; note who cannot."""
    if unknown := set(names) - {contender.name for contender in CONTENDERS}:
        raise SystemExit(f"There is no contender {min(unknown)}.")
    chosen = [c for c in CONTENDERS if not names or c.name in names]
    for contender in chosen:
        if why := contender.missing():
            notes.append(f"Left out, {contender.name}: {why}.")
    return [contender for contender in chosen if not contender.missing()]


def usable(names: Sequence[str], notes: list[str]) -> list[Sink]:
    """Return the sinks that can run here; note what is missing."""
    if unknown := set(names) - {"smtp-sink", "csink", "python"}:
        raise SystemExit(f"There is no sink {min(unknown)}.")
    names = names or ("smtp-sink", "csink")
    found: list[Sink] = []
    if "smtp-sink" in names and tools.postfix("smtp-sink"):
        found.append(SmtpSink())
    elif "smtp-sink" in names:
        notes.append(f"Left out, smtp-sink: {tools.NO_POSTFIX}.")
    if "csink" in names and tools.compiled("csink"):
        found.append(CSink())
    elif "csink" in names:
        notes.append(f"The Python sink instead of the fast one: {tools.NO_COMPILER}.")
    if "python" in names or not found:
        found.append(PythonSink())
    return found


def fill(section: Section, runs: Runs, chosen: Sequence[Contender]) -> None:
    """Make the table and the data."""
    for sink in dict.fromkeys(sink for sink, _ in runs):
        for contender in chosen:
            found = runs[sink, contender.name]
            rate = Spread.of([run.rate for run in found])
            cpu = Spread.of([run.cpu_us for run in found])
            ratio = ratios(runs, sink, contender.name, "smtp-source")
            section.rows.append(
                [
                    contender.what,
                    sink,
                    rate.show(figure),
                    figure(ratio.middle) if ratio else "",
                    cpu.show(figure),
                ]
            )
            section.data[f"{sink} {contender.name}"] = {
                "messages": found[0].messages,
                "rate": [round(run.rate, 1) for run in found],
                "cpu_us": [round(run.cpu_us, 2) for run in found],
                "peak_mb": round(max(run.peak_mb for run in found), 1),
            }


def ratios(runs: Runs, sink: str, one: str, other: str) -> Spread | None:
    """Return how much faster one was than another, round by round."""
    pairs = list(
        zip(runs.get((sink, one), ()), runs.get((sink, other), ()), strict=False)
    )
    return Spread.of([a.rate / b.rate for a, b in pairs]) if pairs else None


def cost_ratios(runs: Runs, sink: str, one: str, other: str) -> Spread | None:
    """Return how much more processor time one took than another, round by round."""
    pairs = list(
        zip(runs.get((sink, one), ()), runs.get((sink, other), ()), strict=False)
    )
    return Spread.of([a.cpu_us / b.cpu_us for a, b in pairs]) if pairs else None


def goals(runs: Runs) -> list[Goal]:
    """Return the goals that this block decides."""
    found: list[Goal] = []
    for sink, one, other, least, what in (
        ("smtp-sink", "inkorg-sqlite", "smtp-source", 1.05, "SQLite into smtp-sink"),
        ("csink", "inkorg-sqlite", "smtp-source", 1.5, "SQLite into csink"),
        ("csink", "inkorg-sqlite-2", "smtp-source", 1.5, "SQLite, 2 workers, into"
         " csink"),
        ("smtp-sink", "inkorg-postgresql", "smtp-source", 0.95, "PostgreSQL, 1 worker,"
         " into smtp-sink"),
        ("smtp-sink", "inkorg-sqlite", "email", 20, "SQLite into smtp-sink"),
        ("csink", "inkorg-sqlite", "email", 20, "SQLite into csink"),
    ):  # fmt: skip
        if ratio := ratios(runs, sink, one, other):
            words = {"email": "smtplib + EmailMessage"}.get(other, other)
            found.append(Goal(f"{what}, against {words}", ratio, at_least=least))
    for sink in ("smtp-sink", "csink"):
        if cost := cost_ratios(runs, sink, "inkorg-sqlite", "aiosmtplib"):
            what = f"client CPU a message into {sink}, SQLite, against aiosmtplib"
            found.append(Goal(what, cost, at_most=0.125))
    return found
