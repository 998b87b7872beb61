"""The operations that OpenAI's API does not have, in the form of the specification's own paths.

docs/extensions.md says what they do. An operation is here or in the specification, nowhere else.
"""

from typing import Any


def _query(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "in": "query"} for name in names]


def _body(*names: str) -> dict[str, Any]:
    return _content({"properties": {name: {} for name in names}})


def _answer(schema: dict[str, Any]) -> dict[str, Any]:
    return {"200": _content(schema)}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _object(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name: str) -> dict[str, Any]:
    id_or_null = {"type": ["string", "null"]}
    properties = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": _object(name)},
        "first_id": id_or_null,
        "last_id": id_or_null,
        "has_more": {"type": "boolean"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


MODEL = _closed(
    id={"type": "string"},
    object={"const": "model"},
    created={"type": "integer"},
    owned_by={"type": "string"},
)
"""OpenAI's, from a part of its document that the specification does not have."""

PATHS: dict[str, dict[str, Any]] = {
    "/models": {
        "get": {
            "responses": _answer(
                _closed(object={"const": "list"}, data={"type": "array", "items": MODEL})
            )
        }
    },
    "/models/{model}": {"get": {"responses": _answer(MODEL)}},
    "/threads": {
        "get": {
            "parameters": _query("limit", "order", "after", "before", "metadata"),
            "responses": _answer(_list_of("ThreadObject")),
        }
    },
    "/threads/{thread_id}/copy": {
        "post": {
            "requestBody": _body("up_to_message_id"),
            "responses": _answer(_object("ThreadObject")),
        }
    },
    "/threads/{thread_id}/runs/{run_id}/events": {
        "get": {"parameters": _query("after_sequence"), "responses": {}},
    },
}

DEEP = "/models/{model}"
"""The path whose last variable may have slashes."""

BODY_KEYS: dict[tuple[str, str], set[str]] = {
    ("POST", "/threads/{thread_id}/messages"): {"when_active"},
    ("POST", "/threads/{thread_id}/runs"): {"when_active", "cancel_on_disconnect"},
    ("POST", "/threads/runs"): {"cancel_on_disconnect"},
    ("POST", "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs"): {"cancel_on_disconnect"},
}
"""What bodies of the specification's operations may have beyond it."""
