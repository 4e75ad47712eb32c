"""A relay that does what a script says, and remembers what it really did.

For tests that drive the client against arbitrary behaviour; it runs in their loop.
Taken is what it has kept for a sender and recipients that it had not refused, whether
it could say so or not. It takes nothing after it has said 421.
"""

import asyncio
import enum
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

LONG_SECONDS = 0.6  # longer than any deadline of the test
_RESET_AT_ONCE = struct.pack("ii", 1, 0)


class Act(enum.Enum):
    """What is done about one command."""

    YES = "say the usual"
    LATER = "4xx"
    NO = "5xx"
    LEAVE = "421, and then close"
    LEAVE_SLOWLY = "421, and then refuse everything"
    LEAVE_MUTE = "421, and then say nothing"
    CLOSE = "do it, then close without an answer"
    CLOSE_BEFORE = "close"
    RESET = "do it, then reset the connection"
    CLOSE_AFTER = "answer, then close"
    HALF = "answer, then close one direction"
    MUTE = "do it, and say nothing any more"
    SHORT = "wait a little"
    LONG = "wait longer than the deadline"
    GARBAGE = "do it, and say what is no reply"
    OTHER = "say 3xx where 2xx is usual, or the other way round"


@dataclass
class Script:
    """How the relay behaves; one act for each command, then YES for ever.

    The acts go on from one connection to the next.
    """

    offers: tuple[str, ...] = ()
    acts: Sequence[Act] = ()
    lines: int = 1  # of each reply
    drip: bool = False  # octet by octet
    gather: bool = False  # replies wait until nothing is left to read
    unsolicited: tuple[int, str] | None = None  # before which command, what
    forgets: str = ""  # "group": all after a group's first; "body": what follows one
    understands_chunks: bool = True


@dataclass
class Kept:
    sender: str
    recipient: str
    body: bytes


