"""Lines of the log: plain ones are structlog's, and what callers chose of them forges no line."""

from typing import Any

import pytest
import structlog

from service.process.logs import _plain, printable

CONSOLE = structlog.dev.ConsoleRenderer(
    colors=False, exception_formatter=structlog.dev.plain_traceback
)


@pytest.mark.parametrize(
    "values",
    [
        {
            "key": None,
            "b": "two words",
            "a": 1.5,
            "object": "thread_x",
            "path": b"x",
            "c": "d=e",
            "f": "g\nh",
            "i": "",
        },
        {"event": "a long event with more than thirty characters", "a": ["b"]},
        {"level": "warning"},
        {"exc_info": ValueError("wrong")},
    ],
)
def test_a_line(values: dict[str, Any]) -> None:
    line = {"event": "call", "level": "info", "timestamp": "2026-11-29T14:00:00Z"} | values
    assert _plain(None, "info", {**line}) == CONSOLE(None, "info", {**line})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain=1 ü", "'plain=1 ü'"),
        ("e\x1b[2J", "e\ufffd[2J"),
        ("a\x85b\u2028c\0", "a\ufffdb\ufffdc\ufffd"),
        ("a\r\nevent", r"'a\r\nevent'"),
        (7, "7"),
    ],
)
def test_values(given: object, shown: str) -> None:
    renderer = structlog.dev.ConsoleRenderer(colors=False)
    line = renderer(None, "info", printable(None, "info", {"event": "x", "value": given}))
    assert line.split("value=")[1] == shown
