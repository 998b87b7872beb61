"""What most tests begin with: an assistant with a scripted model, and a thread with a message."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai.types.beta.threads import Message, Run
from openai.types.beta.threads.runs import RunStep

from tests.support.waiting import SECONDS

POLL = 20
"""Milliseconds between two looks at a run: the client's own second is long."""


def function(name: str) -> Any:
    """Returns a function as a tool."""
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
        "required": ["city"],
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@dataclass(frozen=True)
class Scene:
    """An assistant and a thread."""

    client: openai.OpenAI
    assistant_id: str
    thread_id: str

    @classmethod
    def create(
        cls, client: openai.OpenAI, model: str, text: str = "Hello", **assistant: Any
    ) -> "Scene":
        """Creates both; `assistant` has what its assistant has beside the model."""
        assistant_id = client.beta.assistants.create(model=model, **assistant).id
        thread = client.beta.threads.create(messages=[{"role": "user", "content": text}])
        return cls(client, assistant_id, thread.id)

    @property
    def ids(self) -> dict[str, Any]:
        """The arguments of a call that starts a run."""
        return {"thread_id": self.thread_id, "assistant_id": self.assistant_id}

    def start(self, **run: Any) -> Run:
        """Starts a run."""
        started: Run = self.client.beta.threads.runs.create(**self.ids, **run)
        return started

    def run(self, **run: Any) -> Run:
        """Runs until there is nothing left to do."""
        return self.end_of(self.start(**run))

    def end_of(self, run: Run) -> Run:
        """Waits until the run has ended, or awaits tool outputs."""
        return self.client.beta.threads.runs.poll(
            run.id, thread_id=run.thread_id, poll_interval_ms=POLL
        )

    def steps(self, run: Run) -> list[RunStep]:
        """Returns the run's steps, oldest first."""
        return list(
            self.client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
        )

    def messages(self) -> list[Message]:
        """Returns the thread's messages, oldest first."""
        return list(self.client.beta.threads.messages.list(self.thread_id, order="asc"))

    def texts(self) -> list[str]:
        """Returns the texts of the thread's messages, oldest first."""
        return [text_of(message) for message in self.messages()]


def text_of(message: Message) -> str:
    """Returns the text of a message that has one part."""
    [part] = message.content
    assert part.type == "text"
    return part.text.value


def outputs(run: Run, *texts: str) -> list[Any]:
    """Returns the outputs of the run's pending calls, in their order."""
    assert run.required_action is not None
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [
        {"tool_call_id": call.id, "output": text} for call, text in zip(calls, texts, strict=True)
    ]


def wait(event: threading.Event) -> None:
    """Waits for what must happen."""
    assert event.wait(SECONDS)


def expect(
    client: openai.OpenAI,
    call: Callable[[openai.OpenAI], Any],
    status: int,
    message: str,
    param: Any,
    code: Any,
) -> None:
    """Fails unless the call is refused in exactly these words."""
    with pytest.raises(openai.APIStatusError) as refused:
        call(client)
    error = refused.value
    kind = openai.NotFoundError if status == 404 else openai.BadRequestError
    assert (type(error), error.status_code) == (kind, status)
    assert error.body == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }
    assert error.request_id
