"""Plain lines of the log are those of structlog's own renderer."""

from typing import Any

import pytest
import structlog

from service.process.logs import _plain

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
