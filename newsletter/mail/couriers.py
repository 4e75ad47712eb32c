"""Those who carry: each has one connection to the relay and takes errand after errand.

A courier decides nothing about the database. It tells its office what became of each
errand: an outcome, or that it comes back unused.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from time import monotonic
from typing import Protocol

from newsletter.errors import N_, InvalidInput, RelayError
from newsletter.mail import mime, replies
from newsletter.mail.access import Access
from newsletter.mail.desk import Desk, Errand
from newsletter.mail.ledger import SINGLE, Claim, Outcome
from newsletter.mail.replies import Blame, Brake, Phase, Ruling, Then, Verdict
from newsletter.mail.smtp import Answer, Broken, Connection
from newsletter.models import DeliveryState

log = logging.getLogger(__name__)

IDLE_SECONDS = 20.0  # then the connection is closed
MESSAGES_PER_CONNECTION = 1000
LOST_AT_MOST = 3  # connections that one delivery may lose before it has to wait
REFUSALS_AT_MOST = 3  # in a row, of the sender and not of a reader; then a pause


class Office(Protocol):
    """What a courier needs from the worker it belongs to."""

    desk: Desk
    access: Access
    latency: float  # seconds a message takes, lately
    busy: int  # couriers with an errand
    lost: dict[int, int]  # connections that a delivery has lost
    refusals: int  # of the sender, in a row

    def now(self) -> datetime:
        """Return the time."""

    def takes_bulk(self) -> bool:
        """Tell whether one more courier may be busy with bulk."""

    def settle(self, outcome: Outcome) -> None:
        """Note what became of an errand."""

    def give_back(self, errand: Errand) -> None:
        """Note that an errand was not begun, or to no effect."""


def outcome_of(
    claim: Claim, answer: Answer, ruling: Ruling, *, now: datetime, patient: bool
) -> Outcome:
    """Turn a ruling into an outcome. `patient` retries what is the sender's fault."""
    reply, reason = str(answer.reply), ruling.verdict.value
    if ruling.then is Then.DONE:
        return Outcome(claim.id, claim.message_id, DeliveryState.SENT, reply)
    own_fault = ruling.verdict is Verdict.SENDER_BLOCKED
    if ruling.then is Then.RETRY or (patient and own_fault):
        return deferred(claim, reply, reason, now=now, blame=ruling.blame)
    state = DeliveryState.FAILED
    if ruling.blame in {Blame.HARD, Blame.TWICE, Blame.SOFT}:
        state = DeliveryState.BOUNCED
    return Outcome(claim.id, claim.message_id, state, reply, reason)


def deferred(
    claim: Claim,
    reply: str,
    reason: str,
    *,
    now: datetime,
    blame: Blame = Blame.NONE,
    unknown: bool = False,
) -> Outcome:
    """Put a delivery off, or give it up when it has been put off long enough."""
    give_up = replies.GIVE_UP_SINGLE if claim.lane == SINGLE else replies.GIVE_UP_BULK
    delay = replies.retry_delay(claim.id, claim.attempts + 1, give_up)
    if delay is None:
        soft = blame is Blame.SOFT
        state = DeliveryState.BOUNCED if soft else DeliveryState.FAILED
        return Outcome(claim.id, claim.message_id, state, reply, reason)
    return Outcome(
        claim.id,
        claim.message_id,
        DeliveryState.DEFERRED,
        reply,
        reason,
        next_attempt_at=now + delay,
        unknown=unknown,
    )


