"""Stopping a reader's mail by hand and lifting the stop, each with a reason.

Who may be a reader again without being asked depends on whose wish the stop was:

    reason               whose wish      lifted by an editor
    bounced, other       nobody's        a reader again: what they agreed to stands
    left                 the reader's    may be asked again, and then has to confirm
    never, complained    the reader's    not at all: mailing them is what they forbade

Consent that was taken back is not given anew by anybody else (GDPR 7(3)), and mailbox
providers count a second complaint against every other reader's mail.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from newsletter.errors import N_, Conflict, InvalidInput
from newsletter.models import Consent, Status, Subscription, Suppression
from newsletter.subscribers import consent, starting, suppression
from newsletter.subscribers.consent import Origin

REASONS = (
    suppression.LEFT,
    suppression.NEVER,
    suppression.BOUNCED,
    suppression.COMPLAINED,
    suppression.OTHER,
)
# The reader said nothing: what they agreed to still stands.
NOBODYS_WISH = frozenset({suppression.BOUNCED, suppression.OTHER})
MAX_WORDS = 500
SLIP = timedelta(hours=1)  # undone within it, a stop or its lifting was a mistake
WAS = {status.value: status for status in (Status.ACTIVE, Status.PENDING)}


def stop(
    session: Session,
    subscription: Subscription,
    *,
    reason: str,
    words: str,
    by: str,
    now: datetime,
) -> None:
    """Stop a newsletter's mail to a reader; `by` is the editor's address.

    Raises InvalidInput if there is no such reason, or if OTHER comes without words.
    """
    words = words.strip()[:MAX_WORDS]
    if reason not in REASONS:
        raise InvalidInput(N_("Choose why the mail is to stop."), field="reason")
    if reason == suppression.OTHER and not words:
        raise InvalidInput(
            N_("Write why: somebody will want to know one day."), field="words"
        )
    suppression.suppress(
        session,
        subscription.subscriber.address_hash,
        reason=reason,
        newsletter_id=subscription.newsletter_id,
        note=f"{by}: {words}" if words else by,
        now=now,
        detail={"by": by, **({"words": words} if words else {})},
    )


def lift(
    session: Session,
    subscription: Subscription,
    *,
    words: str,
    by: str,
    now: datetime,
) -> Status:
    """Let mail go to a reader again; return where the subscription stands then.

    Raises InvalidInput without words, Conflict if only the reader could undo it.
    """
    words = words.strip()[:MAX_WORDS]
    if not words:
        raise InvalidInput(
            N_("Write why the stop is lifted: you may have to show it one day."),
            field="words",
        )
    reasons = why_stopped(session, subscription)
    if reasons & suppression.SILENT:
        raise Conflict(
            N_(
                "They said never again, or reported the mail as spam. Nobody here can"
                " take that back for them; with another address they can sign up anew."
            )
        )
    suppression.lift(
        session, subscription.subscriber.address_hash, subscription.newsletter_id
    )
    status = _standing(session, subscription, reasons)
    subscription.status = status
    if status is Status.LEFT and subscription.left_at is None:
        subscription.left_at = now
    if status is Status.ACTIVE:
        begin = starting.starting_position(
            session, subscription.newsletter, subscription.rhythm
        )
        subscription.cursor = max(subscription.cursor, begin)
    session.flush()
    consent.record(
        session,
        subscription,
        consent.LIFTED,
        Origin(),
        now=now,
        detail={
            "by": by,
            "words": words,
            "reasons": sorted(reasons),
            "status": status.value,
        },
    )
    session.flush()
    return status


def standing(session: Session, subscription: Subscription) -> dict[str, Any]:
    """Return how a reader stands, for `undo_stop` and `undo_lift`: JSON."""
    here = select(Suppression.reason).where(*_stored_here(subscription))
    return {
        "subscription": subscription.id,
        "status": subscription.status.value,
        "reasons": sorted(session.scalars(here)),
    }


def undo_stop(
    session: Session,
    subscription: Subscription,
    was: Mapping[str, Any],
    *,
    by: str,
    now: datetime,
) -> None:
    """Take a stop back that this editor made within the hour: it was a slip.

    What an issue being sent has left out meanwhile stays left out; the next one has it.
    Raises Conflict if something else stopped or lifted it since.
    """
    said = _last_step(session, subscription, consent.SUPPRESSED, by, now)
    session.execute(delete(Suppression).where(*_stored_here(subscription)))
    _as_it_was(session, subscription, was, by, now)
    detail = {
        "by": by,
        "reasons": [str(said.get("reason", ""))],
        "status": subscription.status.value,
        "undone": "1",
    }
    consent.record(
        session, subscription, consent.LIFTED, Origin(), now=now, detail=detail
    )
    session.flush()


def undo_lift(
    session: Session,
    subscription: Subscription,
    was: Mapping[str, Any],
    *,
    by: str,
    now: datetime,
) -> None:
    """Stop again what this editor lifted within the hour. Raises Conflict."""
    said = _last_step(session, subscription, consent.LIFTED, by, now)
    for reason in said.get("reasons", []):
        suppression.suppress(
            session,
            subscription.subscriber.address_hash,
            reason=str(reason),
            newsletter_id=subscription.newsletter_id,
            note=by,
            now=now,
            detail={"by": by, "undone": "1"},
        )
    _as_it_was(session, subscription, was, by, now)


def _as_it_was(
    session: Session,
    subscription: Subscription,
    was: Mapping[str, Any],
    by: str,
    now: datetime,
) -> None:
    for reason in was["reasons"]:
        suppression.remember(
            session,
            subscription.subscriber.address_hash,
            reason=str(reason),
            newsletter_id=subscription.newsletter_id,
            note=by,
            now=now,
        )
    subscription.status = Status(was["status"])
    session.flush()


def _stored_here(subscription: Subscription) -> tuple[ColumnElement[bool], ...]:
    return (
        Suppression.address_hash == subscription.subscriber.address_hash,
        Suppression.newsletter_id == subscription.newsletter_id,
    )


def _last_step(
    session: Session, subscription: Subscription, event: str, by: str, now: datetime
) -> dict[str, Any]:
    """Return what the latest step of the history says, if it is the one to undo."""
    query = select(Consent).where(Consent.subscription_id == subscription.id)
    last = session.scalar(query.order_by(Consent.id.desc()).limit(1))
    if (
        last is None
        or last.event != event
        or last.detail.get("by") != by
        or last.at <= now - SLIP
    ):
        raise Conflict(N_("Something else has happened since. See their history."))
    return dict(last.detail)


def why_stopped(session: Session, subscription: Subscription) -> set[str]:
    """Return why a reader gets no mail: empty if nothing stops it."""
    found = suppression.reasons(
        session, subscription.subscriber.address_hash, subscription.newsletter_id
    )
    if subscription.status is Status.SUPPRESSED and not found:
        # Lifted for another newsletter; here it stands.
        found = {_last_stop(session, subscription).get("reason", suppression.OTHER)}
    return found


def _standing(
    session: Session, subscription: Subscription, reasons: set[str]
) -> Status:
    """Return where a subscription stands once nothing stops its mail."""
    if subscription.status is not Status.SUPPRESSED:
        return subscription.status
    if not reasons <= NOBODYS_WISH:
        return Status.LEFT
    known = Status.ACTIVE if subscription.confirmed_at else Status.PENDING
    was = str(_last_stop(session, subscription).get("was", known.value))
    return Status.ACTIVE if was == Status.PAUSED else WAS.get(was, Status.LEFT)


def _last_stop(session: Session, subscription: Subscription) -> dict[str, str]:
    query = select(Consent.detail).where(
        Consent.subscription_id == subscription.id,
        Consent.event == consent.SUPPRESSED,
    )
    return session.scalar(query.order_by(Consent.id.desc()).limit(1)) or {}
