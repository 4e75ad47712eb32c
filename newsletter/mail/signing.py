"""Signing ahead, in threads, where a signature takes longer than a message.

An RSA signature costs ten times what the rest of a message does. `cryptography` lets go
of Python's lock meanwhile, so that threads sign while the wire is kept busy.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from newsletter.errors import InvalidInput
from newsletter.mail.desk import Errand

log = logging.getLogger(__name__)

AT_ONCE = 16  # errands that one thread signs before it hands them over


class Signers:
    """Threads that sign errands and hand them on."""

    def __init__(self, hand_on: Callable[[Sequence[Errand]], object]) -> None:
        """Start no thread before there is something to sign."""
        self.waiting: dict[Errand, None] = {}  # with us
        self._hand_on = hand_on
        self._threads = ThreadPoolExecutor(
            os.cpu_count() or 1, thread_name_prefix="signing"
        )
        self._under_way: set[asyncio.Future[None]] = set()
        self._finished = False

    def take(self, errands: Iterable[Errand]) -> list[Errand]:
        """Sign those whose signature takes long; return the others at once.

        Once finished, return all of them: nobody is to carry them any more.
        """
        if self._finished:
            return list(errands)
        quick: list[Errand] = []
        slow: list[Errand] = []
        for errand in errands:
            seal = errand.words.seal
            (slow if seal and seal.slow else quick).append(errand)
        for start in range(0, len(slow), AT_ONCE):
            self._begin(slow[start : start + AT_ONCE])
        return quick

    async def finish(self) -> None:
        """Wait for what is being signed, and end the threads."""
        self._finished = True
        await asyncio.gather(*self._under_way)
        self._threads.shutdown(wait=False)

    def _begin(self, errands: list[Errand]) -> None:
        self.waiting.update(dict.fromkeys(errands))
        signing = asyncio.get_running_loop().run_in_executor(
            self._threads, _sign_all, errands
        )
        self._under_way.add(signing)

        def signed(done: asyncio.Future[None]) -> None:
            self._under_way.discard(done)
            for errand in errands:
                self.waiting.pop(errand, None)
            self._hand_on(errands)

        signing.add_done_callback(signed)


def _sign_all(errands: list[Errand]) -> None:
    """Sign what can be signed; who takes up the rest will see what is wrong with it."""
    for errand in errands:
        try:
            errand.sign()
        except InvalidInput:
            continue
        except Exception:  # a bug of ours must not stop the others
            log.exception("delivery id=%d cannot be signed", errand.claim.id)
