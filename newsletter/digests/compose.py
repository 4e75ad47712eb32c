"""A digest's words as mail: a theme's templates make HTML and a text part. Pure.

Gmail cuts a mail at about 102 kB and with it the way out. So a long digest shortens
its excerpts first, then shows its last posts as headlines, and then leaves some out
behind a link; the footer stays.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from markupsafe import Markup

from newsletter import colours, links, markup, newsletters, plaintext, rhythms
from newsletter.config import Settings
from newsletter.digests import design, outgoing, themes, wording
from newsletter.digests.look import Look
from newsletter.digests.themes import Theme
from newsletter.errors import N_, InvalidInput, ThemeError
from newsletter.i18n import Language
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import (
    Issue,
    IssueKind,
    IssuePost,
    Kind,
    Newsletter,
    Post,
    PostState,
)
from newsletter.posts import enclosures

HTML_BYTES = 90_000
ENCODED_BYTES = 100_000  # as quoted-printable; Gmail cuts at 102 400
EXCERPT_CHARACTERS = (600, 160, 90)  # tried in this order until the mail fits
FEATURED_CHARACTERS = 300  # of the featured post's excerpt, at least
LEAST_WHOLE = 5  # posts that stay whole, however many there are
TEXT_COLUMNS = 72
MOST_ATTACHED = 2  # of a post
_PERSONAL = re.compile(r"<!--personal-->.*?<!--/personal-->", re.DOTALL)
_PICTURE = re.compile(r'<img src="([^"]*)"')
_OUR_WIDTH = re.compile(r"-(\d+)x\d+\.(?:jpeg|png|gif)$")  # as `pictures.py` names them
CARD_COLUMN = 520  # pixels
_HEADING = re.compile(r"(</?)h[1-6]\b")


@dataclass(frozen=True, slots=True)
class Entry:
    """A post as a digest shows it."""

    published_at: datetime
    title: str
    excerpt: str
    author: str
    byline: str
    url: str
    link_words: str
    language: str
    image_url: str = ""
    image_alt: str = ""
    portrait: str = ""  # a whole address, of a square JPEG
    attached: tuple[tuple[str, str], ...] = ()  # what comes with it: address, words
    featured: bool = False  # larger than the others, and before them


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a mail has room for: whole posts, headlines, and how many stay out."""

    entries: list[Entry]
    tail: list[Entry]
    left_out: int = 0


def shown(posts: Sequence[IssuePost]) -> list[IssuePost]:
    """Return what goes out: not hidden, and not withdrawn since it was picked.

    The featured post stands first, the others as they are.
    """
    going = [
        entry
        for entry in posts
        if not entry.hidden and entry.post.state is PostState.PUBLISHED
    ]
    return sorted(going, key=lambda entry: not entry.featured)


def compose(
    settings: Settings,
    issue: Issue,
    newsletter: Newsletter,
    posts: Sequence[IssuePost],
    words: Language,
    *,
    web_url: str = "",
    look: Look | None = None,
    whole: int | None = None,
    rhythm: str = "",
    forgiving: bool = False,
) -> Letter:
    """Write one edition of an issue, with fields where a reader's links will stand.

    `web_url` is where it can be read on the web; without it, the newsletter's page.
    `look` is the newsletter's own unless another is tried. `whole` posts at most are
    shown whole, the others as headlines; 0 is all, None as the newsletter has it.
    `rhythm` is what the footer says of how often the mail comes, in place of the
    issue's own. With `forgiving`, a theme that is broken gives way to the
    default one: nobody is to go without an issue for it.

    Raises InvalidInput if its opening alone is more than a mail holds, and ThemeError.
    """
    look = look or design.look_of(settings, newsletter)
    if issue.kind is IssueKind.LETTER:
        look = look.of_a_letter()
    whole = newsletter.at_most if whole is None else whole
    rhythm = rhythm or _rhythm(issue, words)
    frame = _Frame.of(settings, issue, newsletter, posts, words, look, whole, rhythm)
    frame = replace(frame, web_url=web_url or frame.web_url)
    try:
        html, text = frame.write(themes.find(settings, look.theme))
    except ThemeError as error:
        if not forgiving:
            raise
        html, text = frame.write(themes.fallback(error))
    return Letter(
        kind=Kind.DIGEST,
        language=words.code,
        subject=frame.subject,
        from_name=newsletter.from_name,
        from_email=newsletter.from_email,
        reply_to=newsletter.reply_to,
        text=text,
        html=html,
        list_id=f"{newsletter.slug}.{settings.host}",
        list_name=newsletter.title,
        leave_url=links.leave_url(settings, mime.LEAVE),
        archive_url=(
            links.archive_url(settings, newsletter.slug)
            if newsletter.public_archive
            else ""
        ),
        feedback_id=_feedback_id(settings, issue, newsletter),
        preview_text=frame.preview_text,
    )


