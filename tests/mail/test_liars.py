"""Relays that offer PIPELINING or CHUNKING and do not keep it: nobody is lost."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from newsletter.config import Settings, parse_relay
from newsletter.db import Database
from newsletter.mail.exchange import Manner
from newsletter.mail.sender import Sender
from newsletter.mail.smtp import Deadlines, manner_for
from newsletter.models import DeliveryState
from tests.factories import NOW
from tests.mail.liar import Liar, Lie
from tests.mail.test_sender import counts, deliveries, queue

READERS = 12
ONE, AHEAD, CHUNKS = Manner.ONE_AT_A_TIME, Manner.PIPELINED, Manner.CHUNKED
DEADLINES = Deadlines(group=1.0)  # a relay that hangs; not one that is slow


def send(
    database: Database, settings: Settings, liar: Liar, now: datetime, connections: int
) -> Manner:
    """Send what is due; return how the relay would be spoken to next."""
    place = replace(parse_relay(liar.url), connections=connections)
    sender = Sender(
        database, replace(settings, relay=place), now=lambda: now, deadlines=DEADLINES
    )
    asyncio.run(asyncio.wait_for(sender.send_until_idle(), 60))
    offers = dict.fromkeys(liar.offers, "")
    return manner_for(sender.routes[0].trust, offers)


# the lie, whether chunks are offered, how it is spoken to in the end
LIARS = [
    (Lie.LOSES_THE_GROUP, False, ONE),
    (Lie.LOSES_THE_GROUP, True, ONE),
    (Lie.LOSES_AFTER_BODIES, False, ONE),
    (Lie.LOSES_AFTER_BODIES, True, AHEAD),
    (Lie.REFUSES, False, ONE),
    (Lie.REFUSES, True, ONE),
    (Lie.REFUSES_AFTER_BODIES, False, ONE),
    (Lie.CLOSES, False, ONE),
    (Lie.CLOSES, True, ONE),
    (Lie.CLOSES_AFTER_BODIES, False, ONE),
    (Lie.CLOSES_AFTER_BODIES, True, AHEAD),
    (Lie.NO_CHUNKS_500, True, AHEAD),
    (Lie.NO_CHUNKS_502, True, AHEAD),
    (Lie.CHUNKS_HANG, True, AHEAD),
]


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize(("lie", "chunking", "manner"), LIARS)
def test_every_reader_gets_the_issue_once_from_a_relay_that_lies(
    database: Database,
    settings: Settings,
    lie: Lie,
    chunking: bool,
    manner: Manner,
    connections: int,
) -> None:
    issue_id = queue(database, READERS)
    with Liar(lie, chunking=chunking) as liar:
        found = send(database, settings, liar, NOW, connections)
        lied = liar.lied
        for minutes in (15, 45):  # those of whom nobody knew
            later = NOW + timedelta(minutes=minutes)
            send(database, settings, liar, later, connections)
    assert Counter(mail.to for mail in liar.received) == {
        f"r{number}@exempel.example": 1 for number in range(READERS)
    }
    assert all(mail.message["To"] == mail.to for mail in liar.received)
    assert counts(database, issue_id).sent == READERS
    assert all(d.state is DeliveryState.SENT for d in deliveries(database))
    assert lied or connections == 1  # which seldom has a second message to write ahead
    remembered = {manner} if lied else {CHUNKS}
    if "AFTER" in lie.name and chunking:
        remembered.add(ONE)  # it has lied once more, about PIPELINING
    assert found in remembered, "it is not remembered"
