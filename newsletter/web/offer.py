"""What readers are told before they say yes: on the form, and where they confirm.

The very same words go into the consent record.
"""

from dataclasses import dataclass

from newsletter import rhythms
from newsletter.errors import N_
from newsletter.i18n import Language
from newsletter.models import Newsletter, Subscription
from newsletter.subscribers.addresses import readable
from newsletter.subscribers.choices import offered_rhythms

PROMISES = {
    "each": N_("One email for each new post."),
    "daily": N_("One email when there is something new, at most once a day."),
    "weekly": N_("One email when there is something new, at most once a week."),
    "monthly": N_("One email when there is something new, at most once a month."),
}


@dataclass(frozen=True, slots=True)
class Offer:
    """The words on the form, in one language."""

    heading: str
    promise: str
    label: str
    button: str
    privacy: str

    @classmethod
    def of(cls, newsletter: Newsletter, words: Language) -> "Offer":
        """Write the offer of a newsletter: what you get, and how often."""
        kind = rhythms.parse(newsletter.default_rhythm).kind
        promise = words.gettext(PROMISES[kind])
        if len(offered_rhythms(newsletter)) > 1:
            promise += " " + words.gettext("You decide how often.")
        return cls(
            heading=words.gettext("Get new posts in your inbox"),
            promise=promise,
            label=words.gettext("Your email address"),
            button=words.gettext("Subscribe"),
            privacy=words.gettext(
                "We first send an email for you to confirm. We do not track what you"
                " read, and you unsubscribe with one click."
            ),
        )

    @property
    def wording(self) -> str:
        """Return everything that stood there, for the record."""
        lines = (self.heading, self.promise, self.label, self.privacy, self.button)
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Request:
    """The words on the page where a reader confirms, in one language."""

    heading: str
    text: str
    button: str

    @classmethod
    def of(cls, subscription: Subscription, words: Language) -> "Request":
        """Write what this reader says yes to."""
        return cls(
            heading=words.gettext("One click and you’re in"),
            text=words.gettext(
                "New posts from %(title)s will then come to %(email)s.",
                email=readable(subscription.subscriber.email),
                title=subscription.newsletter.title,
            ),
            button=words.gettext("Yes, send me new posts"),
        )

    def wording(self, email: str) -> str:
        """Return everything that stood there, without whose address it was."""
        lines = (self.heading, self.text.replace(email, "…"), self.button)
        return "\n".join(lines)
