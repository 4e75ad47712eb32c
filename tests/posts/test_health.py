"""Health: a feed that breaks is told of once, and again when it is well."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from newsletter import editors, i18n
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Delivery, Feed, Message, Newsletter, Post, Role
from newsletter.posts import fetching, health, sources
from newsletter.posts.download import Client
from newsletter.posts.guard import Guard
from tests.factories import NOW, make_newsletter
from tests.feed_server import RSS, Answer, FeedServer

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


@pytest.fixture
def client() -> Client:
    return Client(Guard(["127.0.0.1"]), seconds=3)


@pytest.fixture
def feed(database: Database, settings: Settings, server: FeedServer) -> Feed:
    """A feed, with an owner and a viewer, and an editor who never came."""
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        for name, role in (("agare", Role.OWNER), ("lasare", Role.VIEWER)):
            made = editors.add(session, f"{name}@x.example", role, newsletter, now=NOW)
            made.confirmed_at = NOW
        editors.add(session, "aldrig@x.example", Role.EDITOR, newsletter, now=NOW)
        english = editors.add(session, "english@x.example", Role.EDITOR, now=NOW)
        english.confirmed_at, english.language = NOW, "en"
        return sources.add_feed(session, newsletter, server.url())


def tick(
    database: Database, settings: Settings, client: Client, now: Any, times: int = 1
) -> Any:
    """Fetch what is due `times` times, each as soon as it is due; return when next."""
    for _ in range(times):
        fetching.fetch_due(database, settings, now=now, client=client)
        now = stored(database).next_check_at
    return now


def stored(database: Database) -> Feed:
    with database.reading() as session:
        return session.scalars(select(Feed)).one()


def mails(database: Database) -> list[tuple[str, str, str]]:
    with database.reading() as session:
        rows = session.execute(
            select(Delivery.address, Message.subject, Message.text)
            .join(Message, Message.id == Delivery.message_id)
            .order_by(Delivery.id)
        )
        return [(row[0], row[1], row[2]) for row in rows]


def test_editors_hear_once_that_a_feed_is_broken_and_once_that_it_is_well(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    server.answers["/feed"] = Answer(b"", 404)
    now = tick(database, settings, client, NOW, 5)
    assert now - NOW == 155 * MINUTE
    assert mails(database) == []  # half an evening's trouble is nobody's news
    now = tick(database, settings, client, now, 6)
    told = mails(database)
    assert [(address, subject) for address, subject, _ in told] == [
        ("agare@x.example", "Allmännyttans innovationslabb: ett flöde är trasigt"),
        ("english@x.example", "Allmännyttans innovationslabb: a feed is broken"),
    ]
    assert feed.url in told[0][2]
    assert "Det finns inget flöde på adressen (404)." in told[0][2]
    assert "/editor/labbet/feeds/" in told[0][2]
    server.answers["/feed"] = Answer()
    tick(database, settings, client, now, 3)
    assert [subject for _, subject, _ in mails(database)[2:]] == [
        "Allmännyttans innovationslabb: flödet fungerar igen",
        "Allmännyttans innovationslabb: the feed works again",
    ]
    found = stored(database)
    assert (found.failures, found.told_at, found.error) == (0, None, "")
    # The next time it breaks is another time.
    server.answers["/feed"] = Answer(b"", 500)
    tick(database, settings, client, found.next_check_at, 7)
    assert len(mails(database)) == 6


def test_editors_hear_once_a_day_that_posts_are_held_back(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    tick(database, settings, client, NOW)
    for n in range(2):
        old = RSS.replace(b"g-1", b"o-%d" % n).replace(b"/kvall/", b"/o%d/" % n)
        old = old.replace(b"En egen", b"Gammal %d" % n).replace(b"2026", b"2019")
        server.answers["/feed"] = Answer(old)
        for _ in range(2):
            done = fetching.fetch_now(database, settings, now=NOW, client=client)
            assert len(list(done)) == 1
    told = mails(database)
    assert [address for address, _, _ in told] == [
        "agare@x.example",
        "english@x.example",
    ]
    assert told[1][1] == "Allmännyttans innovationslabb: posts wait for you"
    assert f"1 inlägg från flödet {feed.url} väntar" in " ".join(told[0][2].split())
    assert "/editor/labbet/posts/?state=held" in told[0][2]


def test_a_feed_that_recovers_in_time_is_no_news(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    server.answers["/feed"] = Answer(b"", 503, {"Retry-After": "9000"})
    now = tick(database, settings, client, NOW, 2)
    assert now - NOW == 5 * HOUR  # long, but it has failed twice only
    server.answers["/feed"] = Answer()
    tick(database, settings, client, now)
    assert mails(database) == []


def test_a_feed_that_is_gone_is_not_asked_again_until_someone_wants_it(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    server.answers["/feed"] = Answer(b"", 410)
    tick(database, settings, client, NOW)
    assert len(mails(database)) == 2
    assert "slutat fråga" in mails(database)[0][2]
    later = NOW + 30 * DAY
    assert fetching.fetch_due(database, settings, now=later, client=client) == []
    assert list(fetching.fetch_now(database, settings, now=later, client=client)) == []
    server.answers["/feed"] = Answer()
    with database.transaction() as session:
        sources.resume_feed(session.scalars(select(Feed)).one())
    tick(database, settings, client, later)
    assert not stored(database).gone
    assert len(mails(database)) == 4


def test_a_page_where_the_feed_was_is_told_of_soon(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    server.answers["/feed"] = Answer(b"<!doctype html><p>Vi har byggt om!")
    now = tick(database, settings, client, NOW, 2)
    assert mails(database) == []
    tick(database, settings, client, now)
    assert "Det här är en webbsida" in mails(database)[0][2]


def test_looking_again_and_again_by_hand_is_one_failure(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    server.answers["/feed"] = Answer(b"<!doctype html><p>Vi har byggt om!")
    for seconds in range(5):
        now = NOW + timedelta(seconds=seconds)
        (one,) = fetching.fetch_now(database, settings, now=now, client=client)
        assert "This is a web page" in str(one.error)
    assert (stored(database).failures, stored(database).failing_since) == (1, NOW)
    assert stored(database).next_check_at == now + 5 * MINUTE
    assert mails(database) == []
    tick(database, settings, client, now + HOUR, 2)
    assert len(mails(database)) == 2
    server.answers["/feed"] = Answer(status=410)
    list(fetching.fetch_now(database, settings, now=now + DAY, client=client))
    assert stored(database).gone


def test_a_paused_feed_is_left_alone_unless_it_is_named(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    with database.transaction() as session:
        sources.pause_feed(session.scalars(select(Feed)).one())
    assert fetching.fetch_due(database, settings, now=NOW, client=client) == []
    assert list(fetching.fetch_now(database, settings, now=NOW, client=client)) == []
    (one,) = fetching.fetch_now(
        database, settings, feed_id=feed.id, now=NOW, client=client
    )
    assert one.report
    assert one.report.new == 1


@pytest.mark.parametrize("status", [301, 308])
def test_an_address_that_has_moved_for_good_is_taken_over_after_a_day(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
    status: int,
) -> None:
    server.answers["/feed"] = Answer(b"", status, {"Location": "/nytt"})
    server.answers["/nytt"] = Answer(etag='"ett"')
    now = NOW
    while now < NOW + DAY:
        now = tick(database, settings, client, now)
        assert stored(database).url == feed.url
    tick(database, settings, client, now)
    assert stored(database).url == server.url("/nytt")
    with database.reading() as session:
        assert len(session.scalars(select(Post)).all()) == 1


@pytest.mark.parametrize(
    ("first", "second"), [(302, 200), (301, 302), (301, 404), (301, 410)]
)
def test_an_address_that_has_not_surely_moved_stays(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
    first: int,
    second: int,
) -> None:
    server.answers["/feed"] = Answer(b"", first, {"Location": "/nytt"})
    where = {"Location": "/annat"} if second == 302 else {}
    server.answers["/nytt"] = Answer(RSS, second, where)
    server.answers["/annat"] = Answer()
    for day in range(3):
        now = NOW + day * DAY
        list(
            fetching.fetch_now(
                database, settings, feed_id=feed.id, now=now, client=client
            )
        )
    assert stored(database).url == feed.url


def test_a_move_to_the_address_of_another_feed_makes_no_second_one(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
) -> None:
    with database.transaction() as session:
        newsletter = session.scalars(select(Newsletter)).one()
        sources.add_feed(session, newsletter, server.url("/nytt"))
    server.answers["/feed"] = Answer(b"", 301, {"Location": "/nytt"})
    server.answers["/nytt"] = Answer()
    for day in range(3):
        done = fetching.fetch_now(
            database, settings, now=NOW + day * DAY, client=client
        )
        assert all(one.error is None for one in done)
    with database.reading() as session:
        urls = set(session.scalars(select(Feed.url)))
    assert urls == {feed.url, server.url("/nytt")}


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("Wed, 25 Nov 2026 15:00:00 GMT", 3 * HOUR),
        ("Wed, 25 Nov 2020 15:00:00 GMT", 5 * MINUTE),
        ("Wed, 25 Nov 2099 15:00:00 GMT", DAY),
        ("99999999999999", DAY),
        ("-5", 5 * MINUTE),
        ("Wed, 99 Nov", 5 * MINUTE),
    ],
)
def test_a_host_may_say_until_when_to_wait(
    database: Database,
    settings: Settings,
    server: FeedServer,
    client: Client,
    feed: Feed,
    header: str,
    wait: timedelta,
) -> None:
    def busy(handler: Any) -> None:
        handler.send_response_only(429)
        handler.send_header("Date", "Wed, 25 Nov 2026 12:00:00 GMT")
        handler.send_header("Retry-After", header)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers["/feed"] = Answer(script=busy)
    assert tick(database, settings, client, NOW) == NOW + wait


@pytest.mark.parametrize(
    ("language", "zone", "wanted"),
    [
        ("en", "UTC", "Last new post 3 days ago. 404 since Tuesday."),
        ("en", "Asia/Tokyo", "Last new post 3 days ago. 404 since Wednesday."),
        (
            "sv",
            "UTC",
            "Senaste nya inlägg för 3 dagar sedan. Svarar 404 sedan tisdag.",
        ),
    ],
)
def test_the_line_says_how_a_feed_is_in_the_newsletters_zone(
    language: str, zone: str, wanted: str
) -> None:
    tuesday_evening = NOW - 5 * DAY + 10 * HOUR  # 22 November 2026 is a Sunday
    feed = Feed(id=1, checked_at=NOW, failing_since=tuesday_evening, error_status=404)
    latest = {1: NOW - 3 * DAY}
    words = i18n.language(language)
    assert health.line(words, feed, zone, latest, now=NOW).text == wanted


def test_the_line_has_words_for_every_state() -> None:
    words = i18n.language("en")
    never = Feed(id=1)
    well = Feed(id=1, checked_at=NOW - 5 * MINUTE)
    odd = Feed(
        id=1,
        failing_since=NOW - 20 * DAY,
        error="The feed's host answered %(status)s.",
        error_values={"status": "599"},
        paused=True,
    )
    lines = [
        health.line(words, feed, "UTC", {}, now=NOW) for feed in (never, well, odd)
    ]
    assert [(line.state, line.text) for line in lines] == [
        ("quiet", "Not looked at yet."),
        ("good", "No post from it yet. Looked at 5 minutes ago."),
        (
            "quiet",
            "The feed is paused. No post from it yet."
            " Cannot be read since November 2, 2026.",
        ),
    ]
    assert lines[2].reason == "The feed's host answered 599."
