"""Languages: words, plurals, dates and numbers. English stands in the source.

Every other language is one file, `translations/<code>.po`, read as it is at the start:
no compile step. Babel is used only here.
"""

import functools
from collections.abc import Mapping
from datetime import date, datetime
from gettext import c2py
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_skeleton, format_time, format_timedelta
from babel.lists import format_list
from babel.messages.plurals import get_plural
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent

from newsletter.errors import InkorgError

TRANSLATIONS = Path(__file__).parent / "translations"
SOURCE = "en"


class Language:
    """One language: `gettext` and its kin, and how it writes dates and numbers.

    Values go into `%(name)s` fields; a plural's count is `%(num)s`, written with the
    language's own digits grouping.
    """

    def __init__(self, code: str) -> None:
        """Read the catalogue of `code`."""
        self.code = code
        self.locale = Locale.parse(code)
        self._plural_index = c2py(get_plural(code)[1])
        self._catalogue: dict[str, tuple[str, ...]] = {}
        if code != SOURCE:
            self._read(TRANSLATIONS / f"{code}.po")

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            catalogue = read_po(file, locale=self.code)
        for message in catalogue:
            if message.id and message.string:
                key = message.id if isinstance(message.id, str) else message.id[0]
                string = message.string
                self._catalogue[key] = (
                    (string,) if isinstance(string, str) else tuple(string)
                )

    @property
    def name(self) -> str:
        """Return the language's name for itself, "svenska"."""
        return self.locale.get_display_name(self.locale) or self.code

    def gettext(self, message: str, /, **values: object) -> str:
        """Translate `message` and fill in its values."""
        text = self._catalogue.get(message, (message,))[0]
        return text % values if values else text

    def ngettext(self, one: str, many: str, num: int, /, **values: object) -> str:
        """Translate a message with a count, `%(num)s`."""
        forms = self._catalogue.get(one, (one, many))
        text = forms[min(self._plural_index(num), len(forms) - 1)]
        return text % {"num": self.number(num), **values}

    def error(self, error: InkorgError) -> str:
        """Translate an error's message."""
        return self.gettext(error.message, **error.values)

    def day(self, moment: datetime | date, zone: str = "UTC") -> str:
        """Write a day: "11 oktober 2019"."""
        if isinstance(moment, datetime):
            moment = moment.astimezone(ZoneInfo(zone)).date()
        return format_date(moment, format="long", locale=self.locale)

    def short_day(self, moment: datetime | date, zone: str = "UTC") -> str:
        """Write a day without its year: "11 okt."."""
        if isinstance(moment, datetime):
            moment = moment.astimezone(ZoneInfo(zone)).date()
        pattern = "d MMM" if self.code != "en" else "MMM d"
        return format_date(moment, format=pattern, locale=self.locale)

    def month(self, first: date) -> str:
        """Write a month: "oktober 2019"."""
        return format_skeleton("yMMMM", first, locale=self.locale)

    def weekday(self, day: date) -> str:
        """Write a day of the next weeks: "mån 12 okt."."""
        pattern = "EEE d MMM" if self.code != "en" else "EEE, MMM d"
        return format_date(day, format=pattern, locale=self.locale)

    def moment(self, moment: datetime, zone: str = "UTC") -> str:
        """Write a day and a time: "11 oktober 2019 kl. 09:00"."""
        when = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        pattern = self.locale.datetime_formats["long"]
        return str(pattern).format(self.clock(moment, zone), self.day(when))

    def clock(self, moment: datetime, zone: str = "UTC") -> str:
        """Write a time of day."""
        return format_time(
            moment, format="short", tzinfo=ZoneInfo(zone), locale=self.locale
        )

    def ago(self, moment: datetime, now: datetime) -> str:
        """Write how long ago a moment was: "för 3 dagar sedan"."""
        seconds = min(int((moment - now).total_seconds()), -60)
        return format_timedelta(
            seconds,
            granularity="minute",
            threshold=1.2,
            add_direction=True,
            locale=self.locale,
        )

    def since(self, moment: datetime, now: datetime, zone: str = "UTC") -> str:
        """Write when something began: "09:15", "tisdag", "11 oktober 2019"."""
        local = moment.astimezone(ZoneInfo(zone)).date()
        days = (now.astimezone(ZoneInfo(zone)).date() - local).days
        if days <= 0:
            return self.clock(moment, zone)
        return (
            format_date(local, "EEEE", locale=self.locale)
            if days < 7
            else self.day(local)
        )

    def duration(self, seconds: float) -> str:
        """Write a length of time roughly: "3 minuter"."""
        return format_timedelta(int(seconds), threshold=1.2, locale=self.locale)

    def country(self, code: str) -> str:
        """Write a country's name: "Sverige"; its code where it has none."""
        return str(self.locale.territories.get(code, code))

    def number(self, value: float) -> str:
        """Write a number: "2 431"."""
        return format_decimal(value, locale=self.locale)

    def percent(self, share: float) -> str:
        """Write a share of one: "64 %"."""
        return format_percent(share, locale=self.locale)

    def exact_percent(self, share: float) -> str:
        """Write a share of one so that small ones can be told apart: "0,04 %"."""
        pattern = self.locale.percent_formats[None].pattern
        rest = min(share, abs(1 - share))  # 99.97% is not all
        decimals = "" if rest >= 0.1 else ".#" if rest >= 0.01 else ".##"
        pattern = pattern.replace("##0", f"##0{decimals}")
        return format_percent(share, pattern, self.locale)

    def enumeration(self, words: list[str], *, either: bool = False) -> str:
        """Write an enumeration: "a, b och c", or "a, b eller c"."""
        if either:
            return format_list(words, style="or", locale=self.locale)
        return format_list(words, locale=self.locale)

    def name_of(self, code: str) -> str:
        """Return what another language is called in this one: "engelska"."""
        try:
            return Locale.parse(code, sep="-").get_display_name(self.locale) or code
        except (ValueError, UnknownLocaleError):  # what a feed calls a language
            return code


@functools.cache
def available() -> tuple[str, ...]:
    """Return the codes of all languages, the source's first."""
    found = {path.stem for path in TRANSLATIONS.glob("*.po")}
    return (SOURCE, *sorted(found - {SOURCE}))


@functools.cache
def language(code: str) -> Language:
    """Return a language; one we do not have becomes English."""
    return Language(code if code in available() else SOURCE)


def choose(accepted: Mapping[str, float] | list[str], offered: list[str]) -> str:
    """Return the first of `accepted` (best first) among `offered`, else its first."""
    for code in accepted:
        base = code.replace("_", "-").split("-")[0].lower()
        if base in offered:
            return base
    return offered[0]
