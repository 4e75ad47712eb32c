"""Posts by hand: written, corrected, published, withdrawn."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.models import Newsletter, Post, PostState
from newsletter.posts import authors, editing, sources, topics
from tests.factories import NOW, make_newsletter, make_post

DAY = timedelta(days=1)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def write(session: Session, newsletter: Newsletter, **over: object) -> Post:
    values: dict[str, object] = {"title": "Kören övar", "markdown": "Hej *du*."}
    return editing.create(session, newsletter, **{**values, **over}, now=NOW)  # type: ignore[arg-type]


def test_a_post_is_a_draft_until_it_is_published(
    session: Session, newsletter: Newsletter
) -> None:
    post = write(session, newsletter)
    assert (post.state, post.position) == (PostState.DRAFT, None)
    assert post.html == "<p>Hej <em>du</em>.</p>"
    assert post.excerpt == "Hej du."
    assert editing.latest(session, newsletter) == []
    editing.publish(session, post, now=NOW + DAY)
    assert (post.state, post.position) == (PostState.PUBLISHED, 1)
    assert post.published_at == NOW + DAY
    assert editing.latest(session, newsletter) == [post]


def test_a_date_that_was_chosen_stays(session: Session, newsletter: Newsletter) -> None:
    post = write(session, newsletter, published_at=NOW - 5 * DAY)
    editing.publish(session, post, now=NOW + DAY)
    assert post.published_at == NOW - 5 * DAY


def test_publishing_twice_gives_one_place_and_publishing_anew_another(
    session: Session, newsletter: Newsletter
) -> None:
    post = write(session, newsletter)
    for _ in range(2):
        editing.publish(session, post, now=NOW)
        assert (post.position, newsletter.last_position) == (1, 1)
    editing.withdraw(session, post, now=NOW)
    # Digests may have passed its first place; who has had it, the ledger knows.
    editing.publish(session, post, now=NOW)
    assert (post.position, newsletter.last_position) == (2, 2)


def test_a_post_can_be_for_the_page_only(
    session: Session, newsletter: Newsletter
) -> None:
    post = write(session, newsletter)
    editing.publish(session, post, to_readers=False, now=NOW)
    assert editing.latest(session, newsletter) == [post]
    assert (post.position, newsletter.last_position) == (None, 0)


def test_held_posts_are_published_in_the_order_of_their_dates(
    session: Session, newsletter: Newsletter
) -> None:
    held = [
        make_post(
            session,
            newsletter,
            state=PostState.HELD,
            position=None,
            published_at=NOW - n * DAY,
        )
        for n in (1, 3, 2)
    ]
    newsletter.last_position = 0
    editing.publish_all(session, held, now=NOW)
    assert [post.position for post in held] == [3, 1, 2]


def test_writing_makes_author_byline_and_topics(
    session: Session, newsletter: Newsletter
) -> None:
    post = write(
        session,
        newsletter,
        author=" Åsa  Ö ",
        byline="strateg",
        topic_names=["Sång & musik", "sång  & Musik", ""],
        link="https://blogg.example/1/",
    )
    assert post.author
    assert (post.author.name, post.author.byline) == ("Åsa Ö", "strateg")
    assert post.author.byline_fixed
    assert [(t.name, t.slug) for t in topics.topics_of(session, post)] == [
        ("Sång & musik", "sang-musik")
    ]
    assert len(post.link_key) == 64
    editing.update(session, newsletter, post, author="", topic_names=[], now=NOW)
    assert post.author is None
    assert topics.topics_of(session, post) == []


def test_an_author_is_corrected_for_all_posts_at_once(
    session: Session, newsletter: Newsletter
) -> None:
    first = write(session, newsletter, author="A Kanervo")
    second = write(session, newsletter, author="A Kanervo")
    author = authors.authors(session, newsletter)[0]
    authors.correct_author(session, author, display_name="Anna Kanervo", byline="chef")
    for post in (first, second):
        assert post.author
        assert (post.author.shown_name, post.author.byline) == ("Anna Kanervo", "chef")


def test_the_excerpt_follows_the_text_until_someone_writes_one(
    session: Session, newsletter: Newsletter
) -> None:
    post = write(session, newsletter)
    editing.update(session, newsletter, post, markdown="Ny text.", now=NOW)
    assert post.excerpt == "Ny text."
    editing.update(session, newsletter, post, excerpt="Min  egen.", now=NOW)
    editing.update(session, newsletter, post, markdown="Ännu en.", now=NOW)
    assert post.excerpt == "Min egen."
    editing.update(session, newsletter, post, excerpt="", now=NOW)
    assert post.excerpt == "Ännu en."


def test_what_is_not_mentioned_stays(session: Session, newsletter: Newsletter) -> None:
    post = make_post(session, newsletter, title="Förr", html="<p>x</p>")
    author, published = post.author, post.published_at
    editing.update(session, newsletter, post, title="Nu", now=NOW + DAY)
    assert (post.title, post.html) == ("Nu", "<p>x</p>")
    assert (post.author, post.published_at) == (author, published)
    assert post.edited


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"title": " "}, "title"),
        ({"title": "x" * 301}, "title"),
        ({"markdown": "x" * 200_001}, "markdown"),
        ({"excerpt": "x" * 2001}, "excerpt"),
        ({"link": "javascript:alert(1)"}, "link"),
        ({"link": "https://b.example/" + "x" * 2000}, "link"),
        ({"byline": "x" * 301, "author": "A"}, "byline"),
        ({"published_at": NOW + DAY}, "published_at"),
    ],
)
def test_what_cannot_be_used_is_refused_by_field(
    session: Session, newsletter: Newsletter, over: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        write(session, newsletter, **over)
    assert caught.value.field == field


def test_what_no_database_takes_is_taken_out(
    session: Session, newsletter: Newsletter
) -> None:
    post = write(
        session,
        newsletter,
        title="a\x00b\ud800",
        markdown="c\x00\u202ed",
        author="e\x00f",
    )
    session.refresh(post)
    assert post.title == "ab\ufffd"
    assert post.html == "<p>cd</p>"
    assert post.author
    assert post.author.name == "ef"


def test_only_a_newsletters_own_posts_and_authors_are_found(session: Session) -> None:
    one, two = make_newsletter(session, "ett"), make_newsletter(session, "tva")
    post = make_post(session, one)
    assert editing.find(session, one, post.id) is post
    assert authors.find(session, one, post.author_id or 0) is post.author
    for number in (post.id, 0, -1, 2**63):
        with pytest.raises(NotFound):
            editing.find(session, two, number)
        with pytest.raises(NotFound):
            authors.find(session, two, number)


def test_the_latest_come_first(session: Session, newsletter: Newsletter) -> None:
    made = [
        make_post(session, newsletter, published_at=NOW - n * DAY) for n in (2, 1, 3)
    ]
    make_post(session, newsletter, state=PostState.WITHDRAWN)
    assert editing.latest(session, newsletter, 2) == [made[1], made[0]]


def test_a_newsletter_keeps_a_hundred_topics_at_most(
    session: Session, newsletter: Newsletter
) -> None:
    for start in range(0, 120, 10):
        names = [f"ämne {n}" for n in range(start, start + 10)]
        topics.set_topics(session, newsletter, make_post(session, newsletter), names)
    assert len(topics.topics(session, newsletter)) == topics.MAX_TOPICS


def test_feeds_are_added_once_and_removed_without_their_posts(
    session: Session, newsletter: Newsletter
) -> None:
    feed = sources.add_feed(session, newsletter, " https://blogg.example/feed/ ")
    post = make_post(session, newsletter, feed_id=feed.id)
    with pytest.raises(Conflict):
        sources.add_feed(session, newsletter, "https://blogg.example/feed/")
    assert sources.feeds(session, newsletter) == [feed]
    sources.remove_feed(session, feed, now=NOW)
    session.refresh(post)
    assert post.feed_id is None


@pytest.mark.parametrize(
    "address",
    [
        *("", "hej", "/etc/passwd", "file:///etc/passwd", "ftp://b.example/"),
        *("https://u:p@b.example/", "https://", "https://b.example/" + "x" * 2000),
    ],
)
def test_a_feed_from_the_web_is_an_address_on_the_web(
    session: Session, newsletter: Newsletter, address: str
) -> None:
    with pytest.raises(InvalidInput):
        sources.add_feed(session, newsletter, address)