def web_version(html: str) -> str:
    """Return a digest for everyone to see: no one's links, no tokens.

    Takes the HTML as stored with the edition, or as composed.
    """
    return mime.without_fields(_PERSONAL.sub("", html)).replace(mime.NOBODY, "")


def sample(letter: Letter) -> Letter:
    """Return the letter with links that lead to harmless pages, for looking at it."""
    return replace(
        letter,
        text=mime.without_fields(letter.text),
        html=mime.without_fields(letter.html),
        leave_url=mime.without_fields(letter.leave_url),
    )


def as_sent(settings: Settings, newsletter: Newsletter, html: str) -> str:
    """Return HTML as long as it is sent: links that are counted are other links."""
    return outgoing.as_long(settings, html) if newsletter.count_clicks else html


def encoded_size(text: str) -> int:
    """Return how many bytes a part takes on the wire."""
    return len(mime.quoted_printable(text))


@dataclass(frozen=True, slots=True)
class _Frame:
    """Everything about an edition that does not depend on how much room there is."""

    settings: Settings
    newsletter: Newsletter
    words: Language
    look: Look
    whole: int
    rhythm: str
    entries: list[Entry]
    tags: dict[str, str]
    subject: str
    preview_text: str
    opening: str  # HTML, sanitised
    title: str
    title_language: str  # where it is not the edition's
    date: datetime
    web_url: str

    @classmethod
    def of(
        cls,
        settings: Settings,
        issue: Issue,
        newsletter: Newsletter,
        posts: Sequence[IssuePost],
        words: Language,
        look: Look,
        whole: int,
        rhythm: str,
    ) -> "_Frame":
        """Gather the words of an issue."""
        chosen = shown(posts)
        entries = [_entry(settings, newsletter, p, words, look) for p in chosen]
        titles = [entry.title for entry in entries]
        date = issue.started_at or issue.scheduled_at or issue.created_at
        tags = {
            "newsletter": plaintext.squeeze(newsletter.title),
            "publisher": plaintext.squeeze(newsletter.publisher or newsletter.title),
            "number_of_posts": words.number(len(entries)),
            "number_in_words": wording.in_words(len(entries), words),
            "date": words.day(date, newsletter.timezone),
        }
        new = all((p.post.position or 0) > issue.after_position for p in chosen)
        first = entries[0].excerpt if entries else ""
        subject = wording.merge(plaintext.squeeze(issue.subject), tags)
        preview = wording.merge(plaintext.squeeze(issue.preview_text), tags)
        opening = _from_markdown(issue.opening, tags)
        heading = wording.merge(look.said(words.code, "heading"), tags)
        title = heading or wording.title(len(entries), words, new=new)
        title_language = ""
        if issue.kind is IssueKind.LETTER:
            title = subject
            preview = preview or markup.excerpt(opening, wording.PREVIEW_CHARACTERS)
            if issue.language and issue.language != words.code:
                title_language = issue.language
                opening = f'<div lang="{title_language}">{opening}</div>'
        return cls(
            settings=settings,
            newsletter=newsletter,
            words=words,
            look=look,
            whole=whole,
            rhythm=rhythm,
            entries=entries,
            tags=tags,
            subject=wording.shorten(
                subject or wording.subject(titles, words, new=new),
                wording.SUBJECT_CHARACTERS,
            ),
            preview_text=preview or wording.preview(titles, first),
            opening=opening,
            title=title,
            title_language=title_language,
            date=date,
            web_url=links.newsletter_url(settings, newsletter.slug),
        )

    def write(self, theme: Theme) -> tuple[str, str]:
        """Return HTML and text with as much as there is room for."""
        values = self.values(self.fit(theme))
        return themes.render(theme, self.words, values)

    def fit(self, theme: Theme) -> Fitted:
        """Return what there is room for: shorter excerpts, then headlines, then less.

        Raises InvalidInput if not even the first post fits.
        """
        tried = self._split(self.entries, self.whole or len(self.entries))
        for limit in EXCERPT_CHARACTERS:
            short = [_shortened(entry, limit) for entry in self.entries]
            tried = self._split(short, self.whole or len(short))
            if self._fits(theme, tried):
                return tried
        every = [*tried.entries, *tried.tail]
        most, least = len(tried.entries), min(LEAST_WHOLE, len(tried.entries))
        found = self._most(
            theme, [self._split(every, whole) for whole in range(least, most)]
        )
        if found:
            return found
        fewer = [self._split(every[:kept], least) for kept in range(1, len(every))]
        found = self._most(
            theme, [replace(f, left_out=len(every) - k) for k, f in enumerate(fewer, 1)]
        )
        if found:
            return found
        raise InvalidInput(
            N_("The opening is too long: mail programs would cut it. Shorten it."),
            field="opening",
        )

    def _most(self, theme: Theme, tries: list[Fitted]) -> Fitted | None:
        """Return the last of ever larger tries that fits."""
        low, high = 0, len(tries)
        while low < high:
            middle = (low + high) // 2
            if self._fits(theme, tries[middle]):
                low = middle + 1
            else:
                high = middle
        return tries[low - 1] if low else None

    @staticmethod
    def _split(entries: list[Entry], whole: int) -> Fitted:
        return Fitted(entries[:whole], entries[whole:])

    def _fits(self, theme: Theme, tried: Fitted) -> bool:
        html = themes.html_of(theme, self.words, self.values(tried))
        html = as_sent(self.settings, self.newsletter, html)
        return len(html.encode()) <= HTML_BYTES and encoded_size(html) <= ENCODED_BYTES

    def values(self, fitted: Fitted) -> dict[str, object]:
        """Return what the templates show; `docs/themes.md` lists it."""
        words, newsletter = self.words, self.newsletter
        closing = _from_markdown(self._said("closing"), self.tags)
        return {
            "newsletter_title": plaintext.squeeze(newsletter.title),
            "timezone": newsletter.timezone,
            "subject": self.subject,
            "preview_text": self.preview_text,
            "title": self.title,
            "title_language": self.title_language,
            "date": self.date,
            "parts": self.look.parts,
            "greeting": self._merged("greeting"),
            "opening": Markup(self.opening),  # noqa: S704 - sanitised in markup.py
            "opening_text": markup.to_text(self.opening, width=TEXT_COLUMNS),
            "headlines_heading": self._merged("headlines"),
            "entries": fitted.entries,
            "more_heading": self._merged("more") or words.gettext("More posts"),
            "tail": fitted.tail,
            "left_out": fitted.left_out,
            "left_out_words": words.ngettext(
                "Read one more post on the web",
                "Read %(num)s more posts on the web",
                fitted.left_out,
            ),
            "authors_heading": self._merged("authors")
            or words.gettext("Who wrote this"),
            "authors": _authors(self.entries),
            "closing": Markup(closing),  # noqa: S704 - sanitised in markup.py
            "closing_text": markup.to_text(closing, width=TEXT_COLUMNS),
            "reply": self._merged("reply"),
            "note": self._merged("note"),
            "accent": colours.accent(self.look.accent),
            "logo": self.look.logo,
            "dark_logo": self.look.dark_logo,
            "web_url": self.web_url,
            "newsletter_url": links.newsletter_url(self.settings, newsletter.slug),
            "leave_url": links.leave_url(self.settings, mime.LEAVE),
            "preferences_url": links.preferences_url(self.settings, mime.PREFERENCES),
            "sender_line": plaintext.squeeze(newsletters.sender_line(newsletter)),
            "contact": newsletter.contact_email
            or newsletter.reply_to
            or newsletter.from_email,
            "why": words.gettext(
                "You get this because you subscribed to %(newsletter)s.",
                newsletter=plaintext.squeeze(newsletter.title),
            ),
            "rhythm": self.rhythm,
        }

    def _said(self, name: str) -> str:
        return self.look.said(self.words.code, name)

    def _merged(self, name: str) -> str:
        return wording.merge(plaintext.squeeze(self._said(name)), self.tags)


