"""What readers were promised, reckoned by hand: no database, none of our own rules.

A digest for R holds the posts published after R's cursor that are R's (topics, and
language where the newsletter goes by it). The cursor moves when R has got it, to the
last post there was when it was made. It begins where the last issue of R's rhythm, or
to everybody, ended. From this, and from the calendar, follows everything here.
"""

import calendar
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
READING = ("active", "paused")


@cache
def falls_on(rhythm: str, day: date) -> bool:
    """Tell whether a rhythm has an occurrence on a day."""
    kind, _, which = rhythm.partition("@")[0].partition(":")
    if kind == "daily":
        return True
    if kind == "weekly":
        return day.weekday() == DAYS.index(which)
    if "-" not in which:
        return day.day == int(which)
    ordinal, name = which.split("-")
    weeks = calendar.monthcalendar(day.year, day.month)
    all_such = [week[DAYS.index(name)] for week in weeks if week[DAYS.index(name)]]
    return day.day == all_such[ORDINALS[ordinal]]


@cache
def on_the_wall(rhythm: str, day: date, zone: ZoneInfo) -> datetime:
    """Return when a clock on the wall first shows, or skips, a rhythm's time."""
    hour, minute = map(int, rhythm.partition("@")[2].split(":"))
    wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
    return wall.astimezone(UTC)


@dataclass(frozen=True)
class Moment:
    """An occurrence: when the rhythm says, and when it goes."""

    due: datetime
    at: datetime


@cache
def by_the_rule(
    rhythm: str, zone: ZoneInfo, quiet: frozenset[int], first: date
) -> list[Moment]:
    """Return a rhythm's occurrences from a day on, put off where a day is quiet."""
    found = []
    for n in range(200 if rhythm.startswith("monthly") else 75):
        day = first + timedelta(days=n)
        if falls_on(rhythm, day):
            at = due = on_the_wall(rhythm, day, zone)
            while at.astimezone(zone).weekday() in quiet:  # the same time next day
                local = at.astimezone(zone) + timedelta(days=1)
                at = local.replace(fold=0).astimezone(UTC)
            found.append(Moment(due, at))
    return found


@dataclass
class Timetable:
    """A newsletter's rhythms, with what an editor did about single occurrences."""

    zone: ZoneInfo
    quiet: frozenset[int]  # weekdays
    skipped: set[tuple[str, datetime]] = field(default_factory=set)
    moved: dict[tuple[str, datetime], datetime] = field(default_factory=dict)

    def moments(self, rhythm: str, after: datetime) -> list[Moment]:
        """Return a rhythm's next occurrences, for a while, without those skipped.

        One that a quiet day puts off to where the next one is, or further, is that one.
        """
        if rhythm == "each":
            return []
        day = after.astimezone(self.zone).date() - timedelta(days=1)
        earliest: list[Moment] = []
        for moment in reversed(by_the_rule(rhythm, self.zone, self.quiet, day)):
            key = (rhythm, moment.due)
            if key in self.skipped or moment.due <= after:
                continue
            if key in self.moved:
                moment = Moment(moment.due, self.moved[key])
            if not earliest or moment.at < earliest[-1].at:
                earliest.append(moment)
        return earliest[::-1]

    def is_quiet(self, moment: datetime) -> bool:
        return moment.astimezone(self.zone).weekday() in self.quiet


@dataclass
class Paper:
    """A post."""

    number: int
    edition: int
    topics: frozenset[str]
    language: str
    order: int = 0  # among all that were ever published; 0: not yet
    out: bool = False  # published and not withdrawn
    since: datetime = datetime(1990, 1, 1, tzinfo=UTC)  # when it could first be sent
    steady: bool = True  # it was never withdrawn


@dataclass
class Person:
    """A reader."""

    name: str
    status: str = "none"  # none, pending, active, paused, left
    rhythm: str = ""
    language: str = ""
    topics: frozenset[str] | None = None  # None: all
    cursor: int = 0
    paused_until: datetime | None = None
    asked_at: datetime | None = None  # the latest request
    left_at: datetime | None = None
    # The issue that went out while another digest was under way to them.
    waits_for: int | None = None
    got: Counter[int] = field(default_factory=Counter)
    # Posts that at some time were not theirs. Whether one of those comes when they
    # choose differently, or the post changes its topics, is not promised either way.
    doubtful: set[int] = field(default_factory=set)
    # Beside the cursor, for the plain promise: the last post before they came, if they
    # have been a reader ever since.
    began: int | None = None
    stayed: bool = True

    def forget(self) -> None:
        """They asked and never confirmed: as if they had not asked."""
        self.status, self.topics, self.asked_at = "none", None, None

    def wants(self, paper: Paper, *, by_language: bool) -> bool:
        """Tell whether a post is theirs."""
        if by_language and paper.language and paper.language != self.language:
            return False
        return (
            self.topics is None or not paper.topics or bool(self.topics & paper.topics)
        )
