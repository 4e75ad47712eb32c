"""A reader's own choices: rhythm, topics, language, a pause."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.errors import N_, Conflict, InvalidInput, InvalidLink
from newsletter.models import Status, Subscription
from newsletter.subscribers import choices, consent
from newsletter.subscribers.consent import Origin
from newsletter.subscribers.leaving import WELL_FORMED, find_by_former_token

MAX_PAUSE_DAYS = 366


def find_by_preferences_token(session: Session, token: str) -> Subscription:
    """Return the subscription whose choices a link opens. Raises InvalidLink."""
    if WELL_FORMED.fullmatch(token):
        query = select(Subscription).where(Subscription.preferences_token == token)
        found = session.scalar(query)
        found = found or find_by_former_token(session, token, "preferences")
        if found:
            return found
    raise InvalidLink(N_("This link no longer leads to a subscription."))


def change(
    session: Session,
    subscription: Subscription,
    *,
    rhythm: str | None = None,
    language: str | None = None,
    topics: Sequence[str] | None = None,
    all_topics: bool | None = None,
    origin: Origin,
    now: datetime,
) -> None:
    """Change what is given and leave the rest; record it if anything differs.

    `all_topics` true takes every topic, also those yet to come; else `topics` (slugs)
    are the ones chosen. Raises InvalidInput naming the field.
    """
    newsletter = subscription.newsletter
    before = _chosen(session, subscription)
    if rhythm is not None and rhythm != subscription.rhythm:
        subscription.rhythm = choices.check_rhythm(newsletter, rhythm)
    if language is not None and language != subscription.language:
        subscription.language = choices.check_language(newsletter, language)
    if all_topics:
        choices.set_topics(session, subscription, None)
    elif topics is not None:
        topic_ids = choices.check_topics(session, newsletter, topics)
        choices.set_topics(session, subscription, topic_ids)
    after = _chosen(session, subscription)
    detail = {k: [before[k], after[k]] for k in after if before[k] != after[k]}
    if detail:
        consent.record(
            session, subscription, consent.CHANGED, origin, now=now, detail=detail
        )


def pause(
    session: Session,
    subscription: Subscription,
    until: datetime,
    *,
    origin: Origin,
    now: datetime,
) -> None:
    """Send nothing until a day, a year ahead at most.

    Nothing is lost: what came meanwhile stands in the first digest after.

    Raises InvalidInput for a day that has passed or is too far off, Conflict if there
    is no subscription to pause.
    """
    if until <= now:
        raise InvalidInput(N_("Choose a day that lies ahead."), field="until")
    if until > now + timedelta(days=MAX_PAUSE_DAYS):
        raise InvalidInput(N_("A pause can last a year at most."), field="until")
    if subscription.status not in (Status.ACTIVE, Status.PAUSED):
        raise Conflict(N_("There is no subscription to pause."))
    subscription.status = Status.PAUSED
    subscription.paused_until = until
    session.flush()
    detail = {"until": until.isoformat()}
    consent.record(
        session, subscription, consent.PAUSED, origin, now=now, detail=detail
    )


def resume(
    session: Session, subscription: Subscription, *, origin: Origin, now: datetime
) -> None:
    """End a pause. Safe to call twice."""
    if subscription.status != Status.PAUSED:
        return
    subscription.status = Status.ACTIVE
    subscription.paused_until = None
    session.flush()
    consent.record(session, subscription, consent.RESUMED, origin, now=now)


def resume_paused(session: Session, *, now: datetime, limit: int = 1000) -> int:
    """End the pauses whose day has come; return how many.

    At most `limit` at a time: call again while it returns that many.
    """
    due = session.scalars(
        select(Subscription)
        .where(Subscription.status == Status.PAUSED, Subscription.paused_until <= now)
        .order_by(Subscription.id)
        .limit(limit)
        .with_for_update(of=Subscription, skip_locked=True, key_share=True)
    ).all()
    for subscription in due:
        resume(session, subscription, origin=Origin(page="clock"), now=now)
    return len(due)


def _chosen(session: Session, subscription: Subscription) -> dict[str, Any]:
    return {
        "rhythm": subscription.rhythm,
        "language": subscription.language,
        "topics": choices.chosen_topics(session, subscription),
    }
