"""What a worker's process is set up with."""

import os
import subprocess
import sys

import pytest

READY = """
import os, sys
from newsletter.serving import make_ready
make_ready()
print(os.sched_getscheduler(0) == os.SCHED_BATCH, sys.getswitchinterval() < 0.001)
"""
FORBIDDEN = """
import os
def refuse(*given): raise PermissionError
os.sched_setscheduler = refuse
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux knows batches")
@pytest.mark.parametrize("before", ["", FORBIDDEN])
def test_a_worker_is_a_process_of_batches_where_it_may(before: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", before + READY],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(not before), "True"]
