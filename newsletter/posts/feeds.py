"""Reading feeds safely: each is parsed in a limited process, which may be killed."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO

from newsletter.config import ROOT
from newsletter.errors import N_, FeedError
from newsletter.posts import entries
from newsletter.posts.entries import LENGTH, Parsed

MAX_BODY_BYTES = 5 * 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024
WALL_SECONDS = 20.0
START_SECONDS = 60.0
READINGS_PER_PROCESS = 200  # then a fresh one: what leaks does not add up
log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]


class Reader:
    """Reads feeds one after the other in one process, started again if it dies."""

    def __init__(self, wall_seconds: float = WALL_SECONDS) -> None:
        """Start nothing yet; the first feed does."""
        self.wall_seconds = wall_seconds
        self._process: Process | None = None
        self._readings = 0

    def __enter__(self) -> "Reader":
        """Use as a context manager: the process ends with it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    @property
    def process_id(self) -> int | None:
        """Return the number of the process, if one is running."""
        return self._process.pid if self._process else None

    def read(self, body: bytes, *, url: str = "", content_type: str = "") -> Parsed:
        """Read RSS, Atom or JSON Feed; relative links are resolved against `url`.

        Raises FeedError with the reason, if it cannot be read.
        """
        if len(body) > MAX_BODY_BYTES:
            raise FeedError(N_("The feed is larger than 5 MB."))
        process = self._ready()
        try:
            with _killed_after(self.wall_seconds, process):
                answer = _ask(process, body, url, content_type)
        except (OSError, EOFError):
            self.close()
            raise FeedError(
                N_("The feed takes too long to read. It may be damaged on purpose.")
            ) from None
        values = json.loads(answer)
        if "cause" in values:
            log.warning("feed_unreadable cause=%s", values["cause"])
        if "error" in values:
            raise FeedError(values["error"], **values["values"])
        return entries.load(values)

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _ready(self) -> Process:
        self._readings += 1
        worn = self._readings > READINGS_PER_PROCESS
        if self._process is None or self._process.poll() is not None or worn:
            self.close()
            self._process, self._readings = _start(), 1
        return self._process


def read_feed(body: bytes, *, url: str = "", content_type: str = "") -> Parsed:
    """Read one feed. Raises FeedError with the reason, if it cannot be read."""
    with Reader() as reader:
        return reader.read(body, url=url, content_type=content_type)


@contextmanager
def _killed_after(seconds: float, process: Process) -> Iterator[None]:
    killer = threading.Timer(seconds, process.kill)
    killer.start()
    try:
        yield
    finally:
        killer.cancel()


def _start() -> Process:
    process = subprocess.Popen(
        [sys.executable, "-m", "newsletter.posts.parse_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        # Nothing of ours: the process reads what strangers wrote.
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        with _killed_after(START_SECONDS, process):
            _hear(process)  # it says when it is ready
    except EOFError:
        _end(process)
        raise FeedError(
            N_("The process that reads feeds does not start. See the log.")
        ) from None
    return process


def _ask(process: Process, body: bytes, url: str, content_type: str) -> bytes:
    if not process.stdin:
        raise EOFError
    question = {"url": url, "content_type": content_type, "length": len(body)}
    head = json.dumps(question).encode()
    process.stdin.write(LENGTH.pack(len(head)) + head + body)
    process.stdin.flush()
    return _hear(process)


def _hear(process: Process) -> bytes:
    if not process.stdout:
        raise EOFError
    length = LENGTH.unpack(_exactly(process.stdout, LENGTH.size))[0]
    if length > MAX_ANSWER_BYTES:
        raise EOFError
    return _exactly(process.stdout, length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _end(process: Process) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):  # what was still to be written to a dead process
            if stream:
                stream.close()
