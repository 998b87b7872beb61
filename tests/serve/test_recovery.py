"""kill -9 and a restart: every run that was begun is finished, and its thread has one answer."""

from assistants.v1 import runs_pb2

from storage import Storage
from storage.database import Database
from tests import marked
from tests.grpc_face.client import connect
from tests.grpc_face.stubs import Run, Stubs, function
from tests.model_server import ModelServer
from tests.postgres import run_async
from tests.script import Answer, Hold
from tests.stack import Stack
from tests.waiting import until

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
            assert stubs.said(begun.thread_id) == [("user", "Hi"), ("assistant", "Hello again")]
            for run in queued:
                assert stubs.said(run.thread_id) == [("user", "Hi"), ("assistant", "Quick")]
            # It was never asked again, and what it had said is not known.
            assert stubs.said(stopped.thread_id)[0] == ("user", "Hi")
            steps = runs_pb2.ListRunStepsRequest(thread_id=begun.thread_id, run_id=begun.id)
            assert len(stubs.runs.ListRunSteps(steps).data) == 1
        assert len(models.requests(answered)) == 2
        assert len(models.requests(cancelled)) == 1
        assert [len(models.requests(model)) for model in quick] == [1] * QUEUED
        assert stack.terminate() == 0, stack.printed()
        assert "Traceback" not in stack.printed()


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
