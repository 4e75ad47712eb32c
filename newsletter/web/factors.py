"""What Flask-Security is given of ours: its mail, its codes, its passkeys."""

from typing import Any

from flask import request
from flask_security import MailUtil, Totp, UserMixin, WebauthnUtil
from passlib.exc import UsedTokenError
from passlib.totp import TOTP, AppWallet, TotpMatch
from sqlalchemy.exc import IntegrityError
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from newsletter.db import transaction, utcnow
from newsletter.models import UsedLink
from newsletter.web import editor_mail
from newsletter.web.security import current_settings


class Mail(MailUtil):
    """Flask-Security's mail, through the outbox. Nothing is sent in the request."""

    def normalize(self, email: str) -> str:
        """Look an address up as it is written; the lookup is what decides."""
        return email.strip()

    def validate(self, email: str) -> str:
        """Ask no name server about an address."""
        return email.strip()

    def send_mail(
        self,
        template: str,
        subject: str,
        recipient: str | tuple[str, str],
        sender: str | tuple[str, str],
        body: str | None,
        html: str | None,
        **context: Any,
    ) -> None:
        """Queue what the template's name asks for; the words are ours."""
        with transaction() as session:
            editor_mail.queue(
                session,
                current_settings(),
                template.rpartition("/")[2],
                context["user"],
                reset_token=context.get("reset_token", ""),
                now=utcnow(),
            )


class Codes(Totp):
    """Codes from an app: each works once, also for someone who looks on."""

    def __init__(self, secrets: dict[str, str], issuer: str) -> None:
        wallet = AppWallet(secrets, default_tag=next(iter(secrets)))
        self._totp = TOTP.using(issuer=issuer, wallet=wallet)

    def set_last_counter(self, user: UserMixin, tmatch: TotpMatch) -> None:
        try:
            with transaction() as session:
                nonce = f"totp:{user.id}:{tmatch.counter}"
                session.add(UsedLink(nonce=nonce, used_at=utcnow()))
        except IntegrityError:
            raise UsedTokenError from None


class Passkeys(WebauthnUtil):
    """Passkeys on a phone, a computer or a key of their own, opened by their owner."""

    def origin(self) -> str:
        return request.host_url.rstrip("/")

    def authenticator_selection(
        self, user: UserMixin, usage: str
    ) -> AuthenticatorSelectionCriteria:
        return AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        )

    def user_verification(
        self, user: UserMixin | None, usage: list[str]
    ) -> UserVerificationRequirement:
        return UserVerificationRequirement.REQUIRED
