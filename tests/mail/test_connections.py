"""What a relay bears is found out and remembered; an idle sender lets go of it."""

import asyncio
import time
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select

from newsletter.config import Settings, parse_relay
from newsletter.db import Database, utcnow
from newsletter.mail import relays
from newsletter.mail.exchange import Trust
from newsletter.mail.sender import Sender
from newsletter.models import RelayTrust
from tests.delivering import deliver, through
from tests.mail.liar import Liar, Lie
from tests.mail.test_sender import counts, queue, running, until
from tests.smtp_server import SmtpServer

WEEK = timedelta(days=7)


class Narrow(SmtpServer):
    """Bears so many connections and no more, in one of two ways."""

    def __init__(self, bears: int, *, answers: bool) -> None:
        super().__init__()
        self.bears, self.answers = bears, answers
        self.turned_away = 0

    def __enter__(self) -> "Narrow":
        super().__enter__()
        return self

    def _rule(self, phase, address):  # type: ignore[no-untyped-def]
        if phase == "greeting" and self.open > self.bears:
            self.turned_away += 1
            reply = "421 4.7.0 Too many connections" if self.answers else ""
            return self.script("never", reply, drop=not reply, close=True)
        return super()._rule(phase, address)


@pytest.mark.parametrize("answers", [True, False], ids=["421", "closed"])
def test_a_sender_settles_on_as_many_connections_as_the_relay_bears(
    database: Database, settings: Settings, answers: bool
) -> None:
    issue_id = queue(database, 200)
    with Narrow(3, answers=answers) as server:
        for number in range(200):
            server.script("dot", address=f"r{number}@exempel.example", stall=0.02)
        with running(database, through(settings, server, connections=10)) as sender:
            until(lambda: counts(database, issue_id).sent == 200)
            assert sender.routes[0].access.most <= 3
        assert server.turned_away <= 20  # it does not hammer
        assert server.connections - server.turned_away <= 10
    assert counts(database, issue_id).resent == 0


def test_a_relay_that_bears_one_connection_is_not_hammered(
    database: Database, settings: Settings
) -> None:
    issue_id = queue(database, 60)
    with Narrow(1, answers=True) as server:
        server.script("dot", stall=0.02)
        with running(database, through(settings, server, connections=10)):
            until(lambda: counts(database, issue_id).sent == 60)
        assert server.turned_away <= 20


def test_an_idle_sender_closes_its_connections(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 20)
    place = through(settings, smtp_server, connections=3)
    with running(database, place, idle_seconds=0.3):
        smtp_server.wait_for(20)
        until(lambda: smtp_server.open == 0)
        so_far = smtp_server.connections
        time.sleep(1)
        assert smtp_server.connections == so_far  # and opens none for nothing
        queue(database, 5, "n", slug="n")
        smtp_server.wait_for(25)


# What is known of a relay


def test_a_liar_that_was_found_out_is_spoken_to_one_at_a_time(
    database: Database, settings: Settings
) -> None:
    queue(database, 12)
    with Liar(Lie.REFUSES) as liar:
        send(database, settings, liar)
        lied = liar.lied
        assert lied > 0
        another = queue(database, 12, "n", slug="n")
        send(database, settings, liar)
        assert liar.lied == lied
    assert counts(database, another).sent == 12


def send(database: Database, settings: Settings, liar: Liar) -> None:
    sender = Sender(database, through(settings, liar, connections=1))  # type: ignore[arg-type]
    asyncio.run(sender.send_until_idle())


def test_a_relay_is_given_another_chance_after_a_week(
    database: Database, settings: Settings
) -> None:
    queue(database, 12)
    with Liar(Lie.REFUSES) as liar:
        send(database, settings, liar)
        lied = liar.lied
        with database.transaction() as session:
            row = session.scalars(select(RelayTrust)).one()
            assert (row.pipelining, row.name) == (False, parse_relay(liar.url).name)
            row.learnt_at -= WEEK - timedelta(hours=1)
            assert not relays.trust(session, row.name, now=utcnow()).pipelining
            row.learnt_at -= timedelta(hours=2)
            assert relays.trust(session, row.name, now=utcnow()) == Trust()
        queue(database, 12, "n", slug="n")
        send(database, settings, liar)
        assert liar.lied > lied
        with database.reading() as session:
            assert session.scalars(select(RelayTrust.learnt_at)).one() > (
                utcnow() - timedelta(minutes=1)
            )


def test_what_is_known_of_one_relay_is_not_held_against_another(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 12)
    with Liar(Lie.REFUSES) as liar:
        send(database, settings, liar)
    queue(database, 40, "n", slug="n")
    deliver(database, settings, smtp_server, connections=1)
    ahead = smtp_server.commands
    assert smtp_server.count == 40
    assert any(one == "DATA" and two.startswith("MAIL") for one, two in pairwise(ahead))
