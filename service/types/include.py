"""Extras that requests for run steps ask for, as OpenAI's `include[]`."""

from collections.abc import Collection, Iterable

from service.types import checks
from service.types.requests import Field

CONTENTS = "step_details.tool_calls[*].file_search.results[*].content"
"""The texts of what a file search has found."""

INCLUDABLE = (CONTENTS,)


def parse(param: str, given: Iterable[str]) -> list[str] | None:
    """Returns the extras; None where there are none."""
    return [checks.choice(f"{param}[]", item, INCLUDABLE) for item in given] or None


def has_contents(given: Collection[str] | None) -> bool:
    """Returns whether the texts of search results are among the extras."""
    return CONTENTS in (given or ())


FIELD = Field("include", parse)
"""The field of requests to run an assistant."""
