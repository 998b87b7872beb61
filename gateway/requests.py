"""Completes the requests that Envoy has transcoded with what transcoding loses, or lets through.

gateway/edge.lua reads the body before Envoy's transcoder does. It refuses keys that the API does
not have, or that are given twice, and hands the top-level keys over in a header: entries `v<hex>`
for a key with a value, `n<hex>` for one that is null, joined by commas. From them come the field
masks.
What the values may be is none of this module's business: the servicers check it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from gateway.descriptor import IN_QUERY, NOT_IN_REST, Method, raw_message
from service.errors import ApiError, Kind

ABOUT_FILE = frozenset({"data", "bytes", "filename"})
"""Fields of gRPC's messages that the part of a file in a form says."""

BODY_KEYS_HEADER = "x-edge-body-keys"
ORIGINAL_PATH_HEADER = "x-envoy-original-path"


@dataclass(frozen=True, slots=True)
class BodyKeys:
    """The top-level keys of a JSON body in their order, and which of them are null."""

    given: tuple[str, ...] = ()
    null: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, header: str) -> "BodyKeys":
        """Reads the header that the edge sets; an empty one means no body."""
        entries = [
            (entry[0], bytes.fromhex(entry[1:]).decode()) for entry in header.split(",") if entry
        ]
        return cls(
            given=tuple(name for _, name in entries),
            null=frozenset(name for mark, name in entries if mark == "n"),
        )


@dataclass(frozen=True)
class Schema:
    """What one REST method takes: its message, and the names that may stand in the query."""

    method: Method

    @cached_property
    def message(self) -> type[Message]:
        """The class of the request, or of a piece of it."""
        if self.method.raw:
            return raw_message(self.method)
        descriptor = descriptor_pool.Default().FindMessageTypeByName(self.method.input_type)
        return message_factory.GetMessageClass(descriptor)

    @cached_property
    def form(self) -> frozenset[str]:
        """The names of a form's fields, but for the file's, whose part says as much as those."""
        names = {field.name for field in self.request().DESCRIPTOR.fields}
        return frozenset(names - {*self.method.variables, *ABOUT_FILE})

    def request(self) -> Any:
        """Returns an empty message of the typed method."""
        service = descriptor_pool.Default().FindServiceByName(self.method.service)
        return message_factory.GetMessageClass(
            service.methods_by_name[self.method.name].input_type
        )()

    @cached_property
    def query(self) -> frozenset[str]:
        """The names that the query's parameters may have."""
        return self._names if self.method.verb == "GET" else self._names & {IN_QUERY}

    @cached_property
    def _names(self) -> frozenset[str]:
        hidden = {*NOT_IN_REST, *self.method.variables}
        fields = (field for field in self.message.DESCRIPTOR.fields if field.name not in hidden)
        return frozenset(IN_QUERY if f.json_name == IN_QUERY else f.name for f in fields)

    def complete(self, request: Message | None, metadata: Mapping[str, str]) -> Message:
        """Returns the request with its mask, or raises the ApiError that it deserves.

        There is no `request` where Envoy's bytes are no such message. It makes them of values that
        do not fit, as an object in `metadata`.
        """
        keys = BodyKeys.parse(metadata.get(BODY_KEYS_HEADER, ""))
        url = urlsplit(metadata.get(ORIGINAL_PATH_HEADER, ""))
        self._check_query(url.query)
        if request is None:
            _unreadable(keys)
        self._check_path(request, url.path)
        for name in keys.null:
            request.ClearField(name)
        _fill_mask(request, keys)
        return request

    def _check_query(self, query: str) -> None:
        given = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
        for name in given:
            if name not in self.query:
                raise ApiError(Kind.unknown_parameter, f"Unknown parameter: '{name}'.", name)
        for name in _twice(given):
            if name != IN_QUERY:
                raise ApiError(Kind.duplicate_parameter, f"Duplicate parameter: '{name}'.", name)

    def _check_path(self, request: Any, path: str) -> None:
        # Query parameters override path variables in Envoy: what the path says must have arrived.
        segments = path.split("/")
        template = self.method.path.split("/")
        if self.method.deep:
            last = len(template) - 1
            segments = [*segments[:last], "/".join(segments[last:])]
        for variable, segment in zip(template, segments, strict=False):
            if variable.startswith("{"):
                name, given = variable.strip("{}"), unquote(segment)
                arrived = getattr(request, name)
                if self.method.deep and unquote(arrived) == given:
                    # Where a variable may have slashes, Envoy leaves those alone that are escaped.
                    setattr(request, name, given)
                elif arrived != given:
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
