"""Readers from a file: refused with a reason, or added, some hundred at a time.

What a person decided beats a file: who left stays gone, who is suppressed or erased is
not brought back, who subscribes already keeps their own choices.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.audit import recording
from newsletter.config import Settings
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import (
    Consent,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Suppression,
)
from newsletter.subscribers import asking, choices, consent, starting
from newsletter.subscribers.addresses import Address, address_hash, read_address
from newsletter.subscribers.sheets import Line

MAX_REFUSALS_KEPT = 10_000
# What other services and we ourselves call people who are not to be mailed.
GONE = {
    *("left", "suppressed", "unsubscribed", "blocklisted", "bounced", "complained"),
    *("cleaned", "deleted", "avslutad", "spam", "unreachable"),
}
Outcome = Literal["added", "already", "left", "suppressed"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not imported, and why; the reason is a translatable error."""

    line: int
    email: str
    error: InkorgError


@dataclass(slots=True)
class Report:
    """What an import did."""

    added: int = 0
    already: int = 0  # subscribed or asked before: untouched
    left: int = 0  # had left: stays gone
    suppressed: int = 0  # not to be mailed, or erased
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)  # the first ten thousand

    def refuse(self, refusal: Refusal) -> None:
        """Count a refused line."""
        self.refused += 1
        if len(self.refusals) < MAX_REFUSALS_KEPT:
            self.refusals.append(refusal)


@dataclass(frozen=True, slots=True)
class _Reader:
    """A line that was understood."""

    address: Address
    hashed: str
    name: str
    rhythm: str
    language: str
    topic_ids: tuple[int, ...] | None


def import_lines(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    lines: Sequence[Line],
    *,
    status: Status,
    source: str,
    report: Report,
    now: datetime,
) -> None:
    """Import one batch and add what happened to `report`. Safe to repeat.

    `status` ACTIVE adds readers whose consent the importer vouches for, `source` saying
    where it came from; PENDING sends each a confirmation mail.
    """
    recording.leave_out(session, "reader", "suppression")
    readers = _understood(session, settings, newsletter, lines, report)
    ids = _subscriber_ids(session, readers, now, add=False)
    known = _known_statuses(session, newsletter, ids.values())
    forbidden = _suppressed(session, newsletter, [r.hashed for r in readers.values()])
    fresh: dict[str, _Reader] = {}
    for key, reader in readers.items():
        standing = known.get(ids.get(key, 0))
        if standing == Status.LEFT:
            report.left += 1
        elif standing == Status.SUPPRESSED or reader.hashed in forbidden:
            report.suppressed += 1
        elif standing is not None:
            report.already += 1
        else:
            fresh[key] = reader
    _add(session, settings, newsletter, fresh, status, source, now)
    report.added += len(fresh)


def _understood(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    lines: Sequence[Line],
    report: Report,
) -> dict[str, _Reader]:
    topics = {
        name.casefold(): topic.id
        for topic in choices.offered_topics(session, newsletter)
        for name in (topic.slug, topic.name)
    }
    found: dict[str, _Reader] = {}
    for line in lines:
        try:
            reader = _understand(settings, newsletter, line, topics)
        except InvalidInput as error:
            report.refuse(Refusal(line.number, line.cells["email"][:254], error))
            continue
        if reader.address.key in found:
            report.already += 1
        else:
            found[reader.address.key] = reader
    return found


def _understand(
    settings: Settings, newsletter: Newsletter, line: Line, topics: dict[str, int]
) -> _Reader:
    cells = line.cells
    address = read_address(cells["email"], trial=settings.demo)
    if cells.get("status", "").casefold() in GONE:
        raise InvalidInput(
            N_("The file says %(status)s: they do not want mail."),
            status=cells["status"][:40],
        )
    name = cells.get("name", "")
    if len(name) > 200 or not name.isprintable():
        raise InvalidInput(N_("The name is longer than 200 characters, or broken."))
    rhythm = cells.get("rhythm") or newsletter.default_rhythm
    language = cells.get("language") or newsletter.language
    return _Reader(
        address,
        address_hash(settings, address.key),
        name,
        choices.check_rhythm(newsletter, rhythm),
        choices.check_language(newsletter, language),
        _topic_ids(cells.get("topics", ""), topics),
    )


def _topic_ids(cell: str, topics: dict[str, int]) -> tuple[int, ...] | None:
    if not cell or cell.casefold() == "all":
        return None
    if cell.casefold() == "none":
        return ()
    names = [cell] if cell.casefold() in topics else re.split(r"[\s,;|]+", cell)
    unknown = [name for name in names if name.casefold() not in topics]
    if unknown:
        raise InvalidInput(
            N_("There is no topic called %(name)s."), name=unknown[0][:80]
        )
    return tuple(sorted({topics[name.casefold()] for name in names}))


