"""Who works with a newsletter: list, invite, change what they may, let go."""

import flask
from flask import Blueprint, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from newsletter import editors, newsletters, undoing
from newsletter.audit import recording
from newsletter.db import db, utcnow
from newsletter.errors import N_, Conflict, Forbidden, InkorgError, InvalidInput
from newsletter.models import Editor, Newsletter, Role
from newsletter.subscribers import addresses
from newsletter.web import editor_mail, rendering, sessions
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    this_editor,
    undoable,
    writing,
)

bp = Blueprint("people", __name__)

ROLE_WORDS = {
    Role.OWNER: N_("Owner"),
    Role.EDITOR: N_("Editor"),
    Role.VIEWER: N_("Viewer"),
}
ROLE_HINTS = {
    Role.OWNER: N_("Everything, also settings, people and erasing."),
    Role.EDITOR: N_("Posts, issues and subscribers."),
    Role.VIEWER: N_("Looks at figures, posts and issues; sees no addresses."),
}


@bp.get("/editor/<slug>/settings/people/")
@needs(Role.OWNER)
def index(newsletter: Newsletter) -> str:
    """List who works with the newsletter."""
    return _page(newsletter)


@bp.post("/editor/<slug>/settings/people/")
@needs(Role.OWNER)
def invite(newsletter: Newsletter) -> Response | tuple[str, int]:
    """Give someone a role; the link goes to their address alone."""
    try:
        role = _role()
        address = addresses.read_address(request.form.get("email", ""), trial=True)
        with writing(newsletter) as (session, here):
            editor = editors.add(session, address.email, role, here, now=utcnow())
            _send_invitation(session, here, editor)
    except InkorgError as error:
        return _page(newsletter, error), status_of(error)
    say(N_("The invitation is on its way to %(email)s."), email=address.email)
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/people/factor")
@needs(Role.OWNER)
def require_factor(newsletter: Newsletter) -> Response:
    """Say whether everybody needs a second factor."""
    needed = "needs_factor" in request.form
    with writing(newsletter) as (_session, here):
        newsletters.change(here, needs_factor=needed)
    if needed:
        say(N_("From now on everybody here needs a second factor."))
    else:
        say(N_("A second factor is everybody's own choice again."))
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/people/<int:membership_id>/resend")
@needs(Role.OWNER)
def resend(newsletter: Newsletter, membership_id: int) -> Response:
    """Send an invitation once more; the link in the former one is void."""
    with writing(newsletter) as (session, here):
        editor = editors.member(session, here, membership_id).editor
        if editor.confirmed_at is not None:
            raise Conflict(
                N_("%(email)s has logged in already: there is nothing to accept."),
                email=editor.email,
            )
        _send_invitation(session, here, editor)
        email = editor.email
    say(N_("The invitation is on its way to %(email)s."), email=email)
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/people/<int:membership_id>/reset")
@needs(Role.OWNER)
def reset_factor(newsletter: Newsletter, membership_id: int) -> Response:
    """Take somebody's lost second factor away, and tell them."""
    with writing(newsletter) as (session, here):
        editor = editors.member(session, here, membership_id).editor
        me = session.get_one(Editor, this_editor().id)
        if not editors.may_reset(me, editor):
            raise Forbidden(
                N_(
                    "%(email)s works with newsletters that are not yours. An owner of"
                    " all of them can do this, or the command"
                    " editor forget-second-factor."
                ),
                email=editor.email,
            )
        editors.forget_second_factor(session, editor)
        recording.note(session, "reset", "editor", editor.id, label=editor.email)
        editor_mail.queue_factor_reset(
            session, current_settings(), editor, me.name or me.email, now=utcnow()
        )
        email = editor.email
    say(
        N_("%(email)s logs in with the password alone until they set a new one up."),
        email=email,
    )
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/people/<int:membership_id>/log-out")
@needs(Role.OWNER)
def log_out(newsletter: Newsletter, membership_id: int) -> Response:
    """End somebody's sessions, wherever they are logged in."""
    with writing(newsletter) as (session, here):
        editor = editors.member(session, here, membership_id).editor
        count = editors.end_sessions(session, editor.id, but=sessions.this_number())
        recording.note(
            session,
            "ended",
            "editor",
            editor.id,
            label=editor.email,
            before={"sessions": count},
        )
        email = editor.email
    say(N_("%(email)s is logged out everywhere."), email=email)
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/people/<int:membership_id>/role")
@needs(Role.OWNER)
def change(newsletter: Newsletter, membership_id: int) -> Response:
    """Change what someone may do."""
    with writing(newsletter) as (session, here):
        membership = editors.member(session, here, membership_id)
        was = {"membership": membership.id, "role": membership.name.value}
        editors.change_role(session, here, membership, _role())
        email = membership.editor.email
        undo = undoable(session, here, "role", was, role=Role.OWNER)
    said = N_("What %(email)s may do is changed.")
    if email == this_editor().email:  # who is no owner any more cannot undo it
        say(said, email=email)
    else:
        say_done(said, undo, email=email)
    return _back(newsletter)


@bp.post("/editor/<slug>/settings/people/<int:membership_id>/remove")
@needs(Role.OWNER)
def remove(newsletter: Newsletter, membership_id: int) -> Response:
    """Let someone go. It takes effect with their next click."""
    with writing(newsletter) as (session, here):
        membership = editors.member(session, here, membership_id)
        email = membership.editor.email
        kept = undoing.keep(session, "membership", membership.id)
        kept["invitation"] = membership.editor.invite_nonce
        editors.remove(session, here, membership)
        undo = undoable(session, here, "membership", kept, role=Role.OWNER)
    said = N_("%(email)s no longer works with this newsletter.")
    if email == this_editor().email:
        say(said, email=email)
        return flask.redirect(flask.url_for("overview.start"))
    say_done(said, undo, email=email)
    return _back(newsletter)


def _send_invitation(session: Session, here: Newsletter, editor: Editor) -> None:
    settings = current_settings()
    if editor.confirmed_at is None:
        url = editors.new_link(session, settings, editor)
    else:  # their account is theirs: a link that logs in is not ours to make
        url = f"{settings.base_url}/editor/{here.slug}/"
    recording.note(session, "invited", "membership", editor.id, label=editor.email)
    editor_mail.queue_invitation(session, settings, editor, here, url, now=utcnow())


def _role() -> Role:
    text = request.form.get("role", "")
    if text not in list(Role):
        raise InvalidInput(N_("Choose what they may do."), field="role")
    return Role(text)


def _page(newsletter: Newsletter, error: InkorgError | None = None) -> str:
    return render(
        "editor/people.html",
        newsletter,
        members=[
            (one, editors.may_reset(this_editor(), one.editor))
            for one in editors.members(db.session(), newsletter)
        ],
        has_factor=editors.has_second_factor,
        error=rendering.words().error(error) if error else "",
        field=getattr(error, "field", "") or ("email" if error else ""),
        email=request.form.get("email", ""),
        chosen=request.form.get("role", Role.EDITOR.value),
        ROLE_WORDS=ROLE_WORDS,
        ROLE_HINTS=ROLE_HINTS,
    )


def _back(newsletter: Newsletter) -> Response:
    return flask.redirect(flask.url_for("people.index", slug=newsletter.slug))
