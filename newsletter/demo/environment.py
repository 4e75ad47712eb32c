"""The demo's settings: a file in the instance folder that other terminals read too."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from newsletter.config import DEMO_FILE, PREFIX, ROOT, read_env_file
from newsletter.errors import N_, Conflict

SECRETS = "NEWSLETTER_SECRET_KEYS"
INSTANCE = "NEWSLETTER_INSTANCE_DIR"
DATABASE = "NEWSLETTER_DATABASE_URL"
LOG_FILE = "demo.log"


def instance_dir() -> Path:
    """Return the folder of the demo's data, made if need be."""
    folder = Path(os.environ.get(INSTANCE) or ROOT / "instance").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone(instance: Path) -> Iterator[None]:
    """Hold the instance folder for one demo. Raises Conflict if another has it."""
    with (instance / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            at = read_env_file(instance / DEMO_FILE).get("NEWSLETTER_BASE_URL", "")
            raise Conflict(
                N_(
                    "Inkorg already runs here, at %(url)s. Stop it first, with Ctrl-C"
                    " in its terminal."
                ),
                url=at,
            ) from None
        yield


def write(instance: Path, port: int, smtp_port: int) -> dict[str, str]:
    """Write the settings and return them; the secret keys and the database stay."""
    path = instance / DEMO_FILE
    kept = read_env_file(path)
    values = {
        SECRETS: kept.get(SECRETS) or secrets.token_urlsafe(32),
        DATABASE: _database_url(kept, instance),
        "NEWSLETTER_BASE_URL": f"http://127.0.0.1:{port}",
        "NEWSLETTER_SMTP_URL": f"smtp://127.0.0.1:{smtp_port}?connections=4",
        "NEWSLETTER_MAILBOX_DIR": str(instance / "mailbox"),
        "NEWSLETTER_EHLO_NAME": "localhost",
        "NEWSLETTER_FETCH_ALLOW": "*",
        "NEWSLETTER_SIGNUPS_PER_NETWORK_HOUR": "600",  # one person trying things out
        "NEWSLETTER_DEMO": "1",
    }
    lines = ["# Written by `make run`; commands typed beside it read this file."]
    lines += [f"{name}={value}" for name, value in values.items()]
    unfinished = path.with_suffix(".part")
    unfinished.touch(mode=0o600)
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.replace(path)
    return values


def for_children(values: dict[str, str], instance: Path) -> dict[str, str]:
    """Return the environment of the demo's processes.

    Where the shell holds a real installation's settings, none of them reach the demo.
    """
    real = SECRETS in os.environ
    environ = {
        name: value
        for name, value in os.environ.items()
        if not (real and name.startswith(PREFIX))
    }
    return {**environ, **values, INSTANCE: str(instance)}


def _database_url(kept: dict[str, str], instance: Path) -> str:
    asked = "" if SECRETS in os.environ else os.environ.get(DATABASE, "")
    return asked or kept.get(DATABASE) or f"sqlite:///{instance / 'demo.sqlite3'}"
