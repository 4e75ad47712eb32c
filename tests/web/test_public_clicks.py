"""Counted links in a browser: on to the right page, into the sums, no further."""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, select, text, update

from newsletter import links
from newsletter.config import Settings
from newsletter.db import Base, Database
from newsletter.digests import clicks, drafts, publish
from newsletter.digests.machines import Opened
from newsletter.models import CountedLink, Issue, LinkClicks, Newsletter, Subscriber
from newsletter.subscribers import rights
from newsletter.web.clicks import EXTENSION, Counter
from tests.digests.test_machines import CHROME, IPHONE
from tests.factories import make_newsletter, make_post, make_subscription

NOW = datetime.now(UTC)
BEGAN = NOW - timedelta(hours=1)
TODAY = NOW.astimezone(ZoneInfo("Europe/Stockholm")).date()
URLS = [f"https://blogg.example/{number}?a=1&b=ö" for number in range(1, 7)]


@dataclass
class Mailed:
    """An issue that has gone out with counted links, and who clicks on them."""

    app: Flask
    database: Database
    counter: Counter
    newsletter_id: int
    issue_id: int
    tokens: list[str]
    ids: list[int]

    def get(
        self,
        link: int | str = 0,
        ip: str = "192.0.2.1",
        method: str = "GET",
        **headers: str,
    ) -> str:
        """Open a link; return where it leads, or the status."""
        token = self.tokens[link] if isinstance(link, int) else link
        sent = {"User-Agent": CHROME}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.app.test_client().open(
            f"/l/{token}",
            method=method,
            headers=sent,
            environ_overrides={"REMOTE_ADDR": ip},
        )
        assert "Set-Cookie" not in answer.headers
        if answer.status_code != 302:
            # Slashes too many are put right, on our own site.
            where = answer.headers.get("Location", "http://localhost/")
            assert where.startswith("http://localhost/")
            return str(answer.status_code)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        return answer.headers["Location"]

    def sums(self) -> dict[int, tuple[int, int]]:
        """Write what has been clicked; return clicks and machines by link."""
        self.counter.write(everything=True)
        return self.written()

    def written(self) -> dict[int, tuple[int, int]]:
        with self.database.reading() as session:
            rows = session.scalars(select(LinkClicks)).all()
        assert {row.day for row in rows} <= {TODAY}
        return {self.ids.index(r.link_id): (r.clicks, r.machines) for r in rows}

    def change(self, **values: object) -> None:
        with self.database.transaction() as session:
            for name, value in values.items():
                about = Issue if name == "started_at" else Newsletter
                session.execute(update(about).values({name: value}))


@pytest.fixture
def mailed(app: Flask, database: Database, settings: Settings) -> Iterator[Mailed]:
    with database.transaction() as session:
        labbet = make_newsletter(session, count_clicks=True)
        for url in URLS:
            make_post(session, labbet, link=url)
        make_subscription(session, labbet, "anna@exempel.example")
        issue = drafts.draft(session, labbet, now=BEGAN)
        publish.send(session, settings, issue, now=BEGAN)
        found = session.scalars(select(CountedLink).order_by(CountedLink.url)).all()
        assert [link.url for link in found] == URLS
        counter: Counter = app.extensions[EXTENSION]
        counter.window.take(0, everything=True)  # of the tests before
        yield_values = (labbet.id, issue.id)
        tokens, ids = [link.token for link in found], [link.id for link in found]
    yield Mailed(app, database, counter, *yield_values, tokens, ids)
    counter.window.take(0, everything=True)


def test_a_link_leads_on_and_is_counted_without_anybody(mailed: Mailed) -> None:
    assert mailed.get(0) == "https://blogg.example/1?a=1&b=%C3%B6"
    mailed.get(0, "192.0.2.77", User_Agent=IPHONE)
    mailed.get(1, "192.0.2.78")
    mailed.get(1, "192.0.2.79", method="HEAD")
    mailed.get(2, "192.0.2.80", User_Agent="curl/8")
    mailed.get(2, "192.0.2.81", Sec_Purpose="prefetch")
    for link in range(6):
        mailed.get(link, "192.0.2.82")  # a scanner that comes as a browser
    # Who asks not to be noticed is led on all the same.
    assert mailed.get(3, "192.0.2.83", Sec_GPC="1") == mailed.get(3, DNT="1")
    assert mailed.get(0, method="POST") == mailed.get(0, method="PUT") == "405"
    scanned = dict.fromkeys((3, 4, 5), (0, 1))
    assert mailed.sums() == {0: (2, 1), 1: (1, 2), 2: (0, 3)} | scanned
    with mailed.database.reading() as session:
        cells = " ".join(
            repr(row)
            for table in Base.metadata.sorted_tables
            for row in session.execute(select(table))
        )
    assert "192.0.2" not in cells
    assert "AppleWebKit" not in cells