class Courier:
    """One connection's worth of sending."""

    def __init__(
        self, office: Office, connect: Callable[[], Awaitable[Connection]]
    ) -> None:
        """Take a place in the office."""
        self.office = office
        self.connect = connect

    async def run(self) -> None:
        """Carry until the office closes."""
        while await self.office.access.may_connect():
            try:
                await self._work()
            finally:
                self.office.access.disconnected()

    async def _work(self) -> None:
        try:
            connection = await self.connect()
        except RelayError as error:
            await self.office.access.failed(error)
            return
        with self.office.access.connected():
            try:
                await self._serve(connection)
            finally:
                await connection.quit()

    async def _serve(self, connection: Connection) -> None:
        for _ in range(MESSAGES_PER_CONNECTION):
            errand = await self.office.desk.next(
                bulk=self.office.takes_bulk, seconds=IDLE_SECONDS
            )
            if errand is None:
                return
            self.office.busy += 1
            try:
                await self._carry(connection, errand)
            finally:
                self.office.busy -= 1
            if connection.closed:
                return

    async def _carry(self, connection: Connection, errand: Errand) -> None:
        """Carry one errand and see to it that it is accounted for, whatever happens."""
        begun = monotonic()
        try:
            answer = await connection.send(
                errand.words.sender, errand.claim.address, self._spliced(errand)
            )
        except InvalidInput as error:
            self._settle(errand, DeliveryState.FAILED, str(error), "invalid")
        except Broken as broken:
            self._broken(errand, broken)
        except asyncio.CancelledError:
            self._broken(errand, Broken(connection.phase, "this worker was stopped"))
            raise
        except Exception as error:  # a bug of ours must not stop the others
            log.exception("delivery id=%d", errand.claim.id)
            connection.abort()
            self._broken(errand, Broken(connection.phase, repr(error)))
        else:
            took = monotonic() - begun
            self.office.latency += 0.1 * (took - self.office.latency)
            self._answered(connection, errand, answer)

    def _spliced(self, errand: Errand) -> bytes:
        claim, words = errand.claim, errand.words
        return words.frozen.splice(
            address=claim.address,
            delivery_id=claim.id,
            nonce=words.nonce,
            leave_token=claim.leave_token or mime.NOBODY,
            preferences_token=claim.preferences_token or mime.NOBODY,
            at=self.office.now(),
        )

    def _settle(
        self, errand: Errand, state: DeliveryState, reply: str, reason: str
    ) -> None:
        claim = errand.claim
        self.office.settle(Outcome(claim.id, claim.message_id, state, reply, reason))

    def _answered(self, connection: Connection, errand: Errand, answer: Answer) -> None:
        """Settle, unless the answer is about the relay and not about the message."""
        ruling = replies.judge(answer.reply, answer.phase)
        office = self.office
        if answer.reply.code == 421:
            if connection.messages == 0:
                office.access.trouble(_refused(answer))
            self._lose(errand, str(answer.reply))
        elif ruling.verdict is Verdict.RELAY_TROUBLE and answer.phase is Phase.MAIL:
            office.access.trouble(_refused(answer))
            office.give_back(errand)
        else:
            patient = office.refusals >= REFUSALS_AT_MOST
            now = office.now()
            office.settle(
                outcome_of(errand.claim, answer, ruling, now=now, patient=patient)
            )
            self._brake(ruling.brake, answer)

    def _brake(self, brake: Brake, answer: Answer) -> None:
        """Stop for a while when one message after the other meets the same wall."""
        if brake is not Brake.STOP:
            self.office.refusals = 0
            self.office.access.works()
            return
        self.office.refusals += 1
        if self.office.refusals >= REFUSALS_AT_MOST:
            self.office.access.trouble(_refused(answer))

    def _broken(self, errand: Errand, broken: Broken) -> None:
        """The connection is gone: nothing was sent, or nobody knows."""
        if not broken.unknown:
            self._lose(errand, broken.reason)
            return
        if errand.words.hold_unknown:
            self._settle(errand, DeliveryState.FAILED, broken.reason, "unknown")
            return
        now = self.office.now()
        self.office.settle(
            deferred(errand.claim, broken.reason, "unknown", now=now, unknown=True)
        )

    def _lose(self, errand: Errand, reason: str) -> None:
        """Give it back; one that loses every connection has to wait."""
        claim = errand.claim
        lost = self.office.lost.pop(claim.id, 0) + 1
        if lost < LOST_AT_MOST:
            self.office.lost[claim.id] = lost
            self.office.give_back(errand)
        else:
            self.office.settle(
                deferred(
                    claim,
                    reason,
                    Verdict.RELAY_TROUBLE.value,
                    now=self.office.now(),
                )
            )


def _refused(answer: Answer) -> RelayError:
    return RelayError(N_("The relay says: %(reply)s"), reply=str(answer.reply))
