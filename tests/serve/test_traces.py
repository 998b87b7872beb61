"""One trace leads from a caller, by either transport, through the run to the model's request."""

import secrets
from collections.abc import Iterator

import openai
import pytest
from assistants.v1 import assistants_pb2, runs_pb2

from tests.serve.test_failures import MODEL, refusal
from tests.support.collector import Collector, Span, collecting
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import function, user
from tests.support.model_server import ModelServer
from tests.support.script import Answer, BreakOff, Calls, Fail, Hold
from tests.support.secret import new_secret
from tests.support.stack import Stack, free_address, serving
from tests.support.waiting import until


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where servers send their spans."""
    with collecting() as collector:
        yield collector


def traced(collector: Collector, models: ModelServer) -> dict[str, str]:
    """The settings of a server that sends its spans soon, and executes one run at a time."""
    return {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_MODEL_RETRIES": "0",
        "ASSISTANTS_WORKER_CONCURRENCY": "1",
        "ASSISTANTS_LEASE_SECONDS": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={new_secret()}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


@pytest.fixture(scope="module")
def stack(collector: Collector, model_server: ModelServer) -> Iterator[Stack]:
    """A server that does so, and wants keys."""
    keys = {"ASSISTANTS_AUTH": "keys", "ASSISTANTS_BOOTSTRAP_KEY": new_secret()}
    with serving(traced(collector, model_server) | keys) as stack:
        yield stack


class Caller:
    """A span of a caller's, under which it calls a server."""

    def __init__(self, stack: Stack) -> None:
        """Calls `stack`, with its key if it wants any."""
        self.stack = stack
        self.trace, self.id = secrets.token_hex(16), secrets.token_hex(8)
        key = stack.env.get("ASSISTANTS_BOOTSTRAP_KEY", "none")
        self.headers = {
            "traceparent": f"00-{self.trace}-{self.id}-01",
            "authorization": f"Bearer {key}",
            "baggage": f"key={key}",
        }

    def rest(self, model: str) -> tuple[str, str]:
        """Creates a thread and a run of it, which may look. Returns the ids of both."""
        with openai.OpenAI(
            base_url=self.stack.base_url, api_key="none", default_headers=self.headers
        ) as client:
            assistant = client.beta.assistants.create(model=model)
            run = client.beta.threads.create_and_run(
                assistant_id=assistant.id,
                thread={"messages": [{"role": "user", "content": "Hi"}]},
                tools=[{"type": "function", "function": {"name": "look"}}],
            )
            return run.thread_id, run.id

    def grpc(self, model: str) -> tuple[str, str]:
        """Does the same."""
        metadata = tuple(self.headers.items())
        with connect(self.stack.grpc_address) as stubs:
            new = assistants_pb2.CreateAssistantRequest(model=model)
            assistant = stubs.assistants.CreateAssistant(new, metadata=metadata)
            request = runs_pb2.CreateThreadAndRunRequest(
                assistant_id=assistant.id, tools=[function("look")]
            )
            request.thread.messages.append(user("Hi"))
            run = stubs.runs.CreateThreadAndRun(request, metadata=metadata)
            return run.thread_id, run.id

    def submit(self, thread_id: str, run_id: str) -> None:
        """Answers the one call of the run, as soon as it is there."""
        with openai.OpenAI(
            base_url=self.stack.base_url, api_key="none", default_headers=self.headers
        ) as client:
            runs = client.beta.threads.runs
            run = runs.poll(run_id, thread_id=thread_id)
            assert run.required_action, run
            [call] = run.required_action.submit_tool_outputs.tool_calls
            runs.submit_tool_outputs(
                run_id, thread_id=thread_id, tool_outputs=[{"tool_call_id": call.id, "output": "x"}]
            )


async def asked(collector: Collector, models: ModelServer, model: str, number: int) -> list[Span]:
    """Returns the spans that lead to a request to a model, from the one that the caller names."""
    await until(lambda: len(models.headers(model)) > number)
    headers = models.headers(model)[number]
    assert "baggage" not in headers
    _, trace, last, flags = headers["traceparent"].split("-")
    assert int(flags, 16) & 1
    path: list[Span] = []

    def found() -> bool:
        nonlocal path
        spans, at = {span.id: span for span in collector.trace(trace)}, last
        path = []
        while at in spans:
            path.insert(0, spans[at])
            at = spans[at].parent
        return bool(path) and path[0].name not in ("POST", "chat", "run")

    await until(found)
    return path


CALL = ["CreateThreadAndRun", "run", "chat", "POST"]


