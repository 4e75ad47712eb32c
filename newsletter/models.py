"""The whole schema on one page.

    newsletter ──< feed ──< post >── author        a publication and what it can send
        │          feed_push │ │     portrait, author_spelling; hub_parting
        │                    │ └──< post_topic >── topic ──< category
        ├──< subscription >── subscriber           a person's bond to one newsletter
        │        ├──< consent >── wording          what they agreed to, append-only
        │        └──< note                         what editors know of them
        ├──< dkim_key, sender_flaw                 what signs its mail, what is amiss
        ├──< schedule, occurrence ── issue         when its rhythms fall due
        ├──< design >── logo                       how its mail looks: each version
        ├──< issue ──< issue_post >── post         posts chosen to go out together
        │      ├── issue_report                     what became of it, in sums
        │      ├──< counted_link ──< link_clicks    where asked for: clicks, in sums
        │      ├── outside_check, link_check       what others said of it beforehand
        │      └──< message ──< delivery           an edition, and one line per reader
        ├──< segment                               some of its readers, by a name
        ├──< picture                               what letters show
        ├──< audit                                 who changed what
        ├──< reckoning                             how many readers, as of a moment
        └──< membership >── editor                 who may do what

Beside it stands the index of parts of addresses, `subscribers/finding.py`.

`message` also holds every single mail (a confirmation is a message with one delivery),
so that there is one outbox, one ledger and one sender. `mail/ledger.py` is the only
writer of `delivery.state`, and of `lease` and `claim_mark`, which say who has claimed
which deliveries of an issue.
"""

import enum
from datetime import date, datetime
from typing import Annotated, Any

from flask_security import AsaList, RoleMixin, UserMixin, WebAuthnMixin
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    and_,
    text,
)
from sqlalchemy.ext.mutable import MutableList
from sqlalchemy.orm import Mapped, foreign, mapped_column, relationship

from newsletter.db import Base, UTCDateTime, utcnow


class Status(enum.StrEnum):
    """Where a subscription stands."""

    PENDING = "pending"
    ACTIVE = "active"
    PAUSED = "paused"
    LEFT = "left"
    SUPPRESSED = "suppressed"


class PostState(enum.StrEnum):
    """Whether a post may go out."""

    DRAFT = "draft"
    HELD = "held"  # a feed brought it in a flood; an editor decides
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


class IssueState(enum.StrEnum):
    """How far an issue has come."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    HELD = "held"
    SENDING = "sending"
    PAUSED = "paused"
    SENT = "sent"
    CANCELLED = "cancelled"


class IssueKind(enum.StrEnum):
    """What an issue is made of."""

    DIGEST = "digest"  # posts; each reader gets each once
    LETTER = "letter"  # words to all readers or to some; carries no post


class Kind(enum.StrEnum):
    """What a message is for; decides its lane and its headers."""

    CONFIRM = "confirm"
    WELCOME = "welcome"
    DIGEST = "digest"
    TEST = "test"
    ADDRESS = "address"  # confirm a new address
    DATA = "data"  # a link to one's own data
    ERASE = "erase"  # a link that erases
    NOTICE = "notice"  # to an editor


class MessageState(enum.StrEnum):
    """Whether a message's deliveries may be claimed."""

    OPEN = "open"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class DeliveryState(enum.StrEnum):
    """One line of the ledger; drawn in `mail/ledger.py`."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DEFERRED = "deferred"
    SENT = "sent"
    BOUNCED = "bounced"
    FAILED = "failed"
    SKIPPED = "skipped"
    COMPLAINED = "complained"


class Algorithm(enum.StrEnum):
    """What a DKIM key is made for: rsa-sha256 (2048 bits) or ed25519-sha256."""

    RSA = "rsa"
    ED25519 = "ed25519"


class Mode(enum.StrEnum):
    """How a newsletter's digests go out."""

    AUTOMATIC = "automatic"
    HELD = "held"  # made by themselves, sent when an editor says so
    HAND = "hand"


class OccurrenceState(enum.StrEnum):
    """What became of a moment at which a rhythm falls due."""

    WAITING = "waiting"
    SKIPPED = "skipped"
    EMPTY = "empty"  # there was nothing to send; `reason` says more
    ISSUED = "issued"


class VersionKind(enum.StrEnum):
    """How a version of a draft came to be."""

    SAVED = "saved"  # by an editor's wish
    AUTOSAVED = "autosaved"  # while they typed
    ASIDE = "aside"  # kept, but never in the draft: it would have replaced another's
    FOUND = "found"  # as it stood, written down before it was changed


class Role(enum.StrEnum):
    """What an editor may do for a newsletter: owner > editor > viewer."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


class ImportState(enum.StrEnum):
    """How far a file of readers has come."""

    RECEIVING = "receiving"  # still being uploaded
    READY = "ready"  # an editor says what its columns are
    CHECKING = "checking"  # a trial: nothing is written
    CHECKED = "checked"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


def states(kind: type[enum.StrEnum]) -> Enum:
    """Store a StrEnum as checked text, alike on both databases."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=True,
        length=20,
        name=kind.__name__.lower(),
        values_callable=lambda members: [member.value for member in members],
    )


Key = Annotated[int, mapped_column(primary_key=True)]
BigKey = Annotated[
    int,
    mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
]
Created = Annotated[datetime, mapped_column(UTCDateTime, default=utcnow)]
Name = Annotated[str, mapped_column(String(200))]
Url = Annotated[str, mapped_column(String(2000))]
Email = Annotated[str, mapped_column(String(320))]
Secret = Annotated[str, mapped_column(String(64))]
Words = Annotated[str, mapped_column(Text)]
Data = Annotated[dict[str, Any], mapped_column(JSON)]


