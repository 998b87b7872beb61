"""What most checks begin with, and how they follow a run."""

from typing import Any, Final

import openai

from tests.clients.python.harness import each, entered, folded, got, same

POLL: Final = 20
"""Milliseconds between two looks at a run."""

PARAMETERS: Final = {
    "type": "object",
    "properties": {"unit": {"enum": ["c", "f"]}, "city": {"type": "string", "maxLength": 100}},
    "required": ["city"],
}
FUNCTION: Final = {"name": "get_weather", "description": "Looks.", "parameters": PARAMETERS}
TOOL: Final = {"type": "function", "function": FUNCTION}
TEXT: Final = "Hello there, 世界!"
HELLO: Final = {"role": "user", "content": "Hello"}

BEGIN: Final = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
STEP: Final = ["thread.run.step.created", "thread.run.step.in_progress"]
ANSWER: Final = [
    *STEP,
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
]
CALLS: Final = [*BEGIN, *STEP, "thread.run.step.delta", "thread.run.requires_action"]
RESUMED: Final = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]

HOOKS: Final = [
    name
    for name in dir(openai.AssistantEventHandler)
    if name.startswith("on_") and name not in ("on_event", "on_end")
]


async def scene(client: Any, model: str) -> dict[str, str]:
    """Creates an assistant and a thread; returns the arguments that start a run of them."""
    assistant = await got(client.beta.assistants.create(model=model, tools=[TOOL]))
    thread = await got(client.beta.threads.create(messages=[HELLO]))
    return {"assistant_id": assistant.id, "thread_id": thread.id}


async def texts(client: Any, thread_id: str) -> list[str]:
    """Returns the texts of the thread's messages, oldest first."""
    messages = await each(client.beta.threads.messages.list(thread_id, order="asc"))
    return [message.content[0].text.value for message in messages]


def outputs(run: Any) -> list[dict[str, str]]:
    """Returns outputs for the run's pending calls, of which there are two."""
    pending = run.required_action.submit_tool_outputs.tool_calls
    same([call.function.arguments for call in pending], ['{"city": "Paris"}', '{"city": "Rome"}'])
    return [{"tool_call_id": call.id, "output": "sunny"} for call in pending]


def recorder(client: Any) -> Any:
    """Returns an event handler that notes its calls.

    `noted` has the name and the arguments of each, `hooks` the folded names without their `on_`,
    `names` those of all events, also folded; `given` returns the first arguments of one method.
    """
    asynchronous = isinstance(client, openai.AsyncOpenAI)
    noted: list[tuple[str, tuple[Any, ...]]] = []
    events: list[str] = []

    def method(note: Any) -> Any:
        async def later(self: Any, *args: Any) -> None:
            note(*args)

        return later if asynchronous else lambda self, *args: note(*args)

    def hook(name: str) -> Any:
        return method(lambda *args: noted.append((name, args)))

    members = {
        **{name: hook(name) for name in HOOKS},
        "on_event": method(lambda event: events.append(event.event)),
        "noted": noted,
        "hooks": property(lambda self: folded([name[3:] for name, _ in noted])),
        "names": property(lambda self: folded(events)),
        "given": lambda self, wanted: [args[0] for name, args in noted if name == wanted],
    }
    base = openai.AsyncAssistantEventHandler if asynchronous else openai.AssistantEventHandler
    return type("Recorder", (base,), members)()


async def followed(client: Any, stream: Any, **arguments: Any) -> tuple[Any, Any]:
    """Streams a run to its end; returns it, as it is stored, and the handler of its events."""
    handler = recorder(client)
    async with entered(stream(event_handler=handler, **arguments)) as events:
        await got(events.until_done())
    run = await got(handler.get_final_run())
    stored = await got(client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id))
    same(run.to_dict(), stored.to_dict())
    return run, handler


async def cancel(client: Any, run: Any) -> None:
    """Cancels a run and waits until it is."""
    runs = client.beta.threads.runs
    await got(runs.cancel(run.id, thread_id=run.thread_id))
    run = await got(runs.poll(run.id, thread_id=run.thread_id, poll_interval_ms=POLL))
    same(run.status, "cancelled")
