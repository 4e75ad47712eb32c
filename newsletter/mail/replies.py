"""What a relay's reply means: a table, read from the top. Pure.

Evidence in its order: the enhanced code (RFC 3463), the basic code where it says
enough, the words providers use, then the phase in which it came. What is the sender's
or the relay's fault never counts against an address.
"""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b

TEXT_LIMIT = 500  # of a reply that is kept
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")


class Phase(enum.StrEnum):
    """Where in the conversation a reply came."""

    CONNECT = "connect"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"  # after the message: also what a bounce report says


class Verdict(enum.StrEnum):
    """What happened, in one word; kept as a delivery's reason."""

    SENT = "sent"
    GREYLISTED = "greylisted"
    MAILBOX_SOFT = "mailbox_soft"
    UNKNOWN_MAILBOX = "unknown_mailbox"
    DOMAIN_DEAD = "domain_dead"
    THROTTLED = "throttled"
    SENDER_BLOCKED = "sender_blocked"
    CONTENT = "content"
    RELAY_TROUBLE = "relay_trouble"
    SMTPUTF8_LACKING = "smtputf8_lacking"
    UNKNOWN_4XX = "unknown_4xx"
    UNKNOWN_5XX = "unknown_5xx"


class Then(enum.StrEnum):
    """What is done with the message."""

    DONE = "done"
    RETRY = "retry"
    FAIL = "fail"


class Blame(enum.StrEnum):
    """What it says about the address."""

    GOOD = "good"  # earlier doubts are forgotten
    NONE = "none"
    SOFT = "soft"  # counts; many over weeks suspend it
    TWICE = "twice"  # hard, once seen twice a day or more apart
    HARD = "hard"
    NEEDS_SMTPUTF8 = "needs_smtputf8"


class Brake(enum.StrEnum):
    """What is done about sending to others."""

    NONE = "none"
    SLOW = "slow"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply: 550 5.1.1 No such user."""

    code: int
    enhanced: str = ""
    text: str = ""

    def __str__(self) -> str:
        """Write it on one line, as it is kept."""
        parts = (str(self.code), self.enhanced, self.text)
        line = " ".join(" ".join(part for part in parts if part).split())
        return line[:TEXT_LIMIT]


def parse_reply(line: bytes, before: Sequence[bytes] = ()) -> Reply:
    """Read a reply: its last line and those before it, without their ends."""
    texts = [raw[4:].decode(errors="replace").strip() for raw in (*before, line)]
    code = int(line[:3])
    match = _ENHANCED.match(texts[-1])
    if match is None:
        return Reply(code, "", "\n".join(texts))
    plain = [text.removeprefix(match[1]).strip() for text in texts]
    return Reply(code, match[1], "\n".join(plain))


@dataclass(frozen=True, slots=True)
class Ruling:
    """What to do about a reply."""

    verdict: Verdict
    then: Then
    blame: Blame = Blame.NONE
    brake: Brake = Brake.NONE


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; what is empty fits everything."""

    verdict: Verdict
    enhanced: str = ""
    code: str = ""
    words: str = ""
    phases: frozenset[Phase] = frozenset()

    def fits(self, code: str, enhanced: str, text: str, phase: Phase) -> bool:
        """Tell whether all that this row asks for is there."""
        return bool(
            (not self.enhanced or re.fullmatch(self.enhanced, enhanced))
            and (not self.code or re.fullmatch(self.code, code))
            and (not self.words or re.search(self.words, text, re.IGNORECASE))
            and (not self.phases or phase in self.phases)
        )


