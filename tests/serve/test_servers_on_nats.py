"""Two servers on one PostgreSQL and one NATS: whichever a caller asks, it sees the same."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from assistants.v1 import runs_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serve.test_metrics import value
from tests.serve.test_recovery import start_run
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, RunEvent, Stubs, names, whole
from tests.support.link import NatsLink
from tests.support.model_server import ModelServer
from tests.support.nats import Nats
from tests.support.postgres import Postgres
from tests.support.rest.resuming import Event, Reader, texts
from tests.support.script import Answer, Calls, Hold
from tests.support.secret import new_secret
from tests.support.serve.processes import kill
from tests.support.stack import Stack, free_address
from tests.support.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING


class Servers:
    """Two servers that execute one run each, and typed clients of them."""

    def __init__(self, one: Stack, other: Stack) -> None:
        self.one, self.other = one, other
        self.mine: Stubs
        self.others: Stubs

    @contextlib.contextmanager
    def started(self) -> Iterator["Servers"]:
        with (
            connect(self.one.start().grpc_address) as self.mine,
            connect(self.other.start().grpc_address) as self.others,
        ):
            yield self
        for stack in (self.one, self.other):
            assert stack.terminate() == 0, stack.printed()
            assert "Traceback" not in stack.printed()

    async def occupy(self, models: ModelServer) -> tuple[Run, Hold]:
        """Has the one execute a run, so that the other executes what comes next."""
        hold = Hold(Answer("At last"))
        run = start_run(self.mine, models.script(hold))
        await until(hold.held.is_set)
        return run, hold


@pytest.fixture
def env(postgres: Postgres, model_server: ModelServer) -> Iterator[dict[str, str]]:
    """Settings of a service, but for NATS."""
    name = postgres.create_database()
    yield {
        "ASSISTANTS_DATABASE_URL": postgres.url(name),
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_WORKER_CONCURRENCY": "1",
    }
    postgres.drop_database(name)


@pytest.fixture
def servers(env: dict[str, str], nats: Nats) -> Iterator[Servers]:
    """Two servers on the NATS of all tests."""
    env |= {"ASSISTANTS_NATS_URL": nats.url, "ASSISTANTS_NATS_PREFIX": nats.prefix()}
    with Stack(env) as one, Stack(env) as other, Servers(one, other).started() as servers:
        yield servers


async def test_a_stream_shows_a_run_that_the_other_executes_as_it_comes(
    servers: Servers, models: ModelServer
) -> None:
    busy, occupied = await servers.occupy(models)
    hold = Hold(Answer("Hello there"), after="Hell")
    stream = begin_stream(servers.mine, models.script(hold))
    await until(hold.held.is_set)
    # The first of the text is there before the model goes on.
    read, run = await read_up_to_text(stream, "Hell")
    reader = Reader(servers.other, run)
    with reader.open(0) as events:
        seen = [next(events) for _ in read]
        assert [event.id for event in seen] == [event.sequence_number for event in read]
        hold.release()
        seen += list(events)
    read += await asyncio.to_thread(list, stream)
    assert names(whole(read))[-2:] == ["thread.run.completed", "done"]
    everywhere(servers, run, seen)
    assert texts(seen) == "Hello there"
    assert not occupied.disconnected.is_set()
    occupied.release()
    await finished(servers.mine, busy)


async def test_a_cancel_from_the_other(servers: Servers, models: ModelServer) -> None:
    busy, occupied = await servers.occupy(models)
    stream = Reader(servers.other, busy)
    with stream.open(0) as events:
        request = runs_pb2.CancelRunRequest(thread_id=busy.thread_id, run_id=busy.id)
        assert servers.others.runs.CancelRun(request).status == Run.cancelling
        await until(occupied.disconnected.is_set)
        seen = await asyncio.to_thread(list, events)
    ends = [event.name for event in seen[-3:]]
    assert ends == ["thread.run.cancelling", "thread.run.cancelled", "done"]
    everywhere(servers, busy, seen)


async def test_tool_outputs_given_to_the_other(servers: Servers, models: ModelServer) -> None:
    busy, occupied = await servers.occupy(models)
    calls = models.script(Calls(("look", {"at": "it"})), Answer("Seen it"))
    run = start_run(servers.mine, calls, "look")
    await until(lambda: servers.mine.get_run(run).status == Run.requires_action)
    pending = servers.mine.get_run(run).required_action.submit_tool_outputs.tool_calls
    outputs = [runs_pb2.ToolOutput(tool_call_id=call.id, output="it is") for call in pending]
    request = runs_pb2.SubmitToolOutputsRequest(
        thread_id=run.thread_id, run_id=run.id, tool_outputs=outputs
    )
    read = whole(servers.mine.runs.StreamToolOutputs(request))
    seen = Reader(servers.one, run).read(0)
    # Read from the beginning, it ends where the run waited for its outputs.
    seen += Reader(servers.one, run).read(seen[-1].id)
    everywhere(servers, run, seen)
    assert texts(seen) == "Seen it"
    assert [event.id for event in seen[-len(read) :]] == [each.sequence_number for each in read]
    occupied.release()
    await finished(servers.mine, busy)


async def test_a_run_behind_one_that_the_other_executes(
    servers: Servers, models: ModelServer
) -> None:
    busy, occupied = await servers.occupy(models)
    assistant = servers.others.assistant(models.script(Answer("Then me")))
    request = runs_pb2.CreateRunRequest(
        thread_id=busy.thread_id, assistant_id=assistant.id, when_active="queue"
    )
    stream = servers.others.runs.StreamRun(request)
    assert next(iter(stream)).event == "thread.run.created"
    occupied.release()
    assert names(await asyncio.to_thread(list, stream))[-2:] == ["thread.run.completed", "done"]
    assert [text for _, text in servers.mine.texts(busy.thread_id)] == ["Hi", "At last", "Then me"]


async def test_a_worker_that_stands_still_past_its_lease(
    env: dict[str, str], nats: Nats, models: ModelServer
) -> None:
    """Its run goes on elsewhere, and when it moves again it adds nothing."""
    env |= {"ASSISTANTS_NATS_URL": nats.url, "ASSISTANTS_NATS_PREFIX": nats.prefix()}
    env |= {"ASSISTANTS_LEASE_SECONDS": "1"}
    hold = Hold(Answer("Hello there"), after="Hell")
    with (
        Stack(env | {"ASSISTANTS_METRICS_ADDRESS": free_address()}) as one,
        Stack(env) as other,
        Servers(one, other).started() as servers,
    ):
        run = start_run(servers.mine, models.script(hold, Answer("Again")))
        await until(hold.held.is_set)
        assert one.process is not None
        with Reader(other, run).open(0) as events:
            seen = list[Event]()
            while texts(seen) != "Hell":
                seen.append(await asyncio.to_thread(next, events))
            kill(one.process.pid, signal.SIGSTOP)
            seen += await asyncio.to_thread(list, events)
        # The rest of the answer is there when it moves again.
        hold.release()
        kill(one.process.pid, signal.SIGCONT)
        await until(lambda: value(one, "assistants_worker_runs") == 0)
        await finished(servers.mine, run)
        ended = [event.name for event in seen if event.name.startswith("thread.message.")]
        assert ended[2:4] == ["thread.message.delta", "thread.message.incomplete"]
        assert texts(seen) == "HellAgain"
        everywhere(servers, run, seen)
        assert servers.mine.texts(run.thread_id) == [("user", "Hi"), ("assistant", "Again")]


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server that a test may kill, and that wants a password, which no log may have."""
    server = Nats(tmp_path, login=f"servers:{new_secret()}")
    yield server
    server.kill()


