"""Positions where the clocks of two servers differ."""

from storage import ids

AHEAD = "7" + "0" * 25
"""Given by a server whose clock is far ahead."""


def test_positions_rise_above_any_clock() -> None:
    for room in (0, 2):
        position = ids.next_position(AHEAD, room)
        assert ids.ahead_of(position, room) > AHEAD


def test_two_servers_do_not_give_the_same_id() -> None:
    """What the faster one has given next, to another thread, is right behind."""
    soon = {ids.ahead_of(AHEAD, -step) for step in range(1, 1000)}
    assert soon.isdisjoint(ids.next_position(AHEAD) for _ in range(1000))
