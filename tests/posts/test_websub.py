"""WebSub and pings: what is published is here at once, and nobody else gets in."""

import hmac
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.errors import NotFound
from newsletter.models import Feed, FeedPush, HubParting, Newsletter, Post
from newsletter.posts import fetching, sources, websub
from newsletter.posts.download import Client
from newsletter.posts.guard import Guard
from tests.factories import NOW, make_newsletter
from tests.feed_server import RSS, Answer, FeedServer

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NEWS = RSS.replace(b"g-1", b"g-2").replace(b"/kvall/", b"/ny/")
NEWS = NEWS.replace("En egen kväll".encode(), "Ny sång".encode())


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        server.answers["/hub"] = Answer(b"", 202)
        link = f'<{server.url("/hub")}>; rel="hub", <{server.url()}>; rel="self"'
        server.answers["/feed"] = Answer(headers={"Link": link})
        yield server


@pytest.fixture
def out() -> Client:
    return Client(Guard(["127.0.0.1"]), seconds=3)


@pytest.fixture
def feed(
    database: Database, settings: Settings, server: FeedServer, out: Client
) -> Feed:
    """A feed that names a hub, fetched once."""
    with database.transaction() as session:
        feed = sources.add_feed(session, make_newsletter(session), server.url())
    fetching.fetch_due(database, settings, now=utcnow(), client=out)
    return feed


def push_of(database: Database) -> FeedPush | None:
    with database.reading() as session:
        return session.scalars(select(FeedPush)).one_or_none()


def known(database: Database) -> FeedPush:
    push = push_of(database)
    assert push is not None
    return push


def titles(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Post.title).order_by(Post.id)))


def ask(database: Database, settings: Settings, out: Client, now: Any = None) -> int:
    return websub.ask_hubs(database, settings, out, now=now or utcnow())


def path_of(form: dict[str, str]) -> str:
    return urlsplit(form["hub.callback"]).path


def verify(client: FlaskClient, form: dict[str, str], **over: str) -> Any:
    """Come back as the hub does."""
    query = {
        "hub.mode": form["hub.mode"],
        "hub.topic": form["hub.topic"],
        "hub.challenge": "en-utmaning",
        "hub.lease_seconds": "864000",
    }
    over = {f"hub.{name}": value for name, value in over.items()}
    return client.get(path_of(form), query_string={**query, **over})


def sign(form: dict[str, str], body: bytes, method: str = "sha256") -> str:
    mac = hmac.new(form["hub.secret"].encode(), body, method)
    return f"{method}={mac.hexdigest()}"


