"""How the relay is doing, who is sending, and how far an issue has come."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from newsletter.errors import N_, RelayError
from newsletter.mail import ledger
from newsletter.mail.exchange import Trust
from newsletter.mail.ledger import Counts
from newsletter.models import (
    Issue,
    Message,
    MessageState,
    Newsletter,
    NewsletterRelay,
    RelayHealth,
    RelayTrust,
    Worker,
)

ALIVE = timedelta(seconds=30)  # a worker not seen for longer is not sending
FORGOTTEN = timedelta(hours=1)  # nor worth a row any more
LONGEST_WAIT_SECONDS = 60
UNSIGNED = "dkim:"  # in the name's place: a newsletter whose mail cannot be signed
OWN = "@"  # in the name of a newsletter's own relay, before its slug
DOUBTED = timedelta(days=7)  # a relay that does not keep what it offers


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an issue has come, and what it waits for."""

    counts: Counts
    rate_per_second: float
    seconds_left: int | None  # None: it cannot be told
    waiting: RelayError | None = None

    @property
    def waiting_reason(self) -> str:
        """Say in English why nothing moves; empty if it does."""
        return str(self.waiting) if self.waiting else ""


@dataclass(frozen=True, slots=True)
class Health:
    """News of a relay: its trouble, or that it works again."""

    relay: str
    trouble: RelayError | None = None
    failures: int = 0


def trust(session: Session, name: str, *, now: datetime) -> Trust:
    """Return what is known of a relay; what it did badly is forgotten after a while."""
    row = session.get(RelayTrust, name)
    if row is None or row.learnt_at < now - DOUBTED:
        return Trust()
    return Trust(pipelining=row.pipelining, chunking=row.chunking)


def remember(session: Session, name: str, trust: Trust, *, now: datetime) -> None:
    """Write down what a relay does not keep, for all workers and after a restart."""
    row = session.get(RelayTrust, name) or RelayTrust(name=name)
    row.pipelining, row.chunking = trust.pipelining, trust.chunking
    row.learnt_at = now
    session.add(row)


def back_off_seconds(failures: int) -> float:
    """Return how long to leave a relay alone after so many failures in a row."""
    return float(min(2.0 ** max(failures - 1, 0), LONGEST_WAIT_SECONDS))


def report(session: Session, health: Health, *, now: datetime) -> None:
    """Write down why a relay is not being used, for everyone to see, or that it is."""
    if health.trouble is None:
        session.execute(delete(RelayHealth).where(RelayHealth.name == health.relay))
        return
    row = session.get(RelayHealth, health.relay) or RelayHealth(name=health.relay)
    row.failures = health.failures
    row.blocked_until = now + timedelta(seconds=back_off_seconds(health.failures))
    values = {key: str(value) for key, value in health.trouble.values.items()}
    row.reason = json.dumps({"message": health.trouble.message, "values": values})
    row.updated_at = now
    session.add(row)


def own_name(relay: NewsletterRelay, slug: str) -> str:
    """Name a newsletter's own relay, apart from any other at the same place."""
    return f"{relay.host}:{relay.port}{OWN}{slug}"


def told(row: RelayHealth) -> RelayError:
    """Return what was written down of a relay's trouble."""
    found = json.loads(row.reason)
    values = {
        key: plain_name(value) if key == "relay" else value
        for key, value in found["values"].items()
    }
    return RelayError(found["message"], **values)


def plain_name(name: str) -> str:
    """Return a relay's name as its newsletter knows it."""
    return name.partition(OWN)[0]


def blocked(
    session: Session, newsletter: Newsletter, *, now: datetime
) -> list[RelayHealth]:
    """Return what of that which carries a newsletter's mail cannot be used just now."""
    query = select(RelayHealth).where(RelayHealth.blocked_until > now)
    return _concerning(session, list(session.scalars(query)), newsletter.id)


def trouble(
    session: Session,
    *,
    now: datetime,
    relays: int = 1,
    newsletter_id: int | None = None,
) -> RelayError | None:
    """Return why no mail leaves just now, if that is so; or none of a newsletter's.

    Where one of several has trouble, the others carry its mail. `relays` is how many
    the installation has.
    """
    query = (
        select(RelayHealth)
        .where(RelayHealth.updated_at > now - ALIVE - timedelta(minutes=2))
        .order_by(RelayHealth.updated_at.desc())
    )
    rows = _concerning(session, list(session.scalars(query)), newsletter_id)
    unsigned = [row for row in rows if row.name.startswith(UNSIGNED)]
    down = [row for row in rows if row not in unsigned]
    own = _own(session, newsletter_id)
    if own is not None:
        relays = 1 + relays * own[0].spare
    rows = unsigned if len(down) < relays else down + unsigned
    return told(rows[0]) if rows else None


