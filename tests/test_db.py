"""The database: the writers' line, aware times, transactions."""

import fcntl
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import (
    CACHE_KB,
    CHECKPOINT_AFTER,
    CHECKPOINT_PAGES,
    Database,
)
from newsletter.models import Newsletter, Rate
from tests.factories import NOW, make_newsletter


def test_times_come_back_aware_and_in_utc(session: Session) -> None:
    newsletter = make_newsletter(session, created_at=NOW)
    session.expire(newsletter)
    assert newsletter.created_at == NOW
    assert newsletter.created_at.utcoffset() is not None


def test_a_failing_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        make_newsletter(session)
        raise ZeroDivisionError
    with database.reading() as session:
        assert session.scalars(select(Newsletter)).all() == []


def test_a_transaction_inside_another_is_refused(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("only SQLite has a line of writers")
    with (
        database.transaction(),
        pytest.raises(RuntimeError, match="inside"),
        database.transaction(),
    ):
        pass


def test_a_writer_keeps_other_processes_out(
    database: Database, settings: Settings
) -> None:
    if not database.is_sqlite:
        pytest.skip("only SQLite has a line of writers")
    with database.transaction():
        pass
    path = settings.database_url.removeprefix("sqlite:///")
    with open(f"{path}.lock") as lock:  # as another process has it
        with database.transaction(), pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_whoever_waits_comes_before_one_who_writes_again(
    database: Database, settings: Settings
) -> None:
    if not database.is_sqlite:
        pytest.skip("only SQLite has a line of writers")
    path = settings.database_url.removeprefix("sqlite:///")
    order = []

    def write(who: str) -> None:
        with database.transaction():
            order.append(who)

    with database.transaction():
        assert not _is_locked(f"{path}.next.lock")
        other = threading.Thread(target=write, args=["other"])
        other.start()
        end = time.monotonic() + 10
        while not _is_locked(f"{path}.next.lock"):
            assert time.monotonic() < end, "nobody is next"
            time.sleep(0.01)
    write("the same again")
    other.join()
    assert order == ["other", "the same again"]


def _is_locked(path: str) -> bool:
    if not Path(path).exists():
        return False
    with open(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_sixteen_writers_lose_no_update(database: Database) -> None:
    with database.transaction() as session:
        session.add(Rate(key="k", minute=1, count=0))

    def add() -> None:
        for _ in range(10):
            with database.transaction() as session:
                row = session.get(Rate, ("k", 1), with_for_update=True)
                assert row
                row.count += 1

    threads = [threading.Thread(target=add) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert session.get_one(Rate, ("k", 1)).count == 160


def test_what_writes_much_is_kept_and_leaves_the_settings_as_they_were(
    database: Database,
) -> None:
    for number in range(CHECKPOINT_AFTER + 1):
        with database.transaction(much=True) as session:
            session.add(Rate(key=f"k{number}", minute=number, count=1))
    with database.reading(slowly=True) as session:
        assert len(session.scalars(select(Rate)).all()) == CHECKPOINT_AFTER + 1
        if database.is_sqlite:
            pages = session.scalar(text("PRAGMA wal_autocheckpoint"))
            cache = session.scalar(text("PRAGMA cache_size"))
            assert (pages, cache) == (CHECKPOINT_PAGES, -CACHE_KB)
        else:
            asked = text("SHOW idle_in_transaction_session_timeout")
            assert session.scalar(asked) == "15min"