@pytest.mark.parametrize("with_store", [True, False])
async def test_nats_is_killed(
    env: dict[str, str], own_nats: Nats, models: ModelServer, with_store: bool
) -> None:
    env |= {"ASSISTANTS_NATS_URL": own_nats.url}
    metrics = {"ASSISTANTS_METRICS_ADDRESS": free_address()}
    with (
        Stack(env | metrics) as one,
        Stack(env) as other,
        Servers(one, other).started() as servers,
    ):
        assert there(one) == 1
        assert healthy(one) and healthy(one, "nats")
        await seen_by_the_other(servers, models)

        hold = Hold(Answer("Hello there"), after="Hell")
        stream = begin_stream(servers.mine, models.script(hold))
        read, run = await read_up_to_text(stream, "Hell")
        own_nats.kill()
        await until(lambda: not healthy(one, "nats"))
        hold.release()
        read += await asyncio.to_thread(list, stream)
        assert names(whole(read))[-2:] == ["thread.run.completed", "done"]
        # Others begin and end meanwhile, and calls are served.
        alone = begin_stream(servers.others, models.script(Answer("Alone")))
        assert names(whole(alone))[-2:] == ["thread.run.completed", "done"]
        assert (
            there(one),
            healthy(one),
            one.healthy(),
        ) == (0, True, True)
        assert there(one) == 0
        assert value(one, "assistants_nats_outages_total", prefix="assistants") == 1
        assert healthy(one) and one.healthy()
        assert servers.others.texts(run.thread_id)[-1] == ("assistant", "Hello there")

        if not with_store:
            own_nats.forget()
        own_nats.start()
        await until(lambda: healthy(one, "nats") and healthy(other, "nats"))
        assert there(one) == 1
        # What was published meanwhile is everywhere.
        await until(lambda: replayed(other, run) == replayed(one, run) != [])
        await seen_by_the_other(servers, models)


