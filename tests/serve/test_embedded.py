"""A server with its embedded model: runs at once, and files."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import openai
import pytest

from service.models import llama
from tests.support.rest.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import until


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A server that asks its own model."""
    with Stack() as stack:
        yield stack.start()


async def test_no_more_runs_ask_it_than_it_answers_at_once(stack: Stack) -> None:
    """One more would get no byte for as long as it waits, and take the model for dead."""
    database = stack.database
    at_once = []

    def queued() -> int:
        with closing(sqlite3.connect(database)) as connection:
            counts = "SELECT status, count(*) FROM runs GROUP BY status"
            runs = dict(connection.execute(counts).fetchall())
        at_once.append(runs.get("in_progress", 0))
        return int(runs.get("queued", 0))

    with openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0) as client:
        runs = []
        for _ in range(llama.SLOTS + 4):
            scene = Scene.create(client, "any", "Tell me a long story.")
            runs.append(scene.start())
        waited = queued()
        assert waited
        # Of those that have not ended by themselves.
        with suppress(openai.BadRequestError):
            client.beta.threads.runs.cancel(runs[0].id, thread_id=runs[0].thread_id)
        await until(lambda: queued() < waited and llama.SLOTS in at_once)
    assert max(at_once) == llama.SLOTS
    assert stack.terminate() == 0, stack.printed()


def test_what_it_needs_is_in_the_data_directory(stack: Stack) -> None:
    """So nothing is left elsewhere by a server that is killed, and it starts again on its own."""
    directory = Path(stack.env["ASSISTANTS_DATA_DIR"]) / "lib"
    assert [each.name for each in directory.iterdir()] == ["libgomp.so.1"]
    stack.kill()
    stack.start()
    assert stack.terminate() == 0, stack.printed()


def test_it_is_the_one_model_that_is_listed(stack: Stack) -> None:
    with openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0) as client:
        [model] = client.models.list()
        assert (model.id, model.owned_by) == ("SmolLM2-135M-Instruct", "system")
        assert client.models.retrieve(model.id) == model
        with pytest.raises(openai.NotFoundError, match="The model 'any' does not exist"):
            client.models.retrieve("any")
    assert stack.terminate() == 0, stack.printed()
