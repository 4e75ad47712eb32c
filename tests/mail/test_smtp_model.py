"""Whatever a relay does, what is told of each message is true, or `unknown`.

More examples than the suite runs: SMTP_EXAMPLES=20000.
"""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

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

EXAMPLES = int(os.environ.get("SMTP_EXAMPLES", "0")) or 200
# Short beside the relay's LONG_SECONDS; that of `command` is also for its greeting.
DEADLINES = Deadlines(
    connect=5, command=0.05, data=0.05, dot=0.05, group=0.03, quit=0.02, farewell=0.04
)
BOUND_SECONDS = 60.0
CONNECTIONS = 4  # at most, one after the other

T = TypeVar("T")


def one_of(*choices: tuple[st.SearchStrategy[T], int]) -> st.SearchStrategy[T]:
    """Choose each as often as its number says."""
    return st.one_of(*(choice for choice, times in choices for _ in range(times)))


OFFERS: list[tuple[str, ...]] = [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")]
# Mostly as it should be, with something now and then; or anything at any time.
ACTS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(Act)), min_size=3, max_size=8
).map(lambda found: [act for n, odd in found for act in (*[Act.YES] * n, odd)])
CHAOS = st.lists(st.sampled_from(Act), min_size=5, max_size=30)
UNSOLICITED = st.tuples(
    st.integers(1, 16), st.sampled_from(["421 Idle", "250 Hm", "550 Hm", "354 Hm"])
)
SCRIPTS = st.builds(
    Script,
    offers=one_of(*((st.just(offer), n + 1) for n, offer in enumerate(OFFERS))),
    acts=one_of((ACTS, 5), (CHAOS, 1)),
    lines=st.integers(1, 3),
    drip=st.booleans(),
    gather=st.booleans(),
    unsolicited=one_of((st.none(), 9), (UNSOLICITED, 1)),
    forgets=one_of((st.just(""), 9), (st.sampled_from(["group", "body"]), 1)),
    understands_chunks=one_of((st.just(True), 9), (st.just(False), 1)),
)
BODIES = st.sampled_from(
    [
        b"Hi\r\n",
        b"Hej\r\n",
        b".\r\n",
        b"\r\n",
        b"a\r\n.\r\nMAIL FROM:<x>\r\n",
        b"x" * 200_000,
    ]
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
    bodies=st.lists(BODIES, min_size=3, max_size=12),
    at_once=st.sampled_from([0, 1, 3, 9, 9, 9]),
    hurry=st.sampled_from([True, True, False]),
    gaps=st.just([]) | st.lists(st.booleans(), max_size=6),
    proven=st.booleans(),
)


class Hands:
    """A carrier that sometimes has nothing, and notes what it is told."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.gaps = deque(plan.gaps)
        self.mails: dict[str, Mail] = {}
        self.names: dict[Mail, str] = {}
        self.queue: deque[Mail] = deque()
        self.waiting: deque[Mail] = deque()  # for those before to be done
        self.begun: list[str] = []
        self.fates: dict[str, list[str]] = {}

    @property
    def idle(self) -> bool:
        """Tell whether everything has been begun and has its fate."""
        return len(self.fates) == len(self.plan.bodies)

    def prepare(self, connection: Connection) -> None:
        """Address everything, once: the relay offers the same on each connection."""
        if self.mails:
            return
        for number, body in enumerate(self.plan.bodies):
            name = f"r{number}@x.example"
            head = f"To: {name}\r\n\r\n".encode() if len(body) > 5 else b""
            whole = head + body
            mail = connection.prepare(
                f"s{number}@x.example", name, [whole[:9], whole[9:]], load=whole
            )
            self.mails[name], self.names[mail] = mail, name
            later = number >= self.plan.at_once
            (self.waiting if later else self.queue).append(mail)

    def next_mail(self) -> Mail | None:
        if not self.queue or (self.gaps and self.gaps.popleft()):
            return None
        mail = self.queue.popleft()
        self.begun.append(self.names[mail])
        return mail

    def may_hurry(self) -> bool:
        return self.plan.hurry

    def delivered(self, mail: Mail, line: bytes) -> None:
        self._told(mail, "sent")

    def answered(self, mail: Mail, answer: Answer) -> None:
        assert answer.reply.code >= 400
        self._told(mail, "refused")

    def broken(self, mail: Mail, broken: Broken) -> None:
        self._told(mail, "unknown" if broken.unknown else "not begun")

    def _told(self, mail: Mail, fate: str) -> None:
        self.fates.setdefault(self.names[mail], []).append(fate)


async def play(relay: Relay, plan: Plan) -> Hands:
    """Give the client what is planned, over one connection after the other."""
    relay_url = f"smtp://127.0.0.1:{await relay.start()}"
    hands = Hands(plan)
    # A relay that forgets what was written ahead is never one that is proven.
    trust = Trust(proven=plan.proven and not relay.script.forgets)
    for _ in range(CONNECTIONS):
        if not hands.idle:
            with suppress(RelayError):
                await carry(hands, await open_connection(relay_url, trust))
    await relay.stop()
    return hands


async def open_connection(url: str, trust: Trust) -> Connection:
    return await Connection.open(
        parse_relay(url), ehlo_name="x.test", deadlines=DEADLINES, trust=trust
    )


async def carry(hands: Hands, connection: Connection) -> None:
    hands.prepare(connection)
    carrying = asyncio.create_task(connection.carry(hands))
    while not (carrying.done() or hands.idle):
        if hands.waiting and len(hands.fates) == len(hands.begun):
            hands.queue.append(hands.waiting.popleft())
        await asyncio.sleep(0.001)
        connection.pull()
    connection.finish()
    await carrying
    await connection.quit()


def check(relay: Relay, hands: Hands) -> None:
    mails = hands.mails
    assert sorted(hands.fates) == sorted(hands.begun), "not each has a fate"
    taken = Counter(kept.recipient for kept in relay.taken)
    assert all(times == 1 for times in taken.values()), "one arrived twice"
    for kept in relay.taken:
        assert kept.sender == kept.recipient.replace("r", "s", 1), "of another's"
        assert kept.body == mails[kept.recipient].load, "not its bytes"
    if not (relay.script.forgets or relay.shifted):
        # A relay may ask for a body when it wants none: then it gets a lone dot.
        assert set(relay.strange) <= {b".\r\n"}, "bytes out of place"
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
            hands = await play(relay, plan)
            note(f"{hands.fates=}")
            note(f"taken: {[kept.recipient for kept in relay.taken]}")
            check(relay, hands)

        runner.run(bounded(once))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        whatever_happens()
