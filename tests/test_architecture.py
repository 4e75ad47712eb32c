"""The shape of the project, as tests. If one fails, move the code, not the line."""

import ast
import functools
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "newsletter"

# A unit imports only from lines below its own. Units on one line are strangers.
LAYERS = """
    cli
    app
    web
    demo serving
    jobs
    digests
    subscribers posts editors
    mail newsletters mailbox pictures
    templating quiet
    rhythms moments
    i18n links markup colours images
    plaintext audit undoing networks
    models migrate
    db
    config
    errors
"""
RANK = {
    unit: -row for row, line in enumerate(LAYERS.splitlines()) for unit in line.split()
}
KNOWS_FLASK = {"app", "web", "cli", "db"}
# Flask-Security's mixins are plain classes: the schema may inherit them.
FLASK_EXCEPTIONS = {"models": {"flask_security"}}
OPENS_TRANSACTIONS = {
    *("web", "cli", "demo", "jobs", "mail.sender", "mail.senders", "mail.clerk"),
    "posts.fetching",  # network and writing in turns: one feed, one transaction
    "posts.websub",  # the same with hubs
}
# A library has one doorway: replacing it is a change to one file.
DOORWAYS = {
    "aiosmtpd": {"mailbox"},
    "alembic": {"migrate"},
    "babel": {"i18n"},
    "cryptography": {"mail.keys"},
    "dns": {"mail.probing", "cli.doctor", "doctor", "cli.operations"},
    "email_validator": {"subscribers.addresses"},
    "feedparser": {"posts.parsing"},
    "granian": {"serving", "cli.operations"},
    "holidays": {"quiet"},
    "itsdangerous": {"links"},
    "markdown_it": {"markup"},
    "mrml": {"templating"},
    "nh3": {"markup"},
    "PIL": {"images"},
    "urllib3": {"posts.download"},
}


def paths() -> dict[str, Path]:
    """Return every module by dotted name, without the leading `newsletter.`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "migrations" and not parts[-1].startswith("__"):
            found[".".join(parts)] = path
    return found


MODULES = paths()


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def trees() -> Iterator[tuple[str, ast.Module]]:
    return ((module, tree_of(module)) for module in MODULES)


@functools.cache
def source_of(module: str) -> str:
    """Return a module's text without its comments."""
    return ast.unparse(tree_of(module))


@functools.cache
def imports(tree: ast.AST) -> tuple[str, ...]:
    """Return the full dotted name of everything imported anywhere under `tree`."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


@functools.cache
def siblings(tree: ast.AST) -> set[str]:
    """Return the modules of this package that `tree` imports."""
    names = {name.removeprefix("newsletter.") for name in imports(tree)}
    return {
        m for m in MODULES for name in names if name == m or name.startswith(f"{m}.")
    }


def unit(module: str) -> str:
    return module.partition(".")[0]


def test_every_unit_has_a_layer() -> None:
    assert {unit(module) for module in MODULES} <= set(RANK)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    wrong = [
        target
        for target in siblings(tree_of(module))
        if unit(target) != unit(module) and RANK[unit(target)] >= RANK[unit(module)]
    ]
    assert wrong == []


def test_no_cycles() -> None:
    TopologicalSorter({module: siblings(tree) for module, tree in trees()}).prepare()


def test_no_import_hides_in_a_function() -> None:
    for module, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert not imports(node), f"{module}.{node.name}"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_edges_know_flask(module: str) -> None:
    if unit(module) in KNOWS_FLASK:
        return
    allowed = FLASK_EXCEPTIONS.get(module, set())
    names = {name.partition(".")[0] for name in imports(tree_of(module))}
    assert not {name for name in names if name.startswith("flask")} - allowed


@pytest.mark.parametrize("module", MODULES)
def test_only_the_edges_open_transactions(module: str) -> None:
    source = source_of(module)
    if not {module, unit(module)} & OPENS_TRANSACTIONS and module != "db":
        assert "transaction()" not in source
    if module not in {"db", "migrate"}:
        assert ".commit(" not in source


@pytest.mark.parametrize("library", DOORWAYS)
def test_a_library_has_one_doorway(library: str) -> None:
    users = {
        module
        for module, tree in trees()
        if library in {name.partition(".")[0] for name in imports(tree)}
    }
    assert users <= DOORWAYS[library], f"{library} is used in {sorted(users)}"


def test_only_config_reads_the_environment() -> None:
    readers = {module for module in MODULES if "os.environ" in source_of(module)}
    # These two hand it on to their children.
    assert readers <= {"config", "demo.environment", "serving"}


def test_modules_introduce_themselves() -> None:
    for module, tree in trees():
        assert ast.get_docstring(tree), module


def test_functions_stay_readable() -> None:
    for module, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= 60, f"{module}.{node.name} has {lines} lines"


def test_package_files_hold_only_a_docstring() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        assert len(tree.body) == 1, path
