"""Saving a draft that others may save too: they are told, and nobody's words are lost.

A form knows which version of the draft it was shown. Where somebody has saved since,
fields that only one of the two changed are brought together. Where both changed the
same, the draft stays as it is: what was typed is kept aside, and whoever saved second
chooses, with both before them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from flask import Response, jsonify
from sqlalchemy.orm import Session

from newsletter.db import utcnow
from newsletter.digests import versions
from newsletter.digests.versions import TEXTS, Merged, Value, Words
from newsletter.errors import N_, Conflict, InkorgError
from newsletter.models import DraftVersion, Issue, IssueState, Newsletter, VersionKind
from newsletter.web import rendering
from newsletter.web.security import status_of
from newsletter.web.workspace import issue_form
from newsletter.web.workspace.access import say, this_editor, writing

# Text fields that a page can take up while somebody types in others.
IN_PLACE = (*TEXTS, "title", "excerpt")


class Form(Protocol):
    """What a form that writes a draft can do here."""

    fingerprint: str
    version: int
    sitting: str

    def words(self) -> Words:
        """Return what was typed as it would be stored."""

    def take(self, words: Words) -> None:
        """Put other words into the form."""


class Stale(Conflict):
    """Someone else changed this issue while you wrote."""


@dataclass(frozen=True, slots=True)
class Theirs:
    """What somebody saved meanwhile."""

    who: str
    at: datetime | None
    taken: dict[str, Value]  # stands in the form now
    both: dict[str, Value]  # both changed it: here theirs, in the form mine


def meet(
    session: Session, issue: Issue, form: Form, *, own_page_wins: bool = True
) -> Theirs | None:
    """Bring what was typed together with what was saved since the form was shown.

    None where nothing was. What the same open page saved last counts as the form's own
    with `own_page_wins`. Raises Stale where both changed the same.
    """
    if form.fingerprint == issue_form.fingerprint(issue):
        return None
    saved = versions.since(session, issue, form.version)
    if own_page_wins and _are_of_page(saved, form) and _is_newest(saved, issue):
        return None
    merged = _merged(session, issue, form)
    if merged.both:
        raise Stale
    form.take(merged.words)
    return _theirs(saved, merged)


def record(
    session: Session,
    issue: Issue,
    form: Form,
    kind: VersionKind = VersionKind.SAVED,
) -> None:
    """Make a version of what has just been written to a draft."""
    session.flush()
    versions.record(
        session,
        issue,
        kind=kind,
        editor_id=this_editor().id,
        sitting=form.sitting,
        now=utcnow(),
    )


def tell(theirs: Theirs | None) -> None:
    """Say on the next page whose words are in the draft beside one's own."""
    if theirs is not None and theirs.taken:
        say(
            N_("Saved meanwhile by %(who)s. Both your changes and theirs are in."),
            "warn",
            who=theirs.who,
        )


def stand_aside(session: Session, issue: Issue, form: Form) -> Theirs:
    """Keep what was typed, and let the form show both; the draft stays as it is."""
    versions.note(session, issue, now=utcnow())
    _keep_aside(session, issue, form)
    merged = _merged(session, issue, form)
    saved = versions.since(session, issue, form.version)
    form.take(merged.words)
    form.fingerprint = issue_form.fingerprint(issue)
    form.version = issue.version
    return _theirs(saved, merged)


