"""The digest of real posts that several tests look at."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from xml.etree import ElementTree

from sqlalchemy.orm import Session

from newsletter import markup
from newsletter.digests import drafts
from newsletter.models import Author, Issue, Newsletter
from tests.factories import make_newsletter, make_post

GOLDEN = Path(__file__).parent / "golden"
FEED = GOLDEN / "innovationslabb.rss"
CREATOR = "{http://purl.org/dc/elements/1.1/}creator"
BYLINES = {
    "Anna Kanervo": "projektansvarig för Allmännyttans innovationslabb",
    "Martin Kesenci": "stadsdelsutvecklare på Telge Bostäder",
    "Sophia Lövgren": "strateg på Hyresgästföreningen",
}
OPENING = """\
Hej! Den här veckan handlar det om **pengar**, tid och en kör som inte vill
sluta sjunga. {{ number_of_posts }} inlägg från {{ newsletter }}.

- Vi ses på [nätverksträffen](https://blogg.example/traff/) i Boden.
- Hör av dig!
"""


def real_newsletter(session: Session) -> Newsletter:
    """Create the first user's newsletter with the posts of their feed."""
    newsletter = make_newsletter(session)
    authors = {
        name: Author(newsletter_id=newsletter.id, name=name, byline=byline)
        for name, byline in BYLINES.items()
    }
    session.add_all(authors.values())
    session.flush()
    found = ElementTree.parse(FEED).findall(".//item")
    for item in reversed(found):
        make_post(
            session,
            newsletter,
            author=authors[item.findtext(CREATOR, "")],
            title=item.findtext("title"),
            link=item.findtext("link"),
            excerpt=markup.excerpt(item.findtext("description", "")),
            published_at=parsedate_to_datetime(item.findtext("pubDate", "")),
        )
    return newsletter


def real_issue(session: Session, *, opening: str = OPENING) -> Issue:
    """Draft the digest of those posts on a Monday in October."""
    newsletter = real_newsletter(session)
    monday = datetime(2019, 10, 14, 6, 0, tzinfo=UTC)
    return drafts.draft(session, newsletter, opening=opening, now=monday)
