"""What one looks for in the list of subscribers: in the address, and as a form."""

from dataclasses import dataclass
from typing import Any

from flask import request

from newsletter import rhythms
from newsletter.digests import segments
from newsletter.digests.segments import Known
from newsletter.errors import InvalidInput
from newsletter.models import Newsletter, Status
from newsletter.subscribers import choices
from newsletter.web import rendering
from newsletter.web.workspace import letter_form
from newsletter.web.workspace.letter_form import SPANS, Picked

MAX_TEXT = 254


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which subscribers, and after which of them the page begins."""

    text: str = ""
    status: Status | None = None
    segment: str = ""
    after: int | None = None

    @property
    def everybody(self) -> bool:
        """Tell whether nobody is left out."""
        return not (self.text or self.status or self.segment)

    def query(self) -> dict[str, Any]:
        """Return it as the query of an address; what is not asked for is None."""
        return {
            "q": self.text or None,
            "status": self.status.value if self.status else None,
            "segment": self.segment or None,
            "after": self.after,
        }


def asked() -> Wanted:
    """Read what the page's address asks for; what makes no sense asks for nothing."""
    status = request.args.get("status", "")
    after = request.args.get("after", "")
    return Wanted(
        text=request.args.get("q", "").strip()[:MAX_TEXT],
        status=Status(status) if status in list(Status) else None,
        segment=" ".join(request.args.get("segment", "").split()),
        after=int(after)
        if after.isascii() and after.isdigit() and len(after) < 10
        else None,
    )


def picked() -> Wanted:
    """Read the form's fields."""
    found = asked()
    chosen = Picked(
        topics=request.args.getlist("topics"),
        languages=request.args.getlist("languages"),
        rhythms=request.args.getlist("rhythms"),
        since=request.args.get("since", "").strip(),
        until=request.args.get("until", "").strip(),
        span=request.args.get("span", ""),
    )
    return Wanted(found.text, found.status, chosen.text()[: segments.MAX_CHARACTERS])


def marked(text: str, problem: InvalidInput | None) -> tuple[str, str, str] | None:
    """Return a text in three parts, the middle one at fault, if one place is."""
    if problem is None or problem.span is None:
        return None
    start, end = problem.span
    return text[:start], text[start:end], text[end:]


def fields(newsletter: Newsletter, wanted: Wanted, known: Known) -> dict[str, Any]:
    """Return what the form needs; `picked` is None where its fields cannot say it."""
    words = rendering.words()
    chosen = letter_form.picked_by(wanted.segment, known)
    span = [chosen.span] if chosen and chosen.span else []
    return {
        "picked": chosen,
        "topics": [(topic.slug, topic.name) for topic in known.topics.values()],
        "languages": [
            (code, words.name_of(code))
            for code in choices.offered_languages(newsletter)
        ],
        "rhythms": rhythms.describe_each(known.rhythms, words),
        "spans": list(dict.fromkeys([*SPANS, *span])),
        "MAX_SEGMENT": segments.MAX_CHARACTERS,
    }
