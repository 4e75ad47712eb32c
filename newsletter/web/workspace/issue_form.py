"""The form that composes an issue: read, kept over an error, applied."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from newsletter import i18n
from newsletter.digests import compose, drafts, wording
from newsletter.digests.versions import PostWords, Words
from newsletter.errors import N_, InkorgError, NotFound
from newsletter.models import Issue, IssueKind, IssuePost, Newsletter, Post

LIMITS = {
    "subject": drafts.SUBJECT_CHARACTERS,
    "preview_text": drafts.PREVIEW_CHARACTERS,
    "opening": drafts.OPENING_CHARACTERS,
    "title": drafts.TITLE_CHARACTERS,
    "excerpt": drafts.EXCERPT_CHARACTERS,
}
SITTING_CHARACTERS = 32


@dataclass(slots=True)
class Place:
    """A post as it stands in the form."""

    post: Post
    hidden: bool = False
    featured: bool = False
    title: str = ""
    excerpt: str = ""


@dataclass(slots=True)
class IssueForm:
    """What stands in the form.

    `fingerprint` and `version` are of what it was shown, `sitting` is the open page.
    """

    subject: str
    preview_text: str
    opening: str
    places: list[Place]
    fingerprint: str
    version: int = 0
    sitting: str = ""
    added: list[int] = field(default_factory=list)
    test_to: str = ""

    def move(self, post_id: int, step: int) -> None:
        """Move a post up (-1) or down (+1) among the others."""
        ids = [place.post.id for place in self.places]
        if post_id not in ids:
            return
        here = ids.index(post_id)
        there = min(max(here + step, 0), len(ids) - 1)
        self.places.insert(there, self.places.pop(here))

    def words(self) -> Words:
        """Return what was typed as it would be stored."""
        return Words(
            subject=self.subject,
            preview_text=self.preview_text,
            opening=self.opening,
            posts=tuple(
                PostWords(
                    place.post.id,
                    place.hidden,
                    place.featured,
                    place.title,
                    place.excerpt,
                )
                for place in self.places
            ),
        ).clean()

    def take(self, words: Words) -> None:
        """Put other words into the form; posts that those do not know come last."""
        self.subject, self.preview_text = words.subject, words.preview_text
        self.opening = words.opening
        there = {place.post.id: place for place in self.places}
        known = [said for said in words.posts if said.post_id in there]
        for said in known:
            place = there[said.post_id]
            place.hidden, place.featured = said.hidden, said.featured
            place.title, place.excerpt = said.title, said.excerpt
        order = {said.post_id: number for number, said in enumerate(known)}
        self.places.sort(key=lambda place: order.get(place.post.id, len(order)))


def issue_of(session: Session, newsletter: Newsletter, issue_id: int) -> Issue:
    """Return an issue of this newsletter. Raises NotFound."""
    issue = drafts.find(session, issue_id)
    if issue.newsletter_id != newsletter.id:
        raise NotFound(N_("There is no issue with the id %(id)s."), id=issue_id)
    return issue


def stored(issue: Issue) -> IssueForm:
    """Return the form as it shows what is stored."""
    return IssueForm(
        subject=issue.subject,
        preview_text=issue.preview_text,
        opening=issue.opening,
        places=[_place(entry) for entry in issue.posts],
        fingerprint=fingerprint(issue),
        version=issue.version,
        sitting=new_sitting(),
    )


def typed(form: MultiDict[str, str], issue: Issue) -> IssueForm:
    """Read what an editor sent; posts added meanwhile stay, at the end."""
    entries = {entry.post_id: entry for entry in issue.posts}
    featured = _featured(_ids(form.getlist("featured")), issue)
    listed = [i for i in _ids(form.getlist("post")) if i in entries]
    places = [
        Place(
            post=entries[post_id].post,
            hidden=f"show-{post_id}" not in form,
            featured=post_id == featured,
            title=form.get(f"title-{post_id}", "").strip(),
            excerpt=form.get(f"excerpt-{post_id}", "").strip(),
        )
        for post_id in listed
    ]
    places += [_place(entries[i]) for i in entries if i not in listed]
    return IssueForm(
        subject=form.get("subject", ""),
        preview_text=form.get("preview_text", ""),
        opening=form.get("opening", ""),
        places=places,
        fingerprint=form.get("fingerprint", ""),
        version=form.get("version", 0, type=int),
        sitting=form.get("sitting", "")[:SITTING_CHARACTERS],
        added=_ids(form.getlist("add")),
        test_to=form.get("test_to", "").strip(),
    )


def apply(session: Session, issue: Issue, form: IssueForm) -> None:
    """Write the form to the issue. Raises InvalidInput, Conflict or NotFound."""
    drafts.edit(
        session,
        issue,
        subject=form.subject,
        preview_text=form.preview_text,
        opening=form.opening,
        order=[place.post.id for place in form.places],
        hidden=[place.post.id for place in form.places if place.hidden],
        featured=next((p.post.id for p in form.places if p.featured), 0),
        titles={place.post.id: place.title for place in form.places},
        excerpts={place.post.id: place.excerpt for place in form.places},
    )
    if form.added:
        drafts.add_posts(session, issue, form.added)


def sketch(
    issue: Issue, newsletter: Newsletter, form: IssueForm, posts: Mapping[int, Post]
) -> Issue:
    """Return an issue that was never stored, as the form has it: for looking at."""
    places = form.places + [
        Place(post=posts[post_id]) for post_id in form.added if post_id in posts
    ]
    return Issue(
        id=issue.id,
        newsletter_id=newsletter.id,
        newsletter=newsletter,
        number=issue.number,
        state=issue.state,
        subject=form.subject.strip(),
        preview_text=form.preview_text.strip(),
        opening=form.opening.strip(),
        after_position=issue.after_position,
        last_position=issue.last_position,
        created_at=issue.created_at,
        posts=[
            IssuePost(
                issue_id=issue.id,
                post_id=place.post.id,
                post=place.post,
                place=number,
                hidden=place.hidden,
                featured=place.featured,
                title=place.title,
                excerpt=place.excerpt,
            )
            for number, place in enumerate(places, 1)
        ],
    )


def as_version(issue: Issue, words: Words) -> IssueForm:
    """Return the form as an earlier version has it; it left out what came later."""
    form = stored(issue)
    form.take(words)
    known = {said.post_id for said in words.posts}
    for place in form.places:
        place.hidden = place.hidden or place.post.id not in known
    return form


def new_sitting() -> str:
    """Return a name for a page that is opened: what it saves is one editor's."""
    return secrets.token_urlsafe(9)


