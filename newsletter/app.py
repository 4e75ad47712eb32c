"""The application factory: settings, database, security, blueprints."""

from flask import Flask

from newsletter import config, db
from newsletter.config import ROOT, Settings
from newsletter.web import (
    archive,
    calls,
    clicks,
    embed,
    home,
    leaving,
    login,
    look,
    mailbox,
    pages,
    pictures,
    portraits,
    preferences,
    recording,
    rights,
    security,
    signup,
    sitemap,
)
from newsletter.web.workspace import (
    account,
    approval,
    authors,
    calendar,
    changes,
    design,
    feeds,
    fetching,
    importing,
    invitations,
    issue_preview,
    issue_versions,
    issues,
    letters,
    newsletter_settings,
    outcome,
    overview,
    people,
    posts,
    preflight,
    reader,
    relay_settings,
    reports,
    rhythm_settings,
    segments,
    sending,
    subscribers,
    topics,
    undo,
)

BLUEPRINTS = (
    *(home.bp, look.bp, pages.bp, signup.bp, signup.by_token, leaving.bp),
    *(preferences.bp, rights.bp, archive.bp, sitemap.bp, embed.bp),
    *(calls.bp, portraits.bp),
    clicks.bp,
    pictures.bp,
    *(overview.bp, account.bp, invitations.bp, subscribers.bp, reader.bp),
    *(newsletter_settings.bp, rhythm_settings.bp, people.bp, design.bp),
    relay_settings.bp,
    changes.bp,
    importing.bp,
    feeds.bp,
    *(posts.bp, fetching.bp, authors.bp, issues.bp, issue_preview.bp, sending.bp),
    *(letters.bp, topics.bp, segments.bp, preflight.bp),
    *(approval.bp, calendar.bp, issue_versions.bp),
    outcome.bp,
    reports.bp,
    undo.bp,
)


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application. Raises ConfigError if a setting is wrong."""
    settings = settings or config.load_settings()
    app = Flask(
        "newsletter",
        template_folder=str(ROOT / "templates" / "web"),
        static_folder=str(ROOT / "newsletter" / "static"),
        instance_path=str(settings.instance_dir.resolve()),
    )
    app.extensions[security.SETTINGS] = settings
    clicks.init_app(app, db.init_app(app, settings))
    security.init_app(app, settings)
    login.init_app(app, settings)
    recording.init_app(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    if settings.mailbox_dir:
        app.register_blueprint(mailbox.bp)
    return app
