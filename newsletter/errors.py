"""Everything that can go wrong and is not a bug.

    InkorgError
    ├── InvalidInput      what someone typed or sent cannot be used
    ├── NotFound          there is no such thing (any more)
    ├── Conflict          it was possible a moment ago, or for someone else
    │   └── ThemeError    a theme of the operator's is missing or broken
    ├── Forbidden         you may not
    ├── TooMany           a limit stands in the way; try later
    ├── InvalidLink       a signed link is forged, damaged or void
    │   └── ExpiredLink   it was right once
    ├── ConfigError       a setting is missing, unknown or malformed
    ├── FeedError         a feed cannot be fetched or read
    └── RelayError        the SMTP relay cannot be used now

Messages are English message ids, translated where they are shown: keep them whole
sentences, tell what to do next, and put values in `%(name)s` fields.
"""


def N_(message: str) -> str:
    """Mark a message id for translation and return it unchanged."""
    return message


class InkorgError(Exception):
    """Something went wrong."""

    code = "error"

    def __init__(self, message: str = "", **values: object) -> None:
        """Keep the message id and its values apart, so that both can be translated."""
        self.message = message or (self.__doc__ or "").strip()
        self.values = values
        super().__init__(self.message % values if values else self.message)


class InvalidInput(InkorgError):
    """That cannot be used as it is."""

    code = "invalid_input"
    span: tuple[int, int] | None = None  # where in the text, if one place is at fault

    def __init__(self, message: str = "", *, field: str = "", **values: object) -> None:
        """Name the form field at fault, where there is one."""
        super().__init__(message, **values)
        self.field = field


class NotFound(InkorgError):
    """There is no such thing here."""

    code = "not_found"


class Conflict(InkorgError):
    """Something else happened first."""

    code = "conflict"


class ThemeError(Conflict):
    """The theme of the mail cannot be used."""

    code = "theme"


class Forbidden(InkorgError):
    """You may not do that."""

    code = "forbidden"


class TooMany(InkorgError):
    """That was a lot at once. Try again in a while."""

    code = "too_many"


class InvalidLink(InkorgError):
    """This link does not work."""

    code = "invalid_link"


class ExpiredLink(InvalidLink):
    """This link has expired."""

    code = "expired_link"
    payload: object = None  # what it said: true, only late


class ConfigError(InkorgError):
    """A setting is missing or malformed."""

    code = "config"


class FeedError(InkorgError):
    """The feed could not be read."""

    code = "feed"


class RelayError(InkorgError):
    """The mail relay could not be reached."""

    code = "relay"
