"""Requests that schemathesis makes of the specification: some as it says, some that break it.

The same ones each time. What they name exists: made anew for each request, so that none stands in
another's way.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core.result import Ok

from tests.support.hostile.http1 import Answer, ask, check_up
from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene
from tests.support.schemas import validate_response
from tests.support.script import Answer as Says
from tests.support.stack import Stack

EXAMPLES = 8

SPECIFICATION = Path(__file__).parents[1] / "compatibility" / "openapi.json"
Operation = APIOperation[Any, Any, Any, Any]


def _operations() -> dict[str, Operation]:
    found = schemathesis.openapi.from_path(str(SPECIFICATION)).get_all_operations()
    return {each.ok().label: each.ok() for each in found if isinstance(each, Ok)}


OPERATIONS = _operations()

# An id is any text: where there is nothing but ids, there is nothing to break.
BREAKABLE = [label for label, each in OPERATIONS.items() if each.body or each.query]


@dataclass(frozen=True)
class World:
    """A server with a run that has ended."""

    server: Stack
    run: dict[str, str]

    def ids(self, path: str) -> dict[str, str]:
        """Returns ids for what the path names: of the run that has ended, or new ones."""
        if "{run_id}" in path:
            return self.run
        if "_id}" in path and path.startswith(("/files", "/uploads", "/vector_stores")):
            return self._ids_of_files()
        message = {"role": "user", "content": "Hello"}
        thread = self._make("threads", {"messages": [message]})
        listed = ask(self.server, "GET", f"/v1/threads/{thread}/messages").body
        assistant = self._make("assistants", {"model": "none"})
        return {
            "thread_id": thread,
            "message_id": listed["first_id"],
            "assistant_id": assistant,
        }

    def _ids_of_files(self) -> dict[str, str]:
        with openai.OpenAI(base_url=self.server.base_url, api_key="test") as client:
            file = client.files.create(file=("a.txt", b"Some words."), purpose="assistants").id
            store = client.vector_stores.create().id
            batch = client.vector_stores.file_batches.create(store, file_ids=[file]).id
            upload = client.uploads.create(
                bytes=9, filename="b.txt", mime_type="text/plain", purpose="assistants"
            ).id
        return {
            "file_id": file,
            "vector_store_id": store,
            "batch_id": batch,
            "upload_id": upload,
        }

    def _make(self, kind: str, body: Any) -> str:
        return str(ask(self.server, "POST", f"/v1/{kind}", json.dumps(body).encode()).body["id"])

    def send(self, case: Case[Any]) -> Answer:
        """Sends a request and returns its answer, which was checked."""
        response = case.call(base_url=self.server.base_url)
        headers = {name.lower(): values[0] for name, values in response.headers.items()}
        answer = Answer(case.method, response.status_code, headers, response.content)
        # The bytes of a file are anything.
        return answer if case.path.endswith("/content") and answer.status == 200 else answer.check()


@pytest.fixture
def world(island: Stack, island_models: ModelServer) -> World:
    with openai.OpenAI(base_url=island.base_url, api_key="test", max_retries=0) as client:
        run = Scene.create(client, island_models.script(Says("Yes."))).run()
        [step] = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)
    ids = {"thread_id": run.thread_id, "run_id": run.id, "step_id": step.id}
    return World(island, ids | {"assistant_id": run.assistant_id})


BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("label", OPERATIONS)
def test_requests_as_the_contract_wants_them(world: World, label: str) -> None:
    operation = OPERATIONS[label]

    @BOUNDED
    @given(operation.as_strategy(GenerationMode.POSITIVE))
    def example(case: Case[Any]) -> None:
        ids = world.ids(case.path)
        _name(case, ids)
        answer = world.send(case)
        if answer.status == 200 and "json" in answer.headers["content-type"]:
            validate_response(case.method, case.formatted_path, answer.body)

    example()
    check_up(world.server)


@pytest.mark.parametrize("label", BREAKABLE)
def test_requests_that_break_the_contract(world: World, label: str) -> None:
    operation = OPERATIONS[label]

    @BOUNDED
    @given(operation.as_strategy(GenerationMode.NEGATIVE), st.booleans())
    def example(case: Case[Any], named: bool) -> None:
        if named:
            _name(case, world.ids(case.path))
        world.send(case)

    example()
    check_up(world.server)


def _name(case: Case[Any], ids: dict[str, str]) -> None:
    """Puts ids of what exists into the request."""
    case.path_parameters = {name: ids[name] for name in ids if f"{{{name}}}" in case.path}
    if isinstance(case.body, dict) and isinstance(case.body.get("assistant_id"), str):
        case.body["assistant_id"] = ids["assistant_id"]
