"""Issues: the list, a new one, and the page where one is composed."""

from flask import Blueprint, redirect, request, url_for
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload
from werkzeug.wrappers import Response

from newsletter import i18n, undoing
from newsletter.db import db, utcnow
from newsletter.digests import compose, drafts, publish, versions, wording
from newsletter.digests.drafts import EDITABLE
from newsletter.errors import N_, Conflict, InkorgError
from newsletter.mail import ledger
from newsletter.models import (
    Issue,
    IssueKind,
    IssueState,
    Newsletter,
    PostState,
    Role,
)
from newsletter.posts import listing
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace import (
    approval,
    issue_form,
    preflight,
    preview,
    saving,
    sending,
    trial_mails,
)
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    this_editor,
    undoable,
    writing,
)
from newsletter.web.workspace.issue_form import LIMITS, IssueForm
from newsletter.web.workspace.saving import Stale, Theirs
from newsletter.web.workspace.sending import STATE_COLOURS, STATE_WORDS, UNDER_WAY

bp = Blueprint("issues", __name__)

PAGE = 30
POSTS_TO_ADD = 30


@bp.get("/editor/<slug>/issues/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """List the issues, newest first."""
    query = select(Issue).where(Issue.newsletter_id == newsletter.id)
    before = request.args.get("before", type=int)
    if before is not None and before < 2**31:
        query = query.where(Issue.id < before)
    query = query.options(selectinload(Issue.posts)).order_by(Issue.id.desc())
    found = list(db.session.scalars(query.limit(PAGE + 1)))
    issues, older = found[:PAGE], len(found) > PAGE
    session = db.session()
    return render(
        "editor/issues.html",
        newsletter,
        issues=issues,
        older=issues[-1].id if older else None,
        first_page=before is None,
        subjects={
            issue.id: issue_form.subject_of(issue, newsletter) for issue in issues
        },
        sent={
            issue.id: ledger.counts(session, issue_id=issue.id).sent
            for issue in issues
            if issue.state in UNDER_WAY
        },
        STATE_WORDS=STATE_WORDS,
        STATE_COLOURS=STATE_COLOURS,
    )


@bp.get("/editor/<slug>/issues/new")
@needs(Role.EDITOR)
def pick(newsletter: Newsletter) -> str:
    """Offer posts to pick for an issue."""
    session = db.session()
    page = listing.page(
        session,
        newsletter,
        state=PostState.PUBLISHED,
        search=request.args.get("q", ""),
        before=request.args.get("before", ""),
    )
    return render(
        "editor/issues_pick.html",
        newsletter,
        page=page,
        sent_in=drafts.sent_before(session, newsletter, page.posts),
    )


@bp.post("/editor/<slug>/issues/new")
@needs(Role.EDITOR)
def create(newsletter: Newsletter) -> Response:
    """Make a draft of what is new, or of the posts that were ticked."""
    picked = request.form.getlist("post", type=int)
    try:
        with writing(newsletter) as (session, here):
            issue = drafts.draft(
                session,
                here,
                post_ids=picked or None,
                created_by=this_editor().id,
                now=utcnow(),
            )
    except drafts.NothingNew as error:
        say(error.message, "warn", **error.values)
        return redirect(url_for("issues.pick", slug=newsletter.slug))
    return redirect(_page_of(newsletter, issue.id))


@bp.get("/editor/<slug>/issues/<int:issue_id>/")
@needs(Role.VIEWER)
def show(newsletter: Newsletter, issue_id: int) -> str | Response:
    """Compose an issue, follow it, or see what became of it."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    if drafts.is_leaving(issue):
        return sending.leaving_page(newsletter, issue)
    if issue.state in EDITABLE and issue.kind is IssueKind.LETTER:
        address = url_for(
            "letters.show",
            slug=newsletter.slug,
            letter_id=issue_id,
            looked=request.args.get("looked", type=int),
        )
        return redirect(address)
    if issue.state is IssueState.HELD and "edit" not in request.args:
        return approval.page(newsletter, issue)
    if issue.state in EDITABLE:
        return _compose_page(newsletter, issue, issue_form.stored(issue))
    return sending.follow_page(newsletter, issue)


@bp.post("/editor/<slug>/issues/<int:issue_id>/")
@needs(Role.EDITOR)
def save(newsletter: Newsletter, issue_id: int) -> Response | tuple[str, int]:
    """Save what was typed, then do what the button said."""
    action = request.form.get("action", "save")
    try:
        with writing(newsletter) as (session, here):
            issue, form = _typed(session, here, issue_id)
            theirs = saving.meet(session, issue, form)
            moved = _move(form, action)
            versions.note(session, issue, now=utcnow())
            issue_form.apply(session, issue, form)
            saving.record(session, issue, form)
            if action == "test":
                sent = trial_mails.send(session, issue, form.test_to)
    except InkorgError as error:
        return _keep_typed(newsletter, issue_id, error)
    saving.tell(theirs)
    if action in preflight.ACTIONS:
        return preflight.go_on(newsletter, issue_id, action)
    if action == "test":
        trial_mails.tell(sent)
    elif not moved:
        say(N_("Saved."))
    edit = 1 if moved and "edit" in request.args else None
    return redirect(_page_of(newsletter, issue_id, edit) + moved)


@bp.post("/editor/<slug>/issues/<int:issue_id>/autosave")
@needs(Role.EDITOR)
def autosave(newsletter: Newsletter, issue_id: int) -> Response | tuple[Response, int]:
    """Save what is being typed; posts ticked to be added wait for the button."""

    def read(session: Session, here: Newsletter) -> tuple[Issue, IssueForm]:
        issue, form = _typed(session, here, issue_id)
        form.added = []
        return issue, form

    return saving.autosave(newsletter, read, issue_form.apply)


@bp.post("/editor/<slug>/issues/<int:issue_id>/discard")
@needs(Role.EDITOR)
def discard(newsletter: Newsletter, issue_id: int) -> Response:
    """Throw a draft away."""
    with writing(newsletter) as (session, here):
        issue = issue_form.issue_of(session, here, issue_id)
        if issue.state is IssueState.SCHEDULED and not drafts.is_leaving(issue):
            publish.unschedule(session, issue, now=utcnow())  # its rhythm goes on
        kept = undoing.keep(session, "issue", issue.id)
        drafts.discard(session, issue)
        undo = undoable(session, here, "issue", kept)
    say_done(N_("The draft is gone. Its posts wait for the next issue."), undo)
    return redirect(url_for("issues.index", slug=newsletter.slug))


def _typed(
    session: Session, newsletter: Newsletter, issue_id: int
) -> tuple[Issue, IssueForm]:
    """Read the form of an issue that nobody else is changing now."""
    drafts.hold(session, issue_id)
    issue = issue_form.issue_of(session, newsletter, issue_id)
    if issue.kind is IssueKind.LETTER:  # has a form of its own
        raise Conflict(N_("This is a letter. Open it from the list of issues."))
    return issue, issue_form.typed(request.form, issue)


def _move(form: IssueForm, action: str) -> str:
    """Do what an arrow says; return the place on the page to come back to."""
    direction, _, post_id = action.partition("-")
    if direction not in {"up", "down"} or not post_id.isdecimal():
        return ""
    form.move(int(post_id), -1 if direction == "up" else 1)
    return f"#post-{post_id}"


def _keep_typed(
    newsletter: Newsletter, issue_id: int, error: InkorgError
) -> tuple[str, int]:
    """Show the form again with everything that was typed, and what was wrong."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    form = issue_form.typed(request.form, issue)
    theirs, errors = None, {}
    if isinstance(error, Stale):
        with writing(newsletter) as (session, here):
            held, form = _typed(session, here, issue_id)
            theirs = saving.stand_aside(session, held, form)
    else:
        errors[issue_form.field_of(error, form)] = rendering.words().error(error)
    page = _compose_page(
        newsletter, issue, form, theirs=theirs, errors=errors, unsaved=True
    )
    return page, status_of(error)


def _size_kb(newsletter: Newsletter, html: str) -> int:
    sent = compose.as_sent(current_settings(), newsletter, html)
    return round(compose.encoded_size(sent) / 1024)


def _compose_page(
    newsletter: Newsletter,
    issue: Issue,
    form: IssueForm,
    *,
    theirs: Theirs | None = None,
    errors: dict[str, str] | None = None,
    unsaved: bool = False,
) -> str:
    here = {place.post.id for place in form.places}
    recent = listing.page(
        db.session(),
        newsletter,
        state=PostState.PUBLISHED,
        limit=POSTS_TO_ADD + len(here),
    )
    words = i18n.language(newsletter.language)
    letter = compose.compose(
        current_settings(), issue, newsletter, issue.posts, words, forgiving=True
    )
    entries = compose.shown(issue.posts)
    others = [post for post in recent.posts if post.id not in here][:POSTS_TO_ADD]
    titles = issue_form.titles_of(issue)
    excerpt = entries[0].excerpt or entries[0].post.excerpt if entries else ""
    return render(
        "editor/issue.html",
        newsletter,
        issue=issue,
        form=form,
        theirs=theirs,
        titles={
            place.post.id: place.title or place.post.title for place in form.places
        },
        saved=saving.state_of(db.session(), issue),
        errors=errors or {},
        unsaved=unsaved,
        others=others,
        sent_in=drafts.sent_before(
            db.session(), newsletter, [*others, *(entry.post for entry in issue.posts)]
        ),
        subject=letter.subject,
        inbox=preview.row(
            issue,
            made_subject=wording.subject(titles, words),
            made_preview_text=wording.preview(titles, excerpt),
        ),
        preflight=preflight.panel(preflight.look(db.session(), issue, letter=letter)),
        made_subject=wording.subject(titles, words),
        made_preview_text=wording.preview(titles, excerpt),
        shown=len(entries),
        size_kb=_size_kb(newsletter, letter.html),
        languages=preview.languages(newsletter),
        STATE_WORDS=STATE_WORDS,
        STATE_COLOURS=STATE_COLOURS,
        LIMITS=LIMITS,
    )


def _page_of(newsletter: Newsletter, issue_id: int, edit: int | None = None) -> str:
    return url_for("issues.show", slug=newsletter.slug, issue_id=issue_id, edit=edit)
