"""Pages of lists: what a request asks for, and how each transport frames it."""

from typing import Any, Protocol

from google.protobuf.message import Message

from service.types import checks
from service.types.json_value import Json
from storage.pages import Page, PageRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class ListRequest(Protocol):
    """What the requests of all lists have in common."""

    limit: int
    order: str
    after: str

    def HasField(self, name: Any) -> bool:
        """Returns whether the caller gave a value."""


def parse(
    request: ListRequest, *, limit: int = DEFAULT_LIMIT, maximum: int = MAX_LIMIT
) -> PageRequest:
    """Returns the page that a list request asks for, of `limit` objects unless it says.

    Not all requests have `before`.
    """
    if request.HasField("limit"):
        limit = checks.integer("limit", request.limit, 1, maximum)
    order = "desc"
    if request.HasField("order"):
        order = checks.choice("order", request.order, ("asc", "desc"))
    return PageRequest(
        limit=limit,
        order="asc" if order == "asc" else "desc",
        after=_cursor(request, "after"),
        before=_cursor(request, "before") if hasattr(request, "before") else None,
    )


def _cursor(request: ListRequest, param: str) -> str | None:
    value: str = getattr(request, param)
    return checks.text(param, value, 512) if request.HasField(param) and value else None


def to_json(page: Page[Any], data: list[Json]) -> Json:
    """Returns a list object of a page whose objects are `data`."""
    ends = _ends(page)
    return {
        "object": "list",
        "data": data,
        "first_id": ends.get("first_id"),
        "last_id": ends.get("last_id"),
        "has_more": page.has_more,
    }


def to_proto(page: Page[Any], data: list[Json], kind: type[Message]) -> Message:
    """Returns the same as a message of `kind`; `data` has the fields of its objects."""
    return kind(data=data, has_more=page.has_more, **_ends(page))


def _ends(page: Page[Any]) -> dict[str, str]:
    return {"first_id": page.data[0].id, "last_id": page.data[-1].id} if page.data else {}
