"""Topics: what feeds call their subjects, gathered; what editors say stays."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.digests import editions, segments
from newsletter.digests.drafts import draft
from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.models import (
    Category,
    Newsletter,
    Post,
    Subscription,
    SubscriptionTopic,
    Topic,
)
from newsletter.posts import categories, editing, importer, topics
from newsletter.posts.entries import Entry, Parsed
from newsletter.subscribers import choices, preferences
from newsletter.subscribers.consent import Origin
from tests.factories import NOW, make_newsletter, make_post, make_subscription


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def entry(number: int, *names: str) -> Entry:
    return Entry(
        guid=f"g{number}",
        link=f"https://blogg.example/{number}/",
        title=f"Inlägg {number}",
        html=f"<p>Om någonting, nummer {number}.</p>",
        excerpt="Om någonting.",
        published_at=NOW,
        topics=names,
    )


def fetched(session: Session, newsletter: Newsletter, *entries: Entry) -> list[Post]:
    importer.import_entries(session, newsletter, Parsed(entries=list(entries)), now=NOW)
    return list(session.scalars(select(Post).order_by(Post.guid)))


def about(session: Session, post: Post) -> list[str]:
    return [topic.name for topic in topics.topics_of(session, post)]


def names(session: Session, newsletter: Newsletter) -> list[str]:
    return [topic.name for topic in topics.topics(session, newsletter)]


def map_to(session: Session, newsletter: Newsletter, **wanted: Any) -> int:
    """Say which topic (or None) categories count as, by their slugs."""
    ids = {c.slug: c.id for c in categories.categories(session, newsletter)}
    return categories.assign(
        session,
        newsletter,
        {ids[slug]: topic.id if topic else None for slug, topic in wanted.items()},
    )


def test_many_categories_become_few_topics_and_posts_follow(
    session: Session, newsletter: Newsletter
) -> None:
    first, second, third = fetched(
        session,
        newsletter,
        entry(1, "Solceller", "Nyheter"),
        entry(2, "Värmepumpar"),
        entry(3, "Solceller"),
    )
    assert names(session, newsletter) == ["Nyheter", "Solceller", "Värmepumpar"]
    editing.update(session, newsletter, third, topic_names=["Egen"], now=NOW)

    energy = topics.create(session, newsletter, "Energi")
    changed = map_to(
        session, newsletter, solceller=energy, varmepumpar=energy, nyheter=None
    )
    assert changed == 3
    assert [about(session, p) for p in (first, second, third)] == [
        *(["Energi"], ["Energi"], ["Egen"])
    ]
    assert map_to(session, newsletter, solceller=energy) == 0
    # The feed says it again, and more: what was decided holds.
    newsletter.new_topics = False
    found = fetched(
        session,
        newsletter,
        entry(1, "Solceller"),
        entry(2, "Värmepumpar", "Nyheter"),
        entry(3, "Solceller"),
        entry(4, "solceller", "Vindkraft"),
    )
    assert [about(session, post) for post in found] == [
        *(["Energi"], ["Energi"], ["Egen"], ["Energi"])
    ]
    assert "Vindkraft" not in names(session, newsletter)
    wind = topics.create(session, newsletter, "Vind")
    map_to(session, newsletter, vindkraft=wind)
    assert about(session, found[3]) == ["Energi", "Vind"]
    assert (
        categories.counts(session, newsletter)[
            session.scalars(
                select(Category.id).where(Category.slug == "solceller")
            ).one()
        ]
        == 3
    )


def test_merging_takes_posts_and_readers_along(
    session: Session, newsletter: Newsletter
) -> None:
    (post,) = fetched(session, newsletter, entry(1, "Klimat", "Miljö"))
    climate, nature = topics.topics(session, newsletter)
    chosen = {"one": [nature.id], "both": [climate.id, nature.id], "none": []}
    readers = {}
    for name, topic_ids in chosen.items():
        readers[name] = make_subscription(session, newsletter)
        choices.set_topics(session, readers[name], topic_ids)
    newsletter_of_others = make_newsletter(session, "annat")
    foreign = topics.create(session, newsletter_of_others, "Klimat")
    for wrong in (nature, foreign):
        with pytest.raises(InvalidInput):
            topics.merge(session, nature, wrong)
    assert topics.counts(session, newsletter)[nature.id] == (1, 2)

    topics.merge(session, nature, climate)

    assert names(session, newsletter) == ["Klimat"]
    assert about(session, post) == ["Klimat"]
    rows = session.execute(select(SubscriptionTopic.subscription_id))
    assert {row[0] for row in rows} == {readers["one"].id, readers["both"].id}
    # Whatever still says the old name leads to the new one.
    assert choices.check_topics(session, newsletter, ["miljo"]) == [climate.id]
    known = segments.known(session, newsletter)
    assert str(segments.parse("topic:Miljö", known)) == "topic:klimat"
    editing.update(session, newsletter, post, topic_names=["miljö"], now=NOW)
    assert about(session, post) == ["Klimat"]
    (_, later) = fetched(session, newsletter, entry(1), entry(2, "Miljö"))
    assert about(session, later) == ["Klimat"]
    assert names(session, newsletter) == ["Klimat"]


def test_what_someone_may_come_back_to_is_in_use(
    session: Session, newsletter: Newsletter
) -> None:
    reader = make_subscription(session, newsletter, status="left")
    fetched(session, newsletter, entry(1, "Klimat"))
    bygga, miljo = (topics.create(session, newsletter, n) for n in ("Bygga", "Miljö"))
    other = make_newsletter(session, slug="annat")
    topics.create(session, other, "Eget")
    session.add_all(
        SubscriptionTopic(subscription_id=reader.id, topic_id=t.id)
        for t in (bygga, miljo)
    )
    reader.all_topics = False
    session.flush()
    assert topics.unused(session, newsletter) == set()
    with pytest.raises(Conflict):
        topics.remove(session, newsletter, bygga)
    reader.all_topics = True  # what they had chosen once decides nothing now
    session.flush()
    topics.remove(session, newsletter, bygga)
    assert names(session, newsletter) == ["Klimat", "Miljö"]


def test_what_is_hidden_is_not_offered_and_decides_nothing(
    session: Session, newsletter: Newsletter
) -> None:
    climate = topics.create(session, newsletter, "Klimat")
    rest = topics.create(session, newsletter, "Okategoriserade")
    post = make_post(session, newsletter)
    topics.set_topics(session, newsletter, post, ["Okategoriserade"])
    picky = make_subscription(session, newsletter)
    choices.set_topics(session, picky, [climate.id])
    other = make_subscription(session, newsletter)
    choices.set_topics(session, other, [rest.id])
    issue = draft(session, newsletter, now=NOW)
    assert editions.audience_count(session, issue) == 1

    rest.hidden = True
    session.flush()

    assert [t.name for t in choices.offered_topics(session, newsletter)] == ["Klimat"]
    assert editions.audience_count(session, issue) == 2
    # A choice that was not on the page stays with its reader.
    preferences.change(
        session, other, topics=["klimat"], origin=Origin(page="/p"), now=NOW
    )
    assert choices.chosen_topics(session, other) == ["klimat", "okategoriserade"]
    preferences.change(session, other, all_topics=True, origin=Origin(), now=NOW)
    assert session.scalars(select(SubscriptionTopic.subscription_id)).all() == [
        picky.id
    ]


def test_topics_are_named_ordered_and_told_apart(
    session: Session, newsletter: Newsletter
) -> None:
    for name in ("Bygga", "Klimat", "Ort"):
        topics.create(session, newsletter, name)
    bygga, climate, place = topics.topics(session, newsletter)
    topics.move(session, newsletter, place, -1)
    topics.move(session, newsletter, bygga, -1)
    assert names(session, newsletter) == ["Bygga", "Ort", "Klimat"]
    topics.named(session, newsletter, "Arkitektur")
    assert names(session, newsletter)[-1] == "Arkitektur"  # after those in order
    topics.rename(session, newsletter, climate, "  Klimat &\n energi ")
    assert (climate.name, climate.slug) == ("Klimat & energi", "klimat")
    topics.rename(session, newsletter, climate, "Klimat")
    for wrong, kind in (
        ("", InvalidInput),
        ("???", InvalidInput),
        ("x" * 81, InvalidInput),
        ("BYGGA", Conflict),
    ):
        with pytest.raises(kind):
            topics.rename(session, newsletter, climate, wrong)
        with pytest.raises(kind):
            topics.create(session, newsletter, wrong)
    with pytest.raises(NotFound):
        topics.find(session, make_newsletter(session, "annat"), climate.id)
    with pytest.raises(NotFound):
        categories.assign(session, make_newsletter(session, "tredje"), {1: climate.id})


def test_there_is_room_for_so_many_and_no_more(
    session: Session, newsletter: Newsletter
) -> None:
    session.add_all(
        Topic(newsletter_id=newsletter.id, slug=f"t{n}", name=f"T{n}")
        for n in range(topics.MAX_TOPICS)
    )
    session.add_all(
        Category(newsletter_id=newsletter.id, slug=f"c{n}", name=f"C{n}")
        for n in range(categories.MAX_CATEGORIES - 1)
    )
    session.flush()
    with pytest.raises(Conflict, match="at most 100 topics"):
        topics.create(session, newsletter, "Ett till")
    (post,) = fetched(session, newsletter, entry(1, "Ny", "Nyare", "T5"))
    assert about(session, post) == []
    assert len(categories.categories(session, newsletter)) == categories.MAX_CATEGORIES
    assert session.scalars(select(Subscription)).all() == []
