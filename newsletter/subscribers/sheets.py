"""CSV files as spreadsheets write them: encoding, delimiter, columns by name."""

import codecs
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from newsletter.errors import N_, InvalidInput
from newsletter.subscribers.exporting import plain

BATCH_LINES = 500
MAX_CELL_CHARACTERS = 2000
COLUMN_NAMES = {
    "email": {"email", "e-mail", "mail", "epost", "e-post", "e-postadress"}
    | {"email address", "epostadress", "mejl", "mejladress", "address"},
    "name": {"name", "namn", "full name"},
    "status": {"status"},
    "rhythm": {"rhythm"},
    "language": {"language", "språk", "lang"},
    "topics": {"topics", "ämnen"},
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, its cells by our column names."""

    number: int
    cells: dict[str, str]


def open_file(path: Path) -> TextIO:
    """Open a file in the encoding it is written in: UTF-8, UTF-16 or Windows-1252.

    Raises InvalidInput if it is not a text file.
    """
    return path.open(encoding=_encoding(path), newline="")


def read_lines(file: TextIO) -> Iterator[Line]:
    """Read a CSV file with a heading; comma, semicolon or tab, whichever it has.

    Raises InvalidInput if no column holds addresses, or the file is not CSV.
    """
    head = file.readline(10_000)
    delimiter = max(",;\t", key=head.count)
    names = [
        _column(cell) for cell in next(csv.reader([head], delimiter=delimiter), [])
    ]
    if "email" not in names:
        raise InvalidInput(
            N_("The file has no column called email. Its first line must name them.")
        )
    reader = csv.reader(file, delimiter=delimiter)
    while True:
        number = reader.line_num + 2  # where this record begins, under the heading
        try:
            cells = next(reader, None)
        except (csv.Error, UnicodeDecodeError):
            raise InvalidInput(
                N_("Line %(line)s cannot be read as CSV. Nothing after it was read."),
                line=number,
            ) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield Line(number, _named(names, cells))


def batches(lines: Iterable[Line], size: int = BATCH_LINES) -> Iterator[list[Line]]:
    """Yield lines some hundred at a time, each for a transaction of its own."""
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _column(cell: str) -> str:
    name = cell.strip().strip("\ufeff").casefold()
    return next((ours for ours, many in COLUMN_NAMES.items() if name in many), "")


def _named(names: list[str], cells: list[str]) -> dict[str, str]:
    found = {"email": ""}
    for name, cell in zip(names, cells, strict=False):
        if name:
            found[name] = plain(cell.strip())[:MAX_CELL_CHARACTERS]
    return found


def _encoding(path: Path) -> str:
    """Tell how a file is written, reading it once, a piece at a time."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        start = file.read(4)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if b"\0" in start:
            raise InvalidInput(N_("That is not a text file. Save it as CSV first."))
        piece = start
        try:
            while piece:
                decoder.decode(piece)
                piece = file.read(1 << 20)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"  # what Excel in Swedish writes
    return "utf-8-sig"
