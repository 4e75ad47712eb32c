"""A newsletter's own relay: its mail goes there, and no other mail waits for it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.config import Relay, Settings
from newsletter.db import Database, utcnow
from newsletter.errors import ConfigError, InvalidInput, RelayError
from newsletter.mail import ledger, limits, outbox, own_relays, relays
from newsletter.mail.own_relays import Draft
from newsletter.mail.senders import Senders
from newsletter.mail.smtp import Connection
from newsletter.models import (
    Kind,
    Message,
    Newsletter,
    NewsletterRelay,
    RelayBudget,
    RelayHealth,
    Worker,
)
from tests.delivering import through
from tests.factories import NOW, make_newsletter, make_subscription
from tests.mail.letters import make_letter, queue_issue
from tests.mail.test_sender import until
from tests.smtp_server import PATIENCE_SECONDS, SmtpServer


@pytest.fixture
def other() -> Iterator[SmtpServer]:
    """The newsletter's own."""
    with SmtpServer(login=("lab", "hemligt")) as server:
        yield server


@pytest.fixture
def place(settings: Settings, smtp_server: SmtpServer) -> Settings:
    """The installation with `smtp_server` as its relay; this host may be named."""
    return replace(through(settings, smtp_server), relay_allow=("127.0.0.1",))


def draft(server: SmtpServer, **over: Any) -> Draft:
    user, password = server.login or ("", None)
    values = {"security": "plain", "user": user, "password": password, **over}
    return Draft("127.0.0.1", server.port, **values)


def make(database: Database, slug: str, readers: int = 0) -> tuple[Newsletter, int]:
    """Make a newsletter and queue an issue of it; return both."""
    with database.transaction() as session:
        newsletter = make_newsletter(session, slug)
        for number in range(readers):
            make_subscription(session, newsletter, f"{slug}{number}@exempel.example")
        if not readers:
            return newsletter, 0
        return newsletter, queue_issue(session, newsletter).issue_id or 0


def single(database: Database, newsletter: Newsletter | None, address: str) -> None:
    with database.transaction() as session:
        outbox.queue_single(
            session,
            make_letter(Kind.CONFIRM),
            address=address,
            occasion=address,
            newsletter_id=newsletter.id if newsletter else None,
            now=NOW,
        )


def give(
    database: Database, place: Settings, newsletter: Newsletter, typed: Draft
) -> None:
    with database.transaction() as session:
        own_relays.save(session, place, newsletter, typed, now=utcnow())


