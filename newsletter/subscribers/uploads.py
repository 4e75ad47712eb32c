"""Uploaded files of readers: kept in pieces, tried, brought in, and forgotten.

A file lies in the database, since the worker that brings it in may be on another host
than the page that took it. Each piece is imported in a transaction of its own, which
also moves the mark on and empties the piece: whatever is killed when, no line is
imported twice and none is left out.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.audit import recording
from newsletter.config import Settings
from newsletter.db import count_anew
from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.models import (
    ImportChunk,
    ImportKey,
    ImportRun,
    ImportState,
    Newsletter,
    Status,
)
from newsletter.subscribers import bulk, columns, sheets
from newsletter.subscribers.columns import Layout
from newsletter.subscribers.importing import (
    Importer,
    Lines,
    Looked,
    Problem,
    Report,
    Source,
    in_order,
)
from newsletter.subscribers.sheets import Record, Sheet

KEPT = timedelta(days=7)  # a file and its report
ABANDONED = timedelta(hours=6)  # an upload that broke off
ASKED_AT_ONCE = 100  # by mail, in one transaction
PREVIEW = 5  # lines of each sheet
MAX_WAITING = 20  # files of a newsletter
MAX_CONSENT_CHARACTERS = 500
KEY_CHARACTERS = 16  # of an address's hash: enough to know it again within one file
FORGOTTEN_AT_ONCE = 20_000
OPEN = (ImportState.READY, ImportState.CHECKED)
UNDER_WAY = (ImportState.CHECKING, ImportState.RUNNING)


def begin(
    session: Session,
    newsletter: Newsletter,
    file_name: str,
    *,
    editor_id: int | None,
    now: datetime,
) -> ImportRun:
    """Make room for a file that is being uploaded. Raises Conflict."""
    mine = ImportRun.newsletter_id == newsletter.id
    if (session.scalar(select(func.count()).where(mine)) or 0) >= MAX_WAITING:
        raise Conflict(
            N_("There are %(limit)s imports already. Delete one of them first."),
            limit=MAX_WAITING,
        )
    name = "".join(c for c in file_name if c.isprintable())[-200:] or "readers.csv"
    run = ImportRun(
        newsletter_id=newsletter.id,
        editor_id=editor_id,
        state=ImportState.RECEIVING,
        file_name=name,
        created_at=now,
    )
    session.add(run)
    session.flush()
    return run


def add_piece(
    session: Session,
    run_id: int,
    sheet_number: int,
    sheet: Sheet,
    records: Sequence[Record],
) -> None:
    """Keep the next lines of a sheet."""
    run = session.get_one(ImportRun, run_id, with_for_update=True)
    kept = [dict(one) for one in run.sheets]
    if sheet_number == len(kept):
        layout = sheet.layout
        kept.append(
            {
                "name": sheet.name[-200:],
                "heading": list(sheet.heading),
                "fields": list(layout.fields),
                "system": layout.system,
                "whole": layout.whole,
                "lines": 0,
            }
        )
    kept[sheet_number]["lines"] += len(records)
    packed = zlib.compress(json.dumps(records, ensure_ascii=False).encode(), 1)
    session.add(
        ImportChunk(
            run_id=run.id,
            number=run.chunk,
            sheet=sheet_number,
            data=packed,
            problems=[],
        )
    )
    run.sheets, run.lines, run.chunk = kept, run.lines + len(records), run.chunk + 1


def received(session: Session, run_id: int) -> None:
    """Say that a file is there as a whole. Raises InvalidInput if it holds no line."""
    run = session.get_one(ImportRun, run_id)
    if not run.lines:
        raise InvalidInput(N_("There is no line in the file."), field="file")
    run.state, run.chunk = ImportState.READY, 0


def find(session: Session, newsletter: Newsletter, run_id: int) -> ImportRun:
    """Return an import of a newsletter. Raises NotFound."""
    run = session.get(ImportRun, run_id)
    if run is None or run.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such import (any more)."))
    return run


def all_of(session: Session, newsletter: Newsletter) -> list[ImportRun]:
    """Return a newsletter's imports, newest first."""
    query = select(ImportRun).where(
        ImportRun.newsletter_id == newsletter.id,
        ImportRun.state != ImportState.RECEIVING,
    )
    return list(session.scalars(query.order_by(ImportRun.id.desc())))


