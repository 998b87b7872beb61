"""Files: what requests for them say, and how they are shown."""

from typing import Any, NoReturn

from assistants.v1 import files_pb2

from service.errors import ApiError, Kind
from service.types import checks
from service.types.json_value import Json
from service.types.requests import Field, Stored
from storage.rows import File

PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
"""What callers may say that a file is for."""

NOT_DOWNLOADABLE = ("assistants", "user_data")
"""Purposes of files that OpenAI's API gives nobody back."""

MAX_FILENAME = 512
DEFAULT_LIMIT = MAX_LIMIT = 10_000

LEAST_SECONDS, MOST_SECONDS = 3600, 2_592_000
"""How long a file that expires stays."""


def missing(param: str) -> NoReturn:
    """Refuses a request for a file that lacks `param`."""
    raise ApiError(Kind.malformed, f"'{param}' is a required property")


def object_id(file_id: str) -> str:
    """Returns the id of a file that a path names."""
    return checks.object_id("file_id", file_id, "file")


def purpose(param: str, value: str) -> str:
    """Returns a purpose, if it is one that callers may give."""
    if value not in PURPOSES:
        message = f"'{value[:100]}' is not one of {[*PURPOSES]} - '{param}'"
        raise ApiError(Kind.malformed, message, param)
    return value


def check_downloadable(row: File) -> None:
    """Refuses a file of a purpose in NOT_DOWNLOADABLE. Raises ApiError."""
    if row.purpose in NOT_DOWNLOADABLE:
        message = f"Not allowed to download files of purpose: {row.purpose}"
        raise ApiError(Kind.malformed, message)


def filename(param: str, value: str) -> str:
    """Returns a name, which is whatever a caller likes: it never reaches a file system."""
    return checks.required_text(param, value, MAX_FILENAME)


def expires_after(param: str, given: files_pb2.FileExpiresAfter) -> dict[str, Any]:
    """Returns when a file goes."""
    anchor = checks.choice(f"{param}.anchor", given.anchor, ("created_at",))
    if not given.HasField("seconds"):
        checks.missing(f"{param}.seconds")
    seconds = checks.integer(f"{param}.seconds", given.seconds, LEAST_SECONDS, MOST_SECONDS)
    return {"anchor": anchor, "seconds": seconds}


def _expire_batches(stored: Stored) -> None:
    if stored["expires_after"] is None and stored["purpose"] == "batch":
        stored["expires_after"] = {"anchor": "created_at", "seconds": MOST_SECONDS}


FIELDS: tuple[Field, ...] = (
    Field("filename", filename, required=True),
    Field("purpose", purpose, required=True),
    Field("expires_after", expires_after, check=_expire_batches),
)
"""What a caller says of a file, in the order of checking."""


def to_json(row: File) -> Json:
    """Returns an OpenAIFile."""
    shown = {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
    }
    return shown if row.expires_at is None else shown | {"expires_at": row.expires_at}


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    return {key: item for key, item in value.items() if key != "object"}
