"""What became of an issue's deliveries, as a person reads it. Only reads the ledger.

Made for a million deliveries of which most may have failed. Those that are neither
queued nor sent lie in one index, `ix_delivery_unusual`: by message, state, reason, id,
with the address. A run of it, those of one message in one state for one reason, is
counted without a row being read, and lists go through the runs by their keys, page by
page. A domain, which has no order there, is looked for in so many and no more.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select, union_all
from sqlalchemy.orm import Session

from newsletter.errors import N_
from newsletter.mail import ledger
from newsletter.mail.replies import Verdict
from newsletter.models import Delivery, DeliveryState, Message, Status

UNREACHED = (
    DeliveryState.BOUNCED,
    DeliveryState.FAILED,
    DeliveryState.SKIPPED,
    DeliveryState.COMPLAINED,
)
LISTED = (DeliveryState.DEFERRED, *UNREACHED)
# What domains are told apart for, and what can be tried again.
TROUBLED = (DeliveryState.DEFERRED, DeliveryState.BOUNCED, DeliveryState.FAILED)
PAGE = 100
MOST_REASONS = 50
MOST_DOMAINS = 12
LONGEST_ID = 18  # digits
LOOKED_AT = 10_000  # rows of a state whose domain is asked for at once

# What a delivery's reason means to someone who does not read SMTP.
WORDS: dict[str, str] = {
    Verdict.GREYLISTED: N_("Their server asks strangers to come back later"),
    Verdict.MAILBOX_SOFT: N_("The mailbox is full or closed for now"),
    Verdict.UNKNOWN_MAILBOX: N_("There is no such mailbox"),
    Verdict.DOMAIN_DEAD: N_("The domain takes no mail"),
    Verdict.THROTTLED: N_("Their server asks us to slow down"),
    Verdict.SENDER_BLOCKED: N_("Their server refuses our sender"),
    Verdict.CONTENT: N_("Their server refuses what the mail holds"),
    Verdict.RELAY_TROUBLE: N_("Our own relay had trouble"),
    Verdict.SMTPUTF8_LACKING: N_("Their server cannot take letters beyond a–z"),
    Verdict.UNKNOWN_4XX: N_("Their server said no for now"),
    Verdict.UNKNOWN_5XX: N_("Their server said no"),
    Status.LEFT: N_("Left before it was their turn"),
    Status.PAUSED: N_("Paused before it was their turn"),
    Status.PENDING: N_("Has not confirmed"),
    Status.SUPPRESSED: N_("The address is not to be mailed"),
    "erased": N_("Erased before it was their turn"),
    "cancelled": N_("The issue was cancelled"),
    "merged": N_("Became one with another subscription of theirs"),
    "unknown": N_("Unknown after a stop; held back rather than sent twice"),
}
STATE_WORDS: dict[str, str] = {
    DeliveryState.DEFERRED: N_("Deferred; tried again later"),
    DeliveryState.BOUNCED: N_("Bounced"),
    DeliveryState.FAILED: N_("Could not be handed over"),
    DeliveryState.SKIPPED: N_("Left out"),
    DeliveryState.COMPLAINED: N_("Reported as spam"),
    DeliveryState.SENT: N_("Sent"),
}


def why(state: str, reason: str | None) -> str:
    """Return the message id that tells why a delivery stands where it does."""
    return WORDS.get(reason or "") or STATE_WORDS.get(state, state)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some readers were not reached, and what a server said to one of them."""

    state: DeliveryState
    reason: str
    readers: int
    reply: str


@dataclass(frozen=True, slots=True)
class Domain:
    """How many readers at a domain were put off and how many refused."""

    name: str
    deferred: int
    bounced: int  # and failed


@dataclass(frozen=True, slots=True)
class Domains:
    """The domains with the most trouble; of each state so many are looked at."""

    found: list[Domain]
    is_sample: bool


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """Deliveries of one message that stand where they stand for one reason."""

    message_id: int
    state: str
    reason: str  # "" for none
    readers: int = 0

    @property
    def holds(self) -> tuple[ColumnElement[bool], ...]:
        """Return what holds for its deliveries, as the index has it."""
        reason = Delivery.reason
        return (
            Delivery.message_id == self.message_id,
            ledger.unusual(),
            Delivery.state == DeliveryState(self.state),
            reason == self.reason if self.reason else reason.is_(None),
        )


@dataclass(frozen=True, slots=True)
class Readers:
    """Some deliveries; `after` begins the next page."""

    deliveries: Sequence[Delivery]
    after: int | str | None = None


def runs(
    session: Session, *, issue_id: int, states: Sequence[DeliveryState] = UNREACHED
) -> list[Run]:
    """Return the runs of an issue's deliveries in some states, in order."""
    rows = session.execute(
        select(Delivery.message_id, Delivery.state, Delivery.reason, func.count())
        .where(_of_issue(issue_id), ledger.unusual(), Delivery.state.in_(states))
        .group_by(Delivery.message_id, Delivery.state, Delivery.reason)
    )
    return sorted(Run(m, s.value, reason or "", n) for m, s, reason, n in rows)