def _subscriber_ids(
    session: Session, readers: dict[str, _Reader], now: datetime, *, add: bool
) -> dict[str, int]:
    if add and readers:
        session.execute(
            consent.upsert(session, Subscriber).on_conflict_do_nothing(
                index_elements=["email_key"]
            ),
            [
                {
                    "email": reader.address.email,
                    "email_key": key,
                    "address_hash": reader.hashed,
                    "name": reader.name,
                    "created_at": now,
                }
                for key, reader in readers.items()
            ],
        )
    query = select(Subscriber.email_key, Subscriber.id)
    rows = session.execute(query.where(Subscriber.email_key.in_(list(readers))))
    return {row.email_key: row.id for row in rows}


def _known_statuses(
    session: Session, newsletter: Newsletter, subscriber_ids: Iterable[int]
) -> dict[int, Status]:
    query = select(Subscription.subscriber_id, Subscription.status).where(
        Subscription.newsletter_id == newsletter.id,
        Subscription.subscriber_id.in_(list(subscriber_ids)),
    )
    return {row.subscriber_id: row.status for row in session.execute(query)}


def _suppressed(
    session: Session, newsletter: Newsletter, hashes: list[str]
) -> set[str]:
    query = select(Suppression.address_hash).where(
        Suppression.address_hash.in_(hashes),
        (Suppression.newsletter_id == newsletter.id)
        | Suppression.newsletter_id.is_(None),
    )
    return set(session.scalars(query))


def _add(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    readers: dict[str, _Reader],
    status: Status,
    source: str,
    now: datetime,
) -> None:
    """Write subscribers, subscriptions, topics and consents, a statement for each."""
    if not readers:
        return
    ids = _subscriber_ids(session, readers, now, add=True)
    positions = {
        rhythm: starting.starting_position(session, newsletter, rhythm)
        for rhythm in {reader.rhythm for reader in readers.values()}
    }
    active = status == Status.ACTIVE
    session.execute(
        consent.upsert(session, Subscription).on_conflict_do_nothing(
            index_elements=["newsletter_id", "subscriber_id"]
        ),
        [
            {
                "newsletter_id": newsletter.id,
                "subscriber_id": ids[key],
                "status": status,
                "language": reader.language,
                "rhythm": reader.rhythm,
                "all_topics": reader.topic_ids is None,
                "cursor": positions[reader.rhythm] if active else 0,
                "leave_token": links.new_token(),
                "preferences_token": links.new_token(),
                "round": 0,
                "source": source[:200],
                "requested_at": now,
                "confirmed_at": now if active else None,
                "created_at": now,
            }
            for key, reader in readers.items()
        ],
    )
    subscriptions = _subscription_ids(session, newsletter, readers, ids)
    detail = {"source": source, "status": status.value}
    _write(session, Consent, _consent_rows(subscriptions.values(), detail, now))
    _write(session, SubscriptionTopic, _topic_rows(readers, subscriptions))
    if not active:
        for subscription_id in subscriptions.values():
            asking.ask_imported(session, settings, subscription_id, now=now)


def _subscription_ids(
    session: Session,
    newsletter: Newsletter,
    readers: dict[str, _Reader],
    subscriber_ids: dict[str, int],
) -> dict[str, int]:
    query = select(Subscription.subscriber_id, Subscription.id).where(
        Subscription.newsletter_id == newsletter.id,
        Subscription.subscriber_id.in_([subscriber_ids[key] for key in readers]),
    )
    by_subscriber = {row.subscriber_id: row.id for row in session.execute(query)}
    return {key: by_subscriber[subscriber_ids[key]] for key in readers}


def _consent_rows(
    ids: Iterable[int], detail: dict[str, Any], now: datetime
) -> list[dict[str, Any]]:
    return [
        {
            "subscription_id": subscription_id,
            "event": consent.IMPORTED,
            "at": now,
            "page": "import",
            "network": "",
            "detail": detail,
        }
        for subscription_id in ids
    ]


def _topic_rows(
    readers: dict[str, _Reader], subscriptions: dict[str, int]
) -> list[dict[str, Any]]:
    return [
        {"subscription_id": subscriptions[key], "topic_id": topic_id}
        for key, reader in readers.items()
        for topic_id in reader.topic_ids or ()
    ]


def _write(session: Session, model: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(model), rows)
