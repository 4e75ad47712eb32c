"""The one who writes for a worker: each turn is one transaction.

A turn writes the outcomes that have gathered, gives back what was not used, claims what
is needed next and looks after what time brings. Runs in a thread; knows no sockets.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.db import Database
from newsletter.mail import ledger, relays
from newsletter.mail.desk import Words
from newsletter.mail.ledger import Claim, Claimed, Outcome
from newsletter.mail.mime import Frozen
from newsletter.mail.relays import Health
from newsletter.models import Message, Newsletter

MESSAGES_KEPT = 64  # loaded, of the latest used


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

    def __init__(self, database: Database, *, worker: str, lease: timedelta) -> None:
        """Start with nothing loaded."""
        self.database = database
        self.worker = worker
        self.lease = lease
        self._words: OrderedDict[int, Words] = OrderedDict()
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
            self._load(session, {claim.message_id for claim in result.claims})
        result.words = {
            claim.message_id: self._words[claim.message_id] for claim in result.claims
        }
        while len(self._words) > MESSAGES_KEPT:
            self._words.popitem(last=False)
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
        messages = ledger.open_messages(session)
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

    def _load(self, session: Session, message_ids: set[int]) -> None:
        for known in message_ids & self._words.keys():
            self._words.move_to_end(known)
        missing = message_ids - self._words.keys()
        if not missing:
            return
        rows = session.execute(
            select(
                Message.id,
                Message.frozen,
                Message.sender,
                Message.nonce,
                Newsletter.hold_unknown,
            )
            .outerjoin(Newsletter, Newsletter.id == Message.newsletter_id)
            .where(Message.id.in_(missing))
        )
        for message_id, frozen, sender, nonce, hold in rows:
            self._words[message_id] = Words(
                Frozen.unpack(frozen), sender, nonce, bool(hold)
            )
