"""Moments in forms: what `datetime-local` sends, in the newsletter's time zone."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from newsletter.errors import N_, InvalidInput


def read(text: str, zone: str, *, field: str) -> datetime:
    """Read "2026-11-30T08:00" as a moment of the zone. Raises InvalidInput."""
    try:
        local = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(
            N_("Write the time as 2026-11-30T08:00, or pick it."), field=field
        ) from None
    if local.tzinfo is None:
        local = local.replace(tzinfo=ZoneInfo(zone))
    if not 1970 <= local.year <= 2200:
        raise InvalidInput(
            N_("That year cannot be right. Choose another day."), field=field
        )
    return local.astimezone(UTC)


def write(moment: datetime, zone: str) -> str:
    """Write a moment as `datetime-local` wants it."""
    local = moment.astimezone(ZoneInfo(zone))
    return local.strftime("%Y-%m-%dT%H:%M")
