"""Translations: every message is there in every language, and none is left over."""

import functools
import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import newsletter
from newsletter import i18n
from newsletter.config import ROOT
from newsletter.errors import InkorgError

KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
METHODS = [("**.py", "python"), ("**.html", "jinja2"), ("**.mjml", "jinja2")]
METHODS.append(("**.txt", "jinja2"))
FIELD = re.compile(r"%\((\w+)\)s")


def kinds(kind: type[InkorgError]) -> Iterator[type[InkorgError]]:
    """Yield every kind of error there is in the package."""
    for module in pkgutil.walk_packages(newsletter.__path__, "newsletter."):
        if ".migrations." not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for found in kind.__subclasses__():
        yield found
        yield from kinds(found)


@functools.cache
def used() -> dict[str, tuple[str, ...]]:
    """Return every message in the source, by its first form."""
    found: dict[str, tuple[str, ...]] = {}
    for folder in ("newsletter", "templates"):
        for _path, _line, message, _comments, _context in extract_from_dir(
            ROOT / folder, METHODS, keywords=KEYWORDS
        ):
            forms = (message,) if isinstance(message, str) else tuple(message)
            found[forms[0]] = forms
    for kind in kinds(InkorgError):  # a class's docstring is its default message
        text = str(kind.__doc__).strip()
        found[text] = (text,)
    return found


def catalogue(code: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    with (i18n.TRANSLATIONS / f"{code}.po").open("rb") as file:
        for message in read_po(file, locale=code):
            if message.id:
                one = message.id if isinstance(message.id, str) else message.id[0]
                text = message.string
                found[one] = (text,) if isinstance(text, str) else tuple(text or ())
    return found


LANGUAGES = [code for code in i18n.available() if code != i18n.SOURCE]


def test_the_source_is_read() -> None:
    assert "Get new posts in your inbox" in used()
    assert len(used()) > 100


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_message_is_untranslated(code: str) -> None:
    translated = catalogue(code)
    missing = [m for m in used() if not all(translated.get(m, ("",)))]
    assert missing == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_translation_is_left_over(code: str) -> None:
    assert sorted(set(catalogue(code)) - set(used())) == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_translations_keep_the_fields(code: str) -> None:
    for message, forms in catalogue(code).items():
        for form in forms:
            wanted = {
                f for text in used().get(message, ()) for f in FIELD.findall(text)
            }
            assert set(FIELD.findall(form)) <= wanted, message
            if len(forms) == 1:
                assert set(FIELD.findall(form)) == wanted, message


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_message_is_translated_twice(code: str) -> None:
    lines = (i18n.TRANSLATIONS / f"{code}.po").read_text().splitlines()
    ids = Counter(line for line in lines if line.startswith("msgid "))
    assert [message for message, times in ids.items() if times > 1] == []
