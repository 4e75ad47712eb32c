"""Digests by themselves: each reader gets each post once, whatever happens between."""

import re
import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from newsletter import editors
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import drafts, planning, publish
from newsletter.digests.telling import held_because
from newsletter.errors import Conflict
from newsletter.i18n import language
from newsletter.mail import ledger
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Message,
    Mode,
    Post,
    PostTopic,
    Role,
    Status,
    Subscription,
    SubscriptionTopic,
    Suppression,
    Topic,
)
from newsletter.posts import editing
from newsletter.subscribers import merging
from newsletter.subscribers.starting import starting_position
from tests.delivering import deliver
from tests.digests.weeks import (
    BOUNCED,
    DAILY,
    DAY,
    HOUR,
    MINUTE,
    MONDAY,
    MONTHLY,
    SENT,
    START,
    WEEK,
    WEEKLY,
    Weeks,
)

TUESDAY = MONDAY + DAY


@pytest.fixture
def weeks(database: Database, settings: Settings) -> Weeks:
    return Weeks(database, settings)


def test_each_rhythm_gets_every_post_once_at_its_own_time(weeks: Weeks) -> None:
    for name, rhythm in (("w", WEEKLY), ("d", DAILY), ("m", MONTHLY), ("e", "each")):
        weeks.reader(name, rhythm)
    weeks.post("Ett")
    weeks.run(START + HOUR)
    assert [weeks.got(n) for n in "wdme"] == [[], [], [], [["Ett"]]]
    weeks.run(START + DAY)  # Saturday morning
    weeks.run(START + DAY + MINUTE)
    assert [weeks.got(n) for n in "wd"] == [[], [["Ett"]]]
    weeks.post("Två", START + 2 * DAY)
    weeks.run(START + 2 * DAY + MINUTE)
    assert [weeks.got(n) for n in "de"] == [[["Ett"], ["Två"]], [["Ett"], ["Två"]]]
    weeks.run(MONDAY - MINUTE)
    assert weeks.got("w") == []
    weeks.run(MONDAY)
    assert weeks.got("w") == [["Ett", "Två"]]
    weeks.run(TUESDAY)
    weeks.run(datetime(2026, 12, 1, 7, 5, tzinfo=MONDAY.tzinfo))
    assert weeks.got("m") == [["Ett", "Två"]]
    assert [issue.rhythm for issue in weeks.issues()] == [
        *("each", DAILY, DAILY, "each", WEEKLY, MONTHLY)
    ]
    assert {issue.state for issue in weeks.issues()} == {IssueState.SENT}


def test_nothing_new_is_no_mail_and_the_calendar_says_so(weeks: Weeks) -> None:
    weeks.reader("a")
    weeks.run(MONDAY)
    weeks.post("Ett", MONDAY + DAY)
    weeks.run(MONDAY + WEEK)
    weeks.run(MONDAY + 2 * WEEK)
    assert weeks.got("a") == [["Ett"]]
    assert weeks.occurrences()[:1] == [("empty", planning.N_NOTHING)]
    assert [state for state, _ in weeks.occurrences() if state == "issued"] == [
        "issued"
    ]


def test_what_had_begun_before_a_rhythm_is_not_made_up_for(
    database: Database, settings: Settings
) -> None:
    weeks = Weeks(database, settings, mode=Mode.HAND)
    weeks.reader("a")
    weeks.post("Ett")
    weeks.run(MONDAY)
    assert weeks.issues() == []
    weeks.change(mode=Mode.AUTOMATIC)
    weeks.run(MONDAY + HOUR)
    assert weeks.issues() == []  # Monday's was nobody's
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Ett"]]


@pytest.mark.parametrize("rhythm", [WEEKLY, "each"])
def test_many_clocks_send_it_once(weeks: Weeks, rhythm: str) -> None:
    weeks.reader("a", rhythm)
    weeks.post("Ett", MONDAY)
    due = planning.Due(weeks.id, rhythm)
    with weeks.database.reading() as session:
        assert due in planning.due(session, now=MONDAY)
    ready = threading.Barrier(4)
    made: list[Issue | None] = []

    def clock() -> None:
        ready.wait()
        with weeks.database.transaction() as session:
            made.append(planning.run(session, weeks.settings, due, now=MONDAY))

    clocks = [threading.Thread(target=clock) for _ in range(4)]
    for one in clocks:
        one.start()
    for one in clocks:
        one.join()
    assert sum(issue is not None for issue in made) == 1
    assert len(weeks.issues()) == 1
    weeks.run(MONDAY + MINUTE)
    assert weeks.got("a") == [["Ett"]]


