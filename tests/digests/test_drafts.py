"""Drafts gather what is new, once, and are an editor's until they leave."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from newsletter.digests import drafts
from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.models import Issue, IssueState, Newsletter, Post, PostState
from tests.factories import NOW, make_newsletter, make_post


def gone_out(issue: Issue, number: int, state: IssueState = IssueState.SENT) -> None:
    issue.state, issue.number = state, number
    issue.started_at = issue.created_at


def posts_of(issue: Issue) -> list[Post]:
    return [entry.post for entry in issue.posts]


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


def test_the_newest_post_stands_first(session: Session, newsletter: Newsletter) -> None:
    old = make_post(session, newsletter, published_at=NOW - timedelta(days=3))
    new = make_post(session, newsletter, published_at=NOW)
    middle = make_post(session, newsletter, published_at=NOW - timedelta(days=1))

    issue = drafts.draft(session, newsletter, now=NOW)

    assert posts_of(issue) == [new, middle, old]
    assert issue.last_position == 3
    assert issue.state is IssueState.DRAFT


def test_a_draft_begins_where_the_last_issue_ended(
    session: Session, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    gone_out(drafts.draft(session, newsletter, now=NOW), 1, IssueState.SENDING)
    new = make_post(session, newsletter)

    issue = drafts.draft(session, newsletter, now=NOW)

    assert posts_of(issue) == [new]
    assert (issue.after_position, issue.last_position) == (1, 2)


def test_what_a_cancelled_issue_held_is_new_again(
    session: Session, newsletter: Newsletter
) -> None:
    post = make_post(session, newsletter)
    first = drafts.draft(session, newsletter, now=NOW)
    gone_out(first, 1, IssueState.CANCELLED)

    assert posts_of(drafts.draft(session, newsletter, now=NOW)) == [post]


def test_with_nothing_new_it_says_since_when(
    session: Session, newsletter: Newsletter
) -> None:
    with pytest.raises(drafts.NothingNew, match="nothing to send yet"):
        drafts.draft(session, newsletter, now=NOW)
    make_post(session, newsletter)
    gone_out(drafts.draft(session, newsletter, now=NOW), 3)
    with pytest.raises(drafts.NothingNew, match="nothing new since issue 3"):
        drafts.draft(session, newsletter, now=NOW)


def test_the_first_issue_holds_recent_posts_only(
    session: Session, newsletter: Newsletter
) -> None:
    for day in range(drafts.FIRST_ISSUE_POSTS + 5):
        make_post(session, newsletter, published_at=NOW + timedelta(days=day))

    issue = drafts.draft(session, newsletter, now=NOW)

    assert len(issue.posts) == drafts.FIRST_ISSUE_POSTS
    gone_out(issue, 1)
    with pytest.raises(drafts.NothingNew):
        drafts.draft(session, newsletter, now=NOW)


def test_held_withdrawn_and_unfinished_posts_stay_out(
    session: Session, newsletter: Newsletter
) -> None:
    for state in (PostState.DRAFT, PostState.HELD, PostState.WITHDRAWN):
        make_post(session, newsletter, state=state)
    ready = make_post(session, newsletter)

    assert posts_of(drafts.draft(session, newsletter, now=NOW)) == [ready]


def test_another_newsletters_posts_stay_out(
    session: Session, newsletter: Newsletter
) -> None:
    other = make_post(session, make_newsletter(session, "annat"))
    with pytest.raises(NotFound, match="no published post"):
        drafts.draft(session, newsletter, post_ids=[other.id], now=NOW)


def test_picked_posts_may_be_old_ones(session: Session, newsletter: Newsletter) -> None:
    old = make_post(session, newsletter)
    gone_out(drafts.draft(session, newsletter, now=NOW), 1)

    issue = drafts.draft(session, newsletter, post_ids=[old.id, old.id], now=NOW)

    assert posts_of(issue) == [old]


def test_it_tells_which_posts_have_gone_out_and_in_which_issue(
    session: Session, newsletter: Newsletter
) -> None:
    shown, left_out, new = (make_post(session, newsletter) for _ in range(3))
    first = drafts.draft(session, newsletter, post_ids=[shown.id, left_out.id], now=NOW)
    for entry in first.posts:
        entry.hidden = entry.post is left_out
    drafts.draft(session, newsletter, post_ids=[new.id], now=NOW)
    everything = [shown, left_out, new]
    assert drafts.sent_before(session, newsletter, everything) == {}

    gone_out(first, 1)
    assert drafts.sent_before(session, newsletter, everything) == {shown.id: 1}

    again = drafts.draft(session, newsletter, post_ids=[shown.id], now=NOW)
    gone_out(again, 2, IssueState.SENDING)
    assert drafts.sent_before(session, newsletter, everything) == {shown.id: 2}


def test_picking_one_loses_none_and_sends_none_twice(
    session: Session, newsletter: Newsletter
) -> None:
    """Design, promise 1: every post once."""
    first, second, third = (make_post(session, newsletter) for _ in range(3))
    picked = drafts.draft(session, newsletter, post_ids=[second.id], now=NOW)
    gone_out(picked, 1)
    assert picked.last_position == 0  # the first one is still to come

    rest = drafts.draft(session, newsletter, now=NOW)

    assert set(posts_of(rest)) == {first, third}
    assert rest.last_position == 3


def test_a_post_taken_by_another_issue_meanwhile_is_noticed(
    session: Session, newsletter: Newsletter
) -> None:
    post = make_post(session, newsletter)
    mine = drafts.draft(session, newsletter, now=NOW)
    other = drafts.draft(session, newsletter, now=NOW)
    gone_out(other, 7, IssueState.SENDING)
    other.started_at = NOW + timedelta(minutes=1)
    session.flush()

    assert drafts.carried_meanwhile(session, mine) == [(post, 7)]


def test_an_editor_changes_words_order_and_what_shows(
    session: Session, newsletter: Newsletter
) -> None:
    a, b, c = (make_post(session, newsletter) for _ in range(3))
    issue = drafts.draft(session, newsletter, now=NOW)

    drafts.edit(
        session,
        issue,
        subject="Höst\r\nBcc: x@y.example",
        preview_text="Om hösten",
        opening="Hej!\r\n\r\nNu är det höst.",
        order=[a.id, c.id],
        hidden=[b.id],
        titles={a.id: "Ny rubrik"},
        excerpts={c.id: "Annan text"},
    )
    session.flush()
    session.expire(issue)

    assert issue.subject == "Höst Bcc: x@y.example"
    assert issue.opening == "Hej!\n\nNu är det höst."
    assert [entry.post_id for entry in issue.posts] == [a.id, c.id, b.id]
    assert [entry.hidden for entry in issue.posts] == [False, False, True]
    assert issue.posts[0].title == "Ny rubrik"
    assert issue.posts[1].excerpt == "Annan text"

    drafts.edit(session, issue, titles={a.id: ""})
    assert issue.posts[0].title == ""
    assert issue.preview_text == "Om hösten"


def test_a_text_that_is_too_long_names_its_field(
    session: Session, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    issue = drafts.draft(session, newsletter, now=NOW)
    with pytest.raises(InvalidInput) as refused:
        drafts.edit(session, issue, subject="ö" * 201)
    assert refused.value.field == "subject"


def test_what_has_left_cannot_be_changed_or_discarded(
    session: Session, newsletter: Newsletter
) -> None:
    make_post(session, newsletter)
    issue = drafts.draft(session, newsletter, now=NOW)
    gone_out(issue, 1, IssueState.SENDING)
    with pytest.raises(Conflict):
        drafts.edit(session, issue, subject="Nytt")
    with pytest.raises(Conflict):
        drafts.discard(session, issue)


def test_a_discarded_draft_gives_its_posts_back(
    session: Session, newsletter: Newsletter
) -> None:
    post = make_post(session, newsletter)
    drafts.discard(session, drafts.draft(session, newsletter, now=NOW))
    assert posts_of(drafts.draft(session, newsletter, now=NOW)) == [post]


def test_posts_are_added_and_shown_again(
    session: Session, newsletter: Newsletter
) -> None:
    old = make_post(session, newsletter)
    gone_out(drafts.draft(session, newsletter, now=NOW), 1)
    new = make_post(session, newsletter)
    issue = drafts.draft(session, newsletter, now=NOW)
    drafts.edit(session, issue, hidden=[new.id])

    drafts.add_posts(session, issue, [old.id, new.id])

    assert posts_of(issue) == [new, old]
    assert not any(entry.hidden for entry in issue.posts)


@pytest.mark.parametrize("wrong", [0, -1, 10**12])
def test_an_id_that_is_none_is_not_found(session: Session, wrong: int) -> None:
    with pytest.raises(NotFound):
        drafts.find(session, wrong)