@contextmanager
def working(database: Database, settings: Settings) -> Iterator[Senders]:
    """A worker's senders in a thread; stopped, and checked to stop, at the end."""
    made: list[Senders] = []
    stops: list[Callable[[], object]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        made.append(Senders(database, settings))
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        await made[0].run(stop)

    thread = Thread(target=lambda: asyncio.run(main()))
    thread.start()
    until(lambda: bool(stops))
    try:
        yield made[0]
    finally:
        stops[0]()
        thread.join(timeout=PATIENCE_SECONDS)
        assert not thread.is_alive()


def left(database: Database, issue_id: int) -> int:
    with database.reading() as session:
        return ledger.counts(session, issue_id=issue_id).left


def test_each_newsletter_goes_its_way_and_changes_it_while_workers_run(
    database: Database, place: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    lab, of_lab = make(database, "lab", 30)
    _, of_rest = make(database, "rest", 30)
    give(database, place, lab, draft(other, per_day=1000))
    single(database, lab, "bekrafta@lab.example")
    single(database, None, "konto@inkorg.example")
    with working(database, place):
        until(lambda: not left(database, of_lab) + left(database, of_rest))
        smtp_server.wait_for(31)
        other.wait_for(31)
        assert {mail.login for mail in other.received} == {"lab"}
        assert {to[:3] for to in other.seen} == {"lab", "bek"}
        assert {to[:3] for to in smtp_server.seen} == {"res", "kon"}
        with database.reading() as session:
            name = own_relays.all_in_use(session)[0]
            budget = session.get_one(RelayBudget, relays.own_name(*name))
            assert budget.used_today >= 31
            pools = set(session.scalars(select(Worker.pool)))
            assert pools == {0, lab.id}
            assert relays.live_workers(session, now=utcnow()) == 1
        # Another server and password: from the next mail on, without a restart.
        with SmtpServer(login=("lab", "nytt")) as third:
            give(database, place, lab, draft(third))
            numbers = count()

            def one_more_goes_there() -> bool:
                single(database, lab, f"mer{next(numbers)}@lab.example")
                return third.count > 0

            until(one_more_goes_there)
            with database.transaction() as session:
                own_relays.switch(session, lab, on=False, now=utcnow())
            single(database, lab, "sedan@lab.example")
            until(lambda: bool(smtp_server.to("sedan@lab.example")))


def test_a_relay_that_refuses_holds_up_its_own_newsletter_alone(
    database: Database, place: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    """Its pauses and its status are its own, and mail goes on when it is mended."""
    lab, of_lab = make(database, "lab", 20)
    rest, of_rest = make(database, "rest", 200)
    give(database, place, lab, draft(other, password="fel"))
    with working(database, place):
        until(lambda: not left(database, of_rest))
        assert smtp_server.count == 200
        assert (left(database, of_lab), other.count) == (20, 0)

        def said() -> str:
            with database.reading() as session:
                return relays.progress(session, of_lab, utcnow()).waiting_reason

        until(lambda: "535" in said())
        with database.reading() as session:
            assert relays.trouble(session, now=utcnow(), newsletter_id=rest.id) is None
            assert relays.trouble(session, now=utcnow()) is None
            health = session.scalars(select(RelayHealth)).one()
            assert health.name == f"127.0.0.1:{other.port}@lab"
        give(database, place, lab, draft(other))
        until(lambda: not left(database, of_lab))
        assert (other.count, smtp_server.count) == (20, 200)
        assert said() == ""


@pytest.mark.parametrize("spare", [False, True])
def test_the_installations_relay_stands_in_if_that_is_wished(
    database: Database, place: Settings, smtp_server: SmtpServer, spare: bool
) -> None:
    lab, of_lab = make(database, "lab", 10)
    with SmtpServer() as gone:
        pass
    give(database, place, lab, draft(gone, spare=spare))
    with working(database, place):
        if spare:
            until(lambda: not left(database, of_lab))
            assert smtp_server.count == 10
            return
        until(lambda: bool(waits(database, lab)))
        assert smtp_server.count == 0


def waits(database: Database, newsletter: Newsletter) -> RelayError | None:
    with database.reading() as session:
        return relays.trouble(session, now=utcnow(), newsletter_id=newsletter.id)


def test_a_password_that_no_secret_key_opens_lets_mail_wait_and_says_so(
    database: Database, place: Settings, smtp_server: SmtpServer, other: SmtpServer
) -> None:
    lab, of_lab = make(database, "lab", 3)
    give(database, place, lab, draft(other))
    with database.reading() as session:
        row = session.scalars(select(NewsletterRelay)).one()
        assert b"hemligt" not in bytes(row.password)
    strange = replace(place, secret_keys=("another key, and nothing of the old one",))
    with working(database, strange):
        until(lambda: "NEWSLETTER_SECRET_KEYS" in str(waits(database, lab)))
        assert (left(database, of_lab), smtp_server.count, other.count) == (3, 0, 0)
    # With the old key behind a new one it opens, and is encrypted anew.
    both = replace(place, secret_keys=("k" * 41, *place.secret_keys))
    with database.transaction() as session:
        assert own_relays.renew(session, both) == 1
        assert own_relays.renew(session, both) == 0
    newest = replace(place, secret_keys=("k" * 41,))
    with database.reading() as session:
        assert own_relays.unopened(session, newest) == []
        assert [slug for slug, _ in own_relays.unopened(session, place)] == ["lab"]
        row = session.scalars(select(NewsletterRelay)).one()
        assert own_relays.opened(newest, row, "lab").password == "hemligt"
        with pytest.raises(ConfigError):
            own_relays.opened(place, row, "lab")


def test_the_key_to_an_account_goes_by_the_installations_relay(
    session: Session, place: Settings, other: SmtpServer
) -> None:
    """Whoever names a relay must not read others' links; not even those that wait."""
    newsletter = make_newsletter(session, "lab")
    assert own_relays.may_send_accounts(session, newsletter)
    for kind in (Kind.NOTICE, Kind.CONFIRM):
        outbox.queue_single(
            session,
            make_letter(kind),
            address="agare@inkorg.example",
            occasion=kind.value,
            newsletter_id=newsletter.id,
            now=NOW,
        )
    own_relays.save(session, place, newsletter, draft(other), now=NOW)
    assert not own_relays.may_send_accounts(session, newsletter)
    goes = select(Message.kind, Message.newsletter_id).order_by(Message.id)
    assert [tuple(row) for row in session.execute(goes)] == [
        (Kind.NOTICE, None),
        (Kind.CONFIRM, newsletter.id),
    ]
    assert ledger.waiting(session, 10) == 1
    assert ledger.waiting(session, 10, newsletter.id) == 1


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"host": ""}, "host"),
        ({"host": "a b"}, "host"),
        ({"host": "smtp.example\r\nX: y"}, "host"),
        ({"host": "x" * 201}, "host"),
        ({"port": 6379}, "port"),
        ({"port": 0}, "port"),
        ({"security": "plain"}, "security"),
        ({"security": "none"}, "security"),
        ({"host": "10.0.0.5", "security": "plain"}, "security"),
        ({"user": "a\nb"}, "user"),
        ({"user": "a", "password": ""}, "password"),
        ({"user": "a", "password": "a\nb"}, "password"),
        ({"user": "a"}, "password"),
        ({"connections": 51}, "connections"),
        ({"rate_per_second": float("nan")}, "rate_per_second"),
        ({"per_day": -1}, "per_day"),
        ({"warmup_first": 50}, "warmup_from"),
    ],
)
def test_what_cannot_be_is_refused(
    session: Session, place: Settings, over: dict[str, Any], field: str
) -> None:
    newsletter = make_newsletter(session)
    typed = replace(Draft("smtp.example.org", 465), **over)
    with pytest.raises(InvalidInput) as refused:
        own_relays.save(session, place, newsletter, typed, now=NOW)
    assert refused.value.field == field
    assert own_relays.of(session, newsletter.id) is None


