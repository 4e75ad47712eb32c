"""While an issue is being sent off, which takes a while, readers need not wait.

On SQLite there is one writer at a time, and the issue is written in a moment.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import drafts, publish
from newsletter.mail import own_relays
from newsletter.models import Issue, Newsletter, Status, Subscriber, Subscription
from newsletter.subscribers import (
    leaving,
    moving,
    preferences,
    rights,
    signup,
    suppression,
)
from newsletter.subscribers.consent import Origin
from tests.factories import NOW, make_newsletter, make_post, make_subscription

ORIGIN = Origin(page="/", network="192.0.2.1", wording="Ja.")
READER, PENDING, PAUSED = "lova@x.example", "vide@x.example", "paus@x.example"
Act = Callable[[Session, Settings], object]


@pytest.fixture
def patient(database: Database) -> None:
    """Leave out SQLite."""
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")


@pytest.fixture
def sending(patient: None, database: Database, settings: Settings) -> Iterator[Session]:
    """An issue that has been sent off, in a transaction that is not over."""
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        make_post(session, newsletter)
        make_subscription(session, newsletter, READER)
        make_subscription(session, newsletter, PENDING, status=Status.PENDING)
        make_subscription(
            session,
            newsletter,
            PAUSED,
            status=Status.PAUSED,
            paused_until=NOW - timedelta(days=1),
        )
        drafts.draft(session, newsletter, now=NOW)
    with database.transaction() as session:
        issue = session.scalars(select(Issue)).one()
        assert publish.send(session, settings, issue, now=NOW) == 1
        session.flush()
        yield session


def of(session: Session, email: str) -> Subscription:
    query = select(Subscription).join(Subscriber).where(Subscriber.email == email)
    return session.scalars(query).one()


def sign_up(session: Session, settings: Settings, email: str = "ny@x.example") -> None:
    newsletter = session.scalars(select(Newsletter)).one()
    signup.request_subscription(
        session, settings, newsletter, email, origin=ORIGIN, now=NOW
    )


def sign_up_twice(session: Session, settings: Settings) -> None:
    sign_up(session, settings, READER)


def confirm(session: Session, settings: Settings) -> None:
    reader = of(session, PENDING)
    payload = [reader.id, reader.round, reader.subscriber.address_hash[:16]]
    token = links.sign(settings, links.CONFIRM, payload)
    signup.confirm(session, settings, token, origin=ORIGIN, now=NOW)


def leave(session: Session, settings: Settings) -> None:
    token = of(session, READER).leave_token
    leaving.leave(session, settings, token, origin=ORIGIN, how="page", now=NOW)


def change(session: Session, _settings: Settings) -> None:
    reader = of(session, READER)
    preferences.change(session, reader, language="en", origin=ORIGIN, now=NOW)


def pause(session: Session, _settings: Settings) -> None:
    reader, until = of(session, READER), NOW + timedelta(days=9)
    preferences.pause(session, reader, until, origin=ORIGIN, now=NOW)


def resume(session: Session, _settings: Settings) -> None:
    assert preferences.resume_paused(session, now=NOW) == 1


def complain(session: Session, _settings: Settings) -> None:
    hashed = of(session, READER).subscriber.address_hash
    suppression.suppress(session, hashed, reason=suppression.COMPLAINED, now=NOW)


def move(session: Session, settings: Settings) -> None:
    payload = [
        (reader := of(session, READER)).id,
        reader.subscriber.address_hash[:16],
        "flyttad@x.example",
        links.new_token(),
    ]
    token = links.sign(settings, links.ADDRESS, payload)
    moving.confirm_address_change(session, settings, token, origin=ORIGIN, now=NOW)


def ask_for_data(session: Session, settings: Settings) -> None:
    rights.request_data_link(session, settings, of(session, READER), now=NOW)


def log_in(session: Session, _settings: Settings) -> None:
    newsletter = session.scalars(select(Newsletter)).one()
    assert own_relays.may_send_accounts(session, newsletter)


@pytest.mark.parametrize(
    "act",
    [
        sign_up,
        sign_up_twice,
        confirm,
        leave,
        change,
        pause,
        resume,
        complain,
        move,
        ask_for_data,
        log_in,
    ],
    ids=lambda act: act.__name__,
)
def test_nobody_waits_until_an_issue_is_sent_off(
    sending: Session, database: Database, settings: Settings, act: Act
) -> None:
    with database.transaction() as session:
        session.execute(text("SET LOCAL lock_timeout = '3s'"))
        act(session, settings)
