"""What guards every page: CSRF, origins, hosts, proxies, headers, error pages.

The only place that maps errors to HTTP status codes.
"""

from urllib.parse import urlsplit

from flask import Flask, Request, Response, abort, current_app, request
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.middleware.proxy_fix import ProxyFix

from newsletter.config import Settings, subkey
from newsletter.errors import (
    N_,
    Conflict,
    Forbidden,
    InkorgError,
    InvalidInput,
    InvalidLink,
    NotFound,
    TooMany,
)
from newsletter.web.rendering import render, words

SETTINGS = "inkorg.settings"
MAX_FORM_BYTES = 2 * 1024 * 1024
csrf = CSRFProtect()

# Endpoints that strangers' pages may post to: they only ever ask for a confirmation,
# or carry a secret token in their address.
OPEN_TO_ALL: set[str] = set()
# Endpoints with a secret token in their address, posted to from pages that forbid
# referrers: there browsers write "Origin: null" although the page is ours.
CARRIES_TOKEN: set[str] = set()

STATUS = (
    (InvalidLink, 404),
    (NotFound, 404),
    (Forbidden, 403),
    (TooMany, 429),
    (Conflict, 409),
    (InvalidInput, 400),
    (InkorgError, 500),
)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)

HTTP_TEXTS = {
    400: N_("The request could not be understood. Go back and try again."),
    401: N_("Log in first."),
    403: N_("You may not do that."),
    404: N_("There is no such page. It may have moved, or the link was cut off."),
    405: N_("That cannot be done here."),
    413: N_("That was too much at once. Send less."),
    429: N_("That was a lot at once. Try again in a while."),
    500: N_("Something went wrong here, and it is written down. Try again in a while."),
}


def current_settings() -> Settings:
    """Return the running application's settings."""
    settings: Settings = current_app.extensions[SETTINGS]
    return settings


def init_app(app: Flask, settings: Settings) -> None:
    """Attach all guards to the application."""
    app.config.update(
        SECRET_KEY=subkey(settings, "session").hex(),
        SECRET_KEY_FALLBACKS=[],
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES,
        MAX_FORM_PARTS=1000,
        TRUSTED_HOSTS=[settings.host, "127.0.0.1", "localhost", "::1"],
        SESSION_COOKIE_NAME="__Host-inkorg" if settings.secure else "inkorg",
        SESSION_COOKIE_SECURE=settings.secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=False,  # the Origin check below is stricter
    )
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=0, x_prefix=0
        )
    app.before_request(_refuse_nul)
    csrf.init_app(app)
    app.before_request(_refuse_foreign_origin)
    app.after_request(_add_headers)
    app.register_error_handler(InkorgError, _show_error)
    app.register_error_handler(HTTPException, _show_http_error)
    app.register_error_handler(500, _show_http_error)


def client_address(req: Request) -> str:
    """Return the client's address, as far as configured proxies may be believed."""
    return req.remote_addr or ""


def _refuse_nul() -> None:
    """Refuse U+0000, which nobody types and PostgreSQL stores in no text."""
    if any("\0" in str(value) for value in (request.view_args or {}).values()):
        abort(404)
    if any("\0" in value for _, value in request.values.items(multi=True)):
        abort(400)


def _refuse_foreign_origin() -> None:
    """Refuse what another site's page makes the browser send (SEC-11)."""
    origin = request.headers.get("Origin")
    if request.method in {"GET", "HEAD", "OPTIONS"} or not origin:
        return
    if request.endpoint in OPEN_TO_ALL:
        return
    if origin == "null" and request.endpoint in CARRIES_TOKEN:
        return
    own = {current_settings().base_url.lower(), request.host_url.rstrip("/").lower()}
    parts = urlsplit(origin)
    if f"{parts.scheme}://{parts.netloc}".lower() not in own:
        raise Forbidden(N_("This form was sent from another site. Use ours instead."))


def _add_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault(
        "Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"
    )
    if current_settings().secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    return response


def status_of(error: InkorgError) -> int:
    """Return the HTTP status that tells an error."""
    return next(code for kind, code in STATUS if isinstance(error, kind))


def _show_error(error: InkorgError) -> tuple[str, int]:
    status = status_of(error)
    return _page(status, words().error(error)), status


def _show_http_error(error: HTTPException) -> Response | tuple[str, int]:
    if isinstance(error, CSRFError):
        text = N_("The form had been open too long. Go back, reload it and try again.")
        return _page(400, words().gettext(text)), 400
    status = error.code or 500
    # A host that is not ours gets no page of ours: it would hold no address that works.
    if 300 <= status < 400 or isinstance(error, SecurityError):
        return error.get_response()  # type: ignore[return-value]
    text = HTTP_TEXTS.get(status, HTTP_TEXTS[400 if status < 500 else 500])
    return _page(status, words().gettext(text)), status


def _page(status: int, text: str) -> str:
    return render("errors/error.html", status=status, text=text)
