"""Downloads: the bytes of a file, or of a range of it, with what HTTP says of them.

The server cannot set the status and the headers of an answer: it names them in headers of its own,
which gateway/edge.lua turns into those of HTTP.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from google.api.httpbody_pb2 import HttpBody

from service.api.transfers import Download
from service.calls import Call
from service.errors import ApiError, FilesUnavailable, Kind
from storage.errors import NotFound

CONTENT_TYPE = "application/octet-stream"
EDGE = "x-edge-"

BROKEN = b"\xff"
"""What is no HttpBody: Envoy breaks the answer off. An error could not be told any more: a client
would wait for the rest.
"""

_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII)
_PLAIN = re.compile(r"[ !#-\[\]-~]+")
"""Texts of ASCII that may stand between quotes as they are."""


class RangeNotSatisfiable(ApiError):
    """The range has no byte of the file, which has `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(
            Kind.range_not_satisfiable, f"The range has no byte of the file, which has {size}."
        )
        self.size = size


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes from `start` up to and without `end`. Not `partial`: all of them."""

    start: int
    end: int
    partial: bool


async def send(download: Download, call: Call) -> None:
    """Sends what the headers of a request ask for.

    Headers go with the first byte, when nothing can fail any more but the disk.
    """
    file = download.file
    chosen = choose(call.metadata, file.bytes, _tag(file.id))
    pieces = download.read(chosen.start, chosen.end)
    first = await anext(pieces, b"")
    await call.begin(tuple(_headers(chosen, file.bytes, file.filename, file.id).items()))
    await call.write(HttpBody(content_type=CONTENT_TYPE, data=first))
    try:
        async for data in pieces:
            await call.write(HttpBody(data=data))
    except (ApiError, FilesUnavailable, NotFound):
        await call.write(BROKEN)
        raise


def serialize(message: HttpBody | bytes) -> bytes:
    """Returns the bytes of a message, or those that are none."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def choose(headers: Mapping[str, str], size: int, tag: str) -> Range:
    """Returns the range that a request names. Raises RangeNotSatisfiable.

    Several ranges, and what is no range at all, mean everything, as RFC 9110 allows; so does a
    range of another content than that of the `tag`.
    """
    everything = Range(0, size, partial=False)
    found = _RANGE.fullmatch(headers.get("range", ""))
    if found is None or headers.get("if-range", tag) != tag:
        return everything
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return everything
    elif last:
        start, end = max(size - int(last), 0), size
    else:
        return everything
    if start >= end:
        raise RangeNotSatisfiable(size)
    return Range(start, end, partial=True)


def disposition(filename: str) -> str:
    """Returns the header that saves the bytes under a name, whatever is in it.

    Of what is not ASCII, or would end the quotes, old clients see an underscore.
    """
    if _PLAIN.fullmatch(filename):
        return f'attachment; filename="{filename}"'
    plain = re.sub(r"[^ !#-\[\]-~]", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _headers(chosen: Range, size: int, filename: str, file_id: str) -> dict[str, str]:
    headers = {
        "content-disposition": disposition(filename),
        "content-length": str(chosen.end - chosen.start),
        "accept-ranges": "bytes",
        "etag": _tag(file_id),
    }
    if chosen.partial:
        headers["status"] = "206"
        headers["content-range"] = f"bytes {chosen.start}-{chosen.end - 1}/{size}"
    return {f"{EDGE}{name}": value for name, value in headers.items()}


def _tag(file_id: str) -> str:
    # The bytes of a file never change.
    return f'"{file_id}"'
