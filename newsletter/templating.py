"""Templates of mails: Jinja without Flask, strict about what is missing.

Only operators' files are ever rendered. What an editor types in a browser goes through
merge tags from a fixed list, never through Jinja.
"""

import functools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import mrml
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    select_autoescape,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from newsletter import plaintext
from newsletter.config import ROOT
from newsletter.errors import N_, ThemeError
from newsletter.i18n import Language

TEMPLATES = ROOT / "templates" / "email"
ESCAPED = ("html", "mjml")
_HABITS: dict[str, Any] = {
    "undefined": StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@functools.cache
def environment(folder: Path = TEMPLATES) -> Environment:
    """Return the environment of mail templates."""
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(ESCAPED, default=False),
        **_HABITS,
    )
    return _prepared(found)


@functools.cache
def sandbox(folder: Path) -> Environment:
    """Return the environment of a theme: its own folder, then ours behind it.

    In a sandbox, because a theme may come from somebody who should only lay out mail.
    """
    loader = FileSystemLoader([folder, TEMPLATES])
    return _prepared(
        ImmutableSandboxedEnvironment(
            loader=loader,
            autoescape=select_autoescape(ESCAPED, default=False),
            **_HABITS,
        )
    )


def _prepared(found: Environment) -> Environment:
    found.filters["paragraph"] = paragraph
    found.filters["begin"] = begin
    return found


def begin(text: str, limit: int) -> str:
    """Return the beginning of a line, cut at a word."""
    return text if len(text) <= limit else plaintext.shorten(text, limit)


def paragraph(text: str, width: int = 72, next_line: str = "\n") -> str:
    """Fold a paragraph; links stay whole, and no ellipsis gets a line of its own."""
    lines = textwrap.wrap(
        text.replace(" …", "\u00a0…"),
        width,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return next_line.join(lines).replace("\u00a0…", " …")


def words_of(words: Language) -> dict[str, Any]:
    """Return what every template may say in `words`' language."""
    return {
        "_": words.gettext,
        "ngettext": words.ngettext,
        "day": words.day,
        "short_day": words.short_day,
        "month": words.month,
        "moment": words.moment,
        "clock": words.clock,
        "number": words.number,
        "lang": words.code,
    }


def render(name: str, words: Language, values: Mapping[str, Any]) -> str:
    """Render one template of `templates/email/`.

    A name ending in .mjml is turned into HTML (MJML's includes are refused).
    """
    text = environment().get_template(name).render({**words_of(words), **values})
    return mjml_to_html(text) if name.endswith(".mjml") else text


def mjml_to_html(markup: str) -> str:
    """Turn MJML into HTML that mail clients show alike.

    What cannot stand in XML, and so would stop it, is left out.
    """
    html: str = mrml.to_html(_NOT_XML.sub("", markup)).content
    return html


def render_theme(
    folder: Path, name: str, words: Language, values: Mapping[str, Any]
) -> str:
    """Render a template of a theme; what ends in .mjml becomes HTML.

    Raises ThemeError, naming the file and the line.
    """
    try:
        template = sandbox(folder).get_template(name)
        text = template.render({**words_of(words), **values})
    except TemplateNotFound as error:
        raise ThemeError(
            N_("The theme in %(folder)s needs the template %(name)s."),
            folder=folder,
            name=error.message,
        ) from error
    except Exception as error:  # whatever a template can do wrong
        file, line = _place(error, folder)
        raise ThemeError(
            N_("%(file)s, line %(line)s: %(why)s"),
            file=file,
            line=line,
            why=str(error) or type(error).__name__,
        ) from error
    if not name.endswith(".mjml"):
        return text
    try:
        return mjml_to_html(text)
    except OSError as error:
        raise ThemeError(
            N_("%(file)s is not MJML: %(why)s"), file=folder / name, why=error
        ) from error


def _place(error: Exception, folder: Path) -> tuple[str, int]:
    """Return where in a template something went wrong: the innermost line."""
    if isinstance(error, TemplateSyntaxError):
        return error.filename or error.name or str(folder), error.lineno
    found, frame = (str(folder), 0), error.__traceback__
    while isinstance(frame, TracebackType):
        file = frame.tb_frame.f_code.co_filename
        if Path(file).suffix in {".mjml", ".txt"}:
            found = (file, frame.tb_lineno)
        frame = frame.tb_next
    return found
