"""Signing up: each state of an address, the confirmation, the welcome."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import ExpiredLink, InvalidInput, InvalidLink
from newsletter.mail import ledger
from newsletter.models import (
    Consent,
    Issue,
    IssueState,
    Kind,
    Message,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    Suppression,
    Topic,
)
from newsletter.subscribers import choices, leaving, rights, signup, suppression
from newsletter.subscribers.addresses import address_hash
from newsletter.subscribers.consent import Origin
from tests.factories import NOW, make_newsletter, make_post
from tests.subscribers.letterbox import FORM, last, mails

EMAIL = "Anna.Berg@example.org"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def ask(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    email: str = EMAIL,
    **over: object,
) -> None:
    values: dict[str, object] = {"origin": FORM, "now": NOW}
    signup.request_subscription(
        session,
        settings,
        newsletter,
        email,
        **{**values, **over},  # type: ignore[arg-type]
    )


def confirmed(
    session: Session, settings: Settings, newsletter: Newsletter, email: str = EMAIL
) -> Subscription:
    ask(session, settings, newsletter, email)
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    return signup.confirm(session, settings, token, origin=FORM, now=NOW)


def only(session: Session) -> Subscription:
    return session.scalars(select(Subscription)).one()


def status(session: Session) -> Status:
    return session.scalars(select(Subscription.status)).one()


def steps(session: Session) -> list[str]:
    return list(session.scalars(select(Consent.event).order_by(Consent.id)))


def test_a_request_leaves_a_pending_subscription_and_a_mail(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter, language="en")
    subscription = only(session)
    assert subscription.status == Status.PENDING
    assert subscription.subscriber.email == EMAIL
    assert subscription.subscriber.email_key == EMAIL.casefold()
    assert subscription.language == "en"
    assert subscription.requested_at == NOW
    assert len({subscription.leave_token, subscription.preferences_token}) == 2
    assert steps(session) == ["requested"]
    mail = last(session, Kind.CONFIRM)
    assert mail.address == EMAIL
    assert mail.subject == "Confirm your subscription to Allmännyttans innovationslabb"
    assert mail.token(links.CONFIRM) != mail.token(links.NEVER)


def test_wishes_that_are_not_offered_count_as_not_chosen(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    session.add(Topic(newsletter_id=newsletter.id, slug="bygge", name="Bygge"))
    session.flush()
    ask(
        session,
        settings,
        newsletter,
        language="xx",
        rhythm="daily@03:33",
        topics=["<b>"],
    )
    subscription = only(session)
    assert subscription.language == newsletter.language
    assert subscription.rhythm == newsletter.default_rhythm
    assert subscription.all_topics
    later = NOW + 11 * MINUTE
    monthly = newsletter.rhythms[1]
    ask(session, settings, newsletter, rhythm=monthly, topics=["bygge"], now=later)
    assert subscription.rhythm == monthly
    assert choices.chosen_topics(session, subscription) == ["bygge"]


def test_a_malformed_address_is_the_only_thing_refused(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    with pytest.raises(InvalidInput):
        ask(session, settings, newsletter, "anna")
    assert session.scalar(select(func.count(Subscriber.id))) == 0
    assert mails(session) == []


def test_the_mail_holds_no_word_that_a_stranger_typed(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    stranger = Origin("https://evil.example/<script>", "203.0.113.9", "KÖP NU")
    email = "http.evil.example.kop.nu@example.org"
    ask(session, settings, newsletter, email, origin=stranger)
    mail = last(session, Kind.CONFIRM)
    for part in (mail.subject, mail.text, mail.html):
        assert "evil" not in part
        assert "KÖP" not in part


def test_confirming_makes_a_reader_and_sends_a_welcome(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    post = make_post(session, newsletter, title="Kören sjunger igen")
    ask(session, settings, newsletter)
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    view = signup.look_at_confirmation(session, settings, token, now=NOW)
    assert (view.state, view.subscription) == ("ready", only(session))
    assert view.newsletter == newsletter
    subscription = signup.confirm(
        session, settings, token, origin=FORM, now=NOW + MINUTE
    )
    assert subscription.status == Status.ACTIVE
    assert subscription.confirmed_at == NOW + MINUTE
    assert steps(session) == ["requested", "confirmed"]
    welcome = last(session, Kind.WELCOME)
    assert post.title in welcome.text
    assert post.title in welcome.html
    assert post.link in welcome.text
    view = signup.look_at_confirmation(session, settings, token, now=NOW)
    assert view.state == "confirmed"


def test_confirming_twice_is_harmless(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter)
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    for _ in range(3):
        signup.confirm(session, settings, token, origin=FORM, now=NOW)
    assert steps(session) == ["requested", "confirmed"]
    assert len(mails(session, Kind.WELCOME)) == 1


def test_two_at_once_make_one_event_and_one_welcome(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        ask(session, settings, make_newsletter(session))
        token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    gate = threading.Barrier(8)
    failures: list[Exception] = []

    def press() -> None:
        gate.wait()
        try:
            with database.transaction() as session:
                signup.confirm(session, settings, token, origin=FORM, now=NOW)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reading() as session:
        assert steps(session) == ["requested", "confirmed"]
        assert len(mails(session, Kind.WELCOME)) == 1


def test_two_sign_ups_at_once_make_one_subscription_and_one_mail(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    gate = threading.Barrier(6)
    failures: list[Exception] = []

    def press() -> None:
        gate.wait()
        try:
            with database.transaction() as session:
                newsletter = session.scalars(select(Newsletter)).one()
                ask(session, settings, newsletter)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=press) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reading() as session:
        assert only(session).status == Status.PENDING
        assert len(mails(session)) == 1


def test_an_expired_link_offers_a_new_mail(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(session, settings, newsletter)
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    late = NOW + timedelta(hours=73)
    with monkeypatch.context() as patch:
        expired_at = links.read(settings, links.CONFIRM, token).issued_at
        moment = (expired_at + timedelta(hours=73)).timestamp()
        patch.setattr("time.time", lambda: moment)
        view = signup.look_at_confirmation(session, settings, token, now=late)
        assert view.state == "expired"
        assert view.newsletter == newsletter
        with pytest.raises(ExpiredLink):
            signup.confirm(session, settings, token, origin=FORM, now=late)
        signup.send_again(session, settings, token, origin=FORM, now=late)
        fresh = last(session, Kind.CONFIRM).token(links.CONFIRM)
        signup.confirm(session, settings, fresh, origin=FORM, now=late)
    assert len(mails(session, Kind.CONFIRM)) == 2
    assert only(session).status == Status.ACTIVE


def test_a_forged_link_gets_nothing(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter)
    for token in ("", "x", "W10.aaaa.bbbb", "ÅÄÖ", "\x00", "a" * 5000):
        view = signup.look_at_confirmation(session, settings, token, now=NOW)
        assert (view.state, view.newsletter) == ("invalid", None)
        with pytest.raises(InvalidLink):
            signup.confirm(session, settings, token, origin=FORM, now=NOW)
        with pytest.raises(InvalidLink):
            signup.send_again(session, settings, token, origin=FORM, now=NOW)
        with pytest.raises(InvalidLink):
            signup.never_again(session, settings, token, now=NOW)
    assert only(session).status == Status.PENDING


def test_a_link_made_before_leaving_is_void_afterwards(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    subscription = confirmed(session, settings, newsletter)
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    leaving.end(session, subscription, origin=FORM, how="page", now=NOW)
    view = signup.look_at_confirmation(session, settings, token, now=NOW)
    assert view.state == "void"
    with pytest.raises(InvalidLink):
        signup.confirm(session, settings, token, origin=FORM, now=NOW)
    assert subscription.status == Status.LEFT


def test_a_link_never_opens_the_subscription_that_got_a_deleted_ones_number(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter, "first@example.org")
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    signup.delete_unconfirmed(session, now=NOW + timedelta(days=8))
    ask(session, settings, newsletter, "second@example.org")
    second = only(session)
    stale = links.sign(
        settings, links.CONFIRM, [second.id, 0, address_hash(settings, "x")[:16]]
    )
    for old in (token, stale):
        with pytest.raises(InvalidLink):
            signup.confirm(session, settings, old, origin=FORM, now=NOW)
    assert second.status == Status.PENDING


def test_someone_who_left_stays_gone_until_they_confirm_anew(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    subscription = confirmed(session, settings, newsletter)
    tokens = subscription.leave_token, subscription.preferences_token
    leaving.end(session, subscription, origin=FORM, how="page", now=NOW)
    later = NOW + timedelta(days=2)
    ask(session, settings, newsletter, now=later)
    assert status(session) == Status.LEFT
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    signup.confirm(session, settings, token, origin=FORM, now=later)
    assert status(session) == Status.ACTIVE
    assert subscription.left_at is None
    assert (subscription.leave_token, subscription.preferences_token) == tokens
    assert len(mails(session, Kind.WELCOME)) == 2
    assert steps(session) == [
        "requested",
        "confirmed",
        "left",
        "requested",
        "confirmed",
    ]


def test_an_active_reader_gets_told_so_and_nothing_changes(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    subscription = confirmed(session, settings, newsletter)
    later = NOW + timedelta(hours=1)
    ask(session, settings, newsletter, rhythm=newsletter.rhythms[1], now=later)
    mail = last(session, Kind.CONFIRM)
    assert mail.subject == ("Du prenumererar redan på Allmännyttans innovationslabb")
    assert "/confirm/" not in mail.text + mail.html
    assert "/preferences/" in mail.text
    assert subscription.status == Status.ACTIVE
    assert subscription.rhythm == newsletter.default_rhythm
    assert steps(session) == ["requested", "confirmed"]


@pytest.mark.parametrize("reason", ["never", "complained"])
def test_who_forbade_all_mail_hears_nothing(
    session: Session, settings: Settings, newsletter: Newsletter, reason: str
) -> None:
    hashed = address_hash(settings, EMAIL.casefold())
    suppression.suppress(session, hashed, reason=reason, now=NOW)
    ask(session, settings, newsletter)
    assert mails(session) == []
    assert session.scalar(select(func.count(Subscriber.id))) == 0


@pytest.mark.parametrize("reason", ["erased", "left", "bounced"])
def test_a_new_confirmed_sign_up_lifts_a_suppression(
    session: Session, settings: Settings, newsletter: Newsletter, reason: str
) -> None:
    hashed = address_hash(settings, EMAIL.casefold())
    suppression.suppress(session, hashed, reason=reason, now=NOW)
    subscription = confirmed(session, settings, newsletter)
    assert subscription.status == Status.ACTIVE
    assert session.scalar(select(func.count(Suppression.id))) == 0


@pytest.mark.parametrize("past", ["left", "bounced", "erased", "never"])
def test_the_sender_lets_the_new_mail_through_unless_all_mail_was_forbidden(
    session: Session, settings: Settings, newsletter: Newsletter, past: str
) -> None:
    reader = confirmed(session, settings, newsletter)
    hashed = reader.subscriber.address_hash
    later = NOW + timedelta(hours=1)
    if past == "left":
        leaving.end(session, reader, origin=FORM, how="page", now=NOW)
    elif past == "erased":
        rights.erase_subscriber(session, reader.subscriber, now=NOW)
    ask(session, settings, newsletter, now=later)
    if past in {"bounced", "never"}:  # between the request and its turn
        suppression.remember(session, hashed, reason=past, now=later)
    claimed = ledger.claim(session, worker="w", limit=9, now=later).claims
    kinds = set(
        session.scalars(
            select(Message.kind).where(Message.id.in_([c.message_id for c in claimed]))
        )
    )
    assert kinds == (set() if past == "never" else {Kind.CONFIRM})


def test_a_complaint_beats_a_link_sent_before_it(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter)
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    hashed = only(session).subscriber.address_hash
    suppression.suppress(session, hashed, reason="complained", now=NOW)
    view = signup.look_at_confirmation(session, settings, token, now=NOW)
    assert view.state == "void"
    with pytest.raises(InvalidLink):
        signup.confirm(session, settings, token, origin=FORM, now=NOW)


def test_never_again_keeps_only_a_hash_and_silences_the_form(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    ask(session, settings, newsletter)
    mail = last(session, Kind.CONFIRM)
    token = mail.token(links.NEVER)
    signup.look_at_never(settings, token)
    for _ in range(2):
        signup.never_again(session, settings, token, now=NOW)
    assert session.scalar(select(func.count(Subscriber.id))) == 0
    assert mails(session) == []  # the request's own mail is forgotten as well
    row = session.scalars(select(Suppression)).one()
    assert (row.reason, row.newsletter_id) == ("never", None)
    ask(session, settings, newsletter, now=NOW + timedelta(days=40))
    assert mails(session) == []
    with pytest.raises(InvalidLink):
        confirm = mail.token(links.CONFIRM)
        signup.confirm(session, settings, confirm, origin=FORM, now=NOW)


def test_never_again_stops_a_readers_mail_everywhere(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    subscription = confirmed(session, settings, newsletter)
    other = make_newsletter(session, "annat")
    ask(session, settings, other)
    token = last(session, Kind.CONFIRM).token(links.NEVER)
    signup.never_again(session, settings, token, now=NOW)
    session.refresh(subscription)
    assert subscription.status == Status.SUPPRESSED


def test_a_new_reader_begins_after_the_last_issue_that_went_out(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    for _ in range(5):
        make_post(session, newsletter)
    for number, state, last_position in (
        (1, IssueState.SENT, 2),
        (2, IssueState.SENDING, 4),
        (None, IssueState.DRAFT, 5),
    ):
        session.add(
            Issue(
                newsletter_id=newsletter.id,
                number=number,
                state=state,
                last_position=last_position,
            )
        )
    session.flush()
    subscription = confirmed(session, settings, newsletter)
    assert subscription.cursor == 4
    subscription.cursor = 9
    leaving.end(session, subscription, origin=FORM, how="page", now=NOW)
    ask(session, settings, newsletter, now=NOW + timedelta(days=1))
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    signup.confirm(session, settings, token, origin=FORM, now=NOW)
    assert subscription.cursor == 9  # who comes back gets nothing twice


def test_the_first_reader_of_all_begins_at_the_beginning(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    assert confirmed(session, settings, newsletter).cursor == 0


def test_requests_that_nobody_confirms_are_gone_after_a_week(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    reader = confirmed(session, settings, newsletter, "reader@example.org")
    ask(session, settings, newsletter, "fresh@example.org", now=NOW)
    week = timedelta(days=7)
    ask(session, settings, newsletter, "old@example.org", now=NOW - timedelta(hours=1))
    assert signup.delete_unconfirmed(session, now=NOW + week - MINUTE) == 1
    left = set(session.scalars(select(Subscriber.email)))
    assert left == {"reader@example.org", "fresh@example.org"}
    assert not [m for m in mails(session) if m.address == "old@example.org"]
    assert signup.delete_unconfirmed(session, now=NOW + week) == 1
    assert only(session) == reader