def test_a_clock_that_dies_leaves_nothing_half_done(weeks: Weeks) -> None:
    weeks.reader("a")
    weeks.post("Ett")
    due = planning.Due(weeks.id, WEEKLY)
    with pytest.raises(SystemExit), weeks.database.transaction() as session:
        assert planning.run(session, weeks.settings, due, now=MONDAY)
        raise SystemExit  # killed before the commit
    assert weeks.issues() == []
    weeks.run(MONDAY + 10 * MINUTE)
    assert weeks.got("a") == [["Ett"]]


def test_a_bounced_delivery_brings_its_posts_again(weeks: Weeks) -> None:
    for name in "ab":
        weeks.reader(name)
    weeks.post("Ett")
    weeks.tick(MONDAY)
    weeks.settle(MONDAY, BOUNCED, "a")
    weeks.run(MONDAY + HOUR)
    weeks.post("Två", MONDAY + DAY)
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Ett", "Två"]]
    assert weeks.got("b") == [["Ett"], ["Två"]]
    # With nothing new, those who lack something get it all the same, and only they.
    weeks.post("Tre", MONDAY + 8 * DAY)
    weeks.tick(MONDAY + 2 * WEEK)
    weeks.settle(MONDAY + 2 * WEEK, BOUNCED, "a")
    weeks.run(MONDAY + 3 * WEEK)
    assert weeks.got("a")[1:] == [["Tre"]]
    assert weeks.got("b")[2:] == [["Tre"]]
    weeks.run(MONDAY + 4 * WEEK)
    assert [issue.total for issue in weeks.issues()] == [2, 2, 2, 1]


def test_who_has_a_digest_under_way_waits_and_is_topped_up(weeks: Weeks) -> None:
    for name in "abc":
        weeks.reader(name)
    weeks.post("Ett")
    weeks.tick(MONDAY)
    weeks.settle(MONDAY, names="a")  # b and c are deferred for a week
    weeks.post("Två", MONDAY + DAY)
    weeks.tick(MONDAY + WEEK)
    first, second = weeks.issues()
    assert (first.total, second.total) == (3, 1)
    weeks.settle(MONDAY + WEEK, names="ab")
    weeks.tick(MONDAY + WEEK + HOUR)
    weeks.tick(MONDAY + WEEK + 2 * HOUR)
    weeks.settle(MONDAY + WEEK + 2 * HOUR, BOUNCED, "c")
    weeks.tick(MONDAY + WEEK + 3 * HOUR)
    weeks.run(MONDAY + WEEK + 4 * HOUR)
    weeks.run(MONDAY + WEEK + 5 * HOUR)
    assert weeks.got("a") == [["Ett"], ["Två"]]
    assert weeks.got("b") == [["Ett"], ["Två"]]
    assert weeks.got("c") == [["Ett", "Två"]]  # in an edition of its own
    first, second = weeks.issues()
    assert (second.state, second.total) == (IssueState.SENT, 3)


def test_an_occurrence_waits_while_all_its_readers_do(weeks: Weeks) -> None:
    weeks.reader("a")
    weeks.post("Ett")
    weeks.tick(MONDAY)
    weeks.post("Två", MONDAY + DAY)
    weeks.tick(MONDAY + WEEK)
    assert len(weeks.issues()) == 1
    weeks.run(MONDAY + WEEK + HOUR)
    weeks.run(MONDAY + WEEK + 2 * HOUR)
    assert weeks.got("a") == [["Ett"], ["Två"]]


def test_a_changed_rhythm_loses_and_repeats_nothing(weeks: Weeks) -> None:
    reader = weeks.reader("a", DAILY)
    weeks.reader("other")
    weeks.post("Ett")
    weeks.run(START + DAY)
    weeks.set(reader, rhythm=WEEKLY)
    weeks.post("Två", START + 2 * DAY)
    weeks.run(MONDAY - HOUR)
    weeks.run(MONDAY)
    assert weeks.got("a") == [["Ett"], ["Två"]]
    assert weeks.got("other") == [["Ett", "Två"]]
    weeks.set(reader, rhythm="each")
    weeks.post("Tre", MONDAY + HOUR)
    weeks.run(MONDAY + HOUR)
    weeks.set(reader, rhythm=WEEKLY)
    weeks.post("Fyra", MONDAY + DAY)
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a")[2:] == [["Tre"], ["Fyra"]]
    assert weeks.got("other")[1:] == [["Tre", "Fyra"]]


