"""Rhythms: how often a reader wants mail, as text and in words. Pure.

each                    every post as it comes
daily@07:00             every day
weekly:mon@08:00        every week on a day
monthly:1@08:00         every month on a date
monthly:first-mon@08:00 every month on its first (… fourth, last) such day

They fall due by the clock on the newsletter's wall. Where summer time leaves an hour
out, what was due in it comes as much later (02:30 is 03:30 that night); where an hour
comes twice, it is due the first time.
"""

import calendar
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from newsletter.errors import N_, InvalidInput
from newsletter.i18n import Language

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_NAMES = {
    "mon": N_("Monday"),
    "tue": N_("Tuesday"),
    "wed": N_("Wednesday"),
    "thu": N_("Thursday"),
    "fri": N_("Friday"),
    "sat": N_("Saturday"),
    "sun": N_("Sunday"),
}
ORDINALS = {
    "first": N_("first"),
    "second": N_("second"),
    "third": N_("third"),
    "fourth": N_("fourth"),
    "last": N_("last"),
}
DEFAULT_CHOICE = ("weekly:mon@08:00", "monthly:first-mon@08:00")
_PATTERN = re.compile(
    r"each|(?:daily"
    rf"|weekly:(?P<day>{'|'.join(DAYS)})"
    r"|monthly:(?:(?P<date>[1-9]|1\d|2[0-8])"
    rf"|(?P<ordinal>{'|'.join(ORDINALS)})-(?P<nth>{'|'.join(DAYS)})))"
    r"@(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)"
)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """A rhythm read apart."""

    kind: str  # each | daily | weekly | monthly
    hour: int = 0
    minute: int = 0
    day: str = ""  # weekly, and monthly with an ordinal
    date: int = 0  # monthly
    ordinal: str = ""

    @property
    def days_between(self) -> int:
        """Return roughly how many days lie between two mails."""
        return {"each": 0, "daily": 1, "weekly": 7, "monthly": 30}[self.kind]


def parse(text: str) -> Rhythm:
    """Read a rhythm. Raises InvalidInput."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InvalidInput(
            N_("%(text)s is not a rhythm. Try weekly:mon@08:00."),
            field="rhythm",
            text=text[:40],
        )
    kind = re.split("[:@]", text)[0]
    return Rhythm(
        kind=kind,
        hour=int(match["hour"] or 0),
        minute=int(match["minute"] or 0),
        day=match["day"] or match["nth"] or "",
        date=int(match["date"] or 0),
        ordinal=match["ordinal"] or "",
    )


def describe(text: str, words: Language) -> str:
    """Write a rhythm as a reader says it: "Every Monday"."""
    rhythm = parse(text)
    if rhythm.kind == "each":
        return words.gettext("Each post as it comes")
    if rhythm.kind == "daily":
        return words.gettext("Every day")
    if rhythm.kind == "weekly":
        return words.gettext(
            "Every week, on %(day)s", day=words.gettext(DAY_NAMES[rhythm.day])
        )
    if rhythm.date:
        return words.gettext("Every month, on day %(date)s", date=rhythm.date)
    return words.gettext(
        "Every month, the %(ordinal)s %(day)s",
        ordinal=words.gettext(ORDINALS[rhythm.ordinal]),
        day=words.gettext(DAY_NAMES[rhythm.day]),
    )


def describe_each(texts: Iterable[str], words: Language) -> list[tuple[str, str]]:
    """Pair rhythms with words, and with their time where that alone differs."""
    said = [(text, describe(text, words)) for text in texts]
    often = Counter(described for _, described in said)
    return [
        (text, _at(text, described, words) if often[described] > 1 else described)
        for text, described in said
    ]


def _at(text: str, described: str, words: Language) -> str:
    rhythm = parse(text)
    time_of_day = f"{rhythm.hour:02}:{rhythm.minute:02}"
    return words.gettext("%(rhythm)s, at %(time)s", rhythm=described, time=time_of_day)


def occurrences(
    text: str, timezone: str, *, after: datetime, until: datetime
) -> Iterator[datetime]:
    """Yield the moments, in UTC, at which a rhythm falls due: after < moment <= until.

    `each` has none: it follows the posts.
    """
    rhythm = parse(text)
    if rhythm.kind == "each" or until <= after:
        return
    zone = ZoneInfo(timezone)
    at = time(rhythm.hour, rhythm.minute)
    day = after.astimezone(zone).date() - timedelta(days=1)
    last = until.astimezone(zone).date() + timedelta(days=1)
    previous = after
    while day <= last:
        if _falls_on(rhythm, day):
            moment = datetime.combine(day, at, zone).astimezone(UTC)
            # Where a whole day is left out, two fall on one moment.
            if previous < moment <= until:
                yield moment
                previous = moment
        day += timedelta(days=1)


def next_after(text: str, timezone: str, moment: datetime) -> datetime | None:
    """Return when a rhythm next falls due; None for `each`."""
    until = moment + timedelta(days=70)  # longer than any two months
    return next(occurrences(text, timezone, after=moment, until=until), None)


def _falls_on(rhythm: Rhythm, day: date) -> bool:
    if rhythm.kind == "daily":
        return True
    if rhythm.date:
        return day.day == rhythm.date
    if DAYS[day.weekday()] != rhythm.day:
        return False
    if rhythm.kind == "weekly":
        return True
    if rhythm.ordinal == "last":
        return day.day + 7 > calendar.monthrange(day.year, day.month)[1]
    return (day.day - 1) // 7 == list(ORDINALS).index(rhythm.ordinal)


def slower(offered: list[str], than: str) -> list[str]:
    """Return the offered rhythms with fewer mails than `than`, the nearest first."""
    bound = parse(than).days_between
    found = [text for text in offered if parse(text).days_between > bound]
    return sorted(found, key=lambda text: parse(text).days_between)
