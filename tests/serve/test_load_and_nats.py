"""Runs go on, each once, while NATS comes and goes under them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from assistants.v1 import runs_pb2

from tests.serve.test_servers_on_nats import healthy
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs
from tests.support.link import NatsLink
from tests.support.model_server import ModelServer
from tests.support.nats import Nats
from tests.support.postgres import Postgres
from tests.support.script import Answer
from tests.support.stack import Stack
from tests.support.waiting import until

CALLERS = 4
"""For each of the two servers, one run after the other."""

TEXT = "What the model says, in many small pieces. " * 5
PORTION = 20
"""Runs that end before anything else happens."""


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server that a test may kill."""
    server = Nats(tmp_path)
    yield server
    server.kill()


class Load:
    """Callers that stream one run after the other, and what became of them."""

    def __init__(self, models: ModelServer) -> None:
        self._models = models
        self.over = False
        self.ended = Counter[str]()

    async def call(self, stubs: Stubs) -> None:
        """Streams runs until it is over."""
        while not self.over:
            self.ended[await asyncio.to_thread(self._run, stubs)] += 1

    async def goes_on(self) -> None:
        """Waits until some more have ended."""
        before = self.ended.total()
        await until(lambda: self.ended.total() >= before + PORTION)

    def _run(self, stubs: Stubs) -> str:
        """Has one run executed, once; returns how its stream ended."""
        model = self._models.script(Answer(TEXT))
        thread = stubs.thread("Hi")
        request = runs_pb2.CreateRunRequest(
            thread_id=thread.id, assistant_id=stubs.assistant(model).id
        )
        events = list(stubs.runs.StreamRun(request, timeout=60))
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        run = next(event.run for event in events if event.HasField("run"))
        assert stubs.get_run(run).status == Run.completed
        assert stubs.texts(thread.id) == [("user", "Hi"), ("assistant", TEXT)]
        assert len(self._models.requests(model)) == 1
        return str(events[-1].event)


async def test_every_run_ends_and_none_is_executed_twice(
    postgres: Postgres, own_nats: Nats, model_server: ModelServer
) -> None:
    name = postgres.create_database()
    env = {
        "ASSISTANTS_DATABASE_URL": postgres.url(name),
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        # Many runs find no free worker where they are created.
        "ASSISTANTS_WORKER_CONCURRENCY": "2",
    }
    with (
        NatsLink(own_nats.port) as link,
        Stack(env | {"ASSISTANTS_NATS_URL": link.url}) as one,
        Stack(env | {"ASSISTANTS_NATS_URL": own_nats.url}) as other,
        connect(one.start().grpc_address) as mine,
        connect(other.start().grpc_address) as others,
    ):
        load = Load(model_server)

        async def disturb() -> None:
            await load.goes_on()
            for with_store in (True, False):
                own_nats.kill()
                await until(lambda: not healthy(one, "nats") and not healthy(other, "nats"))
                await load.goes_on()
                if not with_store:
                    own_nats.forget()
                own_nats.start()
                await until(lambda: healthy(one, "nats") and healthy(other, "nats"))
                await load.goes_on()
            link.stall()
            await until(lambda: not healthy(one, "nats"))
            await load.goes_on()
            link.resume()
            await until(lambda: healthy(one, "nats"))
            await load.goes_on()
            load.over = True

        async with asyncio.TaskGroup() as group:
            for stubs in (mine, others):
                for _ in range(CALLERS):
                    group.create_task(load.call(stubs))
            group.create_task(disturb())
        print(f"\nstreams by their last event: {dict(load.ended)}")
        assert load.ended.keys() == {"done"}
        for stack in (one, other):
            assert stack.terminate() == 0, stack.printed()
            assert "Traceback" not in stack.printed()
    postgres.drop_database(name)
