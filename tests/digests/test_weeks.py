"""Weeks of simulated time: whatever happens, every reader gets every post once.

More examples than the suite runs: WEEKS_EXAMPLES=1000.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, event, note
from hypothesis import settings as tries
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.mail.ledger import Outcome
from newsletter.models import DeliveryState
from tests.digests.promise import DAYS, Moment, Paper, Person, Timetable
from tests.digests.world import Article, Mail, World

EXAMPLES = int(os.environ.get("WEEKS_EXAMPLES", "0")) or 10
STEPS = 30
MOST_SKIPPED = 4  # in a row: the timetable looks half a year ahead
MOST_ARTICLES = 20  # a first issue of more holds the recent ones only
ZONE = ZoneInfo("Europe/Stockholm")
GRACE = timedelta(hours=6)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STARTS = [
    datetime(2026, 10, 19, 9, 30, tzinfo=UTC),  # summer time ends on the 25th
    datetime(2027, 3, 22, 9, 30, tzinfo=UTC),  # it begins on the 28th
    datetime(2026, 12, 28, 9, 30, tzinfo=UTC),
    datetime(2027, 2, 20, 9, 30, tzinfo=UTC),
]
RHYTHMS = [
    "each",
    "daily@07:00",
    "daily@02:30",  # a time that one night leaves out and another has twice
    "weekly:mon@08:00",
    "weekly:sat@18:15",
    "monthly:1@08:00",
    "monthly:last-sun@02:30",
    "monthly:first-mon@08:00",
]
TOPICS = ["barn", "grannar", "klimat"]
NAMES = ["asa", "bo", "cia"]
names = st.sampled_from(NAMES)
topics = st.sets(st.sampled_from(TOPICS), max_size=2).map(lambda s: tuple(sorted(s)))
languages = st.sampled_from(["sv", "en"])
written = st.sampled_from(["sv", "en", ""])
FATES = st.lists(
    st.sampled_from(
        ["sent"] * 6 + ["deferred", "deferred long", "bounced", "crash", "late yes"]
    ),
    min_size=1,
    max_size=4,
)


class Weeks(RuleBasedStateMachine):
    """The newsletter in `world`, beside what was promised in `papers` and `people`."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @initialize(
        start=st.sampled_from(STARTS),
        mode=st.sampled_from(["automatic", "automatic", "automatic", "held", "hand"]),
        rhythms=st.lists(st.sampled_from(RHYTHMS), min_size=1, max_size=3, unique=True),
        by_language=st.booleans(),
        at_least=st.sampled_from([1, 1, 1, 2, 3]),
        at_most=st.sampled_from([0, 0, 1]),
        wait_days=st.sampled_from([0, 3, 10]),
        quiet_days=st.sampled_from([[], [], ["sun"], ["sat", "sun"], ["mon"]]),
    )
    def begin(
        self,
        start: datetime,
        mode: str,
        rhythms: list[str],
        quiet_days: list[str],
        **options: Any,
    ) -> None:
        self.now = self.ticked = start
        self.mode, self.rhythms = mode, rhythms
        self.options = options
        quiet = frozenset(DAYS.index(day) for day in quiet_days)
        self.timetable = Timetable(ZONE, quiet)
        self.papers: dict[int, Paper] = {}
        self.people = {name: Person(name) for name in NAMES}
        self.issues: dict[int, Known] = {}
        self.flights: dict[int, Flight] = {}  # by delivery: not settled yet
        self.until: dict[str, datetime] = {}  # by rhythm: how far the clock has come
        self.world.begin(
            start,
            mode=mode,
            rhythms=rhythms,
            default_rhythm=rhythms[0],
            quiet_days=quiet_days,
            **options,
        )
        self.post([((), "sv"), (("barn",), ""), (("klimat",), "en")], 0)
        for name, rhythm in zip(NAMES, [*rhythms, *rhythms], strict=False):
            self.sign_up(name, rhythm, "sv", (), at_once=name != "cia")
        self.tick()

    # The blog

    @rule(
        posts=st.lists(st.tuples(topics, written), min_size=1, max_size=3),
        ago=st.sampled_from([0, 0, 0, 5, 72, 480]),
        then=st.sampled_from(["", "", "by hand", "tick"]),
    )
    def post(
        self, posts: list[tuple[tuple[str, ...], str]], ago: int, then: str = ""
    ) -> None:
        self.pass_minutes()
        for about, language in posts[: MOST_ARTICLES - len(self.world.articles)]:
            number = len(self.world.articles) + 1
            date = self.now - ago * HOUR
            self.world.articles.append(Article(number, date, about, language))
        self.fetch()
        if then == "by hand":
            self.send_by_hand()
        elif then:
            self.tick()

    @precondition(lambda self: self.world.articles)
    @rule(data=st.data(), what=st.sampled_from(["words", "guid", "topics", "gone"]))
    def change_post(self, data: st.DataObject, what: str) -> None:
        self.pass_minutes()
        article = data.draw(st.sampled_from(self.world.articles[-6:]))
        if what == "words":
            article.edition += 1
        elif what == "guid":
            article.guid += 1
        elif what == "topics":
            article.topics = data.draw(topics)
        else:
            article.gone = not article.gone
        self.fetch()

    @precondition(lambda self: self.papers)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        self.pass_minutes()
        number = data.draw(st.sampled_from(sorted(self.papers)))
        self.world.withdraw(number, self.now)
        self.look_at_posts()

    def fetch(self) -> None:
        self.world.fetch(self.now)
        self.look_at_posts()

    def look_at_posts(self) -> None:
        """Take over what the importer made of it: that has tests of its own."""
        found = self.world.papers()
        for number, paper in found.items():
            known = self.papers.get(number, paper)
            paper.steady = known.steady and known.out == paper.out
            paper.since = known.since if number in self.papers else self.now
        self.papers = found

    @invariant()
    def remember_what_was_not_theirs(self) -> None:
        for person in self.people.values() if self.people else ():
            person.doubtful |= {
                paper.number
                for paper in self.papers.values()
                if not (paper.steady and self.suits(person, paper))
            }

    def suits(self, person: Person, paper: Paper) -> bool:
        return person.wants(paper, by_language=self.options["by_language"])

    @property
    def newest(self) -> int:
        return max((paper.order for paper in self.papers.values()), default=0)

    # Readers

    @rule(
        name=names,
        rhythm=st.sampled_from(RHYTHMS),
        language=languages,
        topics=topics,
        at_once=st.booleans(),
    )
    def sign_up(
        self,
        name: str,
        rhythm: str,
        language: str,
        topics: tuple[str, ...],
        at_once: bool,
    ) -> None:
        self.pass_minutes()
        person = self.people[name]
        known = self.world.topics()
        wanted = tuple(topic for topic in topics if topic in known)
        asked = self.world.ask(
            name, self.now, rhythm=rhythm, language=language, topics=wanted
        )
        if not asked or person.status in ("active", "paused"):
            return
        if person.status == "none":
            person.status, person.rhythm, person.language = (
                "pending",
                self.rhythms[0],
                "sv",
            )
        person.asked_at = self.now
        person.language = language
        if rhythm in self.rhythms:
            person.rhythm = rhythm
        if wanted:
            person.topics = frozenset(wanted)
        if at_once:
            self.confirm(name)

    @precondition(lambda self: self.who("pending", "left"))
    @rule(data=st.data())
    def confirm_late(self, data: st.DataObject) -> None:
        person = data.draw(st.sampled_from(self.who("pending", "left")))
        if person.asked_at and (not person.left_at or person.asked_at > person.left_at):
            self.confirm(person.name)

    def confirm(self, name: str) -> None:
        self.pass_minutes()
        person = self.people[name]
        self.world.confirm(name, self.now)
        began = max(
            (
                issue.reach
                for issue in self.issues.values()
                if issue.gone_out and issue.rhythm in ("", self.rhythm_of(person))
            ),
            default=0,
        )
        person.stayed = person.began is None
        person.cursor = max(person.cursor, began)
        person.began = person.cursor
        person.status, person.paused_until, person.left_at = "active", None, None

    @precondition(lambda self: self.who("active", "paused"))
    @rule(data=st.data(), what=st.sampled_from(["rhythm", "language", "topics"]))
    def choose(self, data: st.DataObject, what: str) -> None:
        self.pass_minutes()
        person = data.draw(st.sampled_from(self.who("active", "paused")))
        if what == "rhythm":
            person.rhythm = data.draw(st.sampled_from(self.rhythms))
            self.world.change(person.name, self.now, rhythm=person.rhythm)
            return
        if what == "language":
            person.language = data.draw(languages)
            self.world.change(person.name, self.now, language=person.language)
            return
        known = self.world.topics()
        chosen = frozenset(data.draw(topics)) & known
        person.topics = chosen or None
        if chosen:
            self.world.change(person.name, self.now, topics=sorted(chosen))
        else:
            self.world.change(person.name, self.now, all_topics=True)

    @precondition(lambda self: self.who("active", "paused"))
    @rule(data=st.data(), hours=st.sampled_from([7, 50, 170, 500]))
    def pause(self, data: st.DataObject, hours: int) -> None:
        self.pass_minutes()
        person = data.draw(st.sampled_from(self.who("active", "paused")))
        if person.status == "paused":
            self.world.resume(person.name, self.now)
            person.status, person.paused_until = "active", None
        else:
            until = self.now + hours * HOUR
            self.world.pause(person.name, until, self.now)
            person.status, person.paused_until = "paused", until

    @precondition(lambda self: self.who("active", "paused"))
    @rule(data=st.data(), what=st.sampled_from(["leave", "undo", "undo late", "move"]))
    def leave_or_move(self, data: st.DataObject, what: str) -> None:
        """Leave, perhaps think again within the day or too late; or move house."""
        self.pass_minutes()
        person = data.draw(st.sampled_from(self.who("active", "paused")))
        if what == "move":
            self.world.move(person.name, self.now)
            return
        self.leave(person)
        if what == "undo":
            self.tick()
            self.now += HOUR
            self.undo_leaving(person)
        elif what == "undo late":
            self.now += 2 * DAY
            self.undo_leaving(person)

    def leave(self, person: Person) -> None:
        self.world.leave(person.name, self.now)
        person.status, person.left_at = "left", self.now
        for number, flight in list(self.flights.items()):
            if flight.mail.name == person.name and not flight.claimed:
                del self.flights[number]

    def undo_leaving(self, person: Person) -> None:
        assert person.left_at
        if self.world.undo_leaving(person.name, self.now):
            assert self.now - person.left_at <= DAY
            on_holiday = person.paused_until and person.paused_until > self.now
            person.status = "paused" if on_holiday else "active"
            person.left_at = None

    def who(self, *statuses: str) -> list[Person]:
        return [p for p in self.people.values() if p.status in statuses]

    def pass_minutes(self) -> None:
        """Nothing happens twice in the same minute."""
        self.now += timedelta(minutes=2)

    # The editor

    @precondition(lambda self: self.papers)
    @rule()
    def send_by_hand(self) -> None:
        self.pass_minutes()
        if issue_id := self.world.draft(self.now):
            self.look_at_issues()
            self.send(issue_id)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), yes=st.booleans())
    def decide(self, data: st.DataObject, yes: bool) -> None:
        """Approve what waits for an editor, or let it go by."""
        self.pass_minutes()
        issue_id = data.draw(st.sampled_from(self.held))
        if yes:
            self.send(issue_id)
        else:
            self.world.skip_issue(issue_id)
            self.issues[issue_id].held = False

    @precondition(lambda self: self.mode != "hand" and self.until)
    @rule(
        data=st.data(),
        what=st.sampled_from(["skip", "skip", "unskip", "move", "now"]),
        hours=st.integers(1, 200),
        wait=st.booleans(),
    )
    def change_calendar(
        self, data: st.DataObject, what: str, hours: int, *, wait: bool
    ) -> None:
        """Skip, move or send what is to come; perhaps wait and see what comes of it."""
        self.pass_minutes()
        rhythm = data.draw(st.sampled_from(sorted(self.until)))
        moments = self.coming(rhythm)
        if not moments:
            return
        due = data.draw(st.sampled_from(moments[:2])).due
        skipped = [d for r, d in self.timetable.skipped if r == rhythm]
        to = self.now + hours * HOUR
        if what == "skip":
            if len([d for d in skipped if d > self.until[rhythm]]) >= MOST_SKIPPED:
                return
            if self.world.skip(rhythm, due, self.now):
                self.timetable.skipped.add((rhythm, due))
        elif what == "unskip" and skipped:
            if self.world.unskip(rhythm, skipped[-1], self.now):
                self.timetable.skipped.discard((rhythm, skipped[-1]))
        elif what == "move" and self.world.move_digest(rhythm, due, to, self.now):
            self.timetable.moved[rhythm, due] = to
        elif what == "now" and self.world.send_now(rhythm, due, self.now):
            self.until[rhythm] = due
            self.look_at_issues()
            [mailed] = {mail.issue_id for mail in self.look_at_mails(rhythm)}
            assert self.issues[mailed].rhythm == rhythm
        if wait:
            self.post([((), "")], 0)
            until = max(due, to) - self.now + HOUR
            self.work(min(until // HOUR, 400), 0, ["sent"])

    def send(self, issue_id: int) -> None:
        """Send an issue now: everyone it is for gets what they lack, nobody else."""
        issue = self.issues[issue_id]
        must = self.wanting(issue.rhythm, issue.reach, issue.made)
        if self.world.send(issue_id, self.now):
            mailed = {mail.name for mail in self.look_at_mails(issue.rhythm)}
            assert must <= mailed, "someone was forgotten"
        else:
            assert not must, "it does not go out"

    # Digests

    def wanting(
        self, rhythm: str, reach: int | None = None, at: datetime | None = None
    ) -> set[str]:
        """Return who surely lacks enough for a mail and is free to get one."""
        reach = self.newest if reach is None else reach
        return {
            person.name
            for person in self.who("active")
            if rhythm in ("", self.rhythm_of(person))
            and person.name not in self.busy
            and self.is_enough(self.lacks(person, reach, sure=True), rhythm, at)
        }

    def rhythm_of(self, person: Person) -> str:
        return person.rhythm if person.rhythm in self.rhythms else self.rhythms[0]

    def is_enough(
        self, papers: list[Paper], rhythm: str, at: datetime | None = None
    ) -> bool:
        """Tell whether so many posts make, or made, a digest."""
        if rhythm in ("", "each") or len(papers) >= self.options["at_least"]:
            return bool(papers)
        patience = timedelta(days=self.options["wait_days"])
        if not papers or not patience:
            return False
        return (at or self.now) - min(paper.since for paper in papers) >= patience

    def lacks(self, person: Person, reach: int, *, sure: bool) -> list[Paper]:
        """Return what a digest for this reader holds, or surely does."""
        return [
            paper
            for paper in self.papers.values()
            if paper.out
            and person.cursor < paper.order <= reach
            and not person.got[paper.number]
            and self.suits(person, paper)
            and not (sure and paper.number in person.doubtful)
        ]

    @property
    def busy(self) -> set[str]:
        return {flight.mail.name for flight in self.flights.values()}

    @property
    def held(self) -> list[int]:
        return [n for n, issue in self.issues.items() if issue.held]

    def look_at_issues(self) -> list[int]:
        """Take note of new issues; return their ids."""
        new = []
        for issue_id, rhythm, held in self.world.issues(max(self.issues, default=0)):
            self.issues[issue_id] = Known(rhythm, self.newest, self.now, held=held)
            note(f"{self.now} issue {issue_id} {self.issues[issue_id]}")
            new.append(issue_id)
        return new

    def look_at_mails(self, *due: str) -> list[Mail]:
        """Check what was queued just now; `due` are rhythms that may go out."""
        mails, busy = self.world.new_mails(), self.busy
        for mail in mails:
            note(f"{self.now} {mail}")
            self.check(mail, due)
            issue = self.issues[mail.issue_id]
            self.flights[mail.delivery_id] = Flight(mail, issue.reach)
        for issue_id in {mail.issue_id for mail in mails}:
            issue = self.issues[issue_id]
            if not issue.gone_out:
                issue.gone_out, issue.held = True, False
                for person in self.who("active"):
                    if issue.rhythm in ("", self.rhythm_of(person)):
                        waits = person.name in busy
                        person.waits_for = issue_id if waits else None
        return mails

    def owed(self) -> set[str]:
        """Return who waited for an earlier digest and is free to get the later one."""
        waiting = [
            (p, self.issues[p.waits_for]) for p in self.who("active") if p.waits_for
        ]
        return {
            person.name
            for person, issue in waiting
            if person.name in self.wanting(issue.rhythm, issue.reach, issue.made)
        }

    def check(self, mail: Mail, due: Sequence[str]) -> None:
        person, issue = self.people[mail.name], self.issues[mail.issue_id]
        assert person.status == "active", f"{person.name} is {person.status}"
        assert mail.name not in self.busy, "two digests on their way to one reader"
        assert issue.rhythm in ("", self.rhythm_of(person)), "out of rhythm"
        event("topped up" if issue.gone_out else issue.rhythm or "by hand")
        if issue.gone_out:
            assert person.waits_for == mail.issue_id, "out of turn"
        else:
            assert issue.rhythm in due, "at the wrong time"
        held = {number for number, _ in mail.posts}
        may = {p.number: p for p in self.lacks(person, issue.reach, sure=False)}
        must = {p.number for p in self.lacks(person, issue.reach, sure=True)}
        assert held, "a mail without posts"
        assert must <= held, "a post is missing"
        assert held <= may.keys(), "a post is not theirs, or not new to them"
        assert self.is_enough([may[n] for n in held], issue.rhythm, issue.made), (
            "too few"
        )
        assert sorted(mail.links) == sorted(held), "a post stands in it twice"
        if not issue.gone_out:  # an issue's words stay as they were when it went out
            words = {(number, may[number].edition) for number in held}
            assert set(mail.posts) == words, "old words"

    # The sender

    @precondition(lambda self: self.flights)
    @rule(fates=FATES)
    def deliver(self, fates: list[str]) -> None:
        """A sender takes what it can get, and meets what it meets."""
        self.pass_minutes()
        self.take_up()
        kinds = cycle(fates)
        for message_id in sorted({f.mail.message_id for f in self.flights.values()}):
            self.hand_over(message_id, kinds)

    def take_up(self) -> None:
        """Queue what was deferred, or left by a sender that was killed."""
        self.world.take_up(self.now)
        for flight in self.flights.values():
            flight.claimed = False

    def hand_over(self, message_id: int, kinds: Iterator[str]) -> None:
        ready = {
            number: flight
            for number, flight in self.flights.items()
            if flight.mail.message_id == message_id and flight.deferred <= self.now
        }
        claimed = self.world.claim(message_id, self.now)
        for number, flight in ready.items():
            if self.people[flight.mail.name].status != "active":
                assert number not in claimed, "nobody is mailed who does not want it"
                del self.flights[number]
        assert sorted(claimed) == sorted(ready.keys() & self.flights.keys())
        outcomes, late = [], []
        for number in claimed:
            flight, fate = self.flights[number], next(kinds)
            event(fate)
            note(f"{self.now} {flight.mail.name} issue {flight.mail.issue_id}: {fate}")
            flight.claimed = fate == "crash"
            if fate == "late yes":
                late.append(number)
            elif fate != "crash":
                outcomes.append(self.settled(number, fate))
        self.world.settle(outcomes, self.now)
        if late:  # somebody else has already taken up what this sender still sends
            self.now += timedelta(seconds=70)
            self.take_up()
            self.world.settle([self.settled(n, "sent") for n in late], self.now)

    def settled(self, number: int, fate: str) -> Outcome:
        flight = self.flights[number]
        if fate.startswith("deferred"):
            flight.deferred = self.now + (70 if "long" in fate else 5) * HOUR
            return Outcome(
                number,
                flight.mail.message_id,
                DeliveryState.DEFERRED,
                next_attempt_at=flight.deferred,
            )
        del self.flights[number]
        if fate == "sent":
            person = self.people[flight.mail.name]
            person.got.update({post for post, _ in flight.mail.posts})
            person.cursor = max(person.cursor, flight.reach)
            assert set(person.got.values()) <= {1}, "a post twice"
        return Outcome(number, flight.mail.message_id, DeliveryState(fate))

    # Time

    @rule(
        hours=st.sampled_from([1, 5, 24, 60, 170, 340]),
        late=st.sampled_from([-1, 0, 0, 1, 30, 300]),
        fates=FATES,
    )
    def work(self, hours: int, late: int, fates: list[str]) -> None:
        """The clock runs, a little late, when something falls due; and the sender."""
        until = self.now + hours * HOUR
        while True:
            self.tick()
            if self.flights:
                self.deliver(fates=fates)
            coming = [
                moment.at
                for rhythm in self.rhythms
                for moment in self.coming(rhythm)[:1]
            ]
            ahead = [at for at in coming if self.now < at <= until]
            if not ahead:
                break
            # The tick itself takes two minutes.
            self.now = max(self.now, min(ahead) + timedelta(minutes=late - 2))
        self.now = max(self.now, until)

    @rule(hours=st.sampled_from([2, 8, 30, 100]))
    def sleep(self, hours: int) -> None:
        """No clock runs."""
        self.now += hours * HOUR

    @rule(twice=st.booleans())
    def tick(self, *, twice: bool = False) -> None:
        """A clock looks at what is due."""
        self.pass_minutes()
        resumed = [
            p
            for p in self.who("paused")
            if p.paused_until and p.paused_until <= self.now
        ]
        for person in resumed:
            person.status, person.paused_until = "active", None
        due, late = self.fall_due()
        must = {rhythm: self.wanting(rhythm) for rhythm in due | late}
        owed, busy = self.owed(), self.busy
        jobs = ["resume-pauses"] if resumed else []
        jobs += ["delete-unconfirmed"] if self.who("pending") else []
        tick = self.world.tick_from_two_hosts if twice else self.world.tick
        tick(self.now, *jobs)
        made = {self.issues[n].rhythm: self.issues[n] for n in self.look_at_issues()}
        self.look_at_mails(*due)
        for rhythm, names in must.items():
            held = rhythm in made and made[rhythm].held
            assert names <= self.busy or held, "someone was forgotten"
        assert owed <= self.busy, "who waited was forgotten"
        for person in self.people.values():
            if person.name not in busy:
                person.waits_for = None
        for rhythm, issue in made.items():
            assert rhythm in due | late, "out of rhythm"
            event("held" if issue.held else "went by itself")
            assert self.mode != "held" or issue.held, "without an editor's yes"
            assert rhythm in late or self.mode == "held" or not issue.held
        self.go_on(due | late, made.keys())
        for person in self.who("pending"):
            if not self.world.knows(person.name):
                person.forget()

    def fall_due(self) -> tuple[set[str], set[str]]:
        """Return the rhythms whose time has come, and those that have missed it.

        One of which an issue waits for an editor is in neither.
        """
        due: set[str] = set()
        late: set[str] = set()
        self.behind = {self.issues[issue_id].rhythm for issue_id in self.held}
        for rhythm in () if self.mode == "hand" else self.rhythms:
            moment = self.last_gone(rhythm)
            if rhythm in self.behind or (rhythm != "each" and not moment):
                continue
            if rhythm != "each":
                assert moment
                (late if self.now - moment.at > GRACE else due).add(rhythm)
            elif not self.timetable.is_quiet(self.now) and not self.has_newest("each"):
                due.add("each")
                if self.now - self.ticked > GRACE - HOUR:
                    late.add("each")  # or in time, where nothing waited for so long
        return due, late

    def has_newest(self, rhythm: str) -> bool:
        """Tell whether an issue with the newest post is on its way to a rhythm."""
        issues = [self.issues[f.mail.issue_id] for f in self.flights.values()]
        return any(i.rhythm == rhythm and i.reach >= self.newest for i in issues)

    def go_on(self, rhythms: set[str], made: Collection[str]) -> None:
        """Take note of how far the clock has come.

        Where all who could get something have a digest under way, it looks again.
        """
        for rhythm in self.until:
            moment = self.last_gone(rhythm)
            if not moment:
                continue
            waits = rhythm in rhythms and rhythm not in made and self.all_busy(rhythm)
            if not waits or self.now - moment.at > GRACE:
                self.until[rhythm] = moment.due
        self.ticked = self.now

    def all_busy(self, rhythm: str) -> bool:
        return any(
            self.rhythm_of(person) == rhythm and person.name in self.busy
            for person in self.who("active")
        )

    def last_gone(self, rhythm: str) -> Moment | None:
        """Return the last occurrence that has come and is not dealt with."""
        if rhythm == "each":
            return None
        since = self.until.setdefault(rhythm, self.now)
        gone = [m for m in self.timetable.moments(rhythm, since) if m.at <= self.now]
        return gone[-1] if gone else None

    def coming(self, rhythm: str) -> list[Moment]:
        """Return the occurrences that lie ahead."""
        since = self.until.get(rhythm, self.now)
        return [m for m in self.timetable.moments(rhythm, since) if m.at > self.now]

    def teardown(self) -> None:
        if hasattr(self, "now"):
            self.come_to_rest()
            for person in self.people.values():
                self.check_in_the_end(person)

    def come_to_rest(self) -> None:
        """Let two months pass in which everything works."""
        for _ in range(15):
            self.rest()
            ahead = [
                moment.at
                for person in self.who("active")
                if self.will_be_enough(person)
                for moment in self.coming(self.rhythm_of(person))[:1]
            ]
            ahead += [p.paused_until for p in self.who("paused") if p.paused_until]
            ahead += [
                self.now + DAY  # which may be a quiet day
                for person in self.who("active")
                if self.rhythm_of(person) == "each" and self.will_be_enough(person)
            ]
            if not ahead:
                break
            self.now = min(ahead)
        self.now += 40 * DAY
        self.rest()

    def will_be_enough(self, person: Person) -> bool:
        lacks = self.lacks(person, self.newest, sure=True)
        return bool(lacks) and (
            self.options["wait_days"] > 0
            or self.is_enough(lacks, self.rhythm_of(person))
        )

    def rest(self) -> None:
        """Let the clock, the editors and the sender do what there is to do."""
        self.tick()
        if self.mode == "hand":  # what somebody lacks comes with the next news
            number = len(self.world.articles) + 1
            self.world.articles.append(Article(number, self.now, (), ""))
            self.fetch()
            self.send_by_hand()
        for issue_id in self.held:
            self.send(issue_id)
            if self.issues[issue_id].held:
                self.world.skip_issue(issue_id)
                self.issues[issue_id].held = False
        while self.flights:
            self.now += 24 * HOUR
            self.deliver(fates=["sent"])
            self.tick()

    def check_in_the_end(self, person: Person) -> None:
        assert set(person.got.values()) <= {1}, "a post twice"
        if person.status != "active":
            return
        left = self.lacks(person, self.newest, sure=True)
        assert not self.is_enough(left, self.rhythm_of(person)), "something was lost"
        if person.stayed and self.options["at_least"] == 1 and person.began is not None:
            promised = {
                paper.number
                for paper in self.papers.values()
                if paper.order > person.began and paper.number not in person.doubtful
            }
            assert promised <= set(person.got), "something was lost"


@dataclass
class Known:
    """An issue, and what there was when it was made."""

    rhythm: str  # "": everybody's
    reach: int  # the last post there was
    made: datetime
    held: bool = False
    gone_out: bool = False


@dataclass
class Flight:
    """A digest that has been queued and is not settled."""

    mail: Mail
    reach: int
    claimed: bool = False
    deferred: datetime = STARTS[0] - DAY


def test_every_reader_gets_every_post_once(
    database: Database, settings: Settings
) -> None:
    world = World(database, replace(settings, signups_per_network_hour=10**6))

    class Here(Weeks):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(
        Here,
        settings=tries(
            max_examples=EXAMPLES if database.is_sqlite else (EXAMPLES + 1) // 2,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
