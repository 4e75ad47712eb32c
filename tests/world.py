"""One installation with something of everything, for what goes through all pages.

    world = make(session, settings)
    fill("/editor/<slug>/posts/<int:post_id>/", world)

What it says could be true: its pages are shown in docs.
"""

import io
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import editors, links, newsletters, pictures
from newsletter.config import Settings
from newsletter.db import utcnow
from newsletter.demo import content, sample
from newsletter.digests import (
    design,
    drafts,
    letters,
    planning,
    publish,
    reports,
    saved_segments,
    versions,
)
from newsletter.errors import InkorgError
from newsletter.mail import ledger
from newsletter.mail.ledger import Outcome
from newsletter.mail.replies import Verdict
from newsletter.models import (
    AuditEntry,
    Author,
    CountedLink,
    DeliveryState,
    Editor,
    Feed,
    FeedPush,
    Issue,
    LinkClicks,
    Logo,
    Message,
    Mode,
    Newsletter,
    Portrait,
    Post,
    PostState,
    Role,
    SavedSegment,
    Status,
    Subscriber,
    Subscription,
    Topic,
    Worker,
)
from newsletter.posts import categories, download, topics
from newsletter.subscribers import (
    addresses,
    asking,
    choices,
    consent,
    notes,
    sheets,
    uploads,
)
from newsletter.subscribers.consent import Origin
from tests.factories import make_newsletter, make_subscription

LONG_TITLE = (
    "Nyhetsbrev från bostadsrättsföreningen Kvarnstensgatan och dess kringliggande"
    " samfällighetsföreningar"
)
LONG_ADDRESS = (
    "en.mycket.lang.adress.som.aldrig.tar.slut"
    "@kommunikationsavdelningen.bostadsbolaget.example"
)
LONG_POST = (
    "Fastighetsskötarutbildningssamordningsansvariga i Björkvik svarar på era frågor"
)
LONG_WORD = (
    "Fastighetsskötarutbildningssamordningsansvarigkommittésekreterare" + "n" * 35
)
EMPTY = "kvarnsten"
NAMES = """Anna Åkesson; Björn Ödman; Cecilia Älvstrand; Erik Lindqvist; Fatima Rahimi;
Göran Sjöberg; Hanna Wikström; Ivar Nyström; Jasmin Öberg; Karl-Åke Hällström"""
STATES = (Status.LEFT, Status.PAUSED, Status.SUPPRESSED, Status.PENDING)
FILE = """E-post;Namn;Anmäld
åsa@exempel.example;Åsa Öberg;2024-05-12
maja.strom@exempel.example;Maja Ström;2023-11-02
inte en adress;Nils;2024-01-30
anna@bostaden.example;Anna Åkesson;2022-09-14
"""


def make(session: Session, settings: Settings) -> dict[str, Any]:
    """Make it; return what the variables of the rules stand for, and some more."""
    now = utcnow()
    newsletter = sample.make_newsletter(session, now)
    newsletters.change(
        newsletter,
        languages=["sv", "en"],
        rhythms=["each", "weekly:mon@08:00", "monthly:first-mon@08:00"],
        default_rhythm="weekly:mon@08:00",
        mode=Mode.HELD,
        count_clicks=True,
    )
    newsletter.created_at = now - timedelta(days=200)
    newsletter.ping_token = links.new_token()
    make_newsletter(
        session, EMPTY, title=LONG_TITLE, accent="#ffd400", postal_address=""
    )
    saga = editors.add(session, content.EDITOR_EMAIL, Role.EDITOR, newsletter, now=now)
    saga.name = "Saga Wikström"
    ture = editors.add(session, "ture@larkan.example", Role.VIEWER, newsletter, now=now)
    ture.invite_nonce = links.new_token()
    world = {"slug": newsletter.slug, "empty": EMPTY, "filename": "tokens.css"}
    world |= _posts(session, newsletter, now)
    world |= _readers(session, settings, newsletter, now)
    world |= _look(session, newsletter, saga, now)
    world |= _issues(session, settings, newsletter, now)
    world |= _files(session, settings, newsletter, saga, now)
    _changes(session, newsletter, saga, now)
    session.add(Worker(name="w", started_at=now, seen_at=now + timedelta(days=1)))
    return {
        **world,
        "newsletter_id": newsletter.id,
        "session_id": 1,
        "invited": [ture.id, ture.invite_nonce],
    }


