"""Usage: the tokens of a run or of a step."""

from collections.abc import Mapping

from assistants.v1 import common_pb2

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


def to_proto(value: Mapping[str, int] | None) -> common_pb2.Usage | None:
    """Returns the same in protobuf."""
    return None if value is None else common_pb2.Usage(**value)
