"""Templates of mails: Jinja without Flask, strict about what is missing.

Only operators' files are ever rendered. What an editor types in a browser goes through
merge tags from a fixed list, never through Jinja.
"""

import functools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mrml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from newsletter.config import ROOT
from newsletter.i18n import Language

TEMPLATES = ROOT / "templates" / "email"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@functools.cache
def environment(folder: Path = TEMPLATES) -> Environment:
    """Return the environment of mail templates."""
    found = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html", "mjml"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["paragraph"] = paragraph
    return found


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
        "moment": words.moment,
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
