"""Quiet days: when no digest goes out by itself. Pure; the door to `holidays`.

A digest that would fall on one goes at the same time of the next day that is not.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import holidays

from newsletter.errors import N_, InvalidInput
from newsletter.rhythms import DAYS

MOST_DATES = 200
LONGEST = 366  # days in a row; then quiet ends


@dataclass(frozen=True, slots=True)
class Quiet:
    """A newsletter's quiet days, in its time zone."""

    timezone: str
    weekdays: frozenset[int] = frozenset()  # Monday is 0
    dates: frozenset[date] = frozenset()
    country: str = ""  # whose public holidays are quiet

    @classmethod
    def of(
        cls,
        timezone: str,
        weekdays: Iterable[str],
        dates: Iterable[str],
        country: str,
    ) -> "Quiet":
        """Read quiet days as a newsletter keeps them."""
        return cls(
            timezone,
            frozenset(DAYS.index(name) for name in weekdays if name in DAYS),
            frozenset(date.fromisoformat(text) for text in dates),
            country,
        )

    def covers(self, moment: datetime) -> bool:
        """Tell whether a moment falls on a quiet day."""
        return self._is_quiet(self._day(moment))

    def after(self, moment: datetime) -> datetime:
        """Return the moment, or the same time on the next day that is not quiet."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        day = self._next_open(local.date())
        if day == local.date():
            return moment
        at = local.timetz().replace(fold=0)
        return datetime.combine(day, at).astimezone(UTC)

    def ends(self, moment: datetime) -> datetime:
        """Return the moment, or the beginning of the next day that is not quiet."""
        day = self._day(moment)
        if (opens := self._next_open(day)) == day:
            return moment
        zone = ZoneInfo(self.timezone)
        return datetime.combine(opens, time(), zone).astimezone(UTC)

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(ZoneInfo(self.timezone)).date()

    def _next_open(self, day: date) -> date:
        for step in range(LONGEST):
            found = day + timedelta(days=step)
            if not self._is_quiet(found):
                return found
        return day

    def _is_quiet(self, day: date) -> bool:
        return (
            day.weekday() in self.weekdays
            or day in self.dates
            or (bool(self.country) and day in _of_country(self.country, day.year))
        )


def countries() -> list[str]:
    """Return the codes of the countries whose holidays are known (ISO 3166)."""
    return sorted(
        code for code in holidays.list_supported_countries() if len(code) == 2
    )


def check_country(code: str) -> str:
    """Return a country's code, or nothing. Raises InvalidInput."""
    code = code.strip().upper()
    if code and code not in countries():
        raise InvalidInput(
            N_("The holidays of %(country)s are not known. Write SE, or leave it out."),
            field="holiday_country",
            country=code[:20],
        )
    return code


def check_dates(texts: Iterable[str]) -> list[str]:
    """Return days as they are kept, in order. Raises InvalidInput."""
    found = set()
    for text in texts:
        try:
            found.add(date.fromisoformat(text.strip()))
        except ValueError:
            raise InvalidInput(
                N_("%(day)s is not a date. Write it as 2026-12-24."),
                field="holidays",
                day=text.strip()[:40],
            ) from None
    if len(found) > MOST_DATES:
        raise InvalidInput(
            N_("There is room for %(count)s days. Leave out those that are over."),
            field="holidays",
            count=MOST_DATES,
        )
    return [day.isoformat() for day in sorted(found)]


def check_weekdays(names: Iterable[str]) -> list[str]:
    """Return weekdays in order; at least one is left. Raises InvalidInput."""
    wanted = set(names)
    if unknown := wanted - set(DAYS):
        raise InvalidInput(
            N_("%(day)s is not a weekday. Write mon, tue, wed, thu, fri, sat or sun."),
            field="quiet_days",
            day=min(unknown)[:20],
        )
    if len(wanted) == len(DAYS):
        raise InvalidInput(
            N_("With seven quiet days nothing would ever go out. Leave one open."),
            field="quiet_days",
        )
    return [name for name in DAYS if name in wanted]


@functools.lru_cache(maxsize=256)
def _of_country(country: str, year: int) -> frozenset[date]:
    try:
        return frozenset(holidays.country_holidays(country, years=year))
    except NotImplementedError:  # a country that the library no longer knows
        return frozenset()
