"""Script in every text of the database: Chromium shows it, and runs none of it.

What a row holds came from an editor, a feed, a reader, a relay or a file. Which columns
those are is read off the schema: whatever is not listed as made by us is filled.
"""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser
from sqlalchemy import JSON, Enum, String, select, update

from newsletter.config import Settings
from newsletter.db import Base, Database, utcnow
from newsletter.digests import drafts, publish
from newsletter.models import (
    AuditEntry,
    AuthorSpelling,
    Delivery,
    DeliveryState,
    Design,
    Editor,
    Message,
    Newsletter,
    Post,
    Role,
    SenderFlaw,
)
from tests.browser.conftest import PATIENCE_MS, Live
from tests.browser.test_composing import refuse
from tests.factories import NOW
from tests.test_routes import addresses, one_of_everything  # noqa: F401 - a fixture
from tests.web.at_work import as_editor
from tests.web.hostile import MARKDOWN, WORDS, acting

pytestmark = pytest.mark.browser

# Written by us from a list of our own, or checked so that it can be nothing else:
# tokens, hashes, codes, rhythms, colours, and mail that is made already.
WRITTEN_BY_US = (
    "slug language languages timezone accent rhythms rhythm default_rhythm quiet_days"
    " holidays holiday_country ping_token url_hash digest kind theme order shown"
    " portrait_key key fs_uniquifier fs_webauthn_user_handle invite_nonce password"
    " tf_primary_method tf_totp_secret tf_phone_number address_hash email_key token"
    " secret leave_token preferences_token view_token nonce opens link_key"
    " content_hash format sitting selector public event occasion worker edition what"
    " counts status usage device_type after"
    " editor_session.number message.html message.text reckoning.name relay_budget.name"
    " suppression.reason delivery.reason issue_report.reasons retry.reasons job.name"
    " post.html newsletter.from_email newsletter.reply_to"
    " sender_flaw.about sender_flaw.domain"
)
OURS = set(WRITTEN_BY_US.split())
# In JSON: the names of things, beside what was said of them.
OURS_IN_JSON = {"id", "about", "severity", "name", "system", "fields", "whole"}
WRITTEN_IN_MARKDOWN = {
    "issue.opening",
    "draft_version.words",
    "post.markdown",
    "newsletter.privacy",
}
SCRIPTED = (
    "", "issues/{issue_id}/", "letters/{letter_id}/", "posts/{post_id}/",
    "subscribers/import/{run_id}", "subscribers/", "design/", "settings/",
    "issues/{issue_id}/send",
)  # fmt: skip
ACTS = """one => one.localName.startsWith('qz')
  || one.matches('img[src=x], svg[onload]')
  || (one.localName === 'script' && one.type !== 'application/ld+json'
    && /q[mz]/.test(one.text))
  || [...one.attributes].some(a => /^(on|qz)/.test(a.name)
    || (/^(href|src|action|formaction)$/.test(a.name)
      && /^\\s*javascript:/i.test(a.value)))
"""
ACTING_IN = (
    f"page => [...page.querySelectorAll('*')].filter({ACTS}).map(o => o.outerHTML)"
)
ACTING = (
    "texts => texts.flatMap(([path, html]) => ("
    f"{ACTING_IN})(new DOMParser().parseFromString(html, 'text/html'))"
    ".map(one => path + one))"
)
ACTING_HERE = f"() => ({ACTING_IN})(document)"
# Which column a text came from.
LABEL = re.compile(r"(?:qy\{\{7\*7\}\}|qm\)?) ?([a-z_]+\.[a-z_]+)")


def more_rows(database: Database, world: dict[str, Any]) -> None:
    """Add what the walk over the URL map does not need, and pages show."""
    labbet = world["newsletter_id"]
    with database.transaction() as session:
        who = session.scalars(select(Editor.id)).first()
        session.add_all(
            [
                AuthorSpelling(
                    newsletter_id=labbet, author_id=world["author_id"], name="Å. Ö."
                ),
                AuditEntry(
                    newsletter_id=labbet, editor_id=who, who="a@x.example",
                    what="changed", kind="newsletter", label="x",
                    before={"title": "x"}, after={"title": "y"},
                ),
                SenderFlaw(
                    newsletter_id=labbet, about="SPF", domain="allmannyttan.example",
                    message="No.", message_values={}, looked_at=NOW,
                ),
            ]
        )  # fmt: skip
        here = session.get_one(Newsletter, labbet)
        here.social = [{"name": "x", "url": "https://x.example/"}]
        assert here.design
        look = session.get_one(Design, here.design.id)
        look.words = {"sv": {"heading": "x"}}
        for post in session.scalars(select(Post)):
            post.enclosures = [
                {
                    "url": "https://x.example/a.pdf",
                    "type": "x",
                    "title": "x",
                    "length": 1,
                }
            ]
        delivery = session.scalars(select(Delivery)).first()
        assert delivery
        delivery.state, delivery.reply = DeliveryState.BOUNCED, "550 no"
        world["sent_id"] = session.get_one(Message, delivery.message_id).issue_id