def test_a_rhythm_no_longer_offered_is_the_default(weeks: Weeks) -> None:
    weeks.reader("a", DAILY)
    weeks.reader("b", "weekly:fri@09:00")
    weeks.post("Ett")
    weeks.change(rhythms=[WEEKLY, "each"])
    weeks.run(MONDAY - DAY)
    assert weeks.issues() == []
    weeks.run(MONDAY)
    assert [weeks.got(n) for n in "ab"] == [[["Ett"]]] * 2
    # Offered again, it begins anew; nothing is made up for.
    weeks.change(rhythms=[WEEKLY, DAILY])
    weeks.post("Två", MONDAY + HOUR)
    weeks.run(MONDAY + HOUR)
    assert weeks.got("a") == [["Ett"]]
    weeks.run(TUESDAY)
    assert weeks.got("a") == [["Ett"], ["Två"]]


def test_an_issue_by_hand_in_between(weeks: Weeks) -> None:
    """To everybody: each gets what they lack, and the rhythms go on from there."""
    weeks.reader("w")
    weeks.reader("d", DAILY)
    weeks.post("Ett")
    weeks.run(START + DAY)
    weeks.post("Två", START + DAY + HOUR)
    with weeks.database.transaction() as session:
        issue = drafts.draft(session, weeks.newsletter(session), now=START + DAY)
        assert [entry.post.title for entry in issue.posts] == ["Två"]
        assert publish.audience_count(session, issue) == 2
        issue_id = issue.id
    weeks.post("Tre", START + 2 * DAY)
    weeks.send(issue_id, START + 2 * DAY)
    weeks.settle(START + 2 * DAY)
    weeks.run(MONDAY)
    weeks.run(TUESDAY)
    assert weeks.got("w") == [["Ett", "Två"], ["Tre"]]
    assert weeks.got("d") == [["Ett"], ["Två"], ["Tre"]]


def test_a_post_picked_ahead_of_its_turn_comes_once(weeks: Weeks) -> None:
    weeks.reader("a")
    weeks.reader("gone", status=Status.PAUSED)
    weeks.post("Ett")
    ahead = weeks.post("Två")
    weeks.post("Tre")
    with weeks.database.transaction() as session:
        issue = drafts.draft(
            session, weeks.newsletter(session), post_ids=[ahead], now=START
        )
        issue_id = issue.id
    weeks.send(issue_id, START)
    weeks.settle(START)
    weeks.set(2, status=Status.ACTIVE)
    weeks.run(MONDAY)
    assert weeks.got("a") == [["Två"], ["Ett", "Tre"]]
    assert weeks.got("gone") == [["Ett", "Två", "Tre"]]


def test_a_pause_ends_with_everything_that_came_meanwhile(weeks: Weeks) -> None:
    reader = weeks.reader("a")
    weeks.reader("b")
    weeks.post("Ett")
    weeks.set(reader, status=Status.PAUSED, paused_until=MONDAY + 2 * WEEK - DAY)
    weeks.run(MONDAY)
    weeks.post("Två", MONDAY + DAY)
    weeks.run(MONDAY + WEEK)
    weeks.post("Tre", MONDAY + 8 * DAY)
    weeks.run(MONDAY + 2 * WEEK)
    assert weeks.got("a") == [["Ett", "Två", "Tre"]]
    assert weeks.got("b") == [["Ett"], ["Två"], ["Tre"]]


def test_posts_back_dated_withdrawn_and_published_anew(weeks: Weeks) -> None:
    weeks.reader("w")
    weeks.reader("d", DAILY)
    weeks.post("Gammal", published_at=START - 300 * DAY)
    anew = weeks.post("Åter")
    weeks.post("Tredje")
    weeks.run(START + DAY)  # the daily ones have had all three
    weeks.withdraw(anew)
    weeks.run(MONDAY)  # the weekly ones get two
    with weeks.database.transaction() as session:
        editing.publish(session, session.get_one(Post, anew), now=MONDAY + DAY)
    weeks.run(MONDAY + WEEK)
    weeks.run(MONDAY + 2 * WEEK)
    assert weeks.got("d") == [["Gammal", "Tredje", "Åter"]]  # by where it stands now
    assert weeks.got("w") == [["Gammal", "Tredje"], ["Åter"]]


