"""Text from model servers, made fit to be stored."""

import math


def storable(value: object) -> str:
    """Returns text as it can be stored: without NUL and without halves of surrogate pairs.

    What is no text at all is an empty one.
    """
    if not isinstance(value, str):
        return ""
    if not value.isascii():
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value.replace("\0", "\ufffd")


def storable_json(value: object) -> object:
    """Returns a JSON value with all its texts storable; a number that is not finite is null."""
    match value:
        case str():
            return storable(value)
        case float() if not math.isfinite(value):
            return None
        case list():
            return [storable_json(item) for item in value]
        case dict():
            return {storable(key): storable_json(item) for key, item in value.items()}
        case _:
            return value
