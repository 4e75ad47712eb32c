"""The main job, end to end: sign up, confirm, import, send, read, leave."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.outside import Demo, fetch, link_in, text_of

pytestmark = pytest.mark.usefixtures("migrated")  # on both databases

SLUG = "runt-kvarteret"
ITEM = """
<item>
  <title>{title}</title>
  <link>https://blogg.example/{number}/</link>
  <guid isPermaLink="false">https://blogg.example/?p={number}</guid>
  <dc:creator>Åsa Öberg</dc:creator>
  <pubDate>Fri, 11 Oct 2019 09:00:00 +0000</pubDate>
  <description>{words}</description>
</item>"""
FEED = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel>
<title>Blåbärsbloggen</title><link>https://blogg.example/</link>
<description>x</description><language>sv-SE</language>{items}</channel></rss>"""
FIRST = ITEM.format(
    number=1, title="En egen kväll för tjejer i Ånge", words="Nu är det höst på gården."
)
SECOND = ITEM.format(
    number=2, title="Växthuset är på plats", words="Glaset kom på måndagen."
)


@pytest.fixture(scope="module")
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("journey"))
    if request.config.getoption("--database") == "postgresql":
        demo.database_url = request.getfixturevalue("postgres").create("journey")
    demo.start()
    yield demo
    code, said, _seconds = demo.stop(signal.SIGTERM)
    assert code == 0, said


def sign_up(demo: Demo, address: str) -> None:
    """Sign up, and confirm by the button of the page that the mail leads to."""
    target, fields = demo.get(f"/{SLUG}/").form("subscribe")
    answer = demo.post(target, {**fields, "email": address})
    assert answer.status == 200
    (confirmation,) = demo.wait_for_mails(address, 1)
    assert confirmation["Auto-Submitted"] == "auto-generated"
    assert confirmation["List-Unsubscribe"] is None
    link = link_in(confirmation, "/confirm/")
    page = fetch(link)
    assert page.status == 200
    target, fields = page.form()  # looking at it has not confirmed anything
    assert demo.post(target, fields).status == 200
    demo.wait_for_mails(address, 2)  # the welcome


def status_of(demo: Demo, address: str) -> str:
    shown = demo.ask("subscribers", "show", address, "--json")
    found = re.search(r'"status": "(\w+)"', shown)
    assert found, shown
    return found[1]


def publish(demo: Demo, folder: Path, items: str) -> str:
    """Import posts from a feed file and draft an issue; return its id."""
    feed = folder / "feed.rss"
    feed.write_text(FEED.format(items=items))
    demo.ask("posts", "import", SLUG, str(feed))
    return demo.ask("issue", "draft", SLUG).strip()


def test_from_sign_up_to_leaving(demo: Demo, tmp_path: Path) -> None:
    asa, bo = "asa.oberg@lund.example", "bo@malmo.example"
    sign_up(demo, asa)
    sign_up(demo, bo)

    issue = publish(demo, tmp_path, FIRST)
    demo.ask("issue", "preview", issue, "--out", str(tmp_path / "preview"))
    names = {path.name for path in (tmp_path / "preview").iterdir()}
    assert names >= {"digest.html", "digest.txt", "digest.eml"}
    demo.command("issue", "send", issue, "--wait")

    digest = demo.wait_for_mails(asa, 3)[0]
    assert "En egen kväll för tjejer i Ånge" in text_of(digest)
    assert "Nu är det höst på gården." in text_of(digest)
    assert "11 oktober 2019" in text_of(digest)
    assert "Åsa Öberg" in text_of(digest)
    assert "En egen kväll för tjejer i Ånge" in text_of(digest, "html")
    assert "612 98 Björkvik" in text_of(digest)
    assert digest["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f"<{SLUG}." in digest["List-Id"]
    assert len(digest.as_bytes()) < 102_000

    link = digest["List-Unsubscribe"].split(">")[0].strip("< ")
    assert fetch(link).status == 200
    assert status_of(demo, asa) == "active"  # looking at it is not leaving
    left = fetch(link, {"List-Unsubscribe": "One-Click"})
    assert left.status == 200
    assert left.url == link  # no redirect
    assert "Set-Cookie" not in left.headers
    assert status_of(demo, asa) == "left"

    issue = publish(demo, tmp_path, FIRST + SECOND)
    demo.command("issue", "send", issue, "--wait")
    second = demo.wait_for_mails(bo, 4)[0]
    assert "Växthuset är på plats" in text_of(second)
    assert "En egen kväll" not in text_of(second)  # every post once
    assert len(demo.mails(asa)) == 3  # nothing since
