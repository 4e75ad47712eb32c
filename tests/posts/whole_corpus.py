"""Read and store every feed of feedparser's own test set.

    python -m tests.posts.whole_corpus           fetches the set with pip
    python -m tests.posts.whole_corpus FOLDER    takes it from there

Prints how many were stored and refused, and why. Fails if one is neither, if a reason
is no sentence in both languages, or if storing twice changes anything.
"""

import gzip
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import create_engine, func, select

from newsletter import i18n, migrate
from newsletter.db import Database, engine_options, prepare_engine
from newsletter.errors import FeedError
from newsletter.models import Post
from newsletter.posts.entries import Parsed
from newsletter.posts.feeds import Reader
from newsletter.posts.importer import import_entries
from tests.factories import make_newsletter

HEADER = re.compile(rb"^Header:\s+Content-type:(.+)$", re.MULTILINE | re.IGNORECASE)
SET = "feedparser==6.0.14"
FEED_URL = "https://blogg.example/feed/"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def content_type(body: bytes) -> str:
    """Return the content type that a test feed of feedparser's asks to be served as."""
    found = HEADER.search(body)
    return found[1].decode("latin-1").strip() if found else ""


def is_reason(message: str) -> bool:
    """A whole sentence, and said in Swedish too."""
    swedish = i18n.language("sv").gettext(message)
    return message.endswith((".", "%(url)s")) and swedish != message


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each feed, unpacked as a browser would."""
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".xml", ".gz", ".z"}:
            yield str(file.relative_to(folder)), unpacked(file.read_bytes())


def unpacked(body: bytes) -> bytes:
    """Unpack gzip and both kinds of "deflate"; some are broken on purpose."""
    for unpack in (
        gzip.decompress,
        zlib.decompress,
        partial(zlib.decompress, wbits=-zlib.MAX_WBITS),
    ):
        try:
            return unpack(body)
        except (OSError, EOFError, zlib.error):
            continue
    return body


@contextmanager
def fetched() -> Iterator[Path]:
    """Fetch the set with pip and unpack it for as long as it is needed."""
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--no-binary", ":all:", "-d", place, SET], check=True)
        (archive,) = Path(place).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="data")
        (folder,) = Path(place).glob("*/tests")
        yield folder


@contextmanager
def empty_database() -> Iterator[Database]:
    """Make a database with the schema and nothing else."""
    with tempfile.TemporaryDirectory() as place:
        url = f"sqlite:///{place}/corpus.sqlite3"
        engine = create_engine(url, **engine_options(url))
        prepare_engine(engine)
        migrate.upgrade(engine)
        yield Database(engine)
        engine.dispose()


def store(database: Database, slug: str, parsed: Parsed) -> str:
    """Store a feed twice; return what is wrong with that, if anything."""
    with database.transaction() as session:
        newsletter = make_newsletter(session, slug)
        first = import_entries(session, newsletter, parsed, by_hand=True, now=NOW)
        again = import_entries(session, newsletter, parsed, by_hand=True, now=NOW)
        held = session.scalar(
            select(func.count(Post.id)).where(Post.newsletter_id == newsletter.id)
        )
    known = first.new + first.waiting + first.unchanged
    if held != first.new + first.waiting or known != len(parsed.entries):
        return "WRONG: not every entry was stored or known again"
    changed = again.new + again.changed + again.waiting + again.held
    return "WRONG: storing it twice changed something" if changed else ""


def look_at(reader: Reader, database: Database, number: int, body: bytes) -> list[str]:
    """Return what came of one feed, and of its entries, in words to be counted."""
    try:
        parsed = reader.read(body, url=FEED_URL, content_type=content_type(body))
    except FeedError as error:
        return [f"feeds refused: {error}", *_unclear([error.message])]
    said = [reason for _title, reason in parsed.refused]
    found = [f"entries refused: {reason}" for reason in said]
    found += _unclear([*said, *parsed.warnings])
    if not parsed.entries:
        return ["feeds read, without an entry that could be mailed", *found]
    wrong = store(database, f"n-{number}", parsed)
    found += ["entries stored"] * len(parsed.entries)
    return ["feeds stored", *found, *([wrong] if wrong else [])]


def _unclear(reasons: list[str]) -> list[str]:
    return [
        f"WRONG: no reason: {reason}" for reason in reasons if not is_reason(reason)
    ]


def main(folder: Path) -> int:
    """Print what came of every feed in a folder; return 1 if anything is wrong."""
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    number = 0
    with Reader() as reader, empty_database() as database:
        for number, (name, body) in enumerate(files(folder), 1):
            try:
                counts.update(look_at(reader, database, number, body))
            except Exception as error:  # to be counted: the others are looked at too
                counts[f"WRONG: {name}: {error!r}"] += 1
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{number} feeds in {seconds:.1f} s\n")
    for what, count in counts.most_common():
        sys.stdout.write(f"{count:6} {what}\n")
    return int(not number or any(what.startswith("WRONG") for what in counts))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with fetched() as found:
        sys.exit(main(found))
