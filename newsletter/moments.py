"""Moments as people write them: "2026-11-30T08:00" in a newsletter's time zone."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from newsletter.errors import N_, InvalidInput


def read(text: str, zone: str, *, field: str) -> datetime:
    """Read "2026-11-30T08:00" as a moment of the zone. Raises InvalidInput.

    Of a time that comes twice, as clocks go back, it is the first.
    """
    try:
        local = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(
            N_("Write the time as 2026-11-30T08:00, or pick it."), field=field
        ) from None
    if not 1970 <= local.year <= 2200:
        raise InvalidInput(
            N_("That year cannot be right. Choose another day."), field=field
        )
    if local.tzinfo is not None:
        return local.astimezone(UTC)
    moment = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    there = moment.astimezone(ZoneInfo(zone))
    if there.replace(tzinfo=None) != local.replace(fold=0):
        raise InvalidInput(
            N_(
                "That night the clocks go forward, and there is no %(time)s. Choose"
                " %(later)s or another time."
            ),
            field=field,
            time=f"{local:%H:%M}",
            later=f"{there:%H:%M}",
        )
    return moment


def comes_twice(moment: datetime, zone: str) -> bool:
    """Tell whether its time of day comes once more, as clocks go back."""
    local = moment.astimezone(ZoneInfo(zone))
    return not local.fold and local.utcoffset() != local.replace(fold=1).utcoffset()


def write(moment: datetime, zone: str) -> str:
    """Write a moment as `datetime-local` wants it."""
    local = moment.astimezone(ZoneInfo(zone))
    return local.strftime("%Y-%m-%dT%H:%M")
