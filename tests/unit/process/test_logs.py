"""Lines of the log: what callers chose of them forges no line, and no terminal obeys it."""

import pytest
import structlog

from service.process.logs import printable


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
