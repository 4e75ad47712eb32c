"""Readers as rows of a file that a spreadsheet may open."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from newsletter.models import (
    Consent,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Suppression,
    Topic,
    Wording,
)
from newsletter.subscribers import suppression
from newsletter.subscribers.directory import export_batches, search

COLUMNS = (
    *("email", "name", "status", "rhythm", "language", "topics"),
    *("requested_at", "confirmed_at", "left_at", "source"),
)
SUPPRESSION_COLUMNS = ("hash", "email", "reason", "scope", "note", "since")
CONSENT_COLUMNS = ("email", "step", "at", "page", "network", "wording", "detail")
BATCH = 1000
# A cell that begins so would be a formula (CSV injection, SEC-22).
FORMULA_STARTS = tuple("=+-@\t\r＝＋－＠")
_TO_QUOTE = (*FORMULA_STARTS, "'")


def export_rows(
    session: Session, newsletter: Newsletter, status: Status | None = None
) -> Iterator[dict[str, str]]:
    """Yield one row for each subscription, by address; the cells are raw."""
    for batch in export_batches(session, newsletter, status):
        yield from _rows(session, batch)


def found_rows(
    session: Session,
    newsletter: Newsletter,
    *,
    text: str,
    status: Status | None,
    conditions: Sequence[ColumnElement[bool]],
) -> Iterator[dict[str, str]]:
    """Yield one row for each subscription that `directory.search` finds, as it does."""
    after: int | None = None
    while True:
        page = search(
            session,
            newsletter,
            text=text,
            status=status,
            conditions=conditions,
            after=after,
            limit=BATCH,
        )
        yield from _rows(session, page.subscriptions)
        for one in page.subscriptions:
            session.expunge(one)
        after = page.next_after
        if after is None:
            return


def suppression_rows(
    session: Session, newsletter: Newsletter
) -> Iterator[tuple[str, ...]]:
    """Yield who is not to be mailed: of those we do not know, only the keyed hash."""
    yield SUPPRESSION_COLUMNS
    known = suppression.is_subscriber(session, Suppression.address_hash)
    after = 0
    while True:
        query = (
            select(Suppression, Subscriber.email)
            .outerjoin(Subscriber, known)
            .where(
                Suppression.id > after,
                (Suppression.newsletter_id == newsletter.id)
                | Suppression.newsletter_id.is_(None),
            )
            .order_by(Suppression.id)
            .limit(BATCH)
        )
        found = session.execute(query).all()
        for row, email in found:
            scope = "newsletter" if row.newsletter_id else "everywhere"
            said = row.reason, scope, row.note, row.created_at.isoformat()
            yield row.address_hash, email or "", *said
            session.expunge(row)
        if len(found) < BATCH:
            return
        after = found[-1][0].id


def consent_rows(session: Session, newsletter: Newsletter) -> Iterator[tuple[str, ...]]:
    """Yield each step of each consent, in the order they were written down."""
    yield CONSENT_COLUMNS
    after = 0
    while True:
        query = (
            select(Consent, Subscriber.email, Wording.text)
            .join(Subscription, Subscription.id == Consent.subscription_id)
            .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
            .outerjoin(Wording, Wording.id == Consent.wording_id)
            .where(Consent.id > after, Subscription.newsletter_id == newsletter.id)
            .order_by(Consent.id)
            .limit(BATCH)
        )
        found = session.execute(query).all()
        for step, email, wording in found:
            detail = json.dumps(step.detail, ensure_ascii=False)
            said = step.page, step.network, wording or "", detail
            yield email, step.event, step.at.isoformat(), *said
            session.expunge(step)
        if len(found) < BATCH:
            return
        after = found[-1][0].id


def csv_lines(rows: Iterator[dict[str, str]]) -> Iterator[str]:
    """Write rows as CSV, line by line; no cell can become a formula."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    yield _taken(buffer)
    for row in rows:
        writer.writerow({name: neutral(text) for name, text in row.items()})
        yield _taken(buffer)


def table_lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write rows of cells as CSV, line by line; no cell can become a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for row in rows:
        writer.writerow([neutral(cell) for cell in row])
        yield _taken(buffer)


def neutral(cell: str) -> str:
    """Return a cell that a spreadsheet takes for text. `plain` takes it back."""
    return f"'{cell}" if cell.startswith(_TO_QUOTE) else cell


def plain(cell: str) -> str:
    """Return what a cell was before `neutral`."""
    quoted = cell.startswith("'") and cell[1:].startswith(_TO_QUOTE)
    return cell[1:] if quoted else cell


def _rows(session: Session, batch: Sequence[Subscription]) -> Iterator[dict[str, str]]:
    topics = _topics(session, [s.id for s in batch if not s.all_topics])
    for subscription in batch:
        chosen = topics.get(subscription.id, [])
        yield _row(subscription, "" if subscription.all_topics else chosen)


def _row(subscription: Subscription, topics: list[str] | str) -> dict[str, str]:
    subscriber = subscription.subscriber
    moments: dict[str, Any] = {
        "requested_at": subscription.requested_at,
        "confirmed_at": subscription.confirmed_at,
        "left_at": subscription.left_at,
    }
    return {
        "email": subscriber.email,
        "name": subscriber.name,
        "status": subscription.status.value,
        "rhythm": subscription.rhythm,
        "language": subscription.language,
        # A reader of no topic at all is not a reader of every topic.
        "topics": topics if isinstance(topics, str) else " ".join(topics) or "none",
        **{name: at.isoformat() if at else "" for name, at in moments.items()},
        "source": subscription.source,
    }


def _topics(session: Session, ids: list[int]) -> dict[int, list[str]]:
    query = (
        select(SubscriptionTopic.subscription_id, Topic.slug)
        .join(Topic, Topic.id == SubscriptionTopic.topic_id)
        .where(SubscriptionTopic.subscription_id.in_(ids))
        .order_by(Topic.slug)
    )
    found: dict[int, list[str]] = {}
    for subscription_id, slug in session.execute(query):
        found.setdefault(subscription_id, []).append(slug)
    return found


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
