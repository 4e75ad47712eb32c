"""Posts by hand: writing, correcting, publishing, withdrawing; and the latest ones."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import markup
from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import Newsletter, Post, PostState
from newsletter.plaintext import clean, squeeze
from newsletter.posts import authors, identity, positions, topics

MAX_TITLE_CHARACTERS = 300
MAX_EXCERPT_CHARACTERS = 2000
MAX_URL_CHARACTERS = 2000


def latest(session: Session, newsletter: Newsletter, limit: int = 10) -> list[Post]:
    """Return the newest published posts."""
    return list(
        session.scalars(
            select(Post)
            .where(
                Post.newsletter_id == newsletter.id,
                Post.state == PostState.PUBLISHED,
            )
            .order_by(Post.published_at.desc(), Post.id.desc())
            .limit(limit)
        )
    )


def find(session: Session, newsletter: Newsletter, post_id: int) -> Post:
    """Return one of a newsletter's posts. Raises NotFound."""
    post = session.get(Post, post_id) if 0 < post_id < 2**31 else None
    if post is None or post.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such post here."))
    return post


def create(
    session: Session,
    newsletter: Newsletter,
    *,
    title: str,
    markdown: str,
    excerpt: str = "",
    author: str = "",
    byline: str | None = None,
    link: str = "",
    language: str | None = None,
    topic_names: Iterable[str] = (),
    published_at: datetime | None = None,
    now: datetime,
) -> Post:
    """Write a post; it is a draft until it is published. Raises InvalidInput."""
    post = Post(
        newsletter_id=newsletter.id,
        state=PostState.DRAFT,
        title=_title(title),
        markdown="",
        html="",
        excerpt="",
        language=newsletter.language,
        edited=True,
        published_at=_date(published_at or now, now),
        created_at=now,
        updated_at=now,
    )
    session.add(post)
    session.flush()
    update(
        session,
        newsletter,
        post,
        markdown=markdown,
        excerpt=excerpt,
        author=author,
        byline=byline,
        link=link,
        language=language,
        topic_names=topic_names,
        now=now,
    )
    return post


def update(
    session: Session,
    newsletter: Newsletter,
    post: Post,
    *,
    title: str | None = None,
    markdown: str | None = None,
    excerpt: str | None = None,
    author: str | None = None,
    byline: str | None = None,
    link: str | None = None,
    language: str | None = None,
    topic_names: Iterable[str] | None = None,
    published_at: datetime | None = None,
    now: datetime,
) -> None:
    """Edit a post; what is None stays as it is, and its feed no longer changes it.

    An empty excerpt is the text's beginning; an empty language is none: the post is for
    everyone. A byline is the author's, in all of their
    posts. What has been sent is not sent again. Raises InvalidInput.
    """
    if title is not None:
        post.title = _title(title)
    if published_at is not None:
        post.published_at = _date(published_at, now)
    _place(newsletter, post, link, language)
    if markdown is not None or excerpt is not None:
        _write(post, markdown, excerpt)
    if author is not None:
        post.author = authors.named(session, newsletter, author)
    if byline is not None and post.author and byline != post.author.byline:
        authors.correct_author(session, post.author, byline=byline)
    if topic_names is not None:
        topics.set_topics(session, newsletter, post, topic_names)
    post.content_hash = identity.content_hash(post.title, post.html or post.excerpt)
    post.edited = True
    post.updated_at = now
    session.flush()


def publish(
    session: Session, post: Post, *, to_readers: bool = True, now: datetime
) -> None:
    """Publish a post; the next digest carries it, unless it is only for the page.

    Safe to call twice: a post is sent once.
    """
    publish_all(session, [post], to_readers=to_readers, now=now)


def publish_all(
    session: Session, posts: Sequence[Post], *, to_readers: bool = True, now: datetime
) -> None:
    """Publish posts of one newsletter, in the order of their dates."""
    for post in sorted(posts, key=lambda post: (post.published_at, post.id)):
        if _has_no_date(post, now):
            post.published_at = now
        post.publish_at = None
        if to_readers:
            positions.publish(positions.lock(session, post.newsletter_id), post)
        post.state = PostState.PUBLISHED
        post.updated_at = now
    session.flush()


