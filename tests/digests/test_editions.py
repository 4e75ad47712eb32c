"""Readers who get the same words share an edition; everyone gets what is theirs."""

import pytest
from sqlalchemy.orm import Session

from newsletter.digests import drafts, editions
from newsletter.digests.editions import Edition
from newsletter.models import (
    Issue,
    Newsletter,
    Post,
    PostTopic,
    Status,
    Subscription,
    SubscriptionTopic,
    Suppression,
    Topic,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def reached(session: Session, issue: Issue, edition: Edition) -> set[str]:
    rows = session.execute(editions.audience(session, issue, edition))
    return {row.address for row in rows}


def make_topic(session: Session, newsletter: Newsletter, name: str) -> Topic:
    topic = Topic(newsletter_id=newsletter.id, slug=name, name=name)
    session.add(topic)
    session.flush()
    return topic


def about(session: Session, post: Post, *topics: Topic) -> Post:
    session.add_all(PostTopic(post_id=post.id, topic_id=t.id) for t in topics)
    session.flush()
    return post


def choose(session: Session, subscription: Subscription, *topics: Topic) -> None:
    subscription.all_topics = False
    session.add_all(
        SubscriptionTopic(subscription_id=subscription.id, topic_id=t.id)
        for t in topics
    )
    session.flush()


def test_each_language_is_an_edition(session: Session, newsletter: Newsletter) -> None:
    make_post(session, newsletter)
    for name, language in [("a", "sv"), ("b", "sv"), ("c", "en"), ("d", "fi")]:
        make_subscription(session, newsletter, f"{name}@x.example", language=language)
    issue = drafts.draft(session, newsletter, now=NOW)

    found = editions.editions(session, issue)

    assert [(e.name, e.readers) for e in found] == [("sv", 3), ("en", 1)]
    assert reached(session, issue, found[0]) == {f"{n}@x.example" for n in "abd"}
    assert reached(session, issue, found[1]) == {"c@x.example"}


def test_only_who_wants_and_may_get_mail_is_counted(
    session: Session, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    for status in Status:
        make_subscription(session, newsletter, f"{status}@x.example", status=status)
    for name, where in [("here", newsletter.id), ("everywhere", None)]:
        person = make_subscription(session, newsletter, f"{name}@x.example").subscriber
        session.add(
            Suppression(
                address_hash=person.address_hash, newsletter_id=where, reason="bounced"
            )
        )
    other = make_newsletter(session, "annat")
    elsewhere = make_subscription(session, newsletter, "elsewhere@x.example")
    session.add(
        Suppression(
            address_hash=elsewhere.subscriber.address_hash,
            newsletter_id=other.id,
            reason="never",
        )
    )
    make_subscription(session, other, "stranger@x.example")
    issue = drafts.draft(session, newsletter, now=NOW)

    (edition,) = editions.editions(session, issue)

    assert reached(session, issue, edition) == {
        "active@x.example",
        "elsewhere@x.example",
    }
    assert editions.audience_count(session, issue) == 2


def test_topics_decide_who_gets_which_posts(
    session: Session, newsletter: Newsletter
) -> None:
    homes, youth, rents = (make_topic(session, newsletter, n) for n in "abc")
    about(session, make_post(session, newsletter, title="Hem"), homes)
    about(session, make_post(session, newsletter, title="Unga"), youth)
    about(session, make_post(session, newsletter, title="Båda"), homes, youth)
    make_post(session, newsletter, title="Utan ämne")
    make_subscription(session, newsletter, "all@x.example")
    choose(session, make_subscription(session, newsletter, "h@x.example"), homes)
    choose(
        session, make_subscription(session, newsletter, "h2@x.example"), homes, rents
    )
    choose(
        session, make_subscription(session, newsletter, "hy@x.example"), homes, youth
    )
    choose(session, make_subscription(session, newsletter, "r@x.example"), rents)
    choose(session, make_subscription(session, newsletter, "none@x.example"))
    issue = drafts.draft(session, newsletter, now=NOW)

    found = {
        frozenset(entry.post.title for entry in e.posts): reached(session, issue, e)
        for e in editions.editions(session, issue)
    }

    everything = frozenset({"Hem", "Unga", "Båda", "Utan ämne"})
    assert found == {
        everything: {"all@x.example", "hy@x.example"},
        frozenset({"Hem", "Båda", "Utan ämne"}): {"h@x.example", "h2@x.example"},
        frozenset({"Utan ämne"}): {"r@x.example", "none@x.example"},
    }


def test_a_reader_for_whom_nothing_remains_gets_no_mail(
    session: Session, newsletter: Newsletter
) -> None:
    homes, youth = (make_topic(session, newsletter, name) for name in "ab")
    about(session, make_post(session, newsletter), homes)
    choose(session, make_subscription(session, newsletter, "y@x.example"), youth)
    issue = drafts.draft(session, newsletter, now=NOW)

    assert editions.audience_count(session, issue) == 0


def test_nobody_gets_a_post_that_their_cursor_has_passed(
    session: Session, newsletter: Newsletter
) -> None:
    """Design, promise 1: what a cancelled issue brought some readers stays brought."""
    for title in ("Ett", "Två", "Tre"):
        make_post(session, newsletter, title=title)
    for name, cursor in [("new", 0), ("one", 1), ("two", 2), ("all", 3)]:
        make_subscription(session, newsletter, f"{name}@x.example", cursor=cursor)
    issue = drafts.draft(session, newsletter, now=NOW)

    found = {
        reached(session, issue, e).pop(): {entry.post.title for entry in e.posts}
        for e in editions.editions(session, issue)
    }

    assert found == {
        "new@x.example": {"Ett", "Två", "Tre"},
        "one@x.example": {"Två", "Tre"},
        "two@x.example": {"Tre"},
    }


def test_a_post_picked_again_goes_to_everyone(
    session: Session, newsletter: Newsletter
) -> None:
    old = make_post(session, newsletter)
    make_subscription(session, newsletter, cursor=1)
    issue = drafts.draft(session, newsletter, post_ids=[old.id], now=NOW)
    issue.after_position = 1

    assert editions.audience_count(session, issue) == 1


def test_the_archives_edition_is_there_without_a_reader_of_it(
    session: Session, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    make_subscription(session, newsletter, language="en")
    issue = drafts.draft(session, newsletter, now=NOW)

    found = editions.editions(session, issue)

    assert [(e.name, e.readers) for e in found] == [("en", 1), ("sv", 0)]


def test_an_edition_with_some_of_the_posts_has_a_name_of_its_own(
    session: Session, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    make_post(session, newsletter)
    make_subscription(session, newsletter, "a@x.example")
    make_subscription(session, newsletter, "b@x.example", cursor=1)
    issue = drafts.draft(session, newsletter, now=NOW)
    names = [e.name for e in editions.editions(session, issue)]
    assert sorted(names) == ["sv", "sv/2"]
