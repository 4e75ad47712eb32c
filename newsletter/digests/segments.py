"""Segments: some of a newsletter's readers, as text that is read to a typed structure.

    topic:bygga,klimat language:sv rhythm:weekly since:2026-01-01 -silent:180d

Words stand for conditions that all hold; a comma means "or", a minus before a word
"not". No text is a segment that holds every reader. docs/segments.md is the reference.
What was typed reaches the database as bound parameters only: of `topic` and `rhythm`
not even that, but what the newsletter itself calls so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, case, exists, func, not_, or_, select
from sqlalchemy.orm import Session

from newsletter import i18n, rhythms
from newsletter.errors import N_, InvalidInput
from newsletter.i18n import Language
from newsletter.models import (
    Category,
    Consent,
    Newsletter,
    Subscription,
    SubscriptionTopic,
    Topic,
)
from newsletter.posts.topics import slugify
from newsletter.subscribers import choices, consent

MAX_CHARACTERS = 1000
MAX_WORDS = 20
MAX_DAYS = 3650
YEARS = range(1970, 2201)
CHOICES = ("topic", "language", "rhythm")
DAYS = ("since", "until")
SPANS = ("active", "silent")
FIELDS = (*CHOICES, *DAYS, *SPANS)
# What only a reader does. Nothing is tracked: opening and clicking are not among it.
SIGNS_OF_LIFE = (
    *(consent.REQUESTED, consent.CONFIRMED, consent.CHANGED, consent.PAUSED),
    *(consent.RESUMED, consent.RETURNED, consent.ADDRESS_CHANGED),
)
KINDS = {
    "each": N_("Each post as it comes"),
    "daily": N_("Every day"),
    "weekly": N_("Every week"),
    "monthly": N_("Every month"),
}
_SPAN = re.compile(r"([1-9]\d{0,3})([dw])")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_WORD = re.compile(r"[^\s\x00-\x1f]+")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several topics (slugs), languages (codes) or rhythms."""

    field: str
    values: tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        """Write it as it is typed."""
        return f"{'-' * self.negated}{self.field}:{','.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Since:
    """Subscribed on a day or later (`since`), or on it or earlier (`until`)."""

    field: str
    day: date
    negated: bool = False

    def __str__(self) -> str:
        """Write it as it is typed."""
        return f"{'-' * self.negated}{self.field}:{self.day.isoformat()}"


@dataclass(frozen=True, slots=True)
class Life:
    """A sign of life within so many days (`active`), or none (`silent`)."""

    field: str
    days: int
    negated: bool = False

    def __str__(self) -> str:
        """Write it as it is typed."""
        return f"{'-' * self.negated}{self.field}:{self.days}d"


Term = Choice | Since | Life


