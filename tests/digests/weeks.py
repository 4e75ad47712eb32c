"""Weeks of a newsletter in a test: posts, readers, the clock, and what became of mail.

The clock is the real one (`jobs.tick`), at whatever time a test says; the ledger is the
real one, its deliveries ended as a worker would end them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from newsletter import jobs, newsletters
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import publish
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    Kind,
    Message,
    MessagePost,
    Mode,
    Newsletter,
    Occurrence,
    Post,
    PostState,
    Subscriber,
    Subscription,
)
from newsletter.posts import positions
from tests.factories import make_newsletter, make_post, make_subscription

WEEKLY, DAILY, MONTHLY = "weekly:mon@08:00", "daily@08:00", "monthly:1@08:00"
SENT, BOUNCED = DeliveryState.SENT, DeliveryState.BOUNCED
MINUTE, HOUR, DAY, WEEK = (
    timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days", "weeks")
)
MONDAY = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)  # 08:00 in Stockholm
START = MONDAY - 3 * DAY
# Jobs that touch no digest: the clock runs the others.
ELSEWHERE = {
    *("fetch-feeds", "ask-hubs", "look-at-senders", "import-readers", "renew-keys"),
    *("index-addresses", "merge-addresses", "count-segments"),
    *("forget-changes", "forget-imports"),
}
TASKS = tuple(task for task in jobs.TASKS if task.name not in ELSEWHERE)
assert len(TASKS) == len(jobs.TASKS) - len(ELSEWHERE)


class Weeks:
    """One newsletter whose digests go by themselves, from START on."""

    def __init__(self, database: Database, settings: Settings, **over: Any) -> None:
        self.database = database
        self.settings = settings
        values = {
            "rhythms": [WEEKLY, DAILY, MONTHLY, "each"],
            "default_rhythm": WEEKLY,
            "mode": Mode.AUTOMATIC,
            **over,
        }
        with database.transaction() as session:
            self.id = make_newsletter(session, "labbet", **values).id
        self.tick(START)

    def newsletter(self, session: Session) -> Newsletter:
        return session.get_one(Newsletter, self.id)

    def change(self, **values: Any) -> None:
        """Change settings, as an owner does."""
        with self.database.transaction() as session:
            newsletters.change(self.newsletter(session), **values)

    def post(self, title: str, at: datetime = START, **over: Any) -> int:
        """Publish a post."""
        values = {"published_at": at, "created_at": at, "updated_at": at, **over}
        with self.database.transaction() as session:
            locked = positions.lock(session, self.id)
            return make_post(session, locked, title=title, **values).id

    def reader(self, name: str, rhythm: str = WEEKLY, **over: Any) -> int:
        """Add an active reader."""
        with self.database.transaction() as session:
            return make_subscription(
                session,
                self.newsletter(session),
                f"{name}@x.example",
                rhythm=rhythm,
                **over,
            ).id

    def set(self, subscription_id: int, **values: Any) -> None:
        """Change a reader."""
        with self.database.transaction() as session:
            session.execute(
                update(Subscription)
                .where(Subscription.id == subscription_id)
                .values(**values)
            )

    def withdraw(self, post_id: int) -> None:
        with self.database.transaction() as session:
            session.get_one(Post, post_id).state = PostState.WITHDRAWN

    def tick(self, at: datetime) -> None:
        """Let the clock run once."""
        jobs.tick(self.database, self.settings, now=at, tasks=TASKS)

    def settle(
        self, at: datetime, state: DeliveryState = SENT, names: Iterable[str] = ()
    ) -> None:
        """End the deliveries under way, of some readers or of all."""
        addresses = [f"{name}@x.example" for name in names]
        statement = update(Delivery).where(Delivery.state == DeliveryState.QUEUED)
        if addresses:
            statement = statement.where(Delivery.address.in_(addresses))
        with self.database.transaction() as session:
            session.execute(statement.values(state=state, settled_at=at))

    def run(self, at: datetime) -> None:
        """Let the clock run, all mail arrive, and the clock run once more."""
        self.tick(at)
        self.settle(at)
        self.tick(at + MINUTE)

    def got(self, name: str) -> list[list[str]]:
        """Return the titles of each digest that has reached a reader, in order."""
        query = (
            select(Delivery.id, Post.title)
            .join(Message, Message.id == Delivery.message_id)
            .join(MessagePost, MessagePost.message_id == Message.id)
            .join(Post, Post.id == MessagePost.post_id)
            .where(
                Message.kind == Kind.DIGEST,
                Delivery.address == f"{name}@x.example",
                Delivery.state == SENT,
            )
            .order_by(Delivery.id, Post.position)
        )
        found: dict[int, list[str]] = {}
        with self.database.reading() as session:
            for delivery_id, title in session.execute(query):
                found.setdefault(delivery_id, []).append(title)
        return list(found.values())

    def issues(self) -> list[Issue]:
        with self.database.reading() as session:
            return list(session.scalars(select(Issue).order_by(Issue.id)))

    def occurrences(self, rhythm: str = WEEKLY) -> list[tuple[str, str]]:
        """Return what became of a rhythm's moments: the state and the reason."""
        query = select(Occurrence).where(Occurrence.rhythm == rhythm)
        query = query.order_by(Occurrence.due_at)
        with self.database.reading() as session:
            return [(row.state.value, row.reason) for row in session.scalars(query)]

    def send(self, issue_id: int, at: datetime) -> int:
        """Send an issue, as an editor does."""
        with self.database.transaction() as session:
            issue = session.get_one(Issue, issue_id)
            return publish.send(session, self.settings, issue, now=at)

    def notices(self) -> list[tuple[str, Message]]:
        """Return the mails to editors: to whom, and what."""
        query = (
            select(Delivery.address, Message)
            .join(Message, Message.id == Delivery.message_id)
            .where(Message.kind == Kind.NOTICE)
            .order_by(Delivery.id)
        )
        with self.database.reading() as session:
            return [(address, message) for address, message in session.execute(query)]

    def cursor(self, name: str) -> int:
        query = (
            select(Subscription.cursor)
            .join(Subscriber)
            .where(Subscriber.email == f"{name}@x.example")
        )
        with self.database.reading() as session:
            return session.scalars(query).one()
