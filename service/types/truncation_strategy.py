"""Truncation strategies: how much of a thread the model is shown."""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import common_pb2

from service.types import checks

KINDS = ("auto", "last_messages")
AUTO: Mapping[str, Any] = {"type": "auto", "last_messages": None}
"""The strategy of a run whose request has none."""


def parse(param: str, given: common_pb2.TruncationStrategy) -> dict[str, Any]:
    """Returns `type` and `last_messages`, which JSON shows as they are."""
    kind = checks.choice(f"{param}.type", given.type, KINDS)
    count = None
    if given.HasField("last_messages"):
        count = checks.integer(f"{param}.last_messages", given.last_messages, 1)
    if kind == "last_messages" and count is None:
        checks.missing(f"{param}.last_messages")
    return {"type": kind, "last_messages": count}
