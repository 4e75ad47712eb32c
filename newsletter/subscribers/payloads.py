"""What signed links say: read as strictly as if a stranger had written it. Pure."""

from typing import Any

from newsletter.errors import N_, InvalidLink

MAX_NUMBER = 2**31 - 1  # of an INTEGER key, on PostgreSQL


def fields(payload: Any, *kinds: type[int] | type[str]) -> list[Any]:
    """Return a payload's fields, which are of these kinds. Raises InvalidLink."""
    if (
        not isinstance(payload, list)
        or [type(value) for value in payload] != list(kinds)
        or any(not 0 <= v <= MAX_NUMBER for v in payload if isinstance(v, int))
    ):
        raise InvalidLink(N_("This link does not work."))
    return payload
