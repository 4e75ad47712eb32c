"""`make`: lists itself, sets itself up, and says in one line what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from newsletter.config import ROOT

PYTHONS = ("python3.13", "python3.12", "python3.11", "python3", "python")
TOO_OLD = 'case "$2" in *platform*) echo 3.9.2 ;; *) exit 1 ;; esac'
WITHOUT_VENV = 'case "$2" in *ensurepip*) exit 1 ;; *) exit 0 ;; esac'
MISSING = "exit 127"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone holds, as far as setting up goes."""
    folder = tmp_path / "inkorg"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / "requirements.txt").write_text("")
    return folder


def make(
    clone: Path, *arguments: str, python: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    if python:
        fakes = clone.parent / "fakes"
        fakes.mkdir()
        for name in PYTHONS:
            (fakes / name).write_text(f"#!/bin/sh\n{python}\n")
            (fakes / name).chmod(0o755)
        path = f"{fakes}:/usr/bin:/bin"
    return subprocess.run(
        ["make", *arguments],
        cwd=clone,
        env={"PATH": path, "HOME": str(clone), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was said on standard error, without make's own echo of it."""
    return [x for x in done.stderr.splitlines() if not x.startswith("make")]


def test_make_alone_lists_the_targets(clone: Path) -> None:
    listing = make(clone).stdout
    for target in ("run", "test", "check", "bench"):
        assert f"make {target} " in listing


@pytest.mark.parametrize(
    ("python", "words"),
    [
        (TOO_OLD, "this is Python 3.9.2. Install a newer one"),
        (MISSING, "there is none here. Install it"),
        (WITHOUT_VENV, "apt install python3-venv"),
    ],
    ids=["too old", "missing", "without venv"],
)
def test_an_unusable_python_is_said_in_one_line(
    clone: Path, python: str, words: str
) -> None:
    done = make(clone, "setup", python=python)
    assert done.returncode != 0
    (line,) = said(done)
    assert words in line
    assert not (clone / ".venv").exists()


@pytest.mark.slow
def test_no_network_is_said_in_one_line_and_mended_by_trying_again(clone: Path) -> None:
    (clone / "requirements.txt").write_text("flask==3.1.3\n")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    done = make(clone, "setup", **nowhere)
    assert done.returncode != 0
    (line,) = said(done)
    assert "no network? Try again when there is one." in line

    (clone / "requirements.txt").write_text("# nothing is needed\n")
    again = make(clone, "setup", **nowhere)
    assert again.returncode == 0, again.stderr
    stamp = clone / ".venv" / "installed-requirements.txt"
    written_at = stamp.stat().st_mtime_ns
    third = make(clone, "setup", **nowhere)
    assert third.stdout == ""
    assert stamp.stat().st_mtime_ns == written_at


@pytest.mark.slow
def test_a_virtual_environment_whose_python_is_gone_is_made_anew(clone: Path) -> None:
    broken = clone / ".venv" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.symlink_to("/nowhere/python3.9")
    done = make(clone, "setup")
    assert done.returncode == 0, done.stderr
    assert os.access(broken, os.X_OK)


def test_without_postgresql_the_tests_fail_in_ci(clone: Path) -> None:
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "ran $*"\n')
    python.chmod(0o755)
    tools = clone.parent / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "ls", "tr"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    script = (clone / "scripts" / "test").read_text()
    (clone / "scripts" / "test").write_text(
        script.replace("/usr/lib/postgresql", "/nowhere")
    )
    for ci, code in (("true", 1), ("", 0)):
        done = subprocess.run(
            [str(tools / "sh"), "scripts/test"],
            cwd=clone,
            env={"PATH": str(tools), "CI": ci},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert "--database=sqlite" in done.stdout
        assert "PostgreSQL" in done.stdout + done.stderr