def test_a_new_reader_begins_with_the_digest_that_everybody_gets(weeks: Weeks) -> None:
    weeks.reader("w")
    weeks.reader("d", DAILY)
    weeks.post("Ett")
    weeks.run(MONDAY)
    weeks.post("Två", MONDAY + HOUR)
    weeks.run(TUESDAY)  # the daily ones have had it
    with weeks.database.reading() as session:
        here = weeks.newsletter(session)
        begins = {r: starting_position(session, here, r) for r in here.rhythms}
        begins["no more"] = starting_position(session, here, "weekly:tue@08:00")
    assert begins == {WEEKLY: 1, DAILY: 2, MONTHLY: 0, "each": 0, "no more": 1}
    weeks.reader("new", cursor=begins[WEEKLY])
    weeks.run(MONDAY + WEEK)
    assert weeks.got("new") == weeks.got("w")[1:] == [["Två"]]


def test_the_first_digest_holds_the_recent_posts_whoever_comes(weeks: Weeks) -> None:
    for number in range(1, 36):
        weeks.post(str(number))
    weeks.reader("w")
    weeks.reader("d", DAILY)
    weeks.run(START + DAY)
    weeks.post("Ny", START + DAY + HOUR)
    weeks.run(MONDAY)
    recent = [str(number) for number in range(6, 36)]
    assert weeks.got("d") == [recent, ["Ny"]]
    assert weeks.got("w") == [[*recent, "Ny"]]


def topics_of(weeks: Weeks, *names: str) -> dict[str, int]:
    with weeks.database.transaction() as session:
        made = [Topic(newsletter_id=weeks.id, slug=name, name=name) for name in names]
        session.add_all(made)
        session.flush()
        return {topic.slug: topic.id for topic in made}


def tie(weeks: Weeks, *rows: PostTopic | SubscriptionTopic) -> None:
    with weeks.database.transaction() as session:
        session.add_all(rows)


def test_topics_decide_and_what_did_not_match_is_over(weeks: Weeks) -> None:
    homes, rents = topics_of(weeks, "homes", "rents").values()
    reader = weeks.reader("a", all_topics=False)
    weeks.reader("b")
    tie(weeks, SubscriptionTopic(subscription_id=reader, topic_id=homes))
    tie(weeks, PostTopic(post_id=weeks.post("Hyror"), topic_id=rents))
    weeks.run(MONDAY)
    assert (weeks.got("a"), weeks.got("b")) == ([], [["Hyror"]])
    assert weeks.cursor("a") == 1  # dealt with
    tie(weeks, SubscriptionTopic(subscription_id=reader, topic_id=rents))
    for title, topic in (("Hem", homes), ("Hyror igen", rents)):
        tie(weeks, PostTopic(post_id=weeks.post(title, TUESDAY), topic_id=topic))
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Hem", "Hyror igen"]]
    assert len(weeks.issues()) == 2


def test_more_topics_than_a_number_has_bits(weeks: Weeks) -> None:
    found = list(topics_of(weeks, *(f"t{n:02}" for n in range(70))).values())
    first = weeks.reader("a", all_topics=False)
    last = weeks.reader("b", all_topics=False)
    tie(weeks, SubscriptionTopic(subscription_id=first, topic_id=found[0]))
    tie(weeks, SubscriptionTopic(subscription_id=last, topic_id=found[69]))
    for post in range(7):
        post_id = weeks.post(f"{post}")
        for topic in found[post * 10 : post * 10 + 10]:
            tie(weeks, PostTopic(post_id=post_id, topic_id=topic))
    weeks.run(MONDAY)
    assert (weeks.got("a"), weeks.got("b")) == ([["0"]], [["6"]])


