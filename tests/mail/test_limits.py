"""What a relay may take, in sum, whoever asks and whatever their clocks say."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from time import monotonic, sleep

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event, select
from sqlalchemy.orm import Session

from newsletter.config import Relay
from newsletter.db import Database, utcnow
from newsletter.mail import limits
from newsletter.models import RelayBudget
from tests.smtp_server import PATIENCE_SECONDS

# In the past: PostgreSQL holds whoever is ahead of it to its own clock.
NOW = datetime(2024, 11, 22, 12, tzinfo=UTC)
MIDNIGHT = datetime(2024, 11, 23, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
PLAIN = Relay("relay.example", 25)
RATED = replace(PLAIN, rate_per_second=10)
DAILY = replace(PLAIN, per_day=40)


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    said: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield said
    event.remove(engine, "before_cursor_execute", note)


# The plan


@pytest.mark.parametrize(
    ("day", "limit"),
    [
        ("2026-02-01", 50),  # before it begins
        ("2026-03-01", 50),
        ("2026-03-02", 100),
        ("2026-03-08", 6_400),
        ("2026-03-15", 819_200),
        ("2026-03-16", None),  # a million is passed
        ("2036-03-16", None),
    ],
)
def test_a_plan_doubles_until_the_relay_is_warm(day: str, limit: int | None) -> None:
    relay = replace(PLAIN, warmup_from=date(2026, 3, 1), warmup_first=50)
    assert limits.day_limit(relay, date.fromisoformat(day)) == limit


def test_a_plan_ends_at_the_days_limit() -> None:
    relay = replace(DAILY, warmup_from=date(2026, 3, 1), warmup_first=30)
    days = [date(2026, 3, 1), date(2026, 3, 2), date(2030, 1, 1)]
    assert [limits.day_limit(relay, day) for day in days] == [30, 40, 40]
    assert limits.day_limit(DAILY, days[0]) == 40
    assert limits.day_limit(PLAIN, days[0]) is None


# A second


def test_a_relay_without_limits_costs_no_statement(
    session: Session, database: Database
) -> None:
    with statements(database.engine) as said:
        assert limits.take(session, PLAIN, 5_000, now=NOW) == 5_000
        limits.give_back(session, PLAIN, 5_000, now=NOW)
        assert limits.left_today(session, PLAIN, now=NOW) is None
        assert limits.seconds_until(session, PLAIN, now=NOW) == 0
        assert limits.take(session, RATED, 0, now=NOW) == 0
    assert said == []


def test_taking_is_one_statement(session: Session, database: Database) -> None:
    limits.take(session, RATED, 1, now=NOW)
    with statements(database.engine) as said:
        limits.take(session, RATED, 1, now=NOW)
    assert len(said) == 1


def test_a_second_brings_a_seconds_worth_and_no_pause_brings_more(
    session: Session,
) -> None:
    assert limits.take(session, RATED, 100, now=NOW) == 10
    assert limits.take(session, RATED, 100, now=NOW) == 0
    assert limits.take(session, RATED, 100, now=NOW + 0.55 * SECOND) == 5
    assert limits.take(session, RATED, 2, now=NOW + 0.95 * SECOND) == 2
    assert limits.take(session, RATED, 100, now=NOW + timedelta(days=2)) == 10


def test_a_slow_relay_gets_one_at_a_time(session: Session) -> None:
    slow = replace(PLAIN, rate_per_second=0.1)
    assert limits.take(session, slow, 9, now=NOW) == 1
    seconds = limits.seconds_until(session, slow, now=NOW)
    assert seconds == pytest.approx(10, abs=0.01)
    assert limits.take(session, slow, 9, now=NOW + 9 * SECOND) == 0
    assert limits.take(session, slow, 9, now=NOW + seconds * SECOND) == 1


def test_a_clock_that_is_behind_earns_nothing(session: Session) -> None:
    assert limits.take(session, RATED, 10, now=NOW) == 10
    assert limits.take(session, RATED, 10, now=NOW - 30 * SECOND) == 0
    assert limits.take(session, RATED, 10, now=NOW + 0.5 * SECOND) == 5


def test_a_clock_that_was_wrong_stops_nobody_for_long(
    session: Session, database: Database
) -> None:
    """On SQLite, whose one host has one clock; PostgreSQL holds all to its own."""
    ahead = timedelta(days=4000)
    limits.take(session, RATED, 10, now=NOW + ahead)
    if not database.is_sqlite:  # the row's time is not ahead of the database's
        row = session.scalars(select(RelayBudget)).one()
        assert row.credited_at <= utcnow().timestamp() + 60
        return
    assert limits.take(session, RATED, 10, now=NOW) == 0
    assert limits.take(session, RATED, 10, now=NOW + SECOND) == 10


def test_relays_have_budgets_of_their_own(session: Session) -> None:
    other = replace(RATED, port=26)
    assert limits.take(session, RATED, 10, now=NOW) == 10
    assert limits.take(session, other, 10, now=NOW) == 10


def test_a_rate_that_is_new_begins_at_once(session: Session) -> None:
    assert limits.take(session, DAILY, 20, now=NOW) == 20
    both = replace(DAILY, rate_per_second=2)
    assert limits.take(session, both, 20, now=NOW) == 2
    assert limits.take(session, DAILY, 5, now=NOW + SECOND) == 5


# A day


def test_a_day_has_its_limit_and_the_next_begins_at_midnight_in_utc(
    session: Session,
) -> None:
    relay = replace(PLAIN, warmup_from=NOW.date(), warmup_first=40)
    assert limits.left_today(session, relay, now=NOW) == 40
    assert limits.take(session, relay, 30, now=NOW) == 30
    assert limits.left_today(session, relay, now=NOW) == 10
    assert limits.seconds_until(session, relay, now=NOW) == 0
    assert limits.take(session, relay, 30, now=NOW) == 10
    assert limits.seconds_until(session, relay, now=NOW) == 12 * 3600
    assert limits.take(session, relay, 30, now=MIDNIGHT - SECOND) == 0
    assert limits.left_today(session, relay, now=MIDNIGHT) == 79  # one is kept
    assert limits.take(session, relay, 100, now=MIDNIGHT) == 79


def test_a_clock_behind_at_midnight_counts_for_the_new_day(session: Session) -> None:
    assert limits.take(session, DAILY, 40, now=MIDNIGHT - SECOND) == 40
    assert limits.take(session, DAILY, 30, now=MIDNIGHT) == 30
    assert limits.take(session, DAILY, 40, now=MIDNIGHT - SECOND) == 10
    assert limits.take(session, DAILY, 40, now=MIDNIGHT + SECOND) == 0


def test_bulk_leaves_some_of_the_day_to_single_mails(session: Session) -> None:
    relay = replace(PLAIN, per_day=500)
    assert limits.left_today(session, relay, now=NOW) == 490
    assert limits.take(session, relay, 1_000, now=NOW) == 490
    assert limits.take(session, relay, 1_000, now=NOW) == 0
    assert limits.left_today(session, relay, now=NOW, single=True) == 10
    assert limits.seconds_until(session, relay, now=NOW) > 3600
    assert limits.seconds_until(session, relay, now=NOW, single=True) == 0
    assert limits.take(session, relay, 1_000, now=NOW, single=True) == 10


def test_single_mails_may_be_the_first_of_a_day_that_has_a_limit(
    session: Session,
) -> None:
    assert limits.take(session, DAILY, 3, now=NOW, single=True) == 3
    assert limits.take(session, DAILY, 3, now=NOW + SECOND, single=True) == 3


def test_what_is_given_back_can_be_taken_again(session: Session) -> None:
    both = replace(DAILY, rate_per_second=20)
    assert limits.take(session, both, 20, now=NOW) == 20
    limits.give_back(session, both, 15, now=NOW)
    assert limits.left_today(session, both, now=NOW) == 35
    assert limits.take(session, both, 40, now=NOW) == 15
    limits.give_back(session, both, 1_000, now=NOW)
    assert limits.left_today(session, both, now=NOW) == 40
    assert limits.take(session, both, 1_000, now=NOW) == 20


def test_what_was_taken_before_midnight_is_not_given_to_the_day_after(
    session: Session,
) -> None:
    limits.take(session, DAILY, 40, now=MIDNIGHT - SECOND)
    limits.take(session, DAILY, 40, now=MIDNIGHT)
    limits.give_back(session, DAILY, 40, now=MIDNIGHT + SECOND)
    assert limits.left_today(session, DAILY, now=MIDNIGHT + SECOND) == 0
    limits.give_back(session, DAILY, 5, now=MIDNIGHT + 3 * MINUTE)
    assert limits.left_today(session, DAILY, now=MIDNIGHT + 3 * MINUTE) == 5


def test_giving_back_at_midnight_before_anybody_asked_gives_nothing(
    session: Session,
) -> None:
    limits.take(session, DAILY, 40, now=MIDNIGHT - SECOND)
    limits.give_back(session, DAILY, 40, now=MIDNIGHT + 3 * MINUTE)
    assert limits.take(session, DAILY, 100, now=MIDNIGHT + 3 * MINUTE) == 40


def test_an_editor_is_told_that_the_day_is_used_up(session: Session) -> None:
    assert limits.used_up(session, PLAIN, now=NOW) is None
    assert limits.used_up(session, DAILY, now=NOW) is None
    limits.take(session, DAILY, 40, now=NOW)
    told = limits.used_up(session, DAILY, now=NOW)
    assert str(told) == (
        "The relay relay.example:25 has reached its limit for today, 40 mails."
        " It goes on at midnight (UTC)."
    )


# In sum


asks = st.lists(
    st.tuples(
        st.integers(0, 4),  # who
        st.floats(0, 20),  # seconds since somebody last asked
        st.integers(0, 60),  # how many
        st.integers(0, 3),  # of which so many quarters come back
    ),
    max_size=40,
)
apart = st.lists(st.floats(-60, 60), min_size=5, max_size=5)


@given(
    asks=asks,
    apart=apart,
    agree=st.booleans(),
    rate=st.sampled_from([0.0, 0.3, 1.0, 7.5, 40.0]),
    per_day=st.sampled_from([0, 30, 500]),
    start=st.sampled_from([NOW, MIDNIGHT - 70 * SECOND]),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_workers_together_never_take_more_than_the_limits(
    database: Database,
    asks: list[tuple[int, float, int, int]],
    apart: list[float],
    agree: bool,
    rate: float,
    per_day: int,
    start: datetime,
) -> None:
    """Clocks that agree keep to the rate; each that leaps ahead brings one burst."""
    relay = replace(PLAIN, rate_per_second=rate, per_day=per_day)
    passed, used, leaps = 0.0, 0, 0
    furthest = -60.0 if not agree else 0.0
    with database.transaction() as session:
        session.execute(delete(RelayBudget))
        for who, seconds, wanted, quarters in asks:
            passed += seconds
            clock = passed + (0.0 if agree else apart[who])
            leaps += clock > furthest + seconds
            furthest = max(furthest + seconds, clock)
            now = start + clock * SECOND
            granted = limits.take(session, relay, wanted, now=now)
            assert 0 <= granted <= wanted
            back = granted * quarters // 4
            limits.give_back(session, relay, back, now=now)
            used += granted - back
            if rate:
                bursts = 1 if agree else 1 + leaps
                assert used <= rate * passed + bursts * limits.burst(relay) + 1e-3
        row = session.scalars(select(RelayBudget)).one_or_none()
        if per_day and row:
            days = 1 + (passed + 60) // limits.DAY_SECONDS + (start is not NOW)
            assert row.used_today <= per_day
            assert used <= per_day * days


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 5])
def test_workers_at_once_take_no_more_than_the_rate(
    database: Database, workers: int
) -> None:
    relay = replace(PLAIN, rate_per_second=200, per_day=100_000)
    began = monotonic()
    least = 160  # is due after less than a second; nor is it held back for long
    taken = _together(
        database,
        workers,
        relay,
        lambda taken: (
            monotonic() - began < (1.2 if taken >= least else PATIENCE_SECONDS)
        ),
        pause=0.003,
    )
    took = monotonic() - began
    assert taken <= relay.rate_per_second * took + limits.burst(relay) + 1
    assert taken >= least


@pytest.mark.slow
def test_workers_at_once_take_no_more_than_the_day_has(database: Database) -> None:
    relay = replace(PLAIN, per_day=3_000)
    calls = iter(range(1_000))
    taken = _together(database, 5, relay, lambda _: next(calls, None) is not None)
    assert taken == 3_000 - 60
    with database.reading() as session:
        assert limits.left_today(session, relay, now=utcnow()) == 0


def _together(
    database: Database,
    workers: int,
    relay: Relay,
    go_on: Callable[[int], bool],
    *,
    pause: float = 0.0,
) -> int:
    """Let threads ask again and again; return how many they were granted.

    On PostgreSQL the clocks of their hosts are up to a minute apart.
    """
    taken = [0] * workers
    apart = [0, 60, -60, 30, 7] if not database.is_sqlite else [0] * 5

    def ask(number: int) -> None:
        while go_on(sum(taken)):
            with database.transaction() as session:
                now = utcnow() + apart[number] * SECOND
                taken[number] += limits.take(session, relay, 7, now=now)
            sleep(pause)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(taken)
