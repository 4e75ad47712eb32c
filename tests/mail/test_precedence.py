"""Who gets a processor first: the wire, then the ledger, unless the relay is quick."""

import os
from collections.abc import Iterator
from threading import Thread, get_native_id

import pytest

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.mail import precedence
from tests.delivering import deliver
from tests.mail.test_sender import queue

pytestmark = pytest.mark.skipif(
    not hasattr(os, "SCHED_BATCH"), reason="Linux lets threads say so"
)


def scheduled() -> tuple[bool, int]:
    """Return whether this thread is one of batches, and how nice it is."""
    is_batch = os.sched_getscheduler(0) == os.SCHED_BATCH
    return is_batch, os.getpriority(os.PRIO_PROCESS, get_native_id())


@pytest.fixture
def worker() -> Iterator[int]:
    """Be a process of batches, as a worker is at first; how nice that is."""
    precedence.be_batch(True)
    yield scheduled()[1]
    precedence.be_batch(False)


def test_the_ledgers_thread_comes_after_the_wires(worker: int) -> None:
    precedence.be_batch(False)
    found: list[tuple[bool, int]] = []

    def write() -> None:
        precedence.step_back()
        found.append(scheduled())

    thread = Thread(target=write)
    thread.start()
    thread.join()
    assert found == [(True, min(worker + precedence.STEPS_BACK, 19))]
    assert scheduled() == (False, worker)


def test_a_worker_is_as_all_are_while_its_relay_leaves_it_time(
    worker: int, database: Database, settings: Settings
) -> None:
    queue(database, 3)
    assert scheduled() == (True, worker)
    assert len(deliver(database, settings)) == 3
    assert scheduled() == (False, worker)
