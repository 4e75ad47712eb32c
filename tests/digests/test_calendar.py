"""The calendar tells what goes out when; skipping, moving, sending change just that."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import Base, Database
from newsletter.digests import calendar, drafts, planning, publish
from newsletter.digests.calendar import State, Upcoming
from newsletter.errors import Conflict, InkorgError, InvalidInput, NotFound
from newsletter.models import Issue, IssueState, Mode, Newsletter, Post, Status
from tests.digests.weeks import (
    DAILY,
    DAY,
    HOUR,
    MINUTE,
    MONDAY,
    MONTHLY,
    START,
    WEEK,
    WEEKLY,
    Weeks,
)


@pytest.fixture
def weeks(database: Database, settings: Settings) -> Weeks:
    return Weeks(database, settings)


def upcoming(weeks: Weeks, now: datetime, rhythm: str = "") -> list[Upcoming]:
    with weeks.database.reading() as session:
        found = calendar.upcoming(session, weeks.newsletter(session), now=now)
        return [one for one in found if not rhythm or one.rhythm == rhythm]


def titles(one: Upcoming) -> list[str]:
    return [post.title for post in one.posts]


def change(weeks: Weeks, what: Callable[..., object], *names: object, **more: object):  # type: ignore[no-untyped-def]
    with weeks.database.transaction() as session:
        return what(session, weeks.newsletter(session), *names, **more)


def dump(session: Session) -> list[object]:
    return [
        session.execute(select(table)).all() for table in Base.metadata.sorted_tables
    ]


def test_it_tells_four_weeks_ahead_and_writes_nothing(weeks: Weeks) -> None:
    for name, rhythm in (("w", WEEKLY), ("x", WEEKLY), ("d", DAILY), ("e", "each")):
        weeks.reader(name, rhythm)
    weeks.reader("p", status=Status.PAUSED)
    weeks.reader("old", "weekly:fri@09:00")  # no longer offered: the default's
    post_id = weeks.post("Ett")
    with weeks.database.reading() as session:
        before = dump(session)
    found = upcoming(weeks, START + HOUR)
    assert [one.at for one in found] == sorted(one.at for one in found)
    by_rhythm = {r: [o for o in found if o.rhythm == r] for r in (WEEKLY, DAILY)}
    assert [len(by_rhythm[WEEKLY]), len(by_rhythm[DAILY])] == [4, 28]
    first, second, *_ = by_rhythm[WEEKLY]
    assert (first.at, first.readers, titles(first)) == (MONDAY, 3, ["Ett"])
    assert (second.at, second.readers, titles(second)) == (MONDAY + WEEK, 3, [])
    assert (first.state, first.why, first.can_change) == (State.WAITING, "", True)
    (each,) = upcoming(weeks, START + HOUR, "each")
    assert (each.at, each.readers, titles(each)) == (START + HOUR, 1, ["Ett"])
    monthly = upcoming(weeks, START + HOUR, MONTHLY)
    assert [(o.readers, o.why) for o in monthly] == [(0, calendar.N_NOTHING_YET)]
    with weeks.database.reading() as session:
        post = session.get_one(Post, post_id)
        found_in = calendar.digest_of(session, post, now=START + HOUR)
        assert found_in is not None
        assert found_in.rhythm == "each"
        assert dump(session) == before


def test_a_post_that_waits_knows_its_digest(weeks: Weeks) -> None:
    weeks.reader("a")
    first = weeks.post("Ett")
    weeks.run(MONDAY)
    second = weeks.post("Två", MONDAY + HOUR)
    with weeks.database.reading() as session:
        sent, waits = (session.get_one(Post, n) for n in (first, second))
        assert calendar.digest_of(session, sent, now=MONDAY + DAY) is None
        found = calendar.digest_of(session, waits, now=MONDAY + DAY)
        assert found is not None
        assert (found.rhythm, found.at) == (WEEKLY, MONDAY + WEEK)


def test_by_hand_only_what_is_scheduled_stands_there(weeks: Weeks) -> None:
    weeks.change(mode=Mode.HAND)
    weeks.reader("a")
    weeks.post("Ett")
    assert upcoming(weeks, START) == []
    with weeks.database.transaction() as session:
        issue = drafts.draft(session, weeks.newsletter(session), now=START)
        publish.schedule(session, issue, START + HOUR, now=START)
        issue_id = issue.id
    (one,) = upcoming(weeks, START)
    assert (one.rhythm, one.at, one.state) == ("", START + HOUR, State.SCHEDULED)
    assert (one.readers, titles(one), one.issue_id) == (1, ["Ett"], issue_id)
    assert not one.can_change


def test_a_skipped_one_goes_by_and_its_posts_come_in_the_next(weeks: Weeks) -> None:
    weeks.reader("a")
    weeks.post("Ett")
    for _ in range(2):  # twice is once
        change(weeks, calendar.skip, WEEKLY, MONDAY, now=START)
    first, second, *_ = upcoming(weeks, START, WEEKLY)
    assert (first.state, titles(first)) == (State.SKIPPED, [])
    assert titles(second) == ["Ett"]
    change(weeks, calendar.unskip, WEEKLY, MONDAY, now=START)
    assert titles(upcoming(weeks, START, WEEKLY)[0]) == ["Ett"]
    change(weeks, calendar.skip, WEEKLY, MONDAY, now=START)
    weeks.run(MONDAY)
    assert weeks.issues() == []
    with pytest.raises(Conflict, match="is over"):
        change(weeks, calendar.unskip, WEEKLY, MONDAY, now=MONDAY + HOUR)
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Ett"]]


@pytest.mark.parametrize("hours", [-20, 30])
def test_a_moved_one_goes_at_its_new_time(weeks: Weeks, hours: int) -> None:
    weeks.reader("a")
    weeks.post("Ett")
    to = MONDAY + hours * HOUR
    change(weeks, calendar.move, WEEKLY, MONDAY, to=to, now=START)
    first, second, *_ = upcoming(weeks, START, WEEKLY)
    assert (first.due_at, first.at, first.moved) == (MONDAY, to, True)
    assert (second.at, second.moved) == (MONDAY + WEEK, False)
    if to > MONDAY:
        weeks.run(MONDAY)
    weeks.tick(to - MINUTE)
    assert weeks.got("a") == []
    weeks.run(to)
    assert weeks.got("a") == [["Ett"]]
    weeks.post("Två", to)
    weeks.run(max(to, MONDAY) + 5 * MINUTE)
    assert weeks.got("a") == [["Ett"]]
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Ett"], ["Två"]]


def test_it_moves_only_between_its_neighbours(weeks: Weeks) -> None:
    second = MONDAY + WEEK
    for to, why in (
        (START - HOUR, "has passed"),
        (MONDAY, "before the one that comes first"),
        (MONDAY + 2 * WEEK, "no earlier than the next one"),
    ):
        with pytest.raises(InvalidInput, match=why) as refused:
            change(weeks, calendar.move, WEEKLY, second, to=to, now=START)
        assert refused.value.field == "to"
    change(weeks, calendar.skip, WEEKLY, MONDAY, now=START)
    change(weeks, calendar.move, WEEKLY, second, to=MONDAY, now=START)


def test_what_is_not_in_the_calendar_cannot_be_changed(weeks: Weeks) -> None:
    for rhythm, due_at in (
        (WEEKLY, MONDAY + HOUR),
        ("weekly:fri@09:00", MONDAY),
        ("each", MONDAY),
    ):
        with pytest.raises(NotFound):
            change(weeks, calendar.skip, rhythm, due_at, now=START)
    weeks.run(MONDAY)
    with pytest.raises(Conflict, match="is over"):
        change(weeks, calendar.skip, WEEKLY, MONDAY, now=MONDAY + HOUR)
    weeks.change(mode=Mode.HAND)
    with pytest.raises(NotFound):
        change(weeks, calendar.skip, WEEKLY, MONDAY + WEEK, now=MONDAY + HOUR)


def send_now(weeks: Weeks, due_at: datetime, now: datetime) -> Issue:
    with weeks.database.transaction() as session:
        return calendar.send_now(
            session,
            weeks.settings,
            weeks.newsletter(session),
            WEEKLY,
            due_at,
            now=now,
        )


@pytest.mark.parametrize("mode", [Mode.AUTOMATIC, Mode.HELD])
def test_sending_now_stands_for_the_occurrence(weeks: Weeks, mode: Mode) -> None:
    weeks.change(mode=mode)
    weeks.reader("a")
    weeks.reader("d", DAILY)
    weeks.post("Ett")
    with pytest.raises(Conflict, match="comes before it"):
        send_now(weeks, MONDAY + WEEK, START)
    issue = send_now(weeks, MONDAY, START)
    assert (issue.rhythm, issue.total) == (WEEKLY, 1)
    weeks.settle(START)
    weeks.post("Två", START + HOUR)
    with pytest.raises(Conflict, match="is over"):
        send_now(weeks, MONDAY, START + HOUR)
    weeks.tick(MONDAY)
    assert weeks.got("a") == [["Ett"]]
    assert upcoming(weeks, MONDAY + HOUR, WEEKLY)[-1].due_at > MONDAY
    issue = send_now(weeks, MONDAY + WEEK, MONDAY + HOUR)
    weeks.settle(MONDAY + HOUR)
    assert weeks.got("a") == [["Ett"], ["Två"]]


def test_sending_now_with_nothing_to_send_says_so_and_changes_nothing(
    weeks: Weeks,
) -> None:
    weeks.reader("a")
    with pytest.raises(drafts.NothingNew):
        send_now(weeks, MONDAY, START)
    weeks.post("Ett")
    weeks.run(MONDAY)
    assert weeks.got("a") == [["Ett"]]


def test_two_editors_and_the_clock_do_it_once(weeks: Weeks) -> None:
    """Whoever comes second is told, whether they send, skip or run the clock."""
    weeks.reader("a")
    weeks.post("Ett")
    ready = threading.Barrier(3)
    outcomes: list[object] = []

    def act(what: Callable[[], object]) -> None:
        ready.wait()
        try:
            outcomes.append(what())
        except InkorgError as refused:
            outcomes.append(type(refused))

    def clock() -> object:
        with weeks.database.transaction() as session:
            due = planning.Due(weeks.id, WEEKLY)
            return planning.run(session, weeks.settings, due, now=MONDAY)

    acts = [
        lambda: send_now(weeks, MONDAY, MONDAY),
        lambda: send_now(weeks, MONDAY, MONDAY),
        clock,
    ]
    threads = [threading.Thread(target=act, args=(one,)) for one in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, Issue) for one in outcomes) == 1
    weeks.run(MONDAY + MINUTE)
    assert weeks.got("a") == [["Ett"]]
    with weeks.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Issue)) == 1
        assert session.scalar(select(Newsletter.last_number)) == 1


def test_quiet_days_move_and_join(weeks: Weeks) -> None:
    """Saturday's, Sunday's and a holiday's daily digests are the next day's."""
    weeks.change(quiet_days=["sat", "sun"], holidays=["2026-11-23"])
    weeks.reader("d", DAILY)
    weeks.reader("e", "each")
    weeks.post("Ett", START + DAY)
    weeks.post("Två", START + 2 * DAY)
    tuesday = MONDAY + DAY
    assert upcoming(weeks, START + MINUTE, DAILY)[0].at == tuesday
    assert upcoming(weeks, START + DAY, "each")[0].at == tuesday - 8 * HOUR
    for days in (1, 2, 3):
        weeks.run(START + days * DAY)
    weeks.run(tuesday - 9 * HOUR)
    assert (weeks.got("d"), weeks.got("e")) == ([], [])
    weeks.run(tuesday - 8 * HOUR)
    assert (weeks.got("d"), weeks.got("e")) == ([], [["Ett", "Två"]])
    weeks.run(tuesday)
    weeks.run(tuesday + timedelta(seconds=20))
    assert weeks.got("d") == [["Ett", "Två"]]
    assert [issue.rhythm for issue in weeks.issues()] == ["each", DAILY]


def test_too_few_posts_are_told_ahead(weeks: Weeks) -> None:
    weeks.change(at_least=2)
    weeks.reader("a")
    weeks.post("Ett")
    (first, *_) = upcoming(weeks, START, WEEKLY)
    assert (first.readers, first.why) == (0, calendar.N_FEW_YET)
    assert titles(first) == ["Ett"]


def draft_of(weeks: Weeks, now: datetime, rhythm: str = WEEKLY) -> int:
    """Make a draft of what is new, and let it go in a rhythm."""
    with weeks.database.transaction() as session:
        made = drafts.draft(session, weeks.newsletter(session), now=now)
        calendar.put_in(session, made, rhythm, now=now)
        return made.id


def test_a_draft_goes_in_the_place_of_the_next_digest_of_a_rhythm(weeks: Weeks) -> None:
    weeks.tick(START)
    weeks.reader("w")
    weeks.reader("m", MONTHLY)
    weeks.post("Ett")
    issue_id = draft_of(weeks, START + HOUR)
    weeks.post("Två", START + DAY)
    (mine, following) = upcoming(weeks, START + DAY, WEEKLY)[:2]
    assert (mine.issue_id, mine.at, mine.state) == (issue_id, MONDAY, State.SCHEDULED)
    assert (following.at, titles(following)) == (MONDAY + WEEK, ["Två"])
    assert not following.why
    with weeks.database.reading() as session:
        openings = calendar.openings(session, weeks.newsletter(session), now=START)
        assert [one.rhythm for one in openings] == [DAILY, MONTHLY]
    weeks.run(MONDAY - MINUTE)
    assert weeks.got("w") == []
    weeks.run(MONDAY)
    weeks.run(MONDAY + WEEK)
    assert weeks.got("w") == [["Ett"], ["Två"]]
    weeks.run(MONDAY + 8 * DAY)  # the first of the month
    assert weeks.got("m") == [["Ett", "Två"]]
    assert weeks.occurrences() == [("issued", ""), ("issued", "")]


def test_taken_back_it_leaves_the_digest_to_the_rhythm(weeks: Weeks) -> None:
    weeks.tick(START)
    weeks.reader("w")
    weeks.post("Ett")
    issue_id = draft_of(weeks, START + HOUR)
    with weeks.database.transaction() as session:
        issue = session.get_one(Issue, issue_id)
        with pytest.raises(Conflict, match="for everybody"):
            calendar.put_in(session, issue, DAILY, now=START + HOUR)
        publish.send_soon(
            session,
            weeks.settings,
            issue,
            seconds=30,
            expected=1,
            now=START + HOUR,
        )
        publish.undo(session, issue, now=START + HOUR)
        assert (issue.state, issue.rhythm) == (IssueState.DRAFT, "")
        calendar.put_in(session, issue, WEEKLY, now=START + 2 * HOUR)
        publish.unschedule(session, issue, now=START + DAY)
        assert (issue.state, issue.rhythm) == (IssueState.DRAFT, "")
        with pytest.raises(NotFound):
            calendar.put_in(session, issue, "each", now=START + DAY)
        drafts.discard(session, issue)
    weeks.run(MONDAY)
    assert weeks.got("w") == [["Ett"]]
    assert weeks.occurrences() == [("issued", "")]


def test_missed_by_more_than_the_grace_it_waits_for_a_person(weeks: Weeks) -> None:
    weeks.tick(START)
    weeks.reader("w")
    weeks.post("Ett")
    issue_id = draft_of(weeks, START + HOUR)
    late = MONDAY + planning.GRACE + MINUTE
    weeks.tick(late)
    with weeks.database.transaction() as session:
        issue = session.get_one(Issue, issue_id)
        assert issue.state is IssueState.HELD
        publish.unschedule(session, issue, now=late)
        assert issue.rhythm == WEEKLY  # its time is over: nothing goes in its stead
    weeks.run(late + MINUTE)
    assert weeks.got("w") == []
    weeks.change(mode=Mode.HAND)
    with weeks.database.reading() as session:
        newsletter = weeks.newsletter(session)
        assert calendar.openings(session, newsletter, now=late) == []
