"""A server that wants keys, with two projects."""

from collections.abc import Iterator
from typing import NamedTuple

import grpc
import httpx2
import openai
import pytest

from tests.support.access import vector_store_cases
from tests.support.access.keyed import Key
from tests.support.access.transports import OverGrpc, OverRest, Transport
from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function
from tests.support.script import Answer, Calls
from tests.support.stack import Stack, serving
from tests.support.waiting import SECONDS


@pytest.fixture(scope="session")
def keyed(model_server: ModelServer) -> Iterator[Stack]:
    """A server that wants keys. Nothing that it has printed is a key, and nothing went wrong."""
    env = {
        "ASSISTANTS_AUTH": "keys",
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_RETRIES": "0",
    }
    with serving(env) as stack:
        yield stack
        printed = stack.printed()
        assert "Traceback" not in printed
        assert "sk-" not in printed.replace("'authorization: Bearer sk-…'", "")


@pytest.fixture(scope="session")
def theirs(keyed: Stack) -> Key:
    """A key of the first project."""
    return Key.create(keyed, "alpha")


@pytest.fixture(scope="session")
def own(keyed: Stack) -> Key:
    """A key of the second project."""
    return Key.create(keyed, "beta")


class Both(NamedTuple):
    """Both transports of a server."""

    channel: grpc.Channel
    client: httpx2.Client

    def of(self, headers: dict[str, str]) -> dict[str, Transport]:
        """Returns what calls with these headers, by the transports' names."""
        return {"grpc": OverGrpc(self.channel, headers), "rest": OverRest(self.client, headers)}

    def by(self, key: Key) -> dict[str, Transport]:
        """Returns what calls with a key."""
        return self.of({"authorization": f"Bearer {key.text}"})


@pytest.fixture(scope="session")
def both(keyed: Stack) -> Iterator[Both]:
    """Both transports of the server that wants keys."""
    with (
        grpc.insecure_channel(keyed.grpc_address) as channel,
        httpx2.Client(base_url=keyed.base_url, timeout=SECONDS) as client,
    ):
        yield Both(channel, client)


def one_of_each(stack: Stack, models: ModelServer, key: Key) -> dict[str, str]:
    """Makes one of each kind of object; returns their ids by kind. The run awaits outputs."""
    with openai.OpenAI(base_url=stack.base_url, api_key=key.text, max_retries=0) as client:
        model = models.script(Calls(("look", {})), Answer("Yes."), Answer("No."))
        scene = Scene.create(client, model, tools=[function("look")])
        run = scene.run()
        assert run.required_action
        [step] = scene.steps(run)
        [call] = run.required_action.submit_tool_outputs.tool_calls
        file = client.files.create(file=("a.txt", b"text"), purpose="assistants")
        upload = client.uploads.create(
            filename="b.txt", bytes=4, mime_type="text/plain", purpose="assistants"
        )
        part = client.uploads.parts.create(upload.id, data=b"text")
        return {
            "file": file.id,
            "upload": upload.id,
            "part": part.id,
            "assistant": scene.assistant_id,
            "thread": scene.thread_id,
            "message": scene.messages()[0].id,
            "run": run.id,
            "step": step.id,
            "call": call.id,
            **vector_store_cases.make(client, file.id),
        }
