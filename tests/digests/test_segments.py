"""Segments: a small language that is read to a typed structure, or refused."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.digests import segments
from newsletter.digests.segments import Choice, Known, Life, Segment, Since
from newsletter.errors import InvalidInput
from newsletter.models import (
    Category,
    Consent,
    Newsletter,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Topic,
)
from tests.factories import NOW, make_newsletter, make_subscription

DAY = timedelta(days=1)
KNOWN = Known(
    topics={
        slug: Topic(id=number, slug=slug, name=slug.title())
        for number, slug in enumerate(("bygga", "klimat", "språk"), 901)
    },
    former={"miljo": "klimat"},
    rhythms=["weekly:mon@08:00", "weekly:fri@08:00", "each"],
    default_rhythm="weekly:mon@08:00",
    languages=["sv", "en"],
    language="sv",
    zone="Europe/Stockholm",
)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    made = make_newsletter(session, rhythms=["weekly:mon@08:00", "daily@07:00"])
    for place, name in enumerate(("Klimat", "Bygga")):
        topic = Topic(newsletter_id=made.id, slug=name.lower(), name=name, place=place)
        session.add(topic)
        session.flush()
        session.add(
            Category(
                newsletter_id=made.id,
                slug=f"gamla-{name.lower()}",
                name=name,
                topic_id=topic.id,
            )
        )
    session.flush()
    return made


def chosen(session: Session, newsletter: Newsletter, text: str) -> set[str]:
    """Return the names of the readers in a segment."""
    known = segments.known(session, newsletter)
    query = (
        select(Subscriber.email)
        .join(Subscription, Subscription.subscriber_id == Subscriber.id)
        .where(Subscription.newsletter_id == newsletter.id)
        .where(
            *segments.conditions(segments.parse(text, known), known, now=NOW),
        )
    )
    return {email.partition("@")[0] for email in session.scalars(query)}


def reader(session: Session, newsletter: Newsletter, name: str, **over: Any) -> None:
    topics = over.pop("topics", None)
    signs = over.pop("signs", ())
    made = make_subscription(
        session,
        newsletter,
        f"{name}@x.example",
        all_topics=topics is None,
        **{"requested_at": None, "created_at": NOW - 900 * DAY, **over},
    )
    for slug in topics or ():
        topic_id = session.scalars(select(Topic.id).where(Topic.slug == slug)).one()
        session.add(SubscriptionTopic(subscription_id=made.id, topic_id=topic_id))
    for event, age, page in signs:
        at = NOW - age * DAY
        session.add(Consent(subscription_id=made.id, event=event, at=at, page=page))
    session.flush()


def test_readers_are_chosen_by_topic_language_and_rhythm(
    session: Session, newsletter: Newsletter
) -> None:
    reader(session, newsletter, "all")
    reader(session, newsletter, "klimat", topics=["klimat"], language="en")
    reader(session, newsletter, "bygga", topics=["bygga"], rhythm="daily@07:00")
    reader(session, newsletter, "none", topics=[], language="fi", rhythm="each")
    everyone = {"all", "klimat", "bygga", "none"}
    for text, expected in {
        "": everyone,
        "topic:klimat": {"all", "klimat"},
        "topic:Klimat,BYGGA": {"all", "klimat", "bygga"},
        "topic:gamla-klimat": {"all", "klimat"},  # it became part of Klimat
        "-topic:klimat": {"bygga", "none"},
        "topic:klimat topic:bygga": {"all"},
        "language:en": {"klimat"},
        "language:sv": {"all", "bygga", "none"},  # Finnish we do not speak
        "-language:sv": {"klimat"},
        "rhythm:daily": {"bygga"},
        "rhythm:weekly": {"all", "klimat", "none"},  # `each` is no longer offered
        "rhythm:weekly:mon@08:00,daily@07:00": everyone,
        "-rhythm:weekly language:sv": {"bygga"},
    }.items():
        assert chosen(session, newsletter, text) == expected, text


def test_readers_are_chosen_by_when_they_came_and_whether_they_live(
    session: Session, newsletter: Newsletter
) -> None:
    midnight = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=1)  # in Stockholm
    reader(session, newsletter, "before", confirmed_at=midnight - timedelta(seconds=1))
    reader(session, newsletter, "after", confirmed_at=midnight)
    reader(session, newsletter, "new", confirmed_at=NOW - 5 * DAY)
    reader(session, newsletter, "imported", confirmed_at=None)
    old = {"confirmed_at": NOW - 800 * DAY}
    reader(
        session, newsletter, "changed", signs=[("changed", 20, "/preferences/")], **old
    )
    reader(session, newsletter, "asked", requested_at=NOW - 30 * DAY, **old)
    # None of these was the reader's own doing.
    reader(
        session,
        newsletter,
        "quiet",
        signs=[
            ("resumed", 2, "clock"),
            ("imported", 2, ""),
            ("changed", 2, "https://x.example/editor/labbet/subscribers/1/"),
            ("changed", 200, "/preferences/"),
        ],
        **old,
    )
    long_ago = {"imported", "changed", "asked", "quiet"}
    for text, expected in {
        "since:2026-01-01": {"after", "new"},
        "until:2025-12-31": {"before", *long_ago},
        "-since:2026-01-01": {"before", *long_ago},
        "since:2026-01-01 until:2026-01-01": {"after"},
        "active:90d": {"new", "changed", "asked"},
        "silent:90d": {"before", "after", "imported", "quiet"},
        "-active:90d": {"before", "after", "imported", "quiet"},
        "active:3w": {"new", "changed"},
        "-silent:3w since:2026-02-01": {"new"},
    }.items():
        assert chosen(session, newsletter, text) == expected, text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour:red", "“colour:red” is not something readers can be chosen by."),
        ("klimat", "topic:, language:, rhythm:, since:, until:, active:, silent:"),
        ("topic:", "“topic:” is not something"),
        ("topic:,", "“topic:,” names nothing"),
        ("topic:sport", "“sport” is no topic here. There are: bygga, klimat, språk."),
        ("language:de", "“de” is no language here. There are: sv, en."),
        (
            "rhythm:daily",
            "There are: weekly, each, weekly:mon@08:00, weekly:fri@08:00.",
        ),
        ("since:2026-02-30", "“since:2026-02-30” has no date like 2026-01-31."),
        ("until:20260101", "has no date"),
        ("active:0d", "has no length of time like 90d or 12w"),
        ("silent:9999w", "ten years at most"),
        ("active:six", "has no length of time"),
        ("topic:klimat " * 21, "at most 20 conditions"),
        ("x" * 1001, "1000 characters fit"),
        ("topic:klimat' OR 1=1 --", "“OR” is not something"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_there_is(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        segments.parse(text, KNOWN)
    assert said in str(refused.value)
    assert refused.value.field == "segment"
    if len(text.split()) == 1 and len(text) <= segments.MAX_CHARACTERS:
        with pytest.raises(InvalidInput) as refused:
            segments.parse(f" language:sv  {text} -language:en", KNOWN)
        assert refused.value.span == (14, 14 + len(text))


def test_without_topics_that_is_said(session: Session) -> None:
    known = segments.known(session, make_newsletter(session, "tomt"))
    with pytest.raises(InvalidInput, match="no topic: there are none"):
        segments.parse("topic:klimat", known)


def test_a_segment_is_written_in_words() -> None:
    english, swedish = i18n.language("en"), i18n.language("sv")
    for text, in_english, in_swedish in (
        ("", "All readers", "Alla läsare"),
        (
            "language:en,sv",
            "Readers in English or Swedish",
            "Läsare på engelska eller svenska",
        ),
        (
            "language:sv topic:klimat since:2026-01-01",
            "Readers in Swedish who chose Klimat or all topics and have subscribed"
            " since January 1, 2026",
            "Läsare på svenska som har valt Klimat eller alla ämnen och har"
            " prenumererat sedan 1 januari 2026",
        ),
        (
            "rhythm:weekly,each -silent:180d -topic:bygga",
            "Readers who get mail every week or each post as it comes, gave a sign of"
            " life in the last 180 days, and chose topics without Bygga",
            "Läsare som får post varje vecka eller varje inlägg när det kommer, har"
            " hörts av de senaste 180 dagarna och har valt ämnen utan Bygga",
        ),
    ):
        segment = segments.parse(text, KNOWN)
        assert segments.describe(segment, KNOWN, english) == in_english
        assert segments.describe(segment, KNOWN, swedish) == in_swedish


DAYS = strategies.dates(date(1970, 1, 1), date(2200, 12, 31))
NEGATED = strategies.booleans()


def choice(field: str, values: list[str]) -> strategies.SearchStrategy[Choice]:
    several = strategies.lists(strategies.sampled_from(values), min_size=1, unique=True)
    return strategies.builds(
        Choice, strategies.just(field), several.map(tuple), NEGATED
    )


TERMS = strategies.one_of(
    choice("topic", list(KNOWN.topics)),
    choice("language", list(KNOWN.languages)),
    choice("rhythm", [*KNOWN.rhythms, "weekly"]),
    strategies.builds(Since, strategies.sampled_from(segments.DAYS), DAYS, NEGATED),
    strategies.builds(
        Life,
        strategies.sampled_from(segments.SPANS),
        strategies.integers(1, segments.MAX_DAYS),
        NEGATED,
    ),
)
SEGMENTS = strategies.lists(TERMS, max_size=12, unique=True).map(
    lambda terms: Segment(tuple(terms))
)
PIECES = strategies.one_of(
    strategies.sampled_from(
        [*(f"{field}:" for field in segments.FIELDS), "-", ",", ":", " ", "'", ";--"]
    ),
    strategies.sampled_from([*KNOWN.topics, *KNOWN.rhythms, "2026-01-01", "90d", "sv"]),
    strategies.text(max_size=8),
)


@given(SEGMENTS)
def test_what_is_written_is_read_back_the_same(segment: Segment) -> None:
    if len(str(segment)) <= segments.MAX_CHARACTERS:
        assert segments.parse(str(segment), KNOWN) == segment
        for code in i18n.available():
            assert segments.describe(segment, KNOWN, i18n.language(code))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.lists(PIECES, max_size=12).map("".join))
def test_no_text_is_ever_more_than_a_segment(session: Session, text: str) -> None:
    """Whatever is typed: a typed segment, which the database takes, or a refusal."""
    try:
        segment = segments.parse(text, KNOWN)
    except InvalidInput:
        return
    assert all(isinstance(term, Choice | Since | Life) for term in segment.terms)
    assert segments.parse(str(segment), KNOWN) == segment
    query = select(Subscription.id).where(*segments.conditions(segment, KNOWN, now=NOW))
    compiled = str(query.compile(session.get_bind()))
    for term in segment.terms:  # every value is a parameter, none stands in the SQL
        typed = str(term).partition(":")[2]
        assert not any(value in compiled for value in typed.split(",")), typed
    session.execute(query)
