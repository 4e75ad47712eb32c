"""Read a folder of feeds: python -m tests.posts.whole_corpus FOLDER."""

import re
import sys
import time
from collections import Counter
from pathlib import Path

from newsletter.errors import FeedError
from newsletter.posts.feeds import Reader

HEADER = re.compile(rb"^Header:\s+Content-type:(.+)$", re.MULTILINE | re.IGNORECASE)


def content_type(body: bytes) -> str:
    """Return the content type that a test feed of feedparser's asks to be served as."""
    found = HEADER.search(body)
    return found[1].decode("latin-1").strip() if found else ""


def main(folder: Path) -> None:
    """Print how many feeds were read, and why the others were not."""
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    files = sorted(folder.rglob("*.xml"))
    with Reader() as reader:
        for file in files:
            body = file.read_bytes()
            try:
                parsed = reader.read(
                    body,
                    url="https://blogg.example/feed/",
                    content_type=content_type(body),
                )
            except FeedError as error:
                counts[f"refused: {error}"] += 1
                continue
            counts["read"] += 1
            counts["entries"] += len(parsed.entries)
            counts.update(f"entry refused: {reason}" for _, reason in parsed.refused)
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{len(files)} feeds in {seconds:.1f} s\n")
    for what, count in counts.most_common():
        sys.stdout.write(f"{count:6} {what}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
