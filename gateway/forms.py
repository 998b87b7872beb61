"""Forms: multipart/form-data that is read as it comes, one field of which is a file.

Nothing is held but the values of the other fields. A form is accepted behind its closing boundary
only: to Envoy, a caller that goes away ends its body as one does that is done.
"""

import re
from collections.abc import AsyncIterator, Collection
from typing import Any
from urllib.parse import unquote

import multipart
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from service.api.transfers import too_large
from service.errors import ApiError, Kind

MAX_BOUNDARY = 256
MAX_PARTS = 32
MAX_PART_HEADERS = 16
MAX_HEADER = 16 * 2**10
"""Bytes of one header of a part, which may be a long name."""

MAX_VALUE = 4 * 2**10
"""Bytes of the value of a field that is no file."""

MAX_AROUND = 2**20
"""Bytes of a form besides its file."""

_EXTENDED = re.compile(r";\s*filename\*\s*=\s*([\w-]+)'[^']*'([^;\s]+)", re.IGNORECASE)
_CHARSETS = frozenset({"utf-8", "iso-8859-1"})
"""Those that `filename*` may name, as in RFC 5987. Others of Python's make texts that are none."""

_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
_NESTED = re.compile(r"(\w+)\[(\w+)\]")


class Form:
    """A form that becomes a message, and its file; see service/api/transfers.py, Incoming."""

    announced = False

    def __init__(
        self, pieces: AsyncIterator[Any], field: str, request: Any, others: Collection[str]
    ) -> None:
        """Reads messages with a piece of a body each. `field` is the name of the file's.

        `request` is a message that gets the values of the `others`.
        """
        self.request = request
        self._pieces = pieces
        self._field = field
        self._others = others
        self._seen: set[str] = set()
        self._values: dict[str, bytearray] = {}

    @property
    def upload_id(self) -> str | None:
        """The upload of a part, for the log."""
        return getattr(self.request, "upload_id", None)

    async def pieces(self, maximum: int) -> AsyncIterator[bytes]:
        """Yields the file's bytes; see Incoming."""
        parser: PushMultipartParser | None = None
        name, size, total = "", 0, 0
        async for message in self._pieces:
            if parser is None:
                parser = _parser(message.body.content_type)
            total += len(message.body.data)
            if total > maximum + MAX_AROUND:
                raise too_large(maximum, self._field)
            for event in _events(parser, message.body.data):
                if isinstance(event, MultipartSegment):
                    name = self._begin(event)
                elif event is None:
                    continue
                elif name == self._field:
                    size += len(event)
                    if size > maximum:
                        raise too_large(maximum, self._field)
                    yield event
                else:
                    self._add(name, event)
        if parser is not None:
            _complete(parser)
        if self._field not in self._seen:
            raise ApiError(Kind.malformed, f"'{self._field}' is a required property")
        for name, value in self._values.items():
            self._set(name, value)

    def _begin(self, segment: MultipartSegment) -> str:
        """Notes that a field begins, and returns its name."""
        disposition = segment.header("Content-Disposition") or ""
        _, options = multipart.parse_options_header(disposition, unquote=_unquoted)
        name = str(options.get("name", ""))
        if name in self._seen:
            message = f"Duplicate parameter: '{name[:100]}'."
            raise ApiError(Kind.duplicate_parameter, message, name[:100])
        if name == self._field:
            filename = _extended(disposition) or options.get("filename")
            if not filename:
                raise ApiError(Kind.malformed, f"'{self._field}' is a required property")
            if "filename" in self.request.DESCRIPTOR.fields_by_name:
                self.request.filename = filename
        else:
            # Refused at once if there is no such field.
            self._target(name)
            self._values[name] = bytearray()
        self._seen.add(name)
        return name

    def _add(self, name: str, data: bytes) -> None:
        value = self._values[name]
        value += data
        if len(value) > MAX_VALUE:
            message = f"Invalid '{name}': string too long."
            raise ApiError(Kind.string_above_max, message, name)

    def _target(self, name: str) -> tuple[Message, FieldDescriptor]:
        """Returns the message and its field for which the form's, such as `a[b]`, stands."""
        outer, inner = name, ""
        if (nested := _NESTED.fullmatch(name)) is not None:
            outer, inner = nested.groups()
        target: Any = self.request
        field = target.DESCRIPTOR.fields_by_name[outer] if outer in self._others else None
        if inner and field is not None and field.message_type is not None:
            target = getattr(target, outer)
            field = target.DESCRIPTOR.fields_by_name.get(inner)
        elif inner:
            field = None
        if field is None or field.message_type is not None:
            message = f"Unknown parameter: '{name[:100]}'."
            raise ApiError(Kind.unknown_parameter, message, name[:100])
        return target, field

    def _set(self, name: str, value: bytearray) -> None:
        target, field = self._target(name)
        path = name.replace("[", ".").replace("]", "")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise ApiError(
                Kind.invalid_value, f"Invalid '{path}': it is not UTF-8.", path
            ) from None
        if field.type == FieldDescriptor.TYPE_STRING:
            setattr(target, field.name, text)
            return
        try:
            if _INTEGER.fullmatch(text) is None:
                raise ValueError
            setattr(target, field.name, int(text))
        except ValueError:
            message = f"Invalid type for '{path}': expected an integer, but got a string instead."
            raise ApiError(Kind.invalid_type, message, path) from None


def _parser(content_type: str) -> PushMultipartParser:
    kind, options = multipart.parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise ApiError(
            Kind.malformed,
            f"Invalid Content-Type header ({kind[:100]}), expected multipart/form-data.",
        )
    boundary = options.get("boundary", "")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise _unreadable("it has no boundary")
    try:
        return PushMultipartParser(
            boundary,
            max_header_size=MAX_HEADER,
            max_header_count=MAX_PART_HEADERS,
            max_segment_count=MAX_PARTS,
        )
    except MultipartError as error:
        raise _unreadable(str(error.args[0])) from None


def _events(parser: PushMultipartParser, data: bytes) -> Any:
    if not data:
        return
    try:
        yield from parser.parse(data)
    except MultipartError as error:
        raise _unreadable(str(error.args[0])) from None


def _complete(parser: PushMultipartParser) -> None:
    try:
        parser.close()
    except MultipartError:
        raise _unreadable("it ended before its closing boundary") from None


def _unreadable(reason: str) -> ApiError:
    return ApiError(
        Kind.malformed,
        f"We could not parse the body of your request as multipart/form-data: {reason}.",
    )


def _unquoted(value: str, filename: bool = False) -> str:
    # A name is kept whole: old browsers, of whose paths the parser would cut it out, are gone. curl
    # and httpx double each backslash, which browsers do not.
    return str(multipart.content_disposition_unquote(value)).replace("\\\\", "\\")


def _extended(disposition: str) -> str | None:
    """Returns the name that stands in `filename*`, as some clients write what is not ASCII."""
    if (found := _EXTENDED.search(disposition)) is None:
        return None
    if found[1].lower() not in _CHARSETS:
        raise _unreadable("a name is in an encoding that is neither UTF-8 nor ISO-8859-1")
    try:
        return unquote(found[2].strip('"'), encoding=found[1], errors="strict")
    except UnicodeError:
        raise _unreadable("a name is not in the encoding that it names") from None
