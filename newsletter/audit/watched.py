"""Which tables the audit log is about, and how their changes are told.

Every table stands either in WATCHED or, with the reason, in NOT_WATCHED; a test fails
for one that stands in neither.
"""

from dataclasses import dataclass
from functools import cached_property

from newsletter.db import Base
from newsletter.models import (
    Author,
    AuthorSpelling,
    Category,
    Design,
    DkimKey,
    Editor,
    Feed,
    Issue,
    IssuePost,
    Logo,
    Membership,
    Newsletter,
    NewsletterRelay,
    Occurrence,
    Picture,
    Portrait,
    Post,
    PostTopic,
    SavedSegment,
    Subscriber,
    Subscription,
    Suppression,
    Topic,
    WebAuthn,
)


@dataclass(frozen=True)
class Watched:
    """How changes of a table are told."""

    kind: str  # what it is about, as the pages call it
    about: str = "id"  # the column with the number of what it is about
    label: str = ""  # the column with its name
    own: bool = True  # a thing of its own; else a part of what it is about
    part: str = ""  # the column that tells a part from the others
    part_word: str = ""  # what such a part is
    newsletter: str = "newsletter_id"
    quiet: frozenset[str] = frozenset()  # columns that follow from other changes
    private: frozenset[str] = frozenset()  # columns whose content is not told
    writing: frozenset[str] = frozenset()  # columns that are saved while one writes

    @cached_property
    def untold(self) -> frozenset[str]:
        """Return the columns that are not told: they say what it is, or follow."""
        return self.quiet | {
            *("id", "created_at", "editor_id", "created_by"),
            *(self.newsletter, self.about, self.part),
        }


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


WATCHED: dict[type[Base], Watched] = {
    Newsletter: Watched(
        "newsletter",
        label="title",
        newsletter="id",
        quiet=_names("last_position last_number last_design pinged_at"),
    ),
    Design: Watched("design", label="number"),
    Logo: Watched(
        "design", about="newsletter_id", own=False, part="digest", part_word="logo"
    ),
    DkimKey: Watched("dkim_key", label="domain"),
    NewsletterRelay: Watched(
        "relay",
        about="newsletter_id",
        label="host",
        quiet=_names("changed_at"),
        private=_names("user password"),
    ),
    Feed: Watched(
        "feed",
        label="url",
        quiet=_names(
            "title gone etag last_modified checked_at new_at next_check_at"
            " failing_since failures error error_values error_status told_at moved_to"
            " moved_at"
        ),
    ),
    Author: Watched("author", label="name", quiet=_names("portrait_key")),
    AuthorSpelling: Watched(
        "author", about="author_id", own=False, part="name", part_word="spelling"
    ),
    Portrait: Watched("author", about="author_id", own=False, quiet=_names("key")),
    Topic: Watched("topic", label="name"),
    Category: Watched("category", label="name"),
    Post: Watched(
        "post",
        label="title",
        quiet=_names("position guid link_key content_hash updated_at edited"),
        writing=_names("title excerpt html markdown link language"),
    ),
    PostTopic: Watched(
        "post", about="post_id", own=False, part="topic_id", part_word="topic"
    ),
    Picture: Watched("picture", label="digest"),
    Issue: Watched(
        "issue",
        label="subject",
        quiet=_names("after_position last_position version"),
        writing=_names("subject preview_text opening segment"),
    ),
    IssuePost: Watched(
        "issue",
        about="issue_id",
        own=False,
        part="post_id",
        part_word="post",
        writing=_names("place hidden featured title excerpt"),
    ),
    Occurrence: Watched("occurrence", label="rhythm"),
    SavedSegment: Watched("segment", label="name", quiet=_names("readers counted_at")),
    Subscriber: Watched(
        "reader", quiet=_names("wave"), private=_names("email email_key name")
    ),
    Subscription: Watched(
        "reader",
        about="subscriber_id",
        quiet=_names("cursor had_until round subscriber_id"),
        private=_names("source"),
    ),
    Suppression: Watched("suppression", private=_names("note")),
    Editor: Watched(
        "editor",
        label="email",
        quiet=_names(
            "fs_uniquifier fs_webauthn_user_handle invite_nonce test_addresses"
        ),
        private=_names("tf_phone_number"),
    ),
    Membership: Watched("membership", about="editor_id"),
    WebAuthn: Watched(
        "editor",
        about="user_id",
        own=False,
        part="name",
        part_word="passkey",
        quiet=_names(
            "sign_count lastuse_datetime backup_state credential_id transports"
            " extensions device_type"
        ),
    ),
}

# What is in no entry, and why.
NOT_WATCHED = {
    "audit": "the log itself",
    "feed_push": "what hubs agreed to, kept up by the clock",
    "hub_parting": "what hubs are still to be told, kept up by the clock",
    "link_check": "what addresses in mails answered",
    "outside_check": "what others said of an issue",
    "post_category": "what feeds say",
    "subscription_topic": "readers' own choices",
    "former_token": "follows from merging readers",
    "wording": "the texts of consents, append-only",
    "consent": "readers' own acts, append-only",
    "rate": "limits",
    "undo": "how to take back what the log has already",
    "schedule": "how far the clock has come",
    "postponed": "follows from sending",
    "retry": "says itself who asked for it, on the page of the issue",
    "message": "follows from sending",
    "message_post": "follows from sending",
    "delivery": "the ledger",
    "claim_mark": "the ledger",
    "lease": "the ledger",
    "relay_health": "what workers learn",
    "relay_budget": "what workers learn",
    "relay_trust": "what workers learn",
    "destination": "what workers learn",
    "worker": "what workers say",
    "job": "the clock",
    "draft_version": "what drafts said; their own rows tell of it",
    "editor_session": "that somebody logged in; ending another's is noted",
    "used_link": "links that were used",
    "reckoning": "counts, kept up by the clock",
    "import_run": "noted when readers are imported",
    "import_chunk": "uploaded files, gone within a week",
    "import_key": "what a trial has met",
    "sender_flaw": "what the clock sees in the DNS",
    "note": "say themselves who wrote them, and go when a reader is erased",
    "issue_report": "counts, kept up by the clock",
    "counted_link": "follows from sending",
    "link_clicks": "counts of what readers open, nobody's in particular",
}