_V = Verdict
_RCPT = frozenset({Phase.RCPT})
_BLOCKED = (
    r"spamhaus|block ?list|black ?list|barracuda|spamcop|reputation|relay(ing)? "
    r"(access )?denied|not authenticated|\b(spf|dkim|dmarc)\b|sender (verify|address)"
)
TABLE = (
    Row(_V.SENT, code=r"2\d\d"),
    # Enhanced codes, where the words decide between two meanings of one first.
    Row(_V.THROTTLED, r"4\.2\.1", words=r"\brate\b|too quickly|too many"),
    Row(_V.GREYLISTED, r"4\.7\.1|4\.2\.0"),
    Row(_V.GREYLISTED, code=r"45\d", words=r"gr[ae]y-?list"),
    Row(_V.MAILBOX_SOFT, r"[45]\.2\.2|4\.2\.\d+"),
    Row(_V.UNKNOWN_MAILBOX, r"5\.1\.(1|3|6|10)|5\.2\.1"),
    Row(_V.DOMAIN_DEAD, r"5\.1\.2|5\.4\.4"),
    Row(_V.SENDER_BLOCKED, r"4\.7\.(23|27|29|30|32|40)|[45]\.1\.[78]"),
    Row(_V.THROTTLED, r"4\.7\.\d+"),
    Row(_V.RELAY_TROUBLE, code=r"530|535|538"),
    Row(_V.SENDER_BLOCKED, r"5\.7\.\d+"),
    Row(_V.SMTPUTF8_LACKING, r"5\.6\.7"),
    Row(_V.CONTENT, r"5\.3\.4|5\.6\.\d+"),
    Row(_V.RELAY_TROUBLE, r"4\.3\.\d+|4\.4\.\d+"),
    # Basic codes and providers' words.
    Row(_V.THROTTLED, code=r"421"),
    Row(_V.THROTTLED, code=r"4\d\d", words=r"TSS\d\d|RP-00\d|throttl|rate limit"),
    Row(_V.SENDER_BLOCKED, code=r"[45]\d\d", words=_BLOCKED),
    Row(_V.MAILBOX_SOFT, code=r"452|55[0-4]", words=r"mailbox.{0,20}full|quota"),
    Row(_V.DOMAIN_DEAD, code=r"5\d\d", words=r"nxdomain|null mx|domain not found"),
    Row(_V.CONTENT, code=r"552"),
    Row(_V.RELAY_TROUBLE, code=r"452", phases=frozenset({Phase.MAIL})),
    # The phase.
    Row(_V.UNKNOWN_MAILBOX, code=r"550|553", phases=_RCPT),
    Row(_V.UNKNOWN_4XX, code=r"4\d\d"),
    Row(_V.UNKNOWN_5XX),
)
_R = Ruling
RULINGS = {
    ruling.verdict: ruling
    for ruling in (
        _R(_V.SENT, Then.DONE, Blame.GOOD),
        _R(_V.GREYLISTED, Then.RETRY),
        _R(_V.MAILBOX_SOFT, Then.RETRY, Blame.SOFT),
        _R(_V.UNKNOWN_MAILBOX, Then.FAIL, Blame.HARD),
        _R(_V.DOMAIN_DEAD, Then.FAIL, Blame.TWICE),
        _R(_V.THROTTLED, Then.RETRY, brake=Brake.SLOW),
        _R(_V.SENDER_BLOCKED, Then.FAIL, brake=Brake.STOP),
        _R(_V.CONTENT, Then.FAIL),
        _R(_V.RELAY_TROUBLE, Then.RETRY, brake=Brake.STOP),
        _R(_V.SMTPUTF8_LACKING, Then.FAIL, Blame.NEEDS_SMTPUTF8),
        _R(_V.UNKNOWN_4XX, Then.RETRY, Blame.SOFT),
        _R(_V.UNKNOWN_5XX, Then.FAIL, Blame.SOFT),
    )
}


def judge(reply: Reply, phase: Phase) -> Ruling:
    """Find what a reply means. Where the two codes disagree, the basic one holds."""
    if 200 <= reply.code < 300:
        return RULINGS[Verdict.SENT]  # as the first row says, without looking
    code = str(reply.code)
    enhanced = reply.enhanced
    if enhanced and enhanced[0] != code[0]:
        enhanced = code[0] + enhanced[1:]
    for row in TABLE:
        if row.fits(code, enhanced, reply.text, phase):
            ruling = RULINGS[row.verdict]
            if row.verdict is Verdict.SENDER_BLOCKED and code[0] == "4":
                return Ruling(ruling.verdict, Then.RETRY, ruling.blame, ruling.brake)
            return ruling
    raise AssertionError("the table's last row fits everything")


RETRY_MINUTES = (5, 10, 20, 40, 60, 120, 240)  # and every 240 from then on
GIVE_UP_BULK = timedelta(hours=72)
GIVE_UP_SINGLE = timedelta(hours=4)


def retry_delay(
    delivery_id: int, attempts: int, give_up: timedelta
) -> timedelta | None:
    """Return how long to wait after so many failed attempts; None: no more.

    Spread by a fifth either way (RFC 5321 §4.5.4.1), the same for the same attempt.
    """
    last = len(RETRY_MINUTES) - 1
    minutes = [RETRY_MINUTES[min(n, last)] for n in range(attempts)]
    if timedelta(minutes=sum(minutes)) > give_up:
        return None
    spread = blake2b(f"{delivery_id}.{attempts}".encode(), digest_size=2).digest()
    factor = 0.8 + 0.4 * int.from_bytes(spread) / 0xFFFF
    return timedelta(minutes=minutes[-1] * factor)
