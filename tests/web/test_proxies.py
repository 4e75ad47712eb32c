"""Whose address counts: a proxy is believed as often as there are proxies of ours."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from newsletter.app import create_app
from newsletter.config import Settings
from newsletter.db import EXTENSION, Database
from newsletter.models import Consent
from tests.factories import make_newsletter

SAID = "198.51.100.7, 203.0.113.9"  # by a client, then by the proxy before us


@pytest.mark.parametrize(
    ("proxies", "network"), [(0, "127.0.0.0/24"), (1, "203.0.113.0/24")]
)
def test_a_client_cannot_say_where_it_comes_from(
    settings: Settings, proxies: int, network: str
) -> None:
    app = create_app(
        replace(settings, trusted_proxies=proxies, signups_per_network_hour=2)
    )
    database: Database = app.extensions[EXTENSION]
    with database.transaction() as session:
        make_newsletter(session)
    client = app.test_client()
    statuses = []
    for number in range(3):  # another first address each time: the limit holds
        headers = {"X-Forwarded-For": SAID.replace(".7", f".{number}")}
        headers |= {"Forwarded": "for=192.0.2.1", "X-Real-IP": "192.0.2.1"}
        form = {"email": f"r{number}@bostaden.se"}
        answer = client.post("/labbet/subscribe", data=form, headers=headers)
        statuses.append(answer.status_code)
    with database.reading() as session:
        assert set(session.scalars(select(Consent.network))) == {network}
    assert statuses == [303, 303, 429]
    database.engine.dispose()
