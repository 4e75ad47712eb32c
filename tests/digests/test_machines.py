"""Who opens a link: people as they come, machines by how they ask and how much."""

from datetime import date

import pytest

from newsletter.digests import machines
from newsletter.digests.machines import Clicks, Opened, Window

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/131.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1"
)
DAY = date(2026, 11, 26)


@pytest.mark.parametrize(
    ("agent", "machine"),
    [
        (CHROME, False),
        (IPHONE, False),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            False,
        ),
        (
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 Chrome/9",
            False,
        ),
        ("Mozilla/5.0 (Windows NT 10.0; Trident/7.0; rv:11.0) like Gecko", False),
        ("Lynx/2.9.0dev.10 libwww-FM/2.14 SSL-MM/1.4.1", False),
        ("w3m/0.5.3+git20230121", False),
        ("", True),
        ("Mozilla/5.0", True),
        ("Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; Trident/5.0)", True),
        (f"{CHROME} Edge/12.246 Mozilla/5.0", True),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://google.com/bot.html)", True),
        (f"{CHROME} (compatible; Slackbot-LinkExpanding 1.0)", True),
        (CHROME.replace("Chrome/", "HeadlessChrome/"), True),
        (f"{CHROME} Barracuda Sentinel (EE)", True),
        ("Mozilla/4.0 (compatible; ms-office; MSOffice 16)", True),
        ("python-requests/2.32.3", True),
        ("curl/8.9.1", True),
        ("Mozilla/5.0 (" + "a" * 100_000, True),
    ],
)
def test_machines_by_what_they_call_themselves(agent: str, machine: bool) -> None:
    headers = {"User-Agent": agent}
    assert machines.is_machine("GET", lambda n: headers.get(n, "")) is machine


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-Purpose", "prefetch;prerender"),
        ("Purpose", "prefetch"),
        ("X-Moz", "Prefetch"),
    ],
)
def test_machines_by_how_they_ask(name: str, value: str) -> None:
    headers = {"User-Agent": CHROME, name: value}
    assert machines.is_machine("GET", lambda n: headers.get(n, ""))
    assert machines.is_machine("HEAD", lambda n: {"User-Agent": CHROME}.get(n, ""))


def sums(window: Window, at: float) -> dict[int, tuple[int, int]]:
    found = window.take(at)
    return {o.link_id: (c.people, c.machines) for o, c in sorted(found.items())}


def test_who_opens_much_at_once_is_a_machine_and_nobody_else_is() -> None:
    window = Window()
    for link in range(1, 5):  # one client, four links within three seconds
        window.add(Opened(link, DAY), b"scanner", machine=False, at=link)
    for link in range(1, 4):  # a reader who opens three at once
        window.add(Opened(link, DAY), b"reader", machine=False, at=2)
    for reader in range(100):  # many readers, the same link
        window.add(Opened(1, DAY), b"%d" % reader, machine=False, at=3)
    for link in range(1, 9):  # one who takes their time
        window.add(Opened(link, DAY), b"slow", machine=False, at=2 * link)
    for _ in range(machines.MANY_TIMES + 1):  # one who hammers
        window.add(Opened(9, DAY), b"hammer", machine=False, at=20)
    window.add(Opened(9, DAY), b"bot", machine=True, at=20)
    few = dict.fromkeys((5, 6, 7, 8), (1, 0))
    early = {1: (102, 1), 2: (2, 1), 3: (2, 1), 4: (1, 1)}
    assert sums(window, 20) == early | few
    assert not window.is_empty()
    assert sums(window, 24.1) == {9: (0, machines.MANY_TIMES + 2)}
    assert window.is_empty()


def test_what_could_not_be_written_is_taken_back() -> None:
    window = Window()
    window.add(Opened(1, DAY), b"a", machine=False, at=0)
    taken = window.take(0, everything=True)
    window.add(Opened(1, DAY), b"a", machine=True, at=9)
    window.give_back(taken)
    assert window.take(99) == {Opened(1, DAY): Clicks(1, 1)}


def test_it_holds_no_more_clients_than_it_should() -> None:
    window = Window()
    many = machines.MOST_CLIENTS
    for number in range(many + 10):
        window.add(Opened(1, DAY), number.to_bytes(4), machine=False, at=0)
    early = window.take(0)[Opened(1, DAY)].people
    rest = window.take(0, everything=True)[Opened(1, DAY)].people
    assert (early, rest) == (10, many)
