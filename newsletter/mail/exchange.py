"""Mail transactions on an open connection: what to write next, whose reply this is.

No sockets: bytes go out through a function, replies come in one by one. Three manners
of speaking, by what the relay offers:

- `ONE_AT_A_TIME`: a command, its reply, the next command (RFC 5321).
- `PIPELINED` (RFC 2920): an envelope in one piece; the next envelope travels with the
  body before it. After DATA one has to wait, since it ends a group.
- `CHUNKED` (RFC 3030): envelope and body in one piece, several messages in flight. Each
  that follows one whose fate is open begins with RSET, so that a refusal before it
  cannot reach it.

Every reply is attributed by its place in the line, whatever is refused:

- A message's first refusal is what became of it. A body that is still asked for then is
  an empty one (RFC 2920 §3.1).
- After 421 nothing more is written. What the relay still answers counts; the rest it
  has not taken.
- When the connection ends, a message whose body was on its way is unknown; one whose
  body was not is as good as not begun.
"""

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from newsletter.mail.replies import Phase, Reply, parse_reply

FLIGHTS = 3  # messages in flight on one connection that takes chunks
CLOSING = 421


class Manner(enum.Enum):
    """How a relay is spoken to."""

    ONE_AT_A_TIME = "one at a time"
    PIPELINED = "pipelined"
    CHUNKED = "chunked"


@dataclass(slots=True)
class Trust:
    """What a relay has shown to do with what it offers; its connections share it."""

    pipelining: bool = True
    chunking: bool = True
    proven: bool = False  # what was written ahead has been understood
    changed: bool = field(default=False, compare=False)  # not yet written down


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply that decided about a message, and where it came."""

    phase: Phase
    reply: Reply


class Broken(Exception):
    """The connection broke while a message was on its way."""

    def __init__(self, phase: Phase, reason: str, *, unknown: bool = False) -> None:
        """Note how far it had come, and whether the relay may have taken it."""
        super().__init__(f"{phase}: {reason}")
        self.phase = phase
        self.reason = reason
        self.unknown = unknown


class Mail:
    """A message on its way: an envelope, its bytes, and what became of it so far."""

    __slots__ = (
        "dotless",
        "envelope",
        "hurried",
        "load",
        "loaded",
        "pieces",
        "refusal",
    )

    def __init__(
        self,
        envelope: bytes,
        pieces: list[bytes],
        *,
        dotless: bool = False,
        load: Any = None,
    ) -> None:
        """Take MAIL and RCPT as two lines, and a body that ends with a line end.

        `dotless` is a body of which no line begins with a dot. `load` is the carrier's.
        """
        self.envelope = envelope
        self.pieces = pieces
        self.load = load
        self.dotless = dotless
        self.refusal: Answer | None = None
        self.hurried = False  # begun before the fate of the one before was known
        self.loaded = False  # the body has been written

    @property
    def size(self) -> int:
        """Return how many octets the body has."""
        return sum(map(len, self.pieces))


class Carrier(Protocol):
    """Who has mail to send and wants to know what became of it."""

    def next_mail(self) -> Mail | None:
        """Return the next message to begin now, or None."""

    def may_hurry(self) -> bool:
        """Tell whether a message may begin before the fate of the last is known."""

    def delivered(self, mail: Mail, line: bytes) -> None:
        """Hear that the relay has taken a message; `line` is what it said."""

    def answered(self, mail: Mail, answer: Answer) -> None:
        """Hear why the relay has not taken a message."""

    def broken(self, mail: Mail, broken: Broken) -> None:
        """Hear that the connection ended before a message was answered."""


class Doubtful(Exception):
    """The relay's replies make no sense; the connection is of no more use."""


_MAIL, _RCPT, _DATA, _DOT, _RSET, _PROBE = range(6)
_PHASES = (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT, Phase.CONNECT, Phase.DATA)
_GOOD, _GO_ON = 0x32, 0x33  # "2", "3": the first digit of a reply
_LINES = (b"RSET\r\n", b"DATA\r\n", b"BDAT 0\r\n", b".\r\n")
_RSET_LINE, _DATA_LINE, _PROBE_LINE, _END = _LINES
_NOT_UNDERSTOOD = frozenset({500, 502, 503, 504})


