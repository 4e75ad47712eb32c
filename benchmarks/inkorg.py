"""Inkorg's sender in a process of its own, measured from its first claim to its last.

    python -m benchmarks.inkorg DATABASE_URL SMTP_URL

Opens everything, says `ready`, waits for a line, sends until nothing is left, and
prints as JSON what that took. Starting Python is not in it; opening the connections is.
"""

import argparse
import asyncio
import json
import logging
import resource
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.installation import opened, settings_for
from newsletter.mail import ledger
from newsletter.mail.sender import Sender
from newsletter.serving import make_ready


def cpu() -> float:
    """Return the processor seconds that this process has used, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """Return this process's peak memory.

    Not `ru_maxrss`, which a child takes over from the process that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(work: Callable[[], int]) -> dict[str, Any]:
    """Say `ready`, wait for the word, do `work`; return what it took."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    used, began = cpu(), time.monotonic_ns()
    sent = work()
    ended = time.monotonic_ns()
    return {
        "sent": sent,
        "began": began,
        "ended": ended,
        "cpu": cpu() - used,
        "peak_mb": peak_mb(),
    }


async def run_until_told(make: Callable[[], Sender]) -> int:
    """Send until SIGTERM; return how many the relay took."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sender = make()
    await sender.run(stop)
    return sender.delivered


def main() -> None:
    """Read the arguments and send."""
    parser = argparse.ArgumentParser(description="Send what is queued, measured.")
    parser.add_argument("database_url")
    parser.add_argument("smtp_url")
    parser.add_argument("--lease", type=float, default=0.0, help="seconds")
    parser.add_argument("--until-told", action="store_true", help="until SIGTERM")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    settings = settings_for(given.database_url, given.smtp_url)
    lease = timedelta(seconds=given.lease) if given.lease else ledger.LEASE
    make_ready()
    with opened(given.database_url) as database:

        def make() -> Sender:
            return Sender(database, settings, lease=lease)

        def work() -> int:
            if given.until_told:
                return uvloop.run(run_until_told(make))
            return uvloop.run(_until_idle(make))

        found = measured(work)
    print(json.dumps(found))


async def _until_idle(make: Callable[[], Sender]) -> int:
    return await make().send_until_idle()


if __name__ == "__main__":
    main()
