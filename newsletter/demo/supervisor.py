"""Run the demo's processes side by side: start, wait until they answer, stop together.

A signal stops all of them; one that dies takes the others along. Each leads a process
group of its own, so that Ctrl-C reaches this process alone, and on Linux the kernel
ends them if this process is killed outright.
"""

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from newsletter.errors import N_, InkorgError

START_SECONDS = 45
STOP_SECONDS = 9
POLL_SECONDS = 0.15
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run: `python -m newsletter <arguments>`, and whether it answers."""

    name: str
    arguments: tuple[str, ...]
    answers: Callable[[], bool]


@dataclass(slots=True)
class Supervisor:
    """The running processes, and the wish to stop."""

    environ: dict[str, str]
    log: Path
    parent: int | None = None  # stop when this is no longer our parent
    stop: threading.Event = field(default_factory=threading.Event)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, children: list[Child]) -> bool:
        """Start all and wait until each answers; False if told to stop meanwhile.

        Raises InkorgError if one dies or stays silent.
        """
        with self.log.open("wb") as log:
            for child in children:
                self.running[child.name] = self._spawn(child, log.fileno())
        limit = time.monotonic() + START_SECONDS
        waiting = list(children)
        while waiting and not self._told_to_stop():
            self._refuse_the_dead()
            waiting = [child for child in waiting if not child.answers()]
            if waiting and time.monotonic() > limit:
                raise InkorgError(
                    N_("The %(name)s does not answer. Its log is %(log)s."),
                    name=waiting[0].name,
                    log=self.log,
                )
        return not waiting

    def watch(self) -> None:
        """Return when told to stop. Raises InkorgError if a process dies."""
        while not self._told_to_stop():
            self._refuse_the_dead()

    def stop_all(self) -> None:
        """Stop every process, the last started first; kill what does not listen."""
        limit = time.monotonic() + STOP_SECONDS
        names = list(self.running)
        for name in reversed(names):
            # The first one receives the others' mail: it goes when they are gone.
            if name == names[0]:
                for other in names[1:]:
                    _wait(self.running[other], limit)
            self.running[name].terminate()
        for process in self.running.values():
            _wait(process, limit)
        self.running.clear()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP as the wish to stop."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
            numbers.append(signal.SIGHUP)
        kept = {}
        for number in numbers:
            kept[number] = signal.signal(number, lambda *_: self.stop.set())
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def _spawn(self, child: Child, log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  (our own commands)
            [sys.executable, "-m", "newsletter", *child.arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent if _LIBC else None,
        )

    def _told_to_stop(self) -> bool:
        if self.parent is not None and os.getppid() != self.parent:
            self.stop.set()
        return self.stop.wait(POLL_SECONDS)

    def _refuse_the_dead(self) -> None:
        for name, process in self.running.items():
            if process.poll() is not None:
                raise InkorgError(
                    N_("The %(name)s stopped by itself: %(words)s (log: %(log)s)."),
                    name=name,
                    words=_last_line(self.log) or f"exit {process.returncode}",
                    log=self.log,
                )


def web_answers(port: int) -> bool:
    """Tell whether a web server on this machine answers without an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def smtp_answers(port: int) -> bool:
    """Tell whether an SMTP server on this machine greets."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(4).startswith(b"220")
    except OSError:
        return False


def _end_with_parent() -> None:
    if _LIBC:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], limit: float) -> None:
    try:
        process.wait(max(0.1, limit - time.monotonic()))
    except subprocess.TimeoutExpired:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
        process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]
