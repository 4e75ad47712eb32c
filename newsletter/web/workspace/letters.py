"""Letters: writing one, choosing whom it is for, putting pictures in.

What comes after (sending, following) is an issue's, in `sending.py`.
"""

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from newsletter import i18n, links, markup, pictures, rhythms, undoing
from newsletter.db import db, utcnow
from newsletter.digests import (
    compose,
    drafts,
    forecast,
    letters,
    publish,
    saved_segments,
    segments,
    versions,
    wording,
)
from newsletter.digests.forecast import Audience
from newsletter.errors import N_, InkorgError, InvalidInput
from newsletter.models import Issue, IssueState, Newsletter, Picture, Role
from newsletter.plaintext import squeeze
from newsletter.subscribers import choices
from newsletter.web import rendering
from newsletter.web.security import MAX_FORM_BYTES, current_settings, status_of
from newsletter.web.workspace import (
    issue_form,
    issue_preview,
    letter_form,
    preflight,
    preview,
    saving,
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
from newsletter.web.workspace.letter_form import LIMITS, SPANS, LetterForm
from newsletter.web.workspace.saving import Stale, Theirs
from newsletter.web.workspace.sending import STATE_COLOURS, STATE_WORDS

bp = Blueprint("letters", __name__)


@bp.url_value_preprocessor
def allow_pictures(_endpoint: str | None, _values: object) -> None:
    """Let a form with a picture in it come through; before anything reads the form."""
    request.max_content_length = pictures.MAX_UPLOAD_BYTES + MAX_FORM_BYTES


@bp.post("/editor/<slug>/letters/new")
@needs(Role.EDITOR)
def create(newsletter: Newsletter) -> AnyResponse:
    """Begin a letter."""
    with writing(newsletter) as (session, here):
        issue = letters.write(session, here, created_by=this_editor().id, now=utcnow())
    return redirect(_page_of(newsletter, issue.id))


@bp.get("/editor/<slug>/letters/<int:letter_id>/")
@needs(Role.VIEWER)
def show(newsletter: Newsletter, letter_id: int) -> str | AnyResponse:
    """Write a letter; one that has left is followed as an issue."""
    session = db.session()
    issue = letters.find(session, newsletter, letter_id)
    if issue.state not in drafts.EDITABLE or drafts.is_leaving(issue):
        return _follow(newsletter, letter_id)
    known = segments.known(session, newsletter)
    return _page(newsletter, issue, letter_form.stored(issue, known))


@bp.post("/editor/<slug>/letters/<int:letter_id>/")
@needs(Role.EDITOR)
def save(newsletter: Newsletter, letter_id: int) -> AnyResponse | tuple[str, int]:
    """Save what was typed, then do what the button said."""
    action = request.form.get("action", "save")
    form = letter_form.typed(request.form)
    try:
        with writing(newsletter) as (session, here):
            issue = _held(session, here, letter_id, form)
            theirs = saving.meet(session, issue, form)
            if action == "picture":
                picture = _uploaded(session, here, form.picture_alt)
                words = _markdown(newsletter, picture, form.picture_alt)
                form.opening = f"{form.opening.rstrip()}\n\n{words}\n"
                form.picture_alt = ""
            versions.note(session, issue, now=utcnow())
            letter_form.apply(session, issue, form)
            saving.record(session, issue, form)
            if action == "test":
                sent = trial_mails.send(session, issue, form.test_to)
    except InkorgError as error:
        return _keep_typed(newsletter, letter_id, form, error)
    saving.tell(theirs)
    if action in preflight.ACTIONS:
        return preflight.go_on(newsletter, letter_id, action)
    if action == "test":
        trial_mails.tell(sent)
    elif action == "picture":
        say(N_("The picture stands at the end of the letter. Move it where you want."))
    else:
        say(N_("Saved."))
    return redirect(_page_of(newsletter, letter_id))


@bp.post("/editor/<slug>/letters/<int:letter_id>/autosave")
@needs(Role.EDITOR)
def autosave(
    newsletter: Newsletter, letter_id: int
) -> AnyResponse | tuple[Response, int]:
    """Save what is being typed."""
    form = letter_form.typed(request.form)

    def read(session: Session, here: Newsletter) -> tuple[Issue, LetterForm]:
        return _held(session, here, letter_id, form), form

    return saving.autosave(newsletter, read, letter_form.apply)


@bp.post("/editor/<slug>/letters/<int:letter_id>/preview")
@needs(Role.EDITOR)
def preview_typed(newsletter: Newsletter, letter_id: int) -> Response:
    """Show the mail as it stands in the form; nothing is stored."""
    issue = letters.find(db.session(), newsletter, letter_id)
    form = letter_form.typed(request.form)
    drawn = letter_form.sketch(issue, newsletter, form)
    return issue_preview.show(newsletter, drawn, request.form)


@bp.post("/editor/<slug>/letters/<int:letter_id>/audience")
@needs(Role.EDITOR)
def audience(newsletter: Newsletter, letter_id: int) -> str:
    """Count whom the letter is for, as it stands in the form: a part of the page."""
    letters.find(db.session(), newsletter, letter_id)
    form = letter_form.typed(request.form)
    return render(
        "editor/_audience.html", newsletter, counted=_counted(newsletter, form.audience)
    )


@bp.post("/editor/<slug>/letters/<int:letter_id>/pictures")
@needs(Role.EDITOR)
def upload(newsletter: Newsletter, letter_id: int) -> Response | tuple[Response, int]:
    """Keep a picture and return the Markdown that shows it; the letter stays."""
    alt = request.form.get("picture_alt", "").strip()
    try:
        with writing(newsletter) as (session, here):
            letters.find(session, here, letter_id)
            picture = _uploaded(session, here, alt)
    except InvalidInput as error:
        said = {"error": rendering.words().error(error), "field": error.field}
        return jsonify(said), status_of(error)
    return jsonify(markdown=_markdown(newsletter, picture, alt))


@bp.post("/editor/<slug>/letters/<int:letter_id>/discard")
@needs(Role.EDITOR)
def discard(newsletter: Newsletter, letter_id: int) -> AnyResponse:
    """Throw a letter away."""
    with writing(newsletter) as (session, here):
        letter = letters.find(session, here, letter_id)
        if letter.state is IssueState.SCHEDULED and not drafts.is_leaving(letter):
            publish.unschedule(session, letter, now=utcnow())
        kept = undoing.keep(session, "issue", letter.id)
        drafts.discard(session, letter)
        undo = undoable(session, here, "issue", kept)
    say_done(N_("The letter is gone."), undo)
    return redirect(url_for("issues.index", slug=newsletter.slug))


def _held(
    session: Session, newsletter: Newsletter, letter_id: int, form: LetterForm
) -> Issue:
    """Return a letter that nobody else is changing now."""
    drafts.hold(session, letter_id)
    issue = letters.find(session, newsletter, letter_id)
    form.language = form.language or issue.language
    return issue


def _uploaded(session: Session, newsletter: Newsletter, alt: str) -> Picture:
    file = request.files.get("picture")
    data = file.stream.read(pictures.MAX_UPLOAD_BYTES + 1) if file else b""
    if data and not alt:
        raise InvalidInput(
            N_("Write what the picture shows, for those who cannot see it."),
            field="picture_alt",
        )
    return pictures.store(session, newsletter, data, now=utcnow())


def _markdown(newsletter: Newsletter, picture: Picture, alt: str) -> str:
    """Return what shows a picture; brackets in its words would end them."""
    words = squeeze(alt)[: LIMITS["picture_alt"]].translate({91: "(", 93: ")", 92: "/"})
    name = pictures.name_of(picture)
    url = links.picture_url(current_settings(), newsletter.slug, name)
    return f"![{words}]({url})"


def _keep_typed(
    newsletter: Newsletter, letter_id: int, form: LetterForm, error: InkorgError
) -> tuple[str, int] | AnyResponse:
    """Show the form again with everything that was typed, and what was wrong."""
    issue = letters.find(db.session(), newsletter, letter_id)
    if issue.state not in drafts.EDITABLE:
        return _follow(newsletter, letter_id)
    theirs, errors = None, {}
    if isinstance(error, Stale):
        with writing(newsletter) as (session, here):
            held = _held(session, here, letter_id, form)
            theirs = saving.stand_aside(session, held, form)
    else:
        errors[letter_form.field_of(error)] = rendering.words().error(error)
    page = _page(newsletter, issue, form, errors=errors, theirs=theirs, unsaved=True)
    return page, status_of(error)


def _page(
    newsletter: Newsletter,
    issue: Issue,
    form: LetterForm,
    *,
    errors: dict[str, str] | None = None,
    theirs: Theirs | None = None,
    unsaved: bool = False,
) -> str:
    words = rendering.words()
    known = segments.known(db.session(), newsletter)
    offered = choices.offered_languages(newsletter)
    return render(
        "editor/letter.html",
        newsletter,
        issue=issue,
        form=form,
        errors=errors or {},
        theirs=theirs,
        saved=saving.state_of(db.session(), issue),
        unsaved=unsaved,
        counted=_counted(newsletter, form.audience, issue),
        title=issue_form.subject_of(issue, newsletter),
        inbox=preview.row(
            issue,
            made_subject=issue_form.subject_of(Issue(kind=issue.kind), newsletter),
            made_preview_text=markup.excerpt(
                markup.from_markdown(issue.opening), wording.PREVIEW_CHARACTERS
            ),
        ),
        size_kb=_size(newsletter, issue),
        preflight=preflight.panel(preflight.look(db.session(), issue)),
        letter_languages=[(code, words.name_of(code)) for code in offered],
        topics=[(topic.slug, topic.name) for topic in known.topics.values()],
        rhythms=rhythms.describe_each(known.rhythms, words),
        spans=list(dict.fromkeys([*SPANS, *filter(None, [form.picked.span])])),
        languages=preview.languages(newsletter),
        named=saved_segments.of(db.session(), newsletter),
        today=utcnow().date().isoformat(),
        LIMITS=LIMITS,
        STATE_WORDS=STATE_WORDS,
        STATE_COLOURS=STATE_COLOURS,
    )


def _counted(
    newsletter: Newsletter, segment: str, issue: Issue | None = None
) -> dict[str, object]:
    """Say whom a segment holds and how many they are, or what is wrong with it."""
    session, words = db.session(), rendering.words()
    try:
        known = segments.known(session, newsletter)
        described = segments.describe(segments.parse(segment, known), known, words)
        if issue is not None and segment == issue.segment:
            audience, every = forecast.of_letter(session, issue, now=utcnow())
        else:
            counts = letters.audience_of(session, newsletter, segment, now=utcnow())
            audience, every = Audience(counts.readers), counts.of
    except InvalidInput as error:
        return {"problem": words.error(error)}
    return {
        "described": described,
        "audience": audience,
        "readers": audience.readers,
        "of": every,
    }


def _size(newsletter: Newsletter, issue: Issue) -> int:
    """Return how large the mail is, in kilobytes; too large for a mail is that."""
    words = i18n.language(newsletter.language)
    try:
        html = publish.sample_letter(current_settings(), issue, words).html
    except InvalidInput:
        return compose.ENCODED_BYTES // 1024 + 1
    sent = compose.as_sent(current_settings(), newsletter, html)
    return round(compose.encoded_size(sent) / 1024)


def _follow(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    return redirect(url_for("issues.show", slug=newsletter.slug, issue_id=issue_id))


def _page_of(newsletter: Newsletter, letter_id: int) -> str:
    return url_for("letters.show", slug=newsletter.slug, letter_id=letter_id)
