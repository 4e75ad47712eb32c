"""Following an issue in the terminal to its end; sending it here if no worker does."""

import asyncio
import sys
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Self

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import jobs
from newsletter.cli.common import Installation
from newsletter.db import utcnow
from newsletter.digests import drafts
from newsletter.digests.status import status
from newsletter.mail.senders import Senders
from newsletter.models import Worker

WORKER_IS_SILENT = timedelta(seconds=15)
LOOK_SECONDS = 0.25
LINE_SECONDS = 2.0  # between two lines where there is no terminal
INTERRUPTED = 130  # as shells say for Ctrl-C

Figures = dict[str, Any]


def worker_is_alive(session: Session, now: datetime) -> bool:
    """Tell whether any worker has been heard of lately."""
    recent = select(Worker.name).where(Worker.seen_at > now - WORKER_IS_SILENT)
    return session.scalar(recent.limit(1)) is not None


def follow(place: Installation, issue_id: int) -> int:
    """Show an issue's progress until it ends; return the command's exit status."""
    place.database.on_begin = None  # from here on it is the clock and the sender
    try:
        figures = asyncio.run(_follow(place, issue_id))
    except KeyboardInterrupt:
        click.echo(
            "Stopped looking; the issue is still being sent. Follow it:"
            f" python -m newsletter issue status {issue_id}",
            err=True,
        )
        return INTERRUPTED
    if figures["state"] == "sent":
        click.echo(f"Sent. {in_words(figures)}")
        return 0
    click.echo(f"The issue is {figures['state']}. {in_words(figures)}", err=True)
    return 1


def in_words(figures: Figures) -> str:
    """Write an issue's figures on one line."""
    said = [f"{figures['sent']} of {figures['total']} sent"]
    if left := figures["queued"] + figures["deferred"]:
        said.append(f"{left} left")
    for name in ("deferred", "bounced", "failed", "skipped", "resent"):
        if figures[name]:
            said.append(f"{figures[name]} {name}")
    if figures["queued"]:
        said += _pace(figures)
    elif figures["next_attempt_at"]:
        seconds = (figures["next_attempt_at"] - utcnow()).total_seconds()
        said.append(f"next try in {_duration(max(seconds, 0))}")
    return ", ".join(said).rstrip(".") + "."


def _pace(figures: Figures) -> list[str]:
    said = []
    if figures["rate_per_second"]:
        said.append(f"{figures['rate_per_second']:.1f} a second")
    if figures["seconds_left"] is not None:
        said.append(f"{_duration(figures['seconds_left'])} to go")
    if figures["waiting_reason"]:
        said.append(f"waiting: {figures['waiting_reason']}")
    return said


async def _follow(place: Installation, issue_id: int) -> Figures:
    stop = asyncio.Event()
    own: asyncio.Task[None] | None = None
    try:
        with _display() as display:
            while True:
                figures, alive = await asyncio.to_thread(_look, place, issue_id)
                if own is None and not alive and figures["state"] == "sending":
                    display.say("No worker is running: sending from here.")
                    own = asyncio.create_task(_send(place, stop))
                if not alive:
                    figures["waiting_reason"] = ""  # that nobody sends: we do
                display.show(figures)
                if figures["state"] != "sending":
                    return figures
                if own is not None and own.done():
                    own.result()  # a sender never ends by itself, unless it fails
                await asyncio.sleep(LOOK_SECONDS)
    finally:
        stop.set()
        if own is not None and not own.done():
            await own


def _look(place: Installation, issue_id: int) -> tuple[Figures, bool]:
    now, places = utcnow(), len(place.settings.relays)
    with place.database.reading() as session:
        issue = drafts.find(session, issue_id)
        figures = status(session, issue, relay_count=places, now=now)
        alive = worker_is_alive(session, now)
    if figures["state"] == "sending" and not figures["queued"] + figures["deferred"]:
        jobs.finish_issues(place.database, now)
        with place.database.reading() as session:
            figures = status(session, drafts.find(session, issue_id), now=now)
    return figures, alive


async def _send(place: Installation, stop: asyncio.Event) -> None:
    await Senders(place.database, place.settings).run(stop)


def _display() -> "_Lines":
    return _Bar() if sys.stdout.isatty() else _Lines()


class _Lines:
    """Lines of text: one whenever the figures have changed and a while has passed."""

    def __init__(self) -> None:
        self.last = ""
        self.shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Tell something in between."""
        click.echo(text, err=True)

    def show(self, figures: Figures) -> None:
        """Tell how far it is."""
        line, now = in_words(figures), monotonic()
        if line != self.last and now - self.shown_at >= LINE_SECONDS:
            self.last, self.shown_at = line, now
            click.echo(line)


class _Bar(_Lines):
    """A progress bar on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = Progress(
            BarColumn(),
            TextColumn("{task.fields[share]:>3} %"),
            TextColumn("{task.description}"),
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """Tell something above the bar."""
        self.progress.console.print(text)

    def show(self, figures: Figures) -> None:
        """Move the bar; everyone who is settled counts as done."""
        total = figures["total"] or 1
        done = figures["total"] - figures["queued"] - figures["deferred"]
        share = done * 100 // total  # 100 means all of them
        if self.task is None:
            self.task = self.progress.add_task("", total=total, share=share)
        self.progress.update(
            self.task, completed=done, share=share, description=in_words(figures)
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