class Newsletter(Base):
    """A publication: its name, its sender, its look and its habits."""

    __tablename__ = "newsletter"

    id: Mapped[Key]
    slug: Mapped[str] = mapped_column(String(63), unique=True)
    title: Mapped[Name]
    tagline: Mapped[Words] = mapped_column(default="")
    language: Mapped[str] = mapped_column(String(12), default="sv")
    languages: Mapped[list[str]] = mapped_column(JSON, default=list)  # readers' choice
    timezone: Mapped[str] = mapped_column(String(64), default="Europe/Stockholm")
    from_name: Mapped[Name]
    from_email: Mapped[Email]
    reply_to: Mapped[str] = mapped_column(String(320), default="")
    # Who is behind it; the postal address stands in every mail.
    publisher: Mapped[Name] = mapped_column(default="")
    about: Mapped[Words] = mapped_column(default="")
    postal_address: Mapped[Words] = mapped_column(default="")
    phone: Mapped[str] = mapped_column(String(60), default="")
    contact_email: Mapped[str] = mapped_column(String(320), default="")
    website: Mapped[Url] = mapped_column(default="")
    social: Mapped[list[dict[str, str]]] = mapped_column(JSON, default=list)
    privacy: Mapped[Words] = mapped_column(default="")  # Markdown; empty: our text
    accent: Mapped[str] = mapped_column(String(7), default="#8b2e24")
    # Rhythms as `rhythms.py` writes them, for instance "weekly:mon@08:00".
    rhythms: Mapped[list[str]] = mapped_column(JSON, default=list)
    default_rhythm: Mapped[str] = mapped_column(String(40), default="weekly:mon@08:00")
    mode: Mapped[Mode] = mapped_column(states(Mode), default=Mode.HAND)
    at_least: Mapped[int] = mapped_column(default=1)  # posts, else a digest waits
    at_most: Mapped[int] = mapped_column(default=0)  # shown whole; 0: all of them
    wait_days: Mapped[int] = mapped_column(default=0)  # for `at_least`; 0: no end
    quiet_days: Mapped[list[str]] = mapped_column(JSON, default=list)  # "sat", "sun"
    holidays: Mapped[list[str]] = mapped_column(JSON, default=list)  # "2026-12-24"
    holiday_country: Mapped[str] = mapped_column(String(2), default="")
    by_language: Mapped[bool] = mapped_column(default=False)
    halted_at: Mapped[datetime | None]  # a backup was restored: a person looks first
    record_network: Mapped[bool] = mapped_column(default=True)
    public_archive: Mapped[bool] = mapped_column(default=True)
    # On the start page and for search engines; else only for who has the address.
    listed: Mapped[bool] = mapped_column(default=True)
    hold_unknown: Mapped[bool] = mapped_column(default=False)  # else sent again
    posts_on_page: Mapped[int] = mapped_column(default=10)
    undo_seconds: Mapped[int] = mapped_column(default=30)  # after "Send"; 0: none
    # Whether a category that a feed has for the first time becomes a topic.
    new_topics: Mapped[bool] = mapped_column(default=True)
    last_position: Mapped[int] = mapped_column(default=0)  # of its newest post
    last_number: Mapped[int] = mapped_column(default=0)  # of its newest issue
    # What a blog calls when it has published, `/ping/<token>`; null: nobody may.
    ping_token: Mapped[str | None] = mapped_column(String(32), index=True, unique=True)
    pinged_at: Mapped[datetime | None]
    last_design: Mapped[int] = mapped_column(default=0)  # version; 0: as it comes
    # Whether who works with it needs a second factor.
    needs_factor: Mapped[bool] = mapped_column(default=False)
    # Whether the links of its mails lead through us, to be counted: never who.
    count_clicks: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[Created]

    design: Mapped["Design | None"] = relationship(
        primaryjoin=lambda: and_(
            Newsletter.id == foreign(Design.newsletter_id),
            Newsletter.last_design == foreign(Design.number),
        ),
        viewonly=True,
        uselist=False,
    )


