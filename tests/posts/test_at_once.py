"""From the blog to the ledger: readers of each post get it within a minute."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Delivery, Issue, Message, MessageState, Mode
from newsletter.posts import sources
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.feed_server import RSS, Answer, FeedServer

SECOND = timedelta(seconds=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, fetch_allow=("127.0.0.1",))


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


def mailed(session: Session) -> list[tuple[str, str]]:
    rows = session.execute(
        select(Delivery.address, Message.subject)
        .join(Message, Message.id == Delivery.message_id)
        .join(Issue, Issue.id == Message.issue_id)
        .where(Message.state != MessageState.DONE)
    )
    return [(address, subject) for address, subject in rows]


def test_a_ping_brings_a_post_to_readers_of_each_within_a_minute(
    database: Database, settings: Settings, server: FeedServer
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, mode=Mode.AUTOMATIC)
        newsletter.rhythms = ["each", "weekly:mon@08:00"]
        make_post(session, newsletter)
        cursor = newsletter.last_position
        for name, rhythm in (("varje", "each"), ("vecka", "weekly:mon@08:00")):
            make_subscription(
                session, newsletter, f"{name}@x.example", rhythm=rhythm, cursor=cursor
            )
        sources.add_feed(session, newsletter, server.url())
        token = sources.make_ping_token(newsletter)
    server.answers["/feed"] = Answer(
        RSS.replace(b"<item>", b"<!--").replace(b"</item>", b"-->")
    )
    jobs.tick(database, settings, now=NOW)
    server.answers["/feed"] = Answer()
    for second in range(1, 60):
        now = NOW + second * SECOND
        if second == 10:
            with database.transaction() as session:
                sources.ping(session, token, now=now)
        jobs.tick(database, settings, now=now)
        with database.reading() as session:
            if found := mailed(session):
                break
    assert found == [("varje@x.example", "En egen kväll")]
    assert 10 < second < 40
    assert len(server.asked) == 2
