"""Fetching: what is due, once, politely; a feed that fails waits and says why."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from newsletter import i18n
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Feed, Newsletter, Post
from newsletter.posts import fetching, health, sources
from newsletter.posts.download import Client
from newsletter.posts.guard import Guard
from tests.factories import NOW, make_newsletter
from tests.feed_server import RSS, Answer, FeedServer

MINUTE = timedelta(minutes=1)


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


@pytest.fixture
def client() -> Client:
    return Client(Guard(["127.0.0.1"]), seconds=3)


def add(database: Database, *addresses: str, slug: str = "labbet") -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session, slug)
        for address in addresses:
            sources.add_feed(session, newsletter, address, local=True)


def feed_of(database: Database) -> Feed:
    with database.reading() as session:
        return session.scalars(select(Feed)).one()


def titles(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Post.title).order_by(Post.id)))


def test_a_feed_that_is_due_is_fetched_and_then_left_alone_for_a_while(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    add(database, server.url())
    done = fetching.fetch_due(database, settings, now=NOW, client=client)
    assert [outcome.report.new for outcome in done if outcome.report] == [1]
    assert titles(database) == ["En egen kväll"]
    feed = feed_of(database)
    assert (feed.checked_at, feed.new_at) == (NOW, NOW)
    assert feed.next_check_at == NOW + health.POLL
    assert fetching.fetch_due(database, settings, now=NOW + MINUTE, client=client) == []
    assert len(server.asked) == 1


def test_what_has_not_changed_is_not_sent_again(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    server.answers["/feed"] = Answer(etag='"ett"')
    add(database, server.url())
    fetching.fetch_due(database, settings, now=NOW, client=client)
    later = NOW + health.POLL
    (outcome,) = fetching.fetch_due(database, settings, now=later, client=client)
    assert (outcome.report, outcome.error) == (None, None)
    assert server.asked[1][1]["If-None-Match"] == '"ett"'
    assert feed_of(database).checked_at == later


def test_a_feed_that_fails_waits_longer_each_time_and_says_since_when(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    server.answers["/feed"] = Answer(b"", 500)
    add(database, server.url())
    now, waits = NOW, []
    for _ in range(12):
        (outcome,) = fetching.fetch_due(database, settings, now=now, client=client)
        assert outcome.error
        feed = feed_of(database)
        assert feed.next_check_at
        waits.append((feed.next_check_at - now) // MINUTE)
        now = feed.next_check_at
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[-1] == 24 * 60
    assert (feed.failures, feed.failing_since) == (12, NOW)
    swedish = health.reason(i18n.language("sv"), feed)
    assert (feed.error_status, swedish) == (500, "Flödets server svarade 500.")
    server.answers["/feed"] = Answer()
    fetching.fetch_due(database, settings, now=now, client=client)
    feed = feed_of(database)
    assert (feed.failures, feed.failing_since, feed.error) == (0, None, "")


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (Answer(b"", 410), timedelta(hours=24)),
        (Answer(b"", 503, {"Retry-After": "7200"}), timedelta(hours=2)),
        (Answer(b"", 429, {"Retry-After": "soon"}), timedelta(minutes=5)),
        (Answer(b"<html><p>x"), timedelta(minutes=5)),
    ],
)
def test_a_host_may_say_how_long_to_wait(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    answer: Answer,
    wait: timedelta,
) -> None:
    server.answers["/feed"] = answer
    add(database, server.url())
    fetching.fetch_due(database, settings, now=NOW, client=client)
    assert feed_of(database).next_check_at == NOW + wait


def test_one_bad_feed_does_not_stop_the_others(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    server.answers["/slow"] = Answer(script=server.stall)
    server.answers["/page"] = Answer(b"<!doctype html><p>Hej")
    paths = ["/slow", "/page", "/borta", "/feed"]
    add(database, *(server.url(path) for path in paths))
    quick = Client(Guard(["127.0.0.1"]), seconds=0.5)
    done = fetching.fetch_due(database, settings, now=NOW, client=quick)
    assert [bool(outcome.error) for outcome in done] == [True, True, True, False]
    assert titles(database) == ["En egen kväll"]


def test_a_claimed_feed_is_not_fetched_by_another(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    other: list[object] = []

    def answer_late(handler: object) -> None:
        other.extend(
            fetching.fetch_due(database, settings, now=NOW + MINUTE, client=client)
        )
        server.answers["/feed"] = Answer()
        server.answer(handler)  # type: ignore[arg-type]

    server.answers["/feed"] = Answer(script=answer_late)
    add(database, server.url())
    fetching.fetch_due(database, settings, now=NOW, client=client)
    assert other == []
    assert titles(database) == ["En egen kväll"]


def test_a_feed_removed_while_it_is_fetched_leaves_nothing(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    def remove(handler: object) -> None:
        with database.transaction() as session:
            sources.remove_feed(session, session.scalars(select(Feed)).one(), now=NOW)
        server.answers["/feed"] = Answer()
        server.answer(handler)  # type: ignore[arg-type]

    server.answers["/feed"] = Answer(script=remove)
    add(database, server.url())
    (outcome,) = fetching.fetch_due(database, settings, now=NOW, client=client)
    assert outcome.report is None
    assert titles(database) == []


def test_a_file_can_be_a_feed(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "flöde.xml"
    file.write_bytes(RSS)
    add(database, str(file))
    fetching.fetch_due(database, settings, now=NOW)
    assert titles(database) == ["En egen kväll"]
    file.unlink()
    (outcome,) = fetching.fetch_due(database, settings, now=NOW + health.POLL)
    assert "no feed file" in str(outcome.error)


def test_fetching_now_takes_one_newsletters_feeds_due_or_not(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    server.answers["/annan"] = Answer()
    add(database, server.url())
    add(database, server.url("/annan"), slug="annan")
    for _ in range(2):
        done = fetching.fetch_now(
            database, settings, slug="labbet", now=NOW, client=client
        )
        assert [outcome.newsletter for outcome in done] == ["labbet"]
    assert [path for path, _ in server.asked] == ["/feed", "/feed"]


def test_by_default_nothing_private_is_fetched(
    database: Database, settings: Settings, server: FeedServer
) -> None:
    add(database, server.url())
    (outcome,) = fetching.fetch_due(database, settings, now=NOW)
    assert outcome.error
    assert server.asked == []


def test_more_feeds_than_go_at_once_are_all_fetched(
    database: Database, settings: Settings, server: FeedServer, client: Client
) -> None:
    paths = [f"/feed/{n}" for n in range(2 * fetching.AT_ONCE + 1)]
    for number, path in enumerate(paths):
        body = RSS.replace(b"g-1", b"g-%d" % number)
        server.answers[path] = Answer(body.replace(b"/kvall/", b"/k%d/" % number))
    add(database, *(server.url(path) for path in paths))
    done = fetching.fetch_due(database, settings, now=NOW, client=client)
    assert len(done) == len(paths)
    with database.reading() as session:
        newsletter = session.scalars(select(Newsletter)).one()
        assert newsletter.last_position == len(titles(database))
