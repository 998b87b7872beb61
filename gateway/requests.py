"""Completes the requests that Envoy has transcoded with what transcoding loses, or lets through.

gateway/edge.lua reads the body before Envoy's transcoder does and hands its top-level keys over in
a header: entries `v<hex>` for a key with a value, `n<hex>` for one that is null, `d<hex>` for one
that was given before, joined by commas. From them come the field masks and the refusal of
parameters that the API does not have, which Envoy drops silently. What the values may be is none
of this module's business: the servicers check it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from gateway.descriptor import Method
from service.errors import ApiError, Kind
from service.interceptors import parsed_or_none

BODY_KEYS_HEADER = "x-edge-body-keys"
ORIGINAL_PATH_HEADER = "x-envoy-original-path"

_NOT_IN_REST = {"update_mask", "override_mask", "parts"}
"""Fields for gRPC callers; REST says the same by the body's keys and by `content`."""

_IN_QUERY = "include[]"
"""The one parameter that stands in the query also where there is a body."""


@dataclass(frozen=True, slots=True)
class BodyKeys:
    """The top-level keys of a JSON body in their order, and which of them are null or repeated."""

    given: tuple[str, ...] = ()
    null: frozenset[str] = frozenset()
    repeated: tuple[str, ...] = ()

    @classmethod
    def parse(cls, header: str) -> "BodyKeys":
        """Reads the header that the edge sets; an empty one means no body."""
        entries = [
            (entry[0], bytes.fromhex(entry[1:]).decode(errors="replace"))
            for entry in header.split(",")
            if entry
        ]
        return cls(
            given=tuple(name for mark, name in entries if mark != "d"),
            null=frozenset(name for mark, name in entries if mark == "n"),
            repeated=tuple(name for mark, name in entries if mark == "d"),
        )


@dataclass(frozen=True)
class Schema:
    """What one REST method takes: its message, and the names that may stand in body and query."""

    method: Method

    @cached_property
    def message(self) -> type[Message]:
        """The class of the request."""
        descriptor = descriptor_pool.Default().FindMessageTypeByName(self.method.input_type)
        return message_factory.GetMessageClass(descriptor)

    @cached_property
    def body(self) -> frozenset[str]:
        """The names that the body's keys may have."""
        return frozenset() if self.method.verb != "POST" else self._names - {_IN_QUERY}

    @cached_property
    def query(self) -> frozenset[str]:
        """The names that the query's parameters may have."""
        return self._names if self.method.verb == "GET" else self._names & {_IN_QUERY}

    @cached_property
    def _names(self) -> frozenset[str]:
        hidden = {*_NOT_IN_REST, *self.method.variables}
        fields = (field for field in self.message.DESCRIPTOR.fields if field.name not in hidden)
        return frozenset(_IN_QUERY if f.json_name == _IN_QUERY else f.name for f in fields)

    def deserializer(self) -> Callable[[bytes], Message | None]:
        """Returns a parser that answers None to bytes that are no such message.

        Envoy makes such bytes of values that do not fit, as an object in `metadata`.
        """
        return parsed_or_none(self.message.FromString)

    def complete(self, request: Message | None, metadata: Mapping[str, str]) -> Message:
        """Returns the request with its mask, or raises the ApiError that it deserves."""
        keys = BodyKeys.parse(metadata.get(BODY_KEYS_HEADER, ""))
        url = urlsplit(metadata.get(ORIGINAL_PATH_HEADER, ""))
        self._check_names(keys, url.query)
        if request is None:
            _unreadable(keys)
        self._check_path(request, url.path)
        for name in keys.null:
            request.ClearField(name)
        _fill_mask(request, keys)
        return request

    def _check_names(self, keys: BodyKeys, query: str) -> None:
        in_query = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
        unknown = [name for name in in_query if name not in self.query]
        unknown += [name for name in keys.given if name not in self.body]
        for name in unknown:
            raise ApiError(Kind.unknown_parameter, f"Unknown parameter: '{name}'.", name)
        repeated = [name for name in _twice(in_query) if name != _IN_QUERY]
        for name in [*repeated, *keys.repeated]:
            raise ApiError(Kind.duplicate_parameter, f"Duplicate parameter: '{name}'.", name)

    def _check_path(self, request: Any, path: str) -> None:
        # Query parameters override path variables in Envoy: what the path says must have arrived.
        template = self.method.path.split("/")
        for variable, segment in zip(template, path.split("/"), strict=False):
            if variable.startswith("{"):
                name = variable.strip("{}")
                if getattr(request, name) != unquote(segment):
                    raise ApiError(
                        Kind.invalid_value,
                        f"Invalid '{name}': it does not match the path of the request.",
                        name,
                    )


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _unreadable(keys: BodyKeys) -> NoReturn:
    if "metadata" in keys.given:
        raise ApiError(
            Kind.invalid_type,
            "Invalid type for 'metadata': expected an object with string values.",
            "metadata",
        )
    raise ApiError(
        Kind.invalid_type,
        "Invalid type: a value does not have the documented type, or is nested too deeply.",
    )


def _fill_mask(request: Any, keys: BodyKeys) -> None:
    fields = request.DESCRIPTOR.fields_by_name
    if "update_mask" in fields:
        request.update_mask.paths.extend(keys.given)
    elif "override_mask" in fields:
        named = (name for name in keys.given if name not in keys.null and name != "stream")
        request.override_mask.paths.extend(named)