class Logo(Base):
    """A picture at the top of a newsletter's mail; kept, because sent mail shows it."""

    __tablename__ = "logo"
    __table_args__ = (UniqueConstraint("newsletter_id", "digest"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    digest: Mapped[str] = mapped_column(String(64))  # of its bytes: its address
    kind: Mapped[str] = mapped_column(String(4))  # png, jpg
    width: Mapped[int]  # in pixels
    height: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[Created]


class Design(Base):
    """How a newsletter's mail looks and is worded: each save is a version."""

    __tablename__ = "design"
    __table_args__ = (UniqueConstraint("newsletter_id", "number"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    number: Mapped[int]
    theme: Mapped[str] = mapped_column(String(40))
    accent: Mapped[str] = mapped_column(String(7))
    logo_id: Mapped[int | None] = mapped_column(ForeignKey("logo.id"))
    dark_logo_id: Mapped[int | None] = mapped_column(ForeignKey("logo.id"))
    order: Mapped[list[str]] = mapped_column(JSON)  # all parts
    shown: Mapped[list[str]] = mapped_column(JSON)  # those of them that are
    words: Mapped[Data] = mapped_column(default=dict)  # language: {wording: text}
    restores: Mapped[int | None]  # the version it goes back to
    editor_id: Mapped[int | None] = mapped_column(
        ForeignKey("editor.id", ondelete="SET NULL"), index=True
    )
    created_at: Mapped[Created]

    logo: Mapped[Logo | None] = relationship(foreign_keys=[logo_id])
    dark_logo: Mapped[Logo | None] = relationship(foreign_keys=[dark_logo_id])
    editor: Mapped["Editor | None"] = relationship()


class DkimKey(Base):
    """A key that signs a newsletter's mail; its public half stands in the DNS."""

    __tablename__ = "dkim_key"
    __table_args__ = (UniqueConstraint("domain", "selector"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"), index=True)
    domain: Mapped[str] = mapped_column(String(253))  # d=
    selector: Mapped[str] = mapped_column(String(63))  # s=
    algorithm: Mapped[Algorithm] = mapped_column(states(Algorithm))
    private: Mapped[bytes] = mapped_column(LargeBinary)  # encrypted, `mail/keys.py`
    public: Mapped[Words]  # p= of the record, base64
    active: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[Created]


class NewsletterRelay(Base):
    """A newsletter's own relay, instead of the installation's."""

    __tablename__ = "newsletter_relay"

    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE"), primary_key=True
    )
    active: Mapped[bool] = mapped_column(default=True)  # else kept, and not used
    host: Mapped[str] = mapped_column(String(200))
    port: Mapped[int]
    security: Mapped[str] = mapped_column(String(10))  # plain | starttls | tls
    user: Mapped[str] = mapped_column(String(320), default="")
    password: Mapped[bytes] = mapped_column(LargeBinary)  # encrypted, `mail/keys.py`
    connections: Mapped[int]
    rate_per_second: Mapped[float] = mapped_column(default=0.0)  # 0: no limit
    per_day: Mapped[int] = mapped_column(default=0)  # 0: no limit
    warmup_from: Mapped[date | None]
    warmup_first: Mapped[int] = mapped_column(default=0)
    # Whether the installation's relays carry the mail while this one cannot be used.
    spare: Mapped[bool] = mapped_column(default=False)
    changed_at: Mapped[datetime]


class SenderFlaw(Base):
    """What the DNS lacked for a newsletter's sender when the clock last looked."""

    __tablename__ = "sender_flaw"

    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE"), primary_key=True
    )
    about: Mapped[str] = mapped_column(String(20), primary_key=True)  # SPF, DMARC, …
    domain: Mapped[str] = mapped_column(String(253))  # the sender's, at that time
    message: Mapped[Words]  # a message id
    message_values: Mapped[Data] = mapped_column(default=dict)
    looked_at: Mapped[datetime]


class Feed(Base):
    """Where posts come from."""

    __tablename__ = "feed"
    __table_args__ = (UniqueConstraint("newsletter_id", "url"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    url: Mapped[Url]  # or the path of a file
    title: Mapped[Name] = mapped_column(default="")  # as the feed calls itself
    paused: Mapped[bool] = mapped_column(default=False)  # by an editor
    gone: Mapped[bool] = mapped_column(default=False)  # it said so (410)
    etag: Mapped[str] = mapped_column(String(500), default="")
    last_modified: Mapped[str] = mapped_column(String(100), default="")
    checked_at: Mapped[datetime | None]
    new_at: Mapped[datetime | None]  # last time it had something new
    next_check_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)
    error: Mapped[Words] = mapped_column(default="")  # a message id
    error_values: Mapped[Data] = mapped_column(default=dict)
    error_status: Mapped[int] = mapped_column(default=0)  # HTTP's, where it answered
    told_at: Mapped[datetime | None]  # when the editors heard that it is broken
    # A permanent redirect: the address is changed when it has stood for a while.
    moved_to: Mapped[Url] = mapped_column(default="")
    moved_at: Mapped[datetime | None]
    created_at: Mapped[Created]


class FeedPush(Base):
    """A hub that is asked to bring a feed's news at once (WebSub)."""

    __tablename__ = "feed_push"

    feed_id: Mapped[int] = mapped_column(
        ForeignKey("feed.id", ondelete="CASCADE"), primary_key=True
    )
    hub: Mapped[Url]
    topic: Mapped[Url]  # the feed's address as the hub knows it
    token: Mapped[str] = mapped_column(String(32), unique=True)  # of our callback
    secret: Mapped[Secret]  # signs what is pushed
    asked_at: Mapped[datetime | None]  # null: nothing is being asked for
    lease_until: Mapped[datetime | None]  # null: the hub has not confirmed yet
    pushed_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime]
    failures: Mapped[int] = mapped_column(default=0)


class HubParting(Base):
    """A hub that is to be told that a feed's news is not wanted any more (WebSub)."""

    __tablename__ = "hub_parting"

    id: Mapped[Key]
    hub: Mapped[Url]
    topic: Mapped[Url]
    token: Mapped[str] = mapped_column(String(32), unique=True)  # of our callback
    asked_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime]
    failures: Mapped[int] = mapped_column(default=0)


class Author(Base):
    """Someone who writes posts; corrected once for all of them."""

    __tablename__ = "author"
    __table_args__ = (UniqueConstraint("newsletter_id", "name"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    name: Mapped[Name]  # as the feed writes it: the identity
    display_name: Mapped[Name] = mapped_column(default="")  # an editor's correction
    byline: Mapped[str] = mapped_column(String(300), default="")
    byline_fixed: Mapped[bool] = mapped_column(default=False)  # by an editor
    portrait_url: Mapped[Url] = mapped_column(default="")  # where it came from
    portrait_key: Mapped[str] = mapped_column(String(32), default="")  # of its picture

    @property
    def shown_name(self) -> str:
        """Return the name readers see."""
        return self.display_name or self.name

    @property
    def initials(self) -> str:
        """Return what stands where there is no portrait: "ÅÖ"."""
        words = [word for word in self.shown_name.split() if word[:1].isalnum()]
        return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper()

    @property
    def portrait(self) -> str:
        """Return the portrait's path on our own site, or nothing.

        `links.portrait_url` makes it a whole address.
        """
        return f"/portraits/{self.portrait_key}.jpg" if self.portrait_key else ""


class AuthorSpelling(Base):
    """Another way in which feeds write an author's name."""

    __tablename__ = "author_spelling"
    __table_args__ = (UniqueConstraint("newsletter_id", "name"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    name: Mapped[Name]
    author_id: Mapped[int] = mapped_column(
        ForeignKey("author.id", ondelete="CASCADE"), index=True
    )


class Portrait(Base):
    """An author's picture, small and square."""

    __tablename__ = "portrait"

    author_id: Mapped[int] = mapped_column(
        ForeignKey("author.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(32), index=True)  # a hash of the picture
    image: Mapped[bytes] = mapped_column(LargeBinary)  # JPEG


class Topic(Base):
    """A subject readers can choose."""

    __tablename__ = "topic"
    __table_args__ = (UniqueConstraint("newsletter_id", "slug"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    slug: Mapped[str] = mapped_column(String(80))
    name: Mapped[Name]
    hidden: Mapped[bool] = mapped_column(default=False)  # not offered, decides nothing
    place: Mapped[int] = mapped_column(default=0)  # from the top; alike: by name


class Category(Base):
    """What a feed calls a subject, and the topic that it counts as here.

    Topics that became part of another live on as categories of that one, so that
    addresses and segments that name them still lead somewhere.
    """

    __tablename__ = "category"
    __table_args__ = (UniqueConstraint("newsletter_id", "slug"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    slug: Mapped[str] = mapped_column(String(80))
    name: Mapped[Name]
    topic_id: Mapped[int | None] = mapped_column(
        ForeignKey("topic.id", ondelete="SET NULL"), index=True
    )


class PostCategory(Base):
    """A feed put a post into a category."""

    __tablename__ = "post_category"

    post_id: Mapped[int] = mapped_column(
        ForeignKey("post.id", ondelete="CASCADE"), primary_key=True
    )
    category_id: Mapped[int] = mapped_column(
        ForeignKey("category.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class PostTopic(Base):
    """A post is about a topic."""

    __tablename__ = "post_topic"

    post_id: Mapped[int] = mapped_column(
        ForeignKey("post.id", ondelete="CASCADE"), primary_key=True
    )
    topic_id: Mapped[int] = mapped_column(
        ForeignKey("topic.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Post(Base):
    """Something to read; `position` orders posts by when they could first be sent."""

    __tablename__ = "post"
    __table_args__ = (
        UniqueConstraint("newsletter_id", "position"),
        Index("ix_post_guid", "newsletter_id", "guid"),
        Index("ix_post_link_key", "newsletter_id", "link_key"),
        Index("ix_post_content_hash", "newsletter_id", "content_hash"),
        Index("ix_post_latest", "newsletter_id", "state", "published_at"),
        Index(
            "ix_post_publish_at",
            "publish_at",
            sqlite_where=text("publish_at IS NOT NULL"),
            postgresql_where=text("publish_at IS NOT NULL"),
        ),
    )

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    feed_id: Mapped[int | None] = mapped_column(
        ForeignKey("feed.id", ondelete="SET NULL"), index=True
    )
    author_id: Mapped[int | None] = mapped_column(
        ForeignKey("author.id", ondelete="SET NULL"), index=True
    )
    state: Mapped[PostState] = mapped_column(states(PostState))
    # Set when first published: newsletter.last_position + 1. Cursors compare to it.
    position: Mapped[int | None]
    guid: Mapped[str] = mapped_column(String(1000), default="")
    link: Mapped[Url] = mapped_column(default="")
    link_key: Mapped[str] = mapped_column(
        String(64), default=""
    )  # hash, canonical link
    content_hash: Mapped[str] = mapped_column(String(64), default="")
    title: Mapped[str] = mapped_column(String(500))
    excerpt: Mapped[Words] = mapped_column(default="")  # plain text, ends at a word
    html: Mapped[Words] = mapped_column(default="")  # sanitised
    markdown: Mapped[str | None] = mapped_column(Text)  # written here
    image_url: Mapped[Url] = mapped_column(default="")
    image_alt: Mapped[str] = mapped_column(String(500), default="")
    # What comes with it, as `entries.Enclosure` has it: an episode, a report.
    enclosures: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    language: Mapped[str] = mapped_column(String(12), default="")
    # A draft that publishes itself then: its feed dates it ahead.
    publish_at: Mapped[datetime | None]
    edited: Mapped[bool] = mapped_column(default=False)  # by hand: the feed gives way
    published_at: Mapped[datetime]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]

    author: Mapped[Author | None] = relationship(lazy="joined")


class Subscriber(Base):
    """A person's address."""

    __tablename__ = "subscriber"
    __table_args__ = (Index("ix_subscriber_hash", "wave", "address_hash"),)

    id: Mapped[Key]
    email: Mapped[Email]  # as they typed it (NFC; the domain as A-label)
    email_key: Mapped[str] = mapped_column(String(320), unique=True)  # casefolded
    address_hash: Mapped[str] = mapped_column(String(64))  # keyed
    # Hashes that were imported together stand together in their index.
    wave: Mapped[int] = mapped_column(default=0)
    name: Mapped[Name] = mapped_column(default="")
    created_at: Mapped[Created]


# As `ix_subscription_requested` has it, word by word.
AWAITED = "status = 'pending'"


class Subscription(Base):
    """A subscriber's bond to one newsletter."""

    __tablename__ = "subscription"
    __table_args__ = (
        UniqueConstraint("newsletter_id", "subscriber_id"),
        Index("ix_subscription_audience", "newsletter_id", "status", "language"),
        Index("ix_subscription_rhythm", "newsletter_id", "status", "rhythm", "cursor"),
        Index(
            "ix_subscription_requested",
            "requested_at",
            sqlite_where=text(AWAITED),
            postgresql_where=text(AWAITED),
        ),
        Index("ix_subscription_joined", "newsletter_id", "confirmed_at"),
        Index(
            "ix_subscription_gone",
            "newsletter_id",
            "left_at",
            sqlite_where=text("left_at IS NOT NULL"),
            postgresql_where=text("left_at IS NOT NULL"),
        ),
        Index(
            "ix_subscription_had",
            "newsletter_id",
            "had_until",
            sqlite_where=text("had_until > cursor"),
            postgresql_where=text("had_until > cursor"),
        ),
        Index("ix_subscription_newest", "newsletter_id", "status", "subscriber_id"),
    )

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    subscriber_id: Mapped[int] = mapped_column(
        ForeignKey("subscriber.id", ondelete="CASCADE"), index=True
    )
    status: Mapped[Status] = mapped_column(states(Status))
    language: Mapped[str] = mapped_column(String(12))
    rhythm: Mapped[str] = mapped_column(String(40))
    all_topics: Mapped[bool] = mapped_column(default=True)
    cursor: Mapped[int] = mapped_column(default=0)  # position of the last post sent
    # Up to here, of a subscription that took another over, the ledger knows more.
    had_until: Mapped[int] = mapped_column(default=0)
    # 22 random characters each, for ever; neither opens the other's door.
    leave_token: Mapped[str] = mapped_column(String(32), unique=True)
    preferences_token: Mapped[str] = mapped_column(String(32), unique=True)
    # Counts leavings: a confirmation link made in an earlier round is void.
    round: Mapped[int] = mapped_column(default=0)
    source: Mapped[str] = mapped_column(String(200), default="")
    requested_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    left_at: Mapped[datetime | None]
    paused_until: Mapped[datetime | None]
    created_at: Mapped[Created]

    subscriber: Mapped[Subscriber] = relationship(lazy="joined")
    newsletter: Mapped[Newsletter] = relationship()


class SavedSegment(Base):
    """Some of a newsletter's readers by a name; `text` is `digests/segments.py`'s."""

    __tablename__ = "segment"
    __table_args__ = (UniqueConstraint("newsletter_id", "name"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(String(80))
    text: Mapped[Words]
    readers: Mapped[int | None]  # when it was counted last
    counted_at: Mapped[datetime | None]
    created_at: Mapped[Created]


class Reckoning(Base):
    """A number of a large newsletter's readers, reckoned by the clock and dated."""

    __tablename__ = "reckoning"

    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(String(12), primary_key=True)  # `reckonings.py`
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    number: Mapped[int]
    counted_at: Mapped[datetime]


class FormerToken(Base):
    """A token of a subscription that became part of another: its mails still lead."""

    __tablename__ = "former_token"

    token: Mapped[str] = mapped_column(String(32), primary_key=True)
    opens: Mapped[str] = mapped_column(String(12))  # leave, preferences
    subscription_id: Mapped[int] = mapped_column(
        ForeignKey("subscription.id", ondelete="CASCADE"), index=True
    )


class SubscriptionTopic(Base):
    """A reader chose a topic (looked at only where `all_topics` is false)."""

    __tablename__ = "subscription_topic"

    subscription_id: Mapped[int] = mapped_column(
        ForeignKey("subscription.id", ondelete="CASCADE"), primary_key=True
    )
    topic_id: Mapped[int] = mapped_column(
        ForeignKey("topic.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Wording(Base):
    """A text someone was shown when they consented; stored once."""

    __tablename__ = "wording"

    id: Mapped[Key]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    language: Mapped[str] = mapped_column(String(12))
    text: Mapped[Words]


class Consent(Base):
    """One step of a consent: append-only."""

    __tablename__ = "consent"

    id: Mapped[BigKey]
    subscription_id: Mapped[int] = mapped_column(
        ForeignKey("subscription.id", ondelete="CASCADE"), index=True
    )
    # requested, confirmed, imported, changed, paused, left, returned, suppressed, …
    event: Mapped[str] = mapped_column(String(40))
    at: Mapped[Created]
    wording_id: Mapped[int | None] = mapped_column(ForeignKey("wording.id"))
    page: Mapped[Url] = mapped_column(default="")  # where it was done
    network: Mapped[str] = mapped_column(String(60), default="")  # truncated
    detail: Mapped[Data] = mapped_column(default=dict)


class Note(Base):
    """What an editor noted about a reader."""

    __tablename__ = "note"

    id: Mapped[BigKey]
    subscription_id: Mapped[int] = mapped_column(
        ForeignKey("subscription.id", ondelete="CASCADE"), index=True
    )
    text: Mapped[Words]
    written_by: Mapped[Email]  # the editor's address then
    created_at: Mapped[Created]
    removed_at: Mapped[datetime | None] = mapped_column(index=True)  # gone in an hour


class Suppression(Base):
    """An address that is not to be mailed; only its keyed hash is kept."""

    __tablename__ = "suppression"
    __table_args__ = (
        UniqueConstraint("address_hash", "newsletter_id"),
        Index(
            "uq_suppression_everywhere",
            "address_hash",
            unique=True,
            sqlite_where=text("newsletter_id IS NULL"),
            postgresql_where=text("newsletter_id IS NULL"),
        ),
    )

    id: Mapped[Key]
    address_hash: Mapped[str] = mapped_column(String(64))
    newsletter_id: Mapped[int | None] = mapped_column(
        ForeignKey("newsletter.id")
    )  # null: every newsletter
    reason: Mapped[str] = mapped_column(String(40))  # never, erased, bounced, …
    note: Mapped[Words] = mapped_column(default="")
    created_at: Mapped[Created]


class ImportRun(Base):
    """A file of readers that an editor uploaded, and how far it has come."""

    __tablename__ = "import_run"

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE"), index=True
    )
    editor_id: Mapped[int | None] = mapped_column(
        ForeignKey("editor.id", ondelete="SET NULL"), index=True
    )
    state: Mapped[ImportState] = mapped_column(states(ImportState), index=True)
    file_name: Mapped[Name]
    # One for each file in it: name, heading, fields, system, whole, lines.
    sheets: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    consent: Mapped[Words] = mapped_column(default="")  # where it comes from
    asks: Mapped[bool] = mapped_column(default=False)  # each is asked by mail first
    lines: Mapped[int] = mapped_column(default=0)
    done: Mapped[int] = mapped_column(default=0)  # of them
    chunk: Mapped[int] = mapped_column(default=0)  # the next one's number
    place: Mapped[int] = mapped_column(default=0)  # the next line in it
    counts: Mapped[Data] = mapped_column(default=dict)
    started_at: Mapped[datetime | None]  # in its rows too: see `importing.py`
    finished_at: Mapped[datetime | None]
    created_at: Mapped[Created]

    editor: Mapped["Editor | None"] = relationship()


class ImportChunk(Base):
    """Some thousand lines of an uploaded file; emptied when they have been imported."""

    __tablename__ = "import_chunk"

    run_id: Mapped[int] = mapped_column(
        ForeignKey("import_run.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    sheet: Mapped[int]  # in the run's list
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    problems: Mapped[list[list[Any]]] = mapped_column(JSON, default=list)


class ImportKey(Base):
    """A piece of the hash of an address that a trial has met, to know it again."""

    __tablename__ = "import_key"

    run_id: Mapped[int] = mapped_column(
        ForeignKey("import_run.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(16), primary_key=True)


class Rate(Base):
    """How often something happened in one minute; keys are keyed hashes."""

    __tablename__ = "rate"

    key: Mapped[str] = mapped_column(String(80), primary_key=True)
    minute: Mapped[int] = mapped_column(primary_key=True, index=True)  # since the epoch
    count: Mapped[int]


class Issue(Base):
    """Posts chosen to go out together, or a letter, and how that went."""

    __tablename__ = "issue"
    __table_args__ = (
        UniqueConstraint("newsletter_id", "number"),
        Index("ix_issue_state", "state"),
    )

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    kind: Mapped[IssueKind] = mapped_column(states(IssueKind), default=IssueKind.DIGEST)
    # Which readers a letter goes to, as `digests/segments.py` writes it; empty: all.
    segment: Mapped[Words] = mapped_column(default="")
    language: Mapped[str] = mapped_column(String(12), default="")  # a letter's own
    number: Mapped[int | None]  # given when it is frozen
    state: Mapped[IssueState] = mapped_column(states(IssueState))
    subject: Mapped[str] = mapped_column(String(300), default="")  # empty: made for it
    preview_text: Mapped[str] = mapped_column(String(300), default="")
    opening: Mapped[Words] = mapped_column(default="")  # Markdown; a letter's whole
    # Whose: those of a rhythm, as it fell due, or everybody.
    rhythm: Mapped[str] = mapped_column(String(40), default="")
    picked: Mapped[bool] = mapped_column(default=False)  # posts out of their turn
    held_reason: Mapped[Words] = mapped_column(default="")  # a message id
    held_values: Mapped[Data] = mapped_column(default=dict)  # what stands in it
    after_position: Mapped[int] = mapped_column(default=0)  # posts in (after, last]
    last_position: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    listed: Mapped[bool] = mapped_column(default=True)  # in the public archive
    version: Mapped[int] = mapped_column(default=0)  # of `draft_version`, in use
    scheduled_at: Mapped[datetime | None]
    # An editor has sent it; it is scheduled only so that they can undo that till then.
    undoable: Mapped[bool] = mapped_column(default=False)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    created_by: Mapped[int | None] = mapped_column(
        ForeignKey("editor.id", ondelete="SET NULL")
    )
    created_at: Mapped[Created]

    newsletter: Mapped[Newsletter] = relationship()
    posts: Mapped[list["IssuePost"]] = relationship(
        order_by="IssuePost.place", cascade="all, delete-orphan"
    )


class IssueReport(Base):
    """What became of an issue, in sums that the clock keeps (`digests/reports.py`)."""

    __tablename__ = "issue_report"

    issue_id: Mapped[int] = mapped_column(
        ForeignKey("issue.id", ondelete="CASCADE"), primary_key=True
    )
    readers: Mapped[int]
    delivered: Mapped[int]
    deferred: Mapped[int]
    bounced: Mapped[int]
    failed: Mapped[int]
    skipped: Mapped[int]
    complained: Mapped[int]
    left: Mapped[int]
    # [state, reason, readers], the commonest first.
    reasons: Mapped[list[Any]] = mapped_column(JSON, default=list)
    passed_at: Mapped[datetime | None]  # when those who took it at once had it
    counted_at: Mapped[datetime]
    next_at: Mapped[datetime | None]  # null: not again

    issue: Mapped[Issue] = relationship()


class CountedLink(Base):
    """An address in an issue's mails that is reached through us; alike for all."""

    __tablename__ = "counted_link"
    __table_args__ = (UniqueConstraint("issue_id", "place"),)

    id: Mapped[BigKey]
    issue_id: Mapped[int] = mapped_column(ForeignKey("issue.id", ondelete="CASCADE"))
    place: Mapped[int]  # in the mail, from 0
    token: Mapped[str] = mapped_column(String(12), unique=True)  # of our address
    url: Mapped[Url]  # where it leads
    words: Mapped[str] = mapped_column(String(300), default="")  # what it says


class LinkClicks(Base):
    """How often a link was opened on a day: nothing finer, and never by whom."""

    __tablename__ = "link_clicks"

    link_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("counted_link.id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[date] = mapped_column(primary_key=True)  # the newsletter's
    clicks: Mapped[int] = mapped_column(default=0)
    machines: Mapped[int] = mapped_column(default=0)  # likely so; not in `clicks`


class IssuePost(Base):
    """A post in an issue, at a place, perhaps in other words."""

    __tablename__ = "issue_post"

    issue_id: Mapped[int] = mapped_column(
        ForeignKey("issue.id", ondelete="CASCADE"), primary_key=True
    )
    post_id: Mapped[int] = mapped_column(
        ForeignKey("post.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    place: Mapped[int]
    hidden: Mapped[bool] = mapped_column(default=False)
    featured: Mapped[bool] = mapped_column(default=False)  # first and larger; one
    title: Mapped[str] = mapped_column(String(500), default="")  # empty: the post's
    excerpt: Mapped[Words] = mapped_column(default="")

    post: Mapped[Post] = relationship(lazy="joined")


class DraftVersion(Base):
    """What a draft said: each save is one, and with age they are thinned."""

    __tablename__ = "draft_version"
    __table_args__ = (UniqueConstraint("issue_id", "number"),)

    id: Mapped[Key]
    issue_id: Mapped[int] = mapped_column(ForeignKey("issue.id", ondelete="CASCADE"))
    number: Mapped[int]
    kind: Mapped[VersionKind] = mapped_column(states(VersionKind))
    words: Mapped[Data]  # as `digests/versions.py` writes them
    sitting: Mapped[str] = mapped_column(String(32), default="")  # one open page
    restores: Mapped[int | None]  # the version it goes back to
    editor_id: Mapped[int | None] = mapped_column(
        ForeignKey("editor.id", ondelete="SET NULL"), index=True
    )
    created_at: Mapped[Created]

    editor: Mapped["Editor | None"] = relationship()


class Schedule(Base):
    """How far a rhythm of a newsletter has been dealt with; its row is the lock."""

    __tablename__ = "schedule"

    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE"), primary_key=True
    )
    rhythm: Mapped[str] = mapped_column(String(40), primary_key=True)
    until: Mapped[datetime]


class Occurrence(Base):
    """A moment of a rhythm that is over, or that an editor changed."""

    __tablename__ = "occurrence"
    __table_args__ = (UniqueConstraint("newsletter_id", "rhythm", "due_at"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE")
    )
    rhythm: Mapped[str] = mapped_column(String(40))
    due_at: Mapped[datetime]  # as the rhythm says
    at: Mapped[datetime | None]  # where an editor moved it
    state: Mapped[OccurrenceState] = mapped_column(states(OccurrenceState))
    reason: Mapped[Words] = mapped_column(default="")  # a message id
    issue_id: Mapped[int | None] = mapped_column(
        ForeignKey("issue.id", ondelete="SET NULL"), index=True
    )


class Postponed(Base):
    """A reader who is to get an issue once an earlier one is settled for them."""

    __tablename__ = "postponed"

    subscription_id: Mapped[int] = mapped_column(
        ForeignKey("subscription.id", ondelete="CASCADE"), primary_key=True
    )
    issue_id: Mapped[int] = mapped_column(
        ForeignKey("issue.id", ondelete="CASCADE"), index=True
    )


class Retry(Base):
    """Bounced and failed deliveries of an issue that somebody had tried again."""

    __tablename__ = "retry"

    id: Mapped[Key]
    issue_id: Mapped[int] = mapped_column(
        ForeignKey("issue.id", ondelete="CASCADE"), index=True
    )
    reasons: Mapped[list[str]] = mapped_column(
        JSON
    )  # as deliveries have them; "": none
    who: Mapped[Name]  # an editor's name or address; "" from the command line
    readers: Mapped[int] = mapped_column(default=0)  # queued so far
    after: Mapped[str] = mapped_column(String(120), default="")  # where it goes on
    finished_at: Mapped[datetime | None]
    created_at: Mapped[Created]


class Picture(Base):
    """A picture that letters show, under an address made of its content."""

    __tablename__ = "picture"
    __table_args__ = (UniqueConstraint("newsletter_id", "digest"),)

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(ForeignKey("newsletter.id"))
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of `content`, in hex
    format: Mapped[str] = mapped_column(String(8))  # jpeg, png, gif
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[Created]


class LinkCheck(Base):
    """What an address in a mail answered, the last time it was asked."""

    __tablename__ = "link_check"

    url_hash: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256
    url: Mapped[Url]
    status: Mapped[int] = mapped_column(default=0)  # HTTP's; 0: no answer
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)  # 0: not said
    unasked: Mapped[bool] = mapped_column(default=False)  # it could not be asked
    checked_at: Mapped[datetime] = mapped_column(index=True)


class OutsideCheck(Base):
    """What others said of an issue before it was sent: DNS, SpamAssassin."""

    __tablename__ = "outside_check"

    issue_id: Mapped[int] = mapped_column(
        ForeignKey("issue.id", ondelete="CASCADE"), primary_key=True
    )
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    checked_at: Mapped[datetime]


class Message(Base):
    """The words shared by everyone who gets exactly the same mail."""

    __tablename__ = "message"
    __table_args__ = (
        Index("ix_message_state", "state", "lane"),
        Index(
            "uq_message_view_token",
            "view_token",
            unique=True,
            sqlite_where=text("view_token IS NOT NULL"),
            postgresql_where=text("view_token IS NOT NULL"),
        ),
    )

    id: Mapped[BigKey]
    kind: Mapped[Kind] = mapped_column(states(Kind))
    state: Mapped[MessageState] = mapped_column(
        states(MessageState), default=MessageState.OPEN
    )
    lane: Mapped[int] = mapped_column(default=0)  # 0: single mails, first; 1: bulk
    newsletter_id: Mapped[int | None] = mapped_column(
        ForeignKey("newsletter.id"), index=True
    )
    issue_id: Mapped[int | None] = mapped_column(
        ForeignKey("issue.id", ondelete="CASCADE"), index=True
    )
    edition: Mapped[str] = mapped_column(String(80), default="")  # what sets it apart
    language: Mapped[str] = mapped_column(String(12))
    subject: Mapped[str] = mapped_column(String(500))
    sender: Mapped[Email]  # envelope sender
    nonce: Mapped[str] = mapped_column(String(32))  # in every Message-ID of it
    preview_text: Mapped[Words] = mapped_column(default="")
    # Opens the edition in a browser; the same for all its readers.
    view_token: Mapped[str | None] = mapped_column(String(32))
    html: Mapped[Words] = mapped_column(default="")  # with fields, as `mime.py` marks
    text: Mapped[Words] = mapped_column(default="")
    frozen: Mapped[bytes] = mapped_column(LargeBinary)  # `mime.Frozen`, packed
    size_bytes: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[Created]


class MessagePost(Base):
    """A post that stands in an edition."""

    __tablename__ = "message_post"

    message_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("message.id", ondelete="CASCADE"), primary_key=True
    )
    post_id: Mapped[int] = mapped_column(
        ForeignKey("post.id", ondelete="CASCADE"), primary_key=True, index=True
    )


# As `ix_delivery_unusual` and `ix_delivery_again` have them, word by word: a query that
# means to use one must say the same.
UNUSUAL = "state NOT IN ('queued', 'sent')"
AGAIN = "state = 'queued' AND next_attempt_at IS NOT NULL"


class Delivery(Base):
    """One line of the ledger: one message, one address, one state."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("occasion", "address"),
        # No index is about `queued` and `sent` alone, so that sending touches none.
        Index("ix_delivery_message_id", "message_id", "id"),
        Index("ix_delivery_subscription_id", "subscription_id", "message_id"),
        Index(
            "ix_delivery_unusual",
            "message_id",
            "state",
            "reason",
            "id",
            "address",
            sqlite_where=text(UNUSUAL),
            postgresql_where=text(UNUSUAL),
        ),
        Index(
            "ix_delivery_again",
            "message_id",
            "id",
            sqlite_where=text(AGAIN),
            postgresql_where=text(AGAIN),
        ),
        Index(
            "ix_delivery_single",
            "id",
            sqlite_where=text("lane = 0 AND state = 'queued'"),
            postgresql_where=text("lane = 0 AND state = 'queued'"),
        ),
        Index(
            "ix_delivery_deferred",
            "next_attempt_at",
            sqlite_where=text("state = 'deferred'"),
            postgresql_where=text("state = 'deferred'"),
        ),
        Index(
            "ix_delivery_resent",
            "message_id",
            sqlite_where=text("resent IS 1"),
            postgresql_where=text("resent IS true"),
        ),
        Index(
            "ix_delivery_lease",
            "lease_until",
            sqlite_where=text("state = 'claimed'"),
            postgresql_where=text("state = 'claimed'"),
        ),
        CheckConstraint("attempts >= 0", name="attempts"),
    )

    id: Mapped[BigKey]
    message_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("message.id", ondelete="CASCADE")
    )
    subscription_id: Mapped[int | None] = mapped_column(
        ForeignKey("subscription.id", ondelete="SET NULL")
    )
    occasion: Mapped[str] = mapped_column(String(80))  # "issue:12", "confirm:55:…"
    address: Mapped[Email]
    lane: Mapped[int] = mapped_column(default=0)  # the message's, for the index
    state: Mapped[DeliveryState] = mapped_column(
        states(DeliveryState), default=DeliveryState.QUEUED
    )
    attempts: Mapped[int] = mapped_column(default=0)  # since it was (last) queued anew
    resent: Mapped[bool] = mapped_column(default=False)  # unknown after a crash
    worker: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]  # queued: claimed before, was due then
    settled_at: Mapped[datetime | None]
    reply: Mapped[str | None] = mapped_column(Text)  # "550 5.1.1 No such user"
    reason: Mapped[str | None] = mapped_column(String(60))  # why skipped or bounced
    created_at: Mapped[Created]


class ClaimMark(Base):
    """Up to which delivery an issue has been claimed."""

    __tablename__ = "claim_mark"

    message_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("message.id", ondelete="CASCADE"), primary_key=True
    )
    last_id: Mapped[int] = mapped_column(BigInteger, default=0)  # of a delivery
    passed: Mapped[int] = mapped_column(default=0, server_default="0")  # up to there


class Lease(Base):
    """A worker's claim to a message's deliveries from one id to another."""

    __tablename__ = "lease"

    id: Mapped[BigKey]
    message_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("message.id", ondelete="CASCADE"), index=True
    )
    first_id: Mapped[int] = mapped_column(BigInteger)
    last_id: Mapped[int] = mapped_column(BigInteger)
    worker: Mapped[str] = mapped_column(String(64))
    lease_until: Mapped[datetime]


class RelayHealth(Base):
    """Why a relay is not being used just now."""

    __tablename__ = "relay_health"

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    blocked_until: Mapped[datetime | None]
    reason: Mapped[Words] = mapped_column(default="")
    updated_at: Mapped[Created]


class RelayBudget(Base):
    """What a relay may still take: one row that all workers on all hosts draw on.

    Times are seconds since 1970, so that both databases reckon with them alike.
    """

    __tablename__ = "relay_budget"

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    day: Mapped[int] = mapped_column(default=0)  # since 1970, in UTC
    used_today: Mapped[int] = mapped_column(default=0)
    credit: Mapped[float] = mapped_column(default=0.0)  # messages that may go at once
    credited_at: Mapped[float] = mapped_column(default=0.0)
    granted: Mapped[int] = mapped_column(default=0)  # the last time somebody asked


class Destination(Base):
    """Domains of one provider that asked a relay to slow down."""

    __tablename__ = "destination"

    relay: Mapped[str] = mapped_column(String(300), primary_key=True)
    domain: Mapped[str] = mapped_column(String(255), primary_key=True)
    held_until: Mapped[datetime]
    strikes: Mapped[int] = mapped_column(default=0)  # within a day
    reply: Mapped[Words] = mapped_column(default="")  # what it said
    updated_at: Mapped[Created]


class RelayTrust(Base):
    """What a relay offers and does not keep, so that it is not asked for again."""

    __tablename__ = "relay_trust"

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    pipelining: Mapped[bool] = mapped_column(default=True)
    chunking: Mapped[bool] = mapped_column(default=True)
    learnt_at: Mapped[Created]


class Worker(Base):
    """A process that is sending; its rate and when it was last seen."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    started_at: Mapped[Created]
    seen_at: Mapped[Created]
    rate_per_second: Mapped[float] = mapped_column(default=0.0)
    # By whose relays it sends: a newsletter's own; 0: the installation's.
    pool: Mapped[int] = mapped_column(default=0)


class Job(Base):
    """Something the clock does; claimed by conditional update, so that it runs once."""

    __tablename__ = "job"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    due_at: Mapped[datetime]
    ran_at: Mapped[datetime | None]
    error: Mapped[Words] = mapped_column(default="")


class UsedLink(Base):
    """A single-use link that has been used."""

    __tablename__ = "used_link"

    nonce: Mapped[str] = mapped_column(String(64), primary_key=True)
    used_at: Mapped[Created]


class Editor(Base, UserMixin):
    """Someone who works with newsletters; the fields are Flask-Security's."""

    __tablename__ = "editor"

    id: Mapped[Key]
    email: Mapped[Email] = mapped_column(unique=True)
    name: Mapped[Name] = mapped_column(default="")
    language: Mapped[str] = mapped_column(String(12), default="sv")
    password: Mapped[str | None] = mapped_column(String(255))
    active: Mapped[bool] = mapped_column(default=True)
    fs_uniquifier: Mapped[Secret] = mapped_column(unique=True)
    fs_webauthn_user_handle: Mapped[str | None] = mapped_column(  # type: ignore[assignment]
        String(64), unique=True
    )
    confirmed_at: Mapped[datetime | None]
    invite_nonce: Mapped[str] = mapped_column(String(32), default="")
    tf_primary_method: Mapped[str | None] = mapped_column(String(64))
    tf_totp_secret: Mapped[str | None] = mapped_column(String(255))
    tf_phone_number: Mapped[str | None] = mapped_column(String(128))
    mf_recovery_codes: Mapped[list[str] | None] = mapped_column(
        MutableList.as_mutable(AsaList()), nullable=True
    )
    test_addresses: Mapped[list[str]] = mapped_column(JSON, default=list)  # last used
    created_at: Mapped[Created]

    # Flask-Security asks for `roles`; ours are per newsletter.
    roles: Mapped[list["Membership"]] = relationship(  # type: ignore[assignment]
        back_populates="editor", cascade="all, delete-orphan"
    )
    webauthn: Mapped[list["WebAuthn"]] = relationship(  # type: ignore[assignment]
        back_populates="user", cascade="all, delete-orphan"
    )


class Membership(Base, RoleMixin):
    """An editor's role for a newsletter, or for all of them."""

    __tablename__ = "membership"
    __table_args__ = (UniqueConstraint("editor_id", "newsletter_id"),)

    id: Mapped[Key]
    editor_id: Mapped[int] = mapped_column(ForeignKey("editor.id", ondelete="CASCADE"))
    newsletter_id: Mapped[int | None] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE"), index=True
    )  # null: every newsletter
    name: Mapped[Role] = mapped_column(states(Role))

    editor: Mapped[Editor] = relationship(back_populates="roles")


class WebAuthn(Base, WebAuthnMixin):
    """An editor's passkey; the fields are Flask-Security's."""

    __tablename__ = "webauthn"

    id: Mapped[Key]
    user_id: Mapped[int] = mapped_column(
        ForeignKey("editor.id", ondelete="CASCADE"), index=True
    )
    credential_id: Mapped[bytes] = mapped_column(
        LargeBinary(1024), index=True, unique=True
    )
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(default=0)
    transports: Mapped[list[str] | None] = mapped_column(
        MutableList.as_mutable(AsaList()), nullable=True
    )
    backup_state: Mapped[bool]
    device_type: Mapped[str] = mapped_column(String(64))
    extensions: Mapped[str | None] = mapped_column(String(255))
    create_datetime: Mapped[Created]
    lastuse_datetime: Mapped[Created]
    name: Mapped[str] = mapped_column(String(64))
    usage: Mapped[str] = mapped_column(String(64))

    user: Mapped[Editor] = relationship(back_populates="webauthn")


class EditorSession(Base):
    """A browser in which an editor is logged in; without its row it no longer is."""

    __tablename__ = "editor_session"

    id: Mapped[Key]
    number: Mapped[Secret] = mapped_column(unique=True)
    editor_id: Mapped[int] = mapped_column(
        ForeignKey("editor.id", ondelete="CASCADE"), index=True
    )
    browser: Mapped[str] = mapped_column(String(300), default="")  # as it calls itself
    network: Mapped[str] = mapped_column(String(60), default="")  # truncated
    started_at: Mapped[Created] = mapped_column(index=True)
    seen_at: Mapped[Created]


class AuditEntry(Base):
    """Who changed what, and how it was before; written by `audit.py` alone."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_newsletter_id", "newsletter_id", "id"),
        Index("ix_audit_editor_id", "newsletter_id", "editor_id", "id"),
        Index("ix_audit_kind", "newsletter_id", "kind", "id"),
        Index("ix_audit_subject_id", "kind", "subject_id", "id"),
        Index("ix_audit_at", "at", "id"),
    )

    id: Mapped[BigKey]
    at: Mapped[Created]
    newsletter_id: Mapped[int | None] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE")
    )  # null: it belongs to none
    editor_id: Mapped[int | None] = mapped_column(
        ForeignKey("editor.id", ondelete="SET NULL")
    )  # null: a command
    who: Mapped[Email]  # their address then, or the command
    what: Mapped[str] = mapped_column(String(40))  # created, changed, removed, …
    kind: Mapped[str] = mapped_column(String(40))
    subject_id: Mapped[int | None] = mapped_column(BigInteger)
    label: Mapped[str] = mapped_column(String(300), default="")
    before: Mapped[Data] = mapped_column(default=dict)
    after: Mapped[Data] = mapped_column(default=dict)


class Undo(Base):
    """How something was before an editor changed or removed it; kept for an hour."""

    __tablename__ = "undo"

    id: Mapped[Key]
    newsletter_id: Mapped[int] = mapped_column(
        ForeignKey("newsletter.id", ondelete="CASCADE"), index=True
    )
    editor_id: Mapped[int] = mapped_column(
        ForeignKey("editor.id", ondelete="CASCADE"), index=True
    )
    role: Mapped[Role] = mapped_column(states(Role))  # what undoing it needs
    kind: Mapped[str] = mapped_column(String(40))
    data: Mapped[Data] = mapped_column(default=dict)  # as `web/workspace/undo.py` reads
    offered_at: Mapped[Created] = mapped_column(index=True)
    undone_at: Mapped[datetime | None]
