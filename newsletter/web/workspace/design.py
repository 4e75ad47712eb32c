"""How the mail looks: theme, colour, logo, parts, words; previewed before it is saved.

Each save is a version. What is typed is shown in the preview and stored nowhere until
then.
"""

from contextlib import closing
from dataclasses import replace

import flask
from flask import Blueprint, Response, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from newsletter import i18n
from newsletter.db import db, utcnow
from newsletter.digests import compose, logos, samples, themes, wording
from newsletter.digests import design as designs
from newsletter.digests import look as looks
from newsletter.digests.design import Draft
from newsletter.digests.look import Look
from newsletter.errors import N_, Conflict, InkorgError
from newsletter.i18n import Language
from newsletter.mail import mime
from newsletter.models import Issue, Newsletter, Role
from newsletter.posts import editing
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace import preview
from newsletter.web.workspace.access import (
    needs,
    render,
    say,
    say_done,
    this_editor,
    undoable,
    writing,
)
from newsletter.web.workspace.newsletter_settings import told_accent

bp = Blueprint("design", __name__)

COUNTS = (1, 4, 12, 30)  # posts that a preview can show
LOGOS = ("logo", "dark_logo")


@bp.get("/editor/<slug>/design/")
@needs(Role.VIEWER)
def show(newsletter: Newsletter) -> str:
    """Show the design in use, ready to be changed."""
    return _page(newsletter, _current(newsletter))


@bp.post("/editor/<slug>/design/")
@needs(Role.EDITOR)
def save(newsletter: Newsletter) -> str | AnyResponse | tuple[str, int]:
    """Save a version, or move a part up or down and show the form again."""
    typed = _typed(newsletter)
    direction, _, part = request.form.get("action", "").partition("-")
    if direction in {"up", "down"}:
        typed.order = _moved(typed.order, part, direction)
        return _page(newsletter, typed, unsaved=True)
    try:
        uploads = _uploads()
        with writing(newsletter) as (session, here):
            _refuse_if_changed(here)
            draft = designs.checked(current_settings(), here, typed)
            for name, made in uploads.items():
                setattr(draft, name, logos.store(session, here, made))
            number = designs.save(
                session, here, draft, editor=this_editor(), now=utcnow()
            ).number
    except InkorgError as error:
        return _page(newsletter, typed, error, unsaved=True), status_of(error)
    say(N_("The design is saved as version %(number)s."), number=number)
    return flask.redirect(flask.url_for("design.show", slug=newsletter.slug))


@bp.get("/editor/<slug>/design/accent")
@needs(Role.VIEWER)
def accent_sample(newsletter: Newsletter) -> str:
    """Draw a colour as readers would see it, while it is being chosen."""
    return render(
        "editor/_accent_told.html",
        newsletter,
        **told_accent(request.args.get("accent", "")),
    )


@bp.get("/editor/<slug>/design/preview")
@needs(Role.VIEWER)
def stored(newsletter: Newsletter) -> Response:
    """Show the mail in the design in use, or in an earlier version."""
    draft = _current(newsletter)
    number = request.args.get("version", type=int)
    if number is not None:
        draft = _version(newsletter, number)
    look = designs.look_as(current_settings(), newsletter, draft)
    return _preview(newsletter, look, request.args)


@bp.post("/editor/<slug>/design/preview")
@needs(Role.EDITOR)
def typed(newsletter: Newsletter) -> Response:
    """Show the mail as it stands in the form; nothing is stored."""
    settings = current_settings()
    try:
        draft = designs.checked(settings, newsletter, _typed(newsletter))
        look = designs.look_as(settings, newsletter, draft)
        uploads = {name: made.shown() for name, made in _uploads().items()}
        look = replace(
            look,
            logo=uploads.get("logo", look.logo),
            dark_logo=uploads.get("dark_logo", look.dark_logo),
        )
    except InkorgError as error:
        return preview.problem(rendering.words().error(error))
    return _preview(newsletter, look, request.form)


