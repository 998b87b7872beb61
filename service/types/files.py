"""Ids of files in requests."""

from typing import NoReturn

from service.errors import ApiError, Kind


def unknown(file_id: str) -> NoReturn:
    """Refuses a file that is named."""
    raise ApiError(Kind.not_found, f"No file found with id '{file_id}'.")
