"""Pages in a language: which one, and templates with its words."""

from typing import Any

import flask
from flask import g, request

from newsletter import i18n
from newsletter.i18n import Language
from newsletter.subscribers import addresses
from newsletter.templating import words_of


def speak(code: str) -> Language:
    """Answer this request in language `code`."""
    g.words = i18n.language(code)
    words: Language = g.words
    return words


def words() -> Language:
    """Return the language of this request: chosen by the view, else the browser's."""
    if "words" not in g:
        accepted = [code for code, _ in request.accept_languages]
        speak(i18n.choose(accepted, sorted(i18n.available(), reverse=True)))
    chosen: Language = g.words
    return chosen


def render(template: str, **values: Any) -> str:
    """Render a template of `templates/web/` in this request's language."""
    values = {**words_of(words()), "readable": addresses.readable, **values}
    return flask.render_template(template, **values)