def _has_no_date(post: Post, now: datetime) -> bool:
    """Tell whether nobody chose the date, or nobody waits for it."""
    draft = post.state is PostState.DRAFT and post.publish_at is None
    return post.published_at > now or (draft and post.published_at == post.created_at)


def publish_due(session: Session, *, now: datetime, limit: int) -> int:
    """Publish posts whose date has come; return how many."""
    due = session.scalars(
        select(Post)
        .where(Post.publish_at <= now, Post.state == PostState.DRAFT)
        .order_by(Post.publish_at, Post.id)
        .limit(limit)
    ).all()
    for newsletter_id in sorted({post.newsletter_id for post in due}):
        own = [post for post in due if post.newsletter_id == newsletter_id]
        positions.lock(session, newsletter_id)
        # Read anew under the lock: a fetch may have given a post another date.
        for post in own:
            session.refresh(post, ["publish_at", "state"])
        still = [post for post in own if post.publish_at and post.publish_at <= now]
        publish_all(session, still, now=now)
    return len(due)


def withdraw(session: Session, post: Post, *, now: datetime) -> None:
    """Take a post off the page and out of digests to come; no feed brings it back."""
    post.state, post.publish_at = PostState.WITHDRAWN, None
    post.edited = True
    post.updated_at = now
    session.flush()


def before_withdrawing(post: Post) -> dict[str, object]:
    """Return how a post stands, for `bring_back`: JSON."""
    later = post.publish_at.isoformat() if post.publish_at else None
    return {
        "id": post.id,
        "state": post.state.value,
        "publish_at": later,
        "edited": post.edited,
    }


def bring_back(
    session: Session, post: Post, was: Mapping[str, Any], *, now: datetime
) -> None:
    """Undo `withdraw`. What was to be published since is not, until somebody says so.

    Does nothing to a post that somebody has dealt with meanwhile.
    """
    if post.state is not PostState.WITHDRAWN:
        return
    state = PostState(was["state"])
    if state is PostState.PUBLISHED:
        publish_all(session, [post], to_readers=post.position is not None, now=now)
    else:
        later = was["publish_at"] and datetime.fromisoformat(was["publish_at"])
        post.state = state
        post.publish_at = later if later and later > now else None
    post.edited, post.updated_at = bool(was["edited"]), now
    session.flush()


def _write(post: Post, markdown: str | None, excerpt: str | None) -> None:
    automatic = post.excerpt == markup.excerpt(post.html)
    if markdown is not None:
        post.markdown = clean(markdown).strip()
        post.html = markup.from_markdown(post.markdown, post.link)
        image = markup.first_image(post.html)
        post.image_url = image.url[:MAX_URL_CHARACTERS] if image else ""
        post.image_alt = image.alt if image else ""
    chosen = squeeze(excerpt or "")
    if len(chosen) > MAX_EXCERPT_CHARACTERS:
        raise InvalidInput(
            N_("That is too long. Keep it under %(count)s characters."),
            field="excerpt",
            count=MAX_EXCERPT_CHARACTERS,
        )
    if chosen:
        post.excerpt = chosen
    elif excerpt is not None or automatic:
        post.excerpt = markup.excerpt(post.html)


def _title(text: str) -> str:
    title = squeeze(text)
    if not title or len(title) > MAX_TITLE_CHARACTERS:
        raise InvalidInput(
            N_("A post needs a title of at most %(count)s characters."),
            field="title",
            count=MAX_TITLE_CHARACTERS,
        )
    return title


def _date(moment: datetime, now: datetime) -> datetime:
    if moment > now:
        raise InvalidInput(
            N_("That date lies ahead. A post's date is when it was published."),
            field="published_at",
        )
    return moment


def _place(
    newsletter: Newsletter, post: Post, link: str | None, language: str | None
) -> None:
    if link is not None:
        post.link = _link(link)
        post.link_key = identity.link_key(post.link)
    if language is not None:
        post.language = _language(newsletter, post, language)


def _language(newsletter: Newsletter, post: Post, code: str) -> str:
    if code not in ("", post.language, newsletter.language, *newsletter.languages):
        raise InvalidInput(
            N_("Choose one of the languages on the page."), field="language"
        )
    return code


def _link(text: str) -> str:
    link = clean(text).strip()
    if link and (not markup.is_web(link) or len(link) > MAX_URL_CHARACTERS):
        raise InvalidInput(N_("An address begins with https://"), field="link")
    return link
