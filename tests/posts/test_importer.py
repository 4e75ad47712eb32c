"""Importing: a post is known again; nothing is lost, doubled or mailed late."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter.db import Database
from newsletter.models import (
    Author,
    Feed,
    Issue,
    IssuePost,
    IssueState,
    Newsletter,
    Post,
    PostState,
)
from newsletter.posts import authors, editing, identity, sources, topics
from newsletter.posts.entries import Entry, Parsed
from newsletter.posts.importer import FLOOD, Report, import_entries
from newsletter.posts.parsing import parse
from tests.factories import NOW, make_newsletter

REAL = (Path(__file__).parent / "feeds" / "innovationslabb.rss").read_bytes()
DAY = timedelta(days=1)
COUNTER = count()
TELLING = "Vi träffades på torget och pratade om allt möjligt som rör stadsdelen. " * 3


def entry(number: int = 1, **over: object) -> Entry:
    made = Entry(
        title=f"Rubrik {number}",
        guid=f"x:{number}",
        link=f"https://blogg.example/{number}/",
        html=f"<p>Text {number}. {TELLING}</p>",
        excerpt=f"Text {number}.",
        author="Anna Kanervo",
        published_at=NOW - 10 * DAY + timedelta(hours=number),
    )
    return replace(made, **over)  # type: ignore[arg-type]


def run(
    session: Session,
    newsletter: Newsletter,
    *entries: Entry,
    feed: Feed | None = None,
    now: datetime = NOW,
    **more: object,
) -> Report:
    parsed = Parsed(entries=list(entries), **more)  # type: ignore[arg-type]
    return import_entries(
        session, newsletter, parsed, feed=feed, by_hand=feed is None, now=now
    )


def posts(session: Session) -> list[Post]:
    return list(session.scalars(select(Post).order_by(Post.published_at, Post.id)))


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture
def feed(session: Session, newsletter: Newsletter) -> Feed:
    return sources.add_feed(session, newsletter, "https://blogg.example/feed/")


def test_the_first_users_feed_becomes_posts_in_the_order_they_were_published(
    session: Session, newsletter: Newsletter
) -> None:
    report = import_entries(session, newsletter, parse(REAL), by_hand=True, now=NOW)
    assert (report.new, report.held, report.refused) == (5, 0, [])
    found = posts(session)
    assert [post.position for post in found] == [1, 2, 3, 4, 5]
    assert newsletter.last_position == 5
    assert found[0].title.startswith("Lokal områdesutveckling")
    assert {post.state for post in found} == {PostState.PUBLISHED}
    people = authors.authors(session, newsletter)
    assert [(person.name, person.byline) for person in people] == [
        ("Anna Kanervo", "projektansvarig för Allmännyttans innovationslabb"),
        ("Martin Kesenci", "stadsdelsutvecklare på Telge Bostäder"),
        ("Sophia Lövgren", "strateg på Hyresgästföreningen"),
    ]


def test_importing_twice_changes_nothing(database: Database) -> None:
    def everything(session: Session) -> list[object]:
        columns = Post.__table__.columns
        return [tuple(row) for row in session.execute(select(*columns))]

    with database.transaction() as session:
        newsletter = make_newsletter(session)
        import_entries(session, newsletter, parse(REAL), by_hand=True, now=NOW)
    with database.transaction() as session:
        before = everything(session)
        newsletter = session.scalars(select(Newsletter)).one()
        report = import_entries(
            session, newsletter, parse(REAL), by_hand=True, now=NOW + DAY
        )
        assert report == Report(unchanged=5)
    with database.reading() as session:
        assert everything(session) == before


def test_a_changed_post_is_updated_and_keeps_its_place(
    session: Session, newsletter: Newsletter
) -> None:
    run(session, newsletter, entry(1), entry(2))
    changed = entry(1, title="Ny rubrik", topics=("Sång",), author="Martin Kesenci")
    report = run(session, newsletter, changed, entry(2), now=NOW + DAY)
    assert (report.new, report.changed, report.unchanged) == (0, 1, 1)
    first = posts(session)[0]
    assert (first.title, first.position) == ("Ny rubrik", 1)
    assert first.author
    assert first.author.name == "Martin Kesenci"
    assert [topic.name for topic in topics.topics_of(session, first)] == ["Sång"]
    assert first.updated_at == NOW + DAY


@pytest.mark.parametrize(
    "again",
    [
        entry(1, link="https://ny.example/helt-annan/", title="Ny"),
        entry(1, guid="y:9", title="Ny"),
        entry(1, guid="", link="http://www.blogg.example/1?utm_source=rss", title="Ny"),
        entry(1, guid="y:9", link="https://ny.example/1"),
        entry(1, guid="", link=""),
        entry(1, guid="", link="", published_at=None),
    ],
)
def test_a_post_is_known_by_guid_then_link_then_content(
    session: Session, newsletter: Newsletter, again: Entry
) -> None:
    run(session, newsletter, entry(1), entry(2))
    report = run(session, newsletter, again, now=NOW + DAY)
    assert report.new == 0
    assert len(posts(session)) == 2


def test_a_guid_that_changed_is_remembered(
    session: Session, newsletter: Newsletter
) -> None:
    run(session, newsletter, entry(1))
    run(session, newsletter, entry(1, guid="y:1"))
    run(session, newsletter, entry(1, guid="y:1", link="https://ny.example/a"))
    assert len(posts(session)) == 1


def test_a_blog_that_moves_with_everything_brings_nothing_new(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, *(entry(n) for n in range(30)), feed=feed)
    moved = [
        entry(n, guid=f"https://ny.example/?p={n}", link=f"https://ny.example/{n}")
        for n in range(30)
    ]
    report = run(session, newsletter, *moved, feed=feed)
    assert (report.new, report.held, len(posts(session))) == (0, 0, 30)


MOVES = st.fixed_dictionaries(
    {
        "scheme": st.sampled_from(["http", "https"]),
        "host": st.sampled_from(["blogg.example", "www.blogg.example", "ny.example"]),
        "path": st.sampled_from(
            ["/{n}/", "/2026/11/{n}.html", "/?p={n}", "/x/{n}-rubrik"]
        ),
        "guid": st.sampled_from(["{link}", "tag:{host},2026:{n}", "{n}-ny", ""]),
        "edited": st.booleans(),
        "short": st.booleans(),
    }
)


@given(st.lists(MOVES, min_size=1, max_size=3))
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_however_a_blog_moves_its_posts_are_known(
    session: Session, moves: list[dict[str, Any]]
) -> None:
    """New scheme, host, permalinks and GUIDs, again and again, and edits on the way."""
    newsletter = make_newsletter(session, f"blogg-{next(COUNTER)}")
    feed = sources.add_feed(session, newsletter, "https://blogg.example/feed/")
    run(session, newsletter, *(entry(n) for n in range(FLOOD + 2)), feed=feed)
    for step, move in enumerate(moves):
        moved = []
        for n in range(FLOOD + 2):
            link = f"{move['scheme']}://{move['host']}" + move["path"].format(n=n)
            words = (
                f"<p>Text {n}, rättad {step}. {TELLING}</p>" if move["edited"] else ""
            )
            more = {"html": words} if words else {}
            if move["short"]:
                more = {"html": "<p>Läs mer.</p>", "excerpt": "Läs mer."}
            guid = move["guid"].format(n=n, link=link, host=move["host"])
            moved.append(entry(n, link=link, guid=guid, **more))
        report = run(session, newsletter, *moved, feed=feed)
        assert (report.new, report.held) == (0, 0)
    held = session.scalar(
        select(func.count(Post.id)).where(Post.newsletter_id == newsletter.id)
    )
    assert held == FLOOD + 2


def test_short_posts_that_say_the_same_are_two(
    session: Session, newsletter: Newsletter
) -> None:
    same = {"title": "Nytt avsnitt!", "html": "<p>Ute nu.</p>", "excerpt": "Ute nu."}
    run(session, newsletter, entry(1, **same))
    assert run(session, newsletter, entry(1, **same), entry(2, **same)).new == 1


def test_a_guid_or_link_that_all_entries_share_is_none_of_theirs(
    session: Session, newsletter: Newsletter
) -> None:
    front = "https://blogg.example/"
    entries = [entry(n, guid=front, link=front) for n in (1, 2, 3)]
    assert run(session, newsletter, *entries).new == 3
    assert run(session, newsletter, *entries) == Report(unchanged=3)


def test_an_entry_that_stands_twice_is_stored_once(
    session: Session, newsletter: Newsletter
) -> None:
    report = run(session, newsletter, entry(1), entry(1), entry(2))
    assert (report.new, report.unchanged) == (2, 1)


def test_the_front_page_is_no_identity(
    session: Session, newsletter: Newsletter
) -> None:
    front = "https://blogg.example/"
    run(session, newsletter, entry(1, link=front))
    assert run(session, newsletter, entry(2, link=front)).new == 1


def test_numbers_as_guids_mean_nothing_in_another_feed(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    other = sources.add_feed(session, newsletter, "https://annan.example/feed/")
    run(session, newsletter, entry(1, guid="105"), feed=feed)
    assert run(session, newsletter, entry(2, guid="105"), feed=other).new == 1


def test_a_post_in_two_feeds_belongs_to_the_first(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    other = sources.add_feed(session, newsletter, "https://blogg.example/alla/")
    run(session, newsletter, entry(1), feed=feed)
    short = entry(1, html="<p>Kort.</p>", excerpt="Kort.")
    assert run(session, newsletter, short, feed=other) == Report(unchanged=1)
    assert run(session, newsletter, entry(1), feed=feed) == Report(unchanged=1)


def test_what_an_editor_has_edited_stays(
    session: Session, newsletter: Newsletter
) -> None:
    run(session, newsletter, entry(1))
    post = posts(session)[0]
    editing.update(session, newsletter, post, title="Min rubrik", now=NOW)
    report = run(session, newsletter, entry(1, title="Flödets rubrik"))
    assert report.unchanged == 1
    assert post.title == "Min rubrik"


def test_what_an_editor_has_withdrawn_stays_away(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), feed=feed)
    post = posts(session)[0]
    editing.withdraw(session, post, now=NOW)
    run(session, newsletter, entry(1, title="Ny"), feed=feed)
    assert post.state is PostState.WITHDRAWN


def test_a_byline_an_editor_has_set_is_not_overwritten(
    session: Session, newsletter: Newsletter
) -> None:
    run(session, newsletter, entry(1, byline="projektansvarig"))
    author = session.scalars(select(Author)).one()
    authors.correct_author(session, author, byline="chef", display_name="Anna K")
    run(session, newsletter, entry(2, byline="konsult"))
    assert (author.byline, author.shown_name) == ("chef", "Anna K")


def test_the_newest_posts_byline_counts_whatever_comes_later(
    session: Session, newsletter: Newsletter
) -> None:
    run(session, newsletter, entry(2, byline="chef"))
    run(session, newsletter, entry(1, byline="praktikant"))
    assert session.scalars(select(Author)).one().byline == "chef"


def test_without_a_date_a_post_is_from_when_it_was_first_seen(
    session: Session, newsletter: Newsletter
) -> None:
    run(session, newsletter, entry(1, published_at=None))
    report = run(session, newsletter, entry(1, published_at=None), now=NOW + DAY)
    assert report == Report(unchanged=1)
    assert posts(session)[0].published_at == NOW


def carry(
    session: Session,
    newsletter: Newsletter,
    *found: Post,
    state: IssueState = IssueState.SENT,
) -> Issue:
    """Put posts in an issue, a sent one or a draft."""
    number = 1 if state is IssueState.SENT else None
    issue = Issue(newsletter_id=newsletter.id, state=state, number=number)
    issue.posts = [IssuePost(post_id=post.id, place=n) for n, post in enumerate(found)]
    session.add(issue)
    session.flush()
    return issue


def waiting(session: Session, now: datetime) -> list[str]:
    """Let the clock tick; return what was published by it."""
    before = {post.id for post in posts(session) if post.position}
    editing.publish_due(session, now=now, limit=100)
    return [
        post.guid for post in posts(session) if {post.id} - before and post.position
    ]


def test_a_post_dated_ahead_waits_for_its_date(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    ahead = entry(1, published_at=NOW + 3 * DAY)
    report = run(session, newsletter, ahead, entry(2), feed=feed)
    assert (report.new, report.waiting) == (1, 1)
    post = posts(session)[1]
    assert (post.state, post.position) == (PostState.DRAFT, None)
    again = run(session, newsletter, ahead, entry(2), feed=feed, now=NOW + DAY)
    assert again == Report(unchanged=2)
    assert waiting(session, NOW + 2 * DAY) == []
    assert waiting(session, NOW + 3 * DAY) == ["x:1"]
    assert (post.state, post.position) == (PostState.PUBLISHED, 2)
    assert (post.published_at, post.publish_at) == (NOW + 3 * DAY, None)


def test_a_clock_that_is_fast_makes_nothing_wait(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    soon = NOW + timedelta(minutes=10)
    report = run(session, newsletter, entry(1, published_at=soon), feed=feed)
    assert (report.new, posts(session)[0].published_at) == (1, NOW)


def test_a_date_years_ahead_is_a_mistake_for_an_editor(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), feed=feed)
    far = entry(2, published_at=NOW + 900 * DAY)
    report = run(session, newsletter, far, entry(1), feed=feed)
    assert (report.held, report.waiting) == (1, 0)
    editing.publish(session, posts(session)[-1], now=NOW + DAY)
    assert posts(session)[-1].published_at == NOW


def test_a_post_that_is_dated_ahead_before_it_is_sent_waits_and_goes_once(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), entry(2), feed=feed)
    first, second = posts(session)
    draft = carry(session, newsletter, first, second, state=IssueState.DRAFT)
    later = entry(1, published_at=NOW + 2 * DAY)
    run(session, newsletter, later, entry(2), feed=feed)
    assert (first.state, first.position) == (PostState.DRAFT, None)
    # Left in the draft it could go out with that, and again at its date.
    session.expire(draft)
    assert [carried.post_id for carried in draft.posts] == [second.id]
    # Its cursor is past 1 by now for some readers; 3 is new to all of them.
    assert waiting(session, NOW + 2 * DAY) == ["x:1"]
    assert (first.state, first.position) == (PostState.PUBLISHED, 3)


@pytest.mark.parametrize("days", [-3, -1, 1])
def test_a_waiting_post_follows_its_date_until_it_is_withdrawn(
    session: Session, newsletter: Newsletter, feed: Feed, days: int
) -> None:
    run(session, newsletter, entry(1, published_at=NOW + 2 * DAY), entry(2), feed=feed)
    moved = entry(1, published_at=NOW + days * DAY)
    run(session, newsletter, moved, entry(2), feed=feed)
    assert waiting(session, NOW + max(days, 0) * DAY) == ["x:1"]
    later = entry(3, published_at=NOW + 9 * DAY)
    run(session, newsletter, later, entry(2), feed=feed, now=NOW + DAY)
    gone = [entry(4, published_at=NOW + 10 * DAY), entry(2)]
    report = run(session, newsletter, *gone, feed=feed, now=NOW + DAY)
    assert report.withdrawn >= 1
    assert waiting(session, NOW + 9 * DAY) == []


def test_what_has_been_sent_keeps_its_place_whatever_its_date(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), feed=feed)
    post = posts(session)[0]
    carry(session, newsletter, post)
    run(session, newsletter, entry(1, published_at=NOW + 2 * DAY), feed=feed)
    assert (post.state, post.position) == (PostState.PUBLISHED, 1)
    assert post.published_at < NOW


def test_a_post_that_left_one_feed_and_stands_in_another_is_still_there(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    other = sources.add_feed(session, newsletter, "https://blogg.example/alla/")
    run(session, newsletter, entry(1), entry(2), entry(3), feed=feed)
    run(session, newsletter, entry(3), entry(1), feed=feed, now=NOW + DAY)
    second = posts(session)[1]
    assert second.state == "withdrawn"
    run(session, newsletter, entry(3), entry(2), entry(1), feed=other)
    assert (second.state, second.feed_id) == ("published", other.id)
    run(session, newsletter, entry(3), entry(1), feed=feed)
    assert second.state == "published"


def test_what_is_pushed_alone_does_not_withdraw_the_rest(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), entry(2), entry(3), feed=feed)
    parsed = Parsed(entries=[entry(3), entry(1)])
    report = import_entries(
        session, newsletter, parsed, feed=feed, partial=True, now=NOW
    )
    assert report == Report(unchanged=2)


def test_the_first_fetch_of_a_new_newsletter_publishes_everything(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    old = [entry(n, published_at=NOW - n * 30 * DAY) for n in range(1, 60)]
    report = run(session, newsletter, *old, feed=feed)
    assert (report.new, report.held) == (59, 0)


def test_a_flood_after_that_is_held(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), feed=feed)
    flood = [entry(n) for n in range(2, FLOOD + 3)]
    report = run(session, newsletter, *flood, feed=feed)
    assert (report.new, report.held) == (0, FLOOD + 1)
    assert newsletter.last_position == 1
    again = run(session, newsletter, *flood, feed=feed)
    assert (again.new, again.held, again.unchanged) == (0, 0, FLOOD + 1)


def test_an_old_post_is_held_and_a_recent_one_is_not(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), feed=feed)
    old = entry(2, published_at=NOW - 61 * DAY)
    report = run(session, newsletter, old, entry(3), feed=feed)
    assert (report.new, report.held) == (1, 1)
    assert [p.state for p in posts(session)] == ["held", "published", "published"]


def test_a_feed_added_to_a_newsletter_that_has_mailed_is_guarded_at_once(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    newsletter.last_number = 3
    old = [entry(n, published_at=NOW - n * 30 * DAY) for n in range(1, 10)]
    report = run(session, newsletter, *old, feed=feed)
    assert (report.new, report.held) == (2, 7)


def test_an_import_by_hand_holds_nothing(
    session: Session, newsletter: Newsletter
) -> None:
    newsletter.last_number = 3
    old = [entry(n, published_at=NOW - n * 30 * DAY) for n in range(1, 60)]
    assert run(session, newsletter, *old).new == 59


def test_a_post_deleted_on_the_blog_drops_out_and_may_come_back(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), entry(2), entry(3), feed=feed)
    report = run(session, newsletter, entry(3), entry(1), feed=feed, now=NOW + DAY)
    assert report.withdrawn == 1
    second = posts(session)[1]
    assert second.state is PostState.WITHDRAWN
    run(session, newsletter, entry(1), entry(2), entry(3), feed=feed)
    # In a new place: digests may have passed the one it had.
    assert (second.state, second.position) == (PostState.PUBLISHED, 4)


@pytest.mark.parametrize(
    "now_in_the_feed",
    [
        [entry(9), entry(8), entry(7)],  # the older ones have only scrolled out
        [*(entry(n) for n in (9, 8, 7, 6, 5, 4, 2, 1))][::-1],  # not by date
        [entry(1)],  # too many at once: the feed is in trouble
        [],
        [*(entry(n) for n in (9, 8, 7, 6, 5, 4, 2)), entry(1, published_at=None)],
    ],
)
def test_a_post_that_only_scrolled_out_stays(
    session: Session, newsletter: Newsletter, feed: Feed, now_in_the_feed: list[Entry]
) -> None:
    run(session, newsletter, *(entry(n) for n in range(1, 10)), feed=feed)
    report = run(session, newsletter, *now_in_the_feed, feed=feed)
    assert report.withdrawn == 0


def test_a_damaged_feed_withdraws_nothing(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, entry(1), entry(2), feed=feed)
    report = run(session, newsletter, entry(1), feed=feed, warnings=["damaged"])
    assert report.withdrawn == 0


@pytest.mark.parametrize("was_sent", [True, False])
def test_what_is_gone_after_weeks_is_withdrawn_only_if_it_was_not_sent(
    session: Session, newsletter: Newsletter, feed: Feed, was_sent: bool
) -> None:
    run(session, newsletter, entry(1), entry(2), feed=feed)
    if was_sent:
        carry(session, newsletter, *posts(session))
    report = run(session, newsletter, entry(1), feed=feed, now=NOW + 30 * DAY)
    assert report.withdrawn == (0 if was_sent else 1)


def test_a_clean_up_long_ago_does_not_hide_a_post_that_is_taken_back_now(
    session: Session, newsletter: Newsletter, feed: Feed
) -> None:
    run(session, newsletter, *(entry(n) for n in range(1, 8)), feed=feed)
    now = NOW + 30 * DAY
    fresh = [entry(n, published_at=now - timedelta(hours=n)) for n in (8, 9)]
    left = [*fresh, entry(7), entry(1)]  # 2 to 6 are gone, five at once
    assert run(session, newsletter, *left, feed=feed, now=now).withdrawn == 0
    report = run(session, newsletter, *left[1:], feed=feed, now=now)
    assert report.withdrawn == 1
    assert [p.guid for p in posts(session) if p.state == "withdrawn"] == ["x:8"]


def test_two_newsletters_keep_their_posts_apart(session: Session) -> None:
    one, two = make_newsletter(session, "ett"), make_newsletter(session, "tva")
    assert run(session, one, entry(1)).new == 1
    assert run(session, two, entry(1)).new == 1
    assert session.scalar(select(func.count(Post.id))) == 2


URLS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["http", "https", "HTTPS"]),
    st.sampled_from(["blogg.example", "www.blogg.example", "Blogg.Example"]),
    st.just("/inlagg/en-kvall"),
    st.sampled_from(["", "/", "//"]),
    st.sampled_from(["", "?utm_source=rss", "?utm_medium=a&utm_campaign=b&fbclid=c"]),
)


@given(URLS, URLS)
def test_one_link_written_in_two_ways_is_one(first: str, second: str) -> None:
    assert identity.link_key(first) == identity.link_key(second) != ""


@given(st.text(max_size=200))
def test_any_text_has_a_link_identity_or_none(text: str) -> None:
    key = identity.link_key(text)
    assert key == identity.link_key(text)
    assert len(key) in {0, 64}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://b.example/?p=1", "https://b.example/?p=2"),
        ("https://b.example/a", "https://b.example/A"),
        ("https://b.example/logg#1", "https://b.example/logg#2"),
        ("https://b.example:8443/a", "https://b.example/a"),
    ],
)
def test_links_that_differ_are_two(first: str, second: str) -> None:
    assert identity.link_key(first) != identity.link_key(second)


@given(
    st.lists(
        st.builds(
            Entry,
            title=st.sampled_from(["A", "B", "C"]),
            guid=st.sampled_from(["", "1", "x:1", "x:2", "x:3"]),
            link=st.sampled_from(["", "https://b.example/", "https://b.example/1"]),
            html=st.sampled_from(["", "<p>kort</p>", f"<p>{TELLING}</p>"]),
            published_at=st.sampled_from([None, datetime(2026, 11, 1, tzinfo=UTC)]),
        ),
        max_size=8,
    )
)
def test_the_identities_of_a_feed_never_contradict_each_other(
    entries: list[Entry],
) -> None:
    found = identity.identify(entries)
    for name in ("guid", "link_key"):
        values = [value for one in found if (value := getattr(one, name))]
        assert len(values) == len(set(values))
