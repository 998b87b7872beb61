"""Extras that requests for run steps ask for, as OpenAI's `include[]`."""

from collections.abc import Iterable

from service.types import checks

INCLUDABLE = ("step_details.tool_calls[*].file_search.results[*].content",)


def check(given: Iterable[str]) -> None:
    """Refuses extras that do not exist; those that do cannot occur without file search."""
    for item in given:
        checks.choice("include[]", item, INCLUDABLE)
