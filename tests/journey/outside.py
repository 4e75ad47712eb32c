"""A running demo as someone outside meets it: pages, mails, commands."""

import email
import email.policy
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import Request, urlopen

from click.testing import CliRunner

from newsletter.cli.main import cli
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60
MAIL_SECONDS = 60


class Forms(HTMLParser):
    """The forms of a page: where they go, and what they say if nothing is typed."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            method = values.get("method", "get").lower()
            self.forms.append((method, values.get("action", ""), {}))
        elif tag in {"input", "button"} and self.forms and values.get("name"):
            if values.get("type") in {"checkbox", "radio"} and "checked" not in values:
                return
            self.forms[-1][2].setdefault(values["name"], values.get("value", ""))


@dataclass
class Page:
    """What a web server answered."""

    url: str
    status: int
    text: str
    headers: Mapping[str, str]

    def form(self, action: str = "") -> tuple[str, dict[str, str]]:
        """Return the address and the fields of a form that posts to `action`."""
        parser = Forms()
        parser.feed(self.text)
        for method, target, fields in parser.forms:
            if method == "post" and action in target:
                return urljoin(self.url, target or self.url), fields
        raise AssertionError(f"no form for {action!r} at {self.url}")


@dataclass
class Demo:
    """A demo in a folder of its own."""

    instance: Path
    port: int = field(default_factory=free_port)
    smtp_port: int = field(default_factory=free_port)
    database_url: str = ""  # the demo's own SQLite
    process: subprocess.Popen[str] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NEWSLETTER_")}
        if self.database_url:
            kept["NEWSLETTER_DATABASE_URL"] = self.database_url
        return {**kept, "NEWSLETTER_INSTANCE_DIR": str(self.instance)}

    def start(self) -> str:
        """Start it and return what it prints once it runs."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "newsletter", "demo"],
            cwd=ROOT,
            env={
                **self.environ,
                "PORT": str(self.port),
                "MAILBOX_SMTP_PORT": str(self.smtp_port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout
        said = ""
        for line in self.process.stdout:
            said += line
            if "Ctrl-C stops everything" in line:
                return said
        raise AssertionError(f"the demo did not start: {said}")

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, float]:
        """Stop it; return its exit code, what it said, and how long it took."""
        assert self.process
        began = time.monotonic()
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said, time.monotonic() - began

    def command(self, *arguments: str) -> str:
        """Run a command beside the demo and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "newsletter", *arguments],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, *arguments: str) -> str:
        """Run a command in this process, which spares it a start of its own."""
        elsewhere = {k: None for k in os.environ if k.startswith("NEWSLETTER_")}
        done = CliRunner().invoke(cli, arguments, env={**elsewhere, **self.environ})
        assert done.exit_code == 0, done.output
        return done.stdout

    def get(self, path: str) -> Page:
        return fetch(urljoin(self.base, path))

    def post(self, path: str, fields: Mapping[str, str]) -> Page:
        return fetch(urljoin(self.base, path), fields)

    def mails(self, to: str) -> list[EmailMessage]:
        """Return the mails to an address, the newest first."""
        listed = self.get(f"/mailbox/?{urlencode({'format': 'json', 'to': to})}")
        return [self._mail(entry["source_url"]) for entry in json.loads(listed.text)]

    def wait_for_mails(self, to: str, count: int) -> list[EmailMessage]:
        """Wait until an address has this many mails."""
        limit = time.monotonic() + MAIL_SECONDS
        while len(found := self.mails(to)) < count:
            assert time.monotonic() < limit, f"{len(found)} mails to {to}, not {count}"
            time.sleep(0.05)
        assert len(found) == count
        return found

    def _mail(self, path: str) -> EmailMessage:
        with urlopen(urljoin(self.base, path)) as answer:
            message = email.message_from_bytes(
                answer.read(), policy=email.policy.default
            )
        assert isinstance(message, EmailMessage)
        return message


def fetch(url: str, fields: Mapping[str, str] | None = None) -> Page:
    """Ask for a page, or post a form; without cookies."""
    body = urlencode(fields).encode() if fields is not None else None
    try:
        answer = urlopen(Request(url, body, {"Accept-Language": "sv"}), timeout=60)
    except HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode()
        return Page(answer.url, answer.status, text, dict(answer.headers.items()))


def text_of(message: EmailMessage, kind: str = "plain") -> str:
    part = message.get_body((kind,))
    assert part is not None, f"the mail has no {kind} part"
    content: str = part.get_content()
    return content


def link_in(message: EmailMessage, path: str) -> str:
    """Return the first link in the mail's text that leads to `path`."""
    found = re.search(rf"https?://[^\s<>]*{path}[^\s<>]*", text_of(message))
    assert found, f"no link to {path} in:\n{text_of(message)}"
    return found[0]
