"""Files and uploads: each call, and the helpers."""

import hashlib
from typing import Any, Final

import openai

from tests.clients.python.harness import check, each, got, refused, same

CONTENT: Final = bytes(range(256)) * 1000


@check
async def every_call_on_files(client: Any, model: str) -> None:
    files = client.files
    file = await got(files.create(file=("a b ü.txt", CONTENT), purpose="assistants"))
    same((file.filename, file.bytes, file.purpose), ("a b ü.txt", len(CONTENT), "assistants"))
    same((await got(files.wait_for_processing(file.id))).to_dict(), file.to_dict())
    same((await got(files.retrieve(file.id))).to_dict(), file.to_dict())
    same((await each(files.list(purpose="assistants", limit=1)))[0].id, file.id)
    same((await got(files.content(file.id))).content, CONTENT)
    deleted = await got(files.delete(file.id))
    same(deleted.to_dict(), {"id": file.id, "object": "file", "deleted": True})
    await refused(openai.NotFoundError, lambda: files.retrieve(file.id))
    wrong = lambda: files.create(file=("a", b"x"), purpose="x")  # noqa: E731
    await refused(openai.BadRequestError, wrong)


@check
async def every_call_on_uploads(client: Any, model: str) -> None:
    uploads, parts = client.uploads, client.uploads.parts
    given: dict[str, Any] = {"filename": "a", "mime_type": "a/b", "purpose": "assistants"}
    upload = await got(uploads.create(bytes=len(CONTENT), **given))
    same((upload.status, upload.file), ("pending", None))
    first = await got(parts.create(upload.id, data=CONTENT[:9]))
    rest = await got(parts.create(upload.id, data=CONTENT[9:]))
    digest = hashlib.md5(CONTENT).hexdigest()
    done = await got(uploads.complete(upload.id, part_ids=[first.id, rest.id], md5=digest))
    same((done.status, done.file.bytes), ("completed", len(CONTENT)))
    same((await got(client.files.content(done.file.id))).content, CONTENT)
    other = await got(uploads.create(bytes=1, **given))
    same((await got(uploads.cancel(other.id))).status, "cancelled")


@check
async def uploads_in_chunks(client: Any, model: str) -> None:
    chunked = client.uploads.upload_file_chunked
    named: dict[str, Any] = {"filename": "a.bin", "mime_type": "a/b", "purpose": "assistants"}
    done = await got(chunked(file=CONTENT, bytes=len(CONTENT), part_size=70_000, **named))
    same((done.status, done.file.filename), ("completed", "a.bin"))
    same((await got(client.files.content(done.file.id))).content, CONTENT)
