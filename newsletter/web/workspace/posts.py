"""Posts: the list, writing one, what a flood brought, fetching at once."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from flask import Blueprint, Response, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from newsletter import markup
from newsletter.db import db, utcnow
from newsletter.digests import calendar
from newsletter.digests.calendar import State
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import Newsletter, Post, PostState, Role
from newsletter.posts import authors, editing, listing, sources, topics
from newsletter.web import rendering
from newsletter.web.security import status_of
from newsletter.web.workspace import post_form, preview
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    undoable,
    writing,
)
from newsletter.web.workspace.post_form import PostForm, StalePost

bp = Blueprint("posts", __name__)

SOON = timedelta(minutes=5)
TOPICS_SHOWN = 20  # in a hint
STATE_WORDS = {
    PostState.DRAFT: N_("Draft"),
    PostState.HELD: N_("Held back"),
    PostState.PUBLISHED: N_("Published"),
    PostState.WITHDRAWN: N_("Withdrawn"),
}
TABS = (
    ("", N_("All")),
    (PostState.PUBLISHED, N_("Published posts")),
    (PostState.DRAFT, N_("Drafts")),
    (PostState.HELD, N_("Held back")),
    (PostState.WITHDRAWN, N_("Withdrawn posts")),
)
PUBLISHED = N_("“%(title)s” is published and will be in the next issue.")
DECISIONS = {
    "publish": N_("The posts are published and will be in the next issue."),
    "page": N_("The posts stand on the newsletter's page; nobody gets them by mail."),
    "withdraw": N_("The posts are withdrawn."),
}


@bp.get("/editor/<slug>/posts/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """List the posts, newest first."""
    session = db.session()
    state = _state(request.args.get("state", ""))
    search = request.args.get("q", "")
    counts = listing.counts(session, newsletter)
    page = listing.page(
        session,
        newsletter,
        state=state,
        search=search,
        before=request.args.get("before", ""),
    )
    return render(
        "editor/posts.html",
        newsletter,
        page=page,
        state=state or "",
        search=search[: listing.SEARCH_CHARACTERS],
        tabs=[
            (value, label, counts.get(value, 0) if value else sum(counts.values()))
            for value, label in TABS
            if value in {"", PostState.PUBLISHED, state} or counts.get(value)
        ],
        any_posts=bool(counts),
        has_feeds=bool(sources.feeds(session, newsletter)),
        comes=digests_of(newsletter, page.posts),
        STATE_WORDS=STATE_WORDS,
    )


def digests_of(newsletter: Newsletter, posts: Iterable[Post]) -> dict[int, str]:
    """Say of posts that wait in which digest they come: by their ids."""
    session, words, now = db.session(), rendering.words(), utcnow()
    found = {}
    first = calendar.next_digests(session, newsletter, now=now)
    for post in posts:
        if post.id not in first:
            continue
        _rhythm, at, state = first[post.id]
        if state is State.HELD:
            found[post.id] = words.gettext("In an issue that waits for an editor")
        elif at <= now + SOON:
            found[post.id] = words.gettext("Goes out within minutes")
        else:
            moment = words.moment(at, newsletter.timezone)
            found[post.id] = words.gettext("Comes on %(moment)s", moment=moment)
    return found


@bp.get("/editor/<slug>/posts/new")
@needs(Role.EDITOR)
def new(newsletter: Newsletter) -> str:
    """Show an empty form."""
    return _post_page(newsletter, None, PostForm(language=newsletter.language))


@bp.post("/editor/<slug>/posts/new")
@needs(Role.EDITOR)
def create(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Write a post, and publish it if the button said so."""
    form = post_form.typed(request.form)
    try:
        with writing(newsletter) as (session, here):
            post = post_form.create(session, here, form, now=utcnow())
            _publish_if_asked(session, post)
    except InkorgError as error:
        page = _post_page(newsletter, None, form, error=error)
        return page, status_of(error)
    return _saved(newsletter, post)


@bp.get("/editor/<slug>/posts/<int:post_id>/")
@needs(Role.VIEWER)
def show(newsletter: Newsletter, post_id: int) -> str:
    """Show a post and its form."""
    session = db.session()
    post = editing.find(session, newsletter, post_id)
    return _post_page(newsletter, post, post_form.stored(session, newsletter, post))


@bp.post("/editor/<slug>/posts/<int:post_id>/")
@needs(Role.EDITOR)
def save(newsletter: Newsletter, post_id: int) -> AnyResponse | tuple[str, int]:
    """Save a post, and publish it if the button said so."""
    form = post_form.typed(request.form)
    try:
        with writing(newsletter) as (session, here):
            post = editing.find(session, here, post_id)
            post_form.update(session, here, post, form, now=utcnow())
            _publish_if_asked(session, post)
    except InkorgError as error:
        post = editing.find(db.session(), newsletter, post_id)
        page = _post_page(newsletter, post, form, error=error)
        return page, status_of(error)
    return _saved(newsletter, post)


@bp.post("/editor/<slug>/posts/<int:post_id>/publish")
@needs(Role.EDITOR)
def publish(newsletter: Newsletter, post_id: int) -> AnyResponse:
    """Publish a post; the next issue carries it."""
    with writing(newsletter) as (session, here):
        post = editing.find(session, here, post_id)
        editing.publish(session, post, now=utcnow())
    say(PUBLISHED, title=post.title)
    return _back(newsletter, post)


