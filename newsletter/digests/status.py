"""How far an issue has come, in figures: the contract's and a little more."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.digests import telling
from newsletter.i18n import Language
from newsletter.mail import ledger, relays
from newsletter.models import Issue


def status(
    session: Session,
    issue: Issue,
    *,
    words: Language | None = None,
    relay_count: int = 1,
    now: datetime,
) -> dict[str, Any]:
    """Return an issue's state and figures; keys are the contract's.

    `queued` holds those being handed over as well. `sent` holds those who complained
    later. `seconds_left` is null where it cannot be told. `waiting_reason` is English,
    or in `words`' language. `next_attempt_at` is when a deferred one is tried again.
    """
    progress = relays.progress(session, issue.id, now, relays=relay_count)
    counts = progress.counts
    next_attempt = None
    if counts.deferred:
        next_attempt = ledger.next_attempt(session, issue_id=issue.id)
    waiting = progress.waiting_reason
    if words and progress.waiting:
        waiting = words.error(progress.waiting)
    return {
        "id": issue.id,
        "number": issue.number,
        "state": issue.state.value,
        "rhythm": issue.rhythm,
        "held_because": telling.held_because(
            issue, words or i18n.language(i18n.SOURCE)
        ),
        "total": issue.total,
        "queued": counts.queued + counts.claimed,
        "sent": counts.sent + counts.complained,
        "deferred": counts.deferred,
        "bounced": counts.bounced,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "complained": counts.complained,
        "resent": counts.resent,
        # The pace is all workers' together: before a send it is that of other mail.
        "rate_per_second": progress.rate_per_second if issue.started_at else 0.0,
        "seconds_left": progress.seconds_left,
        "waiting_reason": waiting,
        "next_attempt_at": next_attempt,
        "scheduled_at": issue.scheduled_at,
        "started_at": issue.started_at,
        "finished_at": issue.finished_at,
    }
