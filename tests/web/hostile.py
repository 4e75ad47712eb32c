"""Words as an attacker writes them, how a page must show them, and forms to type in."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

# Plain words: each sign that could end an attribute or begin a tag, a template's
# brackets, and a reference, which must be shown as it was written.
WORDS = "qz\"qz'qz<qz>&lt;qy{{7*7}}"
# Markdown: there quotes are text, and what can act must be gone or shown.
MARKDOWN = (
    "qm <img src=x onerror=qm> <script>qm</script> <svg onload=qm> [qm](javascript:qm)"
)
_RAW = re.compile(
    "qz[\"'<]|&lt;qy|qy49"
    "|<img[^<>]*onerror|<script>qm|<svg[^<>]*onload|href=[\"']?javascript:"
)
TYPED = {"text", "search", "email", "url", "tel", "password", "number", "", "date"}


def acting(html: str) -> list[str]:
    """Return what stands in a page, a mail or a feed as more than text."""
    return [html[max(0, m.start() - 80) : m.end() + 20] for m in _RAW.finditer(html)]


@dataclass
class Form:
    """A form on a page, and what a browser would send of it."""

    action: str
    method: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)
    choices: dict[str, set[str]] = field(default_factory=dict)  # ticked or not

    def filled(self, **typed: str) -> dict[str, str | list[str]]:
        """Return it with some words typed and its first button pressed."""
        return {**self.fields, **self.typed, **dict(self.buttons[:1]), **typed}


class Forms(HTMLParser):
    """The forms on a page, those without JavaScript's own left out."""

    def __init__(self, path: str, html: str) -> None:
        super().__init__()
        self.path = path
        self.found: list[Form] = []
        self._by_id: dict[str, Form] = {}
        self._select = self._textarea = ""
        self._bare = False
        self._of: Form | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            action = urljoin(self.path, values.get("action") or self.path)
            form = Form(action, values.get("method", "get").upper())
            self.found.append(form)
            self._by_id[values.get("id", "")] = form
        elif self.found:
            last = self.found[-1]
            self._of = self._by_id.get(values.get("form", ""), last)
            self._field(self._of, tag, values)

    def _field(self, form: Form, tag: str, values: dict[str, str]) -> None:
        name, value = values.get("name", ""), values.get("value", "")
        kind = values.get("type", "")
        if tag == "option" and self._select:
            form.choices.setdefault(self._select, set()).add(value)
            if "selected" in values or self._select not in form.fields:
                form.fields[self._select] = [value]
                self._bare = "value" not in values  # then its text is its value
        elif not name:
            return
        elif tag == "button" or kind == "submit":
            form.buttons.append((name, value))
        elif tag == "select":
            self._select = name
        elif tag == "textarea":
            self._textarea = name
            form.typed[name] = ""
        elif tag == "input" and kind in TYPED:
            form.typed[name] = value
        elif tag == "input" and kind != "file":
            form.choices.setdefault(name, set()).add(value)
            if kind == "hidden" or "checked" in values:
                form.fields.setdefault(name, []).append(value)

    def handle_data(self, data: str) -> None:
        if self._textarea and self._of:
            self._of.typed[self._textarea] += data
        if self._select and self._of and self._bare:
            self._of.fields[self._select], self._bare = [data.strip()], False

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        if tag == "textarea":
            self._textarea = ""
