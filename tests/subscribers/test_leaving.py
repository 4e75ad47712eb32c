"""Leaving: at once, whatever happens around it, and with a way back."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import Conflict, InvalidInput, InvalidLink
from newsletter.mail import ledger
from newsletter.models import Consent, Delivery, Kind, Newsletter, Status, Subscription
from newsletter.subscribers import leaving, preferences, rights, signup, suppression
from tests.factories import NOW, make_newsletter, make_subscription
from tests.subscribers.letterbox import FORM, last, mails

SLOWER = "monthly:first-mon@08:00"
HOUR = timedelta(hours=1)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture
def reader(session: Session, newsletter: Newsletter) -> Subscription:
    return make_subscription(session, newsletter, "anna@example.org")


def leave(session: Session, settings: Settings, token: str) -> Subscription | None:
    return leaving.leave(
        session, settings, token, origin=FORM, how="one-click", now=NOW
    )


def steps(session: Session) -> list[str]:
    return list(session.scalars(select(Consent.event).order_by(Consent.id)))


def test_leaving_is_at_once_and_recorded_once(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    for _ in range(3):
        assert leave(session, settings, reader.leave_token) == reader
    assert reader.status == Status.LEFT
    assert reader.left_at == NOW
    assert reader.round == 1
    step = session.scalars(select(Consent)).one()
    assert (step.event, step.detail) == ("left", {"how": "one-click", "was": "active"})


def test_mail_that_waits_is_taken_out(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    rights.request_data_link(session, settings, reader, now=NOW)
    leave(session, settings, reader.leave_token)
    delivery = session.scalars(
        select(Delivery).execution_options(populate_existing=True)
    ).one()
    assert (delivery.state.value, delivery.reason) == ("skipped", "left")


def test_eight_who_leave_at_once_leave_once(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        token = make_subscription(session, make_newsletter(session)).leave_token
    gate = threading.Barrier(8)
    failures: list[Exception] = []

    def press() -> None:
        gate.wait()
        try:
            with database.transaction() as session:
                leave(session, settings, token)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reading() as session:
        assert session.scalars(select(Subscription.round)).one() == 1
        assert steps(session) == ["left"]


def test_a_token_nobody_has_is_answered_like_any_other(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    gone = reader.leave_token
    rights.erase_subscriber(session, reader.subscriber, now=NOW)
    for token in (gone, links.new_token(), "", "x", "å" * 22, "'; --", "a" * 5000):
        assert leave(session, settings, token) is None


def test_the_other_token_does_not_open_this_door(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    assert leave(session, settings, reader.preferences_token) is None
    assert reader.status == Status.ACTIVE
    with pytest.raises(InvalidLink):
        preferences.find_by_preferences_token(session, reader.leave_token)


def test_leaving_can_be_taken_back_for_a_day(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    leave(session, settings, reader.leave_token)
    for _ in range(2):
        back = leaving.undo(
            session, settings, reader.leave_token, origin=FORM, now=NOW + HOUR
        )
    assert back.status == Status.ACTIVE
    assert back.left_at is None
    assert steps(session) == ["left", "returned"]
    leave(session, settings, reader.leave_token)
    late = NOW + 25 * HOUR
    assert not leaving.can_undo(reader, now=late)
    with pytest.raises(Conflict):
        leaving.undo(session, settings, reader.leave_token, origin=FORM, now=late)
    with pytest.raises(InvalidLink):
        leaving.undo(session, settings, links.new_token(), origin=FORM, now=NOW)


def test_who_was_on_a_pause_comes_back_to_it(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    until = NOW + timedelta(days=3)
    preferences.pause(session, reader, until, origin=FORM, now=NOW)
    leave(session, settings, reader.leave_token)
    leaving.undo(session, settings, reader.leave_token, origin=FORM, now=NOW)
    assert (reader.status, reader.paused_until) == (Status.PAUSED, until)


def test_what_was_never_confirmed_cannot_be_taken_back(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    pending = make_subscription(
        session, newsletter, status=Status.PENDING, confirmed_at=None
    )
    leave(session, settings, pending.leave_token)
    with pytest.raises(Conflict):
        leaving.undo(session, settings, pending.leave_token, origin=FORM, now=NOW)


def test_a_complaint_cannot_be_undone_by_a_link(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    hashed = reader.subscriber.address_hash
    leave(session, settings, reader.leave_token)
    suppression.suppress(session, hashed, reason="complained", now=NOW)
    assert reader.status == Status.LEFT
    with pytest.raises(Conflict):
        leaving.undo(session, settings, reader.leave_token, origin=FORM, now=NOW)
    with pytest.raises(Conflict):
        leaving.choose_rhythm(
            session, settings, reader.leave_token, SLOWER, origin=FORM, now=NOW
        )


def test_fewer_mails_instead_of_none(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    assert leaving.fewer_rhythms(reader) == [SLOWER]
    token = reader.leave_token
    leaving.choose_rhythm(session, settings, token, SLOWER, origin=FORM, now=NOW)
    assert reader.rhythm == SLOWER
    leave(session, settings, token)
    leaving.choose_rhythm(session, settings, token, SLOWER, origin=FORM, now=NOW)
    assert reader.status == Status.ACTIVE
    with pytest.raises(InvalidInput):
        leaving.choose_rhythm(session, settings, token, "each", origin=FORM, now=NOW)
    assert steps(session) == ["changed", "left", "returned"]


def test_a_suppressed_reader_who_leaves_stays_suppressed(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    hashed = reader.subscriber.address_hash
    suppression.suppress(session, hashed, reason="bounced", now=NOW)
    leave(session, settings, reader.leave_token)
    assert reader.status == Status.SUPPRESSED


def test_leaving_after_signing_up_again_wins_over_the_new_link(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    reader = make_subscription(session, newsletter, "anna@example.org")
    leave(session, settings, reader.leave_token)
    signup.request_subscription(
        session, settings, newsletter, "anna@example.org", origin=FORM, now=NOW
    )
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    signup.confirm(session, settings, token, origin=FORM, now=NOW)
    leave(session, settings, reader.leave_token)
    with pytest.raises(InvalidLink):
        signup.confirm(session, settings, token, origin=FORM, now=NOW)
    assert reader.status == Status.LEFT
    assert len(mails(session, Kind.WELCOME)) == 1


def test_each_welcome_has_an_occasion_of_its_own(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    for _ in range(2):
        signup.welcome(session, settings, reader, now=NOW)
    assert len(mails(session)) == 1
    assert session.scalars(select(Delivery.lane)).one() == ledger.SINGLE
