"""One reader's history, and one sentence for every way an issue can (not) arrive."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.models import (
    Consent,
    Delivery,
    DeliveryState,
    Issue,
    IssuePost,
    IssueState,
    Kind,
    Message,
    Newsletter,
    Status,
    Subscription,
    Topic,
)
from newsletter.subscribers import choices, consent, histories, rights
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


def told(session: Session, reader: Subscription, issue: Issue) -> str:
    for words in (ENGLISH, SWEDISH):
        sentence = histories.explain(session, reader, issue, words=words)
        assert sentence.endswith(".")
        assert "%(" not in sentence
    assert sentence != histories.explain(session, reader, issue, words=ENGLISH)
    return histories.explain(session, reader, issue, words=ENGLISH)


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
    session.add(topic)
    post = make_post(session, newsletter)
    session.add(IssuePost(issue_id=issue.id, post_id=post.id, place=1))
    session.flush()
    choices.set_topics(session, reader, [topic.id])
    assert "no post in it was about a topic" in told(session, reader, issue)


def test_an_issue_that_has_not_gone_out_says_so(
    session: Session, newsletter: Newsletter, reader: Subscription, issue: Issue
) -> None:
    issue.started_at = None
    issue.state = IssueState.DRAFT
    assert "nobody has sent the issue" in told(session, reader, issue)
    issue.state = IssueState.SCHEDULED
    issue.scheduled_at = NOW + DAY
    assert "goes out on November 23, 2026" in told(session, reader, issue)
    issue.state = IssueState.CANCELLED
    assert "cancelled" in told(session, reader, issue)
    issue.state = IssueState.DRAFT
    reader.status = Status.LEFT
    assert "will not get it" in told(session, reader, issue)
    other = make_subscription(session, make_newsletter(session, "annat"))
    assert "do not subscribe" in told(session, other, issue)


def test_a_history_holds_every_step_and_every_mail(
    session: Session, settings: Settings, reader: Subscription, issue: Issue
) -> None:
    deliver(session, reader, issue)
    rights.request_data_link(session, settings, reader, now=NOW)
    history = histories.history(session, reader)
    assert [(s.step.event, s.message) for s in history.consents] == [
        ("confirmed", "Confirmed")
    ]
    assert history.consents[0].wording == FORM.wording
    assert [(d.kind, d.issue_id) for d in history.deliveries] == [
        (Kind.DATA, None),
        (Kind.DIGEST, issue.id),
    ]


def test_every_step_has_a_name() -> None:
    names = {
        value
        for name, value in vars(consent).items()
        if name.isupper() and isinstance(value, str)
    }
    assert names == set(histories.STEPS)
    assert Consent.__tablename__ == "consent"
