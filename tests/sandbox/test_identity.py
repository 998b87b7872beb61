"""The users that sessions run as."""

import os

from service.sandbox import identity


def test_sessions_of_two_servers_are_different_users() -> None:
    chosen = {identity.choose(identity.PREFERRED, 0, set()) for _ in range(100)}
    assert len(chosen) > 90
    assert all(uid in identity.PREFERRED for uid in chosen)


def test_the_owner_of_the_files_is_kept_unless_another_session_has_it() -> None:
    among = range(10, 13)
    assert identity.choose(among, 11, set()) == 11
    assert identity.choose(among, 11, {11, 12}) == 10
    assert identity.choose(among, 0, {10, 11}) == 12


def test_root_alone_can_change() -> None:
    assert (identity.users() is None) == (os.getuid() != 0)


def test_what_somebody_sees_as_another_user_is_what_it_was_afterwards() -> None:
    before = (os.geteuid(), os.getegid())
    with identity.seeing(12345 if os.getuid() == 0 else None):
        pass
    assert (os.geteuid(), os.getegid()) == before
    assert os.access("/root", os.W_OK) == (os.getuid() == 0)