@bp.get("/editor/<slug>/design/versions/<int:number>/")
@needs(Role.VIEWER)
def version(newsletter: Newsletter, number: int) -> str:
    """Show an earlier version beside the one in use."""
    found = designs.version(db.session(), newsletter, number)
    then = designs.draft_of(newsletter, found)
    differences = designs.differences(then, _current(newsletter))
    scheme = request.args.get("scheme", "")
    return render(
        "editor/design_version.html",
        newsletter,
        found=found,
        theme=_title(then.theme),
        differences=[rendering.words().gettext(name) for name in differences],
        scheme=scheme if scheme in preview.SCHEMES else preview.SCHEMES[0],
        is_current=found.number == newsletter.last_design,
    )


@bp.post("/editor/<slug>/design/versions/<int:number>/restore")
@needs(Role.EDITOR)
def restore(newsletter: Newsletter, number: int) -> AnyResponse:
    """Make an earlier version the newest."""
    with writing(newsletter) as (session, here):
        was = {"version": here.last_design}
        new = designs.restore(
            session, here, number, editor=this_editor(), now=utcnow()
        ).number
        undo = undoable(session, here, "design", was)
    say_done(
        N_("The mail looks as in version %(old)s again. That is version %(number)s."),
        undo,
        old=number,
        number=new,
    )
    return flask.redirect(flask.url_for("design.show", slug=newsletter.slug))


def _current(newsletter: Newsletter) -> Draft:
    draft = designs.draft_of(newsletter, newsletter.design)
    draft.accent = newsletter.accent  # the settings change it too
    return draft


def _version(newsletter: Newsletter, number: int) -> Draft:
    found = designs.version(db.session(), newsletter, number)
    return designs.draft_of(newsletter, found)


def _typed(newsletter: Newsletter) -> Draft:
    """Return what stands in the form, unchecked."""
    form = request.form
    now = _current(newsletter)
    return Draft(
        theme=form.get("theme", now.theme)[:40],
        accent=form.get("accent", now.accent)[:20],
        logo=None if "no_logo" in form else now.logo,
        dark_logo=None if "no_dark_logo" in form else now.dark_logo,
        order=looks.check_order(form.getlist("part")),
        shown=looks.check_shown([p for p in looks.PARTS if f"show-{p}" in form]),
        words={
            code: {name: form.get(f"{code}-{name}", "") for name in looks.WORDINGS}
            for code in designs.languages(newsletter)
        },
    )


def _uploads() -> dict[str, logos.Prepared]:
    """Return the logos that came with the form. Raises InvalidInput."""
    found = {}
    for name in LOGOS:
        if name not in request.files:
            continue
        with closing(request.files[name]) as file:
            data = file.read(logos.UPLOAD_BYTES + 1)
        if data:
            found[name] = logos.prepare(data, field=name)
    return found


def _moved(order: list[str], part: str, direction: str) -> list[str]:
    order = list(order)
    if part in order:
        here = order.index(part)
        there = here + (-1 if direction == "up" else 1)
        if 0 <= there < len(order):
            order[here], order[there] = order[there], order[here]
    return order


def _refuse_if_changed(newsletter: Newsletter) -> None:
    seen = request.form.get("based_on", -1, type=int)
    if seen != newsletter.last_design:
        raise Conflict(
            N_(
                "Someone else saved version %(number)s meanwhile. Look at it below; if"
                " you save now, yours becomes the newest and theirs stays in the list."
            ),
            number=newsletter.last_design,
        )


def _preview(
    newsletter: Newsletter, look: Look, wanted: MultiDict[str, str]
) -> Response:
    offered = designs.languages(newsletter)
    code = wanted.get("language", "")
    words = i18n.language(code if code in offered else newsletter.language)
    scheme, view = wanted.get("scheme", ""), wanted.get("view", "")
    issue = _issue(newsletter, words, wanted)
    try:
        letter = compose.compose(
            current_settings(), issue, newsletter, issue.posts, words, look=look
        )
        if view == "source":
            source = preview.source(mime.freeze(letter), now=utcnow())
            return preview.plain(source, title=letter.subject, scheme=scheme)
    except InkorgError as error:
        return preview.problem(rendering.words().error(error))
    sample = compose.sample(letter)
    if view == "text":
        return preview.plain(sample.text, title=letter.subject, scheme=scheme)
    return preview.mail(sample.html, scheme=scheme)


