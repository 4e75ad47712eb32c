"""A carrier for tests: hands over what it is told, one by one or all at once."""

import asyncio
from collections import deque
from typing import Any

from newsletter.mail.exchange import Answer, Broken, Mail
from newsletter.mail.replies import Phase, parse_reply
from newsletter.mail.smtp import Connection, Unsendable


class Hand:
    """What a courier is, without an office."""

    def __init__(self, connection: Connection, *, hurry: bool = True) -> None:
        self.connection = connection
        self.hurry = hurry
        self._queue: deque[Mail] = deque()
        self._fates: dict[Mail, asyncio.Future[Answer]] = {}
        self._carrying: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        return self.connection.closed

    def give(self, sender: str, recipient: str, data: bytes) -> asyncio.Future[Answer]:
        """Put a message in the queue; `go` begins."""
        fate: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            mail = self.connection.prepare(sender, recipient, [data])
        except Unsendable as refusal:
            fate.set_result(Answer(Phase.MAIL, refusal.reply))
            return fate
        self._queue.append(mail)
        self._fates[mail] = fate
        return fate

    def go(self) -> None:
        if self._carrying is None:
            self._carrying = asyncio.create_task(self.connection.carry(self))
        else:
            self.connection.pull()

    async def send(self, sender: str, recipient: str, data: bytes) -> Answer:
        """Hand over one message and wait for what becomes of it. Raises Broken."""
        fate = self.give(sender, recipient, data)
        self.go()
        assert self._carrying
        waiting: set[asyncio.Future[Any]] = {fate, self._carrying}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not fate.done():
            raise Broken(Phase.MAIL, "closed")
        return fate.result()

    async def quit(self) -> None:
        self.connection.finish()
        if self._carrying:
            await self._carrying
        await self.connection.quit()

    # What the connection asks and tells.

    def next_mail(self) -> Mail | None:
        return self._queue.popleft() if self._queue else None

    def may_hurry(self) -> bool:
        return self.hurry

    def delivered(self, mail: Mail, line: bytes) -> None:
        self._fates.pop(mail).set_result(Answer(Phase.DOT, parse_reply(line)))

    def answered(self, mail: Mail, answer: Answer) -> None:
        self._fates.pop(mail).set_result(answer)

    def broken(self, mail: Mail, broken: Broken) -> None:
        self._fates.pop(mail).set_exception(broken)
