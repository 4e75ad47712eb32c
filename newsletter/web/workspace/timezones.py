"""Time zones to choose from: places, not the names that machines keep."""

import functools
import zoneinfo

REGIONS = (
    *("Europe/", "America/", "Asia/", "Africa/", "Australia/", "Pacific/"),
    *("Atlantic/", "Indian/", "Arctic/"),
)


@functools.cache
def _places() -> tuple[str, ...]:
    found = {z for z in zoneinfo.available_timezones() if z.startswith(REGIONS)}
    return tuple(sorted(found, key=lambda zone: (not zone.startswith("Europe/"), zone)))


def names(current: str) -> list[str]:
    """Return the zones, Europe's first; the current one always among them."""
    places = list(_places())
    return places if current in places else [current, *places]
