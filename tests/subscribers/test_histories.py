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
    IssueState,
    Kind,
    Message,
    Newsletter,
    Subscription,
)
from newsletter.subscribers import consent, histories, rights
from tests.factories import NOW, make_newsletter, make_subscription
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
