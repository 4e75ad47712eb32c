"""Stopping a reader's mail, lifting the stop, and what editors note about them."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.errors import Conflict, Forbidden, InvalidInput, NotFound
from newsletter.models import (
    Consent,
    Newsletter,
    Note,
    Status,
    Subscription,
    Suppression,
)
from newsletter.subscribers import (
    histories,
    merging,
    notes,
    rights,
    stopping,
    suppression,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription

BY = "eva@redaktion.example"


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    made = make_newsletter(session)
    make_post(session, made)
    return made


@pytest.mark.parametrize(
    ("reason", "was", "lifted"),
    [
        ("bounced", Status.ACTIVE, Status.ACTIVE),
        ("bounced", Status.PAUSED, Status.ACTIVE),
        ("bounced", Status.PENDING, Status.PENDING),
        ("bounced", Status.LEFT, Status.LEFT),
        ("other", Status.ACTIVE, Status.ACTIVE),
        ("left", Status.ACTIVE, Status.LEFT),
        ("left", Status.PENDING, Status.LEFT),
        ("never", Status.ACTIVE, None),
        ("complained", Status.ACTIVE, None),
    ],
)
def test_only_a_stop_that_was_nobodys_wish_is_taken_back(
    session: Session,
    newsletter: Newsletter,
    reason: str,
    was: Status,
    lifted: Status | None,
) -> None:
    reader = make_subscription(session, newsletter, status=was)
    stopping.stop(session, reader, reason=reason, words=" Ringde. ", by=BY, now=NOW)
    kept = session.scalars(select(Suppression)).one()
    assert (kept.reason, kept.note) == (reason, f"{BY}: Ringde.")
    assert stopping.why_stopped(session, reader) == {reason}
    with pytest.raises(InvalidInput):
        stopping.lift(session, reader, words=" ", by=BY, now=NOW)
    if lifted is None:
        with pytest.raises(Conflict):
            stopping.lift(session, reader, words="Ångrade sig", by=BY, now=NOW)
        assert reader.status is Status.SUPPRESSED
        assert session.scalars(select(Suppression)).one()
        return
    found = stopping.lift(session, reader, words="Ångrade sig", by=BY, now=NOW)
    assert found is reader.status is lifted
    assert session.scalars(select(Suppression)).all() == []
    steps = histories.consents(session, reader)
    assert [step.step.event for step in steps] == ["suppressed", "lifted"]
    assert steps[0].step.detail == {
        "by": BY,
        "words": "Ringde.",
        "reason": reason,
        "was": was.value,
    }
    assert steps[1].step.detail == {
        "by": BY,
        "words": "Ångrade sig",
        "reasons": [reason],
        "status": lifted.value,
    }
    assert histories.status_at(steps, NOW) is lifted
    # Nobody gets again what they were sent, nor all that came while it was stopped.
    assert reader.cursor >= 0


def test_the_readers_own_wish_outlasts_a_bounce(
    session: Session, newsletter: Newsletter
) -> None:
    reader = make_subscription(session, newsletter)
    hashed = reader.subscriber.address_hash
    stopping.stop(session, reader, reason="left", words="", by=BY, now=NOW)
    suppression.suppress(
        session, hashed, reason="bounced", newsletter_id=newsletter.id, now=NOW
    )
    assert stopping.why_stopped(session, reader) == {"left"}
    # What another newsletter lifted still stands here.
    suppression.lift(session, hashed, newsletter.id)
    assert stopping.why_stopped(session, reader) == {"left"}
    lifted = stopping.lift(session, reader, words="Vill igen", by=BY, now=NOW)
    assert lifted is Status.LEFT


def test_a_stop_needs_a_reason(session: Session, newsletter: Newsletter) -> None:
    reader = make_subscription(session, newsletter)
    for reason, field in (("<b>", "reason"), ("erased", "reason"), ("other", "words")):
        with pytest.raises(InvalidInput) as refused:
            stopping.stop(session, reader, reason=reason, words=" ", by=BY, now=NOW)
        assert refused.value.field == field
    assert session.scalars(select(Consent)).all() == []
    assert stopping.why_stopped(session, reader) == set()


def test_notes_are_handed_over_move_along_and_go(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    reader = make_subscription(session, newsletter, "anna@example.org")
    other = make_subscription(session, newsletter, "anna.b@example.org")
    first = notes.add(session, reader, "Vill ha \x00brev på papper\r\n", by=BY, now=NOW)
    notes.add(session, other, "Flyttade i maj", by=BY, now=NOW)
    for wrong in (" \n", "x" * (notes.MAX_CHARACTERS + 1)):
        with pytest.raises(InvalidInput):
            notes.add(session, reader, wrong, by=BY, now=NOW)
    merging.merge(session, other.subscriber, reader.subscriber, NOW)
    session.expire_all()
    stays = session.scalars(select(Note.subscription_id).distinct()).one()
    reader = session.get_one(Subscription, stays)
    found = [note.text for note in notes.of(session, reader)]
    assert found == ["Flyttade i maj", "Vill ha brev på papper"]
    facts = rights.everything_about(session, settings, reader.subscriber)
    told = [(note["text"], note["written_by"]) for note in facts["notes"]]
    assert told == [("Vill ha brev på papper", BY), ("Flyttade i maj", BY)]
    with pytest.raises(Forbidden):
        notes.remove(session, reader, first.id, by="bo@x.example", any_=False, now=NOW)
    notes.remove(session, reader, first.id, by="bo@x.example", any_=True, now=NOW)
    with pytest.raises(NotFound):
        notes.remove(session, reader, first.id, by=BY, any_=False, now=NOW)
    rights.erase_subscriber(session, reader.subscriber, now=NOW)
    assert session.scalars(select(Note)).all() == []
