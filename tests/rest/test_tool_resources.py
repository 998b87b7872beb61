"""Tool resources through OpenAI's client: helper stores, attachments, and what goes with what."""

from functools import partial
from typing import Any

import openai
import pytest

from tests.support.rest.scene import expect
from tests.support.waiting import until

FOXES = b"Foxes eat berries, mice and beetles.\n" * 20


def upload(client: openai.OpenAI, name: str = "foxes.txt", data: bytes = FOXES) -> str:
    """Uploads a file; returns its id."""
    return client.files.create(file=(name, data), purpose="assistants").id


def attached(file_id: str, *tools: str) -> Any:
    """A message with an attachment."""
    kinds = [{"type": tool} for tool in tools]
    return {"role": "user", "content": "Hi", "attachments": [{"file_id": file_id, "tools": kinds}]}


def store_of(client: openai.OpenAI, thread_id: str) -> Any:
    """Returns the vector store of a thread."""
    resources = client.beta.threads.retrieve(thread_id).tool_resources
    assert resources and resources.file_search and resources.file_search.vector_store_ids
    return client.vector_stores.retrieve(*resources.file_search.vector_store_ids)


async def test_vector_stores_that_are_created_along(client: openai.OpenAI) -> None:
    file_id = upload(client)
    static = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    along: Any = {
        "file_ids": [file_id],
        "metadata": {"a": "b"},
        "chunking_strategy": {"type": "static", "static": static},
    }
    resources: Any = {"file_search": {"vector_stores": [along]}}
    thread = client.beta.threads.create(tool_resources=resources)
    store = store_of(client, thread.id)
    assert (store.metadata, store.file_counts.total) == ({"a": "b"}, 1)
    assert store.expires_after.to_dict() == {"anchor": "last_active_at", "days": 7}
    entry = client.vector_stores.files.poll(file_id, vector_store_id=store.id)
    assert entry.chunking_strategy is not None
    assert entry.chunking_strategy.to_dict()["static"] == static
    assistant = client.beta.assistants.create(model="any", tool_resources=resources)
    assert assistant.tool_resources and assistant.tool_resources.file_search
    [own] = assistant.tool_resources.file_search.vector_store_ids or []
    assert client.vector_stores.retrieve(own).expires_at is None
    client.beta.threads.delete(thread.id)
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)
    client.beta.assistants.delete(assistant.id)
    assert client.vector_stores.retrieve(own).id == own


def test_stores_that_cannot_be_created_along(client: openai.OpenAI) -> None:
    two: Any = {"file_search": {"vector_stores": [{}, {}]}}
    both: Any = {"file_search": {"vector_stores": [{}], "vector_store_ids": ["vs_x"]}}
    one: Any = {"file_search": {"vector_stores": [{}]}}
    thread = client.beta.threads.create().id
    search = "tool_resources.file_search"
    for call, message, param, code in (
        (
            lambda: client.beta.threads.create(tool_resources=two),
            f"Invalid '{search}.vector_stores': array too long. Expected an array with maximum "
            "length 1, but got an array with length 2 instead.",
            f"{search}.vector_stores",
            "array_above_max_length",
        ),
        (
            lambda: client.beta.threads.create(tool_resources=both),
            "Only one of 'vector_store_ids' and 'vector_stores' can be given.",
            search,
            "invalid_value",
        ),
        (
            lambda: client.beta.threads.update(thread, tool_resources=one),
            f"Unknown parameter: '{search}.vector_stores'.",
            f"{search}.vector_stores",
            "unknown_parameter",
        ),
    ):
        expect(client, lambda _, call=call: call(), 400, message, param, code)  # type: ignore[misc]


