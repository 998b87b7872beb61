"""What of the specification a body shows: the names of all that its schema knows and it has.

A name is the path from the last named schema: `RunObject.last_error.code`, with `=value` for a
value of an enum, `|alternative` for a form of a union (null is one), and `[]` for what an array
holds.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator

from tests.support.rest.wire import Exchange
from tests.support.schemas import document

Schema = dict[str, Any]

ALL: Final[Any] = object()
"""In place of a body: one that has everything."""


def everything() -> set[str]:
    """Returns every name of what operations answer with and streams carry."""
    names = set(_names({"$ref": "#/components/schemas/ErrorResponse"}, ALL, ""))
    for operation, schema in _answers().items():
        names |= {operation, *_names(schema, ALL, operation)}
        if operation in STREAMING:
            names.add(f"{operation} as a stream")
    for event, schema in events().items():
        names |= {event, *_names(schema, ALL, event)}
    return names


STREAMING: Final = ("createRun", "createThreadAndRun", "submitToolOuputsToRun")
"""The operations that answer with events when they are asked to."""


def shown(exchange: Exchange) -> Iterator[str]:
    """Yields the names of what an exchange shows; its answer must be valid."""
    if exchange.status >= 400:
        yield from _names({"$ref": "#/components/schemas/ErrorResponse"}, exchange.body, "")
    elif exchange.headers["content-type"] == "application/octet-stream":
        yield exchange.operation
    elif not exchange.streams:
        yield exchange.operation
        yield from _names(_answers()[exchange.operation], exchange.body, exchange.operation)
    else:
        yield f"{exchange.operation} as a stream"
        for event, data in exchange.events:
            yield event
            yield from _names(events()[event], data, event)


def covers(name: str, found: str) -> bool:
    """Returns whether an exemption by name is one of `found`: of itself, and of all inside it."""
    inside = tuple(name + mark for mark in ".=|[")
    return found == name or found.startswith(inside) or found.endswith(f"|{name}")


@cache
def events() -> dict[str, Schema]:
    """Returns the schema of the data of each event, by the event's name."""
    schemas = document()["components"]["schemas"]
    found = {}
    for group in schemas["AssistantStreamEvent"]["oneOf"]:
        named = schemas[group["$ref"].rpartition("/")[2]]
        for event in named.get("oneOf", [named]):
            properties = event["properties"]
            found[properties["event"]["enum"][0]] = properties["data"]
    return found


@cache
def _answers() -> dict[str, Schema]:
    return {
        operation["operationId"]: operation["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
        for methods in document()["paths"].values()
        for operation in methods.values()
    }


def _names(schema: Schema, body: Any, at: str) -> Iterator[str]:
    if "$ref" in schema:
        at = schema["$ref"].rpartition("/")[2]
        schema = document()["components"]["schemas"][at]
    for choice in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        if body is ALL or _fits(choice, body):
            label = choice.get("$ref", "").rpartition("/")[2] or choice.get("type")
            if label:
                yield f"{at}|{label}"
            yield from _names(choice, body, at)
    for part in schema.get("allOf", ()):
        yield from _names(part, body, at)
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else ():
        if body is ALL or _fits({"type": kind}, body):
            yield f"{at}|{kind}"
    for value in schema.get("enum", ()):
        if body is ALL or value == body:
            yield f"{at}={value}"
    for key, inner in schema.get("properties", {}).items():
        if body is ALL or (isinstance(body, dict) and key in body):
            yield f"{at}.{key}"
            yield from _names(inner, body if body is ALL else body[key], f"{at}.{key}")
    if "items" in schema:
        for item in _items(body):
            yield f"{at}[]"
            yield from _names(schema["items"], item, f"{at}[]")


def _items(body: Any) -> Iterable[Any]:
    if body is ALL:
        return (ALL,)
    return body if isinstance(body, list) else ()


def _fits(schema: Schema, body: object) -> bool:
    whole = {**schema, "components": document()["components"]}
    return bool(Draft202012Validator(whole).is_valid(body))
