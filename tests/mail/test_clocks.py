"""Hosts whose clocks differ agree on the database's time."""

from datetime import timedelta
from time import monotonic

import pytest
from sqlalchemy import func, select

from newsletter.db import Database, utcnow
from newsletter.mail import clocks

MOMENT = timedelta(seconds=0.05)


@pytest.mark.parametrize("wrong", [-60, -0.5, 0, 60, 3600])
def test_a_clock_that_is_wrong_is_put_right_by_its_offset(
    database: Database, wrong: float
) -> None:
    with database.reading() as session:
        began = monotonic()
        mine = utcnow() + timedelta(seconds=wrong)
        found = clocks.offset(session, now=mine)
        if database.is_sqlite:  # there is no other host
            assert found == timedelta()
            return
        answer = session.execute(select(func.clock_timestamp())).scalar_one()
        passed = timedelta(seconds=monotonic() - began)
    # The answer is from some moment on the way, which a busy machine makes long.
    assert -MOMENT < mine + passed + found - answer < passed + MOMENT


def test_leases_of_hosts_that_differ_by_a_minute_end_together(
    database: Database,
) -> None:
    ends = []
    for wrong in (-60, 60):
        with database.reading() as session:
            mine = utcnow() + timedelta(seconds=wrong)
            ends.append(mine + clocks.offset(session, now=mine))
    if not database.is_sqlite:
        assert abs(ends[1] - ends[0]) < timedelta(seconds=20)
