"""One sentence for every way an issue or a post can (not) arrive, and it is true."""

import contextlib
from datetime import datetime, timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import calendar, drafts, editions, explain, publish
from newsletter.errors import Conflict, InkorgError
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssuePost,
    IssueState,
    Kind,
    Message,
    Mode,
    Newsletter,
    Post,
    Postponed,
    PostState,
    PostTopic,
    Status,
    Subscriber,
    Subscription,
    Suppression,
    Topic,
)
from newsletter.subscribers import choices, consent, suppression
from tests.digests.weeks import DAILY, HOUR, MINUTE, MONDAY, START, WEEKLY, Weeks
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.subscribers.letterbox import FORM

ENGLISH, SWEDISH = i18n.language("en"), i18n.language("sv")
DAY = timedelta(days=1)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture
def reader(session: Session, newsletter: Newsletter) -> Subscription:
    made = make_subscription(session, newsletter)
    step(session, made, consent.CONFIRMED, -5)
    return made


@pytest.fixture
def issue(session: Session, newsletter: Newsletter) -> Issue:
    made = Issue(
        newsletter_id=newsletter.id,
        number=1,
        state=IssueState.SENT,
        started_at=NOW,
        last_position=4,
    )
    session.add(made)
    session.flush()
    return made


def step(
    session: Session, reader: Subscription, event: str, day: int, **detail: Any
) -> None:
    consent.record(session, reader, event, FORM, now=NOW + day * DAY, detail=detail)
    session.flush()


def deliver(
    session: Session, reader: Subscription, issue: Issue, **over: Any
) -> Delivery:
    message = Message(
        kind=Kind.DIGEST,
        issue_id=issue.id,
        newsletter_id=issue.newsletter_id,
        language="sv",
        subject="Fyra nya inlägg",
        sender="a@b.example",
        nonce="n",
        frozen=b"",
    )
    session.add(message)
    session.flush()
    delivery = Delivery(
        message_id=message.id,
        subscription_id=reader.id,
        occasion=f"issue:{issue.id}",
        address=reader.subscriber.email,
        **{"state": DeliveryState.SENT, "settled_at": NOW, **over},
    )
    session.add(delivery)
    session.flush()
    return delivery


def told(
    session: Session, reader: Subscription, issue: Issue, *, gets: bool | None = False
) -> str:
    for words in (ENGLISH, SWEDISH):
        sentence = explain.of_issue(
            session, reader, issue, words=words, now=NOW
        ).sentence
        assert sentence.endswith(".")
        assert "%(" not in sentence
    english = explain.of_issue(session, reader, issue, words=ENGLISH, now=NOW)
    assert sentence != english.sentence
    if english.delivery is not None:
        gets = english.delivery.state in explain.GOES
    assert english.gets is gets
    return english.sentence


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({}, "Sent on November 22, 2026"),
        ({"state": DeliveryState.QUEUED}, "In line"),
        ({"state": DeliveryState.CLAIMED}, "right now"),
        (
            {"state": DeliveryState.DEFERRED, "reply": "451 4.7.1 100% greylisted."},
            "(451 4.7.1 100% greylisted)",
        ),
        (
            {"state": DeliveryState.BOUNCED, "reply": "550 5.1.1 No such user"},
            "refused it (550 5.1.1 No such user)",
        ),
        ({"state": DeliveryState.FAILED, "reason": "expired"}, "expired"),
        ({"state": DeliveryState.COMPLAINED}, "junk"),
        ({"state": DeliveryState.SKIPPED, "reason": "left"}, "they left before"),
        ({"state": DeliveryState.SKIPPED, "reason": "suppressed"}, "stopped before"),
        ({"state": DeliveryState.SKIPPED, "reason": "cancelled"}, "cancelled"),
        ({"state": DeliveryState.SKIPPED, "reason": "odd"}, "Not sent: odd."),
        ({"state": DeliveryState.SKIPPED}, "no reason given"),
    ],
)
def test_the_ledger_explains_what_became_of_a_mail(
    session: Session,
    reader: Subscription,
    issue: Issue,
    over: dict[str, Any],
    says: str,
) -> None:
    deliver(session, reader, issue, **over)
    assert says in told(session, reader, issue)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([("confirmed", 1)], "had not confirmed"),
        ([("requested", -3), ("confirmed", 1)], "had not confirmed"),
        ([("confirmed", -3), ("left", -1), ("confirmed", 1)], "had left"),
        ([("confirmed", -3), ("paused", -1), ("resumed", 1)], "had paused"),
        ([("confirmed", -3), ("suppressed", -1)], "was stopped"),
        ([("imported", -3)], "already|had been sent all"),
    ],
)
def test_the_consent_record_explains_why_somebody_was_left_out(
    session: Session,
    newsletter: Newsletter,
    issue: Issue,
    steps: list[tuple[str, int]],
    says: str,
) -> None:
    reader = make_subscription(session, newsletter, cursor=4)
    for event, day in steps:
        step(session, reader, event, day)
    sentence = told(session, reader, issue)
    assert any(part in sentence for part in says.split("|")), sentence


