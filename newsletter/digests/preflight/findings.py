"""Findings: one thing looked at in a mail, what came of it, and what to do. Pure."""

import enum
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from newsletter.errors import InkorgError
from newsletter.i18n import Language


class Level(enum.StrEnum):
    """What a finding means for whoever wants to send."""

    ERROR = "error"  # it must not leave like this
    WARNING = "warning"  # a person has to say yes to it
    UNKNOWN = "unknown"  # nobody has looked, or could look
    PASSED = "passed"


MOST_SHOWN = 8  # places named by one finding
ORDER = {level: number for number, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: a sentence, what to do about it, and where it stands."""

    code: str
    level: Level
    what: str  # a message id
    advice: str = ""  # a message id
    values: Mapping[str, str | int] = field(default_factory=dict)
    where: tuple[str, ...] = ()  # as it stands in the mail

    @classmethod
    def of_error(cls, error: InkorgError) -> "Finding":
        """Return what already says why a mail cannot be sent, and what to do."""
        code = getattr(error, "field", "") or error.code
        values = {
            name: value if isinstance(value, int) else str(value)
            for name, value in error.values.items()
        }
        return cls(f"cannot.{code}", Level.ERROR, error.message, values=values)

    def sentence(self, words: Language) -> str:
        """Say what was found."""
        return words.gettext(self.what, **self._values(words))

    def what_to_do(self, words: Language) -> str:
        """Say what to do about it; nothing where there is nothing to do."""
        if not self.advice:
            return ""
        return words.gettext(self.advice, **self._values(words))

    def _values(self, words: Language) -> dict[str, str]:
        """Return what fills the fields; a "place" is a message id itself."""
        return {
            name: words.number(value)
            if isinstance(value, int)
            else words.gettext(value)
            if name == "place"
            else value
            for name, value in self.values.items()
        }

    def kept(self) -> dict[str, Any]:
        """Return it as the database keeps it."""
        return asdict(self)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "Finding":
        """Read what `kept` wrote."""
        return cls(
            **{**kept, "level": Level(kept["level"]), "where": tuple(kept["where"])}
        )


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first; those alike as they came."""
    return sorted(found, key=lambda finding: ORDER[finding.level])


def few(places: Iterable[str]) -> tuple[str, ...]:
    """Return the first places of many, and how many more there are."""
    every = tuple(places)
    rest = len(every) - MOST_SHOWN
    return (*every[:MOST_SHOWN], f"… +{rest}") if rest > 0 else every


def mark(found: Iterable[Finding]) -> str:
    """Return a short hash of the warnings: a yes to them holds for no others."""
    warnings = sorted(
        repr((f.code, f.where)) for f in found if f.level is Level.WARNING
    )
    if not warnings:
        return ""
    return hashlib.blake2b("\n".join(warnings).encode(), digest_size=9).hexdigest()
