"""A fast SMTP sink on loopback: takes everything, keeps nothing, counts messages."""

import asyncio
import multiprocessing
import signal
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any

import uvloop

GREETING = b"220 sink\r\n"
EHLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
END = b"\r\n.\r\n"


class Sink(asyncio.Protocol):
    """One connection."""

    taken: "Synchronized[int]"

    def connection_made(self, transport: Any) -> None:
        """Greet."""
        self.transport = transport
        self.rest = b""
        self.in_body = False
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Answer every whole line, and every whole message."""
        rest, answers = self.rest + data, []
        while True:
            if self.in_body:
                at = rest.find(END)
                if at < 0:
                    break
                rest, self.in_body = rest[at + len(END) :], False
                type(self).taken.value += 1
                answers.append(b"250 2.0.0 taken\r\n")
                continue
            line, sep, tail = rest.partition(b"\r\n")
            if not sep:
                break
            rest = tail
            answers.append(self.answer(line[:4].upper()))
            if self.in_body:
                rest = b"\r\n" + rest  # an empty body ends with the dot at once
        self.rest = rest
        if answers:
            self.transport.write(b"".join(answers))

    def answer(self, verb: bytes) -> bytes:
        """Answer one command."""
        if verb == b"DATA":
            self.in_body = True
            return b"354 go on\r\n"
        if verb == b"QUIT":
            return b"221 bye\r\n"
        return EHLO if verb == b"EHLO" else b"250 2.1.0 ok\r\n"


class Running:
    """The sink in a process of its own: `with Running() as sink: sink.port`."""

    def __enter__(self) -> "Running":
        context = multiprocessing.get_context("spawn")
        self.taken: Synchronized[int] = context.Value("Q", 0, lock=False)
        self._port: Synchronized[int] = context.Value("i", 0, lock=False)
        ready: Event = context.Event()
        self.process = context.Process(
            target=_run, args=(self.taken, self._port, ready), daemon=True
        )
        self.process.start()
        ready.wait()
        self.port = self._port.value
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join()


def _run(taken: "Synchronized[int]", port: "Synchronized[int]", ready: Event) -> None:
    Sink.taken = taken

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Sink, "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        ready.set()
        await stop.wait()

    uvloop.run(serve())
