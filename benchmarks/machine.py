"""What the numbers were made on: processor, memory, versions, and how busy it was."""

import os
import platform
import re
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import postgres, tools

PACKAGES = ("SQLAlchemy", "psycopg", "uvloop", "aiosmtplib", "cryptography")


def describe() -> dict[str, str]:
    """Return everything by name."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{_system()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": _last_word(postgres.program("postgres"), "--version"),
        "Postfix": _postfix(),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {name: value for name, value in found.items() if value}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return named[0] if named else platform.machine()


def _memory() -> str:
    kilobytes = Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]
    return f"{int(kilobytes) / 2**20:.0f} GB"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _last_word(program: str | None, *arguments: str) -> str:
    if not program:
        return ""
    said = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False
    ).stdout
    numbers = re.findall(r"\d+\.[\d.]*\d", said)
    return numbers[0] if numbers else ""


def _postfix() -> str:
    """Return the version of the tools, as Debian knows it."""
    if not tools.postfix("smtp-sink"):
        return ""
    found = list((tools.CACHE / "postfix").glob("postfix_*.deb"))
    if found:
        return found[0].name.split("_")[1]
    try:
        said = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "postfix"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unknown"
    return said.stdout or "unknown"