def titles_of(issue: Issue) -> list[str]:
    """Return the headlines that go along, as this issue words them."""
    return [entry.title or entry.post.title for entry in compose.shown(issue.posts)]


def subject_of(issue: Issue, newsletter: Newsletter) -> str:
    """Return the subject: what an editor wrote, else what is made of the posts."""
    words = i18n.language(newsletter.language)
    if issue.kind is IssueKind.LETTER:
        return issue.subject or words.gettext("A letter without a subject")
    return issue.subject or wording.subject(titles_of(issue), words)


def fingerprint(issue: Issue) -> str:
    """Return a short hash of everything an editor can change about an issue.

    Two forms that were shown the same issue carry the same one: whoever saves second
    is told.
    """
    words = [
        issue.state,
        issue.subject,
        issue.preview_text,
        issue.opening,
        issue.segment,
        issue.language,
        issue.scheduled_at.isoformat() if issue.scheduled_at else "",
        [
            (entry.post_id, entry.hidden, entry.featured, entry.title, entry.excerpt)
            for entry in sorted(issue.posts, key=lambda entry: entry.place)
        ],
    ]
    return hashlib.blake2b(json.dumps(words).encode(), digest_size=9).hexdigest()


def field_of(error: InkorgError, form: IssueForm) -> str:
    """Return the field of the form that an error is about, or "form"."""
    name = getattr(error, "field", "")
    if name in {"title", "excerpt"}:
        long = [p.post.id for p in form.places if len(getattr(p, name)) > LIMITS[name]]
        return f"{name}-{long[0]}" if long else "form"
    return {"email": "test_to"}.get(name, name) or "form"


def _place(entry: IssuePost) -> Place:
    return Place(entry.post, entry.hidden, entry.featured, entry.title, entry.excerpt)


def _featured(ticked: list[int], issue: Issue) -> int:
    """Return the one post to feature: of several ticks, the one that is new."""
    before = {entry.post_id for entry in issue.posts if entry.featured}
    return next((i for i in ticked if i not in before), ticked[0] if ticked else 0)


def _ids(texts: list[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit()]
