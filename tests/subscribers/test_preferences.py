"""A reader's choices: only what is offered, recorded, and pauses that end."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.errors import Conflict, InvalidInput, InvalidLink
from newsletter.models import Consent, Newsletter, Status, Subscription, Topic
from newsletter.subscribers import choices, preferences
from tests.factories import NOW, make_newsletter, make_subscription
from tests.subscribers.letterbox import FORM

DAY = timedelta(days=1)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    made = make_newsletter(session)
    for slug in ("bygge", "kultur"):
        session.add(Topic(newsletter_id=made.id, slug=slug, name=slug.title()))
    session.flush()
    return made


@pytest.fixture
def reader(session: Session, newsletter: Newsletter) -> Subscription:
    return make_subscription(session, newsletter)


def consents(session: Session) -> list[tuple[str, dict[str, object]]]:
    rows = session.scalars(select(Consent).order_by(Consent.id))
    return [(row.event, row.detail) for row in rows]


def test_a_reader_changes_what_is_offered(
    session: Session, newsletter: Newsletter, reader: Subscription
) -> None:
    found = preferences.find_by_preferences_token(session, reader.preferences_token)
    assert found is reader
    before = reader.rhythm
    after = newsletter.rhythms[1]
    preferences.change(
        session,
        reader,
        rhythm=after,
        language="en",
        topics=["kultur"],
        origin=FORM,
        now=NOW,
    )
    assert (reader.rhythm, reader.language) == (after, "en")
    assert choices.chosen_topics(session, reader) == ["kultur"]
    changed = {
        "rhythm": [before, after],
        "language": ["sv", "en"],
        "topics": [None, ["kultur"]],
    }
    assert consents(session) == [("changed", changed)]
    preferences.change(session, reader, all_topics=True, origin=FORM, now=NOW)
    assert choices.chosen_topics(session, reader) is None


def test_what_changes_nothing_is_not_recorded(
    session: Session, reader: Subscription
) -> None:
    preferences.change(
        session,
        reader,
        rhythm=reader.rhythm,
        language="sv",
        all_topics=True,
        origin=FORM,
        now=NOW,
    )
    assert consents(session) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rhythm", "daily@03:33"),
        ("rhythm", "<script>"),
        ("language", "xx"),
        ("topics", ["bygge", "nonsense"]),
    ],
)
def test_what_is_not_offered_is_refused(
    session: Session, reader: Subscription, field: str, value: object
) -> None:
    with pytest.raises(InvalidInput) as caught:
        preferences.change(
            session,
            reader,
            origin=FORM,
            now=NOW,
            **{field: value},  # type: ignore[arg-type]
        )
    assert caught.value.field == field
    assert consents(session) == []


def test_another_newsletters_topic_is_not_offered(
    session: Session, reader: Subscription
) -> None:
    other = make_newsletter(session, "annat")
    session.add(Topic(newsletter_id=other.id, slug="hemligt", name="Hemligt"))
    session.flush()
    with pytest.raises(InvalidInput):
        preferences.change(session, reader, topics=["hemligt"], origin=FORM, now=NOW)


def test_a_reader_without_topics_has_chosen_none(
    session: Session, reader: Subscription
) -> None:
    preferences.change(session, reader, topics=[], origin=FORM, now=NOW)
    assert choices.chosen_topics(session, reader) == []
    assert not reader.all_topics


def test_a_pause_begins_at_once_and_ends_on_its_day(
    session: Session, newsletter: Newsletter, reader: Subscription
) -> None:
    other = make_subscription(session, newsletter)
    preferences.pause(session, reader, NOW + 3 * DAY, origin=FORM, now=NOW)
    preferences.pause(session, other, NOW + 9 * DAY, origin=FORM, now=NOW)
    assert reader.status == Status.PAUSED
    assert preferences.resume_paused(session, now=NOW + 2 * DAY) == 0
    assert preferences.resume_paused(session, now=NOW + 3 * DAY) == 1
    assert (reader.status, reader.paused_until) == (Status.ACTIVE, None)
    assert other.status == Status.PAUSED
    assert [event for event, _ in consents(session)] == ["paused", "paused", "resumed"]


def test_a_pause_can_be_ended_by_hand_twice(
    session: Session, reader: Subscription
) -> None:
    preferences.pause(session, reader, NOW + DAY, origin=FORM, now=NOW)
    for _ in range(2):
        preferences.resume(session, reader, origin=FORM, now=NOW)
    assert reader.status == Status.ACTIVE
    assert [event for event, _ in consents(session)] == ["paused", "resumed"]


@pytest.mark.parametrize("until", [NOW - DAY, NOW, NOW + 367 * DAY])
def test_a_pause_lies_ahead_and_lasts_a_year_at_most(
    session: Session, reader: Subscription, until: datetime
) -> None:
    with pytest.raises(InvalidInput) as caught:
        preferences.pause(session, reader, until, origin=FORM, now=NOW)
    assert caught.value.field == "until"


def test_only_a_subscription_can_be_paused(
    session: Session, newsletter: Newsletter
) -> None:
    left = make_subscription(session, newsletter, status=Status.LEFT)
    with pytest.raises(Conflict):
        preferences.pause(session, left, NOW + DAY, origin=FORM, now=NOW)


def test_many_pauses_end_some_at_a_time(
    session: Session, newsletter: Newsletter
) -> None:
    for _ in range(5):
        make_subscription(
            session, newsletter, status=Status.PAUSED, paused_until=NOW - DAY
        )
    found = [preferences.resume_paused(session, now=NOW, limit=2) for _ in range(4)]
    assert found == [2, 2, 1, 0]


@pytest.mark.parametrize("token", ["", "x", "a" * 22, "å" * 22, "a" * 5000])
def test_a_token_that_opens_nothing_is_refused(session: Session, token: str) -> None:
    with pytest.raises(InvalidLink):
        preferences.find_by_preferences_token(session, token)