def open_links(session: Session) -> None:
    """Let readers and machines open the links of each issue for three days."""
    query = select(CountedLink, Issue.started_at).join(
        Issue, Issue.id == CountedLink.issue_id
    )
    for link, at in session.execute(query.order_by(CountedLink.id)).all():
        assert at
        for day, clicks in enumerate((4, 2, 1)):
            opened = LinkClicks(link_id=link.id, day=(at + timedelta(days=day)).date())
            opened.clicks = max(clicks - 2 * link.place, 0)
            opened.machines = 2 - day
            session.add(opened)


def stretch(session: Session, world: dict[str, Any]) -> None:
    """Give what has a name the longest one it may have, in as few words as possible."""
    for newsletter in session.scalars(select(Newsletter)):
        newsletter.title, newsletter.publisher = f"{LONG_WORD} {newsletter.title}", ""
        newsletter.title += LONG_WORD[len(newsletter.title) - 200 :]
        newsletter.from_name = newsletter.title
    for author in session.scalars(select(Author)):
        author.name = f"{author.name} {LONG_WORD}"[:200]
        author.byline = LONG_WORD * 3
    for topic in session.scalars(select(Topic)):
        topic.name = f"{topic.name} {LONG_WORD}"[:80]
    for segment in session.scalars(select(SavedSegment)):
        segment.name = LONG_WORD[:80]
    held = session.get_one(Post, world["held_post"])
    held.title = LONG_WORD * 3
    reader = session.get_one(Subscriber, world["subscriber_id"])
    reader.email = f"{'a' * 64}@{'.'.join(['b' * 60] * 3)}.example"[:254]
    reader.email_key, reader.name = reader.email, LONG_WORD * 2


def fill(rule: str, world: dict[str, Any]) -> str:
    """Put values into a rule's variables. Raises KeyError where there is none."""
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(world[found[1]]), rule)


def token_for(path: str, settings: Settings, world: dict[str, Any]) -> str:
    """Return a token that works at `path`."""
    if path.startswith("/unsubscribe/"):
        return str(world["leave"])
    for name in ("preferences", "websub", "ping"):
        if path.startswith(f"/{name}/"):
            return str(world["push" if name == "websub" else name])
    if path.startswith("/l/"):
        return str(world["link"])
    if "/view/" in path:
        return str(world["view"])
    about = {
        links.CONFIRM: world["waiting"],
        links.NEVER: [world["hash"]],
        links.ADDRESS: [*world["reader"], "ny@bostaden.example", links.new_token()],
        links.DATA: world["reader"],
        links.ERASE: world["reader"],
    }
    for purpose, payload in about.items():
        if path.startswith(purpose.path):
            return links.sign(settings, purpose, payload)
    return links.new_token()


