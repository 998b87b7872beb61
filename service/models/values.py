"""JSON as it goes to model servers and comes from them."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

_LONG_NUMBER = re.compile(rb"[1-9][0-9]{18}")
"""What may be an integer of more than 64 bits, which orjson makes a rounded float of."""


def load(data: bytes) -> object:
    """Returns the value of JSON. Raises ValueError and RecursionError.

    Servers send NaN, numbers of any length and halves of characters, which orjson does not take.
    """
    if not _LONG_NUMBER.search(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return json.loads(data.decode())


def dump(value: Mapping[str, Any]) -> bytes:
    """Returns the JSON of an object."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # Integers of more than 64 bits, halves of characters.
        return json.dumps(value, separators=(",", ":")).encode()
