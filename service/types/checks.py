"""Checks of values that belong to no type: texts, numbers, arrays, choices.

They word every refusal of a request's value, so that both transports refuse the same input in the
same words. `param` is the value's path in OpenAI's notation, such as `tools[0].function.name`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from service.errors import ApiError, Kind

MAX_TEXT = 256_000
"""Characters of instructions and of a message's text."""

_TYPE_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_ID = re.compile(r"[a-zA-Z0-9_-]+")


def missing(param: str) -> NoReturn:
    """Refuses a request that lacks `param`."""
    raise ApiError(Kind.missing, f"Missing required parameter: '{param}'.", param)


def unknown(param: str) -> NoReturn:
    """Refuses a request that has `param`, which does not belong there."""
    raise ApiError(Kind.unknown_parameter, f"Unknown parameter: '{param}'.", param)


def wrong_type(param: str, expected: str, value: Any) -> NoReturn:
    """Refuses a value of the wrong JSON type; `expected` reads like `a string`."""
    got = _TYPE_NAMES[type(value)]
    raise ApiError(
        Kind.invalid_type,
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param,
    )


def unsupported(param: str, value: str, choices: Sequence[str]) -> NoReturn:
    """Refuses a value that is not one of `choices`."""
    quoted = [f"'{choice}'" for choice in choices]
    if len(quoted) == 1:
        listed = f"Value must be {quoted[0]}"
    elif len(quoted) == 2:
        listed = f"Supported values are: {quoted[0]} and {quoted[1]}"
    else:
        listed = f"Supported values are: {', '.join(quoted[:-1])}, and {quoted[-1]}"
    raise ApiError(Kind.invalid_value, f"Invalid value: '{value}'. {listed}.", param)


def choice(param: str, value: str, choices: Sequence[str]) -> str:
    """Returns the value if it is one of `choices`."""
    if not value:
        missing(param)
    if value not in choices:
        unsupported(param, value, choices)
    return value


def text(param: str, value: str, maximum: int) -> str:
    """Returns the text if it has at most `maximum` characters."""
    if len(value) > maximum:
        raise ApiError(
            Kind.string_above_max,
            f"Invalid '{param}': string too long. Expected a string with maximum length "
            f"{maximum}, but got a string with length {len(value)} instead.",
            param,
        )
    return storable(param, value)


def storable(param: str, value: str) -> str:
    """Returns the text unless it holds a NUL character, which PostgreSQL cannot store."""
    if "\0" in value:
        raise ApiError(
            Kind.invalid_value, f"Invalid '{param}': the NUL character is not allowed.", param
        )
    return value


def required_text(param: str, value: str, maximum: int) -> str:
    """Returns a text that must be there and not be empty."""
    if not value:
        missing(param)
    return text(param, value, maximum)


def integer(param: str, value: int, minimum: int, maximum: int | None = None) -> int:
    """Returns the integer if it is within the bounds, both included."""
    if value < minimum:
        raise ApiError(
            Kind.integer_below_min,
            f"Invalid '{param}': integer below minimum value. Expected a value >= {minimum}, "
            f"but got {value} instead.",
            param,
        )
    if maximum is not None and value > maximum:
        raise ApiError(
            Kind.integer_above_max,
            f"Invalid '{param}': integer above maximum value. Expected a value <= {maximum}, "
            f"but got {value} instead.",
            param,
        )
    return value


def decimal(param: str, value: float, minimum: float, maximum: float) -> float:
    """Returns the number if it is finite and within the bounds, both included."""
    if not math.isfinite(value):
        raise ApiError(Kind.invalid_value, f"Invalid '{param}': expected a finite number.", param)
    if value < minimum:
        raise ApiError(
            Kind.decimal_below_min,
            f"Invalid '{param}': decimal below minimum value. Expected a value >= {minimum:g}, "
            f"but got {value:g} instead.",
            param,
        )
    if value > maximum:
        raise ApiError(
            Kind.decimal_above_max,
            f"Invalid '{param}': decimal above maximum value. Expected a value <= {maximum:g}, "
            f"but got {value:g} instead.",
            param,
        )
    return value


def boolean(param: str, value: bool) -> bool:
    """Returns the value: whatever protobuf has parsed is one."""
    return value


def array(param: str, length: int, maximum: int | None = None, minimum: int = 0) -> None:
    """Refuses an array that is too long or too short."""
    if maximum is not None and length > maximum:
        raise ApiError(
            Kind.array_above_max,
            f"Invalid '{param}': array too long. Expected an array with maximum length "
            f"{maximum}, but got an array with length {length} instead.",
            param,
        )
    if length < minimum:
        raise ApiError(
            Kind.array_below_min,
            f"Invalid '{param}': empty array. Expected an array with minimum length "
            f"{minimum}, but got an empty array instead.",
            param,
        )


def function_name(param: str, value: str) -> str:
    """Returns the name of a function or a format: 1 to 64 of a-z, A-Z, 0-9, `_` and `-`."""
    required_text(param, value, 64)
    if not _FUNCTION_NAME.fullmatch(value):
        raise ApiError(
            Kind.invalid_value,
            f"Invalid '{param}': string does not match pattern. Expected a string that matches "
            "the pattern '^[a-zA-Z0-9_-]+$'.",
            param,
        )
    return value


def object_id(param: str, value: str, prefix: str) -> str:
    """Returns an id that begins with `prefix`."""
    required_text(param, value, 512)
    if not _ID.fullmatch(value):
        expected = (
            "contains letters, numbers, underscores, or dashes, but this value contained "
            "additional characters"
        )
    elif not value.startswith(prefix):
        expected = f"begins with '{prefix}'"
    else:
        return value
    message = f"Invalid '{param}': '{value}'. Expected an ID that {expected}."
    raise ApiError(Kind.invalid_value, message, param)


def properties(param: str, count: int, maximum: int) -> None:
    """Refuses an object with too many properties."""
    if count > maximum:
        raise ApiError(
            Kind.too_many_properties,
            f"Invalid '{param}': too many properties. Expected an object with at most {maximum} "
            f"properties, but got an object with {count} properties instead.",
            param,
        )


def scalar(param: str, value: Any, maximum: int) -> str | int | float | bool:
    """Returns a JSON value that is a string of at most `maximum` characters, number or boolean."""
    if isinstance(value, str):
        return text(param, value, maximum)
    if not isinstance(value, bool | int | float):
        wrong_type(param, "one of a string, a number or a boolean", value)
    return value


def json_object(param: str, value: Any, keys: Iterable[str]) -> dict[str, Any]:
    """Returns a JSON object with `keys` only: others are refused, or left out if null."""
    if not isinstance(value, dict):
        wrong_type(param, "an object", value)
    for key, item in value.items():
        if key not in keys and item is not None:
            unknown(f"{param}.{key}")
    return {key: item for key, item in value.items() if key in keys}


def member(param: str, value: Mapping[str, Any], key: str) -> Any:
    """Returns what a JSON object has under a key; refuses one without it."""
    if key not in value:
        missing(f"{param}.{key}")
    return value[key]


def kind(param: str, value: Mapping[str, Any], kinds: Sequence[str]) -> str:
    """Returns the `type` of a JSON object, which must be one of `kinds`."""
    name = f"{param}.type"
    return choice(name, json_text(name, member(param, value, "type")), kinds)


def json_text(param: str, value: Any, maximum: int = MAX_TEXT) -> str:
    """Returns a JSON value that must be a string."""
    if not isinstance(value, str):
        wrong_type(param, "a string", value)
    return text(param, value, maximum)