class Exchange:
    """Takes mail from a carrier and hands it to a relay."""

    def __init__(
        self,
        carrier: Carrier,
        write: Callable[[list[bytes]], object],
        manner: Manner,
        *,
        proven: bool = False,
    ) -> None:
        """Begin with nothing under way; `proven` is a relay that keeps its offers."""
        self.manner = manner
        self.messages = 0  # answered
        self.leaving = False  # the relay has said 421
        self.proven = proven or manner is Manner.ONE_AT_A_TIME
        self.misunderstood = False  # it offers what it does not keep
        self._carrier = carrier
        self._write = write
        self._expected: deque[tuple[int, Mail | None]] = deque()
        self._open: dict[Mail, None] = {}  # the carrier waits to hear of these
        self._envelope: Mail | None = None  # not yet told to send its body
        self._unclean = False  # a refused message may lie on the relay's table
        self._probed = False  # it has taken a chunk
        self._usual = b""  # replies to an envelope, as they came last

    @property
    def busy(self) -> bool:
        """Tell whether a reply is awaited."""
        return bool(self._expected)

    @property
    def empty(self) -> bool:
        """Tell whether no message is under way."""
        return not self._open

    @property
    def loads(self) -> list[Any]:
        """Return what the carrier has under way."""
        return [mail.load for mail in self._open]

    @property
    def phase(self) -> Phase:
        """Return the phase of the reply that is awaited."""
        return _PHASES[self._expected[0][0]] if self._expected else Phase.CONNECT

    @property
    def suspicious(self) -> bool:
        """Tell whether what was written ahead may have been lost by the relay."""
        if self.proven or not self._expected:
            return False
        step, mail = self._expected[0]
        if step == _RSET and len(self._expected) > 1:
            step, mail = self._expected[1]  # that was written with it
        if step == _MAIL:
            return bool(mail and mail.hurried)
        return step in (_RCPT, _DATA, _PROBE)

    @property
    def outrun(self) -> bool:
        """Tell whether a cut may be the answer to what was written ahead."""
        return len(self._expected) > 1 and not (self.proven or self.leaving)

    def pull(self) -> None:
        """Begin what may be begun now."""
        out: list[bytes] = []
        self._begin(out)
        if out:
            self._write(out)

    def in_stride(self, data: bytes) -> bool:
        """Take what a relay says, pipelined, when all is well; False if it says else.

        The same as `reply` does with the four lines, at a third of the price: a message
        taken, and the next one's envelope accepted. Nothing may be left from before.
        """
        expected, ahead = self._expected, self._envelope
        if ahead is None or len(expected) != 4 or self.leaving:
            return False
        end = data.find(b"\r\n")
        accepted = data[end:]
        if not (
            data.startswith(b"250 ")
            and (accepted == self._usual or self._accepts_next(accepted))
        ):
            return False
        step, mail = expected[0]
        if step != _DOT or mail not in self._open or mail.refusal:
            return False
        expected.clear()
        self._envelope, self.proven = None, True
        del self._open[mail]
        self.messages += 1
        self._carrier.delivered(mail, data[:end])
        expected.append((_DOT, ahead))
        ahead.loaded = True
        out = ahead.pieces if ahead.dotless else [stuffed(ahead.pieces)]
        if following := self._next():
            out.append(b".\r\n%bDATA\r\n" % following.envelope)
            expected += ((_MAIL, following), (_RCPT, following), (_DATA, following))
            self._envelope = following
        else:
            out.append(_END)
        self._write(out)
        return True

    def _accepts_next(self, replies: bytes) -> bool:
        """Tell whether these accept an envelope; they seldom change their words."""
        codes = [line[:4] for line in replies.split(b"\r\n")]
        if codes != [b"", b"250 ", b"250 ", b"354 ", b""]:
            return False
        self._usual = replies
        return True

    def reply(self, line: bytes, before: Sequence[bytes] = ()) -> None:
        """Take a reply: its last line, without the end, and those before it.

        Raises Doubtful when it cannot be the answer to anything.
        """
        if not self._expected:
            self.leaving = self.leaving or line.startswith(b"421")
            raise Doubtful(_said(line))
        step, mail = self._expected.popleft()
        if line[0] == _GOOD and step <= _RCPT:
            if self.manner is Manner.ONE_AT_A_TIME and not self.leaving:
                self._next_command(step, mail)
            return
        if line.startswith(b"421"):
            self.leaving = True
        out: list[bytes] = []
        if mail is not None:
            self._hear(step, mail, line, before, out)
        elif line[0] != _GOOD and not self.leaving:  # it does not clear its table
            raise Doubtful(_said(line))
        self._begin(out)
        if out:
            self._write(out)

    def lost(self, reason: str) -> None:
        """Tell the carrier about everything that was under way."""
        left, self._open = self._open, {}
        self._expected.clear()
        self._envelope = None
        for mail in left:
            if mail.refusal:
                self._carrier.answered(mail, mail.refusal)
            else:
                unknown = mail.loaded and not self.leaving
                phase = Phase.DOT if mail.loaded else Phase.MAIL
                self._carrier.broken(mail, Broken(phase, reason, unknown=unknown))

    # What is said.

    def _begin(self, out: list[bytes]) -> None:
        if self.leaving:
            return
        if self.manner is Manner.CHUNKED:
            self._begin_chunked(out)
        elif self.manner is Manner.PIPELINED:
            if self._envelope is None and (mail := self._next()):
                self._begin_pipelined(mail, out)
        elif not self._expected:
            if self._unclean:
                self._clean(out)
            elif mail := self._next():
                out.append(_line_of(mail, 0))
                self._expected.append((_MAIL, mail))

    def _next(self) -> Mail | None:
        hurried = bool(self._open)
        if hurried and not self._carrier.may_hurry():
            return None
        mail = self._carrier.next_mail()
        if mail is not None:
            mail.hurried = hurried
            self._open[mail] = None
        return mail

    def _begin_pipelined(self, mail: Mail, out: list[bytes]) -> None:
        if self._unclean:
            self._clean(out)
        out += (mail.envelope, _DATA_LINE)
        self._expected += ((_MAIL, mail), (_RCPT, mail), (_DATA, mail))
        self._envelope = mail

    def _begin_chunked(self, out: list[bytes]) -> None:
        while self._has_room():
            mail = self._next()
            if mail is None:
                return
            if mail.hurried or self._unclean:
                self._clean(out)
            self._expected += ((_MAIL, mail), (_RCPT, mail))
            out.append(mail.envelope)
            if self._probed:
                self._load_chunk(mail, out)
            else:  # nothing, to see whether it understands the command
                out.append(_PROBE_LINE)
                self._expected.append((_PROBE, mail))

    def _has_room(self) -> bool:
        """Tell whether one more may fly: where not proven, one ahead and none after.

        Replies to what came after would pass for those of what a relay has lost.
        """
        if len(self._open) >= (FLIGHTS if self._probed else 1):
            return False
        return self.proven or not any(mail.hurried for mail in self._open)

    def _load_chunk(self, mail: Mail, out: list[bytes]) -> None:
        mail.loaded = True
        out.append(b"BDAT %d LAST\r\n" % mail.size)
        out += mail.pieces
        self._expected.append((_DOT, mail))

    def _clean(self, out: list[bytes]) -> None:
        self._unclean = False
        out.append(_RSET_LINE)
        self._expected.append((_RSET, None))

    def _next_command(self, step: int, mail: Mail | None) -> None:
        assert mail is not None  # noqa: S101 (these steps are a message's)
        line = _line_of(mail, 1) if step == _MAIL else _DATA_LINE
        self._expected.append((step + 1, mail))
        self._write([line])

    # What is answered.

    def _hear(
        self,
        step: int,
        mail: Mail,
        line: bytes,
        before: Sequence[bytes],
        out: list[bytes],
    ) -> None:
        if step == _DOT:
            self._end_of_message(mail, line, before)
        elif step == _DATA:
            self._go_ahead(mail, line, before, out)
        elif step == _PROBE:
            self._probe_answered(mail, line, before, out)
        else:
            self._refused(step, mail, line, before)

    def _go_ahead(
        self, mail: Mail, line: bytes, before: Sequence[bytes], out: list[bytes]
    ) -> None:
        """Send the body now that the relay asks for it."""
        if self._envelope is mail:
            self._envelope = None
        if line[0] == _GOOD:
            raise Doubtful(_said(line))
        if line[0] != _GO_ON:
            self._refused(_DATA, mail, line, before)
        elif not self.leaving:
            self.proven = self.proven or mail.hurried
            self._expected.append((_DOT, mail))
            if mail.refusal:
                out.append(_END)
            else:
                mail.loaded = True
                out += mail.pieces if mail.dotless else [stuffed(mail.pieces)]
                out.append(_END)

    def _probe_answered(
        self, mail: Mail, line: bytes, before: Sequence[bytes], out: list[bytes]
    ) -> None:
        """Send the body, in a chunk or, where those are not understood, after DATA."""
        self._probed = line[0] == _GOOD
        if self.leaving and self._probed:
            return  # too late for the body, and no refusal
        if mail.refusal or self.leaving:
            self._refused(_DATA, mail, line, before)
        elif self._probed:
            self._load_chunk(mail, out)
        elif int(line[:3]) in _NOT_UNDERSTOOD:
            self.misunderstood = True
            self.manner = Manner.PIPELINED
            self._clean(out)
            self._begin_pipelined(mail, out)
        else:
            self._refused(_DATA, mail, line, before)

    def _refused(
        self, step: int, mail: Mail, line: bytes, before: Sequence[bytes]
    ) -> None:
        """Note a refusal; where nothing more of the message is awaited, tell it."""
        if mail not in self._open:
            return
        if line[0] == _GO_ON:
            raise Doubtful(_said(line))
        if mail.refusal is None:
            reply = parse_reply(line, before)
            if not self.proven and _out_of_step(reply):
                self.misunderstood = True
                raise Doubtful(str(reply))
            mail.refusal = Answer(_PHASES[step], reply)
        last = step >= _DATA or self.manner is Manner.ONE_AT_A_TIME
        if last or self.leaving:
            self._unclean = True
            self._done(mail)
            self._carrier.answered(mail, mail.refusal)

    def _end_of_message(self, mail: Mail, line: bytes, before: Sequence[bytes]) -> None:
        if mail not in self._open:
            return
        if line[0] == _GO_ON:
            raise Doubtful(_said(line))
        taken = line[0] == _GOOD
        self._done(mail)
        if mail.refusal is not None:
            self._unclean = self.manner is Manner.CHUNKED
            self._contradicted(mail, taken)
        elif taken:
            self.proven = self.proven or mail.hurried
            self._carrier.delivered(mail, line)
        else:
            self._unclean = self.manner is Manner.CHUNKED
            answer = Answer(Phase.DOT, parse_reply(line, before))
            self._carrier.answered(mail, answer)

    def _contradicted(self, mail: Mail, taken: bool) -> None:
        """Tell a refusal, unless the relay has taken the whole message all the same."""
        assert mail.refusal is not None  # noqa: S101 (that is what is told)
        if taken and mail.loaded and mail.refusal.phase is Phase.MAIL:
            said = str(mail.refusal.reply)
            self._carrier.broken(mail, Broken(Phase.DOT, said, unknown=True))
        else:
            self._carrier.answered(mail, mail.refusal)

    def _done(self, mail: Mail) -> None:
        del self._open[mail]
        self.messages += 1
        if self._envelope is mail:
            self._envelope = None


def stuffed(pieces: Sequence[bytes]) -> bytes:
    """Double leading dots (RFC 5321 §4.5.2)."""
    data = b"".join(pieces)
    if data.startswith(b"."):
        data = b"." + data
    return data.replace(b"\r\n.", b"\r\n..")


def _line_of(mail: Mail, number: int) -> bytes:
    return mail.envelope.splitlines(keepends=True)[number]


def _out_of_step(reply: Reply) -> bool:
    """Tell whether a refusal looks like one of writing ahead, not of the message."""
    return reply.code in _NOT_UNDERSTOOD or "pipelin" in reply.text.lower()


def _said(line: bytes) -> str:
    return line[:200].decode(errors="replace")
