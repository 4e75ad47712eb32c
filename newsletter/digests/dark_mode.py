"""The rules a mail has for dark mode, and the colours they give an element. Pure.

Only what mail programs know themselves is read: names of elements and classes, inside
one another. A rule with any other selector is passed over.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# What a mail stands upon that says nothing: Chromium's canvas in dark mode.
INK = "#ffffff"
GROUND = "#121212"
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL | re.IGNORECASE)
_DARK = re.compile(r"@media[^{]*prefers-color-scheme:\s*dark[^{]*\{")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_DECLARATION = re.compile(
    r"(?:^|;)\s*(color|background|background-color)\s*:\s*([^;!]+)(!\s*important)?"
)
_COMPOUND = re.compile(r"([a-z][a-z0-9]*|\*)?((?:\.[\w-]+)*)")


@dataclass(frozen=True, slots=True)
class Element:
    """What a selector asks of an element: its name and its classes."""

    tag: str
    classes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One selector and the colours it gives; `parts` from the outermost inwards."""

    parts: tuple[tuple[str, str, frozenset[str]], ...]  # combinator, name, classes
    declarations: tuple[tuple[str, str, bool], ...]  # property, value, important

    @property
    def weight(self) -> tuple[int, int]:
        """Return the specificity: classes, then names (Selectors 4, §17)."""
        classes = sum(len(part[2]) for part in self.parts)
        return classes, sum(bool(part[1]) for part in self.parts)

    def holds_for(self, opened: Sequence[Element]) -> bool:
        """Tell whether the last of these, each inside the one before, is meant."""
        return bool(opened) and _matches(self.parts, opened)


def rules(html: str) -> list[Rule]:
    """Return a mail's rules for dark mode, the one that wins last."""
    css = _COMMENT.sub("", "\n".join(_STYLE.findall(html))).lower()
    found = [
        rule
        for block in _blocks(css)
        for selectors, body in _RULE.findall(block)
        for rule in _rules(selectors, body)
    ]
    return sorted(found, key=lambda rule: rule.weight)


def declared(
    found: Iterable[Rule], opened: Sequence[Element]
) -> Iterator[tuple[str, str, bool]]:
    """Yield property, value and whether it beats a `style`, the one that wins last."""
    holding = [rule for rule in found if rule.holds_for(opened)]
    for wanted in (False, True):
        for rule in holding:
            yield from (one for one in rule.declarations if one[2] is wanted)


def _blocks(css: str) -> Iterator[str]:
    for start in _DARK.finditer(css):
        depth, end = 1, start.end()
        while depth and end < len(css):
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        yield css[start.end() : end - 1]


def _rules(selectors: str, body: str) -> Iterator[Rule]:
    declarations = tuple(
        ("color" if name == "color" else "background", value.strip(), bool(important))
        for name, value, important in _DECLARATION.findall(body)
    )
    for selector in selectors.split(","):
        if declarations and (parts := _parts(selector)):
            yield Rule(parts, declarations)


def _parts(selector: str) -> tuple[tuple[str, str, frozenset[str]], ...]:
    parts, combinator = [], " "
    for word in selector.replace(">", " > ").split():
        if word == ">":
            combinator = ">"
            continue
        read = _COMPOUND.fullmatch(word)
        if not read:
            return ()
        classes = frozenset(filter(None, read[2].split(".")))
        parts.append((combinator, (read[1] or "").strip("*"), classes))
        combinator = " "
    return tuple(parts)


def _matches(
    parts: Sequence[tuple[str, str, frozenset[str]]], opened: Sequence[Element]
) -> bool:
    (combinator, tag, classes), before = parts[-1], parts[:-1]
    last = opened[-1]
    if (tag and tag != last.tag) or not classes <= last.classes:
        return False
    if not before:
        return True
    nearest = len(opened) - 1
    furthest = nearest if combinator == ">" else 1
    return any(
        _matches(before, opened[:end])
        for end in range(nearest, furthest - 1, -1)
        if end
    )
