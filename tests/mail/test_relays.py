"""What is told about the relay, the workers and an issue's progress."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.errors import RelayError
from newsletter.mail import ledger, relays
from newsletter.mail.relays import Health
from newsletter.models import RelayHealth, Worker
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.letters import queue_issue


@pytest.fixture
def issue_id(session: Session) -> int:
    """An issue to ten readers."""
    newsletter = make_newsletter(session)
    for _ in range(10):
        make_subscription(session, newsletter)
    return queue_issue(session, newsletter).issue_id or 0


def test_progress_tells_the_rate_of_all_workers_and_the_time_left(
    session: Session, issue_id: int
) -> None:
    relays.beat(session, "one", 1.5, now=NOW)
    relays.beat(session, "two", 0.5, now=NOW)
    progress = relays.progress(session, issue_id, NOW)
    assert progress.rate_per_second == 2.0
    assert progress.seconds_left == 5
    assert progress.counts.queued == 10
    assert progress.waiting_reason == ""


def test_a_worker_not_seen_for_a_while_does_not_count(
    session: Session, issue_id: int
) -> None:
    relays.beat(session, "one", 100, now=NOW - timedelta(minutes=1))
    progress = relays.progress(session, issue_id, NOW)
    assert progress.rate_per_second == 0
    assert progress.seconds_left is None
    assert progress.waiting_reason == "Nothing is sending. Start a worker: `work`."


def test_old_workers_are_forgotten(session: Session) -> None:
    relays.beat(session, "old", 1, now=NOW - timedelta(hours=2))
    assert relays.beat(session, "new", 1, now=NOW) == 1
    assert session.scalars(select(Worker.name)).all() == ["new"]
    relays.sign_off(session, "new")
    assert session.scalars(select(Worker.name)).all() == []


def test_a_relays_trouble_is_told_until_it_works_again(
    session: Session, issue_id: int
) -> None:
    relays.beat(session, "one", 0, now=NOW)
    error = RelayError("The relay %(relay)s says: %(reply)s", relay="r:25", reply="421")
    relays.report(session, Health("r:25", error, failures=3), now=NOW)
    waiting = relays.progress(session, issue_id, NOW).waiting
    assert waiting
    assert str(waiting) == "The relay r:25 says: 421"
    assert waiting.message == error.message  # to be told in any language
    health = session.scalars(select(RelayHealth)).one()
    assert health.blocked_until == NOW + timedelta(seconds=4)
    relays.report(session, Health("r:25"), now=NOW)
    assert relays.progress(session, issue_id, NOW).waiting is None


def test_a_paused_issue_waits_for_nobody(session: Session, issue_id: int) -> None:
    ledger.pause(session, issue_id)
    assert relays.progress(session, issue_id, NOW).waiting_reason == ""


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (5, 16), (7, 60), (1000, 60)]
)
def test_a_relay_is_left_alone_longer_each_time(failures: int, seconds: int) -> None:
    assert relays.back_off_seconds(failures) == seconds
