"""The rate of a key and the quotas of a project, as callers of both transports see them."""

import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import grpc
import httpx2
import openai
import pytest
from assistants.v1 import runs_pb2, threads_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storage.errors import Quota
from tests.access.conftest import Both
from tests.support.access.cases import CASES, filled
from tests.support.access.keyed import Key
from tests.support.access.transports import Outcome
from tests.support.grpc.stubs import Stubs
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.rest.scene import Scene
from tests.support.script import Answer, Hold, Step
from tests.support.stack import Stack, serving
from tests.support.waiting import SECONDS

LIMIT = 3
"""Calls a minute: after so many, the next is 20 seconds away."""

TRANSPORTS = pytest.mark.parametrize("transport", ["grpc", "rest"])
EXHAUSTED = "RESOURCE_EXHAUSTED"


@pytest.fixture(scope="module")
def limited(model_server: ModelServer) -> Iterator[Stack]:
    """A server that wants keys, and limits their rate."""
    env = {"ASSISTANTS_AUTH": "keys", "ASSISTANTS_RATE_LIMIT": f"{LIMIT}"}
    with serving(env | {"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        yield stack


@pytest.fixture(scope="module")
def transports(limited: Stack) -> Iterator[Both]:
    yield from _both(limited)


def _both(stack: Stack) -> Iterator[Both]:
    with (
        grpc.insecure_channel(stack.grpc_address) as channel,
        httpx2.Client(base_url=stack.base_url, timeout=SECONDS) as client,
    ):
        yield Both(channel, client)


def _headers(both: Both, key: Key) -> dict[str, Callable[[], dict[str, str]]]:
    """Returns what lists threads over each transport, and gives the headers of the answer."""
    by_key = {"authorization": f"Bearer {key.text}"}

    def over_grpc() -> dict[str, str]:
        request, metadata = threads_pb2.ListThreadsRequest(), tuple(by_key.items())
        listing: Any = Stubs(both.channel).threads.ListThreads
        try:
            call = listing.with_call(request, metadata=metadata, timeout=SECONDS)[1]
            found = call.initial_metadata()
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            found = error.trailing_metadata()
        return dict(found)

    def over_rest() -> dict[str, str]:
        return dict(both.client.get("/threads", headers=by_key).headers)

    return {"grpc": over_grpc, "rest": over_rest}


@TRANSPORTS
def test_each_answer_says_how_it_stands(limited: Stack, transports: Both, transport: str) -> None:
    ask = _headers(transports, Key.create(limited, "alpha"))[transport]
    for remaining in (2, 1, 0, 0):
        found = ask()
        assert found["x-ratelimit-limit-requests"] == f"{LIMIT}"
        assert found["x-ratelimit-remaining-requests"] == f"{remaining}"
        assert 0 < float(found["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
        last = found
    assert 0 < int(last["retry-after"]) <= 20


@TRANSPORTS
def test_one_call_too_many(limited: Stack, transports: Both, transport: str) -> None:
    key, other = (Key.create(limited, "alpha") for _ in range(2))
    call = transports.by(key)[transport]
    assert [call("ListThreads", {}).status for _ in range(LIMIT)] == ["OK"] * LIMIT
    # Streams, too; and what it names is not looked at.
    for method in ("ListThreads", "CreateThread", "StreamThreadAndRun"):
        refused = call(method, CASES[method] if "List" not in method else {})
        assert refused.status == EXHAUSTED
        assert f"Rate limit reached: {LIMIT} requests per minute. Try again in" in refused.text
    # It is the key's; keys that are wrong have none.
    assert transports.by(other)[transport]("ListThreads", {}).status == "OK"
    assert transports.by(Key("", "sk-wrong"))[transport]("ListThreads", {}).status != EXHAUSTED


def test_the_error_is_openais(limited: Stack, transports: Both) -> None:
    key = Key.create(limited, "alpha")
    with openai.OpenAI(base_url=limited.base_url, api_key=key.text, max_retries=0) as client:
        for _ in range(LIMIT):
            client.beta.threads.create()
        with pytest.raises(openai.RateLimitError) as refused:
            client.beta.threads.create()
    assert isinstance(refused.value.body, dict)
    assert refused.value.body.keys() == {"message", "type", "param", "code"}
    assert refused.value.type == refused.value.code == "rate_limit_exceeded"
    assert refused.value.param is None


def test_streams_have_the_headers(limited: Stack, models: ModelServer) -> None:
    key = Key.create(limited, "alpha")
    model = models.script(Answer("Hello."))
    metadata = (("authorization", f"Bearer {key.text}"),)
    with (
        openai.OpenAI(base_url=limited.base_url, api_key=key.text, max_retries=0) as client,
        grpc.insecure_channel(limited.grpc_address) as channel,
    ):
        assistant = client.beta.assistants.create(model=model).id
        runs = client.beta.threads.with_streaming_response
        with runs.create_and_run(assistant_id=assistant, stream=True) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-ratelimit-remaining-requests"] == "1"
            assert "thread.run.completed" in "".join(answer.iter_text())
        new = runs_pb2.CreateThreadAndRunRequest(assistant_id="asst_x")
        stream: Any = Stubs(channel).runs.StreamThreadAndRun(new, metadata=metadata)
        with pytest.raises(grpc.RpcError, match="asst_x"):
            next(stream)
        assert dict(stream.trailing_metadata())["x-ratelimit-remaining-requests"] == "0"


def test_health_has_no_rate(limited: Stack, transports: Both) -> None:
    health: Any = health_pb2_grpc.HealthStub(transports.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for _ in range(2 * LIMIT):
        assert limited.healthy()
        assert health.Check(health_pb2.HealthCheckRequest()).status == serving


def test_openais_client_waits_as_it_is_told(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without keys, too, where all callers are one."""
    slept: list[float] = []
    sleep = time.sleep

    def noting(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    env = {"ASSISTANTS_MODEL_BASE_URL": model_server.base_url, "ASSISTANTS_RATE_LIMIT": "60"}
    with serving(env) as stack:
        statuses: list[int] = []
        http = openai.DefaultHttpxClient(
            event_hooks={"response": [lambda answer: statuses.append(answer.status_code)]}
        )
        monkeypatch.setattr(time, "sleep", noting)
        with openai.OpenAI(base_url=stack.base_url, api_key="any", http_client=http) as client:
            while 429 not in statuses:
                client.beta.threads.create()
        assert statuses[-2:] == [429, 200]
        assert statuses.count(200) > 60
        assert 1.0 in slept


QUOTAS = {
    Quota.active_runs: 2,
    Quota.runs_per_minute: 4,
    Quota.tokens_per_minute: 150,
    Quota.messages: 6,
}
OF_RUNS = ("CreateRun", "StreamRun", "CreateThreadAndRun", "StreamThreadAndRun")
OF_MESSAGES = ("CreateMessage", "CreateThread", "CopyThread")
REFUSED = {quota: OF_RUNS for quota in QUOTAS} | {Quota.messages: (*OF_MESSAGES, *OF_RUNS)}
"""What is refused when a quota is used up."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rationed(request: pytest.FixtureRequest, model_server: ModelServer) -> Iterator[Stack]:
    """A server whose projects have these quotas."""
    env = {"ASSISTANTS_AUTH": "keys", "ASSISTANTS_MODEL_BASE_URL": model_server.base_url}
    env["ASSISTANTS_MODEL_RETRIES"] = "0"
    env |= {f"ASSISTANTS_QUOTA_{quota.name.upper()}": f"{most}" for quota, most in QUOTAS.items()}
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        name = postgres.create_database()
        with serving(env | {"ASSISTANTS_DATABASE_URL": postgres.url(name)}) as stack:
            yield stack
        postgres.drop_database(name)
    else:
        with serving(env) as stack:
            yield stack


@pytest.mark.parametrize("quota", QUOTAS)
def test_each_quota(rationed: Stack, models: ModelServer, quota: Quota) -> None:
    key = Key.create(rationed, quota.name)
    hold = Hold(Answer("At last."))
    nothing, much = Answer("Hi.", prompt_tokens=0, completion_tokens=0), Answer("Hi.")
    much.prompt_tokens = 10 * QUOTAS[Quota.tokens_per_minute]
    steps: dict[Quota, list[Step]] = {
        Quota.active_runs: [hold, Answer("Yes.")],
        Quota.runs_per_minute: [*repeat(nothing, QUOTAS[Quota.runs_per_minute])],
        Quota.tokens_per_minute: [much],
        Quota.messages: [],
    }
    model = models.script(*steps[quota])
    with openai.OpenAI(base_url=rationed.base_url, api_key=key.text, max_retries=0) as client:
        scene = Scene.create(client, model)
        match quota:
            case Quota.active_runs:
                for _ in range(QUOTAS[quota]):
                    scene.start(extra_body={"when_active": "queue"})
            case Quota.runs_per_minute | Quota.tokens_per_minute:
                for _ in steps[quota]:
                    assert scene.run().status == "completed"
            case Quota.messages:
                while len(scene.messages()) < QUOTAS[quota]:
                    client.beta.threads.messages.create(scene.thread_id, role="user", content="x")
        _nothing_is_added(rationed, key, scene, quota)
        if quota == Quota.active_runs:
            client.beta.threads.delete(scene.thread_id)
            hold.release()
            run = client.beta.threads.create_and_run(assistant_id=scene.assistant_id)
            assert scene.end_of(run).status == "completed"


def _nothing_is_added(stack: Stack, key: Key, scene: Scene, quota: Quota) -> None:
    [message, *_] = scene.messages()
    ids = {"assistant": scene.assistant_id, "thread": scene.thread_id, "message": message.id}
    words = f"Quota of the project reached: {QUOTAS[quota]} {quota}."

    for both in _both(stack):

        def shown(both: Both = both) -> list[Outcome]:
            rest = both.by(key)["rest"]
            thread = {"thread_id": scene.thread_id}
            calls: dict[str, dict[str, Any]] = {
                "ListThreads": {},
                "ListMessages": thread,
                "ListRuns": thread,
            }
            return [rest(method, fields) for method, fields in calls.items()]

        before = shown()
        for transport in ("grpc", "rest"):
            for method in REFUSED[quota]:
                outcome = both.by(key)[transport](method, filled(CASES[method], ids))
                assert outcome.status == EXHAUSTED, (transport, method, outcome)
                assert words in outcome.text
        assert shown() == before