def layout_of(sheet: dict[str, Any]) -> Layout:
    """Return what a sheet's columns are taken for."""
    return Layout(tuple(sheet["fields"]), sheet["system"], sheet["whole"])


def preview(session: Session, run: ImportRun) -> list[list[list[str]]]:
    """Return the first lines of each sheet, as many cells as its heading has."""
    found = []
    for number, sheet in enumerate(run.sheets):
        query = (
            select(ImportChunk.data)
            .where(ImportChunk.run_id == run.id, ImportChunk.sheet == number)
            .order_by(ImportChunk.number)
            .limit(1)
        )
        width = len(sheet["heading"])
        records = _unpack(session.scalar(query))[:PREVIEW]
        found.append(
            [[*cells[:width], *[""] * (width - len(cells))] for _line, cells in records]
        )
    return found


def start(
    session: Session,
    run: ImportRun,
    layouts: Sequence[Layout],
    *,
    consent: str,
    asks: bool,
    trial: bool,
    now: datetime,
) -> None:
    """Let the worker try a file, or bring it in. Raises InvalidInput or Conflict."""
    session.refresh(run, with_for_update=True)
    if run.state not in OPEN:
        raise Conflict(N_("This import has been started already."))
    kept = [dict(sheet) for sheet in run.sheets]
    for sheet, layout in zip(kept, layouts, strict=True):
        if len(layout.fields) != len(sheet["heading"]):
            raise InvalidInput(N_("Say of each column what it is."))
        columns.check(layout)
        sheet.update(fields=list(layout.fields), whole=layout.whole)
    run.sheets, run.asks = kept, asks
    run.consent = consent.strip()[:MAX_CONSENT_CHARACTERS]
    if not trial and not run.consent:
        raise InvalidInput(
            N_("Say where their consent comes from: you may have to show it one day."),
            field="consent",
        )
    run.state = ImportState.CHECKING if trial else ImportState.RUNNING
    run.chunk = run.place = run.done = 0
    run.counts, run.started_at = {}, now
    session.execute(
        update(ImportChunk).where(ImportChunk.run_id == run.id).values(problems=[])
    )
    if not trial:
        recording.note(
            session,
            "imported",
            "readers",
            newsletter_id=run.newsletter_id,
            label=run.file_name,
            after={"lines": run.lines, "consent": run.consent, "asks": asks},
        )


def cancel(session: Session, run: ImportRun, *, now: datetime) -> None:
    """Stop where it is: who is imported stays, a trial goes back to its columns."""
    session.refresh(run, with_for_update=True)
    if run.state == ImportState.CHECKING:
        run.state = ImportState.READY
    elif run.state == ImportState.RUNNING:
        run.state, run.finished_at = ImportState.CANCELLED, now
        _empty(session, run)


def discard(session: Session, run: ImportRun) -> None:
    """Delete a file and its report. Raises Conflict while it is being imported."""
    session.refresh(run, with_for_update=True)
    if run.state in UNDER_WAY:
        raise Conflict(N_("It is being imported. Stop it first."))
    session.delete(run)


def under_way(session: Session) -> list[int]:
    """Return the imports that a worker should go on with."""
    query = select(ImportRun.id).where(ImportRun.state.in_(UNDER_WAY))
    return list(session.scalars(query.order_by(ImportRun.id)))


class Piece(NamedTuple):
    """A piece of a file that was understood before its turn came."""

    started_at: datetime
    number: int
    looked: Looked


