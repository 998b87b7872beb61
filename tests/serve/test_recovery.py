"""kill -9 and a restart: every run that was begun is finished, and its thread has one answer."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import grpc
import psycopg
import pytest
from assistants.v1 import messages_pb2, runs_pb2

from service.types import runs
from storage import Storage
from storage.database import Database, parse_url
from storage.messages import NewMessage
from storage.new_runs import Draft, NewRun
from storage.resources import NOTHING
from tests.support import marked
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs, function
from tests.support.model_server import ModelServer
from tests.support.postgres import run_async
from tests.support.script import Answer, Hold
from tests.support.stack import Stack
from tests.support.waiting import until

QUEUED = 10
ENV = {
    "ASSISTANTS_LEASE_SECONDS": "1",
    "ASSISTANTS_WORKER_CONCURRENCY": "2",
    "ASSISTANTS_LOG_LEVEL": "debug",
}


def start_run(stubs: Stubs, model: str, *functions: str) -> Run:
    thread = stubs.thread("Hi")
    assistant = stubs.assistant(model, tools=map(function, functions))
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    run: Run = stubs.runs.CreateRun(request)
    return run


async def cancel(url: str, run: Run) -> None:
    """Leaves a run as a server does that dies right after it was asked to cancel it."""
    database = Database(url)
    await Storage(database).runs.cancel("default", run.thread_id, run.id)
    await database.close()


async def test_every_run_is_finished(models: ModelServer, database_url: str) -> None:
    held = [Hold(Answer("Hello there"), after="Hello") for _ in range(2)]
    answered, cancelled = (models.script(each, Answer("Hello again")) for each in held)
    quick = [models.script(Answer("Quick")) for _ in range(QUEUED)]
    env = {"ASSISTANTS_MODEL_BASE_URL": models.base_url, "ASSISTANTS_DATABASE_URL": database_url}
    with Stack(ENV | env) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs:
            begun, stopped = start_run(stubs, answered), start_run(stubs, cancelled)
            for each in held:
                await until(each.held.is_set)
            queued = [start_run(stubs, model) for model in quick]
        stack.kill()
        for each in held:
            await until(each.disconnected.is_set)
        run_async(cancel(database_url, stopped))

        stack.start()
        with connect(stack.grpc_address) as stubs:
            for run in (begun, *queued):
                await until(lambda run=run: stubs.get_run(run).status == Run.completed)  # type: ignore[misc]
            await until(lambda: stubs.get_run(stopped).status == Run.cancelled)
            assert stubs.texts(begun.thread_id) == [("user", "Hi"), ("assistant", "Hello again")]
            for run in queued:
                assert stubs.texts(run.thread_id) == [("user", "Hi"), ("assistant", "Quick")]
            # It was never asked again, and what it had written is not known.
            assert stubs.texts(stopped.thread_id)[0] == ("user", "Hi")
            steps = runs_pb2.ListRunStepsRequest(thread_id=begun.thread_id, run_id=begun.id)
            assert len(stubs.runs.ListRunSteps(steps).data) == 1
        assert len(models.requests(answered)) == 2
        assert len(models.requests(cancelled)) == 1
        assert [len(models.requests(model)) for model in quick] == [1] * QUEUED
        assert stack.terminate() == 0, stack.printed()
        assert "Traceback" not in stack.printed()


async def test_a_kill_between_any_two_commits(models: ModelServer, database_url: str) -> None:
    """Creation, opening, end: whichever is the last that was written, the thread has one answer."""
    opened, ending = (Hold(Answer("Hello there"), after="Hello") for _ in range(2))
    asked, opening = (Hold(Answer("Hello there")) for _ in range(2))
    holds = {"opened": opened, "ending": ending, "asked": asked, "opening": opening}
    scripts = {name: models.script(hold, Answer("Again")) for name, hold in holds.items()}
    over, created = models.script(Answer("Hello there")), models.script(Answer("Again"))
    env = {"ASSISTANTS_MODEL_BASE_URL": models.base_url, "ASSISTANTS_DATABASE_URL": database_url}
    with Stack(ENV | env | {"ASSISTANTS_WORKER_CONCURRENCY": "8"}) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs:
            done = start_run(stubs, over)
            await until(lambda: stubs.get_run(done).status == Run.completed)
            runs = {name: start_run(stubs, model) for name, model in scripts.items()}
            shown = {name: Shown(stubs, runs[name]) for name in ("opened", "opening", "ending")}
            for hold in holds.values():
                await until(hold.held.is_set)
            for name in ("opened", "ending"):
                await until(lambda name=name: shown[name].text == "Hello")  # type: ignore[misc]
                await until(lambda name=name: len(stubs.texts(runs[name].thread_id)) == 2)  # type: ignore[misc]
            with writes_nothing(database_url):
                for name in ("opening", "ending"):
                    holds[name].release()
                    await until(lambda name=name: shown[name].text == "Hello there")  # type: ignore[misc]
                stack.kill()
            for each in shown.values():
                each.ended()
        runs["created"] = run_async(create(database_url, done, created))

        stack.start()
        with connect(stack.grpc_address) as stubs:
            for run in runs.values():
                await until(lambda run=run: stubs.get_run(run).status == Run.completed)  # type: ignore[misc]
                assert stubs.texts(run.thread_id) == [("user", "Hi"), ("assistant", "Again")]
                steps = runs_pb2.ListRunStepsRequest(thread_id=run.thread_id, run_id=run.id)
                assert len(stubs.runs.ListRunSteps(steps).data) == 1
            assert stubs.get_run(done).status == Run.completed
            assert stubs.texts(done.thread_id) == [("user", "Hi"), ("assistant", "Hello there")]
            for name, each in shown.items():
                message = messages_pb2.GetMessageRequest(
                    thread_id=runs[name].thread_id, message_id=each.message_id
                )
                with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
                    stubs.messages.GetMessage(message)
        assert len(models.requests(over)) == 1
        assert stack.terminate() == 0, stack.printed()
        assert "Traceback" not in stack.printed()


class Shown:
    """What a run's stream shows until its server is killed, read in the background."""

    def __init__(self, stubs: Stubs, run: Run) -> None:
        request = runs_pb2.StreamRunEventsRequest(thread_id=run.thread_id, run_id=run.id)
        self._events = stubs.runs.StreamRunEvents(request)
        self.text, self.message_id = "", ""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def ended(self) -> None:
        """Waits for the end of the stream, which is none that a client takes for one."""
        self._reading.join(60)
        assert self._failed

    def _read(self) -> None:
        self._failed = False
        try:
            for event in self._events:
                if event.HasField("message"):
                    self.message_id = event.message.id
                for part in event.message_delta.content:
                    self.text += part.text.value
        except grpc.RpcError:
            self._failed = True


