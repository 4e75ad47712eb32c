"""What signing costs: the same issue unsigned, signed with Ed25519, and with RSA."""

import importlib.util
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks import tools
from benchmarks.contenders import CONNECTIONS, Bench, Run, clean_environ, send_all
from benchmarks.installation import Place, environ_for, relay_url
from benchmarks.million import send
from benchmarks.report import Goal, Section, Spread, figure
from benchmarks.send import Runs, ratios, report_run
from benchmarks.sinks import CSink, Sink, SmtpSink
from newsletter.demo.content import SLUG

MODULE = "newsletter.mail.dkim"
AMOUNTS = {"off": 20_000, "ed25519": 20_000, "rsa": 5_000}
WHAT = {"off": "not signed", "ed25519": "Ed25519", "rsa": "RSA-2048"}
GOALS = {"ed25519": 0.9, "rsa": 0.35}


def measure(bench: Bench, *, rounds: int) -> Section:
    """Run the three in turns."""
    section = Section(
        "dkim",
        "DKIM, SQLite into smtp-sink",
        ("", "messages/s (min–max)", "× not signed", "client CPU µs/message"),
    )
    if importlib.util.find_spec(MODULE) is None:
        section.notes.append(f"Left out: this version cannot sign (no {MODULE}).")
        return section
    if not tools.postfix("smtp-sink"):
        section.notes.append(f"Left out: {tools.NO_POSTFIX}.")
        return section
    if tools.compiled("csink"):
        plain = length(bench, "off")
        for signing in GOALS:
            assert length(bench, signing) > plain + 200, f"{signing} signs nothing"
    runs: Runs = defaultdict(list)
    with SmtpSink() as sink:
        for number in range(rounds):
            for signing, amount in AMOUNTS.items():
                run = signed(
                    bench, sink, signing, amount // 5 if bench.quick else amount
                )
                runs["smtp-sink", signing].append(run)
                report_run(number, "smtp-sink", WHAT[signing], run)
    for signing in AMOUNTS:
        found = runs["smtp-sink", signing]
        ratio = ratios(runs, "smtp-sink", signing, "off")
        assert ratio
        rate = Spread.of([run.rate for run in found])
        cpu = Spread.of([run.cpu_us for run in found])
        row = [WHAT[signing], rate.show(figure), ratio.show(figure), cpu.show(figure)]
        section.rows.append(row)
        section.data[signing] = [round(run.rate, 1) for run in found]
        if signing in GOALS:
            what = f"{WHAT[signing]} DKIM on against off, into smtp-sink"
            section.goals.append(Goal(what, ratio, at_least=GOALS[signing]))
    return section


def length(bench: Bench, signing: str) -> float:
    """Return how long the mails are, to see that they are signed."""
    with CSink() as sink:
        run = signed(bench, sink, signing, 100)
        return sink.counted().bytes / run.messages


def signed(bench: Bench, sink: Sink, signing: str, amount: int) -> Run:
    """Send an issue, signed so."""
    with bench.stock.place("sqlite", amount, send=False) as place:
        if signing != "off":
            command(place, "dkim", "create", SLUG, "--algorithm", signing)
            command(place, "dkim", "on", SLUG, "--force")
        send(place)
        before = sink.count()
        run = send_all(place, sink, CONNECTIONS)
        assert sink.settled_count(before + amount) == before + amount
    return run


def command(place: Place, *words: str) -> None:
    """Run one of Inkorg's commands on a place."""
    folder = str(Path(place.url.removeprefix("sqlite:///")).parent)
    subprocess.run(
        [sys.executable, "-m", "newsletter", *words],
        cwd=tools.ROOT,
        env={**clean_environ(), **environ_for(place.url, relay_url(25), folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
