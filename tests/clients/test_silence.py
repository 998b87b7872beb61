"""Every client waits while a model is silent, and notices when the server ends meanwhile."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2
import openai

from tests.support.clients.drivers import CLIENTS, Process
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.stack import Stack
from tests.support.waiting import SECONDS


@contextmanager
def following(stack: Stack, model: str) -> Iterator[dict[str, Process]]:
    """Starts a driver for each client, which follow a run each; all have a part of the answer.

    The model needs a step for each.
    """
    config = {"base_url": stack.base_url, "held": model}
    drivers: dict[str, Process] = {}
    try:
        for client in CLIENTS:
            drivers[client.name] = client.start(config)
        for driver in drivers.values():
            assert driver.stdout is not None
            driver.stdout.readline()
        yield drivers
    finally:
        for driver in drivers.values():
            driver.kill()
            driver.wait()


def ends(drivers: Mapping[str, Process]) -> dict[str, str]:
    """Returns what each driver prints in the end."""
    printed = {name: driver.communicate(timeout=SECONDS) for name, driver in drivers.items()}
    return {
        name: "\n".join([*stdout.splitlines()[-1:], *stderr.splitlines()])
        for name, (stdout, stderr) in printed.items()
    }


def wait_for_comments(stack: Stack, model: str, count: int) -> None:
    """Follows a run until its stream has had so many comments."""
    with openai.OpenAI(base_url=stack.base_url, api_key="none") as client:
        assistant = client.beta.assistants.create(model=model)
    body = {"assistant_id": assistant.id, "stream": True}
    url = f"{stack.base_url}/threads/runs"
    with httpx2.stream("POST", url, json=body, timeout=SECONDS) as response:
        for line in response.iter_lines():
            count -= line.startswith(":")
            if count == 0:
                return
    raise AssertionError("the stream has ended")


def test_clients_wait_while_the_model_is_silent(model_server: ModelServer) -> None:
    holds = [Hold(Answer("Hello there"), after="Hello") for _ in [*CLIENTS, "comments"]]
    model = model_server.script(*holds)
    env = {"ASSISTANTS_KEEP_ALIVE_SECONDS": "0.1"}
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url} | env) as stack:
        stack.start()
        with following(stack, model) as drivers:
            # The others have been silent for longer, so each has had a comment or more.
            wait_for_comments(stack, model, 3)
            for hold in holds:
                hold.release()
            assert ends(drivers) == {client.name: "completed Hello there" for client in CLIENTS}
        assert stack.terminate() == 0, stack.printed()


def test_clients_notice_that_the_server_ends(model_server: ModelServer) -> None:
    model = model_server.script(*(Hold(Answer("Hello"), after="Hell") for _ in CLIENTS))
    env = {"ASSISTANTS_SHUTDOWN_GRACE": "0"}
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url} | env) as stack:
        stack.start()
        with following(stack, model) as drivers:
            assert stack.terminate() == 0, stack.printed()
            error = "APIError The server is shutting down."
            assert ends(drivers) == {client.name: error for client in CLIENTS}
