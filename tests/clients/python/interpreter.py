"""The code interpreter: a file in, and out of it an image, a file and what the code says."""

from typing import Any

from tests.clients.python.harness import check, each, got, same
from tests.clients.python.scene import BEGIN, HELLO, STEP, followed

TOOL = {"type": "code_interpreter"}
LINK = "sandbox:/mnt/data/out.csv"
CALLED = [*STEP, "thread.run.step.delta", "thread.run.step.completed"]


@check
async def code_interpreter(client: Any, model: str) -> None:
    data = await got(client.files.create(file=("in.csv", b"1,2"), purpose="assistants"))
    assistant = await got(
        client.beta.assistants.create(
            model=model,
            tools=[TOOL],
            tool_resources={"code_interpreter": {"file_ids": [data.id]}},
        )
    )
    thread = await got(client.beta.threads.create(messages=[HELLO]))
    ids = {"assistant_id": assistant.id, "thread_id": thread.id}
    run, handler = await followed(client, client.beta.threads.runs.stream, **ids)
    same(run.status, "completed")
    same(handler.names[: len(BEGIN) + len(CALLED)], [*BEGIN, *CALLED])
    [created] = handler.given("on_tool_call_created")
    same(created.type, "code_interpreter")
    deltas = [delta.code_interpreter for delta in handler.given("on_tool_call_delta")]
    # It says so again at the end of each later step, and of the run.
    done = handler.given("on_tool_call_done")[0]
    same("".join(delta.input for delta in deltas), done.code_interpreter.input)
    logs, image = done.code_interpreter.outputs
    same((logs.type, logs.logs, image.type), ("logs", "1,2\n", "image"))
    [shown] = handler.given("on_image_file_done")
    same(shown.file_id, image.image.file_id)
    picture = await got((await got(client.files.content(shown.file_id))).read())
    same(picture[:4], b"\x89PNG")
    [message] = await each(client.beta.threads.messages.list(thread.id, run_id=run.id))
    part, text = message.content
    same((part.type, part.image_file.file_id), ("image_file", shown.file_id))
    [annotation] = text.text.annotations
    same((annotation.type, annotation.text), ("file_path", LINK))
    [attachment] = message.attachments
    same(attachment.file_id, annotation.file_path.file_id)
    content = await got((await got(client.files.content(attachment.file_id))).read())
    same(content, b"2,1")
