"""Who gets a processor first, where the system lets one say so: Linux (sched(7)).

Two kinds of threads share a worker: the one of the wire, which has to be there when a
reply comes, and the one that writes the ledger, which can be a moment late.
"""

import os
import threading
from contextlib import suppress

STEPS_BACK = 5  # of the nineteen that `nice` knows


def be_batch(wanted: bool) -> None:
    """Let this thread push nobody off a processor when it wakes, or be as all are."""
    if hasattr(os, "SCHED_BATCH"):
        policy = os.SCHED_BATCH if wanted else os.SCHED_OTHER
        with suppress(OSError):  # a host may forbid it
            os.sched_setscheduler(0, policy, os.sched_param(0))


def step_back() -> None:
    """Let this thread come after others: a third of their share where all want it."""
    be_batch(True)
    if hasattr(os, "SCHED_BATCH"):  # elsewhere that is said of a whole process
        me = threading.get_native_id()
        with suppress(OSError):
            before = os.getpriority(os.PRIO_PROCESS, me)
            os.setpriority(os.PRIO_PROCESS, me, min(before + STEPS_BACK, 19))