def test_the_kept_password_goes_nowhere_else(session: Session, place: Settings) -> None:
    newsletter = make_newsletter(session)
    first = Draft("smtp.example.org", 465, user="lab", password="hemligt")
    own_relays.save(session, place, newsletter, first, now=NOW)
    kept = replace(first, password=None, host=" SMTP.example.org. ", per_day=5)
    assert own_relays.drafted(session, place, newsletter, kept).password == "hemligt"
    own_relays.save(session, place, newsletter, kept, now=NOW)
    for over in (
        {"host": "smtp.ond.example"},
        {"port": 587},
        {"security": "starttls"},
        {"user": "annan"},
    ):
        elsewhere = replace(kept, **over)
        for act in (own_relays.drafted, own_relays.save):
            more = {"now": NOW} if act is own_relays.save else {}
            with pytest.raises(InvalidInput, match="Type the password"):
                act(session, place, newsletter, elsewhere, **more)
    row = own_relays.of(session, newsletter.id)
    assert row
    relay = own_relays.opened(place, row, newsletter.slug)
    assert (relay.host, relay.password, relay.per_day) == (
        *("smtp.example.org", "hemligt", 5),
    )
    assert limits.is_limited(relay)
    assert "hemligt" not in repr(relay) + repr(first) + relay.name


@pytest.mark.parametrize(
    ("host", "inside", "reached"),
    [
        ("127.0.0.1", (), False),
        ("localhost", (), False),
        ("localhost", ("10.0.0.0/8",), False),
        ("localhost", ("127.0.0.0/8", "::1"), True),
        ("127.0.0.1", ("127.0.0.1",), True),
        ("127.0.0.1", None, True),
    ],
)
def test_an_inside_host_is_not_dialled_unless_the_operator_allows_it(
    smtp_server: SmtpServer,
    host: str,
    inside: tuple[str, ...] | None,
    reached: bool,
) -> None:
    async def dial() -> None:
        relay = Relay(host, smtp_server.port, inside=inside)
        connection = await Connection.open(relay, ehlo_name="inkorg.test")
        await connection.quit()

    if reached:
        asyncio.run(dial())
    else:
        with pytest.raises(RelayError, match="private network"):
            asyncio.run(dial())
    assert bool(smtp_server.connections) == reached