def _posts(session: Session, newsletter: Newsletter, now: datetime) -> dict[str, Any]:
    """Add to the sample's posts one that is held, a broken feed and a picture."""
    broken = Feed(newsletter_id=newsletter.id, url="https://blogg.example/" + "x" * 90)
    broken.failing_since, broken.failures = now - timedelta(days=3), 9
    broken.error, broken.error_status = download.WHY[404], 404
    feed = Feed(newsletter_id=newsletter.id, url="https://bjorkvik.example/feed/")
    feed.title, feed.checked_at, feed.new_at = "Runt kvarteret", now, now
    session.add_all([broken, feed])
    session.flush()
    push = FeedPush(
        feed_id=feed.id,
        hub="https://hub.example/",
        topic=feed.url,
        token=links.new_token(),
        secret=links.new_token(),
        # A hub has been asked, and may come back at any moment.
        asked_at=now,
        next_attempt_at=now,
    )
    session.add(push)
    key = "0" * 32
    author = session.scalars(select(Author).order_by(Author.id)).first()
    assert author
    author.portrait_key = key
    session.add(Portrait(author_id=author.id, key=key, image=_picture("JPEG")))
    posts = list(session.scalars(select(Post).order_by(Post.position)))
    held = Post(
        newsletter_id=newsletter.id,
        feed_id=feed.id,
        author_id=author.id,
        state=PostState.HELD,
        guid="held",
        link="https://bjorkvik.example/svar/",
        title=LONG_POST,
        excerpt="Vi samlade ihop allt ni undrade på gårdsfesten …",
        html="<p>Vi samlade ihop allt ni undrade på gårdsfesten.</p>",
        published_at=now,
    )
    session.add(held)
    session.flush()
    categories.take(session, newsletter, posts[0], ["Äldres boende", "Nyheter"])
    topic = topics.topics(session, newsletter)[0]
    picture = pictures.store(session, newsletter, _picture("PNG"), now=now)
    return {
        "post_id": posts[-1].id,
        "held_post": held.id,
        "author_id": author.id,
        "topic_id": topic.id,
        "feed_id": feed.id,
        "push": push.token,
        "ping": newsletter.ping_token,
        "key": key,
        "spelling_id": 1,
        "picture": pictures.name_of(picture),
    }


def _readers(
    session: Session, settings: Settings, newsletter: Newsletter, now: datetime
) -> dict[str, Any]:
    """Add readers in every state, one with a long address, one who chose topics."""
    made: list[Subscription] = []
    for number, name in enumerate(NAMES.split(";")):
        email = f"{name.split()[0].lower().replace('ö', 'o')}@bostaden.example"
        made.append(_reader(session, settings, newsletter, email, now, number))
        made[-1].subscriber.name = " ".join(name.split())
    anna = made[0]
    made[3].language = made[6].language = "en"
    choices.set_topics(session, made[4], [topics.topics(session, newsletter)[0].id])
    others = {}
    for number, status in enumerate(STATES):
        email = f"nils.{status}@hyresgast.example"
        if status is Status.PAUSED:
            email = LONG_ADDRESS
        one = _reader(session, settings, newsletter, email, now, 2 + number)
        one.status = status
        others[status] = one
    waiting = others[Status.PENDING]
    waiting.confirmed_at = None
    others[Status.PAUSED].paused_until = now + timedelta(days=20)
    others[Status.LEFT].left_at = now - timedelta(days=1)
    origin = Origin("https://bjorkvik.example/", "192.0.2.4", "Ja, skicka nya inlägg.")
    for event, days in ((consent.REQUESTED, 90), (consent.CONFIRMED, 89)):
        consent.record(session, anna, event, origin, now=now - timedelta(days=days))
    words = "Ringde och ville ha brevet på engelska till grannen."
    note = notes.add(session, anna, words, by=content.EDITOR_EMAIL, now=now)
    saved = saved_segments.save(
        session, newsletter, None, "Engelska läsare", "language:en", now=now
    )
    saved_segments.keep_count(session, saved, 2, now=now)
    session.flush()
    return {
        "subscription_id": anna.id,
        "subscriber_id": anna.subscriber_id,
        "note_id": note.id,
        "segment_id": saved.id,
        "waiting": asking.confirmation_payload(waiting),
        "reader": [anna.id, anna.subscriber.address_hash[:16]],
        "hash": anna.subscriber.address_hash,
        "leave": anna.leave_token,
        "preferences": anna.preferences_token,
        "left": others[Status.LEFT].leave_token,
        "paused": others[Status.PAUSED].preferences_token,
    }


