"""SMTP servers that take everything and count: our C one, Postfix's, and a Python one.

with CSink(chunking=True) as sink:
    … sink.port …
    sink.count()
"""

import mmap
import os
import re
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks import sink as python_sink
from benchmarks import tools

COUNTED = struct.Struct("=5Q")
_MESSAGES = re.compile(rb"mesg=(\d+)")


@dataclass(frozen=True, slots=True)
class Counted:
    """What `csink` has counted so far; moments are `time.monotonic_ns()`."""

    messages: int
    bytes: int
    first_ns: int
    last_ns: int
    connections: int


@dataclass(frozen=True, slots=True)
class Record:
    """One message as `csink` wrote it down."""

    at_ns: int
    recipient: str
    message_id: str


class Sink:
    """A server on the loopback that counts messages."""

    name = ""
    port = 0

    def count(self) -> int:
        """Return how many messages have been taken."""
        raise NotImplementedError

    def settled_count(self, expected: int, seconds: float = 2.0) -> int:
        """Return the count once it is what is expected, or after a while."""
        end = time.monotonic() + seconds
        while (found := self.count()) != expected and time.monotonic() < end:
            time.sleep(0.01)
        return found

    def __enter__(self) -> "Sink":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class CSink(Sink):
    """`csink.c`: tens of thousands of messages a second on one core."""

    name = "csink"

    def __init__(
        self,
        *,
        chunking: bool = False,
        records: bool = False,
        only: str = "",
        address: str = "127.0.0.1",
        within: tuple[str, ...] = (),  # "ip", "netns", "exec", NAME
    ) -> None:
        """Prepare; `records` keeps recipient, Message-ID and moment of each message."""
        self.chunking, self.records, self.only = chunking, records, only
        self.address, self.within = address, within

    def __enter__(self) -> "CSink":
        program = tools.compiled("csink")
        if program is None:
            raise RuntimeError(tools.NO_COMPILER)
        self._folder = tempfile.TemporaryDirectory(prefix="inkorg-csink-")
        folder = Path(self._folder.name)
        self._records = folder / "records"
        command: list[str | Path] = [*self.within, program, "-a", self.address]
        command += ["-c"] if self.chunking else []
        command += ["-r", self._records] if self.records else []
        command += ["-f", self.only] if self.only else []
        self._process = subprocess.Popen(
            [*command, folder / "state"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        with (folder / "state").open("rb") as file:
            self._state = mmap.mmap(file.fileno(), COUNTED.size, prot=mmap.PROT_READ)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._state.close()
        self._folder.cleanup()

    def counted(self) -> Counted:
        """Return everything that was counted."""
        return Counted(*COUNTED.unpack_from(self._state))

    def count(self) -> int:
        return self.counted().messages

    def seen(self) -> list[Record]:
        """Return what was written down, in the order it came."""
        lines = self._records.read_text().splitlines()
        fields = (line.split(" ") for line in lines)
        return [Record(int(at), to, name) for at, to, name in fields]


class SmtpSink(Sink):
    """Postfix's `smtp-sink`: the known one; it reads byte by byte."""

    name = "smtp-sink"

    def __enter__(self) -> "SmtpSink":
        program = tools.postfix("smtp-sink")
        if program is None:
            raise RuntimeError(tools.NO_POSTFIX)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._output = tempfile.TemporaryFile()
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [program, "-c", *account, f"127.0.0.1:{self.port}", "1000"],
            stdout=self._output,
            env=tools.postfix_environ(),
        )
        _wait_for(self.port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    def count(self) -> int:
        size = os.fstat(self._output.fileno()).st_size
        tail = os.pread(self._output.fileno(), 400, max(0, size - 400))
        found = _MESSAGES.findall(tail)
        return int(found[-1]) if found else 0


class PythonSink(Sink):
    """The one for machines without a compiler: slower than what it measures."""

    name = "python"

    def __enter__(self) -> "PythonSink":
        self._running = python_sink.Running().__enter__()
        self.port = self._running.port
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.__exit__()

    def count(self) -> int:
        return int(self._running.taken.value)


class Delayed(Sink):
    """Another sink, a round trip away: `cdelay.c` in front of it."""

    def __init__(self, sink: Sink, round_trip_ms: float) -> None:
        """Stand before `sink`, which runs already."""
        self.sink, self.round_trip_ms = sink, round_trip_ms
        self.name = f"{sink.name} at {round_trip_ms:g} ms"

    def __enter__(self) -> "Delayed":
        program = tools.compiled("cdelay")
        if program is None:
            raise RuntimeError(tools.NO_COMPILER)
        one_way = str(round(self.round_trip_ms * 500))
        self._process = subprocess.Popen(
            [program, one_way, str(self.sink.port)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def count(self) -> int:
        return self.sink.count()

    def measured_ms(self) -> float:
        """Return the round trip as a client sees it: the middle of nine NOOPs."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.recv(1000)
            took = []
            for _ in range(9):
                began = time.perf_counter()
                client.sendall(b"NOOP\r\n")
                client.recv(1000)
                took.append(time.perf_counter() - began)
        return sorted(took)[4] * 1000


def _wait_for(port: int) -> None:
    end = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
