"""Whatever a relay does, what is told of each message is true, or `unknown`.

More examples than the suite runs: SMTP_EXAMPLES=20000.
"""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import uvloop
from hypothesis import HealthCheck, event, given, note
from hypothesis import settings as tries
from hypothesis import strategies as st

from newsletter.config import parse_relay
from newsletter.errors import RelayError
from newsletter.mail.exchange import Answer, Broken, Mail, Trust
from newsletter.mail.smtp import Connection, Deadlines
from tests.mail.mischief import Act, Relay, Script

EXAMPLES = int(os.environ.get("SMTP_EXAMPLES", "0")) or 300
# Long beside what a busy machine does to a loop, short beside LONG_SECONDS.
DEADLINES = Deadlines(
    connect=5, command=0.15, data=0.15, dot=0.15, group=0.1, quit=0.1, farewell=0.1
)
BOUND_SECONDS = 10.0

OFFERS: list[tuple[str, ...]] = [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")]
MILD = [Act.YES, Act.YES, Act.YES, Act.LATER, Act.NO, Act.SHORT]
ACTS = st.lists(st.sampled_from([*MILD, *MILD, *Act]), max_size=30) | st.builds(
    lambda quiet, act: [*[Act.YES] * quiet, act],
    st.integers(0, 24),
    st.sampled_from(Act),
)
UNSOLICITED = st.none() | st.tuples(
    st.integers(1, 16), st.sampled_from(["421 Idle", "250 Hm", "550 Hm", "354 Hm"])
)
SCRIPTS = st.builds(
    Script,
    offers=st.sampled_from(OFFERS),
    acts=ACTS,
    lines=st.integers(1, 3),
    drip=st.booleans(),
    gather=st.booleans(),
    unsolicited=st.just(None) | UNSOLICITED,
    forgets=st.sampled_from(["", "", "", "group", "body"]),
    understands_chunks=st.sampled_from([True, True, True, False]),
)
BODIES = st.sampled_from(
    [b"Hi\r\n", b".\r\n", b"\r\n", b"a\r\n.\r\nMAIL FROM:<x>\r\n", b"x" * 200_000]
)


@dataclass
class Plan:
    """What the client is given, and when."""

    bodies: list[bytes]
    at_once: int  # in the queue from the start; the others come one by one
    hurry: bool
    gaps: list[bool]  # when asked, have nothing just now
    proven: bool


PLANS = st.builds(
    Plan,
    bodies=st.lists(BODIES, min_size=1, max_size=6),
    at_once=st.integers(0, 6),
    hurry=st.sampled_from([True, True, False]),
    gaps=st.lists(st.booleans(), max_size=6),
    proven=st.booleans(),
)


@dataclass
class Hands:
    """A carrier that sometimes has nothing, and counts what it is told."""

    hurry: bool
    gaps: deque[bool]
    queue: deque[Mail] = field(default_factory=deque)
    names: dict[Mail, str] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    fates: dict[str, list[str]] = field(default_factory=dict)

    def next_mail(self) -> Mail | None:
        if not self.queue or (self.gaps and self.gaps.popleft()):
            return None
        mail = self.queue.popleft()
        self.begun.append(self.names[mail])
        return mail

    def may_hurry(self) -> bool:
        return self.hurry

    def delivered(self, mail: Mail, line: bytes) -> None:
        self._told(mail, "sent")

    def answered(self, mail: Mail, answer: Answer) -> None:
        assert answer.reply.code >= 400
        self._told(mail, "refused")

    def broken(self, mail: Mail, broken: Broken) -> None:
        self._told(mail, "unknown" if broken.unknown else "not begun")

    def _told(self, mail: Mail, fate: str) -> None:
        self.fates.setdefault(self.names[mail], []).append(fate)


async def play(relay: Relay, plan: Plan) -> tuple[Hands, dict[str, Mail]]:
    port = await relay.start()
    hands = Hands(plan.hurry, deque(plan.gaps))
    # A relay that forgets what was written ahead is never one that is proven.
    trust = Trust(proven=plan.proven and not relay.script.forgets)
    mails: dict[str, Mail] = {}
    try:
        connection = await Connection.open(
            parse_relay(f"smtp://127.0.0.1:{port}"),
            ehlo_name="x.test",
            deadlines=DEADLINES,
            trust=trust,
        )
    except RelayError:
        await relay.stop()
        return hands, mails
    for number, body in enumerate(plan.bodies):
        name = f"r{number}@x.example"
        head = f"To: {name}\r\n\r\n".encode() if len(body) > 5 else b""
        whole = head + body
        mails[name] = connection.prepare(
            f"s{number}@x.example", name, [whole[:9], whole[9:]], load=whole
        )
    hands.names = {mail: name for name, mail in mails.items()}
    waiting = deque(mails.values())
    for _ in range(min(plan.at_once, len(waiting))):
        hands.queue.append(waiting.popleft())
    carrying = asyncio.create_task(connection.carry(hands))
    while not carrying.done() and (waiting or len(hands.fates) < len(mails)):
        if waiting and len(hands.fates) == len(hands.begun):
            hands.queue.append(waiting.popleft())
        await asyncio.sleep(0.001)
        connection.pull()
    connection.finish()
    await carrying
    await connection.quit()
    await relay.stop()
    return hands, mails


def check(relay: Relay, hands: Hands, mails: dict[str, Mail]) -> None:
    assert sorted(hands.fates) == sorted(hands.begun), "not each has a fate"
    taken = Counter(kept.recipient for kept in relay.taken)
    assert all(times == 1 for times in taken.values()), "one arrived twice"
    for kept in relay.taken:
        assert kept.sender == kept.recipient.replace("r", "s", 1), "of another's"
        assert kept.body == mails[kept.recipient].load, "not its bytes"
    if not (relay.script.forgets or relay.shifted):
        assert not relay.strange, "bytes out of place"
    for name, fates in hands.fates.items():
        [fate] = fates
        event(fate)
        if fate == "unknown":
            assert mails[name].loaded, "no body can have been written"
        if relay.shifted:
            continue
        if fate == "sent":
            assert taken[name], "it is marked as sent and was not taken"
        elif fate != "unknown":
            assert not taken[name], f"it was taken and is marked {fate}"


async def bounded(work: Callable[[], Awaitable[None]]) -> None:
    before = asyncio.all_tasks()
    await asyncio.wait_for(work(), BOUND_SECONDS)
    assert asyncio.all_tasks() == before, "something goes on"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_is_told_is_what_the_relay_did(loop: str) -> None:
    new_loop = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop

    @tries(
        max_examples=EXAMPLES // 2,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(SCRIPTS, PLANS)
    def whatever_happens(script: Script, plan: Plan) -> None:
        relay = Relay(script)

        async def once() -> None:
            hands, mails = await play(relay, plan)
            note(f"{hands.fates=}")
            note(f"taken: {[kept.recipient for kept in relay.taken]}")
            check(relay, hands, mails)

        runner.run(bounded(once))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        whatever_happens()
