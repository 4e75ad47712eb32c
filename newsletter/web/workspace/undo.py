"""Undoing what was just done, from the page that follows: one button, no questions.

Each kind of thing that `access.undoable` kept has its way back here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from flask import Blueprint, redirect, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from newsletter import editors, undoing
from newsletter.audit import recording
from newsletter.db import utcnow
from newsletter.digests import calendar, design, drafts, publish, versions
from newsletter.errors import N_, Forbidden, InkorgError, NotFound
from newsletter.mail import own_relays
from newsletter.models import Issue, Membership, Newsletter, Role
from newsletter.posts import editing, sources
from newsletter.subscribers import directory, notes, stopping
from newsletter.web.workspace.access import needs, say, this_editor, writing

bp = Blueprint("undo", __name__)

Data = Mapping[str, Any]
Way = Callable[[Session, Newsletter, Data], str]  # returns the page to go to


@bp.post("/editor/<slug>/undo/<int:number>")
@needs(Role.EDITOR)
def undo(newsletter: Newsletter, number: int) -> Response:
    """Undo one thing that this editor did. The second press finds it undone."""
    editor = this_editor()
    try:
        with writing(newsletter) as (session, here):
            row = undoing.take(
                session, here.id, number, editor_id=editor.id, now=utcnow()
            )
            if not editors.may(editor, here, row.role):
                raise Forbidden
            there = WAYS[row.kind](session, here, row.data)
    except (Forbidden, NotFound):
        raise
    except InkorgError as error:
        say(error.message, "warn", **error.values)
        return redirect(url_for("overview.show", slug=newsletter.slug))
    say(N_("Undone. It is as it was."))
    return redirect(there)


def _back(session: Session, kind: str, kept: Data) -> int:
    number = undoing.put_back(session, kind, kept)
    row = kept["row"]
    label = str(row.get("name") or row.get("url") or row.get("host") or "")
    recording.note(session, "restored", kind, number, label=label)
    return number


def _topic(session: Session, here: Newsletter, data: Data) -> str:
    number = _back(session, "topic", data)
    return url_for("topics.index", slug=here.slug, _anchor=f"topic-{number}")


def _segment(session: Session, here: Newsletter, data: Data) -> str:
    _back(session, "segment", data)
    return url_for("segments.index", slug=here.slug)


def _feed(session: Session, here: Newsletter, data: Data) -> str:
    sources.check(session, here, str(data["row"]["url"]))  # another may be there by now
    number = _back(session, "feed", data)
    sources.fetch_soon(sources.find(session, here, number))
    return url_for("feeds.index", slug=here.slug, _anchor=f"feed-{number}")


def _feed_paused(session: Session, here: Newsletter, data: Data) -> str:
    sources.resume_feed(sources.find(session, here, data["feed"]))
    return url_for("feeds.index", slug=here.slug, _anchor=f"feed-{data['feed']}")


def _issue(session: Session, here: Newsletter, data: Data) -> str:
    publish.refuse_second(session, here, str(data["row"]["rhythm"]))
    number = _back(session, "issue", data)
    return url_for("issues.show", slug=here.slug, issue_id=number)


def _issue_skipped(session: Session, here: Newsletter, data: Data) -> str:
    issue = drafts.find(session, data["issue"])
    publish.unskip(session, issue)
    return url_for("issues.show", slug=here.slug, issue_id=issue.id)


def _membership(session: Session, here: Newsletter, data: Data) -> str:
    number = _back(session, "membership", data)
    editor = session.get_one(Membership, number).editor
    if not editor.invite_nonce:
        editor.invite_nonce = str(data["invitation"])
    return url_for("people.index", slug=here.slug)


def _role(session: Session, here: Newsletter, data: Data) -> str:
    membership = editors.member(session, here, data["membership"])
    editors.change_role(session, here, membership, Role(data["role"]))
    return url_for("people.index", slug=here.slug)


def _relay(session: Session, here: Newsletter, data: Data) -> str:
    own_relays.make_ready(session, here)
    _back(session, "relay", data)
    return url_for("relay_settings.show", slug=here.slug)


def _stopped(session: Session, here: Newsletter, data: Data) -> str:
    found = directory.subscription(session, here, data["subscription"])
    stopping.undo_stop(session, found, data, by=this_editor().email, now=utcnow())
    return _reader(here, data)


def _lifted(session: Session, here: Newsletter, data: Data) -> str:
    found = directory.subscription(session, here, data["subscription"])
    stopping.undo_lift(session, found, data, by=this_editor().email, now=utcnow())
    return _reader(here, data)


def _note(session: Session, here: Newsletter, data: Data) -> str:
    found = directory.subscription(session, here, data["subscription"])
    notes.put_back(session, found, data["note"])
    return _reader(here, data)


def _reader(here: Newsletter, data: Data) -> str:
    return url_for("reader.show", slug=here.slug, subscription_id=data["subscription"])


def _withdrawn(session: Session, here: Newsletter, data: Data) -> str:
    ids = [was["id"] for was in data["posts"]]
    for was in data["posts"]:
        post = editing.find(session, here, was["id"])
        editing.bring_back(session, post, was, now=utcnow())
    if len(ids) == 1:
        return url_for("posts.show", slug=here.slug, post_id=ids[0])
    return url_for("posts.index", slug=here.slug)


def _design(session: Session, here: Newsletter, data: Data) -> str:
    number, editor = data["version"], this_editor()
    design.restore(session, here, number, editor=editor, now=utcnow())
    return url_for("design.show", slug=here.slug)


def _version(session: Session, here: Newsletter, data: Data) -> str:
    drafts.hold(session, data["issue"])
    issue = session.get_one(Issue, data["issue"])
    number, editor_id = data["version"], this_editor().id
    versions.put_back(session, issue, number, editor_id=editor_id, now=utcnow())
    return url_for("issues.show", slug=here.slug, issue_id=issue.id)


def _named(data: Data) -> tuple[str, datetime]:
    return data["rhythm"], datetime.fromisoformat(data["due"])


def _skipped(session: Session, here: Newsletter, data: Data) -> str:
    calendar.unskip(session, here, *_named(data), now=utcnow())
    return url_for("calendar.index", slug=here.slug)


def _unskipped(session: Session, here: Newsletter, data: Data) -> str:
    calendar.skip(session, here, *_named(data), now=utcnow())
    return url_for("calendar.index", slug=here.slug)


def _moved(session: Session, here: Newsletter, data: Data) -> str:
    to = datetime.fromisoformat(data["at"]) if data["at"] else None
    calendar.move_back(session, here, *_named(data), to=to, now=utcnow())
    return url_for("calendar.index", slug=here.slug)


WAYS: dict[str, Way] = {
    "topic": _topic,
    "segment": _segment,
    "feed": _feed,
    "feed-paused": _feed_paused,
    "issue": _issue,
    "issue-skipped": _issue_skipped,
    "membership": _membership,
    "role": _role,
    "relay": _relay,
    "stopped": _stopped,
    "lifted": _lifted,
    "note": _note,
    "withdrawn": _withdrawn,
    "design": _design,
    "version": _version,
    "skipped": _skipped,
    "unskipped": _unskipped,
    "moved": _moved,
}
