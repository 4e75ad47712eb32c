"""A newsletter's page, its posts and its words on privacy."""

from dataclasses import dataclass

from flask import Blueprint, Response
from markupsafe import Markup
from sqlalchemy import select

from newsletter import links, markup
from newsletter.db import db
from newsletter.digests import archive
from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import Newsletter, Post, PostState
from newsletter.posts import editing, enclosures, portraits
from newsletter.subscribers import gate
from newsletter.web import frame
from newsletter.web.offer import Offer
from newsletter.web.rendering import words
from newsletter.web.security import CONTENT_SECURITY_POLICY, current_settings

bp = Blueprint("pages", __name__)

PICTURES_POLICY = CONTENT_SECURITY_POLICY.replace(
    "img-src 'self' data:", "img-src 'self' data: https:"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One way to reach whoever is behind a newsletter."""

    label: str
    text: str = ""
    links: tuple[tuple[str, str], ...] = ()


@bp.get("/<slug>/")
def show(slug: str) -> str:
    """Show the newsletter: the form, the latest posts, who is behind it."""
    return newsletter_page(frame.enter(slug))


def newsletter_page(
    newsletter: Newsletter, *, typed: str = "", error: InvalidInput | None = None
) -> str:
    """Render the newsletter's page, with what was wrong with what someone typed."""
    return frame.show(
        "public/newsletter.html",
        newsletter,
        posts=editing.latest(db.session(), newsletter, newsletter.posts_on_page),
        portraits=portraits.any_of(db.session(), newsletter),
        contact=contact(newsletter),
        has_issues=archive.has_issues(db.session(), newsletter),
        canonical=links.newsletter_url(current_settings(), newsletter.slug),
        others=frame.other_languages(newsletter) if error is None else [],
        **form(newsletter, typed=typed, error=error),
    )


def form(
    newsletter: Newsletter, *, typed: str = "", error: InvalidInput | None = None
) -> dict[str, object]:
    """Return what `public/_signup.html` needs."""
    return {
        "offer": Offer.of(newsletter, words()),
        "action": frame.link(newsletter, "signup.subscribe"),
        "trap": gate.TRAP_FIELD,
        "typed": typed[:300],
        "error": words().error(error) if error else "",
        "suggestion": error.values.get("suggestion", "") if error else "",
        "elsewhere": "",  # a frame's links open outside it
    }


@bp.get("/<slug>/posts/<int:post_id>/")
def post(slug: str, post_id: int) -> Response:
    """Show one post; its pictures may lie where the blog has them."""
    newsletter = frame.enter(slug)
    found = db.session.scalar(
        select(Post).where(
            Post.id == post_id,
            Post.newsletter_id == newsletter.id,
            Post.state == PostState.PUBLISHED,
        )
    )
    if found is None:
        raise NotFound(N_("There is no such post. It may have been withdrawn."))
    page = frame.show(
        "public/post.html",
        newsletter,
        post=found,
        portraits=portraits.any_of(db.session(), newsletter),
        attached=enclosures.in_words(found, words()),
        # Sanitised when it came in (markup.py), whoever wrote it.
        body=Markup(found.html),  # noqa: S704
        others=frame.other_languages(newsletter),
    )
    return Response(page, headers={"Content-Security-Policy": PICTURES_POLICY})


@bp.get("/<slug>/privacy/")
def privacy(slug: str) -> str:
    """Say what happens to an address: the newsletter's own text, or ours."""
    newsletter = frame.enter(slug)
    body = Markup(markup.from_markdown(newsletter.privacy))  # noqa: S704 - sanitised
    return frame.show(
        "public/privacy.html",
        newsletter,
        body=body,
        contact=contact(newsletter),
        others=frame.other_languages(newsletter),
    )


def contact(newsletter: Newsletter) -> list[Line]:
    """Return how to reach whoever is behind the newsletter, in words and links."""
    found: list[Line] = []
    if newsletter.postal_address:
        found.append(Line(N_("Postal address"), text=newsletter.postal_address))
    if phone := newsletter.phone:
        dialled = "".join(c for c in phone if c.isdigit() or c == "+")
        found.append(Line(N_("Phone"), links=((f"tel:{dialled}", phone),)))
    if email := newsletter.contact_email:
        found.append(Line(N_("Email"), links=((f"mailto:{email}", email),)))
    if markup.is_web(newsletter.website):
        found.append(
            Line(N_("Web"), links=((newsletter.website, shown(newsletter.website)),))
        )
    social = [
        (one.get("url", ""), one.get("name") or shown(one.get("url", "")))
        for one in newsletter.social
        if markup.is_web(one.get("url", ""))
    ]
    if social:
        found.append(Line(N_("Follow us"), links=tuple(social)))
    return found


def shown(url: str) -> str:
    """Return a web address as people write it."""
    return url.partition("://")[2].removeprefix("www.").rstrip("/")