def _reader(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    email: str,
    now: datetime,
    number: int,
) -> Subscription:
    """Add a reader who came some days ago."""
    came = now - timedelta(days=90 - 9 * number)
    made = make_subscription(
        session,
        newsletter,
        email,
        requested_at=came,
        confirmed_at=came,
        created_at=came,
    )
    made.subscriber.address_hash = addresses.address_hash(settings, email)
    return made


def _look(
    session: Session, newsletter: Newsletter, editor: Editor, now: datetime
) -> dict[str, Any]:
    """Give it a look of its own, in two versions."""
    logo = Logo(
        newsletter_id=newsletter.id,
        digest="ab",
        kind="png",
        width=280,
        height=70,
        data=_logo((280, 70)),
    )
    session.add(logo)
    words = {"sv": {"greeting": "Hej granne!", "closing": "Vi ses på gården."}}
    for draft in (design.Draft(), design.Draft(accent="#2e6b4f", logo=logo)):
        draft.words = words
        design.save(session, newsletter, draft, editor=editor, now=now)
    return {"number": 1, "logo_name": "ab.png"}


def _issues(
    session: Session, settings: Settings, newsletter: Newsletter, now: datetime
) -> dict[str, Any]:
    """Make an issue of each kind and in each state; two of them are in full."""
    posts = session.scalars(
        select(Post.id).where(Post.state == PostState.PUBLISHED).order_by(Post.position)
    ).all()
    found: dict[str, Any] = {"editor_id": 1, "membership_id": 1}

    def letter(subject: str, at: datetime = now) -> Issue:
        body = f"Hej!\n\n{subject}. Läs mer på [vår sida](https://bjorkvik.example/)."
        return letters.write(session, newsletter, subject=subject, body=body, now=at)

    def sent(issue: Issue, at: datetime, *states: DeliveryState) -> Issue:
        publish.send(session, settings, issue, now=at)
        _deliver(session, issue, states, at)
        publish.finish_settled(session, now=at + timedelta(minutes=4))
        return issue

    ok, no, later = DeliveryState.SENT, DeliveryState.BOUNCED, DeliveryState.DEFERRED
    for days, wrong in ((21, ()), (14, (no,))):
        at = now - timedelta(days=days)
        issue = drafts.draft(session, newsletter, post_ids=posts[:2], now=at)
        sent(issue, at, *wrong, *[ok] * 20)
        reports.keep(session, reports.count(session, issue.id, now=now))
        found["sent"] = issue.id
    found["view"] = session.scalar(select(Message.view_token).limit(1))
    cancelled = sent(letter("Gårdsfest på lördag"), now - timedelta(days=6), ok)
    publish.cancel(session, cancelled, now=now)
    paused = sent(letter("Vattnet stängs av"), now - timedelta(minutes=9), ok, no)
    publish.pause(session, paused, who="Saga Wikström")
    moment = now - timedelta(minutes=3)
    sending = sent(letter("Nycklar till förråden"), moment, *[ok] * 5, later)
    scheduled = letter("Höststädning")
    publish.schedule(session, scheduled, now + timedelta(days=4), now=now)
    leaving = letter("Julgransplundring")
    publish.send_soon(session, settings, leaving, seconds=36_000, expected=10, now=now)
    held = drafts.draft(session, newsletter, post_ids=posts[2:4], now=now)
    publish.hold(session, held, InkorgError(planning.N_YOURS))
    saga = editors.by_email(session, content.EDITOR_EMAIL)
    assert saga
    draft = drafts.draft(
        session, newsletter, post_ids=posts[2:], created_by=saga.id, now=now
    )
    versions.note(session, draft, now=now)
    link = select(CountedLink.token).where(CountedLink.issue_id == sending.id)
    found |= {
        "link": session.scalars(link).first(),
        "cancelled": cancelled.id,
        "paused_issue": paused.id,
        "sending": sending.id,
        "scheduled": scheduled.id,
        "leaving": leaving.id,
        "held": held.id,
        "issue_id": draft.id,
        "letter_id": letter("Ny tvättstuga").id,
    }
    return found


