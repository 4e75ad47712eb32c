"""Several relays at once: weights hold, who is down keeps nobody waiting."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import select

from newsletter.config import Relay, Settings, parse_relay
from newsletter.db import Database, utcnow
from newsletter.mail import limits, relays
from newsletter.mail.smtp import Deadlines
from newsletter.models import RelayHealth
from tests.delivering import through
from tests.mail.test_sender import counts, queue, queue_single, running, until
from tests.ports import free_port
from tests.smtp_server import SmtpServer

SHORT = Deadlines(command=5)


@pytest.fixture
def other() -> Iterator[SmtpServer]:
    """A second relay."""
    with SmtpServer() as server:
        yield server


def over(
    settings: Settings, *servers: SmtpServer, weights: tuple[int, ...], **more: int
) -> Settings:
    """Return the settings with these servers as relays of these weights."""
    first, *rest = (
        replace(parse_relay(server.url), weight=weight, **more)  # type: ignore[arg-type]
        for server, weight in zip(servers, weights, strict=True)
    )
    return replace(settings, relay=first, more_relays=tuple(rest))


@contextmanager
def mute() -> Iterator[Relay]:
    """A relay that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield parse_relay(f"smtp://127.0.0.1:{listening.getsockname()[1]}")


def gone() -> SmtpServer:
    """A server that is down, but has had a port."""
    with SmtpServer(port=free_port()) as server:
        return server


