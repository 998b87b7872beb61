"""Temperature and top_p: how a model chooses among the next tokens."""

from service.types import checks

SHOWN = 1.0
"""What answers show of both where nobody chose."""


def parse_temperature(param: str, given: float) -> float:
    """Returns a temperature, 0 to 2."""
    return checks.decimal(param, given, 0, 2)


def parse_top_p(param: str, given: float) -> float:
    """Returns a top_p, 0 to 1."""
    return checks.decimal(param, given, 0, 1)


def to_json(stored: float | None) -> float:
    """Returns the value or its default; protobuf takes the same."""
    return SHOWN if stored is None else stored
