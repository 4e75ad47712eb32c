"""Who opens a link: a person, or likely a machine that looks at mail for them. Pure.

Programs that guard mailboxes open what stands in a mail before anybody reads it. Told
apart by

- how they ask: HEAD, or ahead of time (`Sec-Purpose: prefetch`),
- what they call themselves: not a browser, or one with a program's name in it,
- when: within seconds of when the issue began to go out (`clicks.py`),
- how much at once: several links of one issue within a few seconds (`Window`).

No list of names: those that matter here come as browsers, and are told by the last two.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

SECONDS = 4.0  # in which one reader hardly opens
MANY_LINKS = 4  # different links of an issue,
MANY_TIMES = 20  # or as many times the same
MOST_CLIENTS = 50_000  # looked at together; then the earliest are taken as they are
MOST_AGENT_CHARACTERS = 1000

_BROWSER = re.compile(
    r"Mozilla/5\.0 \(.*(?:AppleWebKit/|Gecko/|Trident/7)|Opera/"
    r"|(?:Dillo|E?Links|Lynx|NetSurf|w3m)\b"
)
_PROGRAM = re.compile(
    r"(?<!cu)bot(?![a-z])|crawl|spider|slurp|scan|preview|fetch|prox(?:y|ies)|monitor"
    r"|headless|phantom|validat|link.?(?:check|protect)|archiv|https?://"
    r"|barracuda|mimecast|proofpoint|ironport|ciscosecure|forti(?:mail|guard)|sophos"
    r"|symantec|trendmicro|bitdefender|zscaler|Mozilla/5\.0$",
    re.IGNORECASE,
)

# Gives a request's header by its name, or nothing.
Header = Callable[[str], str]


class Opened(NamedTuple):
    """A link on a day, as clicks are summed up."""

    link_id: int
    day: date


@dataclass(slots=True)
class Clicks:
    """How often something was opened."""

    people: int = 0
    machines: int = 0  # likely


@dataclass(slots=True)
class _Client:
    """What somebody has opened of an issue within the window."""

    since: float
    opened: dict[Opened, Clicks] = field(default_factory=dict)
    times: int = 0

    @property
    def is_machine(self) -> bool:
        links = {opened.link_id for opened in self.opened}
        return len(links) >= MANY_LINKS or self.times > MANY_TIMES


def is_machine(method: str, header: Header) -> bool:
    """Tell by how it asks whether a request is likely a machine's."""
    purposes = map(header, ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"))
    if method != "GET" or any("prefetch" in said.lower() for said in purposes):
        return True
    agent = header("User-Agent")[:MOST_AGENT_CHARACTERS]
    return not _BROWSER.match(agent) or bool(_PROGRAM.search(agent))


def wants_no_count(header: Header) -> bool:
    """Tell whether a browser asks that nobody takes note of what it opens."""
    return header("Sec-GPC") == "1" or header("DNT") == "1"


class Window:
    """Clicks of the last seconds, by client: who opens much at once is a machine.

    Clients are told apart by whatever the caller makes of them, and forgotten when
    their seconds are over. Safe to use from many threads.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()  # the earliest first
        self._settled: dict[Opened, Clicks] = {}

    def add(self, opened: Opened, client: bytes, *, machine: bool, at: float) -> None:
        """Take a click in; `at` is in seconds of any clock that only goes forward."""
        with self._lock:
            self._settle(at)
            known = self._clients.get(client)
            if known is None:
                known = self._clients[client] = _Client(at)
            clicks = known.opened.setdefault(opened, Clicks())
            known.times += 1
            clicks.people += not machine
            clicks.machines += machine

    def take(self, at: float, *, everything: bool = False) -> dict[Opened, Clicks]:
        """Hand over what is settled, and forget it; with `everything` all there is."""
        with self._lock:
            self._settle(float("inf") if everything else at)
            settled, self._settled = self._settled, {}
            return settled

    def give_back(self, settled: Mapping[Opened, Clicks]) -> None:
        """Take back what could not be written."""
        with self._lock:
            for opened, clicks in settled.items():
                self._sum_up(opened, clicks)

    def is_empty(self) -> bool:
        """Tell whether there is nothing to hand over, now or later."""
        with self._lock:
            return not self._clients and not self._settled

    def _settle(self, at: float) -> None:
        while self._clients:
            client = next(iter(self._clients.values()))
            in_time = client.since + SECONDS > at
            if in_time and len(self._clients) <= MOST_CLIENTS:
                return
            self._clients.popitem(last=False)
            for opened, clicks in client.opened.items():
                if client.is_machine:
                    clicks = Clicks(0, clicks.people + clicks.machines)
                self._sum_up(opened, clicks)

    def _sum_up(self, opened: Opened, clicks: Clicks) -> None:
        total = self._settled.setdefault(opened, Clicks())
        total.people += clicks.people
        total.machines += clicks.machines
