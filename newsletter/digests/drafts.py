"""Drafts: which posts the next issue carries, and what an editor changes about it.

An issue's own posts begin where the last one ended (`last_position`): for a draft by
hand, the last of all; for a rhythm, the last that its readers or everybody got. They
leave out what an issue of picked posts took ahead of its turn. Who has had which of
them, and what somebody lacks from before, is `editions.py`'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.orm import Session

from newsletter import plaintext
from newsletter.digests import editions, occurrences
from newsletter.digests.editions import Common
from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.models import (
    Issue,
    IssueKind,
    IssuePost,
    IssueState,
    Newsletter,
    Post,
    PostState,
)
from newsletter.subscribers import starting

MOST_POSTS = 500
FIRST_ISSUE_POSTS = starting.RECENT_POSTS
SUBJECT_CHARACTERS = 200
PREVIEW_CHARACTERS = 200
OPENING_CHARACTERS = 10_000
TITLE_CHARACTERS = 300
EXCERPT_CHARACTERS = 2_000
EDITABLE = (IssueState.DRAFT, IssueState.SCHEDULED, IssueState.HELD)
GONE_OUT = starting.GONE_OUT


class NothingNew(Conflict):
    """There is nothing new to send."""


def find(session: Session, issue_id: int) -> Issue:
    """Return an issue by its id. Raises NotFound."""
    issue = session.get(Issue, issue_id) if 0 < issue_id < 2**31 else None
    if issue is None:
        raise NotFound(N_("There is no issue with the id %(id)s."), id=issue_id)
    return issue


def hold(session: Session, issue_id: int) -> None:
    """Wait for whoever is changing an issue; before it is read, so that it is new."""
    if 0 < issue_id < 2**31:
        query = select(Issue.id).where(Issue.id == issue_id)
        session.execute(query.with_for_update())


def draft(
    session: Session,
    newsletter: Newsletter,
    *,
    post_ids: Sequence[int] | None = None,
    subject: str = "",
    opening: str = "",
    created_by: int | None = None,
    now: datetime,
) -> Issue:
    """Make a draft of the posts since the last issue, or of those picked.

    Newest first. Raises NothingNew, NotFound or InvalidInput.
    """
    last = last_gone_out(session, newsletter)
    first = 0 if post_ids else editions.first_position(session, newsletter)
    after = last.last_position if last else first
    if post_ids:
        posts = _picked(session, newsletter, post_ids)
    else:
        posts = _new_posts(session, newsletter, after, limit=MOST_POSTS)
        if not posts:
            raise _nothing_new(last)
    issue = Issue(
        newsletter_id=newsletter.id,
        newsletter=newsletter,
        state=IssueState.DRAFT,
        picked=bool(post_ids),
        after_position=after,
        created_by=created_by,
        created_at=now,
        posts=[IssuePost(post=p, place=n) for n, p in enumerate(posts, 1)],
    )
    session.add(issue)
    edit(session, issue, subject=subject, opening=opening)
    issue.last_position = _reach(session, issue, picked=bool(post_ids))
    session.flush()
    return issue


def of_rhythm(
    session: Session,
    newsletter: Newsletter,
    rhythm: str,
    *,
    common: Common | None = None,
    now: datetime,
) -> Issue | None:
    """Return the issue that a rhythm's readers would get now; None without posts.

    It is not stored. Where nothing is new, but somebody lacks something (a delivery
    bounced), it holds that.
    """
    common = common or Common(session, newsletter)
    lowest = common.lowest_cursor(rhythm)
    if lowest is None:
        return None
    lowest = max(lowest, common.first_position)
    after = max(lowest, starting.starting_position(session, newsletter, rhythm))
    posts = _new_posts(session, newsletter, after, limit=MOST_POSTS, rhythm=rhythm)
    if not posts:
        after = lowest
        query = _published(newsletter.id).where(
            Post.position > after,
            Post.id.not_in(editions.hidden_from(newsletter, rhythm)),
        )
        posts = list(session.scalars(query.limit(MOST_POSTS)))
    issue = Issue(
        newsletter_id=newsletter.id,
        newsletter=newsletter,
        state=IssueState.DRAFT,
        rhythm=rhythm,
        picked=False,
        subject="",
        preview_text="",
        opening="",
        total=0,
        after_position=after,
        created_at=now,
        posts=[
            IssuePost(post=post, post_id=post.id, place=n, hidden=False)
            for n, post in enumerate(posts, 1)
        ],
    )
    issue.last_position = max(after, common.newest_position)
    return issue if posts else None


def edit(
    session: Session,
    issue: Issue,
    *,
    subject: str | None = None,
    preview_text: str | None = None,
    opening: str | None = None,
    order: Sequence[int] | None = None,
    hidden: Iterable[int] | None = None,
    featured: int | None = None,
    titles: Mapping[int, str] | None = None,
    excerpts: Mapping[int, str] | None = None,
    listed: bool | None = None,
) -> None:
    """Change a draft; what is None stays as it is. Posts are named by their ids.

    `order` lists posts from the top; those it leaves out follow as they stood.
    `featured` is the one post that stands first and larger, 0 for none. An empty title
    or excerpt is the post's own again. `listed` is whether the public archive is to
    have it. Raises Conflict once the issue has left.
    """
    _hold_still(session, issue)
    if listed is not None:
        issue.listed = listed
    if subject is not None:
        issue.subject = _within(
            plaintext.squeeze(subject), SUBJECT_CHARACTERS, "subject"
        )
    if preview_text is not None:
        issue.preview_text = _within(
            plaintext.squeeze(preview_text), PREVIEW_CHARACTERS, "preview_text"
        )
    if opening is not None:
        issue.opening = _within(
            plaintext.clean(opening).strip(), OPENING_CHARACTERS, "opening"
        )
    if order is not None:
        _reorder(issue, order)
    _mark(issue, hidden, featured)
    _reword(issue, titles or {}, excerpts or {})


def add_posts(session: Session, issue: Issue, post_ids: Sequence[int]) -> None:
    """Add posts at the end of a draft; those already there are shown again."""
    _hold_still(session, issue)
    there = {_id_of(entry): entry for entry in issue.posts}
    for post in _picked(session, issue.newsletter, post_ids):
        if entry := there.get(post.id):
            entry.hidden = False
        else:
            issue.posts.append(IssuePost(post=post, place=len(issue.posts) + 1))
    issue.last_position = _reach(session, issue, picked=True)
    session.flush()


def discard(session: Session, issue: Issue) -> None:
    """Throw a draft away; its posts are new again. Raises Conflict."""
    _hold_still(session, issue)
    occurrences.skip_issue(session, issue)
    session.delete(issue)
    session.flush()


def last_gone_out(session: Session, newsletter: Newsletter) -> Issue | None:
    """Return the issue that reaches furthest among those that went out."""
    query = _gone_out(newsletter.id).order_by(
        Issue.last_position.desc(), Issue.number.desc()
    )
    return session.scalar(query.limit(1))


def carried_meanwhile(session: Session, issue: Issue) -> list[tuple[Post, int]]:
    """Return posts of this draft that another issue took after it was made.

    Each with the number of that issue.
    """
    mine = [_id_of(entry) for entry in issue.posts if not entry.hidden]
    rows = session.execute(
        select(Post, Issue.number)
        .join(IssuePost, IssuePost.post_id == Post.id)
        .join(Issue, Issue.id == IssuePost.issue_id)
        .where(Post.id.in_(mine), IssuePost.hidden.is_(False))
        .where(Issue.id != issue.id, Issue.state.in_(GONE_OUT))
        # What only some rhythms had is new to the others; the ledger knows whom.
        .where(Issue.started_at > issue.created_at, Issue.rhythm == issue.rhythm)
        .order_by(Post.id)
    )
    return [(post, number or 0) for post, number in rows]


def lock(session: Session, issue: Issue) -> None:
    """Wait for whoever is changing this issue, and see its state as it is now."""
    session.flush()
    session.refresh(
        issue,
        attribute_names=["state", "scheduled_at", "undoable"],
        with_for_update=True,
    )


def is_leaving(issue: Issue) -> bool:
    """Tell whether an editor has sent it and can still undo that."""
    return issue.undoable and issue.state is IssueState.SCHEDULED


def _within(text: str, limit: int, field: str) -> str:
    if len(text) > limit:
        raise InvalidInput(
            N_("That text has %(length)s characters; %(limit)s fit. Shorten it."),
            field=field,
            length=len(text),
            limit=limit,
        )
    return text


def sent_before(
    session: Session, newsletter: Newsletter, posts: Iterable[Post]
) -> dict[int, int]:
    """Return the number of the latest issue that carried each post, by the post's id.

    Posts that have not gone out are not in it.
    """
    carried = (
        select(IssuePost.post_id, func.max(Issue.number))
        .join(Issue, Issue.id == IssuePost.issue_id)
        .where(
            Issue.newsletter_id == newsletter.id,
            Issue.state.in_(GONE_OUT),
            IssuePost.hidden.is_(False),
            IssuePost.post_id.in_([post.id for post in posts]),
        )
        .group_by(IssuePost.post_id)
    )
    return {post_id: number or 1 for post_id, number in session.execute(carried)}


def _picked(
    session: Session, newsletter: Newsletter, post_ids: Sequence[int]
) -> list[Post]:
    wanted = list(dict.fromkeys(post_ids))
    if len(wanted) > MOST_POSTS:
        raise InvalidInput(
            N_("An issue holds at most %(limit)s posts."), limit=MOST_POSTS
        )
    found = session.scalars(
        _published(newsletter.id).where(Post.id.in_([i for i in wanted if i < 2**31]))
    ).all()
    if missing := [i for i in wanted if i not in {post.id for post in found}]:
        raise NotFound(
            N_("This newsletter has no published post with the id %(id)s."),
            id=missing[0],
        )
    return list(found)


def _new_posts(
    session: Session,
    newsletter: Newsletter,
    after: int,
    *,
    limit: int,
    rhythm: str | None = None,
) -> list[Post]:
    carried = _already_carried(newsletter.id, rhythm)
    query = _published(newsletter.id).where(Post.position > after, ~carried)
    return list(session.scalars(query.limit(limit)))


def _published(newsletter_id: int) -> Select[Post]:
    return (
        select(Post)
        .where(Post.newsletter_id == newsletter_id, Post.state == PostState.PUBLISHED)
        .order_by(Post.published_at.desc(), Post.position.desc())
    )


def _gone_out(newsletter_id: int) -> Select[Issue]:
    return select(Issue).where(
        Issue.newsletter_id == newsletter_id,
        Issue.kind == IssueKind.DIGEST,
        Issue.state.in_(GONE_OUT),
    )


def _already_carried(
    newsletter_id: int, rhythm: str | None = None
) -> ColumnElement[bool]:
    """Tell whether a post has gone out: at all, or to all readers of a rhythm."""
    carried = and_(
        IssuePost.post_id == Post.id,
        Issue.id == IssuePost.issue_id,
        Issue.newsletter_id == newsletter_id,
        Issue.state.in_(GONE_OUT),
    )
    if rhythm is not None:
        carried = and_(carried, Issue.rhythm.in_(("", rhythm)))
    return exists().where(carried)


def _reach(session: Session, issue: Issue, *, picked: bool) -> int:
    """Return how far this issue brings its readers: no post before that is left out."""
    newsletter_id = issue.newsletter_id
    if not picked:
        newest = Common(session, issue.newsletter).newest_position
        return max(issue.after_position, newest)
    left_out = select(func.min(Post.position)).where(
        Post.newsletter_id == newsletter_id,
        Post.state == PostState.PUBLISHED,
        Post.position > issue.after_position,
        Post.id.not_in([_id_of(entry) for entry in issue.posts]),
        ~_already_carried(newsletter_id),
    )
    first_left_out = session.scalar(left_out)
    if first_left_out is None:
        return _reach(session, issue, picked=False)
    return max(issue.after_position, first_left_out - 1)


def _nothing_new(last: Issue | None) -> NothingNew:
    if last is None:
        return NothingNew(
            N_("There is nothing to send yet. Fetch or import posts first.")
        )
    return NothingNew(
        N_("There is nothing new since issue %(number)s. Pick posts to send again."),
        number=last.number,
    )


def _hold_still(session: Session, issue: Issue) -> None:
    """Lock a draft, so that it cannot be sent while it changes."""
    if issue.id is not None:
        lock(session, issue)
    if issue.state not in EDITABLE:
        raise Conflict(
            N_("This issue has been sent and can no longer be changed. Make a new one.")
        )
    if is_leaving(issue):
        raise Conflict(
            N_("This issue leaves in a moment. Undo the sending first, then change it.")
        )


def _reorder(issue: Issue, order: Sequence[int]) -> None:
    wish = {post_id: place for place, post_id in enumerate(order)}
    by_wish = sorted(
        issue.posts, key=lambda entry: (wish.get(_id_of(entry), len(wish)), entry.place)
    )
    for place, entry in enumerate(by_wish, 1):
        entry.place = place
    issue.posts.sort(key=lambda entry: entry.place)


def _mark(issue: Issue, hidden: Iterable[int] | None, featured: int | None) -> None:
    out = None if hidden is None else set(hidden)
    for entry in issue.posts:
        if out is not None:
            entry.hidden = _id_of(entry) in out
        if featured is not None:
            entry.featured = _id_of(entry) == featured


def _reword(
    issue: Issue, titles: Mapping[int, str], excerpts: Mapping[int, str]
) -> None:
    for entry in issue.posts:
        if (title := titles.get(_id_of(entry))) is not None:
            entry.title = _within(plaintext.squeeze(title), TITLE_CHARACTERS, "title")
        if (excerpt := excerpts.get(_id_of(entry))) is not None:
            entry.excerpt = _within(
                plaintext.squeeze(excerpt), EXCERPT_CHARACTERS, "excerpt"
            )


def _id_of(entry: IssuePost) -> int:
    return entry.post.id
