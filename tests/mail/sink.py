"""A fast SMTP server in a process of its own, which counts and remembers names.

Run as a program it prints its port; for each line on standard input it prints, as JSON,
the Message-IDs that each recipient has got so far. Arguments: what it offers
(`pipelining` or `chunking`), and after how many seconds it answers.
"""

import asyncio
import json
import subprocess
import sys
from collections import defaultdict
from types import TracebackType
from typing import cast

import uvloop

seen: defaultdict[str, list[str]] = defaultdict(list)


class Sink(asyncio.Protocol):
    """Answers at once, in order; takes everything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""
        self.in_data = False
        self.chunk = -1  # octets of one that is on its way
        self.recipient = ""
        self.transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        answers = []
        while (answer := self._next()) is not None:
            answers.append(answer)
        if answers:
            loop = asyncio.get_running_loop()
            loop.call_later(DELAY_SECONDS, self.transport.write, b"".join(answers))

    def _next(self) -> bytes | None:
        """Take one command or message off the buffer and answer it."""
        if self.in_data:
            end = self.buffer.find(b"\r\n.\r\n")
            if end < 0:
                return None
            self.in_data = False
            return self._take(end + 5)
        if self.chunk >= 0:
            return self._take(self.chunk) if len(self.buffer) >= self.chunk else None
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return None
        self.buffer = rest
        return self._command(line)

    def _take(self, size: int) -> bytes:
        """Note a message, or an empty chunk, of so many octets."""
        message, self.buffer = self.buffer[:size], self.buffer[size:]
        self.chunk = -1
        if message:
            start = message.find(b"Message-ID: ") + len(b"Message-ID: ")
            name = message[start : message.find(b"\r\n", start)]
            seen[self.recipient].append(name.decode())
        return b"250 2.0.0 Ok\r\n"

    def _command(self, line: bytes) -> bytes | None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return b"250-sink.example\r\n" + OFFERS + b"250 8BITMIME\r\n"
        if verb == b"BDAT":
            self.chunk = int(line.split()[1])
            return self._next()
        if verb == b"RCPT":
            self.recipient = line[line.find(b"<") + 1 : line.find(b">")].decode()
        if verb == b"DATA":
            self.in_data = True
            return b"354 Go on\r\n"
        return b"221 Bye\r\n" if verb == b"QUIT" else b"250 Ok\r\n"


OFFERS = b"250-PIPELINING\r\n"
DELAY_SECONDS = 0.0
if __name__ == "__main__":
    OFFERS += b"250-CHUNKING\r\n" if sys.argv[1] == "chunking" else b""
    DELAY_SECONDS = float(sys.argv[2])


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    say(server.sockets[0].getsockname()[1])
    while await loop.run_in_executor(None, sys.stdin.readline):
        say(seen)


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


class SinkProcess:
    """The program, started and asked from a test."""

    def __init__(self, *, chunking: bool = False, delay_seconds: float = 0.0) -> None:
        offers = "chunking" if chunking else "pipelining"
        self._arguments = [offers, str(delay_seconds)]

    def __enter__(self) -> "SinkProcess":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mail.sink", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.url = f"smtp://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def seen(self) -> dict[str, list[str]]:
        """Return the Message-IDs by recipient."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, list[str]] = json.loads(self._process.stdout.readline())
        return found


if __name__ == "__main__":
    uvloop.run(serve())
