"""Putting mail in the ledger, in the transaction of its cause.

Queueing is safe to repeat: an occasion ("issue:12", "confirm:55:1") reaches an address
once, whatever calls twice. What becomes of a delivery afterwards is `ledger.py`'s.
"""

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Select,
    delete,
    literal,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from newsletter.db import count_anew
from newsletter.mail import headers, mime
from newsletter.mail.ledger import BULK, SINGLE
from newsletter.models import (
    ClaimMark,
    Delivery,
    DeliveryState,
    Message,
    MessageState,
)

MANY = 1_000  # new readers after which PostgreSQL counts anew


def queue_single(
    session: Session,
    letter: mime.Letter,
    *,
    address: str,
    occasion: str,
    now: datetime,
    subscription_id: int | None = None,
    newsletter_id: int | None = None,
) -> int | None:
    """Queue a mail to one address; return its delivery's id.

    None if that occasion has a mail to that address already.
    Raises InvalidInput for an address or a letter that cannot be mailed.
    """
    address = headers.checked_address(address)
    if session.scalar(
        select(Delivery.id).where(
            Delivery.occasion == occasion, Delivery.address == address
        )
    ):
        return None
    message = _store(session, letter, lane=SINGLE, newsletter_id=newsletter_id, now=now)
    delivery_id: int | None = session.scalar(
        _insert_delivery(session)
        .values(
            message_id=message.id,
            subscription_id=subscription_id,
            occasion=occasion,
            address=address,
            lane=SINGLE,
            state=DeliveryState.QUEUED,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["occasion", "address"])
        .returning(Delivery.id)
    )
    if delivery_id is None:  # someone else was first, between the question and now
        session.execute(delete(Message).where(Message.id == message.id))
        session.expunge(message)
    return delivery_id


def store_edition(
    session: Session,
    letter: mime.Letter,
    *,
    issue_id: int,
    newsletter_id: int,
    edition: str,
    view_token: str | None = None,
    sent: mime.Letter | None = None,
    now: datetime,
) -> Message:
    """Freeze an edition of an issue; nobody gets it before `queue_readers`.

    `view_token` is in the address at which its mails say it can be read on the web.
    `sent` is the letter as readers get it, where that is not what is kept to be shown.
    """
    message = _store(
        session,
        letter,
        sent=sent,
        lane=BULK,
        newsletter_id=newsletter_id,
        now=now,
        issue_id=issue_id,
        edition=edition,
        view_token=view_token,
    )
    session.add(ClaimMark(message_id=message.id))
    session.flush()
    return message


def queue_readers(
    session: Session,
    message: Message,
    audience: Select[*tuple[Any, ...]],
    *,
    occasion: str,
    now: datetime,
) -> int:
    """Write one line of the ledger for each reader; return how many are new.

    `audience` selects `subscription_id` and `address`.
    """
    readers = audience.subquery("of_one")
    of_one = select(_value(Delivery.message_id, message.id).label("number"), *readers.c)
    return queue_audience(
        session, of_one, lane=message.lane, occasion=occasion, now=now
    )


def queue_audience(
    session: Session,
    audience: Select[*tuple[Any, ...]],
    *,
    lane: int = BULK,
    occasion: str,
    now: datetime,
) -> int:
    """Write one line of the ledger for each reader of some messages; return how many.

    `audience` selects `number` (the message's id), `subscription_id` and `address`. One
    statement, so that a million readers cost seconds, and no reader of the ledger ever
    sees half of them.
    """
    readers = audience.subquery("readers_of")
    columns: dict[str, ColumnElement[Any]] = {
        "message_id": readers.c.number,
        "subscription_id": readers.c.subscription_id,
        "occasion": _value(Delivery.occasion, occasion),
        "address": readers.c.address,
        "lane": _value(Delivery.lane, lane),
        "state": _value(Delivery.state, DeliveryState.QUEUED),
        "attempts": _value(Delivery.attempts, 0),
        "resent": _value(Delivery.resent, False),
        "created_at": _value(Delivery.created_at, now),
    }
    # SQLite cannot tell ON CONFLICT from a join's ON without a WHERE before it.
    rows = select(*columns.values()).select_from(readers).where(true())
    statement = (
        _insert_delivery(session)
        .from_select(list(columns), rows, include_defaults=False)
        .on_conflict_do_nothing(index_elements=["occasion", "address"])
    )
    result = session.execute(statement, execution_options={"preserve_rowcount": True})
    assert isinstance(result, CursorResult)  # noqa: S101 (for the type checker)
    if result.rowcount >= MANY:
        count_anew(session, "delivery")
    return result.rowcount


def _store(
    session: Session,
    letter: mime.Letter,
    *,
    sent: mime.Letter | None = None,
    lane: int,
    now: datetime,
    **values: Any,
) -> Message:
    frozen = mime.freeze(sent or letter)
    message = Message(
        kind=letter.kind,
        state=MessageState.OPEN,
        lane=lane,
        language=letter.language,
        subject=headers.safe_text(letter.subject, headers.SUBJECT_LIMIT),
        sender=letter.sender,
        preview_text=letter.preview_text,
        nonce=secrets.token_hex(8),
        html=mime.without_fields(letter.html),
        text=mime.without_fields(letter.text),
        frozen=frozen.pack(),
        size_bytes=frozen.size,
        created_at=now,
        **values,
    )
    session.add(message)
    session.flush()
    return message


def _insert_delivery(session: Session) -> Any:
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(Delivery)
    return postgresql.insert(Delivery)


def _value(column: Any, value: Any) -> ColumnElement[Any]:
    return literal(value, column.type)
