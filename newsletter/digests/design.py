"""A newsletter's design in the database: each save is a version to go back to."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload

from newsletter import links, newsletters
from newsletter.config import Settings
from newsletter.digests import look as looks
from newsletter.digests import themes
from newsletter.digests.logos import shown
from newsletter.digests.look import Look, Picture
from newsletter.errors import N_, InvalidInput, NotFound
from newsletter.models import Design, Editor, Logo, Newsletter

VERSIONS_LISTED = 50


@dataclass(slots=True)
class Draft:
    """A design as an editor is making it; nothing of it is stored."""

    theme: str = looks.DEFAULT_THEME
    accent: str = looks.DEFAULT_ACCENT
    logo: Logo | None = None
    dark_logo: Logo | None = None
    order: list[str] = field(default_factory=lambda: list(looks.PARTS))
    shown: list[str] = field(default_factory=lambda: list(looks.SHOWN))
    words: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the parts that are shown, in their order."""
        return tuple(part for part in self.order if part in self.shown)


def draft_of(newsletter: Newsletter, stored: Design | None) -> Draft:
    """Return a stored version, or what holds where nothing was stored."""
    if stored is None:
        return Draft(accent=newsletter.accent)
    return Draft(
        theme=stored.theme,
        accent=stored.accent,
        logo=stored.logo,
        dark_logo=stored.dark_logo,
        order=looks.check_order(stored.order),
        shown=looks.check_shown(stored.shown),
        words={code: dict(said) for code, said in stored.words.items()},
    )


def look_of(settings: Settings, newsletter: Newsletter) -> Look:
    """Return how the newsletter's mail looks now; the colour is the newsletter's."""
    draft = draft_of(newsletter, newsletter.design)
    draft.accent = newsletter.accent
    return look_as(settings, newsletter, draft)


def look_as(settings: Settings, newsletter: Newsletter, draft: Draft) -> Look:
    """Return the look that a draft would give."""
    return Look(
        theme=draft.theme,
        accent=draft.accent,
        logo=_picture(settings, newsletter, draft.logo),
        dark_logo=_picture(settings, newsletter, draft.dark_logo),
        parts=draft.parts,
        words=draft.words,
    )


def checked(settings: Settings, newsletter: Newsletter, typed: Draft) -> Draft:
    """Return a draft that can be stored. Raises InvalidInput or ThemeError."""
    return replace(
        typed,
        theme=themes.find(settings, typed.theme).name,
        accent=newsletters.CHECKS["accent"]("accent", typed.accent),
        order=looks.check_order(typed.order),
        shown=looks.check_shown(typed.shown),
        words=looks.check_words(
            {
                code: typed.words[code]
                for code in languages(newsletter)
                if code in typed.words
            }
        ),
    )


def languages(newsletter: Newsletter) -> list[str]:
    """Return the languages that the newsletter's readers can have, its own first."""
    return list(dict.fromkeys([newsletter.language, *newsletter.languages]))


def differences(one: Draft, other: Draft) -> list[str]:
    """Return what sets two designs apart, as message ids."""
    pairs = (
        (N_("the theme"), one.theme, other.theme),
        (N_("the colour"), one.accent, other.accent),
        (N_("the logo"), _id_of(one.logo), _id_of(other.logo)),
        (N_("the logo by night"), _id_of(one.dark_logo), _id_of(other.dark_logo)),
        (N_("which parts are shown, or their order"), one.parts, other.parts),
        (N_("the wording"), one.words, other.words),
    )
    return [name for name, mine, theirs in pairs if mine != theirs]


def _id_of(logo: Logo | None) -> int | None:
    return logo.id if logo else None


def save(
    session: Session,
    newsletter: Newsletter,
    draft: Draft,
    *,
    editor: Editor | None,
    now: datetime,
    restores: int | None = None,
) -> Design:
    """Store a design as the newsletter's next version."""
    number = session.scalar(
        update(Newsletter)
        .where(Newsletter.id == newsletter.id)
        .values(last_design=Newsletter.last_design + 1, accent=draft.accent)
        .returning(Newsletter.last_design)
        .execution_options(synchronize_session=False)
    )
    made = Design(
        newsletter_id=newsletter.id,
        number=number,
        theme=draft.theme,
        accent=draft.accent,
        logo_id=draft.logo.id if draft.logo else None,
        dark_logo_id=draft.dark_logo.id if draft.dark_logo else None,
        order=draft.order,
        shown=draft.shown,
        words=draft.words,
        restores=restores,
        editor_id=editor.id if editor else None,
        created_at=now,
    )
    session.add(made)
    session.flush()
    session.refresh(newsletter, attribute_names=["last_design", "accent", "design"])
    return made


def restore(
    session: Session,
    newsletter: Newsletter,
    number: int,
    *,
    editor: Editor | None,
    now: datetime,
) -> Design:
    """Make an earlier version the newest. Raises NotFound or InvalidInput."""
    stored = version(session, newsletter, number)
    if stored.number == newsletter.last_design:
        raise InvalidInput(N_("This version is the one in use already."))
    draft = draft_of(newsletter, stored)
    return save(session, newsletter, draft, editor=editor, now=now, restores=number)


def version(session: Session, newsletter: Newsletter, number: int) -> Design:
    """Return a version by its number. Raises NotFound."""
    found = session.scalar(
        select(Design).where(
            Design.newsletter_id == newsletter.id, Design.number == number
        )
    )
    if found is None:
        raise NotFound(N_("There is no such version of the design."))
    return found


def versions(session: Session, newsletter: Newsletter) -> list[Design]:
    """Return the latest versions, the newest first."""
    query = (
        select(Design)
        .where(Design.newsletter_id == newsletter.id)
        .options(joinedload(Design.editor))
        .order_by(Design.number.desc())
        .limit(VERSIONS_LISTED)
    )
    return list(session.scalars(query))


def _picture(
    settings: Settings, newsletter: Newsletter, logo: Logo | None
) -> Picture | None:
    if logo is None:
        return None
    url = links.logo_url(settings, newsletter.slug, f"{logo.digest}.{logo.kind}")
    return shown(url, logo.width, logo.height)
