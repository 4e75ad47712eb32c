"""Plain functions that make things, with sensible values for what a test leaves out."""

from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy.orm import Session

from newsletter import links, newsletters
from newsletter.models import (
    Author,
    Newsletter,
    Post,
    PostState,
    Status,
    Subscriber,
    Subscription,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_numbers = count(1)


def make_newsletter(session: Session, slug: str = "labbet", **over: Any) -> Newsletter:
    """Create a newsletter like the first user's."""
    values: dict[str, Any] = {
        "title": "Allmännyttans innovationslabb",
        "from_name": "Innovationslabbet",
        "from_email": "labbet@allmannyttan.example",
        "publisher": "Sveriges Allmännytta",
        "postal_address": "Box 474, 101 29 Stockholm",
    }
    return newsletters.create(session, slug, **{**values, **over})


def make_post(session: Session, newsletter: Newsletter, **over: Any) -> Post:
    """Create a published post with an author."""
    number = next(_numbers)
    author = over.pop("author", None)
    if author is None:
        author = Author(
            newsletter_id=newsletter.id,
            name=f"Åsa Öberg {number}",
            byline="strateg på Hyresgästföreningen",
        )
        session.add(author)
        session.flush()
    newsletter.last_position += 1
    values: dict[str, Any] = {
        "newsletter_id": newsletter.id,
        "author_id": author.id,
        "state": PostState.PUBLISHED,
        "position": newsletter.last_position,
        "guid": f"guid-{number}",
        "link": f"https://blogg.example/inlagg-{number}/",
        "title": f"En egen kväll för tjejer {number}",
        "excerpt": "Mötesplatsen i Lina Hage arrangerade nyligen en egen kväll …",
        "html": "<p>Mötesplatsen i Lina Hage arrangerade nyligen en egen kväll.</p>",
        "published_at": NOW,
    }
    post = Post(**{**values, **over})
    session.add(post)
    session.flush()
    return post


def make_subscription(
    session: Session, newsletter: Newsletter, email: str = "", **over: Any
) -> Subscription:
    """Create an active reader."""
    email = email or f"läsare{next(_numbers)}@exempel.example".replace("ä", "a")
    subscriber = Subscriber(
        email=email, email_key=email.casefold(), address_hash=f"hash-of-{email}"[:64]
    )
    session.add(subscriber)
    session.flush()
    values: dict[str, Any] = {
        "newsletter_id": newsletter.id,
        "subscriber_id": subscriber.id,
        "status": Status.ACTIVE,
        "language": newsletter.language,
        "rhythm": newsletter.default_rhythm,
        "leave_token": links.new_token(),
        "preferences_token": links.new_token(),
        "confirmed_at": NOW,
        "requested_at": NOW,
    }
    subscription = Subscription(**{**values, **over})
    session.add(subscription)
    session.flush()
    return subscription
