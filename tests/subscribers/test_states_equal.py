"""The form tells nothing: the same work and the same answer for every state."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Newsletter, Status, Subscriber
from newsletter.subscribers import signup, suppression
from newsletter.subscribers.addresses import address_hash
from newsletter.subscribers.consent import Origin
from tests.factories import NOW, make_newsletter, make_subscription

LATER = NOW + timedelta(hours=1)
MOST_ROUNDS = 40


@pytest.fixture
def ask(database: Database, settings: Settings) -> Callable[[str, int], float]:
    """Ask for an address in its own transaction; return the CPU seconds it took."""

    def call(email: str, number: int) -> float:
        origin = Origin(network=f"10.{number // 200}.{number % 200}.1")
        start = time.thread_time()
        with database.transaction() as session:
            newsletter = session.get_one(Newsletter, 1)
            signup.request_subscription(
                session, settings, newsletter, email, origin=origin, now=LATER
            )
        return time.thread_time() - start

    return call


def prepare(database: Database, settings: Settings, state: str, number: int) -> str:
    """Bring an address into a state; return it."""
    email = f"r{number}@example.org"
    with database.transaction() as session:
        newsletter = session.get_one(Newsletter, 1)
        if state == "never":
            hashed = address_hash(settings, email)
            suppression.suppress(session, hashed, reason="never", now=NOW)
        elif state == "limited":
            origin = Origin(network=f"11.{number // 200}.{number % 200}.1")
            signup.request_subscription(
                session, settings, newsletter, email, origin=origin, now=LATER
            )
        elif state != "new":
            reader = make_subscription(session, newsletter, email, status=Status(state))
            hashed = address_hash(settings, email)
            session.get_one(Subscriber, reader.subscriber_id).address_hash = hashed
    return email


def test_every_state_takes_the_same_time(
    database: Database, settings: Settings, ask: Callable[[str, int], float]
) -> None:
    states = ["new", *(status.value for status in Status), "never", "limited"]
    with database.transaction() as session:
        make_newsletter(session)
    ask("warm@example.org", 0)  # templates are read once
    taken: dict[str, list[float]] = {state: [] for state in states}
    number = 1
    for rounds in range(1, MOST_ROUNDS):
        for state in states:  # in turns, so that a slow second hits all alike
            email = prepare(database, settings, state, number)
            taken[state].append(ask(email, number))
            number += 1
        # What else the machine does only ever adds: the fastest is the work itself.
        fastest = {state: min(times) for state, times in taken.items()}
        # A network's noise drowns this, and no address answers three times a day.
        if rounds >= 5 and max(fastest.values()) < 1.5 * min(fastest.values()):
            return
    pytest.fail(str(fastest))


@pytest.mark.parametrize("state", ["new", *Status, "never", "limited"])
def test_every_state_answers_nothing(
    database: Database,
    settings: Settings,
    ask: Callable[[str, int], float],
    state: str,
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    ask(prepare(database, settings, str(state), 1), 1)
