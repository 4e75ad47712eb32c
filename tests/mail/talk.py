"""An exchange whose other end is the test: no socket, no bytes but in writing."""

from collections import deque
from dataclasses import dataclass, field

from newsletter.mail.exchange import Answer, Broken, Doubtful, Exchange, Mail, Manner


@dataclass
class Talk:
    """What an exchange writes, and what became of the messages it was given."""

    manner: Manner
    mails: int = 2
    hurry: bool = True
    proven: bool = True
    written: list[str] = field(default_factory=list)
    fates: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names: dict[Mail, str] = {}
        self.queue: deque[Mail] = deque()
        for number in range(1, self.mails + 1):
            self.give(str(number))
        self.exchange = Exchange(self, self.write, self.manner, proven=self.proven)
        self.exchange.pull()

    def give(self, name: str) -> None:
        envelope = f"MAIL {name}\r\nRCPT {name}\r\n".encode()
        mail = Mail(envelope, [f"body {name}\r\n".encode()])
        self.names[mail] = name
        self.queue.append(mail)

    def write(self, parts: list[bytes]) -> None:
        lines = b"".join(parts).decode().removesuffix("\r\n").split("\r\n")
        self.written.append(", ".join(lines))

    def hear(self, replies: str) -> None:
        """Take replies, given by their codes; CUT ends the connection."""
        for code in replies.split():
            if code == "CUT":
                self.exchange.lost("cut")
                continue
            try:
                self.exchange.reply(f"{code} said".encode())
            except Doubtful:
                self.exchange.lost("doubtful")

    # What the exchange asks and tells.

    def next_mail(self) -> Mail | None:
        return self.queue.popleft() if self.queue else None

    def may_hurry(self) -> bool:
        return self.hurry

    def delivered(self, mail: Mail, line: bytes) -> None:
        self._ended(mail, "sent")

    def answered(self, mail: Mail, answer: Answer) -> None:
        self._ended(mail, f"{answer.phase} {answer.reply.code}")

    def broken(self, mail: Mail, broken: Broken) -> None:
        self._ended(mail, "unknown" if broken.unknown else "not begun")

    def _ended(self, mail: Mail, fate: str) -> None:
        name = self.names[mail]
        assert name not in self.fates, "it was told twice"
        self.fates[name] = fate

    @property
    def told(self) -> str:
        return ", ".join(f"{name}: {self.fates[name]}" for name in sorted(self.fates))
