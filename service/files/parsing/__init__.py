"""Parsing: the text of a file, in pieces.

Each file is parsed in a child process of its own with limits, because files come from strangers and
parsers are large: `parser` starts and watches the child, whose entry is `child`; `kinds` tells what
a file is; the other modules read one kind each.
"""

from typing import Final, Literal

Code = Literal["unsupported_file", "invalid_file", "server_error"]


class ParseFailed(Exception):
    """There is no text to be had of a file: what its `last_error` says."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


FAILURES: Final[dict[str, tuple[Code, str]]] = {
    "unsupported": ("unsupported_file", "The file type is not supported."),
    "empty": ("invalid_file", "The file could not be parsed because it is empty."),
    "too_large": ("invalid_file", "The file could not be parsed because it is too large."),
    "encrypted": ("invalid_file", "The file could not be parsed because it is encrypted."),
    "damaged": ("invalid_file", "The file could not be parsed because it is damaged."),
    "internal": ("server_error", "An internal error occurred."),
}
"""Why a file gives no text, as callers are told."""


def failed(reason: str) -> ParseFailed:
    """Returns the error for one of FAILURES."""
    return ParseFailed(*FAILURES[reason])


class Refused(Exception):
    """In the child: the file gives no text; `reason` is one of FAILURES."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
