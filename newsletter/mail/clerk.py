"""The one who writes for a worker: each turn is one transaction.

A turn writes the outcomes that have gathered, gives back what was not used, claims what
is needed next and looks after what time brings. Runs in a thread; knows no sockets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.mail import ledger, relays
from newsletter.mail.desk import Words
from newsletter.mail.ledger import Claim, Claimed, Outcome
from newsletter.mail.relays import Health
from newsletter.mail.replies import Verdict
from newsletter.mail.shelf import RELOAD_SECONDS, Shelf
from newsletter.models import DeliveryState


@dataclass(slots=True)
class Turn:
    """What is to be written, and how much to claim."""

    outcomes: list[Outcome] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)
    singles: int = 0
    bulk: int = 0
    chores: bool = False
    in_hand: Sequence[int] = ()
    rate_per_second: float = 0.0
    health: Sequence[Health] = ()

    @property
    def anything(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(
            self.outcomes
            or self.unused
            or self.chores
            or self.singles
            or self.bulk
            or self.health
        )


@dataclass(slots=True)
class Result:
    """What a turn brought."""

    claims: list[Claim] = field(default_factory=list)
    words: dict[int, Words] = field(default_factory=dict)  # by message
    more: bool = False  # where that came from
    workers: int = 0  # alive, counted when there were chores
    since: float = 0.0  # when the claims were true


class Clerk:
    """Writes in the ledger for one worker."""

    def __init__(
        self, database: Database, settings: Settings, *, worker: str, lease: timedelta
    ) -> None:
        """Start with nothing loaded."""
        self.database = database
        self.worker = worker
        self.lease = lease
        self._shelf = Shelf(settings)
        self._locked: dict[int, float] = {}  # messages that cannot be signed; until
        self._first = 0  # the bulk message served last
        self._after: dict[int, int] = {}  # the last delivery claimed of each

    def look(self, limit: int, now: datetime) -> tuple[int, bool]:
        """Return how many could be claimed, up to `limit`, and whether more is due.

        Reads only: an idle worker holds nobody up.
        """
        with self.database.reading() as session:
            return ledger.waiting(session, limit), ledger.is_due(session, now=now)

    def write(self, turn: Turn, now: datetime) -> Result:
        """Do a turn."""
        result = Result()
        with self.database.transaction() as session:
            result.since = monotonic()
            ledger.settle(session, self.worker, turn.outcomes, now=now)
            ledger.release(session, self.worker, turn.unused)
            for health in turn.health:
                relays.report(session, health, now=now)
            if turn.chores:
                result.workers = self._do_chores(session, turn, now)
            if turn.singles:
                found = self._claim(session, turn.singles, now)
                result.claims += found.claims
                result.more = found.looked_at >= turn.singles
            self._claim_bulk(session, turn.bulk, now, result)
            wanted = {claim.message_id for claim in result.claims}
            result.words = self._shelf.words(session, wanted, now=now)
            self._set_aside(session, result, now)
        return result

    def sign_off(self) -> None:
        """Say that the worker has stopped."""
        with self.database.transaction() as session:
            relays.sign_off(session, self.worker)

    def _do_chores(self, session: Session, turn: Turn, now: datetime) -> int:
        ledger.renew(session, self.worker, turn.in_hand, now=now, lease=self.lease)
        ledger.recover_expired(session, now=now)
        ledger.requeue_due(session, now=now)
        ledger.sweep_cancelled(session, now=now)
        ledger.close_settled(session)
        return relays.beat(session, self.worker, turn.rate_per_second, now=now)

    def _claim_bulk(
        self, session: Session, wanted: int, now: datetime, result: Result
    ) -> None:
        """Claim from the open issues in turn, so that a small one need not wait."""
        if not wanted:
            return
        clock = monotonic()
        self._locked = {m: end for m, end in self._locked.items() if end > clock}
        messages = [m for m in ledger.open_messages(session) if m not in self._locked]
        self._after = {m: self._after.get(m, 0) for m in messages}
        later = [message for message in messages if message > self._first]
        for message_id in later + [m for m in messages if m <= self._first]:
            wanted -= self._claim_of(session, message_id, wanted, now, result)
            if wanted <= 0:
                result.more = True
                return

    def _claim_of(
        self,
        session: Session,
        message_id: int,
        limit: int,
        now: datetime,
        result: Result,
    ) -> int:
        """Claim from where the last claim ended; from the beginning when that is dry.

        What was put off, or left by another worker, lies before.
        """
        after = self._after[message_id]
        found = self._claim(session, limit, now, message_id=message_id, after=after)
        if after and not found.looked_at:
            found = self._claim(session, limit, now, message_id=message_id)
        if found.claims:
            self._first = message_id
            self._after[message_id] = found.claims[-1].id
        result.claims += found.claims
        return found.looked_at

    def _claim(
        self, session: Session, limit: int, now: datetime, **which: int
    ) -> Claimed:
        return ledger.claim(
            session,
            worker=self.worker,
            limit=limit,
            now=now,
            lease=self.lease,
            **which,
        )

    def _set_aside(self, session: Session, result: Result, now: datetime) -> None:
        """Let wait what cannot be signed: better late than taken for a forgery."""
        waiting = [c for c in result.claims if c.message_id not in result.words]
        if not waiting:
            return
        later = now + timedelta(seconds=RELOAD_SECONDS)
        single = [claim for claim in waiting if claim.lane == ledger.SINGLE]
        reason = Verdict.RELAY_TROUBLE.value
        ledger.settle(
            session,
            self.worker,
            [
                Outcome(c.id, c.message_id, DeliveryState.DEFERRED, "", reason, later)
                for c in single
            ],
            now=now,
        )
        bulk = [claim for claim in waiting if claim.lane != ledger.SINGLE]
        ledger.release(session, self.worker, [claim.id for claim in bulk])
        until = monotonic() + RELOAD_SECONDS
        self._locked.update({claim.message_id: until for claim in bulk})
        result.claims = [c for c in result.claims if c.message_id in result.words]