def test_topics_explain_why_there_was_nothing_for_a_reader(
    session: Session, newsletter: Newsletter, reader: Subscription, issue: Issue
) -> None:
    topic = Topic(newsletter_id=newsletter.id, slug="bygge", name="Bygge")
    other = Topic(newsletter_id=newsletter.id, slug="hyra", name="Hyra")
    session.add_all([topic, other])
    post = make_post(session, newsletter)
    session.add(IssuePost(issue_id=issue.id, post_id=post.id, place=1))
    session.flush()
    session.add(PostTopic(post_id=post.id, topic_id=other.id))
    choices.set_topics(session, reader, [topic.id])
    assert "no post in it was about a topic" in told(session, reader, issue)


def test_an_issue_that_has_not_gone_out_says_so(
    session: Session, newsletter: Newsletter, reader: Subscription
) -> None:
    make_post(session, newsletter)
    issue = drafts.draft(session, newsletter, now=NOW)
    for state, says in (
        (IssueState.DRAFT, "nobody has sent the issue"),
        (IssueState.HELD, "waits for an editor"),
        (IssueState.SCHEDULED, "goes out on November 23, 2026"),
    ):
        issue.state, issue.scheduled_at = state, NOW + DAY
        assert says in told(session, reader, issue, gets=True)
    issue.rhythm = "daily@08:00"
    assert "theirs is “Every week, on Monday”" in told(session, reader, issue)
    issue.rhythm = ""
    suppression.suppress(
        session, reader.subscriber.address_hash, reason=suppression.BOUNCED, now=NOW
    )
    assert "will not get it: mail" in told(session, reader, issue)
    issue.state = IssueState.CANCELLED
    assert "cancelled" in told(session, reader, issue)
    other = make_subscription(session, make_newsletter(session, "annat"))
    assert "do not subscribe" in told(session, other, issue)


def test_a_post_says_in_which_digest_it_comes(
    database: Database, settings: Settings
) -> None:
    weeks = Weeks(database, settings)
    for name, rhythm in (("w", WEEKLY), ("d", DAILY), ("e", "each")):
        weeks.reader(name, rhythm)
    weeks.reader("gone", status=Status.LEFT)
    post_id = weeks.post("Ett")

    def told(name: str, now: datetime = START + MINUTE) -> str:
        with database.reading() as session:
            post = session.get_one(Post, post_id)
            reader = session.scalars(
                select(Subscription)
                .join(Subscriber)
                .where(Subscriber.email == f"{name}@x.example")
            ).one()
            sentences = [
                explain.of_post(session, reader, post, words=words, now=now).sentence
                for words in (SWEDISH, ENGLISH)
            ]
        assert sentences[0] != sentences[1]
        return sentences[1]

    assert told("w") == "It comes with their digest on November 23, 2026, 8:00\u202fAM."
    assert "November 21" in told("d")
    assert "within minutes" in told("e")
    assert "they have left" in told("gone")
    weeks.run(START + HOUR)
    assert told("e").startswith("Sent on November 20, 2026")
    with database.transaction() as session:
        newsletter = weeks.newsletter(session)
        calendar.skip(session, newsletter, WEEKLY, MONDAY, now=START + 2 * HOUR)
    assert "November 30" in told("w", START + 2 * HOUR)
    shown, post_id = post_id, weeks.post("Bara på sidan", position=None)
    assert "on the newsletter's page alone" in told("w", START + 2 * HOUR)
    post_id = weeks.post(
        "Om en tid", state=PostState.DRAFT, position=None, publish_at=MONDAY
    )
    assert "waits for its date, November 23, 2026" in told("w", START + 2 * HOUR)
    post_id = shown
    weeks.change(mode=Mode.HAND)
    assert "go out by hand" in told("w", START + 2 * HOUR)
    weeks.withdraw(post_id)
    assert "was withdrawn" in told("w", START + 2 * HOUR)


def test_a_post_that_an_editor_hid_says_so(
    session: Session, newsletter: Newsletter, reader: Subscription, issue: Issue
) -> None:
    post = make_post(session, newsletter)
    reader.cursor = 4

    def told() -> str:
        return explain.of_post(
            session, reader, post, words=ENGLISH, now=NOW + DAY
        ).sentence

    assert "from before their first digest" in told()
    session.add(IssuePost(issue_id=issue.id, post_id=post.id, place=1, hidden=True))
    session.flush()
    assert "an editor kept it out" in told()


class Undo(Exception):
    """Ends an example without a trace."""


