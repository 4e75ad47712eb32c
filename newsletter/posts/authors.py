"""Authors: who writes, with a byline that an editor corrects once for all posts.

Feeds may write one name in several ways. Once an editor has said so, all of them are
one author, in what is imported later too.
"""

from datetime import datetime

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.markup import is_web
from newsletter.models import Author, AuthorSpelling, Newsletter, Portrait, Post
from newsletter.plaintext import one_line, squeeze

MAX_NAME_CHARACTERS = 200
MAX_BYLINE_CHARACTERS = 300
MAX_URL_CHARACTERS = 2000


def authors(session: Session, newsletter: Newsletter) -> list[Author]:
    """Return a newsletter's authors by name."""
    return list(
        session.scalars(
            select(Author)
            .where(Author.newsletter_id == newsletter.id)
            .order_by(Author.name)
        )
    )


def find(session: Session, newsletter: Newsletter, author_id: int) -> Author:
    """Return one of a newsletter's authors. Raises NotFound."""
    author = session.get(Author, author_id) if 0 < author_id < 2**31 else None
    if author is None or author.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such author here."))
    return author


def correct_author(
    session: Session,
    author: Author,
    *,
    display_name: str | None = None,
    byline: str | None = None,
) -> None:
    """Correct an author for all their posts; what is None stays as it is.

    An empty display name shows the feed's again. A byline once set here is no longer
    changed by the feed. Raises InvalidInput.
    """
    if display_name is not None:
        author.display_name = _checked(
            display_name, MAX_NAME_CHARACTERS, "display_name"
        )
    if byline is not None:
        author.byline = _checked(byline, MAX_BYLINE_CHARACTERS, "byline")
        author.byline_fixed = True
    session.flush()


def portrait_address(text: str) -> str:
    """Return the address of a picture that was typed. Raises InvalidInput."""
    url = text.strip()
    if url and (not is_web(url) or len(url) > MAX_URL_CHARACTERS):
        raise InvalidInput(N_("An address begins with https://"), field="portrait_url")
    return url


def merge(session: Session, author: Author, into: Author) -> int:
    """Make two authors of a newsletter one; return how many posts moved.

    The name of the one that goes is from now on a spelling of the other's. Raises
    InvalidInput.
    """
    if author.id == into.id or author.newsletter_id != into.newsletter_id:
        raise InvalidInput(N_("Choose two different authors."), field="author")
    moved = session.execute(
        update(Post)
        .where(Post.author_id == author.id)
        .values(author_id=into.id)
        .returning(Post.id)
    ).all()
    session.execute(
        update(AuthorSpelling)
        .where(AuthorSpelling.author_id == author.id)
        .values(author_id=into.id)
    )
    if not into.byline and not into.byline_fixed:
        into.byline, into.byline_fixed = author.byline, author.byline_fixed
    if author.portrait_key and not into.portrait_key:
        session.execute(
            update(Portrait)
            .where(Portrait.author_id == author.id)
            .values(author_id=into.id)
        )
        into.portrait_key, into.portrait_url = author.portrait_key, author.portrait_url
    spelling = AuthorSpelling(
        newsletter_id=into.newsletter_id, name=author.name, author_id=into.id
    )
    session.delete(author)
    session.flush()
    session.add(spelling)
    session.flush()
    session.expire_all()  # posts that were read still name the one that is gone
    return len(moved)


def spellings(
    session: Session, newsletter: Newsletter
) -> dict[int, list[AuthorSpelling]]:
    """Return how else the authors' names are written, by the author's id."""
    found: dict[int, list[AuthorSpelling]] = {}
    for spelling in session.scalars(
        select(AuthorSpelling)
        .where(AuthorSpelling.newsletter_id == newsletter.id)
        .order_by(AuthorSpelling.name)
    ):
        found.setdefault(spelling.author_id, []).append(spelling)
    return found


def split(session: Session, newsletter: Newsletter, spelling_id: int) -> str:
    """Make a spelling someone of their own again, from the next post on.

    Returns the name. Raises NotFound.
    """
    spelling = session.get(AuthorSpelling, spelling_id)
    if spelling is None or spelling.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such author here."))
    name = spelling.name
    session.delete(spelling)
    session.flush()
    return name


def named(session: Session, newsletter: Newsletter, name: str) -> Author | None:
    """Return the author of that name, made now if need be; None for no name."""
    name = one_line(name, MAX_NAME_CHARACTERS)
    if not name:
        return None
    found = session.scalar(
        select(Author).where(Author.newsletter_id == newsletter.id, Author.name == name)
    )
    if found is None:
        found = session.scalar(
            select(Author)
            .join(AuthorSpelling, AuthorSpelling.author_id == Author.id)
            .where(
                AuthorSpelling.newsletter_id == newsletter.id,
                AuthorSpelling.name == name,
            )
        )
    if found is None:
        found = Author(newsletter_id=newsletter.id, name=name, display_name="")
        session.add(found)
        session.flush()
    return found


def learn_byline(
    session: Session, author: Author, byline: str, *, at: datetime
) -> None:
    """Take over a byline from a post, unless a newer one or an editor has spoken."""
    if not byline or author.byline == byline or author.byline_fixed:
        return
    newer = exists().where(Post.author_id == author.id, Post.published_at > at)
    if author.byline and session.scalar(select(newer)):
        return
    author.byline = byline[:MAX_BYLINE_CHARACTERS]


def _checked(text: str, limit: int, field: str) -> str:
    line = squeeze(text)
    if len(line) > limit:
        raise InvalidInput(
            N_("That is too long. Keep it under %(count)s characters."),
            field=field,
            count=limit,
        )
    return line
