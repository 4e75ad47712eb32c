"""Versions of drafts: two editors' words as one, going back, and staying few."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.digests import drafts, letters, publish, versions
from newsletter.digests.versions import PostWords, Words
from newsletter.errors import NotFound
from newsletter.models import DraftVersion, Issue, Newsletter, VersionKind
from tests.factories import NOW, make_newsletter, make_post, make_subscription

BASE = Words(
    subject="Ämne",
    opening="Hej",
    posts=(PostWords(1), PostWords(2, title="Två"), PostWords(3, hidden=True)),
)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture
def issue(session: Session, newsletter: Newsletter) -> Issue:
    for _ in range(3):
        make_post(session, newsletter)
    return drafts.draft(session, newsletter, now=NOW)


def save(
    session: Session,
    issue: Issue,
    opening: str,
    *,
    seconds: float = 0,
    kind: VersionKind = VersionKind.SAVED,
) -> int:
    versions.note(session, issue, now=NOW)
    drafts.edit(session, issue, opening=opening)
    at = NOW + timedelta(seconds=seconds)
    versions.record(session, issue, kind=kind, editor_id=None, now=at)
    return issue.version


words = st.sampled_from(["", "Hej", "Hej då", "Åter"])
sides = st.builds(
    lambda subject, opening, order, hidden, featured, titles: Words(
        subject=subject,
        opening=opening,
        posts=tuple(
            PostWords(
                i, hidden=i in hidden, featured=i == featured, title=titles[i - 1]
            )
            for i in order
        ),
    ),
    words,
    words,
    st.permutations([1, 2, 3]),
    st.sets(st.sampled_from([1, 2, 3])),
    st.sampled_from([0, 1, 2, 3]),
    st.tuples(words, words, words),
)


@limits(max_examples=60, deadline=None)
@given(base=sides, mine=sides, theirs=sides)
def test_no_change_of_either_editor_is_lost(
    base: Words, mine: Words, theirs: Words
) -> None:
    merged = versions.merge(base, mine, theirs)
    before, ours, others = base.values(), mine.values(), theirs.values()
    for name, value in merged.words.values().items():
        if ours[name] == before[name]:
            assert value == others[name]
        elif others[name] in (before[name], ours[name]):
            assert value == ours[name]
        else:  # both changed it: mine stand, and theirs are shown
            assert value == ours[name]
            assert merged.both[name] == others[name]
    changed_by_both = {
        name
        for name in before
        if before[name] != ours[name] != others[name] != before[name]
    }
    assert set(merged.both) == changed_by_both


def test_without_what_both_began_with_every_difference_is_asked_about() -> None:
    mine = replace(BASE, subject="Mitt")
    merged = versions.merge(None, mine, BASE)
    assert (merged.both, merged.words.subject) == ({"subject": "Ämne"}, "Mitt")
    assert versions.merge(None, BASE, BASE).both == {}


def test_posts_that_came_meanwhile_stay() -> None:
    theirs = replace(BASE, posts=(*BASE.posts, PostWords(4, title="Ny")))
    mine = replace(BASE, posts=BASE.posts[::-1])
    merged = versions.merge(BASE, mine, theirs)
    assert [post.post_id for post in merged.words.posts] == [3, 2, 1, 4]
    assert merged.both == {}


def test_each_save_is_a_version_and_going_back_makes_another(
    session: Session, issue: Issue
) -> None:
    save(session, issue, "Ett")
    drafts.edit(session, issue, hidden=[issue.posts[0].post.id], order=[])
    two = save(session, issue, "Två")
    assert save(session, issue, "Två") == two, "nothing was changed"
    late = make_post(session, issue.newsletter)
    drafts.add_posts(session, issue, [late.id])
    versions.put_back(session, issue, 2, editor_id=None, now=NOW)

    assert issue.opening == "Ett"
    assert [e.hidden for e in issue.posts] == [False, False, False, True]
    found = versions.listed(session, issue)
    assert found[0].restores == 2
    assert [v.kind for v in found[-2:]] == [VersionKind.SAVED, VersionKind.FOUND]
    # What changed elsewhere is written down before it is changed again.
    assert VersionKind.FOUND in {v.kind for v in found[:3]}
    said = versions.differences(*(versions.words_of(v) for v in found[-2:]))
    assert said == ["the words"]
    with pytest.raises(NotFound):
        versions.put_back(session, issue, 99, editor_id=1, now=NOW)


def test_a_letter_goes_back_with_whom_it_is_for(
    session: Session, newsletter: Newsletter
) -> None:
    letter = letters.write(session, newsletter, subject="Vi flyttar", now=NOW)
    versions.note(session, letter, now=NOW)
    letters.edit(session, letter, body="Till Söder.", segment="language:en")
    versions.record(session, letter, kind=VersionKind.SAVED, editor_id=None, now=NOW)
    versions.put_back(session, letter, 1, editor_id=None, now=NOW)
    assert (letter.opening, letter.segment) == ("", "")
    versions.put_back(session, letter, 2, editor_id=None, now=NOW)
    assert (letter.opening, letter.segment) == ("Till Söder.", "language:en")


def test_versions_stay_few_and_what_was_saved_by_hand_longest(
    session: Session, settings: Settings, issue: Issue
) -> None:
    def add(kind: VersionKind, count: int) -> None:
        last = issue.version
        session.add_all(
            DraftVersion(
                issue_id=issue.id,
                number=last + n,
                kind=kind,
                words={},
                created_at=NOW + timedelta(seconds=8 * (last + n)),
            )
            for n in range(1, count + 1)
        )
        issue.version = last + count
        session.flush()
        now = NOW + timedelta(seconds=8 * issue.version)
        versions.thin(session, issue, now=now)

    add(VersionKind.SAVED, 1)
    add(VersionKind.AUTOSAVED, 400)  # eight seconds apart: most of an hour
    found = versions.listed(session, issue)
    numbers = [version.number for version in found]
    assert len(found) <= versions.MOST
    assert numbers[:15] == list(range(401, 386, -1)), "the latest two minutes all stay"
    assert numbers[-1] == 1
    gaps = [a - b for a, b in pairwise(v.created_at for v in found)]
    assert max(gaps) <= timedelta(minutes=4)
    add(VersionKind.SAVED, versions.MOST + 5)
    found = versions.listed(session, issue)
    assert len(found) == versions.MOST
    assert {version.kind for version in found} == {VersionKind.SAVED}
    make_subscription(session, issue.newsletter)
    publish.send(session, settings, issue, now=NOW)
    publish.cancel(session, issue, now=NOW)
    assert len(versions.listed(session, issue)) == versions.MOST
    publish.finish_settled(session, now=NOW)
    assert len(versions.listed(session, issue)) == versions.MOST_OF_SENT


def test_what_is_kept_aside_is_one_version_for_each_open_page(
    session: Session, issue: Issue
) -> None:
    save(session, issue, "Deras")
    for words in ("M", "Mi", "Mina"):
        typed = replace(versions.of(issue), opening=words)
        versions.keep_aside(
            session, issue, typed, editor_id=None, sitting="flik", now=NOW
        )
    assert issue.opening == "Deras"
    aside = [
        versions.words_of(v).opening
        for v in versions.listed(session, issue)
        if v.kind is VersionKind.ASIDE
    ]
    assert aside == ["Mina"]