def test_each_reader_gets_the_posts_in_their_language(weeks: Weeks) -> None:
    weeks.change(by_language=True)
    weeks.reader("s", language="sv")
    weeks.reader("e", language="en")
    for title, code in (("Svenska", "sv"), ("English", "en-GB"), ("Alla", "")):
        weeks.post(title, language=code)
    weeks.post("Suomeksi", language="fi")  # nobody could choose it: for all
    weeks.run(MONDAY)
    assert weeks.got("s") == [["Svenska", "Alla", "Suomeksi"]]
    assert weeks.got("e") == [["English", "Alla", "Suomeksi"]]


def test_too_few_posts_wait_for_more_but_not_for_ever(weeks: Weeks) -> None:
    weeks.change(at_least=3, wait_days=10)
    weeks.reader("a")
    weeks.reader("e", "each")
    weeks.post("Ett")
    weeks.run(START + HOUR)
    weeks.run(MONDAY)
    assert weeks.got("e") == [["Ett"]]  # each means each
    assert weeks.got("a") == []
    assert weeks.occurrences()[-1] == ("empty", planning.N_TOO_FEW)
    weeks.run(MONDAY + WEEK)  # it has waited ten days
    assert weeks.got("a") == [["Ett"]]
    weeks.change(wait_days=0)
    weeks.post("Två", MONDAY + 8 * DAY)
    weeks.run(MONDAY + 2 * WEEK)
    weeks.run(MONDAY + 8 * WEEK)
    assert weeks.got("a") == [["Ett"]]  # however long
    for title in ("Tre", "Fyra"):
        weeks.post(title, MONDAY + 8 * WEEK)
    weeks.run(MONDAY + 9 * WEEK)
    assert weeks.got("a")[1:] == [["Två", "Tre", "Fyra"]]


def test_more_posts_than_wanted_are_headlines_and_count_as_sent(weeks: Weeks) -> None:
    weeks.change(at_most=1)
    weeks.reader("a")
    weeks.post("Äldre", excerpt="Det äldre stycket")
    weeks.post("Nyare", published_at=START + HOUR, excerpt="Det nyare stycket")
    weeks.run(MONDAY)
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Äldre", "Nyare"]]
    with weeks.database.reading() as session:
        message = session.scalars(select(Message)).one()
    for text in (message.html, message.text):
        assert "Det nyare stycket" in text
        assert "Det äldre stycket" not in text
        assert "Äldre" in text


def editor(weeks: Weeks, email: str, role: Role, tongue: str = "sv") -> None:
    with weeks.database.transaction() as session:
        here = weeks.newsletter(session)
        editors.add(session, email, role, here, now=START).language = tongue


def test_held_for_an_editor_it_is_sent_as_it_was_shown(weeks: Weeks) -> None:
    weeks.change(mode=Mode.HELD)
    editor(weeks, "chef@x.example", Role.OWNER)
    editor(weeks, "writer@x.example", Role.EDITOR, "en")
    editor(weeks, "guest@x.example", Role.VIEWER)
    for name in "abc":
        weeks.reader(name)
    for title in ("Ett", "Två"):
        weeks.post(title, excerpt=f"Ingressen till {title}. " * 20)
    weeks.run(MONDAY)
    weeks.run(MONDAY + HOUR)
    (issue,) = weeks.issues()
    assert (issue.state, issue.rhythm, issue.number) == (
        *(IssueState.HELD, WEEKLY, None),
    )
    assert held_because(issue, language("sv")).startswith("Varje utskick")
    (first, swedish), (second, english) = weeks.notices()
    assert {first, second} == {"chef@x.example", "writer@x.example"}
    assert swedish.subject == "Ett utskick av Allmännyttans innovationslabb väntar"
    for text in (swedish.text, english.text):
        assert f"http://localhost/editor/labbet/issues/{issue.id}/" in text
        for title in ("Ett", "Två"):
            shown = rf"• {title} – Åsa Öberg \d+ – Ingressen till {title}\."
            assert re.search(shown, " ".join(text.split()))
        assert len(text) < 1500
    assert "It would go to 3 readers" in english.text
    # Its moment passes; what came later waits for the next, and they are reminded.
    weeks.post("Tre", MONDAY + DAY)
    weeks.run(MONDAY + WEEK)
    assert len(weeks.issues()) == 1
    assert weeks.occurrences()[-1] == ("empty", planning.N_BEHIND)
    assert len(weeks.notices()) == 4
    weeks.send(issue.id, MONDAY + WEEK + DAY)
    weeks.settle(MONDAY + WEEK + DAY)
    assert weeks.got("a") == [["Ett", "Två"]]
    assert weeks.occurrences()[0] == ("issued", "")
    weeks.run(MONDAY + 2 * WEEK)
    second_issue = weeks.issues()[1]
    assert second_issue.state is IssueState.HELD
    weeks.send(second_issue.id, MONDAY + 2 * WEEK + HOUR)
    weeks.settle(MONDAY + 2 * WEEK + HOUR)
    assert [weeks.got(n) for n in "abc"] == [[["Ett", "Två"], ["Tre"]]] * 3


