"""When rhythms fall due: by the clock on the wall, in summer time and odd zones."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter import i18n, rhythms
from newsletter.errors import InvalidInput
from newsletter.quiet import Quiet, check_country, check_dates, check_weekdays

STOCKHOLM = "Europe/Stockholm"
ZONES = (
    *(STOCKHOLM, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
    *("Pacific/Apia", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Tehran"),
)
moments = st.integers(1_100_000_000, 2_000_000_000).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)
times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
days = st.sampled_from(rhythms.DAYS)
texts = st.one_of(
    st.builds("daily@{}".format, times),
    st.builds("weekly:{}@{}".format, days, times),
    st.builds("monthly:{}@{}".format, st.integers(1, 28), times),
    st.builds(
        "monthly:{}-{}@{}".format, st.sampled_from(list(rhythms.ORDINALS)), days, times
    ),
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def due(text: str, after: datetime, days: int, zone: str = STOCKHOLM) -> list[datetime]:
    until = after + timedelta(days=days)
    return list(rhythms.occurrences(text, zone, after=after, until=until))


@settings(max_examples=120, deadline=None)
@given(texts, st.sampled_from(ZONES), moments, st.integers(1, 80), st.integers(1, 79))
def test_moments_follow_each_other_at_the_right_time(
    text: str, zone: str, after: datetime, length: int, cut: int
) -> None:
    rhythm = rhythms.parse(text)
    found = due(text, after, length, zone)
    assert found == sorted(set(found))
    assert all(after < one <= after + timedelta(days=length) for one in found)
    for one in found:
        local = one.astimezone(ZoneInfo(zone))
        wall = (local.hour, local.minute)
        if wall != (rhythm.hour, rhythm.minute):  # only where that time was left out
            planned = local.replace(hour=rhythm.hour, minute=rhythm.minute, fold=0)
            back = planned.astimezone(UTC).astimezone(ZoneInfo(zone))
            assert (back.hour, back.minute) != (rhythm.hour, rhythm.minute)
        elif rhythm.day:
            assert rhythms.DAYS[local.weekday()] == rhythm.day
        elif rhythm.date:
            assert local.day == rhythm.date
    # Looking in two steps finds the same as looking once.
    middle = after + timedelta(days=min(cut, length))
    first = list(rhythms.occurrences(text, zone, after=after, until=middle))
    rest = rhythms.occurrences(
        text, zone, after=middle, until=after + timedelta(days=length)
    )
    assert [*first, *rest] == found


@settings(max_examples=60, deadline=None)
@given(texts, st.sampled_from(ZONES), moments)
def test_the_next_one_is_never_far(text: str, zone: str, moment: datetime) -> None:
    longest = {"daily": 3, "weekly": 8, "monthly": 40}[rhythms.parse(text).kind]
    found = rhythms.next_after(text, zone, moment)
    assert found is not None
    assert moment < found <= moment + timedelta(days=longest)


def test_eight_in_the_morning_is_eight_through_summer_time() -> None:
    found = due("daily@08:00", utc(2026, 3, 28), 3)
    assert found == [utc(2026, 3, 28, 7), utc(2026, 3, 29, 6), utc(2026, 3, 30, 6)]


def test_an_hour_left_out_comes_as_much_later_and_a_doubled_one_once() -> None:
    # 29 March: 02:00 becomes 03:00. 25 October: 03:00 becomes 02:00.
    assert due("daily@02:30", utc(2026, 3, 28, 12), 1) == [utc(2026, 3, 29, 1, 30)]
    assert due("daily@02:30", utc(2026, 10, 24, 12), 1) == [utc(2026, 10, 25, 0, 30)]
    assert due("weekly:sun@02:30", utc(2026, 3, 23), 7) == [utc(2026, 3, 29, 1, 30)]


def test_a_day_left_out_is_not_due_twice() -> None:
    """Samoa went from 29 to 31 December 2011."""
    found = due("daily@08:00", utc(2011, 12, 28, 20), 3, "Pacific/Apia")
    assert found == [
        utc(2011, 12, 29, 18),
        utc(2011, 12, 30, 18),
        utc(2011, 12, 31, 18),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weekly:wed@23:30", ["2026-01-07", "2026-01-14", "2026-01-21", "2026-01-28"]),
        ("monthly:28@00:05", ["2026-01-28", "2026-02-28", "2026-03-28"]),
        ("monthly:first-thu@08:00", ["2026-01-01", "2026-02-05", "2026-03-05"]),
        ("monthly:fourth-sun@08:00", ["2026-01-25", "2026-02-22", "2026-03-22"]),
        ("monthly:last-sat@08:00", ["2026-01-31", "2026-02-28", "2026-03-28"]),
    ],
)
def test_days_of_the_week_and_of_the_month(text: str, expected: list[str]) -> None:
    zone = ZoneInfo(STOCKHOLM)
    found = due(text, utc(2025, 12, 31, 22, 59), 90)[: len(expected)]
    assert [str(one.astimezone(zone).date()) for one in found] == expected


def test_each_follows_the_posts_and_has_no_time() -> None:
    assert due("each", utc(2026, 1, 1), 30) == []
    assert rhythms.next_after("each", STOCKHOLM, utc(2026, 1, 1)) is None


def quiet(**over: object) -> Quiet:
    values = {"weekdays": (), "dates": (), "country": "", **over}
    return Quiet.of(STOCKHOLM, **values)  # type: ignore[arg-type]


def test_a_quiet_day_moves_a_digest_to_the_next_that_is_not() -> None:
    saturday = utc(2026, 3, 28, 7)  # 08:00; summer time begins on Sunday
    days = quiet(weekdays=["sat", "sun"], dates=["2026-03-30"])
    assert days.covers(saturday)
    assert days.after(saturday) == utc(2026, 3, 31, 6)
    assert days.ends(saturday) == utc(2026, 3, 30, 22)
    friday = utc(2026, 3, 27, 22, 59)
    assert not days.covers(friday)
    assert days.after(friday) == days.ends(friday) == friday
    assert days.covers(utc(2026, 3, 27, 23, 1))  # Saturday there


def test_a_countrys_holidays_are_quiet() -> None:
    """Good Friday, Easter and Monday after it, in 2026 from 3 to 6 April."""
    days = quiet(weekdays=["sat"], country="SE")
    assert days.after(utc(2026, 4, 3, 6)) == utc(2026, 4, 7, 6)
    assert not quiet(country="US").covers(utc(2026, 4, 6, 6))
    assert not quiet(country="ZZ").covers(utc(2026, 4, 6, 6))


def test_quiet_without_end_ends() -> None:
    every = quiet(weekdays=rhythms.DAYS)
    moment = utc(2026, 4, 3, 6)
    assert every.after(moment) == moment


def test_quiet_days_are_checked() -> None:
    assert check_weekdays(["sun", "sat"]) == ["sat", "sun"]
    assert check_dates([" 2026-12-24", "2026-12-06 ", "2026-12-24"]) == [
        *("2026-12-06", "2026-12-24")
    ]
    assert check_country(" se ") == "SE"
    assert check_country("") == ""
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("quiet_days", lambda: check_weekdays(["lör"])),
        ("quiet_days", lambda: check_weekdays(rhythms.DAYS)),
        ("holidays", lambda: check_dates(["24/12"])),
        ("holidays", lambda: check_dates(_many())),
        ("holiday_country", lambda: check_country("Sverige")),
    ]
    for field, check in wrong:
        with pytest.raises(InvalidInput) as refused:
            check()
        assert refused.value.field == field


def _many() -> list[str]:
    return [str(date(2026, 1, 1) + timedelta(days=n)) for n in range(201)]


def test_rhythms_that_differ_in_their_time_alone_say_it() -> None:
    texts = ["each", "weekly:mon@07:30", "weekly:mon@12:00", "weekly:tue@07:30"]
    assert dict(rhythms.describe_each(texts, i18n.language("en"))) == {
        "each": "Each post as it comes",
        "weekly:mon@07:30": "Every week, on Monday, at 07:30",
        "weekly:mon@12:00": "Every week, on Monday, at 12:00",
        "weekly:tue@07:30": "Every week, on Tuesday",
    }
