"""Images of messages that are files: models get them as data URLs."""

import base64
from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, expect
from tests.support.script import Answer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300


def shown(file_id: str, **more: str) -> Any:
    return [
        {"type": "text", "text": "What is it?"},
        {"type": "image_file", "image_file": {"file_id": file_id, **more}},
    ]


@pytest.mark.parametrize("more", [{}, {"detail": "low"}])
def test_a_model_gets_an_image(
    client: openai.OpenAI, models: ModelServer, more: dict[str, str]
) -> None:
    file = client.files.create(file=("a b.PNG", PNG), purpose="vision")
    model = models.script(Answer("A picture."), Answer("Gone."))
    scene = Scene.create(client, model)
    message = client.beta.threads.messages.create(
        scene.thread_id, role="user", content=shown(file.id, **more)
    )
    detail = more.get("detail", "auto")
    assert message.to_dict()["content"] == [
        {"type": "text", "text": {"value": "What is it?", "annotations": []}},
        {"type": "image_file", "image_file": {"file_id": file.id, "detail": detail}},
    ]
    scene.run()
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    asked = models.requests(model)[0]["messages"][-1]["content"]
    assert asked == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url, "detail": detail}},
    ]
    client.files.delete(file.id)
    scene.run()
    asked = models.requests(model)[1]["messages"][1]["content"]
    gone = {"type": "text", "text": "(an image that is not available any more)"}
    assert asked == [{"type": "text", "text": "What is it?"}, gone]


def test_what_is_no_image_is_refused(client: openai.OpenAI, models: ModelServer) -> None:
    file = client.files.create(file=("a.pdf", b"%PDF"), purpose="vision")
    thread = client.beta.threads.create()
    said = (
        "Invalid message content: Expected file type to be a supported format: "
        ".jpeg, .jpg, .png, .gif, .webp but got .pdf."
    )
    expect(
        client,
        lambda client: client.beta.threads.messages.create(
            thread.id, role="user", content=shown(file.id)
        ),
        400,
        said,
        None,
        None,
    )
    expect(
        client,
        lambda client: client.beta.threads.create(
            messages=[{"role": "user", "content": shown("file-x")}]
        ),
        404,
        "No file found with id 'file-x'.",
        None,
        None,
    )
