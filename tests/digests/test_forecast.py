"""How many readers there are where these are many: kept, dated, and never a guess."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import insert, literal, select, update
from sqlalchemy.orm import Session

from newsletter import jobs, links
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import calendar, drafts, forecast, letters
from newsletter.digests.forecast import Audience
from newsletter.models import (
    Mode,
    Newsletter,
    Reckoning,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
)
from newsletter.posts import topics
from newsletter.subscribers import directory, reckonings
from tests.factories import NOW, make_newsletter, make_post, make_subscription

WEEKLY, DAILY = "weekly:mon@08:00", "daily@07:00"


def many(session: Session, newsletter: Newsletter, count: int) -> None:
    """Add readers: one in ten daily, one in a hundred gone, over some days."""
    first = 1_000_000
    people = [
        {
            "id": first + n,
            "email": f"r{n}@exempel.example",
            "email_key": f"r{n}@exempel.example",
            "address_hash": f"{n:064x}",
        }
        for n in range(count)
    ]
    session.execute(insert(Subscriber), people)
    bonds = [
        {
            "id": first + n,
            "newsletter_id": newsletter.id,
            "subscriber_id": first + n,
            "status": Status.LEFT if n % 100 == 0 else Status.ACTIVE,
            "language": "sv",
            "rhythm": DAILY if n % 10 == 1 else WEEKLY,
            "leave_token": links.new_token(),
            "preferences_token": links.new_token(),
            "confirmed_at": NOW - timedelta(days=n % 50, hours=1),
            "left_at": NOW - timedelta(days=1) if n % 100 == 0 else None,
        }
        for n in range(count)
    ]
    session.execute(insert(Subscription), bonds)


def test_many_readers_are_counted_by_the_clock_and_dated(
    database: Database, settings: Settings
) -> None:
    number = reckonings.MANY + 100
    since, later = NOW - timedelta(days=60), NOW + timedelta(minutes=1)
    with database.transaction() as session:
        big = make_newsletter(session, rhythms=[WEEKLY, DAILY], mode=Mode.AUTOMATIC)
        small = make_newsletter(session, "liten")
        make_subscription(session, small)
        make_post(session, big)
        many(session, big, number)
        topic = topics.create(session, big, "Klimat")
        some = select(Subscription.id, literal(topic.id)).where(
            Subscription.status == Status.ACTIVE
        )
        session.execute(
            insert(SubscriptionTopic).from_select(
                ["subscription_id", "topic_id"],
                some.order_by(Subscription.id.desc()).limit(7),
            )
        )
        session.execute(update(Subscription).values(all_topics=False))
        draft = drafts.draft(session, big, now=NOW)
        letter = letters.write(session, big, subject="Hej", body="Hej", now=NOW)
        live = reckonings.overview(session, big, since=since, now=NOW)
        assert live.at is None  # no clock has been here: counted on the spot
        unseen = forecast.of_issue(session, draft, now=NOW)
    left = sum(1 for n in range(number) if n % 100 == 0)
    assert unseen == Audience(number - left, None, at_most=True)

    for _ in range(5):  # the counts, then a question each time
        jobs.reckon_readers(database, settings, NOW)

    with database.transaction() as session:
        big = session.get_one(Newsletter, big.id)
        kept = reckonings.overview(session, big, since=since, now=later)
        assert (kept.at, kept.days) == (NOW, live.days)
        assert kept.counts == replace(live.counts, counted_at=NOW)
        assert reckonings.counts(session, big) == kept.counts
        assert sum(month.joined for month in kept.months) == number
        assert reckonings.choosers(session, big) == ({topic.id: 7}, NOW)
        draft = drafts.find(session, draft.id)
        assert forecast.of_issue(session, draft, now=later) == Audience(
            number - left, NOW
        )
        letter = drafts.find(session, letter.id)
        assert forecast.of_letter(session, letter, now=later) == (
            Audience(number - left, NOW),
            number - left,
        )
        # Another audience has not been looked at: what was counted is not shown for it.
        letters.edit(session, letter, segment="rhythm:daily@07:00")
        assert forecast.of_issue(session, letter, now=later).at_most
        found = calendar.upcoming(session, big, now=later)
        daily = [one.audience for one in found if one.rhythm == DAILY]
        with_rhythm = sum(1 for n in range(number) if n % 10 == 1)
        assert set(daily) == {Audience(with_rhythm, NOW)}
        assert found[0].posts

        # Someone new is not counted yet, and the date says so; the small one is live.
        make_subscription(session, big)
        assert reckonings.overview(session, big, since=since, now=later).at == NOW
        small = session.get_one(Newsletter, small.id)
        assert reckonings.overview(session, small, since=since, now=later) == (
            reckonings.Overview(
                directory.counts(session, small),
                directory.growth(session, small, since=since, until=later),
                None,
            )
        )
        # Without a clock the number stays, and its date tells.
        dead = NOW + timedelta(days=2)
        assert reckonings.overview(session, big, since=since, now=dead).at == NOW
        assert forecast.of_issue(session, draft, now=dead).at == NOW

    # One that has become small is counted on the spot again, and nothing is left over.
    with database.transaction() as session:
        session.execute(update(Subscription).values(newsletter_id=small.id))
    jobs.reckon_readers(database, settings, NOW + timedelta(minutes=6))
    with database.transaction() as session:
        assert not session.scalars(
            select(Reckoning).where(
                Reckoning.newsletter_id == big.id,
                Reckoning.kind.in_(reckonings.COUNTED),
            )
        ).all()
