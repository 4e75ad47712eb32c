"""Versions of an issue's or a letter's draft: the list, one of them, going back."""

import itertools
from dataclasses import dataclass

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter.db import db, utcnow
from newsletter.digests import drafts, segments, versions
from newsletter.digests.versions import Value, Words
from newsletter.errors import N_
from newsletter.models import (
    DraftVersion,
    Issue,
    IssueKind,
    Newsletter,
    Role,
    VersionKind,
)
from newsletter.web import rendering
from newsletter.web.workspace import issue_form, issue_preview, letter_form, saving
from newsletter.web.workspace.access import (
    needs,
    render,
    say_done,
    this_editor,
    undoable,
    writing,
)

bp = Blueprint("issue_versions", __name__)

KIND_WORDS = {
    VersionKind.SAVED: "",
    VersionKind.AUTOSAVED: N_("saved by itself"),
    VersionKind.ASIDE: N_("kept aside, not in the draft"),
    VersionKind.FOUND: N_("as it stood before"),
}


@dataclass(frozen=True, slots=True)
class _Difference:
    """A field that a version has otherwise than the draft."""

    name: str
    title: str  # of the post it is about
    then: Value
    now: Value


@bp.get("/editor/<slug>/issues/<int:issue_id>/versions/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter, issue_id: int) -> str:
    """List the versions, the newest first, with what each of them changed."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    found = versions.listed(session, issue)
    return render(
        "editor/issue_versions.html",
        newsletter,
        issue=issue,
        subject=issue_form.subject_of(issue, newsletter),
        versions=found,
        changes={
            newer.number: versions.differences(
                versions.words_of(older), versions.words_of(newer)
            )
            for newer, older in itertools.pairwise(found)
        },
        name_of=saving.name_of,
        KIND_WORDS=KIND_WORDS,
    )


@bp.get("/editor/<slug>/issues/<int:issue_id>/versions/<int:number>/")
@needs(Role.VIEWER)
def show(newsletter: Newsletter, issue_id: int, number: int) -> str:
    """Show a version: what differs from the draft, and the mail it would be."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    found = versions.find(session, issue, number)
    return render(
        "editor/issue_version.html",
        newsletter,
        issue=issue,
        found=found,
        who=saving.name_of(found),
        differences=_differences(issue, versions.words_of(found)),
        titles={e.post.id: e.title or e.post.title for e in issue.posts},
        may_change=issue.state in drafts.EDITABLE,
        KIND_WORDS=KIND_WORDS,
    )


@bp.get("/editor/<slug>/issues/<int:issue_id>/versions/<int:number>/mail")
@needs(Role.VIEWER)
def mail(newsletter: Newsletter, issue_id: int, number: int) -> Response:
    """Show the mail that a version would be; nothing is stored."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    found = versions.find(session, issue, number)
    drawn = _drawn(newsletter, issue, found)
    return issue_preview.show(newsletter, drawn, request.args)


@bp.post("/editor/<slug>/issues/<int:issue_id>/versions/<int:number>/restore")
@needs(Role.EDITOR)
def restore(newsletter: Newsletter, issue_id: int, number: int) -> AnyResponse:
    """Go back to a version; what stood there stays among the versions."""
    with writing(newsletter) as (session, here):
        drafts.hold(session, issue_id)
        issue = issue_form.issue_of(session, here, issue_id)
        now = utcnow()
        versions.note(session, issue, now=now)
        was = {"issue": issue.id, "version": issue.version}
        versions.put_back(session, issue, number, editor_id=this_editor().id, now=now)
        undo = undoable(session, here, "version", was)
    say_done(
        N_("The draft is as in version %(number)s. What it was is a version too."),
        undo,
        number=number,
    )
    return redirect(_page_of(newsletter, issue))


@bp.get("/editor/<slug>/issues/<int:issue_id>/saved")
@needs(Role.VIEWER)
def saved(newsletter: Newsletter, issue_id: int) -> Response:
    """Say how a draft stands, for a page that is open meanwhile."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    newest = versions.in_use(session, issue)
    words = rendering.words()
    said = words.gettext("This draft has changed while you had it open.")
    if newest is not None and newest.editor is not None:
        said = words.gettext(
            "This draft was saved %(clock)s by %(who)s.",
            who=saving.name_of(newest),
            clock=words.clock(newest.created_at, newsletter.timezone),
        )
    return jsonify(fingerprint=issue_form.fingerprint(issue), said=said)


def _page_of(newsletter: Newsletter, issue: Issue) -> str:
    if issue.kind is IssueKind.LETTER:
        return url_for("letters.show", slug=newsletter.slug, letter_id=issue.id)
    return url_for("issues.show", slug=newsletter.slug, issue_id=issue.id, edit=1)


def _drawn(newsletter: Newsletter, issue: Issue, found: DraftVersion) -> Issue:
    words = versions.words_of(found)
    if issue.kind is IssueKind.LETTER:
        known = segments.known(db.session(), newsletter)
        letter = letter_form.stored(issue, known)
        letter.take(words)
        return letter_form.sketch(issue, newsletter, letter)
    form = issue_form.as_version(issue, words)
    return issue_form.sketch(issue, newsletter, form, {})


def _differences(issue: Issue, words: Words) -> list[_Difference]:
    titles = {str(e.post.id): e.title or e.post.title for e in issue.posts}
    then, now = words.values(), versions.of(issue).values()
    return [
        _Difference(
            name=name.partition("-")[0],
            title=titles.get(name.partition("-")[2], ""),
            then=then[name],
            now=now[name],
        )
        for name in now
        if name in then and then[name] != now[name]
    ]
