"""Segments under a name: kept, refused, counted."""

import pytest
from sqlalchemy.orm import Session

from newsletter.digests import saved_segments
from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.models import Newsletter, SavedSegment
from tests.factories import NOW, make_newsletter, make_subscription


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    made = make_newsletter(session)
    make_subscription(session, made, language="en")
    make_subscription(session, made, language="sv")
    return made


def save(
    session: Session, newsletter: Newsletter, name: str, text: str
) -> SavedSegment:
    return saved_segments.save(session, newsletter, None, name, text, now=NOW)


def test_a_segment_is_kept_as_it_is_read_and_counted(
    session: Session, newsletter: Newsletter
) -> None:
    other = make_newsletter(session, "annat")
    saved = save(
        session, newsletter, "  På\u00a0 engelska\n", " LANGUAGE:EN  language:en "
    )
    assert (saved.name, saved.text) == ("På engelska", "language:en")
    assert list(saved_segments.of(session, newsletter)) == [saved]
    assert list(saved_segments.of(session, other)) == []
    with pytest.raises(NotFound):
        saved_segments.find(session, other, saved.id)
    assert saved_segments.count(session, saved, now=NOW) == 1
    saved_segments.keep_count(session, saved, 1, now=NOW)
    assert (saved.readers, saved.counted_at) == (1, NOW)
    # Another name changes nothing; other conditions are not counted yet.
    saved_segments.save(session, newsletter, saved, "Engelska", "language:en", now=NOW)
    assert saved.readers == 1
    saved_segments.save(session, newsletter, saved, "Engelska", "-language:en", now=NOW)
    assert saved.readers is None
    saved.text = "topic:gone"
    assert saved_segments.count(session, saved, now=NOW) is None
    saved_segments.remove(session, saved)
    assert list(saved_segments.of(session, newsletter)) == []
    saved_segments.keep_count(session, saved, 3, now=NOW)
    assert list(saved_segments.of(session, newsletter)) == []


def test_what_makes_no_sense_is_not_kept(
    session: Session, newsletter: Newsletter, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(session, newsletter, "Engelska", "language:en")
    for name, text, field in (
        ("Engelska", "language:sv", "name"),
        (" ", "language:sv", "name"),
        ("x" * 81, "language:sv", "name"),
        ("Alla", " ", "segment"),
        ("Alla", "language:xx", "segment"),
    ):
        with pytest.raises(InvalidInput) as refused:
            save(session, newsletter, name, text)
        assert refused.value.field == field
    monkeypatch.setattr(saved_segments, "MAX_SAVED", 1)
    with pytest.raises(Conflict):
        save(session, newsletter, "En till", "language:sv")