@bp.post("/editor/<slug>/posts/<int:post_id>/withdraw")
@needs(Role.EDITOR)
def withdraw(newsletter: Newsletter, post_id: int) -> AnyResponse:
    """Take a post off the page and out of issues to come."""
    with writing(newsletter) as (session, here):
        post = editing.find(session, here, post_id)
        was = {"posts": [editing.before_withdrawing(post)]}
        editing.withdraw(session, post, now=utcnow())
        undo = undoable(session, here, "withdrawn", was)
    say_done(N_("“%(title)s” is withdrawn."), undo, title=post.title)
    return _back(newsletter, post)


@bp.post("/editor/<slug>/posts/held")
@needs(Role.EDITOR)
def decide(newsletter: Newsletter) -> AnyResponse:
    """Publish or withdraw everything that a flood brought."""
    decision, now = request.form.get("decision", ""), utcnow()
    if decision not in DECISIONS:
        raise InvalidInput(N_("Choose what is to become of the posts."))
    with writing(newsletter) as (session, here):
        held, undo = listing.held(session, here), ""
        if decision == "withdraw":
            was = {"posts": [editing.before_withdrawing(post) for post in held]}
            for post in held:
                editing.withdraw(session, post, now=now)
            undo = undoable(session, here, "withdrawn", was)
        else:
            to_readers = decision == "publish"
            editing.publish_all(session, held, to_readers=to_readers, now=now)
    if undo:
        say_done(DECISIONS[decision], undo)
    else:
        say(DECISIONS[decision])
    return redirect(url_for("posts.index", slug=newsletter.slug))


@bp.get("/editor/<slug>/posts/<int:post_id>/preview")
@needs(Role.VIEWER)
def preview_stored(newsletter: Newsletter, post_id: int) -> Response:
    """Show a post as it is stored."""
    post = editing.find(db.session(), newsletter, post_id)
    return preview.post(post.title, post.excerpt, post.html)


@bp.get("/editor/<slug>/posts/preview")
@needs(Role.EDITOR)
def preview_empty(newsletter: Newsletter) -> Response:
    """Show where the post will stand."""
    return preview.post(rendering.words().gettext("Your post stands here."), "", "")


@bp.post("/editor/<slug>/posts/preview")
@needs(Role.EDITOR)
def preview_typed(newsletter: Newsletter) -> Response:
    """Show a post as it stands in the form; nothing is stored."""
    form = post_form.typed(request.form)
    html = request.form.get("html_of", "")
    try:
        if form.markdown.strip() or not html.isdecimal():
            html = markup.from_markdown(form.markdown, form.link.strip())
        else:
            html = editing.find(db.session(), newsletter, int(html)).html
    except InkorgError as error:
        return preview.problem(rendering.words().error(error))
    return preview.post(form.title, form.excerpt or markup.excerpt(html), html)


def _state(text: str) -> PostState | None:
    return PostState(text) if text in set(PostState) else None


def _publish_if_asked(session: Session, post: Post) -> None:
    if request.form.get("action") == "publish":
        editing.publish(session, post, now=utcnow())


def _post_page(
    newsletter: Newsletter,
    post: Post | None,
    form: PostForm,
    error: InkorgError | None = None,
) -> str:
    session = db.session()
    errors: dict[str, str] = {}
    stale = isinstance(error, StalePost) and post is not None
    if stale and post:
        form = replace(form, seen=post_form.version(post))
    elif error:
        field = error.field if isinstance(error, InvalidInput) else ""
        errors = {field or "form": rendering.words().error(error)}
    return render(
        "editor/post.html",
        newsletter,
        post=post,
        form=form,
        errors=errors,
        conflict=stale,
        carried=listing.carried_in(session, post) if post else [],
        comes=digests_of(newsletter, [post]).get(post.id, "") if post else "",
        from_feed=bool(post and post.markdown is None),
        known_authors=[a.shown_name for a in authors.authors(session, newsletter)],
        TOPICS_SHOWN=TOPICS_SHOWN,
        known_topics=[topic.name for topic in topics.topics(session, newsletter)],
        languages=_languages(newsletter, form),
        limits=editing,
        STATE_WORDS=STATE_WORDS,
    )


def _languages(newsletter: Newsletter, form: PostForm) -> list[tuple[str, str]]:
    """Return the languages a post may have, the one it has among them."""
    words = rendering.words()
    codes = dict.fromkeys(
        [newsletter.language, *newsletter.languages, *filter(None, [form.language])]
    )
    return [(code, words.name_of(code)) for code in codes]


def _saved(newsletter: Newsletter, post: Post) -> AnyResponse:
    if request.form.get("action") == "publish":
        say(PUBLISHED, title=post.title)
    else:
        say(N_("Saved."))
    return redirect(url_for("posts.show", slug=newsletter.slug, post_id=post.id))


def _back(newsletter: Newsletter, post: Post) -> AnyResponse:
    if request.form.get("back") == "held":
        return redirect(url_for("posts.index", slug=newsletter.slug, state="held"))
    return redirect(url_for("posts.show", slug=newsletter.slug, post_id=post.id))
