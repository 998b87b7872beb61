"""Uploads and their parts: what requests for them say, and how they are shown."""

import re
from collections.abc import Sequence

from assistants.v1 import files_pb2

from service.errors import ApiError, Kind
from service.types import checks, files
from service.types.json_value import Json
from service.types.requests import Field
from storage.uploads import Part, Shown

MAX_PARTS = 100_000
MAX_MIME_TYPE = 255

_MD5 = re.compile(r"[0-9a-fA-F]{32}")


def fields(max_bytes: int) -> tuple[Field, ...]:
    """Returns what a caller says of an upload, in the order of checking."""

    def size(param: str, value: int) -> int:
        return checks.integer(param, value, 0, max_bytes)

    return (
        *files.FIELDS,
        Field("bytes", size, required=True),
        Field("mime_type", mime_type, required=True),
    )


def mime_type(param: str, value: str) -> str:
    """Returns the type of a file, which is whatever a caller likes."""
    return checks.required_text(param, value, MAX_MIME_TYPE)


def part_ids(param: str, given: Sequence[str]) -> list[str]:
    """Returns the ids of parts, each of which is there once."""
    checks.array(param, len(given), MAX_PARTS)
    seen: set[str] = set()
    for id in given:
        checks.text(param, id, 512)
        if id in seen:
            raise ApiError(Kind.invalid_value, f"Invalid '{param}': '{id}' is there twice.", param)
        seen.add(id)
    return [*given]


def md5(param: str, value: str) -> str:
    """Returns an MD5 in small letters."""
    if not _MD5.fullmatch(value):
        message = f"Invalid '{param}': expected 32 hexadecimal digits."
        raise ApiError(Kind.invalid_value, message, param)
    return value.lower()


def to_json(shown: Shown) -> Json:
    """Returns an Upload, with its file once it has one."""
    upload = shown.upload
    value = {
        "id": upload.id,
        "object": "upload",
        "created_at": upload.created_at,
        "filename": upload.filename,
        "bytes": upload.bytes,
        "purpose": upload.purpose,
        "status": upload.status,
        "expires_at": upload.expires_at,
    }
    return value if shown.file is None else value | {"file": files.to_json(shown.file)}


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    fields = {key: item for key, item in value.items() if key != "object"}
    if "file" in fields:
        fields["file"] = files_pb2.File(**files.to_fields(fields["file"]))
    return fields


def part_to_json(part: Part) -> Json:
    """Returns an UploadPart."""
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": part.created_at,
        "upload_id": part.upload_id,
    }


def part_to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    return {key: item for key, item in value.items() if key != "object"}
