"""Readers' pages in a real browser: for everyone, at every size, without JavaScript."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Page, Response, expect
from sqlalchemy import select
from werkzeug.serving import make_server

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import drafts, publish
from newsletter.models import Consent, Message, Newsletter, Status, Subscription, Topic
from newsletter.subscribers import addresses
from tests.browser.conftest import Live, NewPage, axe, until
from tests.factories import NOW, make_newsletter, make_post, make_subscription

pytestmark = pytest.mark.browser

LONG_TITLE = (
    "Nyhetsbrev från bostadsrättsföreningen Kvarnstensgatan och dess kringliggande"
    " samfällighetsföreningar"
)
LONG_ADDRESS = (
    "en.mycket.lang.adress.som.aldrig.tar.slut"
    "@kommunikationsavdelningen.bostadsbolaget.se"
)


@dataclass(frozen=True)
class World:
    """Readers, and where they choose and leave."""

    subscriptions: dict[str, Subscription]

    def preferences(self, name: str) -> str:
        return f"/preferences/{self.subscriptions[name].preferences_token}"

    def leaving(self, name: str) -> str:
        return f"/unsubscribe/{self.subscriptions[name].leave_token}"


def _newsletters(database: Database, settings: Settings) -> Newsletter:
    with database.transaction() as session:
        labbet = make_newsletter(
            session,
            tagline="Vi berättar om bostadsområden som prövar nytt.",
            about="Sveriges Allmännytta är en bransch- och intresseorganisation.",
            phone="08-406 55 00",
            contact_email="labbet@allmannyttan.se",
            website="https://www.sverigesallmannytta.se/",
            social=[{"name": "Instagram", "url": "https://instagram.com/allmannyttan"}],
            rhythms=["each", "weekly:mon@08:00", "monthly:first-mon@08:00"],
            default_rhythm="weekly:mon@08:00",
        )
        make_newsletter(session, "tom", title=LONG_TITLE, accent="#ffd400")
        for slug in ("grannskap", "arbete-och-integration"):
            topic = Topic(newsletter_id=labbet.id, slug=slug, name=slug.title())
            session.add(topic)
        make_post(session, labbet, title="Integrationskör söker framtidsfinansiering")
        html = "<h2>Mer</h2><p>Text med <a href='https://x.example/'>länk</a>.</p>"
        make_post(session, labbet, title="Ett eget brev", link="", html=html)
        make_subscription(session, labbet)
        publish.send(session, settings, drafts.draft(session, labbet, now=NOW), now=NOW)
        return labbet


@pytest.fixture
def world(database: Database, settings: Settings) -> World:
    """A newsletter, and readers in every state."""
    labbet = _newsletters(database, settings)
    pause = utcnow() + timedelta(days=9)
    states: dict[str, tuple[str, dict[str, Any]]] = {
        "anna": ("anna@bostaden.se", {}),
        "left": ("left@bostaden.se", {"status": Status.LEFT, "left_at": utcnow()}),
        "paused": (LONG_ADDRESS, {"status": Status.PAUSED, "paused_until": pause}),
        "pending": (
            "karin@bostaden.se",
            {"status": Status.PENDING, "confirmed_at": None, "language": "en"},
        ),
    }
    people = {}
    with database.transaction() as session:
        newsletter = session.get_one(Newsletter, labbet.id)
        for name, (email, over) in states.items():
            made = make_subscription(session, newsletter, email, **over)
            made.subscriber.address_hash = addresses.address_hash(settings, email)
            people[name] = made
    return World(people)


def test_what_comes_after_a_press_is_accessible_too(
    live: Live, world: World, new_page: NewPage
) -> None:
    """A11Y-02: the fault is named, beside the field, which keeps what was typed."""
    page = new_page(theme="dark", width=320)
    page.goto(live.url("/labbet/"))
    page.get_by_label("Din e-postadress").fill("anna@gmial.com")
    page.get_by_role("button", name="Prenumerera").click()
    field = page.get_by_label("Din e-postadress")
    expect(field).to_have_value("anna@gmial.com")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description("Menade du anna@gmail.com?")
    axe(page)
    page.get_by_role("button", name="Ja, använd anna@gmail.com").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Titta i din inkorg")
    page.goto(live.url(world.preferences("anna")))
    page.get_by_text("Byt adress").first.click()
    page.get_by_label("Ny e-postadress").fill("anna")
    page.get_by_role("button", name="Byt adress").click()
    expect(page.get_by_label("Ny e-postadress")).to_be_focused()
    axe(page)
    page.goto(live.url(world.leaving("anna")))
    page.get_by_role("button", name="Avsluta prenumerationen").click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Du har avslutat prenumerationen")
    axe(page)


def test_text_twice_the_size_still_fits(
    live: Live, world: World, new_page: NewPage
) -> None:
    """WCAG 1.4.4."""
    page = new_page(width=1280)
    for path in ("/labbet/", world.preferences("paused")):
        page.goto(live.url(path))
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_is_light(live: Live, world: World, new_page: NewPage) -> None:
    """Everything a first visit fetches, fonts and all, in a few requests."""
    page = new_page()
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(live.url("/labbet/"), wait_until="networkidle")
    page.wait_for_function("document.fonts.check('600 20px Newsreader')")
    sizes = {answer.url: len(answer.body()) for answer in answers}
    assert len(sizes) <= 7, sizes
    assert sum(sizes.values()) < 100_000, sizes
    assert page.evaluate("document.scripts.length") == 0


def test_signing_up_takes_only_the_keyboard(
    live: Live, world: World, page: Page, database: Database
) -> None:
    page.goto(live.url("/labbet/"))
    page.keyboard.press("Tab")
    expect(page.get_by_text("Hoppa till innehållet")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**#content")
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "email":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.type("tangent@bostaden.se")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Prenumerera")).to_be_focused()
    page.keyboard.press("Tab")  # the trap is not on the way
    expect(page.get_by_role("main").get_by_text("Så hanterar vi")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Titta i din inkorg")
    page.reload()
    page.go_back()
    with database.reading() as session:
        found = session.scalars(select(Message.kind).where(Message.kind == "confirm"))
        assert len(found.all()) == 1


def test_a_whole_life_without_javascript(
    live: Live, world: World, new_page: NewPage, database: Database
) -> None:
    """A11Y-05: sign up, confirm, choose, pause, take fewer, leave, come back."""
    page = new_page(width=360, java_script_enabled=False)
    heading = page.get_by_role("heading", level=1)
    page.goto(live.url("/labbet/"))
    page.get_by_label("Din e-postadress").fill("liv@bostaden.se")
    page.get_by_role("button", name="Prenumerera").click()
    expect(heading).to_have_text("Titta i din inkorg")
    with database.reading() as session:
        mail = session.scalars(
            select(Message.text).where(Message.kind == "confirm")
        ).one()
    link = re.search(r"http://\S+/confirm/\S+", mail)
    assert link is not None
    page.goto(link[0])
    page.get_by_role("button", name="Ja, skicka nya inlägg till mig").click()
    expect(heading).to_have_text("Nu är du med. Välkommen!")
    page.get_by_label("Varje månad, första måndagen").check()
    page.get_by_label("Bara det jag väljer").check()
    page.get_by_label("Grannskap").check()
    page.get_by_role("button", name="Spara").click()
    expect(page.get_by_role("status")).to_contain_text("Sparat.")
    expect(page.get_by_label("Grannskap")).to_be_checked()
    page.get_by_text("Ta en paus").click()
    day = (utcnow() + timedelta(days=20)).date().isoformat()
    page.get_by_label("Skicka inget före").fill(day)
    page.get_by_role("button", name="Pausa").click()
    page.get_by_role("button", name="Avsluta pausen nu").click()
    expect(page.get_by_role("button", name="Avsluta pausen nu")).to_have_count(0)
    expect(page.get_by_role("status")).to_be_visible()
    page.get_by_text("Avsluta prenumerationen").click()
    page.get_by_role("button", name="Avsluta nu").click()
    expect(page.get_by_role("status")).to_contain_text("Du har avslutat")
    page.get_by_role("button", name="Det var ett misstag").click()
    expect(page.get_by_role("status")).to_contain_text("Kul att du är tillbaka.")


def test_leaving_by_the_mails_link_and_thinking_again(
    live: Live, world: World, page: Page, database: Database
) -> None:
    anna = world.subscriptions["anna"]
    heading = page.get_by_role("heading", level=1)
    page.goto(live.url(world.leaving("anna")))
    page.get_by_role("button", name="Avsluta prenumerationen").click()
    expect(heading).to_have_text("Du har avslutat prenumerationen")
    page.get_by_role("button", name="Varje månad, första måndagen").click()
    expect(heading).to_have_text("Då blir det färre mejl")
    with database.reading() as session:
        now = session.get_one(Subscription, anna.id)
        assert (now.status, now.rhythm) == (Status.ACTIVE, "monthly:first-mon@08:00")
    page.go_back()  # asks nothing, and tells how things stand now
    expect(heading).to_have_text("Vill du avsluta prenumerationen?")


@pytest.fixture
def blog(live: Live) -> Iterator[str]:
    """Another site, with our script on its page."""
    script = f'<script src="{live.url("/embed/labbet.js")}"></script>'
    html = f"<!doctype html><title>Blogg</title><h1>Blogg</h1>{script}<p>Efter</p>"
    site = Flask("blog")
    site.add_url_rule("/", view_func=lambda: html)
    server = make_server("127.0.0.1", 0, site, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_form_works_on_another_sites_page(
    live: Live, world: World, new_page: NewPage, database: Database, blog: str
) -> None:
    page = new_page(width=800)
    page.goto(blog)
    outer = page.locator("iframe[title='Få nya inlägg i din inkorg']")
    form = page.frame_locator("iframe")
    form.get_by_label("Din e-postadress").fill("anna")
    form.get_by_role("button", name="Prenumerera").click()
    expect(form.get_by_role("alert")).to_be_visible()
    form.get_by_label("Din e-postadress").fill("gast@bostaden.se")
    form.get_by_role("button", name="Prenumerera").click()
    expect(form.get_by_role("heading")).to_have_text("Titta i din inkorg")
    # The frame is as tall as what is in it.
    page.wait_for_function("document.querySelector('iframe').offsetHeight < 300")
    hidden = "e => e.scrollHeight - innerHeight"
    until(page, lambda: form.locator("html").evaluate(hidden) <= 1)
    assert outer.evaluate("e => e.getBoundingClientRect().width") > 700
    with database.reading() as session:
        found = session.scalars(select(Subscription).order_by(Subscription.id.desc()))
        newest = found.first()
        assert newest is not None
        assert newest.subscriber.email == "gast@bostaden.se"


def test_a_sent_issue_shows_the_mail_and_runs_nothing(
    live: Live, world: World, new_page: NewPage, database: Database
) -> None:
    with database.transaction() as session:
        for message in session.scalars(select(Message).where(Message.issue_id > 0)):
            evil = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
            message.html = message.html.replace("</body>", f"{evil}</body>")
    page = new_page(width=360, theme="dark")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(live.url("/labbet/issues/"))
    page.locator(".issues a").first.click()
    title = page.get_by_text("Integrationskör söker framtidsfinansiering").last
    expect(title).to_be_visible()
    page.wait_for_load_state()
    assert page.title() != "owned"
    assert dialogs == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name="Prenumerera").first.click()
    page.get_by_label("Din e-postadress").fill("granne@bostaden.se")
    page.get_by_role("button", name="Prenumerera").click()
    page.wait_for_url("**/labbet/sent/")
    with database.reading() as session:
        consent = session.scalar(select(Consent).order_by(Consent.id.desc()))
        assert consent is not None
        assert consent.page == live.url("/labbet/issues/1/")
