"""The sample newsletter and its posts; people and places are made up."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

POSTS = Path(__file__).parent / "posts"

SLUG = "runt-kvarteret"
EDITOR_EMAIL = "redaktor@bjorkvik.example"

NEWSLETTER: dict[str, Any] = {
    "title": "Runt kvarteret",
    "tagline": "Det som händer mellan husen i Björkvik, berättat av oss som är där.",
    "language": "sv",
    "timezone": "Europe/Stockholm",
    "from_name": "Runt kvarteret",
    "from_email": "brev@bjorkvik.example",
    "reply_to": "hej@bjorkvik.example",
    "publisher": "Björkviks Bostäder",
    "about": (
        "Björkviks Bostäder är kommunens eget bostadsbolag. Här skriver vi som arbetar"
        " i områdena, och ibland du som bor där, om gårdar, grannar och sådant vi"
        " prövar för första gången. Har du något att berätta? Hör av dig."
    ),
    "postal_address": "Björkviks Bostäder\nStationsgatan 4\n612 98 Björkvik",
    "phone": "0122-555 10",
    "contact_email": "hej@bjorkvik.example",
    "website": "https://bjorkvik.example/",
    "social": [
        {"name": "Instagram", "url": "https://instagram.example/runtkvarteret"},
    ],
}

BYLINES = {
    "Maj Lindqvist": "områdesutvecklare på Björkviks Bostäder",
    "Hamid Rahimi": "kvartersvärd i Lärkan",
    "Saga Wikström": "fritidsledare på Träffpunkt Lärkan",
    "Elin Sandahl": "trädgårdsmästare på Björkviks Bostäder",
    "Ture Ahlgren": "hyresgäst i Lärkan sedan 1974",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A post of the sample newsletter."""

    title: str
    author: str
    topics: tuple[str, ...]
    markdown: str
    days_ago: int
    clock: time  # local

    def published_at(self, now: datetime) -> datetime:
        """Return when it was published, so that the newsletter is never stale."""
        zone = ZoneInfo(NEWSLETTER["timezone"])
        day = now.astimezone(zone).date() - timedelta(days=self.days_ago)
        return datetime.combine(day, self.clock, zone).astimezone(UTC)


def samples() -> list[Sample]:
    """Return the sample posts, the oldest first."""
    found = [_read(path.read_text()) for path in POSTS.glob("*.md")]
    return sorted(found, key=lambda sample: sample.days_ago, reverse=True)


def _read(text: str) -> Sample:
    head, _, markdown = text.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    return Sample(
        title=fields["title"],
        author=fields["author"],
        topics=tuple(fields["topics"].split(", ")),
        markdown=markdown,
        days_ago=int(fields["days_ago"]),
        clock=time.fromisoformat(fields["clock"]),
    )
