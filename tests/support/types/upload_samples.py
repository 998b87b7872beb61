"""Rows of files and uploads with everything set and with nothing, and the answers made of them."""

from typing import Any

from service.types.answers import Answer, Deleted
from service.types.files import PURPOSES
from storage import rows
from storage.file_tables import UploadStatus
from storage.pages import Page
from storage.uploads import Part, Shown

OWNED: dict[str, Any] = {"project_id": "proj_1", "created_at": 1, "filename": 'a "ü.txt'}


def file(**changes: Any) -> rows.File:
    """A file, of which nothing is set but for `changes`."""
    bare: dict[str, Any] = {"position": "0", "purpose": "assistants", "bytes": 0}
    return rows.File(id="file-1", **OWNED | bare | changes)


def upload(**changes: Any) -> rows.Upload:
    """An upload, of which nothing is set but for `changes`."""
    bare: dict[str, Any] = {"purpose": "vision", "mime_type": "a/b", "bytes": 2**40}
    bare |= {"status": UploadStatus.pending, "expires_at": 3601}
    return rows.Upload(id="upload_1", **OWNED | bare | changes)


FILES = [
    *(file(purpose=purpose) for purpose in PURPOSES),
    file(purpose="assistants_output", bytes=2**40, expires_at=2),
]
EMPTY: Page[Any] = Page([], False)
ANSWERS: list[tuple[str, str, Answer]] = [
    *(("OpenAIFile", "File", row) for row in FILES),
    *(("Upload", "Upload", Shown(upload(status=status))) for status in UploadStatus),
    ("Upload", "Upload", Shown(upload(status=UploadStatus.completed), FILES[-1])),
    ("UploadPart", "UploadPart", Part("part_1", 1, "upload_1")),
    ("ListFilesResponse", "ListFilesResponse", EMPTY),
    ("ListFilesResponse", "ListFilesResponse", Page([*FILES], True)),
    ("DeleteFileResponse", "DeleteFileResponse", Deleted("file", "file-1")),
]
"""OpenAI's schema, the message of `assistants.v1`, and an answer that is presented as both."""
