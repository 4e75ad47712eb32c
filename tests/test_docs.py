"""Documentation: what it names exists, and what exists it names."""

import re
from collections.abc import Iterator

import click
import pytest

from newsletter.cli.main import cli
from newsletter.config import ROOT, VARIABLES

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)")
PATH = re.compile(r"`((?:newsletter|templates|tests|docs|benchmarks)/[\w./-]+)`")


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = dict(commands(cli))
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])


def test_every_setting_is_documented_and_none_other() -> None:
    text = (DOCS / "settings.md").read_text()
    assert set(re.findall(r"NEWSLETTER_[A-Z_]+", text)) == VARIABLES


def test_every_command_is_documented() -> None:
    text = (DOCS / "commands.md").read_text()
    assert [name for name in COMMANDS if f"`{name}" not in text] == []
    rows = re.findall(r"^\| `([a-z -]*[a-z])", text, re.MULTILINE)
    assert sorted(rows) == sorted(set(rows))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_of_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help, name
    assert f"python -m newsletter {name}" in (command.epilog or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_in_documents_lead_somewhere(page: object) -> None:
    assert hasattr(page, "read_text")
    text = page.read_text()
    folder = page.parent  # type: ignore[attr-defined]
    lost = [target for target in LINK.findall(text) if not (folder / target).exists()]
    lost += [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    assert lost == []


def test_the_changelog_has_a_place_for_what_is_coming() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
