"""What the servicers check of files that requests name."""

from collections.abc import Sequence

from service.errors import ApiError, Kind
from service.files.parsing.kinds import extension, readable
from storage import Storage, attachments
from storage.attachments import NewMessage

IMAGES = ("jpeg", "jpg", "png", "gif", "webp")
"""Extensions of the images that messages may show."""


async def check_readable(
    storage: Storage, project: str, file_ids: Sequence[str], param: str
) -> None:
    """Refuses files of which no parser can read any text, as their names tell.

    Those that there are not are refused later.
    """
    names = await storage.vector_store_files.names(project, file_ids)
    refused = {f".{extension(name)}" for name in names if not readable(name)}
    if refused:
        listed = ", ".join(sorted(refused))
        raise ApiError(
            Kind.unsupported_file,
            f"Files with extensions [{listed}] are not supported for retrieval.",
            param,
        )


async def check_files(storage: Storage, project: str, messages: Sequence[NewMessage]) -> None:
    """Refuses images that are none, and attachments to file_search without text, by their names."""
    if shown := attachments.images(messages):
        await _check_images(storage, project, shown)
    if attached := attachments.named(messages, "file_search"):
        await check_readable(storage, project, attached, "attachments")


async def _check_images(storage: Storage, project: str, file_ids: Sequence[str]) -> None:
    for name in await storage.vector_store_files.names(project, file_ids):
        if (kind := extension(name)) not in IMAGES:
            listed = ", ".join(f".{each}" for each in IMAGES)
            raise ApiError(
                Kind.malformed,
                "Invalid message content: Expected file type to be a supported format: "
                f"{listed} but got {f'.{kind}' if kind else 'none'}.",
            )
