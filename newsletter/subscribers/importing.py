"""Readers from a file: refused with a reason, or added, some thousand at a time.

What a person decided beats a file: who left stays gone, who is suppressed or erased is
not brought back, who subscribes already keeps their own choices. Whom the file says to
have left or bounced is remembered as not to be mailed, by the keyed hash alone.

Lines that belong together must be imported with the same `at`: a subscription that was
made at that very moment came from an earlier line of the same file.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeVar, cast

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.audit import recording
from newsletter.config import Settings
from newsletter.db import CHECKPOINT_AFTER
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import (
    Consent,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Suppression,
)
from newsletter.subscribers import (
    asking,
    bulk,
    choices,
    consent,
    leaving,
    starting,
    suppression,
)
from newsletter.subscribers import columns as known_columns
from newsletter.subscribers.addresses import hasher, read_address, read_many_plain
from newsletter.subscribers.columns import Layout, Standing
from newsletter.subscribers.consent import Origin
from newsletter.subscribers.exporting import plain
from newsletter.subscribers.sheets import Record, cells_of

S = TypeVar("S")
T = TypeVar("T")
MAX_REFUSALS_KEPT = 10_000
MAX_CELL_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 200
MAX_SOURCE_CHARACTERS = 500
MAX_REMEMBERED = 10_000  # cells whose meaning need not be worked out again
AT_ONCE = 500  # lines that are understood together: they fit a processor's cache
WAVE = 15_000  # new addresses whose hashes stand together in the index
OLDEST = datetime(1971, 1, 1, tzinfo=UTC)
PAGE = "import"

_STATUSES = "status", "wants", "stopped"
_Said = tuple[str, str, str, bool]  # those, and whether there is a day when they left
# As they follow each other in `_Reader`.
_MEANT = (
    *("name", "rhythm", "language", "topics"),
    *("requested_at", "confirmed_at", "left_at", "source", "network"),
)
Outcome = Literal[
    "added", "already", "duplicate", "left", "suppressed", "stopped", "refused"
]
REASONS = {
    Standing.BOUNCED: suppression.BOUNCED,
    Standing.LEFT: suppression.LEFT,
    Standing.COMPLAINED: suppression.COMPLAINED,
    Standing.NEVER: suppression.NEVER,
}
# What is said of lines that brought nobody.
WHY = {
    "already": N_("They subscribe here already, and keep what they chose."),
    "duplicate": N_("The address stands in the file more than once."),
    "left": N_("They have left here, and stay gone."),
    "suppressed": N_("The address is not to be mailed, or was erased."),
}
N_STAYS = N_(
    "The file says they do not want mail, but they confirmed here since, or"
    " nobody knows when they left there: they stay."
)
READING = (Status.ACTIVE, Status.PAUSED, Status.PENDING)


class Problem(NamedTuple):
    """A line that brought nobody, and why, as a translatable message."""

    line: int
    email: str
    outcome: Outcome
    message: str
    values: Mapping[str, object]

    @property
    def error(self) -> InkorgError:
        """Return the reason as an error has it."""
        return InkorgError(self.message, **self.values)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return what is wrong in the order of the file."""
    return sorted(problems, key=lambda one: one.line)


@dataclass(slots=True)
class Report:
    """What an import did: how many lines came to which end, and the odd ones."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    most: int = MAX_REFUSALS_KEPT  # problems kept; the counts are of all

    def note(
        self,
        outcome: Outcome,
        line: int,
        email: str,
        message: str = "",
        **values: object,
    ) -> None:
        """Count a line that brought nobody, and keep why."""
        self.counts[outcome] += 1
        if len(self.problems) < self.most:
            why = message or WHY[outcome]
            self.problems.append(Problem(line, email[:254], outcome, why, values))

    def add(self, other: "Report") -> None:
        """Count in what another report says."""
        self.counts.update(other.counts)
        self.problems += other.problems[: max(0, self.most - len(self.problems))]

    def put_in_order(self, first: int) -> None:
        """Sort the problems from one on by their lines: those of one sheet."""
        self.problems[first:] = in_order(self.problems[first:])

    @property
    def lines(self) -> int:
        """Return how many lines were looked at."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Source:
    """Who says where the consent of a file's readers comes from."""

    words: str  # "the list at the fair in May"
    wording: str = ""  # who imported what from where, kept once


