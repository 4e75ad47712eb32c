"""The two long-running processes, `serve` and `work`, and how they write their log.

One line for each event, `event key=value …`: ids, never addresses. A secret token in a
path is masked before it reaches a log.
"""

import asyncio
import gc
import logging
import logging.config
import re
import signal
import socket
import sys
import threading
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server
from sqlalchemy.orm import configure_mappers

from newsletter import jobs, links
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.errors import N_, ConfigError
from newsletter.mail import precedence
from newsletter.mail.senders import Senders

log = logging.getLogger(__name__)

APPLICATION = "newsletter.app:create_app"
BLOCKING_THREADS = 8
SERVE_STOP_SECONDS = 8
DRAIN_SECONDS = 9
CLOCKS = 2  # so that a slow feed does not hold up the rest
TICK_SECONDS = 1.0
TROUBLE_SECONDS = 10.0  # between tries while the database is away
LOCK_SECONDS = 0.0001

TOKEN_PATHS = (
    *(purpose.path for purpose in links.PURPOSES),
    *("/unsubscribe/", "/preferences/", "/ping/", "/websub/", "/l/"),
    # Flask-Security's: a new password, and a second factor or passkey being set up.
    *("/editor/login/forgotten/", "/editor/account/second-factor/"),
    *("/editor/login/passkey/", "/editor/account/passkeys/"),
    "/editor/account/verify/passkey/",
)
# An edition that is not in the archive stands under its newsletter's address.
_TOKEN = re.compile(rf"^({'|'.join(map(re.escape, TOKEN_PATHS))}|/[^/]+/view/)[^/]+")


class MaskTokens(logging.Filter):
    """Keep secret tokens out of the access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the request's path."""
        if isinstance(record.args, dict) and "path" in record.args:
            path = mask(str(record.args["path"]))
            record.args = {**record.args, "path": path}
        return True


def mask(path: str) -> str:
    """Return a path without the secret token it may carry."""
    return _TOKEN.sub(r"\1…", path)


def logging_config(level: str = "INFO") -> dict[str, Any]:
    """Return the logging settings that every process uses."""
    lines = {"handlers": ["lines"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"mask": {"()": "newsletter.serving.MaskTokens"}},
        "formatters": {
            "lines": {
                "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
                "datefmt": "%Y-%m-%dT%H:%M:%S%z",
            }
        },
        "handlers": {
            "lines": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "lines",
                "filters": ["mask"],
            }
        },
        "root": {"handlers": ["lines"], "level": "WARNING"},
        "loggers": {
            "newsletter": lines,
            "_granian": {**lines, "level": "ERROR"},
            "granian.access": lines,
        },
    }


def serve(host: str, port: int, workers: int, *, access_log: bool) -> None:
    """Serve the web application until SIGTERM. Raises ConfigError on a taken port."""
    if reason := taken(host, port):
        raise ConfigError(
            N_("Cannot listen at %(host)s port %(port)s: %(reason)s."),
            host=host,
            port=port,
            reason=reason,
        )
    config = logging_config()
    logging.config.dictConfig(config)
    log.info("serve host=%s port=%d workers=%d", host, port, workers)
    Server(
        APPLICATION,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        factory=True,
        workers=workers,
        blocking_threads=BLOCKING_THREADS,
        respawn_failed_workers=True,
        workers_kill_timeout=SERVE_STOP_SECONDS,
        log_level=LogLevels.error,
        log_dictconfig=config,
        log_access=access_log,
        log_access_format=(
            "request method=%(method)s path=%(path)s status=%(status)d ms=%(dt_ms).1f"
        ),
    ).serve()
    log.info("serve stopped")


def taken(host: str, port: int) -> str:
    """Return why nothing can listen there, or an empty string."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return ""


def work(database: Database, settings: Settings) -> None:
    """Run the clock and the sender until SIGTERM; any number of these at once."""
    logging.config.dictConfig(logging_config())
    make_ready()
    uvloop.run(_work(database, settings))


def make_ready() -> None:
    """Set Python up for sending.

    The tables' classes are set up here and not before the first mail: 40 ms.

    Its collector leaves alone what is loaded by now, and looks less often: messages
    come and go by the thousand and hold no circles; looking for some after every few
    hundred cost a tenth of the sender's time.

    A thread that waits for Python's lock asks for it after a tenth of a millisecond,
    not after five. The loop lets go of the lock for an instant at each event and wakes
    who waits, in vain; so the ledger's thread got nowhere, and cost the loop dear.

    Where the system knows it, the process is one of batches (`sched(7)`): it does not
    push others off a processor when it wakes, and is pushed off less often itself. The
    sender is less modest while its relay leaves it time: see `Sender`.
    """
    configure_mappers()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    sys.setswitchinterval(LOCK_SECONDS)
    precedence.be_batch(True)


async def _work(database: Database, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    senders = Senders(database, settings)
    relays = ",".join(relay.name for relay in settings.relays)
    log.info("work worker=%s relays=%s", senders.name, relays)
    over = threading.Event()
    clocks = [
        threading.Thread(target=_clock, args=(database, settings, over), daemon=True)
        for _ in range(CLOCKS)
    ]
    for clock in clocks:
        clock.start()
    sending = asyncio.create_task(senders.run(stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
    over.set()
    stop.set()
    try:
        await asyncio.wait_for(sending, DRAIN_SECONDS)
    except TimeoutError:
        log.warning("work worker=%s left mail on the wire", senders.name)
    await stopping
    log.info("work stopped worker=%s", senders.name)


def _clock(database: Database, settings: Settings, over: threading.Event) -> None:
    pause = 0.0
    while not over.wait(pause):
        try:
            jobs.tick(database, settings, now=utcnow())
            pause = TICK_SECONDS
        except Exception:
            log.exception("clock failed; next try in %d s", TROUBLE_SECONDS)
            pause = TROUBLE_SECONDS