def _entry(
    settings: Settings,
    newsletter: Newsletter,
    chosen: IssuePost,
    words: Language,
    look: Look,
) -> Entry:
    post = chosen.post
    title = plaintext.squeeze(chosen.title or post.title)
    author = plaintext.squeeze(post.author.shown_name) if post.author else ""
    shows_image = bool(post.image_alt.strip()) and markup.is_web(post.image_url)
    return Entry(
        published_at=post.published_at,
        title=title,
        excerpt=plaintext.squeeze(chosen.excerpt or post.excerpt),
        author=author,
        byline=plaintext.squeeze(post.author.byline) if post.author else "",
        url=_post_url(settings, newsletter, post),
        link_words=_link_words(look.said(words.code, "link"), title, author, words),
        language=post.language or newsletter.language,
        image_url=post.image_url if shows_image else "",
        image_alt=plaintext.squeeze(post.image_alt) if shows_image else "",
        portrait=links.portrait_url(settings, post.author) if post.author else "",
        attached=tuple(enclosures.in_words(post, words)[:MOST_ATTACHED]),
        featured=bool(chosen.featured),
    )


def _link_words(said: str, title: str, author: str, words: Language) -> str:
    short = wording.shorten(title, wording.LINK_TITLE_CHARACTERS)
    if said:
        return wording.merge(said, {"title": short, "author": author})
    return words.gettext("Read “%(title)s”", title=short)