def test_both_relays_carry(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    issue_id = queue(database, 200)
    place = over(settings, smtp_server, other, weights=(1, 1), connections=2)
    for server in (smtp_server, other):
        server.script("dot", stall=0.005)
    with running(database, place):
        until(lambda: counts(database, issue_id).left == 0)
    assert smtp_server.count + other.count == 200
    assert min(smtp_server.count, other.count) > 20
    assert set((smtp_server.seen + other.seen).values()) == {1}


def test_weights_hold(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    issue_id = queue(database, 400)
    place = over(settings, smtp_server, other, weights=(3, 1), connections=4)
    begun = time.monotonic()
    with running(database, place):
        until(lambda: counts(database, issue_id).left == 0)
    assert time.monotonic() - begun < 40
    assert smtp_server.count + other.count == 400
    assert 75 <= other.count <= 125


@pytest.mark.parametrize("weights", [(1, 1), (9, 1), (1, 0)])
def test_the_other_carries_all_while_one_is_down(
    database: Database,
    settings: Settings,
    smtp_server: SmtpServer,
    weights: tuple[int, int],
) -> None:
    issue_id = queue(database, 300)
    place = over(settings, gone(), smtp_server, weights=weights, connections=4)
    with running(database, place):
        begun = time.monotonic()
        until(lambda: counts(database, issue_id).sent == 300)
        took = time.monotonic() - begun
        with database.reading() as session:
            assert session.scalars(select(RelayHealth)).one().failures
            progress = relays.progress(session, issue_id, utcnow(), relays=2)
        assert progress.waiting_reason == ""
    assert took < 15


@pytest.mark.slow
@pytest.mark.parametrize("weights", [(1, 0)])
def test_a_relay_that_says_nothing_keeps_nobody_waiting(
    database: Database,
    settings: Settings,
    smtp_server: SmtpServer,
    weights: tuple[int, int],
) -> None:
    """Its silence is a failure after the deadline; from then on nobody waits for it."""
    issue_id = queue(database, 5)
    with mute() as silent:
        place = through(settings, smtp_server, weight=weights[1], connections=4)
        place = replace(
            place,
            relay=replace(silent, weight=weights[0], connections=1),
            more_relays=(place.relay,),
        )
        with running(database, place, deadlines=SHORT) as sender:
            until(lambda: counts(database, issue_id).sent == 5)
            until(lambda: sender.routes[0].access.failures > 0)
            access = sender.routes[0].access
            until(lambda: not access.held)  # it is tried again
            failures, another = access.failures, queue(database, 20, "x", slug="x")
            until(lambda: counts(database, another).sent == 20)
            assert access.failures == failures  # which takes as long as it did


def test_a_relay_that_was_down_is_used_again_when_it_is_back(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    issue_id = queue(database, 1_500)
    down = gone()
    place = over(settings, down, smtp_server, weights=(1, 1), connections=2)
    smtp_server.script("dot", stall=0.01)
    with running(database, place) as sender:
        until(lambda: sender.routes[0].access.failures > 0)
        smtp_server.wait_for(10)
        with SmtpServer(port=down.port) as back:
            back.wait_for(50)
            assert counts(database, issue_id).left > 0
            until(lambda: not sender.routes[0].access.failures)
            until(lambda: not health(database))


def health(database: Database) -> list[RelayHealth]:
    with database.reading() as session:
        return list(session.scalars(select(RelayHealth)))


def test_a_relay_that_stands_by_is_left_alone(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    issue_id = queue(database, 300)
    place = over(settings, smtp_server, other, weights=(1, 0), connections=4)
    with running(database, place):
        until(lambda: counts(database, issue_id).sent == 300)
    assert smtp_server.count == 300
    assert other.connections == 0


def test_a_relay_that_stands_by_does_not_help_one_that_is_kept_slow(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    queue(database, 300)
    place = over(settings, smtp_server, other, weights=(1, 0))
    place = replace(place, relay=replace(place.relay, rate_per_second=8))
    with running(database, place), running(database, place):
        smtp_server.wait_for(20)
    assert other.count == 0


def test_a_relay_that_stands_by_steps_back_when_the_other_works(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    queue(database, 2_000)
    down = gone()
    place = over(settings, down, smtp_server, weights=(1, 0), connections=2)
    smtp_server.script("dot", stall=0.02)
    with running(database, place):
        smtp_server.wait_for(30)
        with SmtpServer(port=down.port) as back:
            back.wait_for(20)
            so_far = smtp_server.count
            back.wait_for(200)
            assert smtp_server.count <= so_far + 10


def test_the_reason_is_told_when_no_relay_works(
    database: Database, settings: Settings
) -> None:
    issue_id = queue(database, 3)
    place = over(settings, gone(), gone(), weights=(1, 0), connections=2)
    with running(database, place) as sender:
        until(lambda: all(route.access.failures for route in sender.routes))
        until(lambda: len(health(database)) == 2)
        with database.reading() as session:
            told = relays.progress(session, issue_id, utcnow(), relays=2)
    assert "cannot be reached" in told.waiting_reason


def use_up(database: Database, relay: Relay, *, also_singles: bool = False) -> None:
    """Take what a relay's day has for bulk; or all of it."""
    with database.transaction() as session:
        assert limits.take(session, relay, relay.per_day, now=utcnow())
        if also_singles:
            assert limits.take(session, relay, 10_000, now=utcnow(), single=True)


def test_a_relay_that_stands_by_carries_what_the_day_of_the_other_does_not_hold(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    issue_id = queue(database, 300)
    place = over(settings, smtp_server, other, weights=(1, 0), connections=2)
    place = replace(place, relay=replace(place.relay, per_day=100))
    other.script("dot", stall=0.01)
    with running(database, place):
        smtp_server.wait_for(98)
        other.wait_for(20)
        for number in range(3):
            queue_single(database, f"ny{number}@exempel.example")
        until(lambda: counts(database, issue_id).left == 0)
        until(lambda: smtp_server.count + other.count == 303)
    assert 98 <= smtp_server.count <= 100


def test_a_confirmation_goes_over_the_relay_that_works(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    """Also where that one keeps a little for it, and the other is down."""
    place = over(settings, gone(), smtp_server, weights=(1, 1))
    limited = replace(place.more_relays[0], per_day=100)
    use_up(database, limited)
    with running(database, replace(place, more_relays=(limited,))) as sender:
        queue_single(database)
        smtp_server.wait_for(1)
        assert sender.routes[0].access.failures > 0


def test_a_confirmation_goes_over_the_relay_that_has_something_left(
    database: Database, settings: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    place = over(settings, smtp_server, other, weights=(1, 1), per_day=100)
    use_up(database, place.relay, also_singles=True)
    use_up(database, place.more_relays[0])
    with running(database, place):
        queue_single(database)
        other.wait_for(1)