@dataclass
class Relay:
    script: Script
    taken: list[Kept] = field(default_factory=list)
    strange: list[bytes] = field(default_factory=list)
    shifted: bool = False  # it has said what nobody asked for, and gone on

    def __post_init__(self) -> None:
        self.acts = deque(self.script.acts)
        self.count = 0  # commands

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._talks: set[asyncio.Task[None]] = set()
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Read what is still on its way, then end."""
        self._server.close()
        if self._talks:
            _, late = await asyncio.wait(self._talks, timeout=0.02)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._talks, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        self._talks.add(task)
        try:
            await _Talk(self, reader, writer).run()
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


class _Talk:
    def __init__(
        self, relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.relay, self.script = relay, relay.script
        self.reader, self.writer = reader, writer
        self.ahead = b""
        self.out: list[bytes] = []
        self.mute = self.leaving = False
        self.sender, self.chunks = "", b""
        self.recipients: list[str] = []

    async def run(self) -> None:
        await self.say("220 hello")
        await self.until(b"\r\n")
        self.ahead = b""
        text = "".join(f"250-{offer}\r\n" for offer in ("me", *self.script.offers))
        await self.say(f"{text}250 HELP")
        while True:
            line = await self.until(b"\r\n")
            await self.command(line)
            if self.script.forgets == "group" and self.ahead:
                self.ahead = b""

    async def command(self, line: bytes) -> None:
        verb, _, rest = line.decode(errors="replace").strip().partition(" ")
        path = rest.partition("<")[2].partition(">")[0]
        usual, size = "250 Ok", 0
        if verb == "MAIL":
            usual = "503 Nested" if self.sender else "250 Ok"
        elif verb == "DATA":
            usual = "354 Go on" if self.recipients else "503 Nobody"
        elif verb == "BDAT" and not self.script.understands_chunks:
            usual = "500 What?"
        elif verb == "BDAT":
            size = int(rest.split()[0])
            while len(self.ahead) < size:
                await self.read()
            self.chunks += self.ahead[:size]
            self.ahead = self.ahead[size:]
            usual = "250 Ok" if self.recipients else "503 Nobody"
        elif verb == "RCPT":
            usual = "250 Ok" if self.sender else "503 MAIL first"
        elif verb not in {"RSET", "QUIT"}:
            self.relay.strange.append(line)
            usual = "500 What?"
        if verb == "BDAT" and rest.endswith("LAST") and usual[0] == "2":
            await self.message(self.chunks)
            return
        if not await self.answer(usual):
            return
        if verb == "MAIL":
            self.sender = path
        elif verb == "RCPT":
            self.recipients.append(path)
        elif verb == "RSET":
            self.clear()
        elif verb == "DATA" and usual[0] == "3":
            await self.data()

    async def data(self) -> None:
        lines: list[bytes] = []
        while (line := await self.until(b"\r\n")) != b".\r\n":
            lines.append(line.removeprefix(b"."))
        await self.message(b"".join(lines))

    async def message(self, body: bytes) -> None:
        if self.script.forgets == "body":
            self.ahead = b""
        kept = [Kept(self.sender, recipient, body) for recipient in self.recipients]
        self.clear()
        await self.answer("250 Taken", kept)

    def clear(self) -> None:
        self.sender, self.chunks, self.recipients = "", b"", []

    async def answer(self, usual: str, kept: Sequence[Kept] = ()) -> bool:
        """Do as the script says; tell whether the command was done."""
        await self.speak_unasked()
        act = self.relay.acts.popleft() if self.relay.acts else Act.YES
        if self.leaving or act in _LEAVING:
            first, self.leaving = not self.leaving, True
            await self.say("421 Leaving" if first else "451 Leaving")
            self.mute = self.mute or act is Act.LEAVE_MUTE
            if act is Act.LEAVE:
                raise EOFError
            return False
        if act in _WAITS:
            await self.flush()
            await asyncio.sleep(_WAITS[act])
        if act is Act.CLOSE_BEFORE:
            raise EOFError
        good = usual[0] in "23" and act not in {Act.LATER, Act.NO, Act.OTHER}
        if usual[0] in "23" and act in _REFUSALS:
            usual = _REFUSALS[act]
        if act is Act.OTHER:
            usual = "250 Ok" if usual[0] == "3" else "354 Go on"
        if good:
            self.relay.taken += kept
        await self.reply_as(act, usual)
        return good

    async def reply_as(self, act: Act, usual: str) -> None:
        if act is Act.CLOSE:
            raise EOFError
        if act is Act.RESET:
            found: socket.socket = self.writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
            raise EOFError
        self.mute = self.mute or act is Act.MUTE
        await self.say("what?" if act is Act.GARBAGE else usual)
        if act is Act.CLOSE_AFTER:
            await self.flush()
            raise EOFError
        if act is Act.HALF and not self.mute:
            await self.flush()
            self.writer.write_eof()
            self.mute = True

    async def speak_unasked(self) -> None:
        self.relay.count += 1
        if self.script.unsolicited and self.script.unsolicited[0] == self.relay.count:
            reply = self.script.unsolicited[1]
            if reply.startswith("421"):
                self.leaving = True
            else:
                self.relay.shifted = True
            await self.say(reply)

    async def say(self, text: str) -> None:
        if self.mute:
            return
        more = "".join(f"{text[:3]}-{n}\r\n" for n in range(1, self.script.lines))
        if text[:3].isdigit() and "-" not in text:
            text = more + text
        self.out.append(f"{text}\r\n".encode())
        if not self.script.gather:
            await self.flush()

    async def flush(self) -> None:
        octets = b"".join(self.out)
        self.out.clear()
        size = 1 if self.script.drip else len(octets) or 1
        for start in range(0, len(octets), size):
            if self.writer.is_closing():
                raise EOFError
            self.writer.write(octets[start : start + size])
            if self.script.drip:
                await asyncio.sleep(0)

    async def until(self, end: bytes) -> bytes:
        while end not in self.ahead:
            await self.read()
        found, _, self.ahead = self.ahead.partition(end)
        return found + end

    async def read(self) -> None:
        await self.flush()
        more = await self.reader.read(1 << 16)
        if not more:
            raise EOFError
        self.ahead += more


_LEAVING = {Act.LEAVE, Act.LEAVE_SLOWLY, Act.LEAVE_MUTE}
_WAITS = {Act.SHORT: 0.01, Act.LONG: LONG_SECONDS}
_REFUSALS = {Act.LATER: "451 Later", Act.NO: "550 No"}
