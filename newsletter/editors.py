"""Editors: who may do what, and how they are invited.

An editor has a role for one newsletter, for several, or (a membership without a
newsletter) for all of them, also those that come later. The highest one counts.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import N_, Conflict, InvalidInput, InvalidLink, NotFound
from newsletter.models import (
    Editor,
    EditorSession,
    Membership,
    Newsletter,
    Role,
    UsedLink,
)

SESSION_LIVES = timedelta(days=7)  # then one logs in anew, however busy
RANK = {Role.VIEWER: 1, Role.EDITOR: 2, Role.OWNER: 3}
MAX_SESSIONS_SHOWN = 50
ADDRESS = re.compile(r"[^@\s\"<>]{1,64}@[^@\s\"<>]{1,250}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link that is still good: whose, and for what."""

    editor: Editor
    nonce: str


def role_of(editor: Editor, newsletter: Newsletter) -> Role | None:
    """Return the editor's role for a newsletter, or None for a stranger."""
    held = [
        membership.name
        for membership in editor.roles
        if membership.newsletter_id in {None, newsletter.id}
    ]
    return max(held, key=RANK.__getitem__, default=None)


def may(editor: Editor, newsletter: Newsletter, role: Role) -> bool:
    """Tell whether the editor may do what `role` may do for a newsletter."""
    held = role_of(editor, newsletter)
    return held is not None and RANK[held] >= RANK[role]


def may_create(editor: Editor) -> bool:
    """Tell whether the editor may create newsletters: an owner of all may."""
    return any(
        membership.newsletter_id is None and membership.name is Role.OWNER
        for membership in editor.roles
    )


def works_with_several(editor: Editor) -> bool:
    """Tell whether there may be more than one newsletter for this editor."""
    return len(editor.roles) > 1 or any(m.newsletter_id is None for m in editor.roles)


def newsletters_of(
    session: Session, editor: Editor, limit: int | None = None
) -> list[Newsletter]:
    """Return the newsletters an editor works with, by title."""
    query = select(Newsletter).order_by(Newsletter.title, Newsletter.id).limit(limit)
    if all(membership.newsletter_id is not None for membership in editor.roles):
        query = query.where(
            Newsletter.id.in_(
                select(Membership.newsletter_id).where(
                    Membership.editor_id == editor.id
                )
            )
        )
    return list(session.scalars(query))


def invite(
    session: Session,
    settings: Settings,
    email: str,
    role: Role,
    newsletter: Newsletter | None = None,
    *,
    now: datetime,
) -> str:
    """Give someone a role and return the one-time link that lets them in.

    The link logs in, so it goes to the address itself or to the operator, and to nobody
    else. Links made earlier for the same editor are void. Raises InvalidInput.
    """
    editor = add(session, email, role, newsletter, now=now)
    return new_link(session, settings, editor)


def add(
    session: Session,
    email: str,
    role: Role,
    newsletter: Newsletter | None = None,
    *,
    now: datetime,
) -> Editor:
    """Give someone a role, as a new editor or one that is here already."""
    editor = by_email(session, email) or _new_editor(session, email, newsletter, now)
    newsletter_id = newsletter.id if newsletter else None
    for membership in editor.roles:
        if membership.newsletter_id == newsletter_id:
            membership.name = role
            break
    else:
        editor.roles.append(Membership(newsletter_id=newsletter_id, name=role))
    editor.active = True
    session.flush()
    return editor


def new_link(session: Session, settings: Settings, editor: Editor) -> str:
    """Return a one-time link that logs the editor in; earlier ones are void."""
    editor.invite_nonce = links.new_token()
    session.flush()
    return links.signed_url(settings, links.INVITE, [editor.id, editor.invite_nonce])


def open_invitation(session: Session, settings: Settings, token: str) -> Invitation:
    """Return whom a link is for. Raises InvalidLink or ExpiredLink."""
    match links.read(settings, links.INVITE, token).payload:
        case [int() as editor_id, str() as nonce] if nonce:
            editor = session.get(Editor, editor_id)
        case _:
            editor, nonce = None, ""
    if editor is None or not editor.active or editor.invite_nonce != nonce:
        raise InvalidLink(
            N_(
                "This link has been used, or a newer one was made. Log in, or ask for a"
                " new invitation."
            )
        )
    return Invitation(editor, nonce)


def accept_invitation(
    session: Session,
    settings: Settings,
    token: str,
    *,
    name: str = "",
    password_hash: str = "",
    now: datetime,
) -> Editor:
    """Use an invitation up, and keep the name and password that came with it.

    Raises InvalidLink or ExpiredLink.
    """
    invitation = open_invitation(session, settings, token)
    editor = invitation.editor
    session.add(UsedLink(nonce=f"invite:{invitation.nonce}", used_at=now))
    editor.invite_nonce = ""
    editor.confirmed_at = editor.confirmed_at or now
    if name.strip():
        editor.name = clean_name(name)
    if password_hash:
        editor.password = password_hash
        editor.fs_uniquifier = links.new_token()  # sessions elsewhere end
        end_sessions(session, editor.id)
    session.flush()
    return editor


def has_second_factor(editor: Editor) -> bool:
    """Tell whether logging in with a password takes one more step."""
    return bool(editor.tf_primary_method) or any(
        passkey.usage == "secondary" for passkey in editor.webauthn
    )