def test_from_the_feed_to_the_hub_and_back_with_news(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    verified: list[Any] = []

    def hub(handler: Any) -> None:
        """Verify at once, before the answer, as some hubs do."""
        verified.append(verify(client, server.posted[-1][1]))
        server.answers["/hub"].script = None
        server.answer(handler)

    server.answers["/hub"].script = hub
    assert ask(database, settings, out) == 1
    ((path, form),) = server.posted
    assert path == "/hub"
    assert form["hub.topic"] == server.url()
    assert form["hub.callback"].startswith("http://localhost/websub/")
    assert len(form["hub.secret"]) >= 43
    assert (verified[0].status_code, verified[0].text) == (200, "en-utmaning")
    push = known(database)
    assert push.lease_until
    assert 9.9 * DAY < push.lease_until - utcnow() <= 10 * DAY
    assert push.asked_at is None
    for method in ("sha1", "sha256", "sha384", "sha512"):
        answer = client.post(
            path_of(form),
            data=NEWS,
            headers={"X-Hub-Signature": sign(form, NEWS, method)},
            content_type="application/rss+xml",
        )
        assert answer.status_code == 202
    # Only the news was pushed: the older post is not taken for deleted.
    assert titles(database) == ["En egen kväll", "Ny sång"]
    assert known(database).pushed_at
    with database.reading() as session:
        states = set(session.scalars(select(Post.state)))
        assert states == {"published"}


UNSIGNED = (
    *("", "sha256=", "md5=d41d8cd98f00b204e9800998ecf8427e", "sha256=" + "0" * 64),
    *("sha256=å", "__init__=x", "x" * 10_000),
)


def test_what_is_not_signed_with_our_secret_is_thrown_away(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    ask(database, settings, out)
    form = server.posted[0][1]
    for signature in UNSIGNED:
        headers = {"X-Hub-Signature": signature.encode().decode("latin-1")}
        answer = client.post(path_of(form), data=NEWS, headers=headers)
        assert answer.status_code == 202  # so that nobody learns which one was right
    other = sign({"hub.secret": "en annan"}, NEWS)
    client.post(path_of(form), data=NEWS, headers={"X-Hub-Signature": other})
    right = {"X-Hub-Signature": sign(form, NEWS)}
    client.post(path_of(form), data=NEWS + b" ", headers=right)
    assert titles(database) == ["En egen kväll"]


NOT_ASKED_FOR: tuple[dict[str, str], ...] = (
    {"mode": "unsubscribe"},
    {"mode": "denied"},
    {"mode": ""},
    {"topic": "https://annan.example/feed"},
    {"challenge": ""},
    {"challenge": "x" * 2000},
    {"lease_seconds": "-1"},
    {"lease_seconds": "0"},
    {"lease_seconds": "1e9"},
)


def test_only_what_we_asked_for_is_confirmed(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    ask(database, settings, out)
    form = server.posted[0][1]
    for over in NOT_ASKED_FOR:
        assert verify(client, form, **over).status_code == 404, over
    wrong = {**form, "hub.callback": form["hub.callback"][:-1] + "_"}
    assert verify(client, wrong).status_code == 404
    push = known(database)
    assert push.lease_until is None
    assert push.asked_at is not None


def test_a_get_changes_nothing_but_what_is_pending_and_that_once(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    def row() -> list[object]:
        with database.reading() as session:
            return [tuple(r) for r in session.execute(select(*FeedPush.__table__.c))]

    form = {"hub.mode": "subscribe", "hub.topic": server.url()}
    form["hub.callback"] = websub.callback_url(settings, known(database))
    before = row()
    assert verify(client, form).status_code == 404  # nobody has been asked yet
    assert row() == before
    ask(database, settings, out)
    assert verify(client, form).status_code == 200
    after = row()
    assert verify(client, form, lease_seconds="99").status_code == 404
    assert row() == after
    with database.transaction() as session:
        push = session.scalars(select(FeedPush)).one()
        push.asked_at = utcnow() - 2 * HOUR  # asked too long ago
    before = row()
    assert verify(client, form).status_code == 404
    assert row() == before


def test_a_lease_is_renewed_before_it_ends_and_a_hub_that_fails_is_asked_again(
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    def confirm(seconds: str, now: Any) -> Any:
        with database.transaction() as session:
            token = session.scalars(select(FeedPush.token)).one()
            assert websub.confirm(
                session,
                token,
                mode="subscribe",
                topic=server.url(),
                lease_seconds=seconds,
                challenge="x",
                now=now,
            )
        return known(database).next_attempt_at

    now = utcnow()
    assert ask(database, settings, out, now) == 1
    assert confirm("864000", now) == now + 9 * DAY
    assert ask(database, settings, out, now + 8 * DAY) == 0
    now += 9 * DAY
    assert ask(database, settings, out, now) == 1
    assert server.posted[0][1] == server.posted[1][1]  # the same secret and address
    assert confirm("3600", now) == now + HOUR / 2
    server.answers["/hub"] = Answer(b"", 500)
    waits = []
    for _ in range(7):
        now = known(database).next_attempt_at
        ask(database, settings, out, now)
        assert known(database).asked_at is None
        waits.append((known(database).next_attempt_at - now) // HOUR)
    assert waits == [1, 2, 4, 8, 16, 24, 24]
    assert titles(database) == ["En egen kväll"]  # it is polled all the same


def test_a_hub_that_is_named_no_longer_is_forgotten_and_another_is_another(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    def fetch() -> None:
        done = fetching.fetch_now(database, settings, now=utcnow(), client=out)
        assert [one.error for one in done] == [None]

    first = known(database)
    fetch()
    assert known(database).secret == first.secret
    in_feed = RSS.replace(
        b"<channel>",
        b'<channel><atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="hub"'
        b' href="https://nav.example/"/>',
    )
    server.answers["/feed"] = Answer(in_feed)
    fetch()
    second = known(database)
    assert second.hub == "https://nav.example/"
    assert second.topic == server.url()
    assert second.token != first.token
    assert client.post(f"/websub/{first.token}", data=NEWS).status_code == 410
    server.answers["/feed"] = Answer()
    fetch()
    assert push_of(database) is None


def test_a_hub_hears_that_a_feed_was_removed_and_comes_back_once_about_it(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    ask(database, settings, out)
    begun = server.posted.pop()[1]
    assert verify(client, begun).status_code == 200
    assert verify(client, {**begun, "hub.mode": "unsubscribe"}).status_code == 404
    now = utcnow()
    with database.transaction() as session:
        sources.remove_feed(session, session.get_one(Feed, feed.id), now=now)
    assert client.post(path_of(begun), data=NEWS).status_code == 410
    server.answers["/hub"] = Answer(b"", 503)
    assert ask(database, settings, out, now) == 1
    form = server.posted.pop()[1]
    assert form == {
        "hub.mode": "unsubscribe",
        "hub.topic": server.url(),
        "hub.callback": begun["hub.callback"],
    }
    assert verify(client, form).status_code == 404  # it has refused
    server.answers["/hub"] = Answer(b"", 202)
    assert ask(database, settings, out, now + HOUR / 2) == 0
    assert ask(database, settings, out) == 0
    with database.transaction() as session:
        session.scalars(select(HubParting)).one().next_attempt_at = now
    assert ask(database, settings, out) == 1
    for over in ({"mode": "subscribe"}, {"topic": "https://x.example/"}):
        assert verify(client, form, **over).status_code == 404, over
    assert verify(client, form).get_data(as_text=True) == "en-utmaning"
    assert verify(client, form).status_code == 404
    assert ask(database, settings, out, now + 9 * DAY) == 0


def test_a_hub_that_never_hears_it_is_let_be(
    database: Database, settings: Settings, out: Client, server: FeedServer, feed: Feed
) -> None:
    ask(database, settings, out)
    server.answers["/hub"] = Answer(b"", 500)
    with database.transaction() as session:
        sources.remove_feed(session, session.get_one(Feed, feed.id), now=NOW)
    asked = [ask(database, settings, out, NOW + n * DAY) for n in range(8)]
    assert asked == [1, 1, 1, 1, 1, 0, 0, 0]
    with database.reading() as session:
        assert session.scalars(select(HubParting)).all() == []


def test_a_hub_on_a_private_network_is_not_asked(
    database: Database, settings: Settings, server: FeedServer, feed: Feed
) -> None:
    assert ask(database, settings, Client(Guard()), utcnow()) == 1
    assert server.posted == []
    assert known(database).asked_at is None


def test_a_paused_feed_takes_no_pushes_and_a_broken_push_is_fetched_instead(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    ask(database, settings, out)
    form = server.posted[0][1]

    def push(body: bytes) -> None:
        headers = {"X-Hub-Signature": sign(form, body)}
        assert client.post(path_of(form), data=body, headers=headers).status_code == 202

    push(b"<!doctype html><p>Inget")
    server.answers["/feed"] = Answer(NEWS)
    assert len(fetching.fetch_due(database, settings, now=utcnow(), client=out)) == 1
    assert len(titles(database)) == 2
    with database.transaction() as session:
        sources.pause_feed(session.scalars(select(Feed)).one())
        session.add(
            FeedPush(
                feed_id=feed.id,
                hub=server.url("/hub"),
                topic=server.url(),
                token=path_of(form).rpartition("/")[2],
                secret=form["hub.secret"],
                next_attempt_at=NOW,
            )
        )
    push(
        NEWS.replace(b"g-2", b"g-3")
        .replace(b"/ny/", b"/nyare/")
        .replace(b"S\xc3", b"s")
    )
    assert len(titles(database)) == 2
    assert ask(database, settings, out) == 1  # the hub that was named no longer
    assert server.posted[-1][1]["hub.mode"] == "unsubscribe"


def test_a_ping_has_the_feeds_fetched_at_once_and_never_in_a_storm(
    app: Flask,
    client: FlaskClient,
    database: Database,
    settings: Settings,
    server: FeedServer,
    out: Client,
    feed: Feed,
) -> None:
    with database.transaction() as session:
        token = sources.make_ping_token(session.scalars(select(Newsletter)).one())
    assert fetching.fetch_due(database, settings, now=utcnow(), client=out) == []
    assert client.get(f"/ping/{token}").status_code == 405
    xml = "<?xml version='1.0'?><methodCall><methodName>weblogUpdates.ping</methodName>"
    answer = client.post(f"/ping/{token}", data=xml, content_type="text/xml")
    assert (answer.status_code, answer.mimetype) == (202, "text/plain")
    assert len(fetching.fetch_due(database, settings, now=utcnow(), client=out)) == 1
    assert client.post(f"/ping/{token}").status_code == 202  # heard, for in a moment
    assert fetching.fetch_due(database, settings, now=utcnow(), client=out) == []
    again = client.post(f"/ping/{token}")
    assert (again.status_code, again.headers["Retry-After"]) == (429, "20")
    soon = utcnow() + sources.PING_GAP
    assert len(fetching.fetch_due(database, settings, now=soon, client=out)) == 1
    for wrong in (token[:-1], "x" * 5000, "%00"):
        assert client.post(f"/ping/{wrong}").status_code == 404
    with database.transaction() as session:
        assert sources.make_ping_token(session.scalars(select(Newsletter)).one())
        with pytest.raises(NotFound):
            sources.ping(session, token, now=utcnow())


def test_the_demo_asks_no_hub_as_none_could_reach_it(
    database: Database, settings: Settings, server: FeedServer, feed: Feed
) -> None:
    with database.transaction() as session:
        found = session.scalars(select(Feed)).one()
        hub, topic = server.url("/hub"), server.url()
        for demo, expected in ((False, 1), (True, 0), (True, 0)):
            where = replace(settings, demo=demo)
            websub.discover(session, where, found, hub=hub, topic=topic, now=NOW)
            session.flush()
            assert len(session.scalars(select(FeedPush)).all()) == expected
