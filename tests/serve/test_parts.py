"""The parts of a service alone: a gateway before two servers, which leave runs to a worker."""

import asyncio
import re
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from assistants.v1 import assistants_pb2

import service as service_package
from service.process.probe import http_status
from tests.edge.test_tls import CERTIFICATES
from tests.serve.test_failures import MODEL, refusal
from tests.support.files.s3 import BUCKET, S3Server
from tests.support.grpc.client import connect
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.script import Answer, Calls, Hold
from tests.support.serve.parts import Service, service
from tests.support.stack import COMMAND, Stack, free_address
from tests.support.waiting import run_until, until

ROOT = Path(service_package.__file__).parents[1]


@pytest.fixture(scope="module")
def parts(postgres: Postgres, s3: S3Server, model_server: ModelServer) -> Iterator[Service]:
    name = postgres.create_database()
    env = {
        "ASSISTANTS_DATABASE_URL": postgres.url(name),
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_BLOBS_URL": f"s3://{BUCKET}/parts",
        **s3.env,
    }
    # Streams come late, as servers hear of runs from the database alone.
    gateway = {"ASSISTANTS_SHUTDOWN_GRACE": "60", "ASSISTANTS_METRICS_ADDRESS": free_address()}
    with service(env, {}, gateway) as made:
        yield made
    postgres.drop_database(name)


def rest(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0, timeout=60)


async def test_both_transports(parts: Service, models: ModelServer) -> None:
    """Runs go through the gateway to a server, and through the database to the worker."""
    gateway = parts.gateway
    with rest(gateway) as client, connect(gateway.env["ASSISTANTS_HTTP_ADDRESS"]) as stubs:
        assistant = client.beta.assistants.create(model=models.script(Answer("Hello there")))
        thread_id = stubs.thread("Hi").id

        def answered() -> str:
            with client.beta.threads.runs.stream(
                thread_id=thread_id, assistant_id=assistant.id
            ) as stream:
                return "".join(stream.text_deltas)

        assert await asyncio.to_thread(answered) == "Hello there"
        # Keys that are null travel in the edge's own header.
        client.beta.threads.update(thread_id, metadata=None)
        assert stubs.texts(thread_id) == [("user", "Hi"), ("assistant", "Hello there")]


async def test_files(parts: Service, models: ModelServer) -> None:
    """Servers put them into S3 and fetch them from there, whichever took them; the worker indexes.

    On their way over the network, they are larger than a request of gRPC may be.
    """
    content = b"Bees make honey from nectar.\n" * 1_500_000
    with rest(parts.gateway) as client:
        files = client.files
        large = files.create(file=("large.bin", content), purpose="vision").id
        for _ in range(4):
            assert await asyncio.to_thread(lambda: files.content(large).read()) == content
        small = files.create(file=("honey.txt", content[:29]), purpose="assistants").id
        stores = client.vector_stores
        store = stores.create(file_ids=[small]).id
        await until(lambda: stores.retrieve(store).status == "completed")
        assert stores.search(store, query="honey").data[0].file_id == small
        ask = Calls(("file_search", {"queries": ["honey"]}))
        assistant = client.beta.assistants.create(
            model=models.script(ask, Answer("From nectar.")),
            tools=[{"type": "file_search"}],
            tool_resources={"file_search": {"vector_store_ids": [store]}},
        )
        thread: Any = {"messages": [{"role": "user", "content": "How?"}]}
        runs = client.beta.threads.runs
        run = client.beta.threads.create_and_run(assistant_id=assistant.id, thread=thread)
        await until(lambda: runs.retrieve(run.id, thread_id=run.thread_id).status == "completed")
        [_, step] = runs.steps.list(run.id, thread_id=run.thread_id).data
        assert step.type == "tool_calls"


