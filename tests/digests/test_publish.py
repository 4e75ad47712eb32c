"""Sending: once, wholly or not at all, and stopped when somebody says so."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import event, func, insert, select, update
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.db import Database, count_anew
from newsletter.digests import drafts, publish
from newsletter.errors import Conflict, InkorgError, InvalidInput
from newsletter.mail import mime
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Kind,
    Message,
    MessageState,
    Newsletter,
    PostState,
    Status,
    Subscriber,
    Subscription,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription

LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture
def issue(session: Session, newsletter: Newsletter) -> Issue:
    make_post(session, newsletter)
    make_post(session, newsletter)
    for name, language in [("a", "sv"), ("b", "sv"), ("c", "en")]:
        make_subscription(session, newsletter, f"{name}@x.example", language=language)
    return drafts.draft(session, newsletter, now=NOW)


def settle(
    session: Session, state: DeliveryState = DeliveryState.SENT, *addresses: str
) -> None:
    """Let deliveries end as the worker would."""
    statement = update(Delivery).values(state=state, settled_at=LATER)
    if addresses:
        statement = statement.where(Delivery.address.in_(addresses))
    session.execute(statement)
    session.expire_all()


def messages(session: Session) -> list[Message]:
    return list(session.scalars(select(Message).order_by(Message.edition)))


def test_sending_freezes_an_edition_per_language_and_queues_every_reader(
    session: Session, settings: Settings, issue: Issue
) -> None:
    assert publish.audience_count(session, issue) == 3

    assert publish.send(session, settings, issue, now=NOW) == 3

    assert (issue.state, issue.number, issue.total) == (IssueState.SENDING, 1, 3)
    assert issue.started_at == NOW
    english, swedish = messages(session)
    assert (english.edition, swedish.edition) == ("en", "sv")
    assert "Two new posts" in english.html
    assert "Två nya inlägg" in swedish.html
    assert "http://localhost/labbet/issues/1/" in swedish.text
    rows = session.execute(
        select(Delivery.address, Delivery.message_id, Delivery.occasion)
    )
    assert {tuple(row) for row in rows} == {
        ("a@x.example", swedish.id, f"issue:{issue.id}"),
        ("b@x.example", swedish.id, f"issue:{issue.id}"),
        ("c@x.example", english.id, f"issue:{issue.id}"),
    }
    assert mime.Frozen.unpack(swedish.frozen).size > 5_000


def test_issues_are_numbered_one_after_the_other(
    session: Session, settings: Settings, newsletter: Newsletter, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)
    settle(session)
    make_post(session, newsletter)
    second = drafts.draft(session, newsletter, now=NOW)
    publish.send(session, settings, second, now=LATER)
    assert (issue.number, second.number, newsletter.last_number) == (1, 2, 2)


def test_sending_twice_sends_once(
    session: Session, settings: Settings, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)
    with pytest.raises(Conflict, match="already being sent"):
        publish.send(session, settings, issue, now=LATER)
    assert issue.number == 1
    assert session.scalar(select(func.count()).select_from(Delivery)) == 3


def test_two_who_send_at_the_same_instant_send_once(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        make_post(session, newsletter)
        make_subscription(session, newsletter)
        issue_id = drafts.draft(session, newsletter, now=NOW).id
    ready = threading.Barrier(2)
    outcomes: list[str] = []

    def press_the_button() -> None:
        ready.wait()
        try:
            with database.transaction() as session:
                issue = drafts.find(session, issue_id)
                outcomes.append(str(publish.send(session, settings, issue, now=NOW)))
        except Conflict as refused:
            outcomes.append(refused.message)

    tabs = [threading.Thread(target=press_the_button) for _ in range(2)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()

    assert sorted(outcomes) == ["1", publish.N_ALREADY]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == 1
        assert session.scalar(select(Newsletter.last_number)) == 1


@pytest.mark.parametrize(
    ("missing", "field"),
    [
        ({"postal_address": " "}, "postal_address"),
        ({"from_name": ""}, "from_email"),
        ({"from_email": "labbet"}, "from_email"),
    ],
)
def test_what_the_law_or_a_reader_needs_must_be_there(
    session: Session,
    settings: Settings,
    issue: Issue,
    missing: dict[str, str],
    field: str,
) -> None:
    """LEG-20."""
    for name, value in missing.items():
        setattr(issue.newsletter, name, value)
    with pytest.raises(InvalidInput) as refused:
        publish.send(session, settings, issue, now=NOW)
    assert refused.value.field == field
    assert issue.state is IssueState.DRAFT
    assert messages(session) == []


def test_an_issue_without_posts_stays(
    session: Session, settings: Settings, issue: Issue
) -> None:
    drafts.edit(session, issue, hidden=[issue.posts[0].post_id])
    issue.posts[1].post.state = PostState.WITHDRAWN
    with pytest.raises(InvalidInput, match="no post in this issue"):
        publish.send(session, settings, issue, now=NOW)
    with pytest.raises(InvalidInput, match="no post in this issue"):
        publish.send_test(session, settings, issue, "me@x.example", now=NOW)


def test_with_no_reader_nothing_is_sent_and_it_says_so(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    make_subscription(session, newsletter, status=Status.PENDING)
    issue = drafts.draft(session, newsletter, now=NOW)
    with pytest.raises(Conflict, match="Nobody subscribes"):
        publish.send(session, settings, issue, now=NOW)
    make_subscription(session, newsletter, cursor=1)
    with pytest.raises(Conflict, match="None of the readers"):
        publish.send(session, settings, issue, now=NOW)
    assert (issue.state, issue.number) == (IssueState.DRAFT, None)


def test_a_post_that_went_out_meanwhile_is_not_sent_again(
    session: Session, settings: Settings, newsletter: Newsletter, issue: Issue
) -> None:
    twin = drafts.draft(session, newsletter, now=NOW)
    publish.send(session, settings, twin, now=LATER)
    with pytest.raises(Conflict, match="already gone out in issue 1"):
        publish.send(session, settings, issue, now=LATER)


def test_pausing_resuming_and_cancelling_reach_the_ledger(
    session: Session, settings: Settings, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)

    publish.pause(session, issue)
    assert issue.state == "paused"
    assert {m.state for m in messages(session)} == {MessageState.PAUSED}
    with pytest.raises(Conflict):
        publish.pause(session, issue)

    publish.resume(session, issue)
    assert issue.state == "sending"
    assert {m.state for m in messages(session)} == {MessageState.OPEN}
    with pytest.raises(Conflict):
        publish.resume(session, issue)

    publish.cancel(session, issue, now=LATER)
    assert issue.state == "cancelled"
    states = set(session.scalars(select(Delivery.state)))
    assert states == {DeliveryState.SKIPPED}
    with pytest.raises(Conflict):
        publish.cancel(session, issue, now=LATER)


def test_an_issue_is_finished_when_no_reader_is_unsettled(
    session: Session, settings: Settings, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)
    settle(session)
    settle(session, DeliveryState.DEFERRED, "c@x.example")
    assert publish.finish_settled(session, now=LATER) == []

    settle(session, DeliveryState.BOUNCED, "c@x.example")
    assert publish.finish_settled(session, now=LATER) == [issue]

    assert (issue.state, issue.finished_at) == (IssueState.SENT, LATER)
    assert publish.finish_settled(session, now=LATER) == []


def test_the_cursors_of_those_it_reached_move(
    session: Session, settings: Settings, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)
    settle(session, DeliveryState.SENT, "a@x.example")
    settle(session, DeliveryState.COMPLAINED, "b@x.example")
    settle(session, DeliveryState.BOUNCED, "c@x.example")

    publish.finish_settled(session, now=LATER)

    assert cursors(session) == {"a@x.example": 2, "b@x.example": 2, "c@x.example": 0}


def cursors(session: Session) -> dict[str, int]:
    query = select(Subscriber.email, Subscription.cursor).join(Subscription)
    return {row.email: row.cursor for row in session.execute(query)}


def test_cursors_move_some_at_a_time_before_the_issue_is_closed(
    session: Session, settings: Settings, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)
    settle(session)
    settle(session, DeliveryState.BOUNCED, "a@x.example")
    assert publish.settled(session) == [issue.id]
    looked, after = 0, publish.move_some_cursors(session, issue.id, limit=1)
    while after is not None:
        looked += 1
        after = publish.move_some_cursors(session, issue.id, after=after, limit=1)
    assert looked == 3
    assert cursors(session) == {"a@x.example": 0, "b@x.example": 2, "c@x.example": 2}
    assert publish.finish_settled(session, now=LATER, moved=[issue.id]) == [issue]
    assert publish.settled(session) == []


def test_after_a_cancel_the_next_issue_goes_to_those_it_did_not_reach(
    session: Session, settings: Settings, newsletter: Newsletter, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)
    settle(session, DeliveryState.SENT, "a@x.example")
    publish.cancel(session, issue, now=LATER)
    assert publish.finish_settled(session, now=LATER) == [issue]
    assert issue.state is IssueState.CANCELLED

    again = drafts.draft(session, newsletter, now=LATER)

    assert publish.send(session, settings, again, now=LATER) == 2
    query = select(Delivery.address).where(Delivery.occasion == f"issue:{again.id}")
    assert set(session.scalars(query)) == {"b@x.example", "c@x.example"}


def test_a_paused_issue_is_not_finished(
    session: Session, settings: Settings, issue: Issue
) -> None:
    publish.send(session, settings, issue, now=NOW)
    publish.pause(session, issue)
    settle(session)
    assert publish.finish_settled(session, now=LATER) == []


def test_a_schedule_is_kept_and_can_be_taken_back(
    session: Session, settings: Settings, issue: Issue
) -> None:
    with pytest.raises(InvalidInput):
        publish.schedule(session, issue, NOW, now=NOW)
    publish.schedule(session, issue, LATER, now=NOW)
    assert (issue.state, issue.scheduled_at) == (IssueState.SCHEDULED, LATER)
    assert publish.due(session, now=NOW) == []
    assert publish.due(session, now=LATER) == [issue]

    publish.hold(session, issue, InkorgError("Too late."))
    assert publish.due(session, now=LATER) == []
    publish.unschedule(session, issue, now=NOW)
    assert (issue.state, issue.scheduled_at) == (IssueState.DRAFT, None)

    publish.send(session, settings, issue, now=LATER)
    with pytest.raises(Conflict):
        publish.schedule(session, issue, LATER + timedelta(days=1), now=LATER)


def test_a_test_mail_belongs_to_nobody(
    session: Session, settings: Settings, issue: Issue
) -> None:
    publish.send_test(session, settings, issue, "me@x.example", now=NOW)
    publish.send_test(session, settings, issue, "me@x.example", now=NOW)

    first = messages(session)[0]
    assert first.kind is Kind.TEST
    assert first.lane == 0
    assert first.subject.startswith("[Test] 2 nya inlägg: ")
    rows = session.execute(select(Delivery.address, Delivery.subscription_id)).all()
    assert [tuple(row) for row in rows] == [("me@x.example", None)] * 2
    assert issue.state is IssueState.DRAFT
    assert publish.audience_count(session, issue) == 3


def test_a_sample_has_no_readers_links(settings: Settings, issue: Issue) -> None:
    letter = publish.sample_letter(settings, issue)
    for text in (letter.html, letter.text, letter.leave_url):
        assert mime.LEAVE not in text
        assert mime.PREFERENCES not in text
    assert f"/unsubscribe/{mime.NOBODY}" in letter.html


@pytest.mark.slow
def test_twenty_thousand_readers_are_queued_by_few_statements(
    session: Session, settings: Settings, issue: Issue
) -> None:
    count = 20_000
    numbers = range(1000, 1000 + count)
    session.execute(
        insert(Subscriber),
        [
            {"id": n, "email": f"r{n}@x.example", "email_key": f"r{n}@x.example"}
            | {"address_hash": f"{n:064x}"}
            for n in numbers
        ],
    )
    session.execute(
        insert(Subscription),
        [
            {"newsletter_id": issue.newsletter_id, "subscriber_id": n}
            | {"status": Status.ACTIVE, "language": "sv", "rhythm": "weekly:mon@08:00"}
            | {"leave_token": links.new_token(), "preferences_token": links.new_token()}
            for n in numbers
        ],
    )
    count_anew(session, "subscriber", "subscription")  # as an import does at its end
    statements: list[str] = []
    connection = session.connection()
    event.listen(
        connection,
        "before_cursor_execute",
        lambda _conn, _cursor, statement, *_: statements.append(statement),
    )
    assert publish.send(session, settings, issue, now=NOW) == count + 3
    inserts = [text for text in statements if text.startswith("INSERT INTO delivery")]
    assert len(inserts) == 1  # for all editions
    assert len(statements) < 40
    settle(session)
    assert publish.finish_settled(session, now=LATER) == [issue]
    moved = session.scalar(
        select(func.count()).select_from(Subscription).where(Subscription.cursor == 2)
    )
    assert moved == count + 3
