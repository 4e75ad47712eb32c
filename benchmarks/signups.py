"""People who sign up, one after the other at a steady pace, in a process of its own.

    python -m benchmarks.signups DATABASE_URL A_SECOND

Says `ready`, waits for a line, then signs somebody up A_SECOND times a second until its
input is closed, through the function and the transaction that the sign-up page uses. A
sign-up that takes long delays none that follows: each has its moment, and its waiting
counts from there. Prints as JSON when each was made: {address: nanoseconds}.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.installation import opened, settings_for
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.models import Newsletter
from newsletter.subscribers import signup
from newsletter.subscribers.consent import Origin

MARK = "ny.lasare"
THREADS = 8  # as the web server has


def sign_up(database: Database, settings: Settings, address: str) -> None:
    """Do what the page does when its form comes in."""
    with database.transaction() as session:
        signup.request_subscription(
            session,
            settings,
            session.get_one(Newsletter, 1),
            address,
            origin=Origin(page="/", network="192.0.2.1", wording="Ja, skicka breven."),
            now=utcnow(),
        )


def main() -> None:
    """Read the arguments and sign people up."""
    url, pace = sys.argv[1], float(sys.argv[2])
    settings, made, over = settings_for(url), dict[str, int](), threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    with opened(url) as database, ThreadPoolExecutor(THREADS) as threads:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        threading.Thread(target=listen, daemon=True).start()
        moment, number, doing = time.monotonic(), 0, []
        while not over.wait(max(0.0, moment - time.monotonic())):
            number += 1
            address = f"{MARK}{number}@exempel{number}.example"
            made[address] = time.monotonic_ns()
            doing.append(threads.submit(sign_up, database, settings, address))
            moment += 1 / pace
        for done in doing:
            done.result()
    print(json.dumps(made))


if __name__ == "__main__":
    main()
