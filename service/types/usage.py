"""Usage: the tokens of a run or of a step."""

from collections.abc import Mapping

from service.types.json_value import Json


def to_json(stored: Mapping[str, int] | None) -> Json | None:
    """Returns the three counts, or None where there are none."""
    if stored is None:
        return None
    return {
        "prompt_tokens": stored["prompt_tokens"],
        "completion_tokens": stored["completion_tokens"],
        "total_tokens": stored["total_tokens"],
    }
