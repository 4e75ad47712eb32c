"""Mail to editors: invitations, forgotten passwords, what has changed.

It goes through the outbox like every other single mail. It comes from one of the
editor's own newsletters, as that is the sender the relay knows.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.i18n import Language
from newsletter.mail import outbox, own_relays
from newsletter.mail.notices import Notice, notice_letter
from newsletter.models import Editor, Newsletter, NewsletterRelay

# One mail of a kind within this time, however often it is asked for: the link in the
# one that was sent still works.
GAP_SECONDS = 20 * 60


def queue(
    session: Session,
    settings: Settings,
    kind: str,
    editor: Editor,
    *,
    reset_token: str = "",
    now: datetime,
) -> None:
    """Queue what Flask-Security wants said. Unknown kinds are not sent."""
    words = i18n.language(editor.language)
    page = f"{settings.base_url}/editor/login/forgotten"
    if kind == "reset_instructions":
        notice = _forgotten(words, f"{page}/{reset_token}")
    elif kind in {"reset_notice", "change_notice"}:
        notice = _changed(words, page)
    else:
        return
    occasion = f"{kind}:{editor.id}:{int(now.timestamp()) // GAP_SECONDS}"
    _send(session, settings, editor, words, notice, occasion, now=now)


def queue_invitation(
    session: Session,
    settings: Settings,
    editor: Editor,
    newsletter: Newsletter,
    url: str,
    *,
    now: datetime,
) -> None:
    """Queue an invitation; `url` logs in once, or leads to the login."""
    words = i18n.language(editor.language)
    title = newsletter.title
    if editor.confirmed_at is None:
        how = words.gettext("The link below works once, for seven days.")
        button = words.gettext("Accept the invitation")
    else:
        how = words.gettext("Log in as usual, and it is among your newsletters.")
        button = words.gettext("Log in")
    invited = words.gettext(
        "You are invited to work with the newsletter %(title)s.", title=title
    )
    notice = Notice(
        subject=words.gettext("Work with %(title)s", title=title),
        paragraphs=[invited, how],
        button=button,
        url=url,
        footer=words.gettext("If you do not know what this is about, do nothing."),
    )
    occasion = f"invite:{editor.id}:{newsletter.id}:{int(now.timestamp())}"
    _send(session, settings, editor, words, notice, occasion, now=now)


def queue_factor_reset(
    session: Session,
    settings: Settings,
    editor: Editor,
    by: str,
    *,
    now: datetime,
) -> None:
    """Tell an editor that an owner took their second factor away."""
    words = i18n.language(editor.language)
    notice = Notice(
        subject=words.gettext("Your second factor has been reset"),
        paragraphs=[
            words.gettext(
                "%(owner)s has reset the second factor of your account in Inkorg, and"
                " all your sessions have ended. Until you set it up again, your"
                " password alone logs you in.",
                owner=by,
            )
        ],
        button=words.gettext("Log in and set it up"),
        url=f"{settings.base_url}/editor/account/second-factor",
        footer=words.gettext(
            "If you did not ask for this, choose a new password and tell an owner of"
            " your newsletter."
        ),
    )
    occasion = f"factor_reset:{editor.id}:{int(now.timestamp())}"
    _send(session, settings, editor, words, notice, occasion, now=now)


def _forgotten(words: Language, url: str) -> Notice:
    return Notice(
        subject=words.gettext("Choose a new password"),
        paragraphs=[
            words.gettext(
                "Someone, hopefully you, asked for a new password to your account in"
                " Inkorg. The link below works for two hours."
            )
        ],
        button=words.gettext("Choose a new password"),
        url=url,
        footer=words.gettext(
            "If it was not you, do nothing: your password stays as it is."
        ),
    )


def _changed(words: Language, page: str) -> Notice:
    return Notice(
        subject=words.gettext("Your password has been changed"),
        paragraphs=[
            words.gettext(
                "The password to your account in Inkorg has just been changed, and all"
                " other sessions have ended."
            )
        ],
        button=words.gettext("It was not me"),
        url=page,
        footer=words.gettext("If it was you, there is nothing to do."),
    )


def _send(
    session: Session,
    settings: Settings,
    editor: Editor,
    words: Language,
    notice: Notice,
    occasion: str,
    *,
    now: datetime,
) -> None:
    newsletter = _newsletter_of(session, editor)
    if newsletter and not own_relays.may_send_accounts(session, newsletter):
        newsletter = None
    letter = notice_letter(
        words,
        notice,
        from_name=newsletter.from_name if newsletter else "Inkorg",
        from_email=newsletter.from_email if newsletter else f"inkorg@{settings.host}",
    )
    outbox.queue_single(
        session,
        letter,
        address=editor.email,
        occasion=occasion,
        now=now,
        newsletter_id=newsletter.id if newsletter else None,
    )


def _newsletter_of(session: Session, editor: Editor) -> Newsletter | None:
    own = [m.newsletter_id for m in editor.roles if m.newsletter_id is not None]
    elsewhere = select(NewsletterRelay.newsletter_id).where(NewsletterRelay.active)
    query = (
        select(Newsletter)
        .where(Newsletter.id.not_in(elsewhere))
        .order_by(Newsletter.id)
        .limit(1)
    )
    if own:
        query = query.where(Newsletter.id.in_(own))
    return session.scalar(query)
