"""Files and vector stores that do not exist: what names them is refused."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, expect

Call = Callable[[openai.OpenAI], Any]

NEW = {"role": "user", "content": "x"}


def _assistant(**given: Any) -> Call:
    return lambda c: c.beta.assistants.create(**{"model": "any"} | given)


def _thread(**message: Any) -> Call:
    given: Any = [NEW | message]
    return lambda c: c.beta.threads.create(messages=given)


FILES: Any = {"code_interpreter": {"file_ids": ["file-x"]}}
STORES: Any = {"file_search": {"vector_store_ids": ["vs_x"]}}
IMAGE: Any = [{"type": "image_file", "image_file": {"file_id": "file-x"}}]
ATTACHED: Any = [{"file_id": "file-x", "tools": [{"type": "file_search"}]}]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (_assistant(tool_resources=FILES), "file"),
        (_assistant(tool_resources=STORES), "vector store"),
        (lambda c: c.beta.threads.create(tool_resources=FILES), "file"),
        (lambda c: c.beta.threads.create(tool_resources=STORES), "vector store"),
        (_thread(content=IMAGE), "file"),
        (_thread(attachments=ATTACHED), "file"),
    ],
)
def test_files_and_vector_stores_that_do_not_exist(
    client: openai.OpenAI, call: Call, name: str
) -> None:
    id = "file-x" if name == "file" else "vs_x"
    expect(client, call, 404, f"No {name} found with id '{id}'.", None, None)


def test_files_that_existing_objects_name(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script())
    beta = client.beta
    message = "No file found with id 'file-x'."
    for call in (
        lambda _: beta.assistants.update(scene.assistant_id, tool_resources=FILES),
        lambda _: beta.threads.update(scene.thread_id, tool_resources=FILES),
        lambda _: beta.threads.messages.create(scene.thread_id, role="user", content=IMAGE),
        lambda _: beta.threads.create_and_run(
            assistant_id=scene.assistant_id, tool_resources=FILES
        ),
        lambda _: scene.start(additional_messages=[NEW | {"attachments": ATTACHED}]),
    ):
        expect(client, call, 404, message, None, None)
    assert scene.texts() == ["Hello"]
