"""When the official clients' polling helpers are to look at an answer again: a header says it.

That of runs is set by gateway/edge.lua: it is always the same.
"""

from gateway.downloads import EDGE
from service.types.answers import Answer
from storage import wall_clock
from storage.rows import VectorStoreBatch
from storage.vector_store_files import Entry

HEADER = f"{EDGE}openai-poll-after-ms"
POLLED = frozenset({"GetVectorStoreFile", "GetVectorStoreFileBatch"})
"""The methods that the helpers call."""

SOON, LATER = "200", "1000"
"""Milliseconds: most files are indexed at once, and large ones take a while."""

YOUNG_SECONDS = 10


def headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Returns the headers of an answer of these methods."""
    match answer:
        case Entry(row=row):
            begun = row.created_at
        case VectorStoreBatch():
            begun = answer.created_at
        case _:
            return ()
    # Both clocks matter as little as a look too many does.
    return ((HEADER, SOON if wall_clock.now() < begun + YOUNG_SECONDS else LATER),)
