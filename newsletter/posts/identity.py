"""What makes two entries the same post: GUID, then link, then content. Pure."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from newsletter.markup import plain
from newsletter.posts.entries import Entry

# Shorter texts ("Nytt avsnitt ute nu!") may well be those of two posts.
TELLING_CHARACTERS = 140
_CAMPAIGN = re.compile(r"(?:utm|mtm|pk|at)_\w+|fbclid|gclid|mc_[ce]id|ref_src")


@dataclass(frozen=True, slots=True)
class Identity:
    """How an entry may be known again; what does not tell it apart is empty."""

    guid: str
    link_key: str
    content_hash: str
    telling: bool  # the content alone is enough

    @property
    def portable_guid(self) -> str:
        """Return the GUID if it means the same in every feed: an address, not "105"."""
        return self.guid if ":" in self.guid else ""


def identify(entries: Sequence[Entry]) -> list[Identity]:
    """Return the identity of each entry of one feed.

    A GUID or a link that several entries of a feed share (all say the front page) is
    none of theirs.
    """
    guids = _shared(entry.guid for entry in entries)
    keys = [link_key(entry.link) for entry in entries]
    links = _shared(keys)
    return [
        Identity(
            guid="" if entry.guid in guids else entry.guid,
            link_key="" if key in links else key,
            content_hash=content_hash(entry.title, entry.html or entry.excerpt),
            telling=len(plain(entry.html or entry.excerpt)) >= TELLING_CHARACTERS,
        )
        for entry, key in zip(entries, keys, strict=True)
    ]


def canonical_link(url: str) -> str:
    """Return `url` as blogs mean it: no scheme, www, campaign or last slash.

    Empty for a site's front page, which says nothing about which post it is.
    """
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").removeprefix("www.").rstrip(".")
        port = f":{parts.port}" if parts.port not in {None, 80, 443} else ""
    except ValueError:
        return ""
    kept = [
        pair
        for pair in parts.query.split("&")
        if pair and not _CAMPAIGN.fullmatch(pair.partition("=")[0].lower())
    ]
    path = parts.path.rstrip("/")
    query = f"?{'&'.join(kept)}" if kept else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    if _CAMPAIGN.match(parts.fragment.lower()):
        fragment = ""
    rest = f"{path}{query}{fragment}"
    return f"{host}{port}{rest}" if host and rest else ""


def link_key(url: str) -> str:
    """Return a hash of the canonical link, or nothing where there is none."""
    link = canonical_link(url)
    return hashlib.sha256(link.encode()).hexdigest() if link else ""


def content_hash(title: str, html: str) -> str:
    """Return a hash of the words, whatever their markup."""
    words = f"{title}\n{plain(html)}".casefold()
    return hashlib.sha256(words.encode()).hexdigest()


def _shared(values: Iterable[str]) -> set[str]:
    counted = Counter(value for value in values if value)
    return {value for value, count in counted.items() if count > 1}
