"""CSV files as spreadsheets and other services write them, one or a ZIP file's several.

Read a line at a time, whatever their encoding and delimiter are.
"""

import codecs
import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import IO, TypeVar

from newsletter.errors import N_, InvalidInput
from newsletter.subscribers import columns
from newsletter.subscribers.columns import Layout

BATCH_RECORDS = 4000
# Read ahead, so that addresses that stand side by side in an index come together.
WINDOW_BATCHES = 15
MAX_WINDOW_CHARACTERS = 32_000_000
MAX_LINE_CHARACTERS = 100_000
MAX_COLUMNS = 300
MAX_HEADING_CHARACTERS = 200
MAX_FILES = 200  # in a ZIP file
DELIMITERS = ",;\t|"
# What a person may choose where the guess is wrong.
ENCODINGS = {
    "": N_("Tell by itself"),
    "utf-8-sig": "UTF-8",
    "cp1252": "Windows-1252",
    "mac_roman": "Macintosh",
    "utf-16": "UTF-16",
}
T = TypeVar("T")
Record = tuple[int, list[str]]  # the line it begins on, counted from 1, and its cells
Opener = Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One CSV file: its heading, what we take its columns for, its records."""

    name: str
    heading: tuple[str, ...]
    layout: Layout
    records: Iterator[Record]


def read(file: IO[bytes], name: str, encoding: str = "") -> Iterator[Sheet]:
    """Read a file that can be read twice. Take a sheet's records before the next.

    From a ZIP file come the sheets of a service that we know, or else those that have
    addresses. Raises InvalidInput if it cannot be read as CSV, also in the middle.
    """
    if encoding not in ENCODINGS:
        raise InvalidInput(N_("Choose one of the encodings on the page."))
    start = file.read(4)
    file.seek(0)
    if start == b"PK\x03\x04":
        yield from _read_zip(file, encoding)
        return
    with _opened(lambda: _again(file), name, encoding) as sheet:
        yield sheet


def batches(records: Iterable[T], size: int = BATCH_RECORDS) -> Iterator[list[T]]:
    """Yield some thousand at a time, each for a transaction of its own."""
    batch: list[T] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def pieces(sheet: Sheet, size: int = BATCH_RECORDS) -> Iterator[list[Record]]:
    """Yield a sheet's records in batches, in a good order to import them.

    After the first BATCH_RECORDS, which are shown, they come by address, as far as one
    reads ahead: an index takes up neighbours several times as fast.
    """
    if "email" not in sheet.layout.fields:
        return batches(sheet.records, size)
    by_address = _by_address(sheet.records, sheet.layout.fields.index("email"))
    return batches(by_address, size)


def _by_address(records: Iterator[Record], column: int) -> Iterator[Record]:
    yield from islice(records, BATCH_RECORDS)
    window: list[Record] = []
    room = MAX_WINDOW_CHARACTERS
    try:
        for record in records:
            window.append(record)
            room -= sum(map(len, record[1]))
            if len(window) == WINDOW_BATCHES * BATCH_RECORDS or room < 0:
                yield from _sorted(window, column)
                window.clear()
                room = MAX_WINDOW_CHARACTERS
    except InvalidInput:
        yield from _sorted(window, column)
        raise
    yield from _sorted(window, column)


def _sorted(records: list[Record], column: int) -> list[Record]:
    """Put records in the order of their addresses; of one address, as they came."""
    return sorted(
        records,
        key=lambda one: (
            one[1][column].strip().casefold() if column < len(one[1]) else ""
        ),
    )


def _again(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _read_zip(file: IO[bytes], encoding: str) -> Iterator[Sheet]:
    try:
        with zipfile.ZipFile(file) as archive:
            for name in _wanted(archive, encoding):
                with _opened(_member(archive, name), name, encoding) as sheet:
                    yield sheet
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError):
        raise InvalidInput(
            N_("The ZIP file is damaged or has a password. Unpack it first.")
        ) from None


def _wanted(archive: zipfile.ZipFile, encoding: str) -> list[str]:
    """Choose the sheets with readers: exports hold other files with addresses too."""
    names = [
        info.filename
        for info in archive.infolist()[:MAX_FILES]
        if PurePosixPath(info.filename).suffix.casefold() == ".csv"
        and not PurePosixPath(info.filename).name.startswith("._")
    ]
    layouts = {}
    for name in names:
        try:
            with _opened(_member(archive, name), name, encoding) as sheet:
                layouts[name] = sheet.layout
        except InvalidInput:
            continue
    known = [name for name in names if name in layouts and layouts[name].system]
    with_addresses = [
        name for name in names if name in layouts and "email" in layouts[name].fields
    ]
    if not (known or with_addresses):
        raise InvalidInput(N_("The ZIP file holds no CSV file with addresses."))
    return known or with_addresses


def _member(archive: zipfile.ZipFile, name: str) -> Opener:
    return lambda: archive.open(name)


@contextmanager
def _opened(opener: Opener, name: str, encoding: str) -> Iterator[Sheet]:
    encoding = encoding or _encoding(opener)
    file = io.TextIOWrapper(opener(), encoding, errors="replace", newline="")
    try:
        yield _sheet(file, name)
    finally:
        file.detach()


def _sheet(file: io.TextIOWrapper, name: str) -> Sheet:
    head = _line(file)
    passed = 0
    if head.lower().startswith("sep=") and len(head.strip()) == 5:  # Excel's own
        head, passed = _line(file), 1
    delimiter = max(DELIMITERS, key=head.count)
    heading = [
        cell.strip() for cell in next(csv.reader([head], delimiter=delimiter), [])
    ]
    if len(heading) > MAX_COLUMNS:
        raise InvalidInput(
            N_("The file has more than %(limit)s columns."), limit=MAX_COLUMNS
        )
    records = _records(file, delimiter, passed + 1)
    if any("@" in cell for cell in heading):  # no heading: the first line is a reader
        layout = Layout(tuple("email" if "@" in cell else "" for cell in heading))
        first = iter([(passed + 1, heading)])
        blank = ("",) * len(heading)
        return Sheet(name, blank, layout, _both(first, records))
    shown = tuple(cell[:MAX_HEADING_CHARACTERS].strip("\ufeff") for cell in heading)
    return Sheet(name, shown, columns.recognise(shown, name), records)


def _both(first: Iterator[Record], rest: Iterator[Record]) -> Iterator[Record]:
    yield from first
    yield from rest


def _records(file: io.TextIOWrapper, delimiter: str, passed: int) -> Iterator[Record]:
    reader = csv.reader(_lines(file), delimiter=delimiter)
    while True:
        number = reader.line_num + passed + 1  # where this record begins
        try:
            cells = next(reader, None)
        except (csv.Error, UnicodeError, _TooLongError):
            raise InvalidInput(
                N_("Line %(line)s cannot be read as CSV. Nothing after it was read."),
                line=number,
            ) from None
        if cells is None:
            return
        if any(cells):
            yield number, cells


def _lines(file: io.TextIOWrapper) -> Iterator[str]:
    while line := file.readline(MAX_LINE_CHARACTERS):
        if len(line) >= MAX_LINE_CHARACTERS:
            raise _TooLongError
        yield line


def _line(file: io.TextIOWrapper) -> str:
    try:
        return file.readline(MAX_LINE_CHARACTERS)
    except UnicodeError:
        raise _not_text() from None


class _TooLongError(Exception):
    """A line that no spreadsheet wrote."""


def _encoding(opener: Opener) -> str:
    """Tell how a file is written, reading it once, a piece at a time."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    file = opener()
    start = file.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in start:
        if start[1::2] == b"\0\0" and start[0] and start[2]:
            return "utf-16-le"
        raise _not_text()
    piece = start
    try:
        while piece:
            decoder.decode(piece)
            piece = file.read(1 << 20)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"  # what Excel in Swedish writes
    return "utf-8-sig"


def _not_text() -> InvalidInput:
    return InvalidInput(N_("That is not a text file. Save it as CSV first."))
