"""Which fields of a request count, where proto3 cannot tell an empty value from none."""

from collections.abc import Collection

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from service.errors import ApiError, Kind


def to_modify(request: Message, mask: FieldMask, fields: Collection[str]) -> list[str]:
    """Returns the fields that a modification replaces, in the order of `fields`.

    They are those that `mask` names, or, without one, those that have a value.
    """
    named = _checked(mask, "update_mask", fields)
    chosen = named or _with_value(request)
    return [field for field in fields if field in chosen]


def overridden(request: Message, mask: FieldMask, fields: Collection[str]) -> set[str]:
    """Returns the fields that have a value, and those whose empty value `mask` says is meant."""
    return _with_value(request) | _checked(mask, "override_mask", fields)


def _with_value(request: Message) -> set[str]:
    return {descriptor.name for descriptor, _ in request.ListFields()}


def _checked(mask: FieldMask, param: str, fields: Collection[str]) -> set[str]:
    for path in mask.paths:
        if path not in fields:
            raise ApiError(
                Kind.invalid_value, f"Invalid '{param}': there is no field '{path}'.", param
            )
    return set(mask.paths)