@pytest.mark.parametrize("discarded", [True, False])
def test_a_held_issue_that_is_skipped_lets_its_posts_come_next(
    weeks: Weeks, discarded: bool
) -> None:
    weeks.change(mode=Mode.HELD)
    weeks.reader("a")
    weeks.post("Ett")
    weeks.run(MONDAY)
    (issue,) = weeks.issues()
    with weeks.database.transaction() as session:
        found = session.get_one(Issue, issue.id)
        (drafts.discard if discarded else publish.skip)(session, found)
    assert ("skipped", "") in weeks.occurrences()
    if not discarded:
        with pytest.raises(Conflict):
            weeks.send(issue.id, MONDAY + HOUR)
    weeks.post("Två", MONDAY + DAY)
    weeks.change(mode=Mode.AUTOMATIC)
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Ett", "Två"]]


def test_too_late_waits_for_a_person(weeks: Weeks) -> None:
    """Nothing ran on Monday morning; somebody looks before readers get old mail."""
    editor(weeks, "chef@x.example", Role.OWNER)
    weeks.reader("w")
    weeks.reader("e", "each")
    weeks.post("Ett", START + DAY)
    weeks.run(MONDAY + planning.GRACE + MINUTE)
    held = {issue.rhythm: issue for issue in weeks.issues()}
    assert {issue.state for issue in held.values()} == {IssueState.HELD}
    assert set(held) == {WEEKLY, "each"}
    assert {issue.held_reason for issue in held.values()} == {planning.N_LATE}
    assert len(weeks.notices()) == 2
    weeks.run(MONDAY + planning.GRACE + 2 * MINUTE)
    assert len(weeks.issues()) == 2
    for issue in held.values():
        weeks.send(issue.id, MONDAY + 12 * HOUR)
    weeks.settle(MONDAY + 12 * HOUR)
    weeks.run(MONDAY + WEEK)
    assert weeks.got("w") == weeks.got("e") == [["Ett"]]
    # Within the grace it goes; several missed ones are one.
    weeks.post("Två", MONDAY + DAY)
    weeks.tick(MONDAY + WEEK + HOUR)
    weeks.post("Tre", MONDAY + WEEK + DAY)
    weeks.reader("d", DAILY, cursor=2)
    weeks.run(MONDAY + 3 * WEEK + planning.GRACE - MINUTE)
    assert weeks.got("d") == [["Tre"]]


def test_what_cannot_be_sent_is_held_and_says_why(weeks: Weeks) -> None:
    weeks.reader("a")
    weeks.reader("d", DAILY)
    weeks.post("Ett")
    with weeks.database.transaction() as session:
        weeks.newsletter(session).postal_address = ""
    weeks.run(START + DAY)
    (issue,) = weeks.issues()
    assert (issue.state, issue.rhythm) == (IssueState.HELD, DAILY)
    assert "adress" in held_because(issue, language("sv"))
    with weeks.database.transaction() as session:
        weeks.newsletter(session).postal_address = "Box 1"
    weeks.send(issue.id, START + DAY + HOUR)
    weeks.run(MONDAY)
    assert weeks.got("d") == weeks.got("a") == [["Ett"]]


def test_after_a_backup_was_restored_a_person_looks_first(weeks: Weeks) -> None:
    weeks.reader("a")
    weeks.post("Ett")
    with weeks.database.transaction() as session:
        weeks.newsletter(session).halted_at = START
    weeks.run(MONDAY)
    assert weeks.issues() == []
    with weeks.database.transaction() as session:
        planning.go_ahead(session, weeks.newsletter(session))
    weeks.run(MONDAY + HOUR)
    assert weeks.issues() == []  # from now on
    weeks.run(MONDAY + WEEK)
    assert weeks.got("a") == [["Ett"]]


