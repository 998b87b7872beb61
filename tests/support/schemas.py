"""Checks bodies against the published schemas (tests/compatibility/openapi.json), strictly.

The answers of our own operations are made of the same objects (tests/support/extensions.py).

A body fails if a required key is missing, and also if it has a key that the schemas do not know.
Four readings of the document: `nullable`, which it still uses in places, allows null;
`first_id` and `last_id` of an empty page are null, as the hosted API sent them; and so is the
`name` of a vector store without one, which requests may give as null. A file may have each purpose
that a request may give.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tests.support import extensions

_DOCUMENT = Path(__file__).parents[1] / "compatibility" / "openapi.json"


def validate(schema_name: str, body: object) -> None:
    """Fails unless the body is exactly what the schema of that name says."""
    _check({"$ref": f"#/components/schemas/{schema_name}"}, body, schema_name)


def validate_response(method: str, path: str, body: object) -> None:
    """Fails unless the body is what the operation answers with 200; `path` may begin with /v1."""
    path = path.split("?")[0].removeprefix("/v1")
    response = _operation(method, path)["responses"]["200"]
    _check(response["content"]["application/json"]["schema"], body, f"{method} {path}")


def validate_event(name: str, data: Any) -> None:
    """Fails unless a streamed event is as documented; `data` is parsed, or `[DONE]`."""
    if name == "error":
        # Once more under `error`, for the official Python client (service/runner/events/build.py).
        data = dict(data)
        assert data.pop("error") == data
    assert name in _events(), f"{name} is not an event of the specification"
    _check(_events()[name], {"event": name, "data": data}, name)


@cache
def document() -> dict[str, Any]:
    """Returns the document with its schemas made strict."""
    result: dict[str, Any] = _strict(json.loads(_DOCUMENT.read_text()))
    schemas = result["components"]["schemas"]
    schemas["VectorStoreObject"]["properties"]["name"] = {"type": ["string", "null"]}
    schemas["OpenAIFile"]["properties"]["purpose"]["enum"].append("evals")
    for name, schema in schemas.items():
        if name.startswith("List"):
            for key in ("first_id", "last_id"):
                schema["properties"][key] = {"type": ["string", "null"]}
    return result


@cache
def _events() -> dict[str, dict[str, Any]]:
    """Returns the schema of each event: trying all of them on each takes ten times as long."""
    return {
        schema["properties"]["event"]["enum"][0]: schema
        for schema in _alternatives({"$ref": "#/components/schemas/AssistantStreamEvent"})
    }


def _alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from _alternatives(document()["components"]["schemas"][name])
    elif choices := schema.get("oneOf") or schema.get("anyOf"):
        for choice in choices:
            yield from _alternatives(choice)
    else:
        yield schema


def _operation(method: str, path: str) -> Any:
    paths = [*document()["paths"].items(), *extensions.PATHS.items()]
    for template, operations in sorted(paths, key=_variables):
        wanted = template.split("/")
        parts = path.split("/", len(wanted) - 1 if template == extensions.DEEP else -1)
        if len(wanted) == len(parts) and method.lower() in operations:
            pairs = zip(wanted, parts, strict=True)
            if all(want.startswith("{") or want == part for want, part in pairs):
                return operations[method.lower()]
    raise AssertionError(f"{method} {path} is neither an operation of the specification nor ours")


def _variables(item: tuple[str, Any]) -> int:
    return item[0].count("{")


def _check(schema: dict[str, Any], body: object, what: str) -> None:
    whole = {**schema, "components": document()["components"]}
    error = best_match(Draft202012Validator(whole).iter_errors(body))
    if error is not None:
        raise AssertionError(f"{what}: {error.json_path}: {error.message}")


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: _strict(value) for key, value in node.items() if key != "properties"}
    if isinstance(node.get("properties"), dict):
        result["properties"] = {key: _strict(value) for key, value in node["properties"].items()}
        result.setdefault("additionalProperties", False)
    members = node.get("allOf", [])
    if {"nullable": True} in members:
        result["allOf"] = [_strict(item) for item in members if item != {"nullable": True}]
        return {"anyOf": [result, {"type": "null"}]}
    if result.pop("nullable", False):
        return {"anyOf": [result, {"type": "null"}]}
    return result