async def test_the_link_to_nats_stalls(
    env: dict[str, str], nats: Nats, models: ModelServer
) -> None:
    env |= {"ASSISTANTS_NATS_PREFIX": nats.prefix()}
    with (
        NatsLink(nats.port) as link,
        Stack(env | {"ASSISTANTS_NATS_URL": link.url}) as one,
        Stack(env | {"ASSISTANTS_NATS_URL": nats.url}) as other,
        Servers(one, other).started() as servers,
    ):
        await seen_by_the_other(servers, models)
        hold = Hold(Answer("Hello there"), after="Hell")
        stream = begin_stream(servers.mine, models.script(hold))
        read, run = await read_up_to_text(stream, "Hell")
        link.stall()
        hold.release()
        read += await asyncio.to_thread(list, stream)
        assert names(whole(read))[-2:] == ["thread.run.completed", "done"]
        assert not healthy(one, "nats")
        assert (healthy(one), healthy(other, "nats")) == (True, True)
        alone = begin_stream(servers.mine, models.script(Answer("Alone")))
        assert names(whole(alone))[-2:] == ["thread.run.completed", "done"]
        link.resume()
        await until(lambda: healthy(one, "nats"))
        await until(lambda: replayed(other, run) == replayed(one, run) != [])
        await seen_by_the_other(servers, models)


def everywhere(servers: Servers, run: Run, events: list[Event]) -> None:
    """Checks that both servers replay these events of a run that is over, from any number on."""
    pauses = [at for at, event in enumerate(events) if event.name == "done"]
    for stack in (servers.one, servers.other):
        reader = Reader(stack, run)
        for at in (-1, len(events) // 2, len(events) - 2):
            last = events[at].id if at >= 0 else 0
            end = next(pause for pause in pauses if pause > at)
            assert reader.read(last) == events[at + 1 : end + 1]


async def seen_by_the_other(servers: Servers, models: ModelServer) -> None:
    """Has the one execute a run, and the other show its text before its end."""
    hold = Hold(Answer("Hello there"), after="Hell")
    run = start_run(servers.mine, models.script(hold))
    await until(hold.held.is_set)
    with Reader(servers.other, run).open(0) as events:
        seen = list[Event]()
        while texts(seen) != "Hell":
            seen.append(await asyncio.to_thread(next, events))
        hold.release()
        seen += await asyncio.to_thread(list, events)
    assert texts(seen) == "Hello there"
    everywhere(servers, run, seen)


def begin_stream(stubs: Stubs, model: str) -> Iterator[RunEvent]:
    request = runs_pb2.CreateRunRequest(
        thread_id=stubs.thread("Hi").id, assistant_id=stubs.assistant(model).id
    )
    return iter(stubs.runs.StreamRun(request))


async def read_up_to_text(stream: Iterator[RunEvent], text: str) -> tuple[list[RunEvent], Run]:
    """Reads a stream until it has shown this text; returns all that it has, and the run."""
    read, so_far = list[RunEvent](), ""
    while so_far != text:
        event = await asyncio.to_thread(next, stream)
        read.append(event)
        so_far += "".join(part.text.value for part in event.message_delta.content)
    return read, next(event.run for event in read if event.HasField("run"))


def replayed(stack: Stack, run: Run) -> list[Event]:
    """Returns the run's events from its beginning on; none if the server does not have them."""
    with contextlib.suppress(AssertionError):
        return Reader(stack, run).read(0)
    return []


def there(stack: Stack) -> float:
    """Returns whether the server's metrics say that NATS is there."""
    return value(stack, "assistants_nats_up", prefix="assistants")


def healthy(stack: Stack, service: str = "") -> bool:
    with grpc.insecure_channel(stack.grpc_address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        return bool(answer.status == SERVING)


async def finished(stubs: Stubs, run: Run) -> None:
    await until(lambda: stubs.get_run(run).status == Run.completed)
