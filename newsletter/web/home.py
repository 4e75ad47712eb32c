"""The front page and what machines ask for: health, robots."""

from flask import Blueprint
from sqlalchemy import select

from newsletter.db import db
from newsletter.models import Newsletter
from newsletter.web.rendering import render

bp = Blueprint("home", __name__)


@bp.get("/")
def front() -> str:
    """List the newsletters."""
    newsletters = db.session.scalars(select(Newsletter).order_by(Newsletter.title))
    return render("public/front.html", newsletters=list(newsletters))