def _deliver(
    session: Session, issue: Issue, states: Iterable[DeliveryState], at: datetime
) -> None:
    """Let a worker claim as many deliveries as there are states, and report them."""
    said = {
        DeliveryState.BOUNCED: ("550 5.1.1 No such user", Verdict.UNKNOWN_MAILBOX),
        DeliveryState.DEFERRED: ("452 4.2.2 Mailbox full", Verdict.MAILBOX_SOFT),
    }
    left = list(states)
    for message in session.scalars(
        select(Message).where(Message.issue_id == issue.id)
    ).all():
        claimed = ledger.claim(
            session, worker="w", limit=len(left), now=at, message_id=message.id
        )
        outcomes = []
        for claim in claimed.claims:
            state = left.pop(0)
            reply, reason = said.get(state, ("250 2.0.0 OK", ""))
            outcome = Outcome(claim.id, message.id, state, reply, reason)
            if state is DeliveryState.DEFERRED:
                outcome = outcome._replace(next_attempt_at=at + timedelta(hours=1))
            outcomes.append(outcome)
        ledger.settle(session, "w", outcomes, now=at)


def _files(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    editor: Editor,
    now: datetime,
) -> dict[str, Any]:
    """Upload two files: one whose columns are to be said, one brought in."""
    runs = []
    for name in ("läsare.csv", "gamla brevet.csv"):
        run = uploads.begin(session, newsletter, name, editor_id=editor.id, now=now)
        for sheet in sheets.read(io.BytesIO(FILE.encode()), name):
            uploads.add_piece(session, run.id, 0, sheet, list(sheet.records))
        uploads.received(session, run.id)
        session.flush()
        runs.append(run)
    layouts = [uploads.layout_of(sheet) for sheet in runs[1].sheets]
    uploads.start(
        session,
        runs[1],
        layouts,
        consent="anmälda på gården",
        asks=False,
        trial=False,
        now=now,
    )
    while uploads.step(session, settings, runs[1].id, now=now):
        pass
    return {"run_id": runs[0].id, "imported": runs[1].id}


def _changes(
    session: Session, newsletter: Newsletter, editor: Editor, now: datetime
) -> None:
    """Write down two changes, one of them long."""
    for before, after in (
        ({"title": "Kvarteret"}, {"title": newsletter.title}),
        ({"about": "Vi bor här. " * 20}, {"about": newsletter.about}),
    ):
        session.add(
            AuditEntry(
                newsletter_id=newsletter.id,
                editor_id=editor.id,
                who=editor.email,
                what="changed",
                kind="newsletter",
                label=newsletter.title,
                before=before,
                after=after,
                at=now,
            )
        )


def _logo(size: tuple[int, int]) -> bytes:
    """Write the newsletter's name as a picture."""
    drawn = Image.new("RGB", size, "#fdfcf8")
    ink = ImageDraw.Draw(drawn)
    ink.rectangle([0, size[1] - 4, size[0], size[1]], fill="#2e6b4f")
    font = ImageFont.load_default(size[1] * 0.5)
    ink.text((2, size[1] * 0.15), "Runt kvarteret", fill="#2e6b4f", font=font)
    out = io.BytesIO()
    drawn.save(out, "PNG")
    return out.getvalue()


def _picture(kind: str) -> bytes:
    """Draw a picture."""
    drawn = Image.new("RGB", (64, 64), "#2e6b4f")
    ImageDraw.Draw(drawn).ellipse([8, 8, 56, 56], fill="#f4e9d8")
    out = io.BytesIO()
    drawn.save(out, kind)
    return out.getvalue()