async def test_attachments(client: openai.OpenAI) -> None:
    first, second = upload(client), upload(client, "other.md")
    threads = client.beta.threads
    thread = threads.create(messages=[attached(first, "file_search")])
    made = threads.messages.create(thread.id, **attached(second, "file_search", "code_interpreter"))
    assert made.attachments is not None
    assert [each.to_dict() for each in made.attachments] == attached(
        second, "file_search", "code_interpreter"
    )["attachments"]
    store = store_of(client, thread.id)
    await until(lambda: client.vector_stores.retrieve(store.id).file_counts.completed == 2)
    resources = threads.retrieve(thread.id).tool_resources
    assert resources and resources.code_interpreter
    assert resources.code_interpreter.file_ids == [second]
    client.files.delete(second)
    resources = threads.retrieve(thread.id).tool_resources
    assert resources and resources.code_interpreter
    assert resources.code_interpreter.file_ids == []
    assert client.vector_stores.retrieve(store.id).file_counts.total == 1
    # The message keeps what it has had.
    assert threads.messages.retrieve(made.id, thread_id=thread.id) == made


def test_attachments_that_no_parser_reads(client: openai.OpenAI) -> None:
    image = upload(client, "a.png", b"\x89PNG")
    thread = client.beta.threads.create().id
    for call in (
        lambda: client.beta.threads.create(messages=[attached(image, "file_search")]),
        lambda: client.beta.threads.messages.create(thread, **attached(image, "file_search")),
    ):
        with pytest.raises(openai.BadRequestError, match=r"\[\.png\] are not supported") as refused:
            call()
        assert refused.value.code == "unsupported_file"
    assert client.beta.threads.messages.create(thread, **attached(image, "code_interpreter")).id


def test_how_many_attachments_there_may_be(client: openai.OpenAI) -> None:
    """More would keep other calls waiting while they are read."""
    thread = client.beta.threads.create().id
    many: Any = attached("file-x")
    many["attachments"] *= 2001
    tools = attached("file-x", *["file_search"] * 21)
    for message, param, maximum, length in (
        (many, "attachments", 2000, 2001),
        (tools, "attachments[0].tools", 20, 21),
    ):
        text = f"Invalid '{param}': array too long. Expected an array with maximum length {maximum}"
        text += f", but got an array with length {length} instead."
        create = partial(client.beta.threads.messages.create, thread, **message)
        expect(client, lambda _, call=create: call(), 400, text, param, "array_above_max_length")  # type: ignore[misc]


def test_what_is_read_can_be_sent_back(client: openai.OpenAI) -> None:
    store = client.vector_stores.create().id
    resources: Any = {
        "code_interpreter": {"file_ids": [upload(client)]},
        "file_search": {"vector_store_ids": [store]},
    }
    thread = client.beta.threads.create(tool_resources=resources)
    assert thread.tool_resources is not None
    sent: Any = {**thread.tool_resources.to_dict(), "file_search": None}
    assert client.beta.threads.update(thread.id, tool_resources=sent) == thread
    emptied = client.beta.threads.update(thread.id, tool_resources={"file_search": {}})
    assert emptied.to_dict()["tool_resources"] == {
        "code_interpreter": resources["code_interpreter"],
        "file_search": {"vector_store_ids": []},
    }
    # An id of a vector store that was deleted stays where it was.
    thread = client.beta.threads.create(
        tool_resources={"file_search": {"vector_store_ids": [store]}}
    )
    client.vector_stores.delete(store)
    assert client.beta.threads.retrieve(thread.id) == thread
    with pytest.raises(openai.NotFoundError, match=f"No vector store found with id '{store}'"):
        client.beta.threads.messages.create(thread.id, **attached(upload(client), "file_search"))


@pytest.mark.parametrize("tools", [[], [{"type": "file_search"}]])
def test_a_run_with_its_thread_names_an_unknown_vector_store(
    client: openai.OpenAI, tools: Any
) -> None:
    assistant = client.beta.assistants.create(model="m", tools=tools)
    resources: Any = {"file_search": {"vector_store_ids": ["vs_unknown"]}}
    with pytest.raises(openai.NotFoundError, match="No vector store found with id 'vs_unknown'"):
        client.beta.threads.create_and_run(assistant_id=assistant.id, tool_resources=resources)
