"""kill -9 after a search: the next server's answer cites what the last one has found."""

from typing import Any

import openai

from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls, Hold
from tests.support.stack import Stack
from tests.support.waiting import until

TEXT = b"Bees make honey from nectar."
MARK = "【1:0†bees.txt】"
ENV = {"ASSISTANTS_LEASE_SECONDS": "1"}
SEARCH: Any = {"type": "file_search"}


async def test_what_was_found_outlives_the_server(models: ModelServer, database_url: str) -> None:
    held = Hold(Answer(f"Honey{MARK} never"), after="Honey")
    call = Calls(("file_search", {"queries": ["honey"]}))
    model = models.script(call, held, Answer(f"It is honey{MARK}."))
    env = {"ASSISTANTS_MODEL_BASE_URL": models.base_url, "ASSISTANTS_DATABASE_URL": database_url}
    with Stack(ENV | env) as stack:
        stack.start()
        with openai.OpenAI(base_url=stack.base_url, api_key="none") as client:
            file = client.files.create(file=("bees.txt", TEXT), purpose="assistants")
            assistant = client.beta.assistants.create(model=model, tools=[SEARCH])
            attached: Any = [{"file_id": file.id, "tools": [SEARCH]}]
            message: Any = {"role": "user", "content": "What?", "attachments": attached}
            thread = client.beta.threads.create(messages=[message])
            # The file may be in progress: then the run waits for it.
            run = client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id)
            await until(held.held.is_set)
        stack.kill()
        await until(held.disconnected.is_set)

        stack.start()
        with openai.OpenAI(base_url=stack.base_url, api_key="none") as client:
            run = client.beta.threads.runs.poll(run.id, thread_id=thread.id, poll_interval_ms=50)
            assert run.status == "completed"
            steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, order="asc")
            assert [step.type for step in steps] == ["tool_calls", "message_creation"]
            [answer] = client.beta.threads.messages.list(thread.id, run_id=run.id)
            [part] = answer.content
            assert part.type == "text"
            assert part.text.value == f"It is honey{MARK}."
            [annotation] = part.text.annotations
            assert annotation.type == "file_citation"
            assert annotation.file_citation.file_id == file.id
        # The search was not repeated.
        assert len(models.requests(model)) == 3
        assert stack.terminate() == 0, stack.printed()
        assert "Traceback" not in stack.printed()
