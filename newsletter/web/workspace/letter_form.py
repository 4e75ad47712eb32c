"""The form that writes a letter: read, kept over an error, applied."""

from dataclasses import dataclass, field

from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from newsletter.digests import letters, segments
from newsletter.digests.segments import Choice, Known, Life, Since
from newsletter.digests.versions import Words
from newsletter.errors import InkorgError, InvalidInput
from newsletter.models import Issue, IssueKind, Newsletter
from newsletter.web.workspace import issue_form

ALL, CHOSEN, SAVED, TYPED = "all", "chosen", "saved", "typed"
SPANS = (
    *("active:30d", "active:90d", "active:365d"),
    *("silent:90d", "silent:180d", "silent:365d"),
)
LIMITS = {
    **issue_form.LIMITS,
    "opening": letters.BODY_CHARACTERS,
    "segment": segments.MAX_CHARACTERS,
    "picture_alt": 300,
}
MANY = 500  # ticks of one kind


@dataclass(slots=True)
class Picked:
    """Readers as the form's own fields pick them."""

    topics: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    rhythms: list[str] = field(default_factory=list)
    since: str = ""
    until: str = ""
    span: str = ""  # "active:90d"

    def text(self) -> str:
        """Return the segment as text; what is not filled in sets no condition."""
        words = [
            f"{name}:{','.join(values)}"
            for name, values in (
                ("topic", self.topics),
                ("language", self.languages),
                ("rhythm", self.rhythms),
            )
            if values
        ]
        words += [
            f"{name}:{day}"
            for name, day in (("since", self.since), ("until", self.until))
            if day
        ]
        return " ".join([*words, self.span]).strip()


@dataclass(slots=True)
class LetterForm:
    """What stands in the form; see `IssueForm` for what it was shown."""

    subject: str
    preview_text: str
    opening: str
    language: str
    who: str
    segment: str
    picked: Picked
    fingerprint: str
    version: int = 0
    sitting: str = ""
    saved: str = ""  # the conditions of the saved segment that was chosen
    test_to: str = ""
    picture_alt: str = ""

    @property
    def audience(self) -> str:
        """Return whom the letter is for, as text."""
        if self.who == CHOSEN:
            return self.picked.text()
        if self.who == SAVED:
            return self.saved
        return self.segment.strip() if self.who == TYPED else ""

    def words(self) -> Words:
        """Return what was typed as it would be stored."""
        return Words(
            subject=self.subject,
            preview_text=self.preview_text,
            opening=self.opening,
            segment=self.audience,
            language=self.language,
        ).clean()

    def take(self, words: Words) -> None:
        """Put other words into the form."""
        self.subject, self.preview_text = words.subject, words.preview_text
        self.opening, self.language = words.opening, words.language
        if words.segment != self.audience:
            self.segment = words.segment
            self.who = TYPED if words.segment else ALL


def stored(issue: Issue, known: Known) -> LetterForm:
    """Return the form as it shows what is stored."""
    picked = picked_by(issue.segment, known)
    who = ALL
    if issue.segment:
        who = CHOSEN if picked else TYPED
    return LetterForm(
        subject=issue.subject,
        preview_text=issue.preview_text,
        opening=issue.opening,
        language=issue.language or issue.newsletter.language,
        who=who,
        segment=issue.segment,
        picked=picked or Picked(),
        fingerprint=issue_form.fingerprint(issue),
        version=issue.version,
        sitting=issue_form.new_sitting(),
    )


def typed(form: MultiDict[str, str]) -> LetterForm:
    """Read what an editor sent."""
    who = form.get("who", ALL)
    return LetterForm(
        subject=form.get("subject", ""),
        preview_text=form.get("preview_text", ""),
        opening=form.get("opening", ""),
        language=form.get("letter_language", ""),
        who=who if who in (CHOSEN, SAVED, TYPED) else ALL,
        segment=form.get("segment", ""),
        saved=form.get("saved", ""),
        picked=Picked(
            topics=form.getlist("topics")[:MANY],
            languages=form.getlist("languages")[:MANY],
            rhythms=form.getlist("rhythms")[:MANY],
            since=form.get("since", "").strip(),
            until=form.get("until", "").strip(),
            span=form.get("span", ""),
        ),
        fingerprint=form.get("fingerprint", ""),
        version=form.get("version", 0, type=int),
        sitting=form.get("sitting", "")[: issue_form.SITTING_CHARACTERS],
        test_to=form.get("test_to", "").strip(),
        picture_alt=form.get("picture_alt", "").strip(),
    )


def apply(session: Session, issue: Issue, form: LetterForm) -> None:
    """Write the form to the letter. Raises InvalidInput or Conflict."""
    letters.edit(
        session,
        issue,
        subject=form.subject,
        preview_text=form.preview_text,
        body=form.opening,
        segment=form.audience,
        language=form.language or None,
    )


def sketch(issue: Issue, newsletter: Newsletter, form: LetterForm) -> Issue:
    """Return a letter that was never stored, as the form has it: for looking at."""
    return Issue(
        id=issue.id,
        newsletter_id=newsletter.id,
        newsletter=newsletter,
        kind=IssueKind.LETTER,
        number=issue.number,
        state=issue.state,
        subject=form.subject.strip(),
        preview_text=form.preview_text.strip(),
        opening=form.opening[: letters.BODY_CHARACTERS].strip(),
        language=form.language,
        after_position=0,
        last_position=0,
        created_at=issue.created_at,
        posts=[],
    )


def field_of(error: InkorgError) -> str:
    """Return the field of the form that an error is about, or "form"."""
    name = getattr(error, "field", "")
    return {"email": "test_to", "language": "letter_language"}.get(name, name) or "form"


def picked_by(text: str, known: Known) -> Picked | None:
    """Return the form's fields for a segment, or None where they cannot say it."""
    try:
        segment = segments.parse(text, known)
    except InvalidInput:
        return None
    picked = Picked()
    for term in segment.terms:
        if term.negated or not _put(term, picked):
            return None
    return picked


def _put(term: segments.Term, picked: Picked) -> bool:
    """Fill in one condition; tell whether there is a free field for it."""
    match term:
        case Choice(name, values):
            there: list[str] = getattr(picked, f"{name}s")
            if not there:
                there.extend(values)
                return True
        case Since(name, day):
            if not getattr(picked, name):
                setattr(picked, name, day.isoformat())
                return True
        case Life():
            if not picked.span:
                picked.span = str(term)
                return True
    return False
