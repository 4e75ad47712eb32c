"""Those who carry: each has one connection to the relay and takes errand after errand.

A courier decides nothing about the database. It tells its office what became of each
errand: an outcome, or that it comes back unused.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from time import monotonic
from typing import Protocol

from newsletter.errors import N_, InvalidInput, RelayError
from newsletter.mail import replies
from newsletter.mail.desk import Errand
from newsletter.mail.dispatch import Dispatch
from newsletter.mail.exchange import CLOSING, Answer, Broken, Mail
from newsletter.mail.ledger import SINGLE, Claim, Outcome
from newsletter.mail.replies import Blame, Brake, Phase, Ruling, Then, Verdict
from newsletter.mail.route import Route
from newsletter.mail.smtp import Connection, Unsendable
from newsletter.models import DeliveryState

log = logging.getLogger(__name__)

MESSAGES_PER_CONNECTION = 1000
LOST_AT_MOST = 3  # connections that one delivery may lose before it has to wait
REFUSALS_AT_MOST = 3  # in a row, of the sender and not of a reader; then a pause
_SENT = DeliveryState.SENT


class Office(Protocol):
    """What a courier needs from the worker it belongs to."""

    dispatch: Dispatch
    lost: dict[int, int]  # connections that a delivery has lost

    def now(self) -> datetime:
        """Return the time."""

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
        self, office: Office, route: Route, connect: Callable[[], Awaitable[Connection]]
    ) -> None:
        """Take a place in the office."""
        self.office = office
        self.route = route
        self.connect = connect
        self.idle_since = 0.0
        self._connection: Connection | None = None
        self._begun = 0  # on this connection

    async def run(self) -> None:
        """Carry until the office closes."""
        while await self.route.access.may_connect():
            try:
                await self._work()
            finally:
                self.route.access.disconnected()

    async def _work(self) -> None:
        route = self.route
        try:
            connection = await self.connect()
        except RelayError as error:
            route.access.refused(error)
            return
        with route.access.connected():
            self._connection, self._begun = connection, 0
            route.connected += 1
            try:
                await connection.carry(self)
            finally:
                self._connection = None
                if self in route.idle:
                    del route.idle[self]
                    route.access.rest()
                route.connected -= 1
                await connection.quit()

    def errands(self) -> list[Errand]:
        """Return what is under way."""
        connection = self._connection
        exchange = connection.exchange if connection else None
        return exchange.loads if exchange else []

    def pull(self) -> None:
        """Look for something to carry."""
        if self._connection:
            self._connection.pull()

    def finish(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.finish()

    # What the connection asks and tells.

    def may_hurry(self) -> bool:
        """Tell whether a message may begin before the last is answered."""
        return self.route.may_hurry()

    def next_mail(self) -> Mail | None:
        """Take the next errand and make it ready."""
        while self._begun < MESSAGES_PER_CONNECTION:
            errand = self.office.dispatch.next_errand(self.route)
            if errand is None:
                break
            if mail := self._prepared(errand):
                self._begun += 1
                if self.route.idle:
                    self.route.idle.pop(self, None)
                return mail
        if not self.errands():
            self._rest()
        return None

    def delivered(self, mail: Mail, line: bytes) -> None:
        """Settle what the relay has taken."""
        errand = self._ended(mail, sent=True)
        claim, reply = errand.claim, line[: replies.TEXT_LIMIT].decode(errors="replace")
        self.office.settle(Outcome(claim.id, claim.message_id, _SENT, reply))
        route = self.route
        route.took(monotonic() - errand.begun)
        if route.refusals or route.access.failures or route.throttled:
            self._all_well()

    def answered(self, mail: Mail, answer: Answer) -> None:
        """Settle, unless the answer is about the relay and not about the message."""
        first = self._begun == 1
        errand = self._ended(mail)
        ruling = replies.judge(answer.reply, answer.phase)
        access = self.route.access
        self.route.took(monotonic() - errand.begun)
        if answer.reply.code == CLOSING:
            if first:
                access.refused(_refused(answer), connected=True)
            elif _asks_to_slow_down(answer):
                self._slow(errand, answer)
            self._lose(errand, str(answer.reply))
        elif ruling.verdict is Verdict.RELAY_TROUBLE and answer.phase is Phase.MAIL:
            access.trouble(_refused(answer))
            self.office.give_back(errand)
        else:
            patient = self.route.refusals >= REFUSALS_AT_MOST
            now = self.office.now()
            self.office.settle(
                outcome_of(errand.claim, answer, ruling, now=now, patient=patient)
            )
            self._brake(ruling.brake, errand, answer)

    def broken(self, mail: Mail, broken: Broken) -> None:
        """Account for an errand that was cut off: not sent, or nobody knows."""
        errand = self._ended(mail)
        if not broken.unknown:
            self._lose(errand, broken.reason)
        elif errand.words.hold_unknown:
            self._settle(errand, DeliveryState.FAILED, broken.reason, "unknown")
        else:
            now = self.office.now()
            self.office.settle(
                deferred(errand.claim, broken.reason, "unknown", now=now, unknown=True)
            )

    def _rest(self) -> None:
        """Wait for work, or take leave after enough of it."""
        self.idle_since = monotonic()
        if self._begun >= MESSAGES_PER_CONNECTION or self.route.access.closing:
            self.finish()
        else:
            self.route.idle[self] = None

    def _ended(self, mail: Mail, *, sent: bool = False) -> Errand:
        errand: Errand = mail.load
        if errand.provider:
            self.office.dispatch.ended(self.route, errand, sent=sent)
        return errand

    def _prepared(self, errand: Errand) -> Mail | None:
        """Make an errand ready for the wire, or account for one that cannot be sent."""
        connection, claim, words = self._connection, errand.claim, errand.words
        assert connection  # noqa: S101 (it is what asks)
        named = "DSN" in connection.extensions
        errand.begun = monotonic()
        try:
            return connection.prepare(
                words.sender,
                claim.address,
                errand.pieces(),
                envelope_id=f"{claim.id}.{words.nonce}" if named else "",
                dotless=True,  # as `mime` writes them
                load=errand,
            )
        except InvalidInput as error:
            self._settle(errand, DeliveryState.FAILED, str(error), "invalid")
        except Unsendable as error:
            answer = Answer(Phase.MAIL, error.reply)
            ruling = replies.judge(error.reply, Phase.MAIL)
            self.office.settle(
                outcome_of(claim, answer, ruling, now=self.office.now(), patient=False)
            )
        except Exception as error:  # a bug of ours must not stop the others
            log.exception("delivery id=%d", claim.id)
            self._lose(errand, repr(error))
        return None

    def _settle(
        self, errand: Errand, state: DeliveryState, reply: str, reason: str
    ) -> None:
        claim = errand.claim
        self.office.settle(Outcome(claim.id, claim.message_id, state, reply, reason))

    def _brake(self, brake: Brake, errand: Errand, answer: Answer) -> None:
        """Slow down or stop for a while; a wall is what several meet in a row."""
        route = self.route
        if brake is Brake.SLOW:
            self._slow(errand, answer)
        elif brake is not Brake.STOP:
            self._all_well()
        else:
            route.refusals += 1
            if route.refusals >= REFUSALS_AT_MOST:
                route.access.trouble(_refused(answer))

    def _slow(self, errand: Errand, answer: Answer) -> None:
        reply, address = str(answer.reply), errand.claim.address
        if not self.office.dispatch.slow(self.route, address, reply):
            self.route.access.trouble(_refused(answer))

    def _all_well(self) -> None:
        self.route.refusals = 0
        self.route.throttled.clear()
        self.route.access.works()

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


def _asks_to_slow_down(answer: Answer) -> bool:
    """Tell whether a 421 is about the recipient's provider and not the relay."""
    late = answer.phase in {Phase.RCPT, Phase.DOT}
    return late and answer.reply.enhanced[:4] in {"", "4.7."}
