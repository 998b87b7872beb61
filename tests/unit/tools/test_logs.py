"""Logs are cut in the middle: what is shown as it comes, and what the model sees of it."""

import pytest
from hypothesis import given, strategies

from service.runner.tools import logs
from service.runner.tools.logs import Logs


def shown(pieces: list[str]) -> tuple[str, Logs]:
    made = Logs()
    return "".join(made.add(piece) for piece in pieces) + made.end(), made


@given(strategies.lists(strategies.text(max_size=60)))
def test_what_is_short_is_shown_whole(pieces: list[str]) -> None:
    text, made = shown(pieces)
    assert text == made.for_model() == "".join(pieces)


def test_the_first_half_is_shown_at_once() -> None:
    made = Logs()
    assert made.add("a" * (logs.SHOWN // 2 - 1)) != ""
    assert made.add("bc") == "b"
    assert made.add("d") == ""
    assert made.end() == "cd"


@pytest.mark.parametrize("size", [1, 7, 1000, 60_000, 400_000])
def test_the_middle_is_left_out(size: int) -> None:
    whole = "".join(f"{number}\n" for number in range(100_000))
    text, made = shown([whole[at : at + size] for at in range(0, len(whole), size)])
    for seen, most in ((text, logs.SHOWN), (made.for_model(), logs.SEEN)):
        note = f"\n[… {len(whole) - most} characters left out …]\n"
        assert seen == whole[: most // 2] + note + whole[-most // 2 :]


@pytest.mark.parametrize("size", [logs.SEEN, logs.SEEN + 1, logs.SHOWN - 1, logs.SHOWN])
def test_the_model_sees_less(size: int) -> None:
    whole = "ab" * (size // 2) + "c" * (size % 2)
    text, made = shown([whole])
    assert text == whole
    half = logs.SEEN // 2
    left_out = f"\n[… {size - logs.SEEN} characters left out …]\n"
    expected = whole if size <= logs.SEEN else whole[:half] + left_out + whole[-half:]
    assert made.for_model() == expected


@pytest.mark.parametrize("most", [2, 400])
def test_the_model_sees_what_there_is_room_for(most: int) -> None:
    whole = "ab" * 1000
    _, made = shown([whole])
    note = f"\n[… {len(whole) - most} characters left out …]\n"
    assert made.for_model(most) == whole[: most // 2] + note + whole[-most // 2 :]
