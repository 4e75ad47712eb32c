"""Links that are counted: in an edition's HTML they lead through us. Off by default.

    https://blogg.example/inlagg-1/  →  https://nyheter.example/l/3fZk0Qm9xW2a

The address is the issue's, not a reader's: alike in every mail, so that it tells nobody
apart and costs nothing as mails are sent. Left as they are: whatever is a reader's own
or ours (leaving, choices, reading on the web), addresses of mail and telephones, words
that are an address themselves (mail programs warn where that is not where they lead),
and the text part, where a reader sees and judges the address.

What is stored to be shown on the web has the real links; so have tests and previews.
"""

import html as entities
import re
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import links, markup, plaintext
from newsletter.config import RESERVED_SLUGS, Settings
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import CountedLink, Issue

MOST_LINKS = 500  # of an issue; more than fit into a mail
URL_CHARACTERS = 2000
WORDS_CHARACTERS = 300
_STAND_IN = "0" * 12  # as long as a token

# Possessive: what does not match costs no second look.
_PERSONAL = re.compile(r"(<!--personal-->.*?<!--/personal-->)", re.DOTALL)
_LINK = re.compile(
    r"""(<a\b(?:[^>"']++|"[^"]*+"|'[^']*+')*+>)(.*?)</a\s*>""",
    re.DOTALL | re.IGNORECASE,
)
_HREF = re.compile(r"""(?<=\s)href\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_ALT = re.compile(r"""(?<=\s)alt\s*=\s*"([^"]+)\"""", re.IGNORECASE)
_ADDRESS = re.compile(
    r"https?://|\bwww\.|^[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}(?:[/?#]\S*)?$", re.IGNORECASE
)

# Given where a link leads and what it says; returns what is to stand there.
Lead = Callable[[str, str], str]


def counted(
    session: Session, settings: Settings, issue: Issue, letter: Letter, *, but: str
) -> Letter:
    """Return an edition as it is sent, and remember where its links lead.

    `but` is left alone: where it can be read on the web.
    """
    query = select(CountedLink.url, CountedLink.token).where(
        CountedLink.issue_id == issue.id
    )
    known = {row.url: row.token for row in session.execute(query)}

    def lead(url: str, words: str) -> str:
        if url not in known and len(known) >= MOST_LINKS:
            return url
        if url not in known:
            token = links.new_link_token()
            session.add(
                CountedLink(
                    issue_id=issue.id,
                    place=len(known),
                    token=token,
                    url=url,
                    words=plaintext.one_line(words, WORDS_CHARACTERS),
                )
            )
            known[url] = token
        return links.counted_url(settings, known[url])

    html = _led(settings, letter.html, but, lead)
    session.flush()
    return replace(letter, html=html)


def as_long(settings: Settings, html: str) -> str:
    """Return an edition's HTML as long as it will be when its links are counted."""
    stand_in = links.counted_url(settings, _STAND_IN)
    return _led(settings, html, "", lambda _url, _words: stand_in)


def is_whole(url: str) -> bool:
    """Tell whether a browser can be sent to an address as it is."""
    return markup.is_web(url) and all(c.isprintable() and not c.isspace() for c in url)


def _led(settings: Settings, html: str, but: str, lead: Lead) -> str:
    def change(found: re.Match[str]) -> str:
        tag, inside = found[1], found[2]
        href = _HREF.search(tag)
        if href is None:
            return found[0]
        url = entities.unescape(href[1] if href[1] is not None else href[2]).strip()
        words = _words(inside)
        if url == but or _ADDRESS.search(words) or not _can_be_counted(settings, url):
            return found[0]
        new = f'href="{entities.escape(lead(url, words))}"'
        return found[0].replace(href[0], new, 1)

    parts = _PERSONAL.split(html)
    parts[::2] = [_LINK.sub(change, part) for part in parts[::2]]
    return "".join(parts)


def _words(inside: str) -> str:
    said = plaintext.squeeze(entities.unescape(_TAG.sub(" ", inside)))
    alt = _ALT.search(inside)
    return said or (plaintext.squeeze(entities.unescape(alt[1])) if alt else "")


def _can_be_counted(settings: Settings, url: str) -> bool:
    """Tell whether an address is of the web, and neither a reader's own nor ours."""
    if len(url) > URL_CHARACTERS or not is_whole(url):
        return False
    if any(mark in url for mark in (mime.LEAVE, mime.PREFERENCES, mime.NOBODY)):
        return False
    own = f"{settings.base_url}/"
    if not url.casefold().startswith(own.casefold()):
        return True
    return re.split(r"[/?#]", url[len(own) :], maxsplit=1)[0] not in RESERVED_SLUGS
