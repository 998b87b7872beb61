"""How the server logs: lines of `event key=value` on stderr, coloured where a person reads them."""

import logging
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure(level: str) -> None:
    """Logs what is at least as urgent as `level`: debug, info, warning or error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            printable,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Others show local variables: they hold what callers say, and take seconds.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def printable(_logger: WrappedLogger, _method: str, values: EventDict) -> EventDict:
    """Replaces control characters in texts: callers and model servers choose some of them.

    A terminal would obey them. Blanks and ends of lines stay, which the renderer quotes.
    """
    return {key: _printable(value) for key, value in values.items()}


def _printable(value: object) -> object:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(each if each.isprintable() or each in "\t\r\n" else "\ufffd" for each in value)
