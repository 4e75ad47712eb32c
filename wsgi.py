"""The WSGI application, for any server: `app`."""

from newsletter.app import create_app

app = create_app()
