"""Topics: what readers choose among, and which of the feed's categories they gather."""

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter import newsletters, undoing
from newsletter.db import db
from newsletter.errors import N_, InkorgError
from newsletter.models import Newsletter, Role, Topic
from newsletter.posts import categories, topics
from newsletter.subscribers import reckonings
from newsletter.web import rendering
from newsletter.web.security import status_of
from newsletter.web.workspace.access import (
    MAX_ID,
    needs,
    render,
    say,
    say_done,
    undoable,
    writing,
)

bp = Blueprint("topics", __name__)

NEW = "new"


@bp.get("/editor/<slug>/topics/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """List the topics and the feed's categories, each with its form."""
    return _page(newsletter)


@bp.post("/editor/<slug>/topics/")
@needs(Role.EDITOR)
def create(newsletter: Newsletter) -> AnyResponse | tuple[str, int]:
    """Make a topic."""
    try:
        with writing(newsletter) as (session, here):
            made = topics.create(session, here, request.form.get("name", ""))
    except InkorgError as error:
        return _page(newsletter, NEW, error), status_of(error)
    say(N_("“%(name)s” is a topic now."), name=made.name)
    return _back(newsletter, made.id)


@bp.post("/editor/<slug>/topics/<int:topic_id>/")
@needs(Role.EDITOR)
def change(newsletter: Newsletter, topic_id: int) -> AnyResponse | tuple[str, int]:
    """Rename a topic, hide it or show it, or move it among the others."""
    action = request.form.get("action", "save")
    try:
        with writing(newsletter) as (session, here):
            topic = topics.find(session, here, topic_id)
            if action in {"up", "down"}:
                topics.move(session, here, topic, -1 if action == "up" else 1)
            else:
                topics.rename(session, here, topic, request.form.get("name", ""))
                topic.hidden = "offered" not in request.form
    except InkorgError as error:
        topics.find(db.session(), newsletter, topic_id)
        return _page(newsletter, str(topic_id), error), status_of(error)
    if action not in {"up", "down"}:
        say(N_("“%(name)s” is saved."), name=topic.name)
    return _back(newsletter, topic_id)


@bp.post("/editor/<slug>/topics/<int:topic_id>/remove")
@needs(Role.EDITOR)
def remove(newsletter: Newsletter, topic_id: int) -> AnyResponse | tuple[str, int]:
    """Remove a topic that nothing and nobody uses."""
    try:
        with writing(newsletter) as (session, here):
            topic = topics.find(session, here, topic_id)
            name = topic.name
            kept = undoing.keep(session, "topic", topic.id)
            topics.remove(session, here, topic)
            undo = undoable(session, here, "topic", kept)
    except InkorgError as error:
        name = topics.find(db.session(), newsletter, topic_id).name
        return _page(newsletter, str(topic_id), error, name), status_of(error)
    say_done(N_("“%(name)s” is removed."), undo, name=name)
    return redirect(url_for("topics.index", slug=newsletter.slug))


@bp.get("/editor/<slug>/topics/<int:topic_id>/merge")
@needs(Role.EDITOR)
def ask_merge(newsletter: Newsletter, topic_id: int) -> str:
    """Say what merging does, and ask with which topic."""
    return _merge_page(newsletter, topics.find(db.session(), newsletter, topic_id))


@bp.post("/editor/<slug>/topics/<int:topic_id>/merge")
@needs(Role.EDITOR)
def merge(newsletter: Newsletter, topic_id: int) -> AnyResponse | tuple[str, int]:
    """Make a topic part of another."""
    wanted = request.form.get("into", 0, type=int)
    try:
        with writing(newsletter) as (session, here):
            topic = topics.find(session, here, topic_id)
            into = topics.find(session, here, wanted) if wanted else topic
            name, whole, target = topic.name, into.name, into.id
            topics.merge(session, topic, into)
    except InkorgError as error:
        topic = topics.find(db.session(), newsletter, topic_id)
        return _merge_page(newsletter, topic, error), status_of(error)
    say(N_("“%(name)s” is part of “%(whole)s” now."), name=name, whole=whole)
    return _back(newsletter, target)


@bp.post("/editor/<slug>/topics/categories")
@needs(Role.EDITOR)
def assign(newsletter: Newsletter) -> AnyResponse:
    """Say which topic each category counts as, and what becomes of new ones."""
    wanted = {
        int(name.removeprefix("category-")): int(value) or None
        for name, value in request.form.items()
        if name.removeprefix("category-").isdecimal()
        and value.isdecimal()
        and max(len(name), len(value)) < 20
        and int(value) <= MAX_ID
    }
    with writing(newsletter) as (session, here):
        categories.assign(session, here, wanted)
        newsletters.change(here, new_topics="new_topics" in request.form)
    say(N_("Saved. Posts that came with these categories have their topics now."))
    return redirect(url_for("topics.index", slug=newsletter.slug, _anchor="categories"))


def _page(
    newsletter: Newsletter,
    wrong: str = "",
    error: InkorgError | None = None,
    typed: str = "",
) -> str:
    session = db.session()
    found = topics.topics(session, newsletter)
    chosen, at = reckonings.choosers(session, newsletter)
    return render(
        "editor/topics.html",
        newsletter,
        topics=found,
        counts=topics.counts(session, newsletter, readers=chosen),
        counted_at=at,
        unused=topics.unused(session, newsletter),
        categories=categories.categories(session, newsletter),
        posts_in=categories.counts(session, newsletter),
        wrong=wrong,
        typed=typed or request.form.get("name", "")[:200],
        errors={"name": rendering.words().error(error)} if error else {},
        limit=topics.MAX_NAME_CHARACTERS,
    )


def _merge_page(
    newsletter: Newsletter, topic: Topic, error: InkorgError | None = None
) -> str:
    session = db.session()
    chosen, at = reckonings.choosers(session, newsletter)
    counts = topics.counts(session, newsletter, readers=chosen)
    posts, readers = counts.get(topic.id, (0, 0))
    return render(
        "editor/topic_merge.html",
        newsletter,
        topic=topic,
        others=[t for t in topics.topics(session, newsletter) if t.id != topic.id],
        posts=posts,
        readers=readers,
        counted_at=at,
        errors={"into": rendering.words().error(error)} if error else {},
    )


def _back(newsletter: Newsletter, topic_id: int) -> AnyResponse:
    return redirect(
        url_for("topics.index", slug=newsletter.slug, _anchor=f"topic-{topic_id}")
    )
