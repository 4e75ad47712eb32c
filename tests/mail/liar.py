"""A relay that offers what it does not keep; what it does take, it takes as it should.

Whatever it does to what was written ahead is one of `Lie`. It looks at what has arrived
together: a moment is waited for more before each reply.
"""

import asyncio
import enum
import threading
from types import TracebackType

from tests.smtp_server import Received

MOMENT_SECONDS = 0.01


class Lie(enum.Enum):
    LOSES_THE_GROUP = "loses all of a group but its first command"
    LOSES_AFTER_BODIES = "loses what follows a body"
    REFUSES = "answers 503 to what was written ahead"
    REFUSES_AFTER_BODIES = "answers 503 to what was written ahead of a body's answer"
    CLOSES = "closes the connection on what was written ahead"
    CLOSES_AFTER_BODIES = "closes on what follows a body, and forgets that"
    NO_CHUNKS_500 = "answers 500 to BDAT"
    NO_CHUNKS_502 = "answers 502 to BDAT"
    CHUNKS_HANG = "waits for ever when a chunk has no octets"


class Liar:
    """Listen on a free port of the loopback in a thread of its own."""

    tls = starttls = False
    login = None

    def __init__(self, lie: Lie, *, chunking: bool = False) -> None:
        self.lie = lie
        self.offers = ("PIPELINING", "CHUNKING") if chunking else ("PIPELINING",)
        self.received: list[Received] = []
        self.connections = 0
        self.lied = 0  # times
        self.url = ""

    def __enter__(self) -> "Liar":
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._closing.wait()
        server.close()
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        self.connections += 1
        try:
            await _Talk(self, reader, writer).run()
        except (asyncio.CancelledError, ConnectionError, EOFError):
            pass
        finally:
            writer.transport.abort()


class _Talk:
    def __init__(
        self, liar: Liar, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.liar, self.lie = liar, liar.lie
        self.reader, self.writer = reader, writer
        self.ahead = b""  # what has come and is not read yet
        self.late = 0  # commands among it that are to be refused
        self.sender = self.recipient = ""

    async def run(self) -> None:
        self.say("220 liar.example")
        while True:
            line = (await self.until(b"\r\n")).decode()
            verb, _, rest = line.strip().partition(" ")
            await self.more()
            self.late = max(0, self.late - 1)
            if self.late or (self.lie in {Lie.REFUSES, Lie.CLOSES} and self.ahead):
                self.liar.lied += 1
                if self.lie is Lie.CLOSES:
                    raise EOFError
                self.late = self.late or 1 + self.ahead.count(b"\r\n")
                self.say("503 5.5.0 Out of turn")
                continue
            await self.do(verb.upper(), rest)
            if self.lie is Lie.LOSES_THE_GROUP and self.ahead:
                self.lose()

    async def do(self, verb: str, rest: str) -> None:
        path = rest.partition("<")[2].partition(">")[0]
        if verb == "EHLO":
            lines = ("liar.example", *self.liar.offers)
            self.say("".join(f"250-{line}\r\n" for line in lines) + "250 HELP")
        elif verb == "MAIL":
            self.sender, self.recipient = path, ""
            self.say("250 2.1.0 Ok")
        elif verb == "RCPT":
            self.recipient = path
            self.say("250 2.1.5 Ok")
        elif verb == "RSET":
            self.sender = self.recipient = ""
            self.say("250 2.0.0 Ok")
        elif verb == "DATA" and self.recipient:
            self.say("354 Go on")
            await self.take((await self.until(b"\r\n.\r\n"))[:-3])
        elif verb == "BDAT" and self.lie not in {Lie.NO_CHUNKS_500, Lie.NO_CHUNKS_502}:
            await self.chunk(rest)
        elif verb == "QUIT":
            self.say("221 Bye")
            raise EOFError
        else:
            self.liar.lied += 1
            self.say(f"{500 if self.lie is Lie.NO_CHUNKS_500 else 502} 5.5.1 What?")

    async def chunk(self, rest: str) -> None:
        size, _, last = rest.partition(" ")
        if self.lie is Lie.CHUNKS_HANG and size == "0":
            self.liar.lied += 1
            await asyncio.sleep(60)
        while len(self.ahead) < int(size):
            await self.read()
        body, self.ahead = self.ahead[: int(size)], self.ahead[int(size) :]
        if last:
            await self.take(body)
        else:
            self.say("250 2.0.0 Ok")

    async def take(self, body: bytes) -> None:
        await self.more()
        if self.ahead and self.lie is Lie.CLOSES_AFTER_BODIES:
            self.liar.lied += 1
            raise EOFError
        if self.ahead and self.lie is Lie.LOSES_AFTER_BODIES:
            self.lose()
        if self.ahead and self.lie is Lie.REFUSES_AFTER_BODIES:
            self.late = 1 + self.ahead.count(b"\r\n")
        self.liar.received.append(Received(self.sender, [self.recipient], body))
        self.say("250 2.0.0 Ok")

    def lose(self) -> None:
        self.liar.lied += 1
        self.ahead = b""

    def say(self, text: str) -> None:
        self.writer.write(f"{text}\r\n".encode())

    async def until(self, end: bytes) -> bytes:
        while end not in self.ahead:
            await self.read()
        found, _, self.ahead = self.ahead.partition(end)
        return found + end

    async def read(self) -> None:
        more = await self.reader.read(1 << 20)
        if not more:
            raise EOFError
        self.ahead += more

    async def more(self) -> None:
        """Wait a moment for what else has been written together with this."""
        try:
            async with asyncio.timeout(MOMENT_SECONDS):
                await self.read()
        except TimeoutError:
            pass