def autosave(
    newsletter: Newsletter,
    read: Callable[[Session, Newsletter], tuple[Issue, Form]],
    write: Callable[[Session, Issue, Any], None],
) -> Response | tuple[Response, int]:
    """Save what is being typed; answer as JSON what the page is to show.

    A scheduled issue goes out by itself, so words that may be half of a sentence are
    kept aside until somebody presses the button.
    """
    words = rendering.words()
    try:
        with writing(newsletter) as (session, here):
            issue, form = read(session, here)
            if issue.state is IssueState.SCHEDULED:
                return _kept(session, issue, form)
            theirs = meet(session, issue, form, own_page_wins=False)
            if theirs and not all(_is_in_place(name) for name in theirs.taken):
                raise Stale
            versions.note(session, issue, now=utcnow())
            write(session, issue, form)
            record(session, issue, form, VersionKind.AUTOSAVED)
            return jsonify(
                said=_saved_at(newsletter),
                fingerprint=issue_form.fingerprint(issue),
                version=issue.version,
                fields=theirs.taken if theirs else {},
                told=_told(theirs),
            )
    except Stale as error:
        with writing(newsletter) as (session, here):
            issue, form = read(session, here)
            who = stand_aside(session, issue, form).who
        said = words.gettext(
            "Changed at the same time by %(who)s. Both are kept.",
            who=who,
        )
        return jsonify(conflict=said), status_of(error)
    except InkorgError as error:
        return jsonify(error=words.error(error)), status_of(error)


@dataclass(frozen=True, slots=True)
class Saved:
    """When a draft was saved last, and by whom, as its page says it."""

    number: int
    who: str
    at: datetime | None
    mine: bool
    aside: DraftVersion | None  # what I wrote that is not in the draft


def state_of(session: Session, issue: Issue) -> Saved:
    """Return how things stand with a draft's versions."""
    me = this_editor().id
    newest = versions.in_use(session, issue)
    return Saved(
        number=issue.version,
        who=name_of(newest),
        at=newest.created_at if newest else None,
        mine=newest is not None and newest.editor_id == me,
        aside=versions.aside_of(session, issue, me),
    )


def name_of(version: DraftVersion | None) -> str:
    """Return who saved a version, as others know them."""
    words = rendering.words()
    if version is None or version.editor is None:
        return words.gettext("somebody")
    return version.editor.name or version.editor.email


def _told(theirs: Theirs | None) -> str:
    if theirs is None or not theirs.taken:
        return ""
    return rendering.words().gettext(
        "Changed meanwhile by %(who)s. It stands in the form now.", who=theirs.who
    )


def _kept(session: Session, issue: Issue, form: Form) -> Response:
    versions.note(session, issue, now=utcnow())
    _keep_aside(session, issue, form)
    said = rendering.words().gettext(
        "Kept %(clock)s. It goes out by itself, so press Save to put this in.",
        clock=_clock(issue.newsletter),
    )
    return jsonify(kept=said)


def _keep_aside(session: Session, issue: Issue, form: Form) -> None:
    versions.keep_aside(
        session,
        issue,
        form.words(),
        editor_id=this_editor().id,
        sitting=form.sitting,
        now=utcnow(),
    )


def _merged(session: Session, issue: Issue, form: Form) -> Merged:
    found = {v.number: v for v in versions.listed(session, issue)}
    shown = found.get(form.version or 1)
    base = versions.words_of(shown) if shown else None
    return versions.merge(base, form.words(), versions.of(issue))


def _theirs(saved: list[DraftVersion], merged: Merged) -> Theirs:
    newest = saved[0] if saved else None
    mine = newest is not None and newest.editor_id == this_editor().id
    return Theirs(
        who=rendering.words().gettext("you, in another window")
        if mine
        else name_of(newest),
        at=newest.created_at if newest else None,
        taken=merged.taken,
        both=merged.both,
    )


def _are_of_page(saved: list[DraftVersion], form: Form) -> bool:
    return bool(form.sitting and saved) and all(
        version.sitting == form.sitting for version in saved
    )


def _is_newest(saved: list[DraftVersion], issue: Issue) -> bool:
    return versions.words_of(saved[0]) == versions.of(issue)


def _is_in_place(name: str) -> bool:
    return name.partition("-")[0] in IN_PLACE


def _saved_at(newsletter: Newsletter) -> str:
    return rendering.words().gettext("Saved %(clock)s.", clock=_clock(newsletter))


def _clock(newsletter: Newsletter) -> str:
    return rendering.words().clock(utcnow(), newsletter.timezone)
