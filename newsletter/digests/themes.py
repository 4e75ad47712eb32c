"""Themes: folders of templates that lay out a digest, ours and the operator's own.

A theme is a folder with `digest.mjml`; `digest.txt` and `theme.toml` may be missing.
Our three lie in `templates/email/themes/`, others in the folder of NEWSLETTER_THEMES.
`docs/themes.md` lists what a template gets.
"""

import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from newsletter import plaintext, templating
from newsletter.config import Settings
from newsletter.digests.look import DEFAULT_THEME
from newsletter.errors import N_, ThemeError
from newsletter.i18n import Language

OURS = templating.TEMPLATES / "themes"
MOST = 50  # themes of one's own
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Theme:
    """A theme: its name, where it lies and what is said of it."""

    name: str
    folder: Path
    title: str  # a message id where it is ours
    about: str
    own: bool = False  # the operator's
    without: tuple[str, ...] = ()  # parts that it leaves out


BUILT_IN = (
    Theme(
        "calm",
        OURS / "calm",
        N_("Calm"),
        N_("Each post has its room: title, excerpt, author, one clear link."),
    ),
    Theme(
        "headlines",
        OURS / "headlines",
        N_("Headlines"),
        N_("A dense list for many short posts and readers who skim."),
        without=("headlines",),
    ),
    Theme(
        "pictures",
        OURS / "pictures",
        N_("Pictures"),
        N_("Each post opens with its picture, as wide as the mail."),
    ),
)


def available(settings: Settings) -> list[Theme]:
    """Return every theme, ours first."""
    return [*BUILT_IN, *_own(settings)]


def find(settings: Settings, name: str) -> Theme:
    """Return a theme by its name. Raises ThemeError."""
    for theme in BUILT_IN:
        if theme.name == name:
            return theme
    own = settings.themes_dir
    if own and NAME.fullmatch(name) and (own / name).is_dir():
        return load(own / name)
    raise ThemeError(
        N_("The theme %(name)s is not installed. Choose another one under Design."),
        name=plaintext.one_line(name, 60),
    )


def load(folder: Path) -> Theme:
    """Read a theme from a folder. Raises ThemeError."""
    folder = folder.resolve()
    if not (folder / "digest.mjml").is_file():
        raise ThemeError(
            N_("The theme in %(folder)s needs the template %(name)s."),
            folder=folder,
            name="digest.mjml",
        )
    if not NAME.fullmatch(folder.name) or folder.name in {t.name for t in BUILT_IN}:
        raise ThemeError(
            N_("%(folder)s: name it with a-z, 0-9 and hyphens, not as one of ours."),
            folder=folder,
        )
    said = _manifest(folder / "theme.toml")
    return Theme(
        folder.name,
        folder,
        title=said.get("title") or folder.name,
        about=said.get("about", ""),
        own=True,
    )


def render(theme: Theme, words: Language, values: Mapping[str, Any]) -> tuple[str, str]:
    """Return a digest's HTML and text. Raises ThemeError."""
    return html_of(theme, words, values), text_of(theme, words, values)


def html_of(theme: Theme, words: Language, values: Mapping[str, Any]) -> str:
    """Return a digest's HTML. Raises ThemeError."""
    return templating.render_theme(theme.folder, "digest.mjml", words, values)


def text_of(theme: Theme, words: Language, values: Mapping[str, Any]) -> str:
    """Return a digest's text part: the theme's own, or the one all share."""
    has_own = (theme.folder / "digest.txt").is_file()
    name = "digest.txt" if has_own else "themes/digest.txt"
    text = templating.render_theme(theme.folder, name, words, values)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"


def fallback(error: ThemeError) -> Theme:
    """Return the theme that stands in for a broken one while an issue is sent."""
    log.error("A theme is broken, so the default one is used: %s", error)
    return next(theme for theme in BUILT_IN if theme.name == DEFAULT_THEME)


def _own(settings: Settings) -> list[Theme]:
    """Return the operator's themes; a folder that is none is passed over."""
    if settings.themes_dir is None or not settings.themes_dir.is_dir():
        return []
    found = []
    for folder in sorted(settings.themes_dir.iterdir())[: MOST * 10]:
        try:
            if folder.is_dir():
                found.append(load(folder))
        except ThemeError as error:
            log.warning("Passed over: %s", error)
    return found[:MOST]


def _manifest(path: Path) -> dict[str, str]:
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ThemeError(
            N_("%(file)s cannot be read: %(why)s"), file=path, why=error
        ) from None
    return {
        name: plaintext.one_line(str(said[name]), 200)
        for name in ("title", "about")
        if name in said
    }