def look(
    session: Session,
    settings: Settings,
    run_id: int,
    number: int | None,
    *,
    now: datetime,
) -> Piece | None:
    """Understand a piece (None: the next one) for `step`; None if there is no such."""
    run = session.get(ImportRun, run_id)
    if run is None or run.state not in UNDER_WAY or run.asks or run.place:
        return None
    chunk = session.get(ImportChunk, (run.id, run.chunk if number is None else number))
    if chunk is None or not chunk.data or run.started_at is None:
        return None
    newsletter = session.get_one(Newsletter, run.newsletter_id)
    layout = layout_of(run.sheets[chunk.sheet])
    lines = Lines(session, settings, newsletter, layout, Status.ACTIVE, now)
    return Piece(run.started_at, chunk.number, lines.look(_unpack(chunk.data)))


def step(
    session: Session,
    settings: Settings,
    run_id: int,
    *,
    piece: Piece | None = None,
    now: datetime,
) -> bool:
    """Go on with one piece; tell whether there is more. Safe from several workers.

    `piece` spares the work, if it is the one whose turn it is.
    """
    run = session.get(ImportRun, run_id, with_for_update=True)
    if run is None or run.state not in UNDER_WAY or run.started_at is None:
        return False
    chunk = session.get(ImportChunk, (run.id, run.chunk))
    if chunk is None:
        return _finish(session, run, now)
    looked = piece.looked if piece and _fits(piece, run) else None
    records = looked.records if looked else _unpack(chunk.data)
    size = ASKED_AT_ONCE if run.asks and run.state == ImportState.RUNNING else 10**6
    part = records[run.place : run.place + size]
    report = Report(most=10**9)
    newsletter = session.get_one(Newsletter, run.newsletter_id)
    importer = Importer(
        session,
        settings,
        newsletter,
        layout_of(run.sheets[chunk.sheet]),
        status=Status.PENDING if run.asks else Status.ACTIVE,
        source=_source(run, newsletter),
        at=run.started_at,
        now=now,
    )
    if run.state == ImportState.CHECKING:
        _try(session, run, importer, looked or part, report)
    else:
        importer.run(looked or part, report)
    _move_on(run, chunk, len(records), part, report)
    return True


def fail(session: Session, run_id: int, *, now: datetime) -> None:
    """Give an import up that breaks off each time."""
    run = session.get(ImportRun, run_id, with_for_update=True)
    if run is not None and run.state in UNDER_WAY:
        run.state, run.finished_at = ImportState.FAILED, now
        _empty(session, run)


def problems(session: Session, run: ImportRun) -> Iterator[tuple[str, Problem]]:
    """Yield the lines that brought nobody, each with the name of its file.

    In the order of the file: pieces have theirs by address (see `sheets.pieces`).
    """
    rows = _with_problems(session, run)
    for (sheet, _window), together in groupby(rows, lambda row: row[:2]):
        found = [Problem(*one) for row in together for one in row[2]]
        for problem in in_order(found):
            yield run.sheets[sheet]["name"], problem


