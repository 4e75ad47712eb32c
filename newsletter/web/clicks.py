"""Links that are counted: on to where they lead at once, and the sums behind it.

The only GET after which something is written, and that is a sum: not by the request,
which reads one row and waits for no writer, but in the background a few seconds later,
for all links at once. Until then clicks lie in memory; what a kill loses is what came
in the last seconds, and a stop loses none.

Who clicks is known to nobody. A client is told from others by a hash with a key that
is never written down, for as long as it takes to see that it is a machine
(`machines.py`); then that is gone too. No cookie, no address, no user agent is kept.
"""

import hashlib
import logging
import secrets
import threading
import time
from multiprocessing.util import Finalize

from flask import Blueprint, Flask, Response, current_app, request

from newsletter.db import Database, db, utcnow
from newsletter.digests import clicks, machines
from newsletter.digests.clicks import Target
from newsletter.digests.machines import Opened, Window
from newsletter.errors import N_, NotFound
from newsletter.web import frame
from newsletter.web.security import client_address

log = logging.getLogger(__name__)
bp = Blueprint("clicks", __name__)
frame.keep_private(bp)

EXTENSION = "inkorg.clicks"
PAUSE_SECONDS = 1.0  # between two writes
TROUBLE_SECONDS = 10.0  # after one that failed


@bp.get("/l/<token>")
def lead(token: str) -> Response:
    """Lead on to where a link of a mail points, and nowhere else."""
    target = clicks.find(db.session(), token, now=utcnow())
    if target is None:
        raise NotFound(
            N_(
                "This link leads nowhere. It may have been cut off in the mail: try"
                " another one there."
            )
        )
    if target.counts and not machines.wants_no_count(_header):
        _count(target)
    return Response(status=302, headers={"Location": target.url})


def init_app(app: Flask, database: Database) -> None:
    """Let an application count clicks."""
    app.extensions[EXTENSION] = Counter(database)


def counter() -> "Counter":
    """Return the running application's counter."""
    found: Counter = current_app.extensions[EXTENSION]
    return found


def _count(target: Target) -> None:
    who = f"{client_address(request)}\n{_header('User-Agent')}"
    machine = target.too_soon or machines.is_machine(request.method, _header)
    counter().add(target, who, machine=machine, by_itself=not current_app.testing)


def _header(name: str) -> str:
    return request.headers.get(name, "")


class Counter:
    """The clicks that one process has seen and not yet written."""

    def __init__(self, database: Database) -> None:
        """Begin with none."""
        self.window = Window()
        self.pause_seconds = PAUSE_SECONDS
        self._database = database
        self._key = secrets.token_bytes(32)  # of this process, in memory alone
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._ends_well = False  # whether the end of the process is taken care of

    def add(
        self, target: Target, who: str, *, machine: bool, by_itself: bool = True
    ) -> None:
        """Take a click in; waits for nobody. Else than `by_itself`, `write` writes."""
        about = f"{target.issue_id}\n{who}".encode(errors="replace")
        client = hashlib.blake2b(about, key=self._key, digest_size=16).digest()
        opened = Opened(target.link_id, target.day)
        self.window.add(opened, client, machine=machine, at=time.monotonic())
        if by_itself:
            self._begin()

    def write(self, *, everything: bool = False) -> None:
        """Add what has settled to the sums, behind whoever is writing just now."""
        gathered = self.window.take(time.monotonic(), everything=everything)
        if not gathered:
            return
        try:
            with self._database.transaction() as session:
                clicks.keep(session, gathered)
        except BaseException:
            self.window.give_back(gathered)
            raise

    def _begin(self, pause: float | None = None) -> None:
        with self._lock:
            if not self._ends_well:
                # Not `atexit`: the server's workers are children that end without it.
                Finalize(None, self._write_the_rest, exitpriority=1)
                self._ends_well = True
            if self._timer is None:
                seconds = self.pause_seconds if pause is None else pause
                self._timer = threading.Timer(seconds, self._go_on)
                self._timer.name, self._timer.daemon = "clicks", True
                self._timer.start()

    def _go_on(self) -> None:
        pause = None
        try:
            self.write()
        except Exception:
            pause = TROUBLE_SECONDS
            log.exception("clicks not written; next try in %d s", pause)
        with self._lock:
            self._timer = None
        if not self.window.is_empty():
            self._begin(pause)

    def _write_the_rest(self) -> None:
        """Write, as the process ends, what has been clicked until then."""
        try:
            self.write(everything=True)
        except Exception:
            log.exception("clicks of the last seconds are lost")
