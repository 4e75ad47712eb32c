"""Readers from a file: refused with a reason, or added, some thousand at a time.

What a person decided beats a file: who left stays gone, who is suppressed or erased is
not brought back, who subscribes already keeps their own choices. Whom the file says to
have left or bounced is remembered as not to be mailed, by the keyed hash alone.

Lines that belong together must be imported with the same `at`: a subscription that was
made at that very moment came from an earlier line of the same file.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar, cast

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.audit import recording
from newsletter.config import Settings
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
from newsletter.subscribers.addresses import Address, hasher, read_address, read_plain
from newsletter.subscribers.columns import Layout, Standing
from newsletter.subscribers.consent import Origin
from newsletter.subscribers.exporting import plain
from newsletter.subscribers.sheets import Record

T = TypeVar("T")
_END = object()
# After this, a thread insists on Python's lock. SQLite lets go of it in each statement,
# and would get it back after five milliseconds.
LOCK_SECONDS = 0.0001
MAX_REFUSALS_KEPT = 10_000
MAX_CELL_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 200
MAX_SOURCE_CHARACTERS = 500
MAX_REMEMBERED = 10_000  # cells whose meaning need not be worked out again
WAVE = 30_000  # new addresses whose hashes stand together in the index
OLDEST = datetime(1971, 1, 1, tzinfo=UTC)
PAGE = "import"

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


def _line_of(problem: Problem) -> int:
    return problem.line


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
        self.problems[first:] = sorted(self.problems[first:], key=_line_of)

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
    address: Address
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
                report.note(self._told(here), reader.line, reader.address.email)
            elif reader.hashed in forbidden:
                report.note("suppressed", reader.line, reader.address.email)
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
            report.note("already", reader.line, reader.address.email, N_STAYS)
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
        query = (
            select(
                Subscriber.email_key,
                Subscriber.id,
                Subscription.id,
                Subscription.status,
                Subscription.confirmed_at,
                Subscription.created_at,
            )
            .outerjoin(Subscription, theirs)
            .where(bulk.among(self.session, Subscriber.email_key, list(readers)))
        )
        return {row[0]: _Known(*row[1:]) for row in self.session.execute(query)}

    def _forbidden(self, readers: Mapping[str, _Reader]) -> set[str]:
        hashes = [reader.hashed for reader in readers.values()]
        query = select(Suppression.address_hash).where(
            bulk.among(self.session, Suppression.address_hash, hashes),
            (Suppression.newsletter_id == self.newsletter.id)
            | Suppression.newsletter_id.is_(None),
        )
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
        subscriptions = self._subscriptions(readers, by_key)
        self._consents(readers, subscriptions)
        topics = [
            (subscription_id, topic_id)
            for key, subscription_id in subscriptions.items()
            for topic_id in readers[key].topic_ids or ()
        ]
        names = ("subscription_id", "topic_id")
        bulk.insert(self.session, SubscriptionTopic, names, topics)
        if self.status != Status.ACTIVE:
            for subscription_id in subscriptions.values():
                asking.ask_imported(
                    self.session, self.settings, subscription_id, now=self.now
                )

    def _subscriber_ids(self, readers: dict[str, _Reader]) -> dict[str, int]:
        ids = {
            key: self.known[key].subscriber_id for key in readers if key in self.known
        }
        new = [key for key in readers if key not in ids]
        if not new:
            return ids
        at = bulk.stored(self.session)(self.at)
        numbers = bulk.new_ids(self.session, Subscriber, len(new))
        rows = [
            (number, reader.address.email, key, reader.hashed, reader.name)
            for number, key, reader in zip(
                numbers, new, map(readers.__getitem__, new), strict=True
            )
        ]
        names = "id", "email", "email_key", "address_hash", "name"
        same = {"wave": numbers[0] // WAVE, "created_at": at}
        written = bulk.insert(
            self.session, Subscriber, names, rows, same=same, returning="id"
        )
        ids.update({row[2]: row[0] for row in rows if row[0] in written})
        if len(ids) < len(readers):  # somebody signed up at this very moment
            late = {key: readers[key] for key in readers if key not in ids}
            found = self._known(late)
            ids.update({key: here.subscriber_id for key, here in found.items()})
        return ids

    def _subscriptions(
        self, readers: dict[str, _Reader], subscriber_ids: dict[str, int]
    ) -> dict[str, int]:
        """Write subscriptions; return their ids by key, less those made meanwhile."""
        keys = [key for key in readers if key in subscriber_ids]
        ids = bulk.new_ids(self.session, Subscription, len(keys))
        leave, preferences = links.new_tokens(len(keys)), links.new_tokens(len(keys))
        stored, active = bulk.stored(self.session), self.status == Status.ACTIVE
        positions = {
            rhythm: starting.starting_position(self.session, self.newsletter, rhythm)
            for rhythm in {reader.rhythm for reader in readers.values()}
        }
        at, words = stored(self.at), self.source.words[:200]
        rows = []
        for number, key, leaves, prefers in zip(
            ids, keys, leave, preferences, strict=True
        ):
            reader = readers[key]
            since = confirmed = None
            if active:
                since = reader.requested_at
                confirmed = reader.confirmed_at or since
            rows.append(
                (
                    number,
                    subscriber_ids[key],
                    reader.language,
                    reader.rhythm,
                    reader.topic_ids is None,
                    positions[reader.rhythm] if active else 0,
                    leaves,
                    prefers,
                    reader.source[:200] or words,
                    stored(since) if since else at,
                    stored(confirmed) if confirmed else at if active else None,
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
            "created_at": at,
        }
        written = bulk.insert(
            self.session, Subscription, names, rows, same=same, returning="id"
        )
        return {
            key: row[0]
            for key, row in zip(keys, rows, strict=True)
            if row[0] in written
        }

    def _consents(
        self, readers: dict[str, _Reader], subscriptions: dict[str, int]
    ) -> None:
        wording = consent.store_wording(
            self.session, self.source.wording, self.newsletter.language
        )
        details: dict[tuple[object, ...], str] = {}
        rows = []
        for key, subscription_id in subscriptions.items():
            reader = readers[key]
            said = reader.requested_at, reader.confirmed_at, reader.source
            if said not in details:
                details[said] = json.dumps(self._detail(*said))
            rows.append((subscription_id, reader.network, details[said]))
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


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield what comes; a thread makes the next one while this one is dealt with.

    To be closed before what the items come from.
    """
    patience = sys.getswitchinterval()
    sys.setswitchinterval(min(patience, LOCK_SECONDS))
    try:
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(next, items, _END)
            while (item := coming.result()) is not _END:
                coming = pool.submit(next, items, _END)
                yield cast(T, item)
    finally:
        sys.setswitchinterval(patience)


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
        self.blank = dict.fromkeys(known_columns.FIELDS, "")
        self.at_email = layout.fields.index("email")
        self.columns = [
            (name, place)
            for place, name in enumerate(layout.fields)
            if name and name != "email"
        ]
        self.standings: dict[tuple[object, ...], Standing] = {}
        self.moments: dict[str, datetime | None] = {}
        self.topics = {
            name.casefold(): topic.id
            for topic in choices.offered_topics(session, newsletter)
            for name in (topic.slug, topic.name)
        }
        self.topics_of: dict[str, tuple[int, ...] | None] = {}
        self.languages = choices.offered_languages(newsletter)
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
        for number, cells in records:
            try:
                reader = self(number, cells)
            except InvalidInput as error:
                email = self.email(cells)
                report.note("refused", number, email, error.message, **error.values)
                continue
            earlier = found.get(reader.address.key)
            if earlier is None:
                found[reader.address.key] = reader
                continue
            report.note("duplicate", number, reader.address.email)
            if reader.standing > earlier.standing:  # a no beats a yes, wherever it is
                found[reader.address.key] = reader
        return Looked(records, found, report, self.offer)

    def email(self, cells: Sequence[str]) -> str:
        """Return a line's address cell, whatever stands there."""
        cell = cells[self.at_email] if self.at_email < len(cells) else ""
        return plain(cell.strip().replace("\0", ""))[:MAX_CELL_CHARACTERS]

    def __call__(self, line: int, cells: list[str]) -> _Reader:
        """Understand a line. Raises InvalidInput."""
        # `email` changes nothing of a plain one, which most are.
        plainly = self.at_email < len(cells) and read_plain(cells[self.at_email])
        address = plainly or read_address(self.email(cells), trial=self.demo)
        hashed = self.hash_of(address.key)
        if not self.columns:
            standing = self.whole or Standing.READER
            rhythm, language = self.rhythm, self.language
            self._refuse_unconfirmed(standing)
            empty = None, None, None, None, "", ""
            return _Reader(
                line, address, hashed, standing, "", rhythm, language, *empty
            )
        cell = self._cells(cells)
        left_at = self._moment(cell["left_at"])
        return _Reader(
            line,
            address,
            hashed,
            self._standing(cell),
            self._name(cell["name"]),
            self._rhythm(cell["rhythm"]),
            self._language(cell["language"]),
            self._topic_ids(cell["topics"]),
            self._moment(cell["requested_at"]),
            self._moment(cell["confirmed_at"]),
            left_at,
            cell["source"][:MAX_SOURCE_CHARACTERS],
            self._network(cell["network"]),
        )

    def _cells(self, cells: list[str]) -> dict[str, str]:
        found, last = self.blank.copy(), len(cells)
        for name, place in self.columns:
            if place >= last or not (cell := cells[place].strip()):
                continue
            if "\0" in cell or cell[0] == "'" or len(cell) > MAX_CELL_CHARACTERS:
                cell = plain(cell.replace("\0", ""))[:MAX_CELL_CHARACTERS]
            before = found[name]
            glue = " " if name == "name" else "\n"
            found[name] = f"{before}{glue}{cell}" if before else cell
        return found

    def _standing(self, cell: Mapping[str, str]) -> Standing:
        """Tell how somebody stood; most lines say what an earlier one said."""
        said = cell["status"], cell["wants"], cell["stopped"], bool(cell["left_at"])
        if said not in self.standings:
            _forget_many(self.standings)
            self.standings[said] = self._read_standing(cell)
        return self.standings[said]

    def _read_standing(self, cell: Mapping[str, str]) -> Standing:
        said: list[Standing] = []
        for word in cell["status"].split("\n"):
            if not word:
                continue
            meant = known_columns.standing_of(word)
            if meant is None:
                raise InvalidInput(
                    N_("Nobody here knows what the status “%(status)s” means."),
                    status=word[:40],
                )
            said.append(meant)
        for name, no in (
            ("wants", known_columns.NO),
            ("stopped", known_columns.YES),
        ):
            if cell[name]:
                said.append(self._yes_or_no(cell[name], no))
        if cell["left_at"] and not said and self.whole is None:
            said.append(Standing.LEFT)
        standing = max([self.whole or Standing.READER, *said])
        self._refuse_unconfirmed(standing)
        return standing

    def _refuse_unconfirmed(self, standing: Standing) -> None:
        if standing == Standing.UNCONFIRMED and not self.asks:
            raise InvalidInput(N_("The file says that they never confirmed."))

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


def _forget_many(memory: dict[Any, Any]) -> None:
    """Keep what is remembered from growing with the file."""
    if len(memory) >= MAX_REMEMBERED:
        memory.clear()
