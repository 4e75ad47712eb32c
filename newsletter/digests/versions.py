"""Versions of a draft: what it said, who saved it when, and two editors' words as one.

Each save is a version; `issue.version` is the number of the one in use. Words that
would have replaced somebody else's are kept aside: a version too, but not in the draft
until somebody goes back to it. With age versions are thinned, so that they stay few.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session, joinedload

from newsletter import plaintext
from newsletter.digests import drafts, letters
from newsletter.errors import N_, NotFound
from newsletter.models import DraftVersion, Issue, IssueKind, VersionKind

MOST = 80  # versions of one draft
MOST_OF_SENT = 10
# How close together autosaved versions may stand, by their age.
SPACING = (
    (timedelta(minutes=2), timedelta(0)),
    (timedelta(hours=1), timedelta(minutes=2)),
    (timedelta(days=1), timedelta(minutes=30)),
    (timedelta.max, timedelta(days=1)),
)
TEXTS = ("subject", "preview_text", "opening")
LETTER_FIELDS = ("segment", "language")

Value = str | bool | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PostWords:
    """A post in a version of a draft."""

    post_id: int
    hidden: bool = False
    featured: bool = False
    title: str = ""
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """Everything that an editor can change about a draft."""

    subject: str = ""
    preview_text: str = ""
    opening: str = ""
    segment: str = ""
    language: str = ""
    posts: tuple[PostWords, ...] = ()

    def clean(self) -> "Words":
        """Return them as they would be stored."""
        return replace(
            self,
            subject=plaintext.squeeze(self.subject),
            preview_text=plaintext.squeeze(self.preview_text),
            opening=plaintext.clean(self.opening).strip(),
            posts=tuple(
                replace(
                    post,
                    title=plaintext.squeeze(post.title),
                    excerpt=plaintext.squeeze(post.excerpt),
                )
                for post in self.posts
            ),
        )

    def values(self) -> dict[str, Value]:
        """Return every field by a name of its own, as the form names them."""
        found: dict[str, Value] = {
            name: getattr(self, name) for name in (*TEXTS, *LETTER_FIELDS)
        }
        found["order"] = tuple(post.post_id for post in self.posts)
        found["featured"] = tuple(p.post_id for p in self.posts if p.featured)
        for post in self.posts:
            found[f"show-{post.post_id}"] = not post.hidden
            found[f"title-{post.post_id}"] = post.title
            found[f"excerpt-{post.post_id}"] = post.excerpt
        return found


@dataclass(frozen=True, slots=True)
class Merged:
    """Two editors' words as one.

    `taken` are fields that only the other changed, `both` those that both did, with
    what the other wrote: there mine stand, until somebody has chosen.
    """

    words: Words
    taken: dict[str, Value] = field(default_factory=dict)
    both: dict[str, Value] = field(default_factory=dict)


def of(issue: Issue) -> Words:
    """Return what a draft says now."""
    return Words(
        subject=issue.subject,
        preview_text=issue.preview_text,
        opening=issue.opening,
        segment=issue.segment,
        language=issue.language,
        posts=tuple(
            PostWords(
                post_id=entry.post.id,
                hidden=entry.hidden,
                featured=entry.featured,
                title=entry.title,
                excerpt=entry.excerpt,
            )
            for entry in sorted(issue.posts, key=lambda entry: entry.place)
        ),
    )


def words_of(version: DraftVersion) -> Words:
    """Return what a version says."""
    stored: dict[str, Any] = dict(version.words)
    posts = tuple(PostWords(**post) for post in stored.pop("posts"))
    return Words(**stored, posts=posts)


def note(session: Session, issue: Issue, *, now: datetime) -> None:
    """Write down how a draft stands before it is changed, where no version says so."""
    current = in_use(session, issue)
    if current is None or words_of(current) != of(issue):
        first = current is None
        version = _store(
            session,
            issue,
            of(issue),
            VersionKind.FOUND,
            editor_id=issue.created_by if first else None,
            now=issue.created_at if first else now,
        )
        issue.version = version.number


def record(
    session: Session,
    issue: Issue,
    *,
    kind: VersionKind,
    editor_id: int | None,
    sitting: str = "",
    restores: int | None = None,
    now: datetime,
) -> None:
    """Make a version of what a draft says now; none where nothing has changed.

    `sitting` names the open page that the words come from. The caller holds the issue.
    """
    current = in_use(session, issue)
    if current is not None and words_of(current) == of(issue):
        if current.kind is VersionKind.AUTOSAVED and current.editor_id == editor_id:
            current.kind = kind
        return
    version = _store(
        session,
        issue,
        of(issue),
        kind,
        editor_id=editor_id,
        sitting=sitting,
        restores=restores,
        now=now,
    )
    issue.version = version.number
    thin(session, issue, now=now)


def keep_aside(
    session: Session,
    issue: Issue,
    words: Words,
    *,
    editor_id: int | None,
    sitting: str,
    now: datetime,
) -> None:
    """Keep words that are not to be in the draft; an open page has one such version."""
    mine = session.scalar(
        _versions(issue)
        .where(
            DraftVersion.kind == VersionKind.ASIDE,
            DraftVersion.sitting == sitting,
            DraftVersion.editor_id == editor_id,
            DraftVersion.number > issue.version,
        )
        .limit(1)
    )
    if mine is not None and sitting:
        mine.words, mine.created_at = asdict(words), now
        session.flush()
    elif words != of(issue):
        _store(
            session,
            issue,
            words,
            VersionKind.ASIDE,
            editor_id=editor_id,
            sitting=sitting,
            now=now,
        )
        thin(session, issue, now=now)


def in_use(session: Session, issue: Issue) -> DraftVersion | None:
    """Return the version that a draft was last saved as."""
    query = _versions(issue).where(DraftVersion.number == issue.version)
    return session.scalar(query)


def find(session: Session, issue: Issue, number: int) -> DraftVersion:
    """Return a version by its number. Raises NotFound."""
    found = session.scalar(_versions(issue).where(DraftVersion.number == number))
    if found is None:
        raise NotFound(
            N_("There is no such version any more. Older ones are thinned out.")
        )
    return found


def listed(session: Session, issue: Issue) -> list[DraftVersion]:
    """Return all versions, the newest first."""
    return list(session.scalars(_versions(issue)))


def since(session: Session, issue: Issue, number: int) -> list[DraftVersion]:
    """Return the versions that came into use after one, the newest first."""
    query = _versions(issue).where(
        DraftVersion.number > number,
        DraftVersion.number <= issue.version,
        DraftVersion.kind.in_((VersionKind.SAVED, VersionKind.AUTOSAVED)),
    )
    return list(session.scalars(query))


def aside_of(session: Session, issue: Issue, editor_id: int) -> DraftVersion | None:
    """Return what an editor wrote that has not come into the draft since."""
    query = _versions(issue).where(
        DraftVersion.kind == VersionKind.ASIDE,
        DraftVersion.editor_id == editor_id,
        DraftVersion.number > issue.version,
    )
    return session.scalar(query.limit(1))


def put_back(
    session: Session, issue: Issue, number: int, *, editor_id: int | None, now: datetime
) -> None:
    """Let a draft say what a version said; posts it did not have are hidden.

    Raises NotFound, InvalidInput or Conflict.
    """
    version = find(session, issue, number)
    note(session, issue, now=now)
    words = words_of(version)
    if issue.kind is IssueKind.LETTER:
        letters.edit(
            session,
            issue,
            subject=words.subject,
            preview_text=words.preview_text,
            body=words.opening,
            segment=words.segment,
            language=words.language or None,
        )
    else:
        shown = {post.post_id for post in words.posts if not post.hidden}
        drafts.edit(
            session,
            issue,
            subject=words.subject,
            preview_text=words.preview_text,
            opening=words.opening,
            order=[post.post_id for post in words.posts],
            hidden=[e.post.id for e in issue.posts if e.post.id not in shown],
            featured=next((p.post_id for p in words.posts if p.featured), 0),
            titles={post.post_id: post.title for post in words.posts},
            excerpts={post.post_id: post.excerpt for post in words.posts},
        )
    record(
        session,
        issue,
        kind=VersionKind.SAVED,
        editor_id=editor_id,
        restores=number,
        now=now,
    )


def merge(base: Words | None, mine: Words, theirs: Words) -> Merged:
    """Bring together what two editors made of the same words.

    Without a base, whatever differs counts as changed by both.
    """
    ours, others = mine.values(), theirs.values()
    before = base.values() if base else {}
    _align_orders(before, ours, others)
    taken: dict[str, Value] = {}
    both: dict[str, Value] = {}
    chosen: dict[str, Value] = {}
    for name, other in others.items():
        own = ours.get(name, other)
        chosen[name] = own
        if own == other:
            continue
        if name in before and own == before[name]:
            chosen[name] = taken[name] = other
        elif name not in before or other != before[name]:
            both[name] = other
    return Merged(_from_values(chosen), taken, both)


def differences(one: Words, other: Words) -> list[str]:
    """Return what sets two versions apart, as message ids."""
    ours, others = one.values(), other.values()
    names = dict.fromkeys(
        _WHAT[name.partition("-")[0]]
        for name in (*ours, *others)
        if ours.get(name) != others.get(name)
    )
    return list(names)


def thin(session: Session, issue: Issue, *, now: datetime, most: int = MOST) -> None:
    """Delete versions that stand too close together, and the oldest of too many."""
    rows = session.execute(
        select(
            DraftVersion.number,
            DraftVersion.kind,
            DraftVersion.editor_id,
            DraftVersion.created_at,
        )
        .where(DraftVersion.issue_id == issue.id, DraftVersion.number != issue.version)
        .order_by(DraftVersion.number.desc())
    ).all()
    seen: set[object] = set()
    kept: list[tuple[bool, int]] = []
    for number, kind, editor_id, at in rows:
        by_itself = kind is VersionKind.AUTOSAVED
        spacing = next(space for age, space in SPACING if now - at < age)
        if by_itself and spacing:
            slot = (editor_id, spacing, (at - _DAWN) // spacing)
            if slot in seen:
                continue
            seen.add(slot)
        kept.append((not by_itself, number))
    keep = {number for _, number in sorted(kept, reverse=True)[: most - 1]}
    gone = [row.number for row in rows if row.number not in keep]
    if gone:
        session.execute(
            delete(DraftVersion)
            .where(DraftVersion.issue_id == issue.id, DraftVersion.number.in_(gone))
            .execution_options(synchronize_session=False)
        )


_DAWN = datetime(2000, 1, 1, tzinfo=UTC)
_WHAT = {
    "subject": N_("the subject"),
    "preview_text": N_("the preview text"),
    "opening": N_("the words"),
    "segment": N_("whom it is for"),
    "language": N_("the language"),
    "order": N_("the order of the posts"),
    "show": N_("which posts go along"),
    "featured": N_("which post stands first and larger"),
    "title": N_("a headline"),
    "excerpt": N_("an excerpt"),
}


def _store(
    session: Session,
    issue: Issue,
    words: Words,
    kind: VersionKind,
    *,
    editor_id: int | None,
    sitting: str = "",
    restores: int | None = None,
    now: datetime,
) -> DraftVersion:
    session.flush()
    last = session.scalar(
        select(func.max(DraftVersion.number)).where(DraftVersion.issue_id == issue.id)
    )
    version = DraftVersion(
        issue_id=issue.id,
        number=max(last or 0, issue.version) + 1,
        kind=kind,
        words=asdict(words),
        sitting=sitting,
        restores=restores,
        editor_id=editor_id,
        created_at=now,
    )
    session.add(version)
    session.flush()
    return version


def _versions(issue: Issue) -> Select[DraftVersion]:
    return (
        select(DraftVersion)
        .where(DraftVersion.issue_id == issue.id)
        .options(joinedload(DraftVersion.editor))
        .order_by(DraftVersion.number.desc())
    )


def _align_orders(*sides: dict[str, Value]) -> None:
    """Let every side's order name the same posts: those that the last one has.

    Posts that a side does not know stand at its end, as they do in the draft.
    """
    known = _order(sides[-1])
    for side in sides:
        if "order" in side:
            own = [i for i in _order(side) if i in known]
            side["order"] = (*own, *(i for i in known if i not in own))


def _order(values: dict[str, Value]) -> tuple[int, ...]:
    found = values.get("order", ())
    return found if isinstance(found, tuple) else ()


def _from_values(values: dict[str, Value]) -> Words:
    texts = {name: str(values[name]) for name in (*TEXTS, *LETTER_FIELDS)}
    return Words(**texts, posts=tuple(_posts(values)))


def _posts(values: dict[str, Value]) -> Iterable[PostWords]:
    for post_id in _order(values):
        yield PostWords(
            post_id,
            hidden=not values[f"show-{post_id}"],
            featured=values["featured"] == (post_id,),
            title=str(values[f"title-{post_id}"]),
            excerpt=str(values[f"excerpt-{post_id}"]),
        )
