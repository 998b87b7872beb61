"""The table of finish reasons, read through the reader of answers."""

import pytest

from service.models.chunks import Finished, Reader
from service.models.ends import ENDS, End, end_of
from service.models.failures import ModelError
from tests.support.models.raw_server import choice


def finish(reason: str) -> Finished:
    reader = Reader()
    reader.read(choice(content="Hello"))
    reader.read(choice(reason))
    return reader.finish()


@pytest.mark.parametrize(("reason", "end"), ENDS.items())
@pytest.mark.parametrize("upper", [False, True])
def test_every_row(reason: str, end: End, upper: bool) -> None:
    reason = reason.upper() if upper else reason
    if end == "fault":
        with pytest.raises(ModelError) as caught:
            finish(reason)
        assert caught.value.retryable
    else:
        # Without calls, an answer that claims to have some is one that has ended.
        assert finish(reason) == Finished("stop" if end == "tool_calls" else end, None)


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("FinishReason.MAX_TOKENS", "length"),
        ("FINISH_REASON_STOP", "stop"),
        ("token limit", "length"),
        ("end-turn", "stop"),
    ],
)
def test_every_spelling(reason: str, end: End, capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(reason) == end
    assert "unknown" not in capsys.readouterr().out


@pytest.mark.parametrize("no_reason", [None, "", "null", "NULL", "None"])
def test_none_is_no_end(no_reason: str | None) -> None:
    reader = Reader()
    reader.read(choice(no_reason, content="Hello"))
    with pytest.raises(ModelError):
        reader.finish()
    reader.read(choice("length"))
    assert reader.finish().reason == "length"


@pytest.mark.parametrize(
    ("reason", "end"),
    [("content_filter_prompt", "content_filter"), ("CONTENT_FILTERED", "content_filter")],
)
def test_every_filter(reason: str, end: End) -> None:
    assert end_of(reason) == end


def test_one_that_is_in_no_row_is_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert finish("full_moon") == Finished("stop", None)
    assert "full_moon" in capsys.readouterr().out