def pool_of(session: Session, newsletter_id: int | None) -> int:
    """Return by whose relays a newsletter's mail goes: its own, or 0."""
    own = _own(session, newsletter_id)
    return own[0].newsletter_id if own else 0


def _own(
    session: Session, newsletter_id: int | None
) -> tuple[NewsletterRelay, str] | None:
    row = session.execute(
        select(NewsletterRelay, Newsletter.slug)
        .join(Newsletter, Newsletter.id == NewsletterRelay.newsletter_id)
        .where(NewsletterRelay.newsletter_id == newsletter_id, NewsletterRelay.active)
    ).one_or_none()
    return (row[0], row[1]) if row else None


def _concerning(
    session: Session, rows: list[RelayHealth], newsletter_id: int | None
) -> list[RelayHealth]:
    """Leave out what is about other newsletters' relays and keys."""
    if not rows:
        return rows
    own = _own(session, newsletter_id)
    name = own_name(*own) if own else ""
    unsigned = f"{UNSIGNED}{newsletter_id}"
    shared = own is None or own[0].spare

    def concerns(row: RelayHealth) -> bool:
        if row.name.startswith(UNSIGNED):
            return newsletter_id is None or row.name == unsigned
        return row.name == name or (shared and OWN not in row.name)

    return [row for row in rows if concerns(row)]


def beat(
    session: Session,
    name: str,
    rate_per_second: float,
    *,
    pool: int = 0,
    now: datetime,
) -> int:
    """Say that this worker is alive and how fast it sends; return how many are.

    A pool is by whose relays: a newsletter's own, or 0 for the installation's.
    """
    worker = session.get(Worker, name) or Worker(name=name, started_at=now)
    worker.seen_at, worker.pool = now, pool
    worker.rate_per_second = rate_per_second
    session.add(worker)
    session.execute(delete(Worker).where(Worker.seen_at < now - FORGOTTEN))
    session.flush()
    return live_workers(session, pool=pool, now=now)


def sign_off(session: Session, name: str) -> None:
    """Say that this worker has stopped."""
    session.execute(delete(Worker).where(Worker.name == name))


def live_workers(session: Session, *, pool: int = 0, now: datetime) -> int:
    """Count the workers seen lately, or those that send by a newsletter's own relay."""
    found = session.scalar(
        select(func.count())
        .select_from(Worker)
        .where(Worker.seen_at > now - ALIVE, Worker.pool == pool)
    )
    return found or 0


def rate(session: Session, *, pool: int = 0, now: datetime) -> float:
    """Return how many messages a second all workers of a pool send together."""
    found = session.scalar(
        select(func.sum(Worker.rate_per_second)).where(
            Worker.seen_at > now - ALIVE, Worker.pool == pool
        )
    )
    return round(found or 0.0, 1)


def progress(
    session: Session, issue_id: int, now: datetime, *, relays: int = 1
) -> Progress:
    """Return how far an issue has come."""
    counts = ledger.counts(session, issue_id=issue_id)
    issue = session.get(Issue, issue_id)
    pool = pool_of(session, issue.newsletter_id if issue else None)
    speed = rate(session, pool=pool, now=now)
    ready = counts.queued + counts.claimed
    seconds = round(ready / speed) if speed and ready else 0
    newsletter_id = _open_newsletter(session, issue_id) if ready else None
    return Progress(
        counts=counts,
        rate_per_second=speed,
        seconds_left=seconds if speed or not counts.left else None,
        waiting=_waiting(session, now, relays, newsletter_id),
    )


def _waiting(
    session: Session, now: datetime, relays: int, newsletter_id: int | None
) -> RelayError | None:
    if newsletter_id is None:
        return None
    if not live_workers(session, now=now):
        return RelayError(N_("Nothing is sending. Start a worker: `work`."))
    return trouble(session, now=now, relays=relays, newsletter_id=newsletter_id)


def _open_newsletter(session: Session, issue_id: int) -> int | None:
    """Return the newsletter of an issue that is being sent, if it is."""
    return session.scalar(
        select(Message.newsletter_id)
        .where(Message.issue_id == issue_id, Message.state == MessageState.OPEN)
        .limit(1)
    )
