"""An issue's figures add up, whatever became of its readers."""

from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.digests import drafts, publish
from newsletter.digests.status import status
from newsletter.errors import RelayError
from newsletter.mail import relays
from newsletter.mail.relays import Health
from newsletter.models import ClaimMark, Delivery, DeliveryState
from tests.factories import NOW, make_newsletter, make_post, make_subscription

FIGURES = ("queued", "sent", "deferred", "bounced", "failed", "skipped")


def test_the_figures_add_up_to_the_total(session: Session, settings: Settings) -> None:
    newsletter = make_newsletter(session)
    make_post(session, newsletter)
    for state in DeliveryState:
        make_subscription(session, newsletter, f"{state}@x.example")
    issue = drafts.draft(session, newsletter, now=NOW)
    publish.send(session, settings, issue, now=NOW)
    again = NOW + timedelta(minutes=5)
    for state in DeliveryState:
        session.execute(
            update(Delivery)
            .where(Delivery.address == f"{state}@x.example")
            .values(state=state)
        )
    session.execute(
        update(Delivery)
        .where(Delivery.state == DeliveryState.DEFERRED)
        .values(next_attempt_at=again)
    )
    session.execute(  # as one that was put back: all have been claimed once
        update(Delivery)
        .where(Delivery.state == DeliveryState.QUEUED)
        .values(next_attempt_at=NOW)
    )
    session.execute(
        update(ClaimMark).values(
            last_id=select(func.max(Delivery.id)).scalar_subquery(), passed=8
        )
    )

    found = status(session, issue, now=NOW)

    assert sum(found[name] for name in FIGURES) == found["total"] == 8
    assert found["queued"] == 2  # one of them in a worker's hands
    assert found["sent"] == 2  # one of them complained
    assert found["next_attempt_at"] == again
    assert (found["state"], found["number"]) == ("sending", 1)


def test_why_nothing_moves_is_told_in_the_readers_language(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    post = make_post(session, newsletter)
    make_subscription(session, newsletter)
    issue = drafts.draft(session, newsletter, now=NOW)
    publish.send(session, settings, issue, now=NOW)

    found = status(session, issue, now=NOW)
    assert "worker" in found["waiting_reason"]
    swedish = status(session, issue, words=i18n.language("sv"), now=NOW)
    assert swedish["waiting_reason"] != found["waiting_reason"]

    relays.beat(session, "w", 2.0, now=NOW)
    unsent = drafts.draft(session, newsletter, post_ids=[post.id], now=NOW)
    assert status(session, unsent, now=NOW)["rate_per_second"] == 0
    found = status(session, issue, now=NOW)
    assert (found["waiting_reason"], found["rate_per_second"]) == ("", 2.0)
    refused = RelayError("The relay at %(name)s refused.", name="x:25")
    relays.report(session, Health("x:25", refused, failures=1), now=NOW)
    found = status(session, issue, now=NOW)
    assert found["waiting_reason"] == "The relay at x:25 refused."