def hostile(value: Any, label: str) -> Any:
    """Return a value of a JSON column with the words in place of its texts."""
    if isinstance(value, dict):
        return {
            k: v if k in OURS_IN_JSON else hostile(v, label) for k, v in value.items()
        }
    if isinstance(value, list):
        return [hostile(one, label) for one in value]
    words = MARKDOWN if label in WRITTEN_IN_MARKDOWN else WORDS
    return f"{words} {label}" if isinstance(value, str) else value


def fill(database: Database) -> set[str]:
    """Put the words into every text that came from outside; return which columns."""
    filled = set()
    with database.transaction() as session:
        for table in Base.metadata.sorted_tables:
            keys = list(table.primary_key)
            rows = session.execute(select(table)).mappings().all()
            for number, row in enumerate(rows):
                changed: dict[str, Any] = {}
                for column in table.columns:
                    label = f"{table.name}.{column.name}"
                    if {column.name, label} & OURS or row[column.name] is None:
                        continue
                    if isinstance(column.type, JSON):
                        changed[column.name] = hostile(row[column.name], label)
                    elif isinstance(column.type, String) and not isinstance(
                        column.type, Enum
                    ):
                        words = MARKDOWN if label in WRITTEN_IN_MARKDOWN else WORDS
                        address = "https://x.example/" if "url" in label else ""
                        changed[column.name] = f"{address}{words} {label}.{number}"
                    else:
                        continue
                    filled.add(label)
                if changed:
                    here = [key == row[key.name] for key in keys]
                    session.execute(update(table).where(*here).values(changed))
    return filled


def test_what_the_database_holds_is_shown_as_text_and_never_runs(
    live: Live,
    chromium: Browser,
    settings: Settings,
    database: Database,
    world: dict[str, Any],
) -> None:
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    alarms: list[str] = []
    page.on("dialog", lambda dialog: refuse(dialog, alarms))
    live.log_in(page)
    owner = as_editor(live.app, Role.OWNER)
    more_rows(database, world)
    filled = fill(database)
    home = f"/editor/{world['slug']}/"
    sent = f"{home}issues/{world['sent_id']}/"
    texts = []
    every = [path for _, path, _ in addresses(live.app, settings, world, get=True)]
    of_sent = [sent, f"{sent}report", f"{sent}readers?which=bounced"]
    for path in dict.fromkeys(every + of_sent):
        answer = owner.get(path)
        assert answer.status_code < 500, path
        if str(answer.mimetype).endswith(("html", "xml")):
            texts.append((path, answer.text))
        answer.close()
    # What our own scripts make of it, on the pages that have some of their own.
    for place in SCRIPTED:
        path = f"{home}{place.format(**world)}"
        page.goto(live.url(path))
        assert page.url == live.url(path)
        assert page.evaluate(ACTING_HERE) == [], path
    with database.transaction() as session:  # and as mail
        issue = drafts.find(session, world["issue_id"])
        publish.send(session, settings, issue, now=utcnow())
        made = session.scalars(select(Message).where(Message.issue_id == issue.id))
        texts += [("mail", message.html) for message in made.all()]
    assert texts[-1][0] == "mail"
    assert [(path, found) for path, text in texts if (found := acting(text))] == []
    shown = {label for _, text in texts for label in LABEL.findall(text)}
    assert len(shown & filled) > 50, filled - shown  # it looked where they are
    # What Chromium makes of them all: nothing that acts, if the policy stopped nothing.
    bad = "<p><img src=x onerror=a><a href=' JavaScript:a'><script>qm</script>"
    assert len(page.evaluate(ACTING, [["it can fail", bad]])) == 3
    assert page.evaluate(ACTING, texts) == []
    page.context.close()
    assert alarms == []