@dataclass(frozen=True, slots=True)
class Segment:
    """Readers for whom every term holds; without terms, all of them."""

    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        """Write it as it is typed: `parse` reads it back the same."""
        return " ".join(str(term) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Known:
    """What a newsletter has that readers can be chosen by."""

    topics: Mapping[str, Topic]  # by slug, in the order readers see them
    former: Mapping[str, str]  # slugs of topics that became part of another
    rhythms: Sequence[str]
    default_rhythm: str
    languages: Sequence[str]
    language: str  # the newsletter's own
    zone: str


def known(session: Session, newsletter: Newsletter) -> Known:
    """Return what a newsletter's readers can be chosen by."""
    query = select(Topic).where(Topic.newsletter_id == newsletter.id)
    found = list(session.scalars(query.order_by(Topic.place, Topic.name)))
    slugs = {topic.id: topic.slug for topic in found}
    renamed = session.execute(
        select(Category.slug, Category.topic_id).where(
            Category.newsletter_id == newsletter.id, Category.topic_id.is_not(None)
        )
    )
    return Known(
        topics={topic.slug: topic for topic in found},
        former={slug: slugs[topic_id] for slug, topic_id in renamed if topic_id},
        rhythms=choices.offered_rhythms(newsletter),
        default_rhythm=newsletter.default_rhythm,
        languages=list(
            dict.fromkeys([*choices.offered_languages(newsletter), *i18n.available()])
        ),
        language=newsletter.language,
        zone=newsletter.timezone,
    )


def parse(text: str, known: Known) -> Segment:
    """Read a segment. Raises InvalidInput naming the word that cannot be read.

    `span` of the error is where it stands in `text`.
    """
    if len(text) > MAX_CHARACTERS:
        raise _wrong(
            N_("That is too long for a segment: %(limit)s characters fit."),
            limit=MAX_CHARACTERS,
        )
    words = list(_WORD.finditer(text))
    if len(words) > MAX_WORDS:
        raise _wrong(N_("A segment has at most %(limit)s conditions."), limit=MAX_WORDS)
    terms = []
    for word in words:
        try:
            terms.append(_term(word[0], known))
        except InvalidInput as error:
            error.span = word.span()
            raise
    return Segment(tuple(dict.fromkeys(terms)))


def conditions(
    segment: Segment, known: Known, *, now: datetime
) -> list[ColumnElement[bool]]:
    """Return what a subscription must fulfil, for a query's WHERE."""
    found = []
    for term in segment.terms:
        holds = _holds(term, known, now)
        found.append(not_(holds) if term.negated else holds)
    return found


def describe(segment: Segment, known: Known, words: Language) -> str:
    """Write a segment in words: "Readers in Swedish who chose Klimat"."""
    languages = [
        term
        for term in segment.terms
        if term.field == "language" and not term.negated and isinstance(term, Choice)
    ]
    rest = [term for term in segment.terms if term not in languages[:1]]
    readers = words.gettext("Readers") if rest else words.gettext("All readers")
    if languages:
        names = [words.name_of(code) for code in languages[0].values]
        readers = words.gettext(
            "Readers in %(languages)s", languages=words.enumeration(names, either=True)
        )
    if not rest:
        return readers
    clauses = words.enumeration([_clause(term, known, words) for term in rest])
    return words.gettext(
        "%(readers)s who %(conditions)s", readers=readers, conditions=clauses
    )


def _term(word: str, known: Known) -> Term:
    name, _, rest = word.removeprefix("-").partition(":")
    field, negated = name.lower(), word.startswith("-")
    if field not in FIELDS or not rest:
        raise _wrong(
            N_(
                "“%(word)s” is not something readers can be chosen by."
                " There are: %(known)s."
            ),
            word=word[:60],
            known=", ".join(f"{name}:" for name in FIELDS),
        )
    if field in DAYS:
        return Since(field, _day(rest, word), negated)
    if field in SPANS:
        return Life(field, _days(rest, word), negated)
    read = _READERS[field]
    values = [read(value, known) for value in rest.split(",") if value]
    if not values:
        raise _wrong(N_("“%(word)s” names nothing."), word=word[:60])
    return Choice(field, tuple(dict.fromkeys(values)), negated)


def _topic(value: str, known: Known) -> str:
    slug = value if value in known.topics else slugify(value)
    slug = slug if slug in known.topics else known.former.get(slug, slug)
    if slug not in known.topics:
        there = ", ".join(known.topics)
        if not there:
            raise _wrong(N_("“%(word)s” is no topic: there are none."), word=value[:60])
        raise _wrong(
            N_("“%(word)s” is no topic here. There are: %(known)s."),
            word=value[:60],
            known=there,
        )
    return slug


def _language(value: str, known: Known) -> str:
    code = value.lower()
    if code not in known.languages:
        raise _wrong(
            N_("“%(word)s” is no language here. There are: %(known)s."),
            word=value[:60],
            known=", ".join(known.languages),
        )
    return code


def _rhythm(value: str, known: Known) -> str:
    text = value.lower()
    if not _rhythms_of(text, known):
        kinds = dict.fromkeys(rhythms.parse(one).kind for one in known.rhythms)
        raise _wrong(
            N_("“%(word)s” is no rhythm here. There are: %(known)s."),
            word=value[:60],
            known=", ".join(dict.fromkeys([*kinds, *known.rhythms])),
        )
    return text


def _rhythms_of(text: str, known: Known) -> list[str]:
    """Return the rhythms that a word stands for: itself, or all of its kind."""
    return [
        one for one in known.rhythms if text == one or text == rhythms.parse(one).kind
    ]


_READERS: dict[str, Callable[[str, Known], str]] = {
    "topic": _topic,
    "language": _language,
    "rhythm": _rhythm,
}


def _day(text: str, word: str) -> date:
    try:
        day = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or day.year not in YEARS:
        raise _wrong(N_("“%(word)s” has no date like 2026-01-31."), word=word[:60])
    return day


def _days(text: str, word: str) -> int:
    match = _SPAN.fullmatch(text.lower())
    days = int(match[1]) * {"d": 1, "w": 7}[match[2]] if match else 0
    if not 1 <= days <= MAX_DAYS:
        raise _wrong(
            N_("“%(word)s” has no length of time like 90d or 12w, ten years at most."),
            word=word[:60],
        )
    return days


def _wrong(message: str, **values: object) -> InvalidInput:
    return InvalidInput(message, field="segment", **values)


def _holds(term: Term, known: Known, now: datetime) -> ColumnElement[bool]:
    if isinstance(term, Since):
        return _joined(term, known)
    if isinstance(term, Life):
        alive = _alive(now - timedelta(days=term.days))
        return alive if term.field == "active" else not_(alive)
    if term.field == "topic":
        return _takes([known.topics[slug].id for slug in term.values])
    if term.field == "language":
        return _reads(term.values, known)
    return _gets(term.values, known)


def _takes(topic_ids: Sequence[int]) -> ColumnElement[bool]:
    chosen = exists().where(
        SubscriptionTopic.subscription_id == Subscription.id,
        SubscriptionTopic.topic_id.in_(topic_ids),
    )
    return or_(Subscription.all_topics, chosen)


def _reads(codes: Sequence[str], known: Known) -> ColumnElement[bool]:
    """Hold for readers of these languages; what we do not speak is the newsletter's."""
    reads = Subscription.language.in_(codes)
    if known.language not in codes:
        return reads
    return or_(reads, Subscription.language.not_in(i18n.available()))


def _gets(words: Sequence[str], known: Known) -> ColumnElement[bool]:
    """Hold for readers of these rhythms; one no longer offered is the default."""
    effective = case(
        (Subscription.rhythm.in_(known.rhythms), Subscription.rhythm),
        else_=known.default_rhythm,
    )
    wanted = {one for word in words for one in _rhythms_of(word, known)}
    return effective.in_(sorted(wanted))


def _joined(term: Since, known: Known) -> ColumnElement[bool]:
    joined = func.coalesce(Subscription.confirmed_at, Subscription.created_at)
    zone = ZoneInfo(known.zone)
    midnight = datetime(term.day.year, term.day.month, term.day.day, tzinfo=zone)
    if term.field == "since":
        return joined >= midnight.astimezone(UTC)
    # The next midnight there, an hour nearer or farther when the clocks change.
    return joined < (midnight + timedelta(days=1)).astimezone(UTC)


def _alive(since: datetime) -> ColumnElement[bool]:
    """Hold for readers who did something themselves since a moment."""
    did = exists().where(
        Consent.subscription_id == Subscription.id,
        Consent.at >= since,
        Consent.event.in_(SIGNS_OF_LIFE),
        Consent.page != "clock",
        not_(Consent.page.contains("/editor/", autoescape=True)),
    )
    return or_(
        and_(
            Subscription.confirmed_at.is_not(None), Subscription.confirmed_at >= since
        ),
        and_(
            Subscription.requested_at.is_not(None), Subscription.requested_at >= since
        ),
        did,
    )


def _clause(term: Term, known: Known, words: Language) -> str:
    if isinstance(term, Since):
        clause = _CLAUSES[term.field, term.negated]
        return words.gettext(clause, day=words.day(term.day))
    if isinstance(term, Life):
        alive = (term.field == "active") != term.negated
        if alive:
            return words.ngettext(
                "gave a sign of life in the last day",
                "gave a sign of life in the last %(num)s days",
                term.days,
            )
        return words.ngettext(
            "gave no sign of life for a day",
            "gave no sign of life for %(num)s days",
            term.days,
        )
    names = [_name(term.field, value, known, words) for value in term.values]
    either = words.enumeration(names, either=True)
    return words.gettext(_CLAUSES[term.field, term.negated], names=either)


def _name(field: str, value: str, known: Known, words: Language) -> str:
    if field == "topic":
        return known.topics[value].name
    if field == "language":
        return words.name_of(value)
    named = KINDS.get(value)
    text = words.gettext(named) if named else rhythms.describe(value, words)
    return text[:1].lower() + text[1:]


_CLAUSES = {
    ("since", False): N_("have subscribed since %(day)s"),
    ("since", True): N_("subscribed before %(day)s"),
    ("until", False): N_("subscribed on %(day)s or earlier"),
    ("until", True): N_("subscribed after %(day)s"),
    ("topic", False): N_("chose %(names)s or all topics"),
    ("topic", True): N_("chose topics without %(names)s"),
    ("language", False): N_("read in %(names)s"),
    ("language", True): N_("do not read in %(names)s"),
    ("rhythm", False): N_("get mail %(names)s"),
    ("rhythm", True): N_("do not get mail %(names)s"),
}