def create(address: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """Calls a method of REST as the edge does; returns how it is refused."""
    request = assistants_pb2.CreateAssistantRequest(model="m").SerializeToString()
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/assistants.v1.rest.AssistantsService/CreateAssistant")
        with pytest.raises(grpc.RpcError) as refused:
            call(request, metadata=metadata)
        assert isinstance(refused.value, grpc.Call)
        return refused.value.code()


def test_rest_is_only_for_the_edge(parts: Service) -> None:
    """Without the secret, a server's port has no such methods; nor has the gateway for callers."""
    server, gateway = parts.servers[0].grpc_address, parts.gateway.env["ASSISTANTS_HTTP_ADDRESS"]
    assert create(server) == grpc.StatusCode.UNIMPLEMENTED
    assert create(server, ("x-edge-secret", "x" * 37)) == grpc.StatusCode.UNIMPLEMENTED
    assert create(gateway) == grpc.StatusCode.UNIMPLEMENTED


def test_what_the_dashboard_shows_of_gateways(parts: Service) -> None:
    board = (ROOT / "deploy" / "grafana.json").read_text()
    with rest(parts.gateway) as client:
        client.beta.threads.create()
    address = parts.gateway.env["ASSISTANTS_METRICS_ADDRESS"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as page:
        text = page.read().decode()
    shown = set(re.findall(r"\benvoy_\w+(?=\{)", board))
    assert shown
    # Those that have not been counted yet are not there.
    assert shown - set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) <= {RETRIES}


RETRIES = "envoy_cluster_upstream_rq_retry"


class Load:
    """Calls of both kinds, one after the other, by several callers, until it is stopped."""

    def __init__(self, stack: Stack) -> None:
        self._base_url = stack.base_url
        self._stopped = threading.Event()
        self.outcomes: Counter[str] = Counter()

    def done(self) -> int:
        return sum(self.outcomes.values())

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.is_set():
            for method, path in (("POST", "/threads"), ("GET", "/assistants")):
                self.outcomes[self._call(method, path)] += 1

    def _call(self, method: str, path: str) -> str:
        data = b"{}" if method == "POST" else None
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._base_url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
                return method if answer.status == 200 else f"{method} {answer.status}"
        except urllib.error.HTTPError as error:
            return f"{method} {error.code} {error.read().decode()}"
        except OSError as error:
            return f"{method} {error}"


@contextmanager
def load(stack: Stack) -> Iterator[Load]:
    made = Load(stack)
    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(made.run)
        try:
            yield made
        finally:
            made.stop()


async def more(made: Load) -> None:
    """Waits until there have been many more calls."""
    before = made.done()
    await until(lambda: made.done() > before + 200)


async def test_servers_that_are_replaced_one_by_one(parts: Service) -> None:
    """No call fails while one server after the other ends and starts again."""
    with load(parts.gateway) as made:
        for server in parts.servers:
            await more(made)
            assert await asyncio.to_thread(server.terminate) == 0, server.printed()
            await more(made)
            await asyncio.to_thread(server.start)
    assert set(made.outcomes) == {"POST", "GET"}, made.outcomes


async def test_a_server_that_is_killed(parts: Service) -> None:
    """What only reads does not fail; what writes fails at most where the server had begun it."""
    server = parts.servers[0]
    with load(parts.gateway) as made:
        await more(made)
        await asyncio.to_thread(server.kill)
        await more(made)
        lost = sum(count for outcome, count in made.outcomes.items() if outcome not in WELL)
        await asyncio.to_thread(server.start)
        await more(made)
    assert {each.partition(" ")[0] for each in made.outcomes if each not in WELL} <= {"POST"}
    # One for each caller, at most.
    assert lost == sum(count for each, count in made.outcomes.items() if each not in WELL) <= 4


WELL = {"POST", "GET"}


async def test_a_gateway_that_ends(parts: Service, models: ModelServer) -> None:
    """Its health fails at once; streams go on to their ends."""
    gateway, hold = parts.gateway, Hold(Answer("Hello there"), after="Hello")
    with rest(gateway) as client, ThreadPoolExecutor(1) as threads:
        assistant = client.beta.assistants.create(model=models.script(hold))
        events = client.beta.threads.create_and_run(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": "Hi"}]},
            stream=True,
        )
        reading = threads.submit(lambda: [event.event for event in events])
        await until(hold.held.is_set)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        await until(lambda: not gateway.healthy())
        hold.release()
        assert reading.result(60)[-1] == "thread.run.completed"
    assert gateway.process.wait(60) == 0, gateway.printed()
    gateway.start()


def test_between_machines_over_mutual_tls(model_server: ModelServer, tmp_path: Path) -> None:
    """By name; a gateway without a certificate finds no server."""
    authority, own = str(CERTIFICATES / "authority.pem"), str(CERTIFICATES / "first.pem")
    env = {
        "ASSISTANTS_DATABASE_URL": f"sqlite:///{tmp_path / 'assistants.db'}",
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
    }
    servers = {
        "ASSISTANTS_TLS_CERT": own,
        "ASSISTANTS_TLS_KEY": own,
        "ASSISTANTS_TLS_CLIENT_CA": authority,
    }
    client = str(CERTIFICATES / "client.pem")
    ca = {"ASSISTANTS_GRPC_UPSTREAMS_CA": authority}
    pair = {"ASSISTANTS_GRPC_UPSTREAMS_CERT": client, "ASSISTANTS_GRPC_UPSTREAMS_KEY": client}
    with service(env, servers, ca | pair, host="localhost") as parts:
        with rest(parts.gateway) as caller:
            thread = caller.beta.threads.create()
        with connect(parts.gateway.env["ASSISTANTS_HTTP_ADDRESS"]) as stubs:
            assert stubs.texts(thread.id) == []
        stranger = parts.gateway.env | {"ASSISTANTS_HTTP_ADDRESS": free_address()}
        for name in pair:
            del stranger[name]
        with Stack(stranger, (COMMAND, "gateway")) as other:
            other.env["ASSISTANTS_DATA_DIR"] = str(other.directory / "data")
            other.spawn()
            run_until(lambda: http_status(other.env["ASSISTANTS_HTTP_ADDRESS"], "/healthz"), 503)
            with rest(other) as caller, pytest.raises(openai.InternalServerError) as refused:
                caller.beta.threads.create()
            assert refused.value.status_code == 503
            assert other.terminate() == 0, other.printed()


@pytest.mark.parametrize(
    ("arguments", "settings", "line"),
    [
        (("gateway",), {}, "ASSISTANTS_GRPC_UPSTREAMS: not set, and a gateway has no other server"),
        (("gateway",), {"GRPC_UPSTREAMS": "a:1"}, "ASSISTANTS_GRPC_UPSTREAMS: needs"),
        (("gateway",), {"GRPC_UPSTREAMS": "a"}, "ASSISTANTS_GRPC_UPSTREAMS: expected HOST:PORT"),
        (("serve",), {"GRPC_UPSTREAMS_CERT": "a"}, "ASSISTANTS_GRPC_UPSTREAMS_CERT, ASSISTANTS_"),
        (("serve",), {"EDGE_SECRET": "short"}, "ASSISTANTS_EDGE_SECRET: expected at least 20"),
        (("serve", "--grpc-only"), {"GRPC_ADDRESS": "0.0.0.0:1"}, "ASSISTANTS_GRPC_ADDRESS: 0.0"),
    ],
)
def test_what_cannot_be(arguments: tuple[str, ...], settings: dict[str, str], line: str) -> None:
    env = {f"ASSISTANTS_{name}": value for name, value in settings.items()}
    assert refusal(MODEL | env, arguments=arguments).startswith(line)