def reasons(
    session: Session,
    *,
    issue_id: int,
    states: Sequence[DeliveryState] = UNREACHED,
) -> list[Reason]:
    """Return why readers were not reached, the commonest reason first."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], Run] = {}
    for run in runs(session, issue_id=issue_id, states=states):
        key = run.state, run.reason
        counts[key] += run.readers
        examples.setdefault(key, run)
    first = sorted(counts, key=lambda key: (-counts[key], key))[:MOST_REASONS]
    return [
        Reason(
            DeliveryState(state),
            reason,
            counts[state, reason],
            _reply(session, examples[state, reason]),
        )
        for state, reason in first
    ]


def _reply(session: Session, run: Run) -> str:
    """Return what a server said to one of a run."""
    reply = select(Delivery.reply).where(*run.holds).order_by(Delivery.id).limit(1)
    return session.scalar(reply) or ""


def domains(session: Session, *, issue_id: int) -> Domains:
    """Return the domains to which the most was deferred, bounced or failed."""
    some = [
        select(
            Delivery.state.label("state"), _domain(session, Delivery.address).label("d")
        )
        .where(_of_issue(issue_id), ledger.unusual(), Delivery.state == state)
        .limit(LOOKED_AT)
        .subquery()
        for state in TROUBLED
    ]
    seen = union_all(*(select(part.c.state, part.c.d) for part in some)).subquery()
    put_off = func.sum(case((seen.c.state == DeliveryState.DEFERRED, 1), else_=0))
    rows = session.execute(
        select(seen.c.d, func.count(), put_off)
        .group_by(seen.c.d)
        .order_by(func.count().desc(), seen.c.d)
        .limit(MOST_DOMAINS)
    )
    found = [Domain(name, late, count - late) for name, count, late in rows]
    every = Counter[str]()
    for run in runs(session, issue_id=issue_id, states=TROUBLED):
        every[run.state] += run.readers
    return Domains(found, is_sample=max(every.values(), default=0) > LOOKED_AT)


def listed(
    session: Session,
    *,
    issue_id: int,
    states: Sequence[DeliveryState] = UNREACHED,
    reason: str | None = None,
    domain: str = "",
    after: str = "",
) -> Readers:
    """Return the deliveries in these states, for a reason, at a domain, by page.

    A page for a domain may be short and still have a next one.
    """
    found: list[Delivery] = []
    looks = LOOKED_AT
    for run, last in _from(session, issue_id, states, reason, after):
        query = select(Delivery).where(*run.holds, Delivery.id > last)
        query = query.order_by(Delivery.id)
        if domain:
            some = query.with_only_columns(Delivery.id, Delivery.address).limit(looks)
            seen = some.subquery()
            looked_at, end = session.execute(
                select(func.count(), func.max(seen.c.id))
            ).one()
            at_domain = _domain(session, seen.c.address) == domain
            ids = select(seen.c.id).where(at_domain)
            query = select(Delivery).where(Delivery.id.in_(ids)).order_by(Delivery.id)
            looks -= looked_at
        room = PAGE - len(found)
        more = session.scalars(query.limit(room + 1)).all()
        found += more[:room]
        if len(more) > room:
            return Readers(found, _key(run, found[-1].id))
        if domain and not looks:
            return Readers(found, _key(run, end))
    return Readers(found)


def some_ids(
    session: Session,
    *,
    issue_id: int,
    states: Sequence[DeliveryState],
    reasons: Sequence[str],
    after: str,
    limit: int,
) -> tuple[list[int], str]:
    """Return the ids of some deliveries for any of these reasons, and where to go on.

    Where nothing is left, that is "".
    """
    found: list[int] = []
    for run, last in _from(session, issue_id, states, None, after):
        if run.reason not in reasons:
            continue
        room = limit - len(found)
        query = select(Delivery.id).where(*run.holds, Delivery.id > last)
        found += session.scalars(query.order_by(Delivery.id).limit(room)).all()
        if len(found) == limit:
            return found, _key(run, found[-1])
    return found, ""


def _from(
    session: Session,
    issue_id: int,
    states: Sequence[DeliveryState],
    reason: str | None,
    after: str,
) -> Iterator[tuple[Run, int]]:
    """Yield the runs from a key on, and after which delivery to go on in each."""
    begin, last = _read_key(after)
    for run in runs(session, issue_id=issue_id, states=states):
        here = (run.message_id, run.state, run.reason)
        if here >= begin and reason in (None, run.reason):
            yield run, last if here == begin else 0


def _key(run: Run, delivery_id: int) -> str:
    return f"{run.message_id}-{run.state}-{run.reason}-{delivery_id}"


def _read_key(text: str) -> tuple[tuple[int, str, str], int]:
    """Read what `_key` wrote; anything else is the beginning."""
    parts = text.split("-")
    if len(parts) != 4 or not (parts[0].isdecimal() and parts[3].isdecimal()):
        return (0, "", ""), 0
    if len(parts[0]) > LONGEST_ID or len(parts[3]) > LONGEST_ID:
        return (0, "", ""), 0
    return (int(parts[0]), parts[1], parts[2]), int(parts[3])


def resent(session: Session, *, issue_id: int, after: int = 0) -> Readers:
    """Return the deliveries sent once more because a crash left them unknown."""
    query = select(Delivery).where(_of_issue(issue_id), Delivery.resent.is_(True))
    return _page(session, query, after)


def _page(session: Session, query: Select[Delivery], after: int) -> Readers:
    found = session.scalars(
        query.where(Delivery.id > after).order_by(Delivery.id).limit(PAGE + 1)
    ).all()
    deliveries = found[:PAGE]
    return Readers(deliveries, deliveries[-1].id if len(found) > PAGE else None)


def _domain(session: Session, address: Any) -> ColumnElement[str]:
    if session.get_bind().dialect.name == "postgresql":
        return func.lower(func.split_part(address, "@", 2))
    return func.lower(func.substr(address, func.instr(address, "@") + 1))


def _of_issue(issue_id: int) -> ColumnElement[bool]:
    messages = select(Message.id).where(Message.issue_id == issue_id)
    return Delivery.message_id.in_(messages)