def test_readers_of_a_cancelled_or_paused_issue(weeks: Weeks) -> None:
    """Cancelled, its posts are new again; paused, its readers wait for it."""
    for name in "ab":
        weeks.reader(name)
    weeks.post("Ett")
    weeks.tick(MONDAY)
    weeks.settle(MONDAY, names="a")
    with weeks.database.transaction() as session:
        publish.cancel(session, session.scalars(select(Issue)).one(), now=MONDAY)
    weeks.post("Två", MONDAY + DAY)
    weeks.tick(MONDAY + WEEK)
    weeks.settle(MONDAY + WEEK, names="a")
    with weeks.database.transaction() as session:
        query = select(Issue).where(Issue.state == IssueState.SENDING)
        publish.pause(session, session.scalars(query).one())
    weeks.post("Tre", MONDAY + WEEK + DAY)
    weeks.tick(MONDAY + 2 * WEEK)
    with weeks.database.transaction() as session:
        query = select(Issue).where(Issue.state == IssueState.PAUSED)
        publish.resume(session, session.scalars(query).one())
    weeks.run(MONDAY + 2 * WEEK + HOUR)
    weeks.run(MONDAY + 2 * WEEK + 2 * HOUR)
    assert weeks.got("a") == [["Ett"], ["Två"], ["Tre"]]
    assert weeks.got("b") == [["Ett", "Två"], ["Tre"]]


def test_who_is_in_a_workers_hand_when_an_issue_is_cancelled_waits(
    weeks: Weeks,
) -> None:
    """The relay may have it: until the worker says so, nothing else comes."""
    weeks.reader("a")
    weeks.post("Ett")
    weeks.tick(MONDAY)
    lease = timedelta(days=30)
    with weeks.database.transaction() as session:
        message_id = session.scalars(select(Delivery.message_id)).one()
        [claim] = ledger.claim(
            session,
            worker="w",
            limit=9,
            now=MONDAY,
            lease=lease,
            message_id=message_id,
        ).claims
    with weeks.database.transaction() as session:
        publish.cancel(session, session.scalars(select(Issue)).one(), now=MONDAY)
    weeks.post("Två", MONDAY + DAY)
    weeks.tick(MONDAY + WEEK)
    with weeks.database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == 1
        sent = ledger.Outcome(claim.id, message_id, DeliveryState.SENT, "250 ok")
        ledger.settle(session, "w", [sent], now=MONDAY + WEEK)
    weeks.run(MONDAY + WEEK + MINUTE)
    weeks.run(MONDAY + 2 * WEEK)
    assert weeks.got("a") == [["Ett"], ["Två"]]


def test_who_leaves_pauses_or_is_suppressed_gets_nothing_more(weeks: Weeks) -> None:
    left, paused, erased = (weeks.reader(name) for name in "lpe")
    weeks.post("Ett")
    weeks.tick(MONDAY)
    weeks.set(left, status=Status.LEFT)
    weeks.set(paused, status=Status.PAUSED)
    with weeks.database.transaction() as session:
        hashed = session.get_one(Subscription, erased).subscriber.address_hash
        session.add(Suppression(address_hash=hashed, reason="never"))
    deliver(weeks.database, weeks.settings, now=MONDAY + MINUTE)
    weeks.run(MONDAY + HOUR)
    weeks.post("Två", MONDAY + DAY)
    weeks.run(MONDAY + WEEK)
    assert [weeks.got(name) for name in "lpe"] == [[]] * 3
    weeks.set(paused, status=Status.ACTIVE)
    weeks.run(MONDAY + 2 * WEEK)
    assert [weeks.got(name) for name in "lpe"] == [[], [["Ett", "Två"]], []]