def _authors(entries: Sequence[Entry]) -> list[Entry]:
    """Return one entry of each author, in the order of their first post."""
    found = {entry.author: entry for entry in reversed(entries) if entry.author}
    return [e for e in entries if found.get(e.author) is e]


def _rhythm(issue: Issue, words: Language) -> str:
    """Say how often the readers of an issue get one, where it fell due by itself."""
    if not issue.rhythm:
        return ""
    said = rhythms.describe(issue.rhythm, words)
    if rhythms.parse(issue.rhythm).kind == "each":
        return f"{said}."
    return words.gettext("%(rhythm)s, when there is something new.", rhythm=said)


def _shortened(entry: Entry, limit: int) -> Entry:
    limit = max(limit, FEATURED_CHARACTERS) if entry.featured else limit
    if len(entry.excerpt) <= limit:
        return entry
    return replace(entry, excerpt=wording.shorten(entry.excerpt, limit))


def _from_markdown(markdown: str, tags: dict[str, str]) -> str:
    if not markdown.strip():
        return ""
    html = _HEADING.sub(r"\1h2", markup.from_markdown(plaintext.clean(markdown)))
    html = _PICTURE.sub(_fitted, html)
    escaped = {name: str(Markup.escape(value)) for name, value in tags.items()}
    return wording.merge(html, escaped)


def _fitted(picture: re.Match[str]) -> str:
    """Keep a picture within the card, also where only attributes are understood."""
    style = "max-width:100%;height:auto"
    if ours := _OUR_WIDTH.search(picture[1]):
        width = min(int(ours[1]), CARD_COLUMN)
        return f'<img width="{width}" style="{style}" src="{picture[1]}"'
    return f'<img style="{style}" src="{picture[1]}"'


def _post_url(settings: Settings, newsletter: Newsletter, post: Post) -> str:
    link = post.link.strip()
    whole = not any(c.isspace() or not c.isprintable() for c in link)
    if whole and markup.is_web(link):
        return link
    return links.post_url(settings, newsletter.slug, post.id)


def _feedback_id(settings: Settings, issue: Issue, newsletter: Newsletter) -> str:
    """Name issue, list, kind and sender; the sender's name stays the same for ever."""
    sender = re.sub(r"[^a-z0-9]", "", settings.host.lower())[:15].ljust(5, "0")
    return f"issue{issue.id}:{newsletter.slug}:{issue.kind}:{sender}"
