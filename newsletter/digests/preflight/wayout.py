"""The way out: no mail of a list leaves without it, whoever or whatever sends it. Pure.

Every edition passes this as it is frozen, also those that the clock sends.
"""

import re

from newsletter.errors import N_, ThemeError
from newsletter.mail import mime
from newsletter.mail.mime import Letter

_LINK = re.compile(rf'href="[^"]*{mime.LEAVE}')

N_PART = {
    "html": N_(
        "The mail has no link to unsubscribe in its HTML part: the theme must show"
        " leave_url. Whoever runs Inkorg can put it back."
    ),
    "text": N_(
        "The mail has no link to unsubscribe in its text part: the theme must show"
        " leave_url. Whoever runs Inkorg can put it back."
    ),
}


def missing_in(letter: Letter) -> list[str]:
    """Return the parts of a mail, "html" or "text", that show no way out."""
    parts = []
    if not _LINK.search(letter.html):
        parts.append("html")
    if mime.LEAVE not in letter.text:
        parts.append("text")
    return parts


def check(letter: Letter) -> None:
    """Make sure that a reader can leave from both parts. Raises ThemeError."""
    for part in missing_in(letter):
        raise ThemeError(N_PART[part])
