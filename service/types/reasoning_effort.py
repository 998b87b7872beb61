"""Reasoning efforts: how hard a model is to think. OpenAI's objects have no key for it."""

from service.types import checks

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def parse(param: str, given: str) -> str:
    """Returns the effort, which protobuf shows as it is."""
    return checks.choice(param, given, EFFORTS)
