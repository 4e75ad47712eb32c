"""A digest's words as mail: Jinja2, then MJML, then HTML, and a text part. Pure.

Gmail cuts a mail at about 102 kB and with it the way out. So a long digest shortens its
excerpts first and then leaves out its last posts behind a link; the footer stays.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from markupsafe import Markup

from newsletter import colours, links, markup, newsletters, plaintext, templating
from newsletter.config import Settings
from newsletter.digests import wording
from newsletter.errors import N_, InvalidInput
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

HTML_BYTES = 90_000
ENCODED_BYTES = 100_000  # as quoted-printable; Gmail cuts at 102 400
EXCERPT_CHARACTERS = (600, 160, 90)  # tried in this order until the mail fits
TEXT_COLUMNS = 72
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


def shown(posts: Sequence[IssuePost]) -> list[IssuePost]:
    """Return what goes out: not hidden, and not withdrawn since it was picked."""
    return [
        entry
        for entry in posts
        if not entry.hidden and entry.post.state is PostState.PUBLISHED
    ]


def compose(
    settings: Settings,
    issue: Issue,
    newsletter: Newsletter,
    posts: Sequence[IssuePost],
    words: Language,
    *,
    web_url: str = "",
) -> Letter:
    """Write one edition of an issue, with fields where a reader's links will stand.

    `web_url` is where it can be read on the web; without it, the newsletter's page.
    Raises InvalidInput if its opening alone is more than a mail holds.
    """
    frame = _Frame.of(settings, issue, newsletter, posts, words)
    frame = replace(frame, web_url=web_url or frame.web_url)
    entries, left_out = frame.fit()
    values = frame.values(entries, left_out)
    return Letter(
        kind=Kind.DIGEST,
        language=words.code,
        subject=frame.subject,
        from_name=newsletter.from_name,
        from_email=newsletter.from_email,
        reply_to=newsletter.reply_to,
        text=_text(words, values),
        html=_html(words, values),
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


def encoded_size(text: str) -> int:
    """Return how many bytes a part takes on the wire."""
    return len(mime.quoted_printable(text))


@dataclass(frozen=True, slots=True)
class _Frame:
    """Everything about an edition that does not depend on how much room there is."""

    settings: Settings
    newsletter: Newsletter
    words: Language
    entries: list[Entry]
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
    ) -> "_Frame":
        """Gather the words of an issue."""
        entries = _headlines(
            [_entry(settings, newsletter, p, words) for p in shown(posts)],
            whole=newsletter.at_most,
        )
        titles = [entry.title for entry in entries]
        date = issue.started_at or issue.scheduled_at or issue.created_at
        tags = {
            "newsletter": plaintext.squeeze(newsletter.title),
            "number_of_posts": words.number(len(entries)),
            "date": words.day(date, newsletter.timezone),
        }
        new = all((p.post.position or 0) > issue.after_position for p in shown(posts))
        first = entries[0].excerpt if entries else ""
        subject = wording.merge(plaintext.squeeze(issue.subject), tags)
        preview = wording.merge(plaintext.squeeze(issue.preview_text), tags)
        opening = _opening(issue.opening, tags)
        title, title_language = wording.title(len(entries), words, new=new), ""
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
            entries=entries,
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

    def fit(self) -> tuple[list[Entry], int]:
        """Return what there is room for, and how many posts had to stay out."""
        tried: list[Entry] = []
        for limit in EXCERPT_CHARACTERS:
            tried = [_shortened(entry, limit) for entry in self.entries]
            if self._fits(tried, 0):
                return tried, 0
        if not self._fits(tried[:1], len(tried) - 1):
            raise InvalidInput(
                N_("The opening is too long: mail programs would cut it. Shorten it."),
                field="opening",
            )
        low, high = 1, len(tried) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(tried[:middle], len(tried) - middle):
                low = middle
            else:
                high = middle - 1
        return tried[:low], len(tried) - low

    def values(self, entries: list[Entry], left_out: int) -> dict[str, object]:
        """Return what the templates show."""
        words, newsletter = self.words, self.newsletter
        return {
            "newsletter_title": plaintext.squeeze(newsletter.title),
            "timezone": newsletter.timezone,
            "subject": self.subject,
            "preview_text": self.preview_text,
            "title": self.title,
            "title_language": self.title_language,
            "date": self.date,
            "opening": Markup(self.opening),  # noqa: S704 - sanitised in markup.py
            "opening_text": markup.to_text(self.opening, width=TEXT_COLUMNS),
            "entries": entries,
            "left_out": left_out,
            "left_out_words": words.ngettext(
                "Read one more post on the web",
                "Read %(num)s more posts on the web",
                left_out,
            ),
            "accent": colours.accent(newsletter.accent),
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
        }

    def _fits(self, entries: list[Entry], left_out: int) -> bool:
        html = _html(self.words, self.values(entries, left_out))
        return len(html.encode()) <= HTML_BYTES and encoded_size(html) <= ENCODED_BYTES


def _html(words: Language, values: dict[str, object]) -> str:
    return templating.render("digest/digest.mjml", words, values)


def _text(words: Language, values: dict[str, object]) -> str:
    text = templating.render("digest/digest.txt", words, values)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"


def _entry(
    settings: Settings, newsletter: Newsletter, chosen: IssuePost, words: Language
) -> Entry:
    post = chosen.post
    title = plaintext.squeeze(chosen.title or post.title)
    shows_image = bool(post.image_alt.strip()) and markup.is_web(post.image_url)
    return Entry(
        published_at=post.published_at,
        title=title,
        excerpt=plaintext.squeeze(chosen.excerpt or post.excerpt),
        author=plaintext.squeeze(post.author.shown_name) if post.author else "",
        byline=plaintext.squeeze(post.author.byline) if post.author else "",
        url=_post_url(settings, newsletter, post),
        link_words=words.gettext(
            "Read “%(title)s”",
            title=wording.shorten(title, wording.LINK_TITLE_CHARACTERS),
        ),
        language=post.language or newsletter.language,
        image_url=post.image_url if shows_image else "",
        image_alt=plaintext.squeeze(post.image_alt) if shows_image else "",
        portrait=links.portrait_url(settings, post.author) if post.author else "",
    )


def _headlines(entries: list[Entry], *, whole: int) -> list[Entry]:
    """Show so many posts whole and the others as headlines; 0 shows all whole."""
    if not whole:
        return entries
    return entries[:whole] + [
        replace(entry, excerpt="", author="", byline="", image_url="")
        for entry in entries[whole:]
    ]


def _shortened(entry: Entry, limit: int) -> Entry:
    if len(entry.excerpt) <= limit:
        return entry
    return replace(entry, excerpt=wording.shorten(entry.excerpt, limit))


def _opening(markdown: str, tags: dict[str, str]) -> str:
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
