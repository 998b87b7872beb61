"""Assistants: what they are made of, and how they change."""

from typing import Any

import openai
import pytest

from tests.support.rest.scene import function
from tests.support.rest.wire import Wire

EVERYTHING: dict[str, Any] = {
    "model": "any",
    "name": "Guide",
    "description": "Guides.",
    "instructions": "Be brief. Grüße! \U0001f600",
    "tools": [
        {"type": "code_interpreter"},
        {"type": "file_search", "file_search": {"max_num_results": 3}},
        function("look"),
    ],
    "metadata": {"a": "b", "c": ""},
    "temperature": 0,
    "top_p": 0.5,
    "response_format": {"type": "text"},
}


def test_the_defaults(client: openai.OpenAI, wire: Wire) -> None:
    created = client.beta.assistants.create(model="any")
    assert created.id.startswith("asst_")
    assert wire.last.body == {
        "id": created.id,
        "object": "assistant",
        "created_at": created.created_at,
        "name": None,
        "description": None,
        "model": "any",
        "instructions": None,
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
    }
    assert client.beta.assistants.retrieve(created.id) == created


def test_everything_comes_back(client: openai.OpenAI, wire: Wire) -> None:
    created = client.beta.assistants.create(**EVERYTHING)
    tools = [*EVERYTHING["tools"][:2], function("look")]
    tools[2]["function"]["strict"] = False
    expected = EVERYTHING | {"tools": tools}
    assert {key: wire.last.body[key] for key in expected} == expected
    assert client.beta.assistants.retrieve(created.id) == created
    assert wire.last.body["tools"] == tools


def test_what_is_absent_stays(client: openai.OpenAI) -> None:
    created = client.beta.assistants.create(**EVERYTHING)
    changed = client.beta.assistants.update(created.id, name="Other")
    assert changed == created.model_copy(update={"name": "Other"})
    assert client.beta.assistants.update(created.id) == changed
    assert client.beta.assistants.retrieve(created.id) == changed


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("name", None, None),
        ("name", "", ""),
        ("description", None, None),
        ("instructions", None, None),
        ("instructions", "", ""),
        ("tools", [], []),
        ("metadata", {}, {}),
        ("metadata", None, {}),
        ("metadata", {"x": "y"}, {"x": "y"}),
        ("temperature", 2, 2),
        ("top_p", 0, 0),
        ("response_format", "auto", "auto"),
        ("response_format", None, "auto"),
        ("tool_resources", {"file_search": {}}, {"file_search": {"vector_store_ids": []}}),
        ("model", "other", "other"),
    ],
)
def test_what_is_given_replaces(
    client: openai.OpenAI, wire: Wire, field: str, value: Any, expected: Any
) -> None:
    created = client.beta.assistants.create(**EVERYTHING)
    before = wire.last.body
    client.beta.assistants.update(created.id, **{field: value})
    assert wire.last.body == before | {field: expected}
    client.beta.assistants.retrieve(created.id)
    assert wire.last.body == before | {field: expected}


def test_deletion(client: openai.OpenAI, wire: Wire) -> None:
    created = client.beta.assistants.create(model="any")
    client.beta.assistants.delete(created.id)
    assert wire.last.body == {"id": created.id, "object": "assistant.deleted", "deleted": True}
    message = f"No assistant found with id '{created.id}'."
    for call in (
        client.beta.assistants.retrieve,
        client.beta.assistants.update,
        client.beta.assistants.delete,
    ):
        with pytest.raises(openai.NotFoundError) as missing:
            call(created.id)
        assert missing.value.body == {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
