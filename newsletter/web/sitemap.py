"""What search engines are shown the way to: newsletters, their issues and own posts."""

from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, request
from sqlalchemy import select

from newsletter import links, newsletters
from newsletter.config import Settings
from newsletter.db import db
from newsletter.digests import archive
from newsletter.models import Newsletter, Post, PostState
from newsletter.web.rendering import render
from newsletter.web.security import current_settings

bp = Blueprint("sitemap", __name__)

# A sitemap holds 50,000 addresses (sitemaps.org); of each kind, the newest go first.
MOST_OF_A_KIND = 20_000
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Place:
    """One address, and when it last changed."""

    url: str
    changed: datetime | None = None


@bp.get("/sitemap.xml")
def index() -> Response:
    """List each newsletter's own map."""
    base = current_settings().base_url
    found = newsletters.listed_newsletters(db.session())
    places = [Place(f"{base}/{newsletter.slug}/sitemap.xml") for newsletter in found]
    return _answer("public/sitemaps.xml", places)


@bp.get("/<slug>/sitemap.xml")
def show(slug: str) -> Response:
    """List a newsletter's pages."""
    newsletter = newsletters.by_slug(db.session(), slug)
    settings = current_settings()
    issues = _issues(settings, newsletter)
    places = [Place(links.newsletter_url(settings, slug))]
    if issues:
        places.append(Place(links.archive_url(settings, slug), issues[0].changed))
    return _answer(
        "public/sitemap.xml", [*places, *issues, *_posts(settings, newsletter)]
    )


def _issues(settings: Settings, newsletter: Newsletter) -> list[Place]:
    found = archive.addresses(db.session(), newsletter, MOST_OF_A_KIND)
    return [
        Place(links.issue_url(settings, newsletter.slug, number), sent_at)
        for number, sent_at in found
    ]


def _posts(settings: Settings, newsletter: Newsletter) -> list[Place]:
    """Return the posts that have no address but ours."""
    rows = db.session.execute(
        select(Post.id, Post.updated_at)
        .where(
            Post.newsletter_id == newsletter.id,
            Post.state == PostState.PUBLISHED,
            Post.link == "",
        )
        .order_by(Post.published_at.desc())
        .limit(MOST_OF_A_KIND)
    )
    return [
        Place(links.post_url(settings, newsletter.slug, post_id), changed)
        for post_id, changed in rows
    ]


def _answer(template: str, places: list[Place]) -> Response:
    response = Response(render(template, places=places), mimetype="application/xml")
    response.cache_control.public = True
    response.cache_control.max_age = HOUR
    response.add_etag()
    response.make_conditional(request)
    return response
