"""What a mail uses that mail programs do not know, by the data of caniemail.com. Pure.

`features.json` is made by `scripts/distil_caniemail.py`. What stands in a style sheet's
@media rules is for those who know it, and is not looked at.
"""

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from newsletter.digests.preflight.page import Page

DATA = Path(__file__).with_name("features.json")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# An at-rule with rules in it: two levels of braces.
_NESTED = re.compile(r"@[a-z-]+[^{};]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", re.IGNORECASE)
_DECLARATION = re.compile(
    r"(?:^|[;{])\s*(-?[a-z][a-z-]*)\s*:\s*([^;}]+)", re.IGNORECASE
)
_FUNCTION = re.compile(r"([a-z-]+)\(", re.IGNORECASE)
_RULE = re.compile(r"@[a-z-]+", re.IGNORECASE)
# Values with which a property does nothing, known or not.
_NOTHING = frozenset({"none", "static", "normal", "auto", "0", "1", "initial"})


@dataclass(frozen=True, slots=True)
class Use:
    """Something a mail uses, and the programs that do not know it."""

    name: str
    shown: str  # as one would write it
    lacking: tuple[str, ...]


@functools.lru_cache(maxsize=32)
def used(page: Page) -> tuple[Use, ...]:
    """Return what a mail uses that is not known everywhere, each once."""
    return tuple(dict.fromkeys([*_elements(page), *_styles(page), *_pictures(page)]))


@functools.cache
def _lacking() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = json.loads(
        DATA.read_text(encoding="utf-8")
    )["lacking"]
    return found


def _use(kind: str, name: str, shown: str) -> Iterator[Use]:
    if programs := _lacking()[kind].get(name):
        yield Use(name, shown, tuple(programs))


def _elements(page: Page) -> Iterator[Use]:
    for tag in page.tags:
        yield from _use("element", tag, f"<{tag}>")


def _styles(page: Page) -> Iterator[Use]:
    sheets = [_COMMENT.sub("", sheet).lower() for sheet in page.sheets]
    for sheet in sheets:
        for rule in _RULE.findall(sheet):
            yield from _use("rule", rule, rule)
    for style in (*page.styles, *(_NESTED.sub("", sheet) for sheet in sheets)):
        for name, value in _DECLARATION.findall(style.lower()):
            yield from _declared(name, value.replace("!important", "").strip())


def _declared(name: str, value: str) -> Iterator[Use]:
    yield from _use("declaration", f"{name}:{value}", f"{name}: {value}")
    if value not in _NOTHING:
        yield from _use("property", name, name)
    if name == "background" and "url(" in value:
        yield from _use("property", "background-image", "background: url()")
    for function in _FUNCTION.findall(value):
        yield from _use("function", function, f"{function}()")


def _pictures(page: Page) -> Iterator[Use]:
    for picture in page.pictures:
        if picture.url.startswith("data:"):
            yield from _use("picture", "data", "data:")
            continue
        ending = _path(picture.url).rpartition(".")[2].lower()
        yield from _use("picture", ending, f".{ending}")


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
