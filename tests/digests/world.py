"""A newsletter and its readers in simulated time, worked through its own doors.

What is done here is done as pages, mails, the clock and the sender do it. Each act is
one transaction. Nothing here decides what is right: that is `promise.py`.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Base, Database
from newsletter.digests import calendar, drafts, publish
from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.mail import ledger
from newsletter.models import (
    Delivery,
    Feed,
    Issue,
    IssueState,
    Kind,
    Message,
    Newsletter,
    Post,
    PostState,
    PostTopic,
    Subscriber,
    Subscription,
    Topic,
)
from newsletter.posts import editing
from newsletter.posts.importer import import_entries
from newsletter.posts.parsing import parse
from newsletter.subscribers import leaving, moving, preferences, signup
from newsletter.subscribers.consent import Origin
from tests.digests.promise import Paper
from tests.factories import make_newsletter

ORIGIN = Origin(page="https://blogg.example/", network="192.0.2.7", wording="Ja tack.")
EMPTY = [
    f'DELETE FROM "{table.name}"' for table in reversed(Base.metadata.sorted_tables)
]
TITLE = re.compile(r"Kvarter (\d+) läge (\d+)")
LINK = re.compile(r"https://blogg\.example/kvarter-(\d+)/")
TOKEN = re.compile(r"http://localhost/(?:confirm|address)/([\w.-]+)")
FEED_HOLDS = 8  # posts, as a blog's feed holds its latest
# What the clock does about digests, in its order. Claiming jobs has tests of its own;
# without it two hosts do the same at once, which must do no harm either.
ALWAYS = ("finish-issues", "plan-digests")
TASKS = {task.name: task for task in jobs.TASKS}
# An editor is told no: there is nothing to send, it is over, it is at a wrong time.
refused = partial(suppress, Conflict, InvalidInput, NotFound)


@dataclass
class Article:
    """A post as the blog has it."""

    number: int
    date: datetime
    topics: tuple[str, ...]
    language: str
    edition: int = 1
    guid: int = 1
    gone: bool = False

    @property
    def title(self) -> str:
        return f"Kvarter {self.number} läge {self.edition}"

    @property
    def link(self) -> str:
        return f"https://blogg.example/kvarter-{self.number}/"

    def item(self) -> str:
        categories = "".join(f"<category>{name}</category>" for name in self.topics)
        language = f' xml:lang="{self.language}"' if self.language else ""
        return (
            f"<item><title{language}>{self.title}</title><link>{self.link}</link>"
            f'<guid isPermaLink="false">{self.number}-{self.guid}</guid>'
            f"<pubDate>{self.date:%a, %d %b %Y %H:%M:%S} GMT</pubDate>"
            f"{categories}<description>Om kvarter {self.number}.</description></item>"
        )


@dataclass(frozen=True)
class Mail:
    """A digest on its way to a reader."""

    delivery_id: int
    message_id: int
    issue_id: int
    name: str  # whose
    posts: list[tuple[int, int]]  # number and edition; twice where there is a list
    links: list[int]  # numbers, once for each post


class World:
    """One database, used again and again."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.seen = 0

    def begin(self, now: datetime, **newsletter: Any) -> None:
        """Empty everything and create the newsletter."""
        self.seen = 0
        with self.database.transaction() as session:
            connection = session.connection()
            for statement in EMPTY:
                connection.exec_driver_sql(statement)
            made = make_newsletter(session, created_at=now, **newsletter)
            self.newsletter_id = made.id
            self.emails: dict[str, str] = {}
            feed = Feed(newsletter_id=made.id, url="https://blogg.example/feed/")
            session.add(feed)
            session.flush()
            self.feed_id = feed.id
        self.articles: list[Article] = []

    @contextmanager
    def at(self) -> Iterator[tuple[Session, Newsletter]]:
        with self.database.transaction() as session:
            yield session, session.get_one(Newsletter, self.newsletter_id)

    # The blog

    def fetch(self, now: datetime) -> None:
        """Fetch the feed as it is."""
        newest_first = sorted(
            (a for a in self.articles if not a.gone),
            key=lambda a: (a.date, a.number),
            reverse=True,
        )
        items = "".join(article.item() for article in newest_first[:FEED_HOLDS])
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel>'
            "<title>Kvarteren</title><link>https://blogg.example/</link>"
            f"<description>x</description>{items}</channel></rss>"
        )
        parsed = parse(body.encode(), url="https://blogg.example/feed/")
        with self.at() as (session, newsletter):
            feed = session.get_one(Feed, self.feed_id)
            import_entries(session, newsletter, parsed, feed=feed, now=now)

    def papers(self) -> dict[int, Paper]:
        """Return the posts as they stand, by number."""
        topics = select(PostTopic.post_id, Topic.slug).join(
            Topic, Topic.id == PostTopic.topic_id
        )
        found: dict[int, Paper] = {}
        with self.database.reading() as session:
            about: dict[int, set[str]] = {}
            for post_id, slug in session.execute(topics):
                about.setdefault(post_id, set()).add(slug)
            for post_id, title, language, state, position in session.execute(
                select(Post.id, Post.title, Post.language, Post.state, Post.position)
            ):
                match = TITLE.fullmatch(title)
                assert match, title
                number, edition = int(match[1]), int(match[2])
                assert number not in found, "one article has become two posts"
                found[number] = Paper(
                    number=number,
                    edition=edition,
                    topics=frozenset(about.get(post_id, ())),
                    language=language,
                    order=position or 0,
                    out=state is PostState.PUBLISHED,
                )
        return found

    def topics(self) -> frozenset[str]:
        with self.database.reading() as session:
            return frozenset(session.scalars(select(Topic.slug)))

    def withdraw(self, number: int, now: datetime) -> None:
        with self.at() as (session, _):
            for post in session.scalars(select(Post)):
                if post.title.startswith(f"Kvarter {number} "):
                    editing.withdraw(session, post, now=now)

    # Readers

    def subscription(self, session: Session, name: str) -> Subscription:
        return session.scalars(
            select(Subscription)
            .join(Subscriber)
            .where(Subscriber.email == self.email(name))
        ).one()

    def email(self, name: str) -> str:
        return self.emails.setdefault(name, f"{name}@exempel.example")

    def knows(self, name: str) -> bool:
        query = select(Subscriber.id).where(Subscriber.email == self.email(name))
        with self.database.reading() as session:
            return session.scalar(query) is not None

    def ask(self, name: str, now: datetime, **wishes: Any) -> bool:
        """Fill in the form; tell whether a confirmation mail came of it."""
        email = self.email(name)
        with self.at() as (session, newsletter):
            before = len(self._links(session, Kind.CONFIRM, email))
            signup.request_subscription(
                session,
                self.settings,
                newsletter,
                email,
                origin=ORIGIN,
                now=now,
                **wishes,
            )
            return len(self._links(session, Kind.CONFIRM, email)) > before

    def confirm(self, name: str, now: datetime) -> None:
        with self.at() as (session, _):
            *_others, token = self._links(session, Kind.CONFIRM, self.email(name))
            signup.confirm(session, self.settings, token, origin=ORIGIN, now=now)

    def change(self, name: str, now: datetime, **choices: Any) -> None:
        """Choose on the preferences page."""
        with self.at() as (session, _):
            preferences.change(
                session,
                self.subscription(session, name),
                origin=ORIGIN,
                now=now,
                **choices,
            )

    def pause(self, name: str, until: datetime, now: datetime) -> None:
        with self.at() as (session, _):
            subscription = self.subscription(session, name)
            preferences.pause(session, subscription, until, origin=ORIGIN, now=now)

    def resume(self, name: str, now: datetime) -> None:
        with self.at() as (session, _):
            subscription = self.subscription(session, name)
            preferences.resume(session, subscription, origin=ORIGIN, now=now)

    def leave(self, name: str, now: datetime) -> None:
        with self.at() as (session, _):
            token = self.subscription(session, name).leave_token
            leaving.leave(
                session, self.settings, token, origin=ORIGIN, how="one-click", now=now
            )

    def undo_leaving(self, name: str, now: datetime) -> bool:
        with refused(), self.at() as (session, _):
            token = self.subscription(session, name).leave_token
            leaving.undo(session, self.settings, token, origin=ORIGIN, now=now)
            return True
        return False

    def move(self, name: str, now: datetime) -> bool:
        """Take another address; tell whether the mail that asks for it came."""
        email = f"{name}.{int(now.timestamp())}@exempel.example"
        with self.at() as (session, _):
            subscription = self.subscription(session, name)
            moving.request_address_change(
                session, self.settings, subscription, email, origin=ORIGIN, now=now
            )
            links = self._links(session, Kind.ADDRESS, email)
            if links:
                moving.confirm_address_change(
                    session, self.settings, links[-1], origin=ORIGIN, now=now
                )
                self.emails[name] = email
        return bool(links)

    # The clock and the sender

    def tick(self, now: datetime, *names: str) -> None:
        """Do what is always due, and the jobs of these names."""
        for name, task in TASKS.items():
            if name in (*ALWAYS, *names):
                task.run(self.database, self.settings, now)

    def tick_from_two_hosts(self, now: datetime, *names: str) -> None:
        with ThreadPoolExecutor(2) as pool:
            for host in [pool.submit(self.tick, now, *names) for _ in range(2)]:
                host.result()

    def new_mails(self) -> list[Mail]:
        """Return the digests that have been queued since this was last asked."""
        query = (
            select(
                Delivery.id,
                Message.id,
                Message.issue_id,
                Subscriber.email,
                Message.text,
            )
            .join(Message, Message.id == Delivery.message_id)
            .join(Subscription, Subscription.id == Delivery.subscription_id)
            .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
            .where(Message.kind == Kind.DIGEST, Delivery.id > self.seen)
            .order_by(Delivery.id)
        )
        with self.database.reading() as session:
            rows = session.execute(query).all()
        self.seen = max((row[0] for row in rows), default=self.seen)
        return [
            Mail(
                delivery_id=delivery_id,
                message_id=message_id,
                issue_id=issue_id or 0,
                name=re.split("[.@]", email)[0],
                posts=[(int(n), int(edition)) for n, edition in TITLE.findall(text)],
                links=[int(n) for n in LINK.findall(text)],
            )
            for delivery_id, message_id, issue_id, email, text in rows
        ]

    def draft(self, now: datetime) -> int | None:
        """Draft an issue for everybody; None if there is nothing new."""
        with refused(), self.at() as (session, newsletter):
            return drafts.draft(session, newsletter, now=now).id
        return None

    def send(self, issue_id: int, now: datetime) -> bool:
        """Send an issue; tell whether there was anybody to send it to."""
        with refused(), self.at() as (session, _):
            issue = drafts.find(session, issue_id)
            publish.send(session, self.settings, issue, now=now)
            return True
        return False

    def issues(self, after: int) -> list[tuple[int, str, bool]]:
        """Return issues by id: their rhythm, and whether they wait for an editor."""
        query = select(Issue.id, Issue.rhythm, Issue.state).where(Issue.id > after)
        with self.database.reading() as session:
            rows = session.execute(query.order_by(Issue.id)).all()
        return [(n, rhythm, state is IssueState.HELD) for n, rhythm, state in rows]

    def skip_issue(self, issue_id: int) -> None:
        with self.at() as (session, _):
            publish.skip(session, drafts.find(session, issue_id))

    def skip(self, rhythm: str, due: datetime, now: datetime) -> bool:
        with refused(), self.at() as (session, newsletter):
            calendar.skip(session, newsletter, rhythm, due, now=now)
            return True
        return False

    def unskip(self, rhythm: str, due: datetime, now: datetime) -> bool:
        with refused(), self.at() as (session, newsletter):
            calendar.unskip(session, newsletter, rhythm, due, now=now)
            return True
        return False

    def move_digest(
        self, rhythm: str, due: datetime, to: datetime, now: datetime
    ) -> bool:
        with refused(), self.at() as (session, newsletter):
            calendar.move(session, newsletter, rhythm, due, to=to, now=now)
            return True
        return False

    def send_now(self, rhythm: str, due: datetime, now: datetime) -> bool:
        with refused(), self.at() as (session, newsletter):
            calendar.send_now(session, self.settings, newsletter, rhythm, due, now=now)
            return True
        return False

    def take_up(self, now: datetime) -> None:
        """Do what a sender does before it claims."""
        with self.database.transaction() as session:
            ledger.requeue_due(session, now=now)
            ledger.recover_expired(session, now=now)

    def claim(self, message_id: int, now: datetime) -> list[int]:
        """Take a message's deliveries in hand; return their ids."""
        with self.database.transaction() as session:
            found = ledger.claim(
                session, worker="w", limit=100, now=now, message_id=message_id
            )
        return [claim.id for claim in found.claims]

    def settle(self, outcomes: Sequence[ledger.Outcome], now: datetime) -> None:
        with self.database.transaction() as session:
            ledger.settle(session, "w", outcomes, now=now)

    def _links(self, session: Session, kind: Kind, email: str) -> list[str]:
        texts = session.scalars(
            select(Message.text)
            .join(Delivery, Delivery.message_id == Message.id)
            .where(Message.kind == kind, Delivery.address == email)
            .order_by(Message.id)
        )
        return [match[1] for text in texts if (match := TOKEN.search(text))]