class _Reader(NamedTuple):
    """A line that was understood."""

    line: int
    email: str
    key: str
    hashed: str
    standing: Standing
    name: str
    rhythm: str
    language: str
    topic_ids: tuple[int, ...] | None
    requested_at: datetime | None
    confirmed_at: datetime | None
    left_at: datetime | None
    source: str
    network: str


class Looked(NamedTuple):
    """Lines that were understood before anything was written."""

    records: Sequence[Record]
    readers: dict[str, _Reader]
    report: Report  # of refused lines and duplicates
    offer: tuple[object, ...]  # what they were held against


class _Known(NamedTuple):
    """How an address stands here."""

    subscriber_id: int
    subscription_id: int | None
    status: Status | None
    confirmed_at: datetime | None
    created_at: datetime | None


class Importer:
    """Reads the records of one sheet and writes them; made anew in each transaction."""

    def __init__(
        self,
        session: Session,
        settings: Settings,
        newsletter: Newsletter,
        layout: Layout,
        *,
        status: Status,
        source: Source,
        at: datetime,
        now: datetime,
    ) -> None:
        """Look up what a newsletter offers.

        `status` ACTIVE adds readers whose consent the importer vouches for; PENDING
        sends each a confirmation mail. `at` is the moment of the whole import.
        """
        self.session, self.settings, self.newsletter = session, settings, newsletter
        self.status, self.source, self.at, self.now = status, source, at, now
        self.known: dict[str, _Known] = {}
        self.lines = Lines(session, settings, newsletter, layout, status, now)

    def run(self, batch: Looked | Sequence[Record], report: Report) -> None:
        """Import one batch and add what happened to `report`. Safe to repeat."""
        recording.leave_out(self.session, "reader", "suppression")
        self._settle(self.look(batch, report), report)

    def look(
        self, batch: Looked | Sequence[Record], report: Report
    ) -> dict[str, _Reader]:
        """Understand a batch: refused lines and duplicates go to `report`.

        What was looked at before is looked at anew if the newsletter's offer changed.
        """
        if not isinstance(batch, Looked):
            batch = self.lines.look(batch)
        elif batch.offer != self.lines.offer:
            batch = self.lines.look(batch.records)
        report.add(batch.report)
        return batch.readers

    def sort(
        self, readers: Mapping[str, _Reader], report: Report
    ) -> tuple[dict[str, _Reader], list[_Reader], list[tuple[_Reader, _Known]]]:
        """Tell who is new, whom to stop, and whose subscription to end. Only reads."""
        known = self.known = self._known(readers)
        forbidden = self._forbidden(readers)
        fresh: dict[str, _Reader] = {}
        stops: list[_Reader] = []
        ends: list[tuple[_Reader, _Known]] = []
        for key, reader in readers.items():
            here = known.get(key)
            if reader.standing > Standing.UNCONFIRMED:
                self._sort_gone(reader, here, stops, ends, report)
            elif here is not None and here.status is not None:
                report.note(self._told(here), reader.line, reader.email)
            elif reader.hashed in forbidden:
                report.note("suppressed", reader.line, reader.email)
            else:
                fresh[key] = reader
        report.counts["added"] += len(fresh)
        return fresh, stops, ends

    def _settle(self, readers: Mapping[str, _Reader], report: Report) -> None:
        fresh, stops, ends = self.sort(readers, report)
        self._stop(stops)
        for reader, here in ends:
            self._end(reader, here)
        if fresh:
            self._add(fresh)

    def _told(self, here: _Known) -> Outcome:
        if here.created_at == self.at:
            return "duplicate"
        if here.status == Status.LEFT:
            return "left"
        return "suppressed" if here.status == Status.SUPPRESSED else "already"

    def _sort_gone(
        self,
        reader: _Reader,
        here: _Known | None,
        stops: list[_Reader],
        ends: list[tuple[_Reader, _Known]],
        report: Report,
    ) -> None:
        if here is None or here.status not in READING:
            stops.append(reader)
        elif self._ends(reader, here):
            ends.append((reader, here))
        else:
            report.note("already", reader.line, reader.email, N_STAYS)
            return
        report.counts["stopped"] += 1

    def _ends(self, reader: _Reader, here: _Known) -> bool:
        """Tell whether what the file says is later than what they said here."""
        if here.created_at == self.at or here.confirmed_at is None:
            return True
        return reader.left_at is not None and reader.left_at > here.confirmed_at

    def _known(self, readers: Mapping[str, _Reader]) -> dict[str, _Known]:
        theirs = and_(
            Subscription.subscriber_id == Subscriber.id,
            Subscription.newsletter_id == self.newsletter.id,
        )
        columns = select(
            Subscriber.email_key,
            Subscriber.id,
            Subscription.id,
            Subscription.status,
            Subscription.confirmed_at,
            Subscription.created_at,
        )
        key, keys = Subscriber.email_key, list(readers)
        query = bulk.looked_up(self.session, columns, key, keys)
        query = query.outerjoin(Subscription, theirs)
        return {row[0]: _Known(*row[1:]) for row in self.session.execute(query)}

    def _forbidden(self, readers: Mapping[str, _Reader]) -> set[str]:
        hashes = [reader.hashed for reader in readers.values()]
        query = select(Suppression.address_hash).where(
            (Suppression.newsletter_id == self.newsletter.id)
            | Suppression.newsletter_id.is_(None)
        )
        query = bulk.looked_up(self.session, query, Suppression.address_hash, hashes)
        return set(self.session.scalars(query))

    def _stop(self, readers: Sequence[_Reader]) -> None:
        """Remember who is not to be mailed; of the address only the hash stays."""
        stored = bulk.stored(self.session)
        names = ("address_hash", "newsletter_id", "reason", "note", "created_at")
        known = self._forbidden({r.hashed: r for r in readers}) if readers else set()
        rows = []
        for reader in readers:
            reason = REASONS[reader.standing]
            at, note = reader.left_at or self.now, self.source.words
            if reader.hashed in known:  # perhaps for a weaker reason
                suppression.remember(
                    self.session,
                    reader.hashed,
                    reason=reason,
                    newsletter_id=self.newsletter.id,
                    note=note,
                    now=at,
                )
            else:
                at = stored(at)
                rows.append((reader.hashed, self.newsletter.id, reason, note, at))
        bulk.insert(self.session, Suppression, names, rows)

    def _end(self, reader: _Reader, here: _Known) -> None:
        subscription = self.session.get_one(Subscription, here.subscription_id)
        origin = Origin(PAGE, reader.network, self.source.wording)
        leaving.end(self.session, subscription, origin=origin, how=PAGE, now=self.now)
        if reader.left_at:
            subscription.left_at = reader.left_at
        if reader.standing != Standing.LEFT:
            self._stop([reader])

    def _add(self, readers: dict[str, _Reader]) -> None:
        """Write subscribers, subscriptions, topics and consents, a statement each."""
        by_key = self._subscriber_ids(readers)
        if len(by_key) < len(readers):
            readers = {key: readers[key] for key in readers if key in by_key}
        ids = self._subscriptions(readers, by_key)
        written = [readers[key] for key in ids]
        self._consents(written, list(ids.values()))
        topics = [
            (subscription_id, topic_id)
            for reader, subscription_id in zip(written, ids.values(), strict=True)
            for topic_id in reader.topic_ids or ()
        ]
        names = ("subscription_id", "topic_id")
        bulk.insert(self.session, SubscriptionTopic, names, topics)
        if self.status != Status.ACTIVE:
            for subscription_id in ids.values():
                asking.ask_imported(
                    self.session, self.settings, subscription_id, now=self.now
                )

    def _subscriber_ids(self, readers: dict[str, _Reader]) -> dict[str, int]:
        ids = {
            key: self.known[key].subscriber_id for key in readers if key in self.known
        }
        new = [reader for key, reader in readers.items() if key not in ids]
        if not new:
            return ids
        numbers = bulk.new_ids(self.session, Subscriber, len(new))
        each = _columns(new)
        rows = list(
            zip(numbers, each.email, each.key, each.hashed, each.name, strict=True)
        )
        names = "id", "email", "email_key", "address_hash", "name"
        at = bulk.stored(self.session)(self.at)
        same = {"wave": numbers[0] // WAVE, "created_at": at}
        left_out = bulk.insert(self.session, Subscriber, names, rows, same=same)
        ids.update({row[2]: row[0] for row in rows if row[0] not in left_out})
        if left_out:  # somebody signed up at this very moment
            late = {row[2]: readers[row[2]] for row in rows if row[0] in left_out}
            found = self._known(late)
            ids.update({key: here.subscriber_id for key, here in found.items()})
        return ids

    def _subscriptions(
        self, readers: dict[str, _Reader], subscriber_ids: dict[str, int]
    ) -> dict[str, int]:
        """Write subscriptions; return their ids by key, less those made meanwhile."""
        if not readers:
            return {}
        count, each = len(readers), _columns(readers.values())
        ids = bulk.new_ids(self.session, Subscription, count)
        positions = dict.fromkeys(each.rhythm, 0)
        if self.status == Status.ACTIVE:
            positions = {
                rhythm: starting.starting_position(
                    self.session, self.newsletter, rhythm
                )
                for rhythm in positions
            }
        since, confirmed = self._moments(each)
        words = self.source.words[:200]
        rows = list(
            zip(
                ids,
                map(subscriber_ids.__getitem__, readers),
                each.language,
                each.rhythm,
                [topic_ids is None for topic_ids in each.topic_ids],
                map(positions.__getitem__, each.rhythm),
                links.new_tokens(count),
                links.new_tokens(count),
                [source[:200] or words for source in each.source],
                since,
                confirmed,
                strict=True,
            )
        )
        names = (
            *("id", "subscriber_id", "language", "rhythm", "all_topics", "cursor"),
            *("leave_token", "preferences_token", "source"),
            *("requested_at", "confirmed_at"),
        )
        same = {
            "newsletter_id": self.newsletter.id,
            "status": self.status.value,
            "had_until": 0,
            "round": 0,
            "created_at": bulk.stored(self.session)(self.at),
        }
        left_out = bulk.insert(self.session, Subscription, names, rows, same=same)
        written = dict(zip(readers, ids, strict=True))
        if left_out:
            written = {k: one for k, one in written.items() if one not in left_out}
        return written

    def _moments(self, each: Any) -> tuple[list[Any], list[Any]]:
        """Return when readers asked and confirmed, as the database has moments."""
        stored, count = bulk.stored(self.session), len(each.line)
        if self.status != Status.ACTIVE:
            return [stored(self.at)] * count, [None] * count
        pairs = zip(each.requested_at, each.confirmed_at, strict=True)
        confirmed = [confirmed or requested for requested, confirmed in pairs]
        moments = {
            one: stored(one or self.at) for one in {*each.requested_at, *confirmed}
        }
        find = moments.__getitem__
        return list(map(find, each.requested_at)), list(map(find, confirmed))

    def _consents(self, readers: Sequence[_Reader], ids: Sequence[int]) -> None:
        wording = consent.store_wording(
            self.session, self.source.wording, self.newsletter.language
        )
        if not readers:
            return
        each = _columns(readers)
        said = list(zip(each.requested_at, each.confirmed_at, each.source, strict=True))
        details = {one: json.dumps(self._detail(*one)) for one in set(said)}
        rows = list(zip(ids, each.network, map(details.__getitem__, said), strict=True))
        names = "subscription_id", "network", "detail"
        same = {
            "event": consent.IMPORTED,
            "at": bulk.stored(self.session)(self.now),
            "wording_id": wording,
            "page": PAGE,
        }
        bulk.insert(self.session, Consent, names, rows, same=same)

    def _detail(
        self, requested: datetime | None, confirmed: datetime | None, source: str
    ) -> dict[str, Any]:
        detail = {"source": self.source.words, "status": self.status.value}
        if source:
            detail["source_there"] = source
        if requested:
            detail["requested_at"] = requested.isoformat()
        if confirmed:
            detail["confirmed_at"] = confirmed.isoformat()
        return detail


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield what comes, some at a time: all of them are made before the first is used.

    They are as many as are written between two times that the database copies its log,
    which it does meanwhile.
    """
    while some := list(islice(items, CHECKPOINT_AFTER)):
        yield from some


class Lines:
    """Understands one line after the other; needs the session to begin with only."""

    def __init__(
        self,
        session: Session,
        settings: Settings,
        newsletter: Newsletter,
        layout: Layout,
        status: Status,
        now: datetime,
    ) -> None:
        self.newsletter, self.now = newsletter, now
        self.hash_of = hasher(settings)
        self.asks = status != Status.ACTIVE
        self.lenient = layout.is_lenient
        self.whole = known_columns.STANDINGS.get(layout.whole)
        self.at_email = layout.fields.index("email")
        self.places: dict[str, list[int]] = {}
        for place, name in enumerate(layout.fields):
            if name and name != "email":
                self.places.setdefault(name, []).append(place)
        self.standings: dict[_Said, Standing] = {}
        self.moments: dict[str, datetime | None] = {}
        self.topics = {
            name.casefold(): topic.id
            for topic in choices.offered_topics(session, newsletter)
            for name in (topic.slug, topic.name)
        }
        self.topics_of: dict[str, tuple[int, ...] | None] = {}
        self.languages = choices.offered_languages(newsletter)
        self.meanings: dict[str, Callable[[str], Any]] = {
            "name": self._name,
            "rhythm": self._rhythm,
            "language": self._language,
            "topics": self._topic_ids,
            **dict.fromkeys(("requested_at", "confirmed_at", "left_at"), self._moment),
            "source": lambda cell: cell[:MAX_SOURCE_CHARACTERS],
            "network": self._network,
        }
        # What each line asks for, and a mapped class is slow to tell.
        self.rhythm, self.language = newsletter.default_rhythm, newsletter.language
        self.demo, self.keep_network = settings.demo, newsletter.record_network
        self.offer = (
            *(self.rhythm, self.language, self.keep_network, self.languages),
            *(choices.offered_rhythms(newsletter), self.topics),
        )

    def look(self, records: Sequence[Record]) -> Looked:
        """Understand a batch of lines."""
        report = Report(most=len(records))
        found: dict[str, _Reader] = {}
        some = range(0, len(records), AT_ONCE)
        looked = (self._at_once(records[at : at + AT_ONCE]) for at in some)
        for record, plainly in zip(records, chain.from_iterable(looked), strict=True):
            reader = plainly or self._closely(record, report)
            if reader is None:
                continue
            earlier = found.setdefault(reader.key, reader)
            if earlier is reader:
                continue
            report.note("duplicate", reader.line, reader.email)
            if reader.standing > earlier.standing:  # a no beats a yes, wherever it is
                found[reader.key] = reader
        return Looked(records, found, report, self.offer)

    def _closely(self, record: Record, report: Report) -> _Reader | None:
        """Understand a line by itself, or say what is wrong with it."""
        number, cells = record
        try:
            return self(number, cells)
        except InvalidInput as error:
            email = self.email(cells)
            report.note("refused", number, email, error.message, **error.values)
            return None

    def email(self, cells: Sequence[str]) -> str:
        """Return a line's address cell, whatever stands there."""
        cell = cells[self.at_email] if self.at_email < len(cells) else ""
        return plain(cell.strip().replace("\0", ""))[:MAX_CELL_CHARACTERS]

    def _at_once(self, records: Sequence[Record]) -> list[_Reader | None]:
        """Understand lines column by column, what is alike but once.

        None is a line that wants a closer look: most often something is wrong with it.
        """
        emails, keys = read_many_plain(cells_of(records, self.at_email))
        odd = {place for place, email in enumerate(emails) if not email}
        made = map(
            _Reader._make,
            zip(
                map(itemgetter(0), records),
                *(emails, keys, map(self.hash_of, keys)),
                self._standings(records, odd),
                *(self._column(records, n, self.meanings[n], odd) for n in _MEANT),
                strict=True,
            ),
        )
        return [None if place in odd else one for place, one in enumerate(made)]

    def _column(
        self,
        records: Sequence[Record],
        name: str,
        meaning: Callable[[str], T],
        odd: set[int],
    ) -> list[T]:
        """Return what each line says there; those that cannot are `odd`."""
        columns = [cells_of(records, place) for place in self.places.get(name, ())]
        if not columns:
            return [meaning("")] * len(records)
        if len(columns) == 1:
            return _each(columns[0], lambda one: meaning(_joined(name, [one])), odd)
        said = list(zip(*columns, strict=True))
        return _each(said, lambda cells: meaning(_joined(name, cells)), odd)

    def _standings(self, records: Sequence[Record], odd: set[int]) -> list[Standing]:
        words = (self._column(records, name, str, odd) for name in _STATUSES)
        left = self._column(records, "left_at", bool, odd)
        return _each(list(zip(*words, left, strict=True)), self._standing, odd)

    def __call__(self, line: int, cells: list[str]) -> _Reader:
        """Understand a line. Raises InvalidInput."""
        address = read_address(self.email(cells), trial=self.demo)
        cell = {
            name: _joined(name, [cells[n] for n in places if n < len(cells)])
            for name, places in self.places.items()
        }
        status, wants, stopped = (cell.get(name, "") for name in _STATUSES)
        return _Reader(
            *(line, address.email, address.key, self.hash_of(address.key)),
            self._standing((status, wants, stopped, bool(cell.get("left_at")))),
            *(self.meanings[name](cell.get(name, "")) for name in _MEANT),
        )

    def _standing(self, said: _Said) -> Standing:
        """Tell how somebody stood; most lines say what an earlier one said."""
        if said not in self.standings:
            _forget_many(self.standings)
            self.standings[said] = self._read_standing(*said)
        return self.standings[said]

    def _read_standing(
        self, status: str, wants: str, stopped: str, left: bool
    ) -> Standing:
        said: list[Standing] = []
        for word in filter(None, status.split("\n")):
            meant = known_columns.standing_of(word)
            if meant is None:
                raise InvalidInput(
                    N_("Nobody here knows what the status “%(status)s” means."),
                    status=word[:40],
                )
            said.append(meant)
        if wants:
            said.append(self._yes_or_no(wants, known_columns.NO))
        if stopped:
            said.append(self._yes_or_no(stopped, known_columns.YES))
        if left and not said and self.whole is None:
            said.append(Standing.LEFT)
        standing = max([self.whole or Standing.READER, *said])
        if standing == Standing.UNCONFIRMED and not self.asks:
            raise InvalidInput(N_("The file says that they never confirmed."))
        return standing

    def _yes_or_no(self, cell: str, gone: set[str]) -> Standing:
        word = cell.casefold()
        if word not in known_columns.YES | known_columns.NO:
            raise InvalidInput(N_("“%(word)s” should be yes or no."), word=cell[:40])
        return Standing.LEFT if word in gone else Standing.READER

    def _name(self, name: str) -> str:
        if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
            raise InvalidInput(N_("The name is longer than 200 characters, or broken."))
        return name

    def _rhythm(self, cell: str) -> str:
        if not cell:
            return self.rhythm
        return choices.check_rhythm(self.newsletter, cell)

    def _language(self, cell: str) -> str:
        if not cell:
            return self.language
        code = cell.casefold()
        short = re.split(r"[-_]", code)[0]
        if code not in self.languages and short in self.languages:
            code = short
        return choices.check_language(self.newsletter, code)

    def _topic_ids(self, cell: str) -> tuple[int, ...] | None:
        if not cell:
            return None
        if cell not in self.topics_of:
            _forget_many(self.topics_of)
            self.topics_of[cell] = self._read_topics(cell)
        return self.topics_of[cell]

    def _read_topics(self, cell: str) -> tuple[int, ...] | None:
        if cell.casefold() == "all":
            return None
        if cell.casefold() == "none":
            return ()
        names: list[str] = []
        for part in re.split(r"[,;|\n]", cell):
            name = part.strip(' "').casefold()
            names += [name] if name in self.topics else name.split()
        if not self.lenient and (unknown := [n for n in names if n not in self.topics]):
            raise InvalidInput(
                N_("There is no topic called %(name)s."), name=unknown[0][:80]
            )
        found = {self.topics[name] for name in names if name in self.topics}
        return tuple(sorted(found)) or None

    def _moment(self, cell: str) -> datetime | None:
        if not cell:
            return None
        if cell not in self.moments:
            _forget_many(self.moments)
            self.moments[cell] = self._read_moment(cell)
        return self.moments[cell]

    def _read_moment(self, cell: str) -> datetime | None:
        """Read a date as other systems write it; UTC where it does not say."""
        for text in cell.split("\n"):
            try:
                moment = datetime.fromisoformat(text.removesuffix(" UTC"))
            except ValueError:
                continue
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            try:
                moment = moment.astimezone(UTC)
            except OverflowError:
                continue
            if moment >= OLDEST:
                return min(moment, self.now)
        return None

    def _network(self, cell: str) -> str:
        if not cell or not self.keep_network:
            return ""
        return consent.cut_network(cell)


def _columns(readers: Iterable[_Reader]) -> Any:
    """Return what would be a reader, had each of its fields everybody's values."""
    return _Reader._make(zip(*readers, strict=True))


def _joined(name: str, cells: Sequence[str]) -> str:
    """Return what the columns that mean the same say together."""
    glue = " " if name == "name" else "\n"
    return glue.join(filter(None, map(_cleaned, cells)))


def _cleaned(cell: str) -> str:
    cell = cell.strip()
    if cell and ("\0" in cell or cell[0] == "'" or len(cell) > MAX_CELL_CHARACTERS):
        cell = plain(cell.replace("\0", ""))[:MAX_CELL_CHARACTERS]
    return cell


def _each(said: Sequence[S], meaning: Callable[[S], T], odd: set[int]) -> list[T]:
    """Return what each means; `odd` are those that mean nothing."""
    meant: dict[S, T] = {}
    for one in (different := set(said)):
        with suppress(InvalidInput):
            meant[one] = meaning(one)
    if len(meant) < len(different):
        odd.update(place for place, one in enumerate(said) if one not in meant)
    return list(map(cast(Callable[[S], T], meant.get), said))


def _forget_many(memory: dict[Any, Any]) -> None:
    """Keep what is remembered from growing with the file."""
    if len(memory) >= MAX_REMEMBERED:
        memory.clear()
