"""The reading process: killed when it takes too long, without secrets, limited."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from newsletter.errors import FeedError
from newsletter.posts import feeds, parse_child
from newsletter.posts.feeds import Reader, read_feed
from tests.feed_server import RSS

FLOOD = b'<rss version="2.0"><channel><item ' + b" ".join(
    b'a%d="x"' % n for n in range(60_000)
)


def test_a_flood_of_attributes_is_stopped_and_the_next_feed_is_read() -> None:
    with Reader(wall_seconds=1.0) as reader:
        started = time.monotonic()
        with pytest.raises(FeedError, match="too long to read"):
            reader.read(FLOOD + b"/></channel></rss>")
        assert time.monotonic() - started < 20
        assert reader.read(RSS).entries[0].title == "En egen kväll"


def test_one_process_reads_many_feeds() -> None:
    with Reader() as reader:
        reader.read(RSS)
        first = reader.process_id
        for _ in range(20):
            reader.read(RSS)
        assert reader.process_id == first


def test_a_process_that_died_is_replaced() -> None:
    with Reader() as reader:
        reader.read(RSS)
        assert reader.process_id
        os.kill(reader.process_id, 9)
        with suppress(FeedError):  # it may still be dying
            reader.read(RSS)
        assert len(reader.read(RSS).entries) == 1


def test_the_process_ends_with_its_reader() -> None:
    with Reader() as reader:
        reader.read(RSS)
        process_id = reader.process_id
    assert reader.process_id is None
    assert not Path(f"/proc/{process_id}").exists()


def test_the_process_knows_no_secrets_and_has_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEWSLETTER_SECRET_KEYS", "hemligt")
    with Reader() as reader:
        reader.read(RSS)
        place = Path(f"/proc/{reader.process_id}")
        assert b"hemligt" not in (place / "environ").read_bytes()
        limits = (place / "limits").read_text()
    memory = next(x for x in limits.splitlines() if x.startswith("Max address space"))
    assert str(parse_child.MEMORY_BYTES) in memory
    seconds = next(x for x in limits.splitlines() if x.startswith("Max cpu time"))
    assert int(seconds.split()[3]) <= 2 * parse_child.CPU_SECONDS


def test_a_feed_over_the_limit_is_not_even_tried() -> None:
    with pytest.raises(FeedError, match="larger than 5 MB"):
        read_feed(b" " * (feeds.MAX_BODY_BYTES + 1))


def test_deep_json_is_refused() -> None:
    with pytest.raises(FeedError, match="deeply nested"):
        read_feed(b'{"a":' * 100_000)


def test_a_path_or_an_address_is_only_ever_text(tmp_path: Path) -> None:
    """Given bytes that name a file, feedparser itself would open it."""
    (tmp_path / "feed.xml").write_bytes(RSS)
    with pytest.raises(FeedError, match="not a feed"):
        read_feed(str(tmp_path / "feed.xml").encode())


def test_reasons_come_with_their_values() -> None:
    with pytest.raises(FeedError) as caught:
        read_feed(
            b'<html><link type="application/rss+xml" href="/f">',
            url="https://blogg.example/",
        )
    assert json.dumps(caught.value.values) == '{"url": "https://blogg.example/f"}'
