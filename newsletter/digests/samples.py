"""Made-up posts, for looking at a design before there are posts. Nothing is stored."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from newsletter.config import ROOT, Settings
from newsletter.errors import N_
from newsletter.i18n import Language
from newsletter.models import (
    Author,
    Issue,
    IssuePost,
    IssueState,
    Newsletter,
    Post,
    PostState,
)

PICTURES = "samples"  # in `newsletter/static/`
FOLDER = ROOT / "newsletter" / "static" / PICTURES


@dataclass(frozen=True, slots=True)
class _Sample:
    title: str
    excerpt: str
    author: str
    byline: str
    picture: str = ""
    alt: str = ""


SAMPLES = (
    _Sample(
        N_("The choir that would not stop singing"),
        N_(
            "It began with eleven people, a borrowed piano and a laundry room with good"
            " acoustics. Two years later the choir fills the town hall, and the waiting"
            " list is longer than the rehearsal."
        ),
        "Åsa Öberg",
        N_("culture editor"),
        "choir",
        N_("Singers in a row on a stage, drawn in flat colours"),
    ),
    _Sample(
        N_("How the courtyard became a garden"),
        N_(
            "Forty parking spaces, one petition and a truck full of soil: the"
            " neighbours in block seven tell how they did it, what it cost, and what"
            " they would do differently."
        ),
        "Bo Ek",
        N_("gardener and caretaker"),
        "garden",
        N_("A courtyard with trees between two houses, drawn in flat colours"),
    ),
    _Sample(
        N_("Ten minutes about work and life"),
        N_("A conversation on the stairs that was meant to be short."),
        "Zainab Al-Hassani",
        "",
    ),
    _Sample(
        N_("The last boat before the ice"),
        N_(
            "Every November the same question: does it run on Sunday? We followed the"
            " crew on the year's last trip through the archipelago, with coffee,"
            " newspapers and a piano for the island school."
        ),
        "Åsa Öberg",
        N_("culture editor"),
        "boat",
        N_("A boat between islands at dusk, drawn in flat colours"),
    ),
)
PORTRAITS = {"Åsa Öberg": "sample-asa", "Bo Ek": "sample-bo"}


def portrait(key: str) -> bytes | None:
    """Return the portrait of a made-up author by its key."""
    if key not in PORTRAITS.values():
        return None
    return (FOLDER / f"{key.removeprefix('sample-')}.jpg").read_bytes()


def issue(
    settings: Settings,
    newsletter: Newsletter,
    words: Language,
    count: int,
    *,
    now: datetime,
) -> Issue:
    """Return an issue of made-up posts in a language."""
    posts = [
        _post(settings, newsletter, words, number, now=now) for number in range(count)
    ]
    return of_posts(newsletter, posts, now=now)


def of_posts(newsletter: Newsletter, posts: list[Post], *, now: datetime) -> Issue:
    """Return an issue of posts that belongs to no session."""
    return Issue(
        id=0,
        newsletter_id=newsletter.id,
        state=IssueState.DRAFT,
        subject="",
        preview_text="",
        opening="",
        after_position=0,
        created_at=now,
        posts=[
            IssuePost(post=post, place=place, hidden=False, title="", excerpt="")
            for place, post in enumerate(posts, 1)
        ],
    )


def _post(
    settings: Settings,
    newsletter: Newsletter,
    words: Language,
    number: int,
    *,
    now: datetime,
) -> Post:
    sample = SAMPLES[number % len(SAMPLES)]
    pictures = f"{settings.base_url}/static/{PICTURES}"
    later = number // len(SAMPLES)
    return Post(
        id=number + 1,
        state=PostState.PUBLISHED,
        position=number + 1,
        link=f"{settings.base_url}/{newsletter.slug}/?post={number + 1}",
        title=words.gettext(sample.title) + (f" ({later + 1})" if later else ""),
        excerpt=words.gettext(sample.excerpt),
        image_url=f"{pictures}/{sample.picture}.png" if sample.picture else "",
        image_alt=words.gettext(sample.alt) if sample.alt else "",
        language=words.code,
        published_at=now - timedelta(days=number + 1),
        author=Author(
            name=sample.author,
            display_name="",
            byline=words.gettext(sample.byline) if sample.byline else "",
            portrait_key=PORTRAITS.get(sample.author, ""),
        ),
    )
