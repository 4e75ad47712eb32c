"""The clock: each job once, on its own, at its time."""

import logging
import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import drafts, publish
from newsletter.jobs import GRACE, LEASE, Task, tick
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Job,
    Status,
    Subscription,
    UsedLink,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription

MINUTE = timedelta(minutes=1)


class Counted:
    """A task that counts how often it ran, and fails when told to."""

    def __init__(self, fails: bool = False) -> None:
        self.ran = 0
        self.fails = fails
        self.lock = threading.Lock()

    def __call__(self, database: Database, settings: Settings, now: datetime) -> None:
        with self.lock:
            self.ran += 1
        if self.fails:
            raise ZeroDivisionError("no luck")

    def every(self, pause: timedelta, name: str = "counted") -> Task:
        return Task(name, pause, self)


def scheduled_issue(session: Session, at: datetime) -> Issue:
    newsletter = make_newsletter(session)
    make_post(session, newsletter)
    make_subscription(session, newsletter)
    issue = drafts.draft(session, newsletter, now=NOW)
    publish.schedule(session, issue, at, now=NOW)
    return issue


def test_a_job_runs_at_once_and_then_at_its_interval(
    database: Database, settings: Settings
) -> None:
    counted = Counted()
    tasks = (counted.every(5 * MINUTE),)
    for minutes, ran in ((0, 1), (1, 1), (4.9, 1), (5, 2), (6, 2), (60, 3)):
        tick(database, settings, now=NOW + minutes * MINUTE, tasks=tasks)
        assert counted.ran == ran, minutes


def test_one_that_fails_stops_no_other_and_says_why(
    database: Database, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Counted(fails=True), Counted()
    tasks = (bad.every(MINUTE, "bad"), good.every(MINUTE, "good"))
    with caplog.at_level(logging.ERROR):
        assert tick(database, settings, now=NOW, tasks=tasks) == ["bad", "good"]
    assert good.ran == 1
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    with database.reading() as session:
        assert session.get_one(Job, "bad").error == "ZeroDivisionError: no luck"
        assert session.get_one(Job, "good").error == ""
    bad.fails = False
    tick(database, settings, now=NOW + MINUTE, tasks=tasks)
    with database.reading() as session:
        assert session.get_one(Job, "bad").error == ""


def test_many_clocks_run_a_job_once(database: Database, settings: Settings) -> None:
    counted = Counted()
    tasks = (counted.every(MINUTE),)
    for moment in (NOW, NOW + MINUTE):
        clocks = [
            threading.Thread(
                target=tick,
                args=(database, settings),
                kwargs={"now": moment, "tasks": tasks},
            )
            for _ in range(8)
        ]
        for clock in clocks:
            clock.start()
        for clock in clocks:
            clock.join()
    assert counted.ran == 2


def test_a_job_whose_clock_died_falls_due_again_when_its_lease_is_over(
    database: Database, settings: Settings
) -> None:
    def dies(database: Database, settings: Settings, now: datetime) -> None:
        raise SystemExit  # as a kill: nothing after it runs

    with pytest.raises(SystemExit):
        tick(database, settings, now=NOW, tasks=(Task("counted", MINUTE, dies),))
    counted = Counted()
    tasks = (counted.every(MINUTE),)
    tick(database, settings, now=NOW + 2 * MINUTE, tasks=tasks)
    assert counted.ran == 0
    tick(database, settings, now=NOW + LEASE, tasks=tasks)
    assert counted.ran == 1


def test_all_jobs_run_on_an_empty_database(
    database: Database, settings: Settings
) -> None:
    assert not jobs.ran_since(database, NOW)
    ran = tick(database, settings, now=NOW)
    assert ran == [task.name for task in jobs.TASKS]
    with database.reading() as session:
        errors = session.scalars(select(Job.error)).all()
    assert set(errors) == {""}
    assert jobs.ran_since(database, NOW)


def test_a_scheduled_issue_goes_when_its_moment_has_come(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        issue_id = scheduled_issue(session, NOW + 10 * MINUTE).id
    tick(database, settings, now=NOW + 9 * MINUTE)
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).state is IssueState.SCHEDULED
    tick(database, settings, now=NOW + 11 * MINUTE)
    tick(database, settings, now=NOW + 12 * MINUTE)
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).state is IssueState.SENDING
        assert len(session.scalars(select(Delivery)).all()) == 1


def test_an_issue_that_is_much_too_late_waits_for_a_person(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        issue_id = scheduled_issue(session, NOW + MINUTE).id
    tick(database, settings, now=NOW + 2 * MINUTE + GRACE)
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).state is IssueState.HELD
        assert session.scalars(select(Delivery)).all() == []


def test_an_issue_that_cannot_be_sent_is_held_and_the_next_one_goes(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, slug="annat")
        make_post(session, newsletter)
        lonely = drafts.draft(session, newsletter, now=NOW)
        publish.schedule(session, lonely, NOW + MINUTE, now=NOW)
        good = scheduled_issue(session, NOW + 2 * MINUTE)
        ids = lonely.id, good.id
    tick(database, settings, now=NOW + 3 * MINUTE)
    with database.reading() as session:
        states = [session.get_one(Issue, issue_id).state for issue_id in ids]
    assert states == [IssueState.HELD, IssueState.SENDING]


def test_a_settled_issue_is_finished(database: Database, settings: Settings) -> None:
    with database.transaction() as session:
        issue = scheduled_issue(session, NOW + MINUTE)
        publish.send(session, settings, issue, now=NOW)
        issue_id = issue.id
    tick(database, settings, now=NOW + MINUTE)
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).state is IssueState.SENDING
    with database.transaction() as session:
        session.scalars(select(Delivery)).one().state = DeliveryState.SENT
    tick(database, settings, now=NOW + 2 * MINUTE)
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).state is IssueState.SENT


def test_pauses_end_and_the_unconfirmed_go(
    database: Database, settings: Settings
) -> None:
    week = timedelta(days=7)
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        kept = make_subscription(
            session, newsletter, status=Status.PAUSED, paused_until=NOW
        )
        still = make_subscription(
            session, newsletter, status=Status.PAUSED, paused_until=NOW + week
        )
        gone = make_subscription(
            session, newsletter, status=Status.PENDING, requested_at=NOW - week
        )
        ids = kept.id, still.id, gone.id
    tick(database, settings, now=NOW + MINUTE)
    with database.reading() as session:
        found = [session.get(Subscription, one) for one in ids]
    assert [one and one.status for one in found] == [
        Status.ACTIVE,
        Status.PAUSED,
        None,
    ]


def test_used_links_are_forgotten_when_they_could_not_be_used_anyway(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        session.add(UsedLink(nonce="old", used_at=NOW - timedelta(days=61)))
        session.add(UsedLink(nonce="new", used_at=NOW - timedelta(days=29)))
    tick(database, settings, now=NOW)
    with database.reading() as session:
        assert session.scalars(select(UsedLink.nonce)).all() == ["new"]


def test_batches_are_repeated_until_one_is_not_full(database: Database) -> None:
    left = [2300]

    def work(session: Session, *, now: datetime, limit: int) -> int:
        done = min(limit, left[0])
        left[0] -= done
        return done

    assert jobs._in_batches(database, work, NOW) == 2300
    assert left == [0]
