"""The form that writes a post: read, kept over an error, applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from newsletter import markup, moments
from newsletter.errors import Conflict
from newsletter.models import Newsletter, Post
from newsletter.posts import authors, editing, topics


class StalePost(Conflict):
    """Someone else changed this post while you wrote."""


@dataclass(frozen=True, slots=True)
class PostForm:
    """What stands in the form; `seen` says which version of the post it began with."""

    title: str = ""
    markdown: str = ""
    excerpt: str = ""
    author: str = ""
    byline: str = ""
    published_at: str = ""
    link: str = ""
    topics: str = ""
    language: str = ""
    seen: str = ""


def stored(session: Session, newsletter: Newsletter, post: Post) -> PostForm:
    """Return the form as it shows a post; what is made by itself is left empty."""
    automatic = post.excerpt == markup.excerpt(post.html)
    undated = post.position is None and post.published_at == post.created_at
    return PostForm(
        title=post.title,
        markdown=post.markdown or "",
        excerpt="" if automatic else post.excerpt,
        author=post.author.shown_name if post.author else "",
        byline=post.author.byline if post.author else "",
        published_at=(
            "" if undated else moments.write(post.published_at, newsletter.timezone)
        ),
        link=post.link,
        topics=", ".join(topic.name for topic in topics.topics_of(session, post)),
        language=post.language,
        seen=version(post),
    )


def typed(form: Mapping[str, str]) -> PostForm:
    """Read what an editor sent."""
    return PostForm(**{name: form.get(name, "") for name in PostForm.__slots__})


def create(
    session: Session, newsletter: Newsletter, form: PostForm, *, now: datetime
) -> Post:
    """Write a new post, a draft. Raises InvalidInput."""
    return editing.create(
        session,
        newsletter,
        title=form.title,
        markdown=form.markdown,
        author=_stored_name(session, newsletter, form.author),
        byline=form.byline.strip() or None,  # empty: as it is, for all their posts
        published_at=_date(form, newsletter, None),
        now=now,
        **_plain(form),
    )


def update(
    session: Session,
    newsletter: Newsletter,
    post: Post,
    form: PostForm,
    *,
    now: datetime,
) -> None:
    """Write the form to a post. Raises InvalidInput or StalePost."""
    if form.seen != version(post):
        raise StalePost
    same = form.author.strip() == (post.author.shown_name if post.author else "")
    byline: str | None = form.byline
    if not same and (not byline or (post.author and byline == post.author.byline)):
        byline = None  # it was the other author's
    words = form.markdown if form.markdown.strip() or post.markdown else None
    editing.update(
        session,
        newsletter,
        post,
        title=form.title,
        markdown=words if words != post.markdown else None,
        author=None if same else _stored_name(session, newsletter, form.author),
        byline=byline,
        published_at=_date(form, newsletter, post),
        now=now,
        **_plain(form),
    )


def version(post: Post) -> str:
    """Name the state of a post that an editor sees."""
    return post.updated_at.isoformat()


def _plain(form: PostForm) -> dict[str, Any]:
    return {
        "excerpt": form.excerpt,
        "link": form.link,
        "language": form.language,
        "topic_names": [name for name in form.topics.split(",") if name.strip()],
    }


def _date(form: PostForm, newsletter: Newsletter, post: Post | None) -> datetime | None:
    """Return the date that was chosen; None where it is empty or the post's already."""
    text, zone = form.published_at.strip(), newsletter.timezone
    if not text or (post and text == moments.write(post.published_at, zone)):
        return None
    return moments.read(text, zone, field="published_at")


def _stored_name(session: Session, newsletter: Newsletter, shown: str) -> str:
    """Return the name an author is stored under, by the name that readers see."""
    shown = shown.strip()
    for author in authors.authors(session, newsletter):
        if author.shown_name == shown:
            return author.name
    return shown
