"""An editor's own account: name, language, password, second factor, passkeys."""

from flask import Blueprint

from newsletter.models import Editor
from newsletter.web.workspace.access import needs_login, render

bp = Blueprint("account", __name__)


@bp.get("/editor/account/")
@needs_login
def show(editor: Editor) -> str:
    """Show what can be changed."""
    return render("editor/account.html", None)
