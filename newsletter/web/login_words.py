"""What Flask-Security says, in our words: what happened and what to do next."""

from newsletter.errors import N_

WRONG = N_("That did not match. Check the address and the password, and try again.")
WRONG_CODE = N_("That code did not match. Wait for the next one and try again.")
BROKEN_LINK = N_("That link does not work (any more). Ask for a new one here.")
START_OVER = N_("That took too long. Start over.")
NOT_NOW = N_("That page belongs to another step. Start with your password.")

MESSAGES = {
    "GENERIC_AUTHN_FAILED": (WRONG, "error"),
    "USER_DOES_NOT_EXIST": (WRONG, "error"),
    "INVALID_PASSWORD": (N_("That is not your password."), "error"),
    "PASSWORD_NOT_PROVIDED": (N_("Write your password."), "error"),
    "EMAIL_NOT_PROVIDED": (N_("Write your email address."), "error"),
    "INVALID_EMAIL_ADDRESS": (N_("Write your email address."), "error"),
    "DISABLED_ACCOUNT": (WRONG, "error"),
    "UNAUTHENTICATED": (N_("Log in first."), "info"),
    "REAUTHENTICATION_REQUIRED": (
        N_("You logged in a while ago: show once more that it is you."),
        "info",
    ),
    "REAUTHENTICATION_SUCCESSFUL": (N_("Thank you. Now go on."), "good"),
    "PASSWORD_RESET_REQUEST": (
        N_(
            "If %(email)s belongs to an editor here, a mail with a link is on its way."
            " It can take a minute."
        ),
        "good",
    ),
    "PASSWORD_RESET_EXPIRED": (BROKEN_LINK, "error"),
    "INVALID_RESET_PASSWORD_TOKEN": (BROKEN_LINK, "error"),
    "PASSWORD_RESET_NO_LOGIN": (
        N_("Your new password is saved. Log in with it."),
        "good",
    ),
    "PASSWORD_CHANGE": (
        N_("Your new password is saved. You have been logged out everywhere else."),
        "good",
    ),
    "PASSWORD_INVALID_LENGTH": (
        N_("A password has at least %(length)s characters."),
        "error",
    ),
    "PASSWORD_IS_THE_SAME": (N_("That is the password you have already."), "error"),
    "RETYPE_PASSWORD_MISMATCH": (N_("The two passwords are not alike."), "error"),
    "TWO_FACTOR_INVALID_TOKEN": (WRONG_CODE, "error"),
    "INVALID_CODE": (WRONG_CODE, "error"),
    "INVALID_RECOVERY_CODE": (
        N_("That is not one of your recovery codes, or it has been used."),
        "error",
    ),
    "NO_RECOVERY_CODES_SETUP": (N_("You have no recovery codes yet."), "info"),
    "TWO_FACTOR_LOGIN_SUCCESSFUL": (N_("Welcome."), "good"),
    "TWO_FACTOR_CHANGE_METHOD_SUCCESSFUL": (
        N_("The second factor is on. Make recovery codes now, for the day the phone is"
           " gone."),
        "good",
    ),
    "TWO_FACTOR_DISABLED": (N_("The second factor is off."), "warn"),
    "TWO_FACTOR_SETUP_EXPIRED": (START_OVER, "error"),
    "TWO_FACTOR_PERMISSION_DENIED": (NOT_NOW, "error"),
    "WEBAUTHN_EXPIRED": (START_OVER, "error"),
    "WEBAUTHN_NAME_REQUIRED": (N_("Give the passkey a name."), "error"),
    "WEBAUTHN_NAME_INUSE": (N_("You have a passkey called %(name)s already."), "error"),
    "WEBAUTHN_NAME_NOT_FOUND": (N_("You have no passkey called %(name)s."), "error"),
    "WEBAUTHN_NAME_DISALLOWED_CHARACTERS": (
        N_("A passkey's name has letters, digits, spaces and hyphens."),
        "error",
    ),
    "WEBAUTHN_CREDENTIAL_DELETED": (N_("The passkey %(name)s is removed."), "warn"),
    "WEBAUTHN_REGISTER_SUCCESSFUL": (
        N_("The passkey %(name)s is saved. Next time you can log in with it."),
        "good",
    ),
    "WEBAUTHN_CREDENTIAL_ID_INUSE": (N_("That passkey is saved already."), "error"),
    "WEBAUTHN_UNKNOWN_CREDENTIAL_ID": (
        N_("That passkey is not known here. Log in with your password."),
        "error",
    ),
    "WEBAUTHN_NO_VERIFY": (
        N_("The passkey could not be checked (%(cause)s). Try again."),
        "error",
    ),
    "API_ERROR": (N_("The browser gave no passkey. Try again."), "error"),
}  # fmt: skip
