"""Roles, invitations, and the owner who must not be lost."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import editors, links
from newsletter.config import Settings
from newsletter.errors import Conflict, InvalidInput, InvalidLink, NotFound
from newsletter.models import Editor, Membership, Newsletter, Role, UsedLink
from tests.factories import NOW, make_newsletter

EMAIL = "asa@redaktion.example"


@pytest.fixture
def labbet(session: Session) -> Newsletter:
    return make_newsletter(session, "labbet")


@pytest.fixture
def annat(session: Session) -> Newsletter:
    return make_newsletter(session, "annat", title="Annat")


def token(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.OWNER, {Role.OWNER, Role.EDITOR, Role.VIEWER}),
        (Role.EDITOR, {Role.EDITOR, Role.VIEWER}),
        (Role.VIEWER, {Role.VIEWER}),
    ],
)
def test_a_role_includes_those_below(
    session: Session, labbet: Newsletter, annat: Newsletter, role: Role, may: set[Role]
) -> None:
    editor = editors.add(session, EMAIL, role, labbet, now=NOW)
    assert {wish for wish in Role if editors.may(editor, labbet, wish)} == may
    assert not any(editors.may(editor, annat, wish) for wish in Role)


def test_a_role_for_all_holds_for_each_and_the_highest_counts(
    session: Session, labbet: Newsletter, annat: Newsletter
) -> None:
    editor = editors.add(session, EMAIL, Role.VIEWER, now=NOW)
    editors.add(session, EMAIL, Role.OWNER, labbet, now=NOW)
    assert editors.role_of(editor, labbet) is Role.OWNER
    assert editors.role_of(editor, annat) is Role.VIEWER
    assert editors.newsletters_of(session, editor) == [labbet, annat]
    assert not editors.may_create(editor)


def test_an_owner_of_all_may_create(session: Session) -> None:
    assert editors.may_create(editors.add(session, EMAIL, Role.OWNER, now=NOW))


def test_an_editor_sees_only_their_newsletters(
    session: Session, labbet: Newsletter, annat: Newsletter
) -> None:
    editor = editors.add(session, EMAIL, Role.EDITOR, annat, now=NOW)
    assert editors.newsletters_of(session, editor) == [annat]
    assert editors.works_with_several(editor) is False


def test_an_address_is_one_editor_however_it_is_written(session: Session) -> None:
    first = editors.add(session, "Asa@Redaktion.example ", Role.VIEWER, now=NOW)
    again = editors.add(session, "asa@redaktion.EXAMPLE", Role.OWNER, now=NOW)
    assert first is again
    assert [membership.name for membership in first.roles] == [Role.OWNER]


@pytest.mark.parametrize("email", ["", "asa", "a@", "@b", "a b@c.example", "a\n@b.se"])
def test_what_is_no_address_is_refused(session: Session, email: str) -> None:
    with pytest.raises(InvalidInput):
        editors.add(session, email, Role.OWNER, now=NOW)


def test_an_invitation_works_once(session: Session, settings: Settings) -> None:
    url = editors.invite(session, settings, EMAIL, Role.OWNER, now=NOW)
    assert url.startswith("http://localhost/editor/invite/")
    opened = editors.open_invitation(session, settings, token(url))
    assert opened.editor.email == EMAIL
    editor = editors.accept_invitation(
        session, settings, token(url), name=" Åsa  Öberg ", now=NOW
    )
    assert (editor.name, editor.confirmed_at) == ("Åsa Öberg", NOW)
    with pytest.raises(InvalidLink):
        editors.open_invitation(session, settings, token(url))
    assert session.scalar(select(UsedLink)) is not None


def test_a_new_link_makes_the_old_one_void(
    session: Session, settings: Settings
) -> None:
    first = editors.invite(session, settings, EMAIL, Role.OWNER, now=NOW)
    second = editors.invite(session, settings, EMAIL, Role.OWNER, now=NOW)
    with pytest.raises(InvalidLink):
        editors.accept_invitation(session, settings, token(first), now=NOW)
    assert editors.accept_invitation(session, settings, token(second), now=NOW)


def test_a_link_of_another_kind_opens_nothing(
    session: Session, settings: Settings
) -> None:
    editor = editors.add(session, EMAIL, Role.OWNER, now=NOW)
    editors.new_link(session, settings, editor)
    other = links.sign(settings, links.ERASE, [editor.id, editor.invite_nonce])
    with pytest.raises(InvalidLink):
        editors.open_invitation(session, settings, other)


@pytest.mark.parametrize("payload", [None, 1, "x", [], [1], [1, 2, 3], ["a", ""]])
def test_a_link_with_another_content_opens_nothing(
    session: Session, settings: Settings, payload: object
) -> None:
    editors.add(session, EMAIL, Role.OWNER, now=NOW)
    with pytest.raises(InvalidLink):
        editors.open_invitation(
            session, settings, links.sign(settings, links.INVITE, payload)
        )


def test_a_used_up_nonce_is_no_empty_password(
    session: Session, settings: Settings
) -> None:
    editor = editors.add(session, EMAIL, Role.OWNER, now=NOW)
    empty = links.sign(settings, links.INVITE, [editor.id, ""])
    with pytest.raises(InvalidLink):
        editors.open_invitation(session, settings, empty)


def test_an_editor_who_was_put_out_cannot_use_a_link(
    session: Session, settings: Settings
) -> None:
    url = editors.invite(session, settings, EMAIL, Role.OWNER, now=NOW)
    found = editors.by_email(session, EMAIL)
    assert found is not None
    found.active = False
    with pytest.raises(InvalidLink):
        editors.open_invitation(session, settings, token(url))


def test_choosing_a_password_ends_sessions_elsewhere(
    session: Session, settings: Settings
) -> None:
    url = editors.invite(session, settings, EMAIL, Role.OWNER, now=NOW)
    found = editors.by_email(session, EMAIL)
    assert found is not None
    before = found.fs_uniquifier
    editors.accept_invitation(
        session, settings, token(url), password_hash="$argon2id$…", now=NOW
    )
    assert found.fs_uniquifier != before


def test_the_last_owner_stays(session: Session, labbet: Newsletter) -> None:
    editor = editors.add(session, EMAIL, Role.OWNER, labbet, now=NOW)
    own = editor.roles[0]
    with pytest.raises(Conflict):
        editors.change_role(session, labbet, own, Role.VIEWER)
    with pytest.raises(Conflict):
        editors.remove(session, labbet, own)
    editors.add(session, "b@redaktion.example", Role.OWNER, labbet, now=NOW)
    editors.change_role(session, labbet, own, Role.VIEWER)
    editors.remove(session, labbet, own)
    assert editors.role_of(editor, labbet) is None


def test_a_membership_of_another_newsletter_is_not_ours_to_change(
    session: Session, labbet: Newsletter, annat: Newsletter
) -> None:
    editor = editors.add(session, EMAIL, Role.EDITOR, annat, now=NOW)
    everywhere = editors.add(session, "b@redaktion.example", Role.OWNER, now=NOW)
    for membership in (editor.roles[0], everywhere.roles[0]):
        with pytest.raises(NotFound):
            editors.member(session, labbet, membership.id)


def test_members_are_those_of_the_newsletter_and_of_all(
    session: Session, labbet: Newsletter, annat: Newsletter
) -> None:
    editors.add(session, "c@redaktion.example", Role.EDITOR, labbet, now=NOW)
    editors.add(session, "b@redaktion.example", Role.EDITOR, annat, now=NOW)
    editors.add(session, "a@redaktion.example", Role.OWNER, now=NOW)
    found = [m.editor.email[0] for m in editors.members(session, labbet)]
    assert found == ["a", "c"]
    assert len(editors.members(session)) == 3


def test_forgetting_the_second_factor_ends_sessions(session: Session) -> None:
    editor = editors.add(session, EMAIL, Role.OWNER, now=NOW)
    editor.tf_primary_method, editor.tf_totp_secret = "authenticator", "x"
    before = editor.fs_uniquifier
    editors.forget_second_factor(session, editor)
    assert editor.tf_primary_method is None
    assert editor.fs_uniquifier != before


@pytest.mark.parametrize("name", ["x" * 201, "a\x00b", "a\u202eb"])
def test_a_name_can_be_shown(name: str) -> None:
    with pytest.raises(InvalidInput):
        editors.clean_name(name)


def test_an_invitation_has_an_end(session: Session, settings: Settings) -> None:
    assert links.INVITE.lifetime_seconds == timedelta(days=7).total_seconds()
    assert session.scalars(select(Editor)).all() == []
    assert session.scalars(select(Membership)).all() == []