def test_a_link_leads_nowhere_else(mailed: Mailed, settings: Settings) -> None:
    token = mailed.tokens[0]
    flipped = token[:5] + ("A" if token[5] != "A" else "B") + token[6:]
    signed = links.sign(settings, links.DATA, "https://evil.example/")
    for wrong in (
        flipped,
        token[:-1],
        token + "A",
        token.swapcase(),
        "https://evil.example/",
        "//evil.example",
        "%2F%2Fevil.example",
        signed,
        str(mailed.ids[0]),
        "å" * 12,
        "' OR 1=1 --x",
        "\0" * 12,
        "a" * 5000,
    ):
        assert mailed.get(wrong) in {"308", "404", "405"}, wrong
    for extra in ("?url=https://evil.example/", "?next=//evil.example", "?token=x"):
        assert mailed.get(token + extra).startswith("https://blogg.example/1?")
    page = mailed.app.test_client().get(
        f"/l/{flipped}", headers={"Accept-Language": "sv"}
    )
    assert "leder ingenstans" in page.text
    # Not even where somebody has got at the table.
    with mailed.database.transaction() as session:
        for number, evil in enumerate(
            ("javascript:alert(1)", "data:text/html,x", "//evil.example", "/\\evil")
        ):
            link = session.get_one(CountedLink, mailed.ids[number])
            link.url = evil
        far = session.get_one(CountedLink, mailed.ids[4])
        far.url = "https://blogg.example/\r\nSet-Cookie:a=b"
    assert [mailed.get(number) for number in range(5)] == ["404"] * 5


def test_ten_thousand_at_once_are_counted_right(mailed: Mailed) -> None:
    with mailed.database.reading() as session:
        found = [clicks.find(session, token, now=NOW) for token in mailed.tokens]

    def read(reader: int) -> None:
        for link in (reader % 6, (reader + 1) % 6):
            target = found[link]
            assert target
            mailed.counter.add(
                target, str(reader), machine=reader % 10 == 0, by_itself=False
            )

    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            mailed.counter.write(everything=True)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(5_000), chunksize=50))
    done.set()
    for writer in writers:
        writer.join()
    sums = mailed.sums().values()
    assert (sum(c for c, _ in sums), sum(m for _, m in sums)) == (9_000, 1_000)


def test_a_click_waits_for_no_writer_and_is_written_after_it(mailed: Mailed) -> None:
    with mailed.database.transaction() as session:
        session.execute(
            update(Newsletter).values(tagline="x")
        )  # holds the writers' line
        with ThreadPoolExecutor(1) as pool:
            led = pool.submit(mailed.get, 0).result(timeout=60)
        session.rollback()
    assert led.startswith("https://blogg.example/1")
    assert mailed.sums() == {0: (1, 0)}


def test_clicks_are_written_by_themselves_and_again_after_trouble(
    mailed: Mailed, engine: Engine
) -> None:
    nowhere = create_engine("sqlite:////nowhere/at/all.sqlite3")
    with mailed.database.reading() as session:
        target = clicks.find(session, mailed.tokens[0], now=NOW)
    assert target
    for database in (Database(nowhere), Database(engine)):
        counter = Counter(database)
        counter.pause_seconds = 0.01
        opened = Opened(target.link_id, target.day)
        early = time.monotonic() - 60
        counter.window.add(opened, b"x", machine=False, at=early)
        if database.engine is nowhere:
            with pytest.raises(OSError, match="nowhere"):
                counter.write()
            assert not counter.window.is_empty()
        else:
            counter.add(target, "y", machine=False)
            timer = next(t for t in threading.enumerate() if t.name == "clicks")
            timer.join(60)
            assert mailed.written() == {0: (1, 0)}
            counter.window.take(0, everything=True)


def test_what_is_off_old_or_gone_is_not_counted(mailed: Mailed) -> None:
    led = mailed.get(0, "192.0.2.1")
    for values in (
        {"count_clicks": False},
        {"count_clicks": True, "started_at": NOW - timedelta(days=31)},
    ):
        mailed.change(**values)
        assert mailed.get(0, "192.0.2.2") == led
    mailed.change(started_at=NOW + timedelta(hours=1))
    assert mailed.get(1, "192.0.2.3")  # before anybody can have read it
    assert mailed.sums() == {0: (1, 0), 1: (0, 1)}
    # Erasing a reader leaves the sums; an issue takes its own with it.
    with mailed.database.transaction() as session:
        anna = session.scalars(select(Subscriber)).one()
        rights.erase_subscriber(session, anna, now=NOW)
    assert mailed.sums() == {0: (1, 0), 1: (0, 1)}
    mailed.change(started_at=BEGAN)
    mailed.get(0, "192.0.2.4")
    with mailed.database.transaction() as session:
        session.execute(text("DELETE FROM delivery"))
        session.execute(text("DELETE FROM message"))
        session.execute(text("DELETE FROM issue"))
    assert mailed.sums() == {}
    assert mailed.get(0) == "404"


def test_the_page_on_privacy_says_what_is_counted(mailed: Mailed) -> None:
    client = mailed.app.test_client()
    assert "som en summa för dagen" in client.get("/labbet/privacy/").text
    mailed.change(count_clicks=False)
    page = client.get("/labbet/privacy/").text
    assert "vad du klickar på" in page
    assert "som en summa för dagen" not in page
    # What is shown on the web has the real links, then as now.
    assert not re.search(r"/l/[\w-]{12}", client.get("/labbet/issues/1/").text)
    assert "https://blogg.example/1?a=1" in client.get("/labbet/issues/1/").text
