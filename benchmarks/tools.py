"""The programs the benchmarks use: found here, built, or fetched without installing.

Everything lands in `build/bench`, which git does not see. What cannot be had is None,
and whoever asked says in one line what is left out.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "benchmarks"
CACHE = ROOT / "build" / "bench"
NO_COMPILER = "there is no C compiler (Debian: apt install gcc)"
NO_POSTFIX = "smtp-source and smtp-sink are not here (Debian: apt install postfix)"


@cache
def compiled(name: str) -> Path | None:
    """Build `benchmarks/NAME.c` unless it is built already; None without a compiler."""
    source, program = SOURCES / f"{name}.c", CACHE / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = CACHE / f"{name}.{os.getpid()}"
    subprocess.run([compiler, "-O2", "-o", fresh, source], check=True)
    fresh.rename(program)  # two at once build it twice, and neither runs half of one
    return program


@cache
def postfix(name: str) -> Path | None:
    """Find `smtp-source` or `smtp-sink`; fetch Debian's where we may. None if not."""
    places = os.pathsep.join(["/usr/sbin", os.environ.get("PATH", "")])
    if found := shutil.which(name, path=places):
        return Path(found)
    unpacked = CACHE / "postfix" / "usr" / "sbin" / name
    if not unpacked.exists() and os.geteuid() == 0 and shutil.which("dpkg-deb"):
        _unpack_postfix()
    return unpacked if unpacked.exists() and _starts(unpacked) else None


def postfix_environ() -> dict[str, str]:
    """Return an environment in which unpacked programs find their libraries."""
    folder = CACHE / "postfix" / "usr" / "lib"
    if not folder.exists():
        return dict(os.environ)
    places = [folder / "postfix", *folder.glob("*-linux-gnu")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, places))}


def _unpack_postfix() -> None:
    """Download Debian's packages and unpack them here; no mail server is set up."""
    folder = CACHE / "postfix"
    folder.mkdir(parents=True, exist_ok=True)
    for package in ("postfix", *_libraries()):
        got = subprocess.run(
            ["apt-get", "download", package],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        if got.returncode:
            return
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)


def _libraries() -> list[str]:
    """Name the packages with libraries that postfix needs and that are not here."""
    leaving_out = ("recommends", "suggests", "conflicts", "breaks", "replaces")
    said = subprocess.run(
        ["apt-cache", "depends", "--recurse", "postfix"]
        + [f"--no-{kind}" for kind in (*leaving_out, "enhances")],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    named = [line for line in said.splitlines() if line.startswith("lib")]
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\n"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    return [name for name in named if name not in listed and ":" not in name]


def _starts(program: Path) -> bool:
    """Tell whether a program finds its libraries; it ends at once and says why."""
    said = subprocess.run(
        [program], capture_output=True, env=postfix_environ(), check=False
    )
    return b"usage" in said.stderr
