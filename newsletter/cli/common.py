"""What commands share: the installation they work on, examples, JSON."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from sqlalchemy.orm import Session

from newsletter.app import create_app
from newsletter.audit import recording
from newsletter.audit.recording import Actor
from newsletter.config import Settings
from newsletter.db import Database, current_database
from newsletter.web.security import current_settings


@dataclass(frozen=True, slots=True)
class Installation:
    """The settings and the database a command works on."""

    settings: Settings
    database: Database


def with_installation(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the installation as its first argument, in an app context."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with create_app().app_context():
            place = Installation(current_settings(), current_database())
            place.database.on_begin = _recording()
            try:
                return command(place, *args, **kwargs)
            finally:
                place.database.engine.dispose()

    return wrapper


def _recording() -> Callable[[Session], None]:
    """Return what records a command's changes as its own: "issue send"."""
    context = click.get_current_context()
    root = context.find_root().command_path
    actor = Actor(context.command_path.removeprefix(root).strip())
    return lambda session: recording.watch(session, lambda: actor)


def example(text: str) -> str:
    r"""Return an epilog that shows one call."""
    return f"\b\nExample:\n  python -m newsletter {text}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: "1 reader", "2,214 readers"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show_json(value: Any) -> None:
    """Print `value` as JSON; moments in ISO 8601."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of text."
)