@contextlib.contextmanager
def writes_nothing(url: str) -> Iterator[None]:
    """Keeps everybody from writing messages."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(str(parse_url(url).database))) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
    else:
        with contextlib.closing(psycopg.connect(url)) as connection:
            connection.execute("LOCK TABLE messages IN SHARE MODE")
            yield


async def create(url: str, like: Run, model: str) -> Run:
    """Leaves a new run as a server does that dies as soon as it has claimed it."""
    database = Database(url)
    storage = Storage(database, lease_seconds=1)
    found = (await storage.runs.get("default", like.thread_id, like.id)).run
    values = {name: getattr(found, name) for name in NEW} | {"model": model, "metadata_": {}}
    message = NewMessage("user", [{"type": "text", "text": {"value": "Hi", "annotations": []}}])
    new = NewRun(found.assistant_id, values, 600)
    created = await storage.runs.create_with_thread(
        "default", {}, NOTHING, [message], Draft(new.assistant_id, lambda _: new), claim=True
    )
    assert created.claim is not None
    await database.close()
    return Run(id=created.run.id, thread_id=created.run.thread_id)


NEW = {field.name for field in runs.FIELDS} - {"additional_instructions", "metadata"}


async def test_what_a_model_server_gets_back_is_not_lost(
    models: ModelServer, database_url: str
) -> None:
    model = models.script(marked.calls(), marked.answer())
    env = {"ASSISTANTS_MODEL_BASE_URL": models.base_url, "ASSISTANTS_DATABASE_URL": database_url}
    with Stack(ENV | env) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs:
            run = start_run(stubs, model, *marked.FUNCTIONS)
            await until(lambda: stubs.get_run(run).status == Run.requires_action)
        stack.kill()

        stack.start()
        with connect(stack.grpc_address) as stubs:
            calls = stubs.get_run(run).required_action.submit_tool_outputs.tool_calls
            outputs = [
                runs_pb2.ToolOutput(tool_call_id=call.id, output=output)
                for call, output in zip(calls, marked.OUTPUTS, strict=True)
            ]
            submission = runs_pb2.SubmitToolOutputsRequest(
                thread_id=run.thread_id, run_id=run.id, tool_outputs=outputs
            )
            stubs.runs.SubmitToolOutputs(submission)
            await until(lambda: stubs.get_run(run).status == Run.completed)
        assert stack.terminate() == 0, stack.printed()
        # The log is no place for it either.
        assert marked.MARK not in stack.printed()
    first, second = models.requests(model)
    assert second["messages"] == [*first["messages"], *marked.REPLAYED]
