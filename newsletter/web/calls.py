"""What other machines call: a hub that pushes a feed (WebSub), a blog that pings.

Each address holds a secret token. A hub has to ask by GET whether we meant what we
asked of it (W3C WebSub §5.3); that GET writes, once, that it did, and only where we are
waiting for just that answer. Any other GET changes nothing.
"""

from flask import Blueprint, Response, request

from newsletter.db import db, transaction, utcnow
from newsletter.errors import N_, FeedError, NotFound
from newsletter.posts import sources, websub
from newsletter.posts.entries import Parsed
from newsletter.posts.feeds import MAX_BODY_BYTES, read_feed
from newsletter.web import frame
from newsletter.web.rendering import words

bp = Blueprint("calls", __name__)
frame.keep_private(bp)


@bp.get("/websub/<token>")
def confirm(token: str) -> Response:
    """Answer a hub that asks whether we want its pushes."""
    asked = request.args
    answer = None
    if websub.awaits(db.session(), token):
        with transaction() as session:
            answer = websub.confirm(
                session,
                token,
                mode=asked.get("hub.mode", ""),
                topic=asked.get("hub.topic", ""),
                lease_seconds=asked.get("hub.lease_seconds", ""),
                challenge=asked.get("hub.challenge", ""),
                now=utcnow(),
            )
    if answer is None:
        raise NotFound(N_("Nothing is being asked for here."))
    return Response(answer, mimetype="text/plain")


@bp.post("/websub/<token>")
@frame.acts_by_token(bp)
def take(token: str) -> Response:
    """Take what a hub pushes, if it is signed with our secret (W3C WebSub §7).

    What is not is thanked for and thrown away, so that nobody can try secrets out.
    """
    request.max_content_length = MAX_BODY_BYTES
    push = websub.find(db.session(), token)
    if push is None:
        return Response(status=410)  # the hub may stop
    body = request.get_data()
    if websub.is_signed(push, body, request.headers.get("X-Hub-Signature", "")):
        parsed = _read(body, push.topic, request.headers.get("Content-Type", ""))
        with transaction() as session:
            websub.take(session, token, parsed, now=utcnow())
    return Response(status=202)


@bp.post("/ping/<token>")
@frame.acts_by_token(bp)
def ping(token: str) -> Response:
    """Have a newsletter's feeds fetched at once, whatever the body says."""
    with transaction() as session:
        wait = sources.ping(session, token, now=utcnow())
    if wait is None:
        text = N_("That was said a moment ago; the feeds are about to be fetched.")
        gap = str(int(sources.PING_GAP.total_seconds()))
        return _said(text, 429, {"Retry-After": gap})
    return _said(N_("Thank you. The feeds are fetched within a minute."), 202, {})


def _said(text: str, status: int, headers: dict[str, str]) -> Response:
    line = words().gettext(text) + "\n"
    return Response(line, status, headers, mimetype="text/plain")


def _read(body: bytes, topic: str, content_type: str) -> Parsed | None:
    try:
        return read_feed(body, url=topic, content_type=content_type[:200])
    except FeedError:
        return None
