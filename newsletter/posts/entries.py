"""What a feed says: its entries, on their way from the reader to the importer."""

import json
import struct
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

# Before each question and answer between the two processes.
LENGTH = struct.Struct(">I")

MAX_ENTRIES = 100
MAX_TITLE_CHARACTERS = 300
MAX_GUID_CHARACTERS = 1000
MAX_URL_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 200
MAX_BYLINE_CHARACTERS = 200
MAX_TOPICS = 10
MAX_ENCLOSURES = 5


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A file that comes with a post: an episode, a report."""

    url: str
    type: str = ""  # a media type; empty: the feed does not say
    length: int = 0  # bytes; 0: the feed does not say
    title: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One post as a feed has it: clean, sanitised, within every limit."""

    title: str
    guid: str = ""
    link: str = ""
    html: str = ""
    excerpt: str = ""
    author: str = ""
    byline: str = ""
    published_at: datetime | None = None  # None: the feed does not say
    topics: tuple[str, ...] = ()
    image_url: str = ""
    image_alt: str = ""
    enclosures: tuple[Enclosure, ...] = ()
    language: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A feed that was read; `warnings` and reasons are message ids."""

    title: str = ""
    link: str = ""
    language: str = ""
    hub: str = ""  # WebSub: who pushes this feed, and as which address
    topic: str = ""
    entries: list[Entry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  # (title, reason)

    @property
    def whole(self) -> bool:
        """Tell whether everything in the feed is here."""
        return not self.warnings and not self.refused


def dump(parsed: Parsed) -> bytes:
    """Write a feed for the trip between two processes."""
    return json.dumps(asdict(parsed), default=datetime.isoformat).encode()


def load(values: dict[str, Any]) -> Parsed:
    """Read what `dump` wrote."""
    return Parsed(
        title=values["title"],
        link=values["link"],
        language=values["language"],
        hub=values["hub"],
        topic=values["topic"],
        entries=[_entry(entry) for entry in values["entries"]],
        warnings=list(values["warnings"]),
        refused=[(title, reason) for title, reason in values["refused"]],
    )


def _entry(values: dict[str, Any]) -> Entry:
    moment = values["published_at"]
    at = datetime.fromisoformat(moment).astimezone(UTC) if moment else None
    enclosures = tuple(Enclosure(**one) for one in values["enclosures"])
    return Entry(
        **{
            **values,
            "published_at": at,
            "topics": tuple(values["topics"]),
            "enclosures": enclosures,
        },
    )
