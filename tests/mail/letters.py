"""Letters and issues for the tests of mail."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.mail import mime, outbox
from newsletter.models import (
    Issue,
    IssueState,
    Kind,
    Message,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
)
from tests.factories import NOW

LEAVE_URL = f"https://post.example/unsubscribe/{mime.LEAVE}"


def make_letter(kind: Kind = Kind.DIGEST, **over: Any) -> mime.Letter:
    """Write a short letter like a digest."""
    values: dict[str, Any] = {
        "kind": kind,
        "language": "sv",
        "subject": "Nya inlägg från Innovationslabbet",
        "from_name": "Innovationslabbet",
        "from_email": "labbet@allmannyttan.example",
        "text": f"En egen kväll för tjejer.\n\nSluta få utskicket: {LEAVE_URL}\n",
        "html": f'<p>En egen kväll för tjejer.</p><a href="{LEAVE_URL}">Sluta</a>',
        "list_id": "labbet.post.example",
        "list_name": "Allmännyttans innovationslabb",
        "leave_url": LEAVE_URL,
        "archive_url": "https://post.example/labbet/issues/",
        "feedback_id": "i1:labbet:digest:inkorg",
    }
    return mime.Letter(**{**values, **over})


def make_issue(session: Session, newsletter: Newsletter) -> Issue:
    """Create an issue that is going out."""
    newsletter.last_number += 1
    issue = Issue(
        newsletter_id=newsletter.id,
        number=newsletter.last_number,
        state=IssueState.SENDING,
        created_at=NOW,
    )
    session.add(issue)
    session.flush()
    return issue


def queue_issue(session: Session, newsletter: Newsletter, **over: Any) -> Message:
    """Queue an issue to every active reader."""
    issue = make_issue(session, newsletter)
    message = outbox.store_edition(
        session,
        make_letter(**over),
        issue_id=issue.id,
        newsletter_id=newsletter.id,
        edition="sv",
        now=NOW,
    )
    audience = (
        select(
            Subscription.id.label("subscription_id"), Subscriber.email.label("address")
        )
        .join(Subscriber)
        .where(
            Subscription.newsletter_id == newsletter.id,
            Subscription.status == Status.ACTIVE,
        )
        .order_by(Subscription.id)  # tests know them by number
    )
    issue.total = outbox.queue_readers(
        session, message, audience, occasion=f"issue:{issue.id}", now=NOW
    )
    session.flush()
    return message
