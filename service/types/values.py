"""Small values that several resources share."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
"""An object of OpenAI's API, as JSON."""


def metadata(value: Mapping[str, str]) -> Json:
    """Returns metadata with its keys sorted, as PostgreSQL keeps no order."""
    return dict(sorted(value.items()))


def usage(value: Mapping[str, int]) -> Json:
    """Returns the three counts."""
    return {
        "prompt_tokens": value["prompt_tokens"],
        "completion_tokens": value["completion_tokens"],
        "total_tokens": value["total_tokens"],
    }


def last_error(value: Mapping[str, str] | None) -> Json | None:
    """Returns a run's or a step's error, or None."""
    return None if value is None else {"code": value["code"], "message": value["message"]}
