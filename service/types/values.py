"""Small values that several resources share."""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import common_pb2, run_objects_pb2

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


def usage_to_proto(value: Mapping[str, int] | None) -> common_pb2.Usage | None:
    """Returns the three counts, or None for null."""
    return None if value is None else common_pb2.Usage(**value)


def last_error(value: Mapping[str, str] | None) -> Json | None:
    """Returns a run's or a step's error, or None."""
    return None if value is None else {"code": value["code"], "message": value["message"]}


def last_error_to_proto(value: Mapping[str, str] | None) -> run_objects_pb2.Run.LastError | None:
    """Returns a run's or a step's error, or None for null."""
    if value is None:
        return None
    return run_objects_pb2.Run.LastError(code=value["code"], message=value["message"])
