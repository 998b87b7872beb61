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
    asked = models.requests(model)[0]["messages"][-1]["content"]
    assert asked == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url_of(PNG), "detail": detail}},
    ]
    client.files.delete(file.id)
    scene.run()
    asked = models.requests(model)[1]["messages"][1]["content"]
    gone = {"type": "text", "text": "(an image that is not available any more)"}
    assert asked == [{"type": "text", "text": "What is it?"}, gone]


@pytest.mark.parametrize("purpose", ["assistants", "user_data", "fine-tune", "batch", "evals"])
def test_images_of_any_purpose(client: openai.OpenAI, models: ModelServer, purpose: Any) -> None:
    file = client.files.create(file=("a.png", PNG), purpose=purpose)
    assert parts(client, models, [[file.id]]) == [[url_of(PNG)]]


def test_several_images_in_a_message(client: openai.OpenAI, models: ModelServer) -> None:
    data = [PNG, b"\xff\xd8\xff jpeg", b"GIF89a", b"RIFF1234WEBP"]
    names = ["a.png", "b.jpg", "c.gif", "d.webp"]
    files = [
        client.files.create(file=each, purpose="vision").id
        for each in zip(names, data, strict=True)
    ]
    kinds = ["png", "jpeg", "gif", "webp"]
    urls = [url_of(each, kind) for each, kind in zip(data, kinds, strict=True)]
    assert parts(client, models, [[*files, files[0]]]) == [[*urls, urls[0]]]


def test_images_that_are_too_large(client: openai.OpenAI, models: ModelServer) -> None:
    """By themselves, or with the newer ones of the thread."""
    sizes = [15 * 2**20, 15 * 2**20, 20 * 2**20 + 1, 15 * 2**20]
    data = [PNG.ljust(size, b"%d" % number) for number, size in enumerate(sizes)]
    files = [client.files.create(file=("a.png", each), purpose="vision").id for each in data]
    left_out = "(an image that was left out because of its size)"
    assert parts(client, models, [[files[0]], [files[1], files[2]], [files[3]]]) == [
        [left_out],
        [url_of(data[1]), left_out],
        [url_of(data[3])],
    ]


def parts(client: openai.OpenAI, models: ModelServer, messages: list[list[str]]) -> list[list[str]]:
    """What a model gets of messages that show these files: URLs of images, and texts."""
    model = models.script(Answer("Pictures."))
    assistant = client.beta.assistants.create(model=model)
    contents: list[Any] = [
        [{"type": "image_file", "image_file": {"file_id": id}} for id in ids] for ids in messages
    ]
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": content} for content in contents]
    )
    assert Scene(client, assistant.id, thread.id).run().status == "completed"
    [request] = models.requests(model)
    return [
        [
            part["image_url"]["url"] if "image_url" in part else part["text"]
            for part in each["content"]
        ]
        for each in request["messages"]
    ]


def url_of(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


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