def lacks_factor(editor: Editor, newsletter: Newsletter) -> bool:
    """Tell whether a newsletter asks for a second factor that the editor has not.

    Passkeys alone are one: who has no password shows the key and opens it.
    """
    only_passkeys = bool(editor.webauthn) and not editor.password
    return newsletter.needs_factor and not (has_second_factor(editor) or only_passkeys)


def may_reset(editor: Editor, other: Editor) -> bool:
    """Tell whether an editor may take another's second factor away.

    It guards all that the other works with, so they must own all of it.
    """
    if may_create(editor):
        return editor.id != other.id
    owned = {m.newsletter_id for m in editor.roles if m.name is Role.OWNER}
    return editor.id != other.id and {m.newsletter_id for m in other.roles} <= owned


def sessions(session: Session, editor: Editor, *, now: datetime) -> list[EditorSession]:
    """Return where an editor is logged in, the one used last first."""
    return list(
        session.scalars(
            select(EditorSession)
            .where(
                EditorSession.editor_id == editor.id,
                EditorSession.started_at > now - SESSION_LIVES,
            )
            .order_by(EditorSession.seen_at.desc(), EditorSession.id.desc())
            .limit(MAX_SESSIONS_SHOWN)
        )
    )


def end_session(session: Session, number: str) -> None:
    """End the session of that number, if there is one."""
    session.execute(delete(EditorSession).where(EditorSession.number == number))


def end_sessions(
    session: Session, editor_id: int, *, only: int | None = None, but: str = ""
) -> int:
    """End an editor's sessions, or `only` one, `but` for one; return how many."""
    query = delete(EditorSession).where(
        EditorSession.editor_id == editor_id, EditorSession.number != but
    )
    if only is not None:
        query = query.where(EditorSession.id == only)
    ended = session.execute(query.returning(EditorSession.id)).all()
    return len(ended)


def forget_sessions(session: Session, *, now: datetime) -> None:
    """Delete what is left of sessions that have come to their end."""
    session.execute(
        delete(EditorSession).where(EditorSession.started_at < now - SESSION_LIVES)
    )


def forget_second_factor(session: Session, editor: Editor) -> None:
    """Let an editor in with the password alone, until they set a factor up again.

    Whoever is logged in as them is not any longer.
    """
    editor.tf_primary_method = None
    editor.tf_totp_secret = None
    editor.mf_recovery_codes = None
    editor.webauthn = [key for key in editor.webauthn if key.usage != "secondary"]
    editor.fs_uniquifier = links.new_token()
    end_sessions(session, editor.id)


def by_email(session: Session, email: str) -> Editor | None:
    """Return the editor with an address, however it is capitalised."""
    key = email.strip().lower()
    return session.scalar(select(Editor).where(func.lower(Editor.email) == key))


def members(session: Session, newsletter: Newsletter | None = None) -> list[Membership]:
    """Return who works with a newsletter (or with any), by address."""
    query = select(Membership).join(Editor).order_by(Editor.email, Membership.id)
    if newsletter is not None:
        query = query.where(
            (Membership.newsletter_id == newsletter.id)
            | Membership.newsletter_id.is_(None)
        )
    return list(session.scalars(query))


def member(session: Session, newsletter: Newsletter, membership_id: int) -> Membership:
    """Return a membership of this newsletter. Raises NotFound.

    One for all newsletters is not this one's to change.
    """
    membership = session.get(Membership, membership_id)
    if membership is None or membership.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no such person here (any more)."))
    return membership


def change_role(
    session: Session, newsletter: Newsletter, membership: Membership, role: Role
) -> None:
    """Change what someone may do for a newsletter. Raises Conflict."""
    if role is not Role.OWNER:
        _refuse_losing_the_last_owner(session, newsletter, membership)
    membership.name = role
    session.flush()


def remove(session: Session, newsletter: Newsletter, membership: Membership) -> None:
    """End someone's work with a newsletter. Raises Conflict."""
    _refuse_losing_the_last_owner(session, newsletter, membership)
    editor = membership.editor
    editor.roles.remove(membership)
    if not editor.roles:
        editor.invite_nonce = ""
    session.flush()


def clean_name(name: str) -> str:
    """Return a name that can be shown. Raises InvalidInput."""
    name = " ".join(name.split())
    if len(name) > 200 or not name.isprintable():
        raise InvalidInput(
            N_("A name has at most 200 characters, all of them visible."), field="name"
        )
    return name


def _new_editor(
    session: Session, email: str, newsletter: Newsletter | None, now: datetime
) -> Editor:
    email = email.strip().lower()
    if not ADDRESS.fullmatch(email) or not email.isprintable():
        raise InvalidInput(
            N_("%(email)s is not an email address. It looks like name@example.org."),
            field="email",
            email=email[:320] or "–",
        )
    editor = Editor(
        email=email,
        language=newsletter.language if newsletter else "sv",
        fs_uniquifier=links.new_token(),
        created_at=now,
    )
    session.add(editor)
    return editor


def _refuse_losing_the_last_owner(
    session: Session, newsletter: Newsletter, membership: Membership
) -> None:
    """Keep an owner who has been here: an invitation may never be accepted."""
    others = [
        other
        for other in members(session, newsletter)
        if other.name is Role.OWNER
        and other.id != membership.id
        and (other.editor.confirmed_at or not membership.editor.confirmed_at)
    ]
    if membership.name is Role.OWNER and not others:
        raise Conflict(
            N_("A newsletter needs an owner. Make someone else owner first.")
        )
