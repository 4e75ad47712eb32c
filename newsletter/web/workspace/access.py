"""Who may open which page of the workspace. Every view there says what it needs.

    @bp.get("/editor/<slug>/posts/")
    @needs(Role.VIEWER)
    def posts(newsletter: Newsletter) -> str: ...

A stranger is sent to the login page, someone else's editor learns nothing (404), too
low a role is told so (403). What a view needs is kept on the function, so that a test
can walk the URL map and find a view that forgot to say.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

import flask
from flask import abort, redirect, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from newsletter import editors, newsletters, undoing
from newsletter.audit import recording
from newsletter.db import db, transaction, utcnow
from newsletter.errors import N_, Forbidden, NotFound
from newsletter.models import Editor, Newsletter, Role
from newsletter.web import rendering, sessions
from newsletter.web.login import LOGIN, NEEDS, NOTHING, current_editor

View = TypeVar("View", bound=Callable[..., Any])

OTHERS_SHOWN = 12  # newsletters to go over to; the start page lists them all
MAX_ID = 2**31 - 1

# The pages of one newsletter, as the navigation shows them: name, words, path.
NAVIGATION = (
    ("overview", N_("Overview"), ""),
    ("posts", N_("Posts"), "posts/"),
    ("issues", N_("Issues"), "issues/"),
    ("calendar", N_("Calendar"), "calendar/"),
    ("subscribers", N_("Subscribers"), "subscribers/"),
    ("design", N_("Design"), "design/"),
    ("settings", N_("Settings"), "settings/"),
)


def needs(role: Role) -> Callable[[View], Callable[..., Any]]:
    """Let only those in who have `role`; the view gets the newsletter, not its slug."""

    def decorate(view: View) -> Callable[..., Any]:
        @functools.wraps(view)
        def wrapper(slug: str, **values: Any) -> Any:
            editor = current_editor()
            if editor is None:
                return _to_login()
            newsletter = _newsletter_for(editor, slug)
            if any(isinstance(v, int) and v > MAX_ID for v in values.values()):
                abort(404)  # no row has it, and a database may refuse to look
            if not editors.may(editor, newsletter, role):
                raise Forbidden(
                    N_("Your role lets you look, not change this. Ask an owner.")
                )
            if editors.lacks_factor(editor, newsletter):
                return _to_second_factor(newsletter)
            return view(newsletter, **values)

        setattr(wrapper, NEEDS, role)
        return wrapper

    return decorate


def needs_login(view: View) -> Callable[..., Any]:
    """Let only editors in; for pages that belong to no newsletter."""

    @functools.wraps(view)
    def wrapper(**values: Any) -> Any:
        editor = current_editor()
        if editor is None:
            return _to_login()
        rendering.speak(editor.language)
        if any(isinstance(v, int) and v > MAX_ID for v in values.values()):
            abort(404)
        return view(editor, **values)

    setattr(wrapper, NEEDS, LOGIN)
    return wrapper


def open_to_strangers(view: View) -> View:
    """Say that a page under /editor/ is for those who are not logged in (yet)."""
    setattr(view, NEEDS, NOTHING)
    return view


def this_editor() -> Editor:
    """Return the editor who is logged in. Only in views that need one."""
    editor = current_editor()
    if editor is None:
        abort(401)
    return editor


@contextmanager
def writing(newsletter: Newsletter) -> Iterator[tuple[Session, Newsletter]]:
    """Open a transaction and give the newsletter as it stands in there."""
    with transaction() as session:
        recording.of_newsletter(session, newsletter.id)
        yield session, session.get_one(Newsletter, newsletter.id)


def render(template: str, newsletter: Newsletter | None, /, **values: Any) -> str:
    """Render a page of the workspace: with its frame, and what the editor may do."""
    editor = this_editor()
    may_own = _may(editor, newsletter, Role.OWNER)
    shown = NAVIGATION if may_own else NAVIGATION[:-1]  # settings are the owners'
    return rendering.render(
        template,
        editor=editor,
        newsletter=newsletter,
        navigation=shown,
        may_edit=_may(editor, newsletter, Role.EDITOR),
        duration=rendering.words().duration,
        neighbours=_neighbours(editor, newsletter),
        may_own=may_own,
        tells_seen=sessions.is_due(),
        **values,
    )


def say(message: str, kind: str = "good", **values: object) -> None:
    """Show a line on the next page: what was done."""
    flask.flash(rendering.words().gettext(message, **values), kind)


def undoable(
    session: Session,
    newsletter: Newsletter,
    kind: str,
    data: Mapping[str, Any],
    *,
    role: Role = Role.EDITOR,
) -> str:
    """Keep how to undo what is about to be done; return the address that does."""
    number = undoing.offer(
        session,
        newsletter.id,
        kind,
        data,
        editor_id=this_editor().id,
        role=role,
        now=utcnow(),
    )
    return flask.url_for("undo.undo", slug=newsletter.slug, number=number)


def say_done(message: str, undo: str, **values: object) -> None:
    """Show what was done on the next page, with the button that undoes it."""
    text = rendering.words().gettext(message, **values)
    flask.flash({"text": text, "undo": undo}, "good")  # type: ignore[arg-type]


def _neighbours(editor: Editor, newsletter: Newsletter | None) -> list[Newsletter]:
    """Return the first other newsletters that one may go over to."""
    if newsletter is None or not editors.works_with_several(editor):
        return []
    found = editors.newsletters_of(db.session(), editor, OTHERS_SHOWN + 1)
    return [one for one in found if one.id != newsletter.id][:OTHERS_SHOWN]


def _may(editor: Editor, newsletter: Newsletter | None, role: Role) -> bool:
    return newsletter is not None and editors.may(editor, newsletter, role)


def _newsletter_for(editor: Editor, slug: str) -> Newsletter:
    rendering.speak(editor.language)
    newsletter = newsletters.by_slug(db.session(), slug)
    role = editors.role_of(editor, newsletter)
    if role is None:
        raise NotFound(N_("There is no newsletter called %(slug)s."), slug=slug[:63])
    return newsletter


def _to_second_factor(newsletter: Newsletter) -> Response:
    """Send someone to set a second factor up before anything else."""
    if request.method not in {"GET", "HEAD"}:
        raise Forbidden(
            N_(
                "This newsletter asks for a second factor. Set yours up first, under"
                " Your account."
            )
        )
    if "_flashes" not in flask.session:  # one line, however many parts of a page ask
        say(
            N_(
                "%(title)s asks for a second factor. Switch it on here, then you can go"
                " on."
            ),
            "info",
            title=newsletter.title,
        )
    return redirect(flask.url_for("security.two_factor_setup"))


def _to_login() -> Response:
    """Send someone to log in and back; what they posted is not repeated."""
    if request.method not in {"GET", "HEAD"}:
        abort(401)
    query = urlencode({"next": request.full_path.rstrip("?")})
    return redirect(f"{flask.url_for('security.login')}?{query}")