@hypothesis.given(st.data())
@hypothesis.settings(
    max_examples=16,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_it_says_they_get_it_exactly_when_the_ledger_does(
    database: Database, settings: Settings, data: st.DataObject
) -> None:
    """The sentence and the query that queues a million mails never disagree."""
    with contextlib.suppress(Undo), database.transaction() as session:
        people = _people(session, data)
        newsletter = people[0].newsletter
        first = drafts.draft(session, newsletter, now=NOW)
        _same(session, first, people)
        with contextlib.suppress(Conflict):
            publish.send(session, settings, first, now=NOW)
        _same(session, first, people)
        for delivery in session.scalars(select(Delivery)):
            delivery.state = data.draw(st.sampled_from(ENDS))
        publish.finish_settled(session, now=NOW + DAY)
        _posts(session, newsletter, data)
        for rhythm in (WEEKLY, "each"):
            issue = drafts.of_rhythm(session, newsletter, rhythm, now=NOW + DAY)
            if issue is not None:
                _posts_same(session, issue, people)
                session.add(issue)
                session.flush()
                _same(session, issue, people)
                with contextlib.suppress(InkorgError):
                    publish.send(session, settings, issue, now=NOW + DAY)
                _same(session, issue, people)
        raise Undo


ENDS = [*explain.GOES, DeliveryState.BOUNCED, DeliveryState.SKIPPED]


def _people(session: Session, data: st.DataObject) -> list[Subscription]:
    newsletter = make_newsletter(
        session,
        rhythms=[WEEKLY, "each"],
        default_rhythm=WEEKLY,
        mode=Mode.AUTOMATIC,
        by_language=data.draw(st.booleans()),
        at_least=data.draw(st.sampled_from([1, 3])),
    )
    topics = [Topic(newsletter_id=newsletter.id, slug=n, name=n) for n in "ab"]
    session.add_all(topics)
    session.flush()
    _posts(session, newsletter, data)
    people = []
    for _ in range(data.draw(st.integers(2, 6))):
        reader = make_subscription(
            session,
            newsletter,
            status=data.draw(st.sampled_from([Status.ACTIVE] * 4 + list(Status))),
            rhythm=data.draw(st.sampled_from([WEEKLY, "each", "daily@07:00"])),
            language=data.draw(st.sampled_from(["sv", "en", "fi"])),
            cursor=data.draw(st.integers(0, 5)),
        )
        step(session, reader, consent.CONFIRMED, -5)
        if data.draw(st.booleans()):
            chosen = data.draw(st.lists(st.sampled_from([t.id for t in topics])))
            choices.set_topics(session, reader, set(chosen))
        if data.draw(st.integers(0, 5)) == 0:
            # The address alone, as when it was stopped elsewhere.
            hashed = reader.subscriber.address_hash
            session.add(Suppression(address_hash=hashed, reason=suppression.NEVER))
        people.append(reader)
    session.flush()
    return people


def _posts(session: Session, newsletter: Newsletter, data: st.DataObject) -> None:
    topics = session.scalars(
        select(Topic.id).where(Topic.newsletter_id == newsletter.id)
    ).all()
    for _ in range(data.draw(st.integers(1, 4))):
        language = data.draw(st.sampled_from(["", "sv", "en-GB"]))
        post = make_post(session, newsletter, language=language)
        about = set(data.draw(st.lists(st.sampled_from(topics), max_size=2)))
        session.add_all(PostTopic(post_id=post.id, topic_id=topic) for topic in about)
    session.flush()


def _same(session: Session, issue: Issue, people: list[Subscription]) -> None:
    """Compare what is said of an issue with who gets it, or would."""
    if issue.started_at is None:
        found = {
            row.subscription_id
            for edition in editions.editions(session, issue)
            if edition.groups
            for row in session.execute(editions.audience(session, issue, edition))
        }
    else:
        rows = select(Delivery.subscription_id, Delivery.state).join(Message)
        ledger = session.execute(rows.where(Message.issue_id == issue.id)).all()
        found = {reader for reader, state in ledger if state in explain.GOES}
        late = select(Postponed.subscription_id)
        found |= set(session.scalars(late.where(Postponed.issue_id == issue.id)))
    said = {
        reader.id: explain.of_issue(session, reader, issue, words=ENGLISH, now=NOW)
        for reader in people
    }
    assert {one for one, why in said.items() if why.gets} == found, said


def _posts_same(session: Session, issue: Issue, people: list[Subscription]) -> None:
    """Compare what is said of each post with what the next digest of a rhythm holds."""
    held: dict[int, set[int]] = {}
    for edition in editions.editions(session, issue):
        if edition.groups:
            for row in session.execute(editions.audience(session, issue, edition)):
                held[row.subscription_id] = {e.post.id for e in edition.posts}
    newsletter = issue.newsletter
    for reader in people:
        if choices.effective_rhythm(newsletter, reader.rhythm) != issue.rhythm:
            continue
        for entry in issue.posts:
            why = explain.of_post(
                session, reader, entry.post, words=ENGLISH, now=NOW + DAY
            )
            if "before it is settled" in why.sentence or why.delivery is not None:
                continue
            assert why.gets is (entry.post.id in held.get(reader.id, ())), why