def _with_problems(
    session: Session, run: ImportRun
) -> Iterator[tuple[int, int, list[list[Any]]]]:
    """Yield of each piece its sheet, what was read ahead with it, and its problems."""
    number, sheet, place = -1, -1, 0
    while True:
        query = (
            select(ImportChunk.number, ImportChunk.sheet, ImportChunk.problems)
            .where(ImportChunk.run_id == run.id, ImportChunk.number > number)
            .order_by(ImportChunk.number)
            .limit(1)
        )
        row = session.execute(query).first()
        if row is None:
            return
        place = place + 1 if row.sheet == sheet else 0
        number, sheet = row.number, row.sheet
        yield sheet, -(-place // sheets.WINDOW_BATCHES), row.problems


def forget_old(session: Session, *, now: datetime, limit: int) -> int:
    """Delete what has been kept long enough; return how much. Call until it is less."""
    old = select(ImportRun.id).where(
        (ImportRun.created_at <= now - KEPT)
        | (
            (ImportRun.state == ImportState.RECEIVING)
            & (ImportRun.created_at <= now - ABANDONED)
        ),
        ImportRun.state.not_in(UNDER_WAY),
    )
    ids = list(session.scalars(old.order_by(ImportRun.id).limit(1)))
    for run_id in ids:
        if not _forget_keys(session, run_id):
            session.execute(delete(ImportRun).where(ImportRun.id == run_id))
    return limit if ids else 0


def forget_trials(session: Session) -> bool:
    """Delete some of what trials remembered; tell whether there may be more."""
    query = (
        select(ImportKey.run_id)
        .join(ImportRun, ImportRun.id == ImportKey.run_id)
        .where(ImportRun.state != ImportState.CHECKING)
        .limit(1)
    )
    run_id = session.scalar(query)
    return run_id is not None and _forget_keys(session, run_id)


def _forget_keys(session: Session, run_id: int) -> bool:
    """Delete a trial's keys, some of them; tell whether there were any."""
    mine = ImportKey.run_id == run_id
    some = select(ImportKey.key).where(mine).order_by(ImportKey.key)
    last = session.scalar(some.offset(FORGOTTEN_AT_ONCE).limit(1))
    found = session.scalar(some.limit(1)) is not None
    upto = [] if last is None else [ImportKey.key < last]
    session.execute(delete(ImportKey).where(mine, *upto))
    return found


def _fits(piece: Piece, run: ImportRun) -> bool:
    """Tell whether a piece is the next one, as a whole, of this very start."""
    said = piece.started_at, piece.number
    return not run.asks and not run.place and said == (run.started_at, run.chunk)


def _source(run: ImportRun, newsletter: Newsletter) -> Source:
    """Return what stands with each consent: who imported which file, and why."""
    words = i18n.language(newsletter.language).gettext(
        N_("%(editor)s imported the file %(file)s and wrote: %(source)s"),
        editor=run.editor.email if run.editor else "–",
        file=run.file_name,
        source=run.consent,
    )
    return Source(run.consent, words)


def _try(
    session: Session,
    run: ImportRun,
    importer: Importer,
    batch: Looked | Sequence[Record],
    report: Report,
) -> None:
    """Do all but write. What stood in an earlier piece is known by its hash."""
    readers = importer.look(batch, report)
    keys = {reader.hashed[:KEY_CHARACTERS]: key for key, reader in readers.items()}
    query = select(ImportKey.key).where(
        ImportKey.run_id == run.id, bulk.among(session, ImportKey.key, list(keys))
    )
    for seen in session.scalars(query):
        reader = readers.pop(keys.pop(seen))
        report.note("duplicate", reader.line, reader.email)
    rows = [(run.id, key) for key in keys]
    bulk.insert(session, ImportKey, ("run_id", "key"), rows)
    importer.sort(readers, report)


def _move_on(
    run: ImportRun,
    chunk: ImportChunk,
    length: int,
    part: Sequence[Record],
    report: Report,
) -> None:
    counts = Counter(run.counts)
    counts.update({str(outcome): number for outcome, number in report.counts.items()})
    run.counts = dict(counts)
    rows = [
        [one.line, one.email, one.outcome, one.message, dict(one.values)]
        for one in in_order(report.problems)
    ]
    chunk.problems = [*chunk.problems, *rows]
    run.done += len(part)
    run.place += len(part)
    if run.place >= length:
        run.chunk, run.place = run.chunk + 1, 0
        if run.state == ImportState.RUNNING:
            chunk.data = None


def _finish(session: Session, run: ImportRun, now: datetime) -> bool:
    if run.state == ImportState.CHECKING:
        run.state = ImportState.CHECKED
    else:
        run.state, run.finished_at = ImportState.DONE, now
        count_anew(session, "subscriber", "subscription")
    return False


def _empty(session: Session, run: ImportRun) -> None:
    session.execute(
        update(ImportChunk).where(ImportChunk.run_id == run.id).values(data=None)
    )


def _unpack(data: bytes | None) -> list[Record]:
    if not data:
        return []
    return [(line, cells) for line, cells in json.loads(zlib.decompress(data))]
