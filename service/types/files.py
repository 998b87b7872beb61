"""Ids of files and vector stores in requests. This server keeps neither."""

from typing import NoReturn

from service.errors import ApiError, Kind


def unknown(file_id: str) -> NoReturn:
    """Refuses a file that is named."""
    raise ApiError(Kind.not_found, f"No file found with id '{file_id}'.")


def unknown_vector_store(vector_store_id: str) -> NoReturn:
    """Refuses a vector store that is named."""
    raise ApiError(Kind.not_found, f"No vector store found with id '{vector_store_id}'.")
