"""A new address: confirmed where it is, once, and merged with who is there."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import Conflict, ExpiredLink, InvalidInput, InvalidLink
from newsletter.models import (
    Consent,
    Kind,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    Suppression,
)
from newsletter.subscribers import leaving, moving, preferences, suppression
from newsletter.subscribers.addresses import address_hash, read_address
from tests.factories import NOW, make_newsletter, make_subscription
from tests.subscribers.letterbox import FORM, last, mails

OLD, NEW = "anna@example.org", "Anna.Berg@example.net"


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def make_reader(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    email: str,
    **over: object,
) -> Subscription:
    reader = make_subscription(session, newsletter, email, **over)
    reader.subscriber.address_hash = address_hash(settings, email.casefold())
    session.flush()
    return reader


@pytest.fixture
def reader(
    session: Session, settings: Settings, newsletter: Newsletter
) -> Subscription:
    return make_reader(session, settings, newsletter, OLD, cursor=3)


def ask(session: Session, settings: Settings, reader: Subscription) -> str:
    moving.request_address_change(session, settings, reader, NEW, origin=FORM, now=NOW)
    return last(session, Kind.ADDRESS).token(links.ADDRESS)


def accept(session: Session, settings: Settings, token: str) -> Subscription:
    return moving.confirm_address_change(session, settings, token, origin=FORM, now=NOW)


def test_nothing_changes_until_the_new_address_confirms(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    token = ask(session, settings, reader)
    assert [mail.address for mail in mails(session)] == [NEW]
    assert reader.subscriber.email == OLD
    view = moving.look_at_address_change(session, settings, token)
    assert (view.state, view.email, view.subscription) == ("ready", NEW, reader)
    leave_token = reader.leave_token
    moved = accept(session, settings, token)
    assert moved is reader
    assert reader.subscriber.email == NEW
    assert reader.subscriber.email_key == NEW.casefold()
    assert reader.subscriber.address_hash == address_hash(settings, NEW.casefold())
    assert reader.leave_token == leave_token
    assert moving.look_at_address_change(session, settings, token).state == "changed"
    accept(session, settings, token)
    events = list(session.scalars(select(Consent.event)))
    assert events == ["address changed"]


def test_a_link_works_once_even_when_the_address_changed_back(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    token = ask(session, settings, reader)
    accept(session, settings, token)
    moving.move(
        session,
        settings,
        reader.subscriber,
        read_address(OLD),
        FORM,
        NOW,
    )
    assert moving.look_at_address_change(session, settings, token).state == "void"
    with pytest.raises(InvalidLink):
        accept(session, settings, token)
    assert reader.subscriber.email == OLD


def test_a_second_request_is_void_when_the_first_was_taken(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    token = ask(session, settings, reader)
    moving.request_address_change(
        session, settings, reader, "third@example.org", origin=FORM, now=NOW
    )
    other = last(session, Kind.ADDRESS).token(links.ADDRESS)
    accept(session, settings, other)
    with pytest.raises(InvalidLink):
        accept(session, settings, token)


def test_an_expired_or_forged_link_moves_nobody(
    session: Session,
    settings: Settings,
    reader: Subscription,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = ask(session, settings, reader)
    issued = links.read(settings, links.ADDRESS, token).issued_at
    late = (issued + timedelta(hours=73)).timestamp()
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: late)
        assert (
            moving.look_at_address_change(session, settings, token).state == "expired"
        )
        with pytest.raises(ExpiredLink):
            accept(session, settings, token)
    for forged in ("", "x", token[:-3] + "abc"):
        assert (
            moving.look_at_address_change(session, settings, forged).state == "invalid"
        )
        with pytest.raises(InvalidLink):
            accept(session, settings, forged)


def test_the_same_address_in_another_spelling_is_refused(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    with pytest.raises(InvalidInput) as caught:
        moving.request_address_change(
            session, settings, reader, OLD.upper(), origin=FORM, now=NOW
        )
    assert caught.value.field == "email"


def test_who_forbade_mail_is_not_asked_and_cannot_be_moved_to(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    token = ask(session, settings, reader)
    hashed = address_hash(settings, NEW.casefold())
    suppression.suppress(session, hashed, reason="never", now=NOW)
    later = NOW + timedelta(hours=1)
    moving.request_address_change(
        session, settings, reader, NEW, origin=FORM, now=later
    )
    assert len(mails(session)) == 1
    with pytest.raises(Conflict):
        accept(session, settings, token)
    assert reader.subscriber.email == OLD


def test_a_bounced_reader_gets_mail_again_at_a_new_address(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    hashed = reader.subscriber.address_hash
    suppression.suppress(session, hashed, reason="bounced", now=NOW)
    token = ask(session, settings, reader)
    assert accept(session, settings, token).status == Status.ACTIVE


@pytest.mark.parametrize(
    ("here", "there", "kept", "cursor"),
    [
        (Status.ACTIVE, Status.ACTIVE, "here", 3),
        (Status.ACTIVE, Status.LEFT, "here", 3),
        (Status.LEFT, Status.ACTIVE, "there", 5),
        (Status.ACTIVE, Status.PENDING, "here", 3),
        (Status.PAUSED, Status.ACTIVE, "there", 5),
        (Status.ACTIVE, Status.SUPPRESSED, "here", 3),
    ],
)
def test_two_subscriptions_of_one_person_become_one(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    reader: Subscription,
    here: Status,
    there: Status,
    kept: str,
    cursor: int,
) -> None:
    other = make_reader(session, settings, newsletter, NEW, status=there, cursor=5)
    elsewhere = make_newsletter(session, "annat")
    second = make_subscription(session, elsewhere, "x@example.org")
    second.subscriber_id = reader.subscriber_id
    session.flush()
    session.expire(second)
    stray = session.scalars(
        select(Subscriber).where(Subscriber.email == "x@example.org")
    ).one()
    session.delete(stray)
    reader.status = here
    session.flush()
    tokens = {
        (s.leave_token, s.preferences_token): s.id for s in (reader, other, second)
    }
    moved = accept(session, settings, ask(session, settings, reader))
    assert moved.id == (reader.id if kept == "here" else other.id)
    assert moved.cursor == cursor
    assert moved.had_until == (5 if kept == "here" else 3)  # what the ledger is asked
    assert session.scalars(select(Subscriber.email)).all() == [NEW]
    assert session.scalar(select(func.count(Subscription.id))) == 2
    session.expire_all()
    for (leave_token, preferences_token), subscription_id in tokens.items():
        goal = second.id if subscription_id == second.id else moved.id
        left = leaving.find_by_leave_token(session, leave_token)
        assert left
        assert left.id == goal
        chosen = preferences.find_by_preferences_token(session, preferences_token)
        assert chosen.id == goal
        assert leaving.find_by_leave_token(session, preferences_token) is None
    events = set(session.scalars(select(Consent.event)))
    assert {"merged", "address changed"} <= events


def test_an_old_mails_one_click_ends_the_merged_subscription(
    session: Session, settings: Settings, newsletter: Newsletter, reader: Subscription
) -> None:
    other = make_reader(session, settings, newsletter, NEW, status=Status.LEFT)
    token = other.leave_token
    moved = accept(session, settings, ask(session, settings, reader))
    assert moved.status == Status.ACTIVE
    leaving.leave(session, settings, token, origin=FORM, how="one-click", now=NOW)
    assert session.scalars(select(Subscription.status)).all() == [Status.LEFT]
    assert session.scalar(select(func.count(Suppression.id))) == 0
