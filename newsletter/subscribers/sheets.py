"""CSV files as spreadsheets and other services write them, one or a ZIP file's several.

Read a line at a time, whatever their encoding and delimiter are.
"""

import codecs
import csv
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain, islice, takewhile
from operator import itemgetter
from pathlib import PurePosixPath
from typing import IO

from newsletter.errors import N_, InvalidInput
from newsletter.subscribers import columns
from newsletter.subscribers.columns import Layout

BATCH_RECORDS = 4000
# Read ahead, so that addresses that stand side by side in an index come together.
WINDOW_BATCHES = 15
MAX_WINDOW_CHARACTERS = 32_000_000
MAX_LINE_CHARACTERS = 100_000
AT_ONCE = 500  # records that fit a processor's cache
READ_CHARACTERS = 1 << 16  # of a file, at a time
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
Record = tuple[int, list[str]]  # the line it begins on, counted from 1, and its cells
Opener = Callable[[], IO[bytes]]
# Follows the last line: a quote that nobody closed swallows it.
_END = "\ue000 the end"
_BREAK = re.compile("\r\n?|\n")


class _TooLongError(Exception):
    """A line that no spreadsheet wrote."""


_BROKEN = (
    *(csv.Error, UnicodeError, _TooLongError),
    *(zipfile.BadZipFile, zlib.error, EOFError),
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One CSV file: its heading, what we take its columns for, its records."""

    name: str
    heading: tuple[str, ...]
    layout: Layout
    blocks: Iterator[list[Record]]  # some at a time; what is broken comes after them

    @property
    def records(self) -> Iterator[Record]:
        """Return what is left of its records, one by one."""
        return chain.from_iterable(self.blocks)


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


def pieces(sheet: Sheet, size: int = BATCH_RECORDS) -> Iterator[list[Record]]:
    """Yield a sheet's records some at a time, in a good order to import them.

    After the first BATCH_RECORDS, which are shown, they come by address, as far as one
    reads ahead: an index takes up neighbours several times as fast. What stands before
    a broken line comes before the error.
    """
    fields = sheet.layout.fields
    for number, window in enumerate(_windows(sheet.blocks)):
        if number and "email" in fields:
            window = _sorted(window, fields.index("email"))
        for at in range(0, len(window), size):
            yield window[at : at + size]


def _windows(blocks: Iterator[list[Record]]) -> Iterator[list[Record]]:
    """Yield as many records as are read ahead, at first BATCH_RECORDS."""
    window: list[Record] = []
    size, room = BATCH_RECORDS, MAX_WINDOW_CHARACTERS
    try:
        for block in blocks:
            window += block
            room -= sum(map(len, chain.from_iterable(map(itemgetter(1), block))))
            if len(window) < size and room >= 0:
                continue
            yield window[:size]
            window = window[size:]
            size, room = WINDOW_BATCHES * BATCH_RECORDS, MAX_WINDOW_CHARACTERS
    except InvalidInput:
        yield window
        raise
    yield window


def _sorted(records: list[Record], column: int) -> list[Record]:
    """Put records in the order of their addresses; of one address, as they came."""
    keys = list(map(str.casefold, map(str.strip, cells_of(records, column))))
    order = sorted(range(len(records)), key=keys.__getitem__)
    return list(map(records.__getitem__, order))


def cells_of(records: Sequence[Record], column: int) -> list[str]:
    """Return what stands in a column, nothing where a record is too short."""
    try:
        return [cells[column] for _line, cells in records]
    except IndexError:
        return [c[column] if column < len(c) else "" for _line, c in records]


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
    blocks = _blocks(file, delimiter, passed + 1)
    if any("@" in cell for cell in heading):  # no heading: the first line is a reader
        layout = Layout(tuple("email" if "@" in cell else "" for cell in heading))
        first = [(passed + 1, heading)]
        blank = ("",) * len(heading)
        return Sheet(name, blank, layout, chain([first], blocks))
    shown = tuple(cell[:MAX_HEADING_CHARACTERS].strip("\ufeff") for cell in heading)
    return Sheet(name, shown, columns.recognise(shown, name), blocks)


def _blocks(
    file: io.TextIOWrapper, delimiter: str, passed: int
) -> Iterator[list[Record]]:
    """Yield records, each with the line it begins on."""
    reader = csv.reader(chain(_lines(file), [_END]), delimiter=delimiter)
    number, over, broken = passed + 1, False, False
    while not over:
        rows: list[list[str]] = []
        before = reader.line_num
        try:
            for cells in islice(reader, AT_ONCE):
                rows.append(cells)
        except _BROKEN:
            over = broken = True
        if rows and rows[-1] and rows[-1][-1].endswith(_END):
            over, broken = True, rows.pop() != [_END]
        several = broken or reader.line_num - before != len(rows) + over
        *starts, number = _starts(rows, number, several=several)
        yield [one for one in zip(starts, rows, strict=True) if any(one[1])]
    if broken:
        raise InvalidInput(
            N_("Line %(line)s cannot be read as CSV. Nothing after it was read."),
            line=number,
        )


def _starts(rows: list[list[str]], first: int, *, several: bool) -> Iterable[int]:
    """Return where records begin, and the next; some may take several lines."""
    if not several:
        return range(first, first + len(rows) + 1)
    lines = (1 + sum(len(_BREAK.findall(cell)) for cell in cells) for cells in rows)
    return accumulate(lines, initial=first)


def _lines(file: io.TextIOWrapper) -> Iterator[str]:
    return chain.from_iterable(_some_lines(file))


def _some_lines(file: io.TextIOWrapper) -> Iterator[list[str]]:
    rest = ""
    while text := file.read(READ_CHARACTERS):
        lines = io.StringIO(rest + text, newline="").readlines()
        if max(map(len, lines)) >= MAX_LINE_CHARACTERS:
            yield list(takewhile(lambda one: len(one) < MAX_LINE_CHARACTERS, lines))
            raise _TooLongError
        rest = lines.pop()  # perhaps not all of it
        yield lines
    yield [rest] if rest else []


def _line(file: io.TextIOWrapper) -> str:
    try:
        return file.readline(MAX_LINE_CHARACTERS)
    except UnicodeError:
        raise _not_text() from None


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
