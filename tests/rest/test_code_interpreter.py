"""The code interpreter through OpenAI's client: files in, code, images and files out."""

from typing import Any

import openai
import pytest
from openai import AssistantEventHandler
from typing_extensions import override

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene
from tests.support.script import Answer, Calls

TOOL: Any = {"type": "code_interpreter"}

DATA = b"month,sold\nJan,10\nFeb,30\nMar,20\n"
CHART = """
import pandas
import matplotlib.pyplot as plt
table = pandas.read_csv('/mnt/data/sold.csv')
print(table.sold.sum())
table.plot.bar(x='month', y='sold')
plt.show()
table.sort_values('sold').to_csv('/mnt/data/sorted.csv', index=False)
int(table.sold.max())
"""
ANSWER = "60 were sold. All of it: [sorted.csv](sandbox:/mnt/data/sorted.csv)."


def python(code: str) -> Calls:
    return Calls(("python", {"code": code}))


class Handler(AssistantEventHandler):
    """Notes what the helpers of OpenAI's client call back with, as samples of OpenAI's did."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[Any] = []
        self.input = self.logs = self.text = ""
        self.images: list[str] = []
        self.annotations: list[Any] = []

    @override
    def on_tool_call_created(self, tool_call: Any) -> None:
        self.created.append(tool_call)

    @override
    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.input += delta.code_interpreter.input
        for output in delta.code_interpreter.outputs or ():
            if output.type == "logs":
                self.logs += output.logs

    @override
    def on_image_file_done(self, image_file: Any) -> None:
        self.images.append(image_file.file_id)

    @override
    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.text += delta.value or ""
        self.annotations += delta.annotations or ()


def test_a_data_file_is_uploaded_and_a_chart_of_it_downloaded(
    client: openai.OpenAI, models: ModelServer
) -> None:
    """As frameworks and OpenAI's own samples did it."""
    data = client.files.create(file=("sold.csv", DATA), purpose="assistants")
    model = models.script(python(CHART), Answer(ANSWER))
    assistant = client.beta.assistants.create(
        model=model,
        instructions="Draw charts.",
        tools=[TOOL],
        tool_resources={"code_interpreter": {"file_ids": [data.id]}},
    )
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "How much?"}])
    handler = Handler()
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
    ) as stream:
        stream.until_done()
    [created] = handler.created
    assert created.type == "code_interpreter"
    assert handler.input == CHART
    assert handler.logs == "60\n30\n"
    assert handler.text == ANSWER
    [file_id] = handler.images
    picture = client.files.content(file_id).read()
    assert picture.startswith(b"\x89PNG")
    [message] = stream.get_final_messages()
    image, text = message.content
    assert image.type == "image_file" and image.image_file.file_id == file_id
    assert text.type == "text"
    [annotation] = text.text.annotations
    assert annotation.type == "file_path"
    assert annotation.text == "sandbox:/mnt/data/sorted.csv"
    assert ANSWER[annotation.start_index : annotation.end_index] == annotation.text
    assert [each.file_path.file_id for each in handler.annotations] == [
        annotation.file_path.file_id
    ]
    content = client.files.content(annotation.file_path.file_id).read()
    assert content == b"month,sold\nJan,10\nMar,20\nFeb,30\n"
    assert message.attachments is not None
    assert [each.file_id for each in message.attachments] == [annotation.file_path.file_id]
    made = client.files.list(purpose="assistants_output").data
    assert [each.id for each in made[:2]] == [annotation.file_path.file_id, file_id]
    assert [each.filename[-4:] for each in made[:2]] == [".csv", ".png"]
    stored = client.beta.threads.messages.list(thread.id, limit=1).data[0]
    assert stored.to_dict() == message.to_dict()
    [step, _] = reversed(
        client.beta.threads.runs.steps.list(message.run_id or "", thread_id=thread.id).data
    )
    details: Any = step.step_details
    [call] = details.tool_calls
    assert call.code_interpreter.input == CHART
    assert [output.type for output in call.code_interpreter.outputs].count("image") == 1
    request = models.requests(model)[0]
    assert f"/mnt/data/sold.csv ({data.id})" in request["tools"][0]["function"]["description"]


def test_an_attachment_of_a_message_is_there(client: openai.OpenAI, models: ModelServer) -> None:
    data = client.files.create(file=("a.csv", b"1,2"), purpose="assistants")
    code = f"open('/mnt/data/a.csv').read(), open('/mnt/data/{data.id}').read()"
    scene = Scene.create(client, models.script(python(code), Answer("Read.")), tools=[TOOL])
    client.beta.threads.messages.create(
        scene.thread_id,
        role="user",
        content="Read it.",
        attachments=[{"file_id": data.id, "tools": [TOOL]}],
    )
    run = scene.run()
    assert run.status == "completed"
    details: Any = scene.steps(run)[0].step_details
    [output] = details.tool_calls[0].code_interpreter.outputs
    assert output.logs == "('1,2', '1,2')\n"


def test_state_is_kept_between_runs(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(python("x = 7"), Answer("Kept.")), tools=[TOOL])
    scene.run()
    model = models.script(python("x"), Answer("Seven."))
    run = scene.run(model=model)
    details: Any = scene.steps(run)[0].step_details
    [output] = details.tool_calls[0].code_interpreter.outputs
    assert output.logs == "7\n"


def test_cancelling_a_run_kills_its_code(client: openai.OpenAI, models: ModelServer) -> None:
    code = "while True: pass"
    scene = Scene.create(client, models.script(python(code)), tools=[TOOL])
    with client.beta.threads.runs.create(**scene.ids, stream=True) as events:
        for event in events:
            if event.event == "thread.run.created":
                run = event.data
            if event.event == "thread.run.step.delta":
                details: Any = event.data.delta.step_details
                if details.tool_calls[0].code_interpreter.input:
                    client.beta.threads.runs.cancel(run.id, thread_id=scene.thread_id)
    ended = scene.end_of(run)
    assert ended.status == "cancelled"
    [step] = scene.steps(ended)
    details = step.step_details
    assert (step.status, details.tool_calls[0].code_interpreter.input) == ("cancelled", code)


@pytest.mark.parametrize("code", ["print(1)\nx = 1\nx + 1", "```python\nprint(1)\n2\n```"])
def test_code_in_any_form(client: openai.OpenAI, models: ModelServer, code: str) -> None:
    scene = Scene.create(
        client, models.script(Calls(("python", code)), Answer("Two.")), tools=[TOOL]
    )
    run = scene.run(tool_choice=TOOL)
    details: Any = scene.steps(run)[0].step_details
    [output] = details.tool_calls[0].code_interpreter.outputs
    assert output.logs == "1\n2\n"