def _issue(
    newsletter: Newsletter, words: Language, wanted: MultiDict[str, str]
) -> Issue:
    """Return an issue to look at: of the latest posts, or of made-up ones."""
    count = wanted.get("count", COUNTS[1], type=int)
    count = count if count in COUNTS else COUNTS[1]
    now = utcnow()
    posts = []
    if wanted.get("posts") != "samples":
        posts = editing.latest(db.session(), newsletter, count)
    if posts:
        issue = samples.of_posts(newsletter, posts, now=now)
    else:
        issue = samples.issue(current_settings(), newsletter, words, count, now=now)
    issue.opening = words.gettext("Here stands what you write for each issue.")
    return issue


def _title(name: str) -> str:
    """Return what a theme is called, also of one that is gone."""
    for theme in themes.available(current_settings()):
        if theme.name == name:
            return rendering.words().gettext(theme.title)
    return name


def _placeholders(code: str) -> dict[str, str]:
    """Return what stands in the mail where an editor writes nothing."""
    words = i18n.language(code)
    title = words.gettext("Read “%(title)s”", title=looks.written("title"))
    return {
        "heading": wording.title(4, words),
        "link": title,
        "more": words.gettext("More posts"),
        "authors": words.gettext("Who wrote this"),
    }


def _page(
    newsletter: Newsletter,
    draft: Draft,
    error: InkorgError | None = None,
    *,
    unsaved: bool = False,
) -> str:
    session, settings = db.session(), current_settings()
    words = rendering.words()
    session.refresh(newsletter, attribute_names=["last_design"])
    codes = designs.languages(newsletter)
    look = designs.look_as(settings, newsletter, draft)
    return render(
        "editor/design.html",
        newsletter,
        draft=draft,
        look=look,
        themes=themes.available(settings),
        theme_missing=draft.theme not in {t.name for t in themes.available(settings)},
        PART_NAMES=looks.PART_NAMES,
        PART_HINTS=looks.PART_HINTS,
        ALWAYS_SHOWN=looks.ALWAYS_SHOWN,
        without=next(
            (t.without for t in themes.available(settings) if t.name == draft.theme), ()
        ),
        WORDINGS=looks.WORDINGS.values(),
        TAGS=looks.TAGS,
        written=looks.written,
        placeholders={code: _placeholders(code) for code in codes},
        languages=preview.languages(newsletter),
        versions=designs.versions(session, newsletter),
        theme_titles={
            t.name: words.gettext(t.title) for t in themes.available(settings)
        },
        has_posts=bool(editing.latest(session, newsletter, 1)),
        more_choices=_choices(words, bool(editing.latest(session, newsletter, 1))),
        subject=words.gettext("a sample"),
        unsaved=unsaved,
        field=getattr(error, "field", ""),
        error=words.error(error) if error else "",
        **told_accent(draft.accent),
    )


def _choices(words: Language, has_posts: bool) -> list[tuple[object, ...]]:
    """Return what can be chosen above the preview, besides light, dark and so on."""
    counts = [
        (str(n), words.ngettext("%(num)s post", "%(num)s posts", n)) for n in COUNTS
    ]
    whose = [
        ("latest", words.gettext("Your posts")),
        ("samples", words.gettext("Sample posts")),
    ]
    found: list[tuple[object, ...]] = [
        ("count", words.gettext("How many posts"), counts, str(COUNTS[1]))
    ]
    if has_posts:
        found.insert(0, ("posts", words.gettext("Whose posts"), whose, "latest"))
    return found
