"""Tables of requests' fields: how each is checked, stored, and what counts where it has no value.

A table serves the requests that create a resource and those that modify it. Its order is the order
of the checks. Where proto3 cannot tell an empty value from none, a field mask of the request can.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from service.errors import ApiError, Kind
from service.types import checks

INHERITED: Final = object()
"""The default of what a run has of its assistant: the request stores nothing."""

Stored = dict[str, Any]
"""Values of a row, by its attributes."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of requests, by its name."""

    name: str
    parse: Callable[[str, Any], Any]
    """Checks a value and returns its stored form. Errors name the first argument, its `param`."""
    default: Any = None
    """The stored form where the request has no value. It is shared, and never modified."""
    required: bool = False
    """Whether requests that would leave it empty are refused."""
    attribute: str = ""
    """The row's attribute, where it has another name."""
    check: Callable[[Stored], None] | None = None
    """Refuses a value that does not go with those of the fields ahead of it."""


def create(
    request: Message,
    fields: Iterable[Field],
    path: str = "",
    refuse: Callable[[str], NoReturn] = checks.missing,
) -> Stored:
    """Returns the values of a new row; `path`, of its place in a request, ends in a dot.

    What is required and not there is refused by `refuse`.
    """
    return _read(fields, _given(request), {}, refuse, path)


def modify(request: Any, fields: Sequence[Field]) -> Stored:
    """Returns the values that a request replaces.

    They are those that `update_mask` names, or, without one, those that the request has.
    """
    given = _given(request)
    masked = _masked(request.update_mask, "update_mask", {field.name for field in fields})
    replaced = [field for field in fields if field.name in (masked or given)]
    return _read(replaced, given, {}, _null)


def override(
    request: Any, fields: Sequence[Field], maskable: Collection[str], inherited: Stored
) -> Stored:
    """Returns the values of a new row that has `inherited` ones where the request has none.

    `override_mask` names fields whose empty value is meant; it may name those of `maskable`.
    """
    given = _given(request)
    masked = _masked(request.override_mask, "override_mask", maskable)
    required = {field.name for field in fields if field.required}
    for name in masked - given.keys():
        descriptor = request.DESCRIPTOR.fields_by_name.get(name)
        if name in required or (descriptor is not None and not descriptor.has_presence):
            given[name] = getattr(request, name)
    return _read(fields, given, inherited, checks.missing)


def check(stored: Stored, fields: Iterable[Field]) -> None:
    """Refuses values that do not go together."""
    for field in fields:
        if field.check is not None:
            field.check(stored)


def _given(request: Message) -> dict[str, Any]:
    return {descriptor.name: value for descriptor, value in request.ListFields()}


def _masked(mask: FieldMask, param: str, names: Collection[str]) -> set[str]:
    for path in mask.paths:
        if path not in names:
            raise ApiError(
                Kind.invalid_value, f"Invalid '{param}': there is no field '{path}'.", param
            )
    return set(mask.paths)


def _null(param: str) -> NoReturn:
    checks.wrong_type(param, "a string", None)


def _read(
    fields: Iterable[Field],
    given: Mapping[str, Any],
    inherited: Stored,
    refuse: Callable[[str], NoReturn],
    path: str = "",
) -> Stored:
    stored = dict(inherited)
    for field in fields:
        param = path + field.name
        if field.name in given:
            stored[field.attribute or field.name] = field.parse(param, given[field.name])
        elif field.default is not INHERITED:
            if field.required:
                refuse(param)
            stored[field.attribute or field.name] = field.default
        if field.check is not None:
            field.check(stored)
    return stored
