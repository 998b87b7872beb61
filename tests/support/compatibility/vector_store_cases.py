"""Requests for vector stores that are refused; see tests/support/compatibility/cases.py."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from service.errors import Kind
from tests.support.compatibility.errors import Case
from tests.support.compatibility.words import TOO_LONG, TOO_MANY, TOO_MANY_PROPERTIES

STORE, ENTRIES, BATCHES = "/vector_stores/{store}", "/files", "/file_batches"
NO_STORE = "No vector store found with id 'vs_x'."
NO_FILE = "No file found with id 'file-x'."
NO_BATCH = "No batch found with id 'vsfb_x'."
BEGINS = "Invalid '{}': '{}'. Expected an ID that begins with '{}'."
BETWEEN = "Invalid '{}': integer {} value. Expected a value {}, but got {} instead."
CHARACTERS = (
    "Invalid 'file_ids[0]': 'file x'. Expected an ID that contains letters, numbers, underscores, "
    "or dashes, but this value contained additional characters."
)
OVERLAP = "'chunk_overlap_tokens' must not exceed half of 'max_chunk_size_tokens'."
HALF = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}}


def _unknown() -> Iterator[Case]:
    def missing(message: str, *requests: str, body: Any = None) -> Iterator[Case]:
        for request in requests:
            yield Case(Kind.not_found, request, message, body=body)

    none, entry, batch = "/vector_stores/vs_x", f"{ENTRIES}/file-x", f"{BATCHES}/vsfb_x"
    new, several = {"file_id": "file-x"}, {"file_ids": ["file-x"]}
    yield from missing(NO_STORE, f"GET {none}", f"POST {none}", f"DELETE {none}")
    yield from missing(NO_STORE, f"POST {none}/search", body={"query": "q"})
    yield from missing(NO_STORE, f"POST {none}{ENTRIES}", body=new)
    yield from missing(NO_STORE, f"POST {none}{BATCHES}", body=several)
    yield from missing(
        NO_STORE,
        *(f"GET {none}{path}" for path in (ENTRIES, entry, f"{entry}/content", batch)),
        *(f"GET {none}{batch}/files", f"POST {none}{batch}/cancel", f"DELETE {none}{entry}"),
    )
    yield from missing(NO_FILE, "POST /vector_stores", f"POST {STORE}{BATCHES}", body=several)
    yield from missing(NO_FILE, f"POST {STORE}{ENTRIES}", body=new)
    yield from missing(
        "No file found with id 'file-x' in vector store '{store}'.",
        *(f"{verb} {STORE}{entry}" for verb in ("GET", "POST", "DELETE")),
        f"GET {STORE}{entry}/content",
    )
    yield from missing(
        NO_BATCH,
        *(f"GET {STORE}{batch}", f"POST {STORE}{batch}/cancel", f"GET {STORE}{batch}/files"),
    )


def _ids() -> Iterator[Case]:
    def other(request: str, param: str, value: str, prefix: str, body: Any = None) -> Case:
        return Case(Kind.invalid_value, request, BEGINS.format(param, value, prefix), param, body)

    yield other("GET /vector_stores/file-x", "vector_store_id", "file-x", "vs_")
    yield other(f"GET {STORE}{ENTRIES}/vs_x", "file_id", "vs_x", "file")
    yield other(f"POST {STORE}{BATCHES}/vs_x/cancel", "batch_id", "vs_x", "vsfb_")
    yield other(f"POST {STORE}{ENTRIES}", "file_id", "x", "file", {"file_id": "x"})
    named = {"tool_resources": {"file_search": {"vector_store_ids": ["file-x"]}}}
    param = "tool_resources.file_search.vector_store_ids[0]"
    yield other("POST /threads", param, "file-x", "vs_", named)
    spaced = {"file_ids": ["file x"]}
    yield Case(Kind.invalid_value, "POST /vector_stores", CHARACTERS, "file_ids[0]", spaced)


def _values() -> Iterator[Case]:
    create, search = "POST /vector_stores", f"POST {STORE}/search"
    batch = f"POST {STORE}{BATCHES}"

    def case(kind: Kind, request: str, message: str, param: str | None, body: Any = None) -> Case:
        return Case(kind, request, message, param, body)

    def missing(request: str, param: str, body: Any) -> Case:
        message = f"Missing required parameter: '{param}'."
        return Case(Kind.missing, request, message, param, body)

    yield case(
        Kind.unsupported_file,
        create,
        "Files with extensions [.png] are not supported for retrieval.",
        "file_ids",
        {"file_ids": ["{png}"]},
    )
    yield case(
        Kind.wrong_status,
        f"GET {STORE}{ENTRIES}/{{png}}/content",
        "The content of file '{png}' in vector store '{store}' cannot be read while its status is "
        "'failed'.",
        None,
    )
    yield case(
        Kind.malformed,
        batch,
        "Only one of 'file_ids' and 'files' can be given.",
        None,
        {"file_ids": ["file-x"], "files": [{"file_id": "file-x"}]},
    )
    yield case(
        Kind.invalid_value, create, OVERLAP, "chunking_strategy", {"chunking_strategy": HALF}
    )
    yield missing(batch, "file_ids", {})
    yield missing(search, "query", {})
    yield missing(create, "expires_after.days", {"expires_after": {"anchor": "last_active_at"}})
    for days, kind, words in (
        (0, Kind.integer_below_min, ("below minimum", ">= 1")),
        (366, Kind.integer_above_max, ("above maximum", "<= 365")),
    ):
        body = {"expires_after": {"anchor": "last_active_at", "days": days}}
        message = BETWEEN.format("expires_after.days", *words, days)
        yield case(kind, create, message, "expires_after.days", body)
    yield case(
        Kind.integer_above_max,
        search,
        BETWEEN.format("max_num_results", "above maximum", "<= 50", 51),
        "max_num_results",
        {"query": "q", "max_num_results": 51},
    )
    yield case(
        Kind.invalid_value,
        f"GET {STORE}{ENTRIES}?filter=done",
        "Invalid value: 'done'. Supported values are: 'in_progress', 'completed', 'failed', and "
        "'cancelled'.",
        "filter",
    )
    yield case(
        Kind.array_below_min,
        search,
        "Invalid 'filters.filters': empty array. Expected an array with minimum length 1, but got "
        "an empty array instead.",
        "filters.filters",
        {"query": "q", "filters": {"type": "and", "filters": []}},
    )


NEW: Final[dict[str, Any]] = {"file_id": "file-x"}
ALL: Final[dict[str, Any]] = {"file_ids": ["file-x"]}
ALONG: Final = "tool_resources.file_search.vector_stores[0].file_ids"
MANY: Final = Kind.array_above_max, TOO_MANY
LONG: Final = Kind.string_above_max, TOO_LONG
PROPERTIES: Final = Kind.too_many_properties, TOO_MANY_PROPERTIES


def _several(count: int) -> dict[str, Any]:
    return {"file_ids": ["file-x"] * count}


def _along(count: int) -> dict[str, Any]:
    return {"tool_resources": {"file_search": {"vector_stores": [_several(count)]}}}


def _with(attributes: dict[str, Any]) -> dict[str, Any]:
    return NEW | {"attributes": attributes}


LIMITS: Final[list[tuple[tuple[Kind, str], str, str, int, Callable[[int], Any]]]] = [
    (MANY, "/vector_stores", "file_ids", 500, _several),
    (MANY, f"{STORE}{BATCHES}", "file_ids", 2000, _several),
    (MANY, f"{STORE}{BATCHES}", "files", 2000, lambda n: {"files": [NEW] * n}),
    (MANY, "/threads", ALONG, 10_000, _along),
    (MANY, "/assistants", ALONG, 10_000, lambda n: {"model": "m"} | _along(n)),
    (LONG, "/vector_stores", "name", 256, lambda n: ALL | {"name": "ü" * n}),
    (
        PROPERTIES,
        f"{STORE}{ENTRIES}",
        "attributes",
        16,
        lambda n: _with({str(each): 1 for each in range(n)}),
    ),
    (LONG, f"{STORE}{ENTRIES}", "attributes key", 64, lambda n: _with({"ü" * n: 1})),
    (LONG, f"{STORE}{ENTRIES}", "attributes.k", 512, lambda n: _with({"k": "ü" * n})),
]
"""What is limited, by how much, and a body that has so much of it and names an unknown file."""


def _limits() -> Iterator[Case]:
    """What is at its limit gets as far as the file."""
    for (kind, words), path, param, most, body in LIMITS:
        yield Case(Kind.not_found, f"POST {path}", NO_FILE, body=body(most))
        message = words.format(param, most, most + 1)
        yield Case(kind, f"POST {path}", message, param, body(most + 1))
    message = "Vector store '{full}' can have 10000 files at most."
    for path, given in ((ENTRIES, {"file_id": "{txt}"}), (BATCHES, {"file_ids": ["{txt}"]})):
        full = f"POST /vector_stores/{{full}}{path}"
        yield Case(Kind.array_above_max, full, message, body=given)


CASES: Final = [*_unknown(), *_ids(), *_values(), *_limits()]
