"""What the servicers check of files that are put into vector stores."""

from collections.abc import Iterable, Sequence

from service.errors import ApiError, Kind
from service.files.parsing.kinds import extension, readable
from storage import Storage, attachments
from storage.attachments import NewMessage


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


async def check_attachments(storage: Storage, project: str, messages: Iterable[NewMessage]) -> None:
    """Refuses attachments to file_search of which no parser can read any text."""
    if attached := attachments.named([*messages], "file_search"):
        await check_readable(storage, project, attached, "attachments")