@pytest.mark.parametrize("transport", ["rest", "grpc"])
async def test_from_a_call_to_the_model(
    stack: Stack, collector: Collector, models: ModelServer, transport: str
) -> None:
    """The answer to the run's call is in the trace of who gives it."""
    model = models.script(Calls(("look", {})), Answer("Hello"))
    caller, other = Caller(stack), Caller(stack)
    thread_id, run_id = getattr(caller, transport)(model)
    path = await asked(collector, models, model, 0)
    assert [span.name for span in path] == CALL
    assert (path[0].trace, path[0].parent) == (caller.trace, caller.id)
    assert path[0].resource["service.name"] == "assistants"
    assert path[0].resource["deployment.environment.name"] == "tests"
    call, run, chat, post = (span.attributes for span in path)
    assert (call["rpc.grpc.status_code"], call["assistants.object"]) == (0, run_id)
    assert (run["assistants.run.id"], run["gen_ai.conversation.id"]) == (run_id, thread_id)
    assert chat["gen_ai.request.model"] == model
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (20, 5)
    assert post["http.url"] == f"{models.base_url}/chat/completions"

    other.submit(thread_id, run_id)
    path = await asked(collector, models, model, 1)
    assert [span.name for span in path] == ["SubmitToolOutputs", *CALL[1:]]
    assert (path[0].trace, path[0].parent) == (other.trace, other.id)

    # Of the transactions, each belongs to what has asked for it.
    await until(lambda: "Claims.save" in {span.name for span in collector.trace(other.trace)})
    spans = {span.id: span for span in collector.trace(caller.trace)}
    [created] = [span for span in spans.values() if span.name == "Runs.create_with_thread"]
    assert created.attributes == {"db.system.name": "sqlite"}
    assert spans[created.parent].name == "CreateThreadAndRun"
    [saved] = [span for span in spans.values() if span.name == "Claims.save"]
    assert spans[saved.parent].name == "run"
    assert not [span for span in spans.values() if span.failed]


async def test_a_call_that_names_no_span(
    stack: Stack, collector: Collector, models: ModelServer
) -> None:
    """It begins a trace, also where what it names is nonsense."""
    for given in ("", "00-0-0-01", "x" * 1000):
        caller = Caller(stack)
        caller.headers["traceparent"] = given
        model = models.script(Answer("Hello"))
        caller.grpc(model)
        path = await asked(collector, models, model, 0)
        assert [span.name for span in path] == CALL
        assert path[0].parent == ""


async def test_what_fails(stack: Stack, collector: Collector, models: ModelServer) -> None:
    """Nothing that the model says is in a span."""
    said = secrets.token_hex(16)
    caller, model = Caller(stack), models.script(Fail(401, f"No such key: {said}"))
    caller.rest(model)
    *_, chat, post = await asked(collector, models, model, 0)
    assert (chat.failed, chat.attributes["error.type"]) == (True, "server_error")
    assert (post.failed, post.attributes["http.status_code"]) == (True, 401)
    assert said not in repr(collector.trace(caller.trace))
    # On a connection that was kept, it is asked once more.
    model = models.script(BreakOff(), BreakOff())
    Caller(stack).grpc(model)
    *_, chat, post = await asked(collector, models, model, 0)
    assert (post.failed, post.attributes.get("http.status_code")) == (True, None)
    # One would have the error's words, and a traceback.
    assert (post.events, chat.events) == ([], [])


async def test_a_run_that_another_server_executes(
    collector: Collector, models: ModelServer
) -> None:
    """What a run belongs to is stored with it."""
    held = Hold(Answer("Hello"))
    busy, queued = models.script(held, Answer("Hello")), models.script(Answer("Hello"))
    with Stack(traced(collector, models)) as stack:
        stack.start()
        caller, first = Caller(stack), Caller(stack)
        first.rest(busy)
        await until(held.held.is_set)
        caller.grpc(queued)
        stack.kill()
        stack.start()
        await until(lambda: models.headers(queued))
        [headers] = models.headers(queued)
        assert headers["traceparent"].split("-")[1] == caller.trace
        await until(lambda: len(models.headers(busy)) == 2)
        assert models.headers(busy)[1]["traceparent"].split("-")[1] == first.trace
        assert stack.terminate() == 0, stack.printed()
    # What ends with the server is sent as well.
    [run] = [span for span in collector.trace(caller.trace) if span.name == "run"]
    assert run.parent
    assert run.attributes["assistants.run.attempt"] == 1


async def test_nothing_is_loaded_without_a_collector(models: ModelServer) -> None:
    env = {"ASSISTANTS_MODEL_BASE_URL": models.base_url, "PYTHONPROFILEIMPORTTIME": "1"}
    with serving(env) as stack:
        model = models.script(Answer("Hello"))
        Caller(stack).rest(model)
        await until(lambda: models.headers(model))
        assert "traceparent" not in models.headers(model)[0]
        assert "service.process.tracing" in stack.printed()
        assert "opentelemetry" not in stack.printed()


async def test_a_collector_that_is_away(models: ModelServer) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{free_address()}"}
    timing = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving({"ASSISTANTS_MODEL_BASE_URL": models.base_url, **endpoint, **timing}) as stack:
        model = models.script(Answer("Hello"))
        Caller(stack).rest(model)
        await until(lambda: models.headers(model))
        await until(lambda: "tracing failed" in stack.printed())
        assert "Traceback" not in stack.printed()


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PROTOCOL", "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL: only grpc is supported, not"),
        ("TIMEOUT", "soon", "OTEL_…: could not convert"),
    ],
)
def test_settings_that_do_not_fit(name: str, value: str, line: str) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        f"OTEL_EXPORTER_OTLP_{name}": value,
    }
    assert refusal(MODEL | env).startswith(line)
