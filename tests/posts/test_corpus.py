"""Hundreds of feeds, good and bad: each is stored, or refused with a clear reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from newsletter.errors import FeedError
from newsletter.models import Post
from newsletter.posts import importer
from newsletter.posts.entries import Parsed
from newsletter.posts.feeds import Reader
from tests.factories import NOW, make_newsletter
from tests.posts import builder
from tests.posts.builder import Built
from tests.posts.whole_corpus import FEED_URL, content_type, is_reason

SAMPLE = Path(__file__).parent / "corpus" / "feedparser"
FILES = sorted(SAMPLE.rglob("*.xml"))
BUILT = list(builder.feeds())


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader


def read(reader: Reader, body: bytes, kind: str) -> Parsed | FeedError:
    try:
        return reader.read(body, url=FEED_URL, content_type=kind)
    except FeedError as error:
        return error


def check_entries(parsed: Parsed) -> None:
    assert all(is_reason(reason) for _title, reason in parsed.refused)
    assert all(is_reason(warning) for warning in parsed.warnings)
    for entry in parsed.entries:
        assert 0 < len(entry.title) <= 300
        assert "\n" not in entry.title + entry.excerpt + entry.author + entry.byline
        assert "\x00" not in entry.html + entry.title + entry.excerpt + entry.guid
        assert "<script" not in entry.html.lower()
        assert "onclick" not in entry.html
        assert len(entry.excerpt) <= 280
        assert entry.link == "" or entry.link.startswith(("http://", "https://"))


def test_there_are_enough_of_them() -> None:
    assert len(BUILT) + len(FILES) > 600
    assert len({built.name for built in BUILT}) == len(BUILT)


@pytest.mark.parametrize("built", BUILT, ids=lambda built: built.name)
def test_a_feed_of_any_shape_is_read_or_refused(reader: Reader, built: Built) -> None:
    found = read(reader, built.body, built.content_type)
    if isinstance(found, FeedError):
        assert built.at_least is None
        assert is_reason(found.message)
        return
    check_entries(found)
    assert len(found.entries) >= (built.at_least or 0)
    words = "".join(entry.html + entry.excerpt for entry in found.entries)
    assert built.says in words
    assert "root:" not in words


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SAMPLE)))
def test_feedparsers_own_feeds_are_read_or_refused(reader: Reader, file: Path) -> None:
    body = file.read_bytes()
    found = read(reader, body, content_type(body))
    if isinstance(found, FeedError):
        assert is_reason(found.message)
    else:
        check_entries(found)


def test_everything_that_is_read_can_be_stored_twice(
    session: Session, reader: Reader
) -> None:
    some = [b for b in BUILT if not b.name.endswith("hundreds")][::3]
    bodies = [(b.body, b.content_type) for b in some]
    bodies += [(body := f.read_bytes(), content_type(body)) for f in FILES[::2]]
    newsletters = stored = 0
    for body, kind in bodies:
        found = read(reader, body, kind)
        if isinstance(found, FeedError) or not found.entries:
            continue
        newsletters += 1
        newsletter = make_newsletter(session, f"n-{newsletters}")
        first = importer.import_entries(
            session, newsletter, found, by_hand=True, now=NOW
        )
        again = importer.import_entries(
            session, newsletter, found, by_hand=True, now=NOW
        )
        stored += first.new
        assert first.new + first.unchanged == len(found.entries)
        assert first.new >= 1
        assert (again.new, again.changed) == (0, 0), found.entries[:3]
    assert newsletters > 120
    assert session.scalar(select(func.count(Post.id))) == stored