def test_two_subscriptions_that_become_one(weeks: Weeks) -> None:
    """What came to the one is not sent to the other; what neither had comes."""
    (homes,) = topics_of(weeks, "homes").values()
    weeks.reader("w")
    narrow = weeks.reader("d", DAILY, all_topics=False)
    tie(weeks, SubscriptionTopic(subscription_id=narrow, topic_id=homes))
    tie(weeks, PostTopic(post_id=weeks.post("Hem"), topic_id=homes))
    (rents,) = topics_of(weeks, "rents").values()
    tie(weeks, PostTopic(post_id=weeks.post("Hyror"), topic_id=rents))
    weeks.run(START + DAY)
    assert weeks.got("d") == [["Hem"]]
    tie(weeks, PostTopic(post_id=weeks.post("Hem igen"), topic_id=homes))
    weeks.tick(START + 2 * DAY)  # under way to the one that goes
    with weeks.database.transaction() as session:
        query = select(Subscription).order_by(Subscription.id)
        stays, goes = session.scalars(query)
        merging.merge(session, stays.subscriber, goes.subscriber, START + 2 * DAY)
    weeks.run(MONDAY)
    assert weeks.got("d") == [["Hem"], ["Hyror", "Hem igen"]]
    assert weeks.got("w") == []


def test_real_mail_leaves_by_itself(weeks: Weeks) -> None:
    """The clock, the sender and a real server: each reader the right posts, once."""
    weeks.reader("w")
    weeks.reader("d", DAILY)
    weeks.post("Första inlägget")
    mails = []
    for at in (START + DAY, MONDAY, MONDAY + MINUTE, MONDAY + DAY):
        weeks.tick(at)
        mails += deliver(weeks.database, weeks.settings, now=at)
        weeks.tick(at + MINUTE)
    assert [mail.rcpt_to for mail in mails] == [["d@x.example"], ["w@x.example"]]
    assert all(b"/preferences/" in mail.data for mail in mails)


def test_what_an_editor_hid_comes_to_nobody_later(weeks: Weeks) -> None:
    weeks.change(mode=Mode.HELD)
    for name in "ab":
        weeks.reader(name)
    kept = weeks.post("Dolt")
    weeks.post("Visat")
    weeks.run(MONDAY)
    (issue,) = weeks.issues()
    with weeks.database.transaction() as session:
        drafts.edit(session, session.get_one(Issue, issue.id), hidden=[kept])
    weeks.send(issue.id, MONDAY)
    weeks.settle(MONDAY, BOUNCED, "b")
    weeks.run(MONDAY + HOUR)
    weeks.change(mode=Mode.AUTOMATIC)
    weeks.run(MONDAY + WEEK)  # nothing new, but one lacks something
    weeks.run(MONDAY + 2 * WEEK)
    assert weeks.got("a") == weeks.got("b") == [["Visat"]]


def test_who_can_be_sent_nothing_is_not_looked_at_for_ever(weeks: Weeks) -> None:
    reader = weeks.reader("e", "each")
    (homes,) = topics_of(weeks, "homes").values()
    weeks.set(reader, all_topics=False)
    tie(weeks, PostTopic(post_id=weeks.post("Hem"), topic_id=homes))
    due = planning.Due(weeks.id, "each")
    with weeks.database.reading() as session:
        assert due in planning.due(session, now=START + MINUTE)
    weeks.run(START + MINUTE)
    with weeks.database.reading() as session:
        assert due not in planning.due(session, now=START + 2 * MINUTE)
    assert weeks.issues() == []


def test_who_was_in_hand_when_an_issue_was_cancelled_gets_nothing_twice(
    weeks: Weeks,
) -> None:
    """A worker has the one's mail on the wire while an editor cancels the issue."""
    for name in "ab":
        weeks.reader(name)
    weeks.post("Ett")
    weeks.tick(MONDAY)
    with weeks.database.transaction() as session:
        message_id = session.scalars(select(Message.id)).one()
        claims = ledger.claim(
            session, worker="w", limit=1, now=MONDAY, message_id=message_id
        ).claims
    assert len(claims) == 1
    with weeks.database.transaction() as session:
        publish.cancel(session, session.scalars(select(Issue)).one(), now=MONDAY)
        again = drafts.draft(session, weeks.newsletter(session), now=MONDAY)
        assert publish.send(session, weeks.settings, again, now=MONDAY + MINUTE) == 1
    with weeks.database.transaction() as session:
        outcome = ledger.Outcome(claims[0].id, message_id, SENT)
        ledger.settle(session, "w", [outcome], now=MONDAY + MINUTE)
    weeks.run(MONDAY + 2 * MINUTE)
    weeks.run(MONDAY + 4 * MINUTE)
    assert weeks.got("a") == weeks.got("b") == [["Ett"]]
