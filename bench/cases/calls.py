"""Single calls, over REST and over typed gRPC, beside a no-op that takes the same way."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from assistants.v1 import assistants_pb2, messages_pb2, threads_pb2
from google.protobuf.message import Message

from bench import load, server
from bench.load import Call, Load
from bench.measuring import DEFAULTS, KEYED, Bench, Figures
from bench.stack import Cost, Server

ASSISTANT: Final = {
    "model": "instant-8",
    "name": "Guide",
    "instructions": "You are a friendly guide. Be brief, and say so where you do not know.",
    "metadata": {"kind": "bench"},
}
TEXT: Final = "Where is the quickest way from the station to the museum, on foot?"

BODIES: Final = 4
"""Threads that messages are added to over gRPC, where each body needs a process of h2load."""

MakeCall = Callable[[Bench, Server], Call]


def figures(load: Load, cost: Cost) -> dict[str, float]:
    """Returns what every load measures: of its calls, and of the processes that answered them."""
    found = {
        "calls/s": load.rate,
        "median ms": 1000 * load.percentile(50),
        "99th ms": 1000 * load.percentile(99),
        "Python": 1000 * cost.python / load.calls,
        "Envoy": 1000 * cost.envoy / load.calls,
    }
    if cost.postgresql is not None:
        found["PostgreSQL"] = 1000 * cost.postgresql / load.calls
    return found


def beside(bench: Bench, server: Server, limit: Call, call: Call, clients: int) -> dict[str, float]:
    """Measures a call, and its limit before and after it, so that both see the same noise."""
    half = max(bench.calls(limit, clients) // 2, clients)
    before, before_cost = bench.take(server, limit, clients, calls=half, profiled=False)
    load, cost = bench.take(server, call, clients)
    after, after_cost = bench.take(server, limit, clients, calls=half, profiled=False)
    rate = (before.calls + after.calls) / (before.seconds + after.seconds)
    cpu = (before_cost.python + after_cost.python) / (before.calls + after.calls)
    return figures(load, cost) | {
        "of the no-op": load.rate / rate,
        # A load of one call may take less than the kernel counts.
        "Python of the no-op": cost.python / load.calls / cpu if cpu else 0.0,
        "no-op calls/s": rate,
        "no-op Python": 1000 * cpu,
    }


class CallCase:
    """A call, by many clients at once, against the no-op."""

    def __init__(
        self,
        no_op: MakeCall,
        make_call: MakeCall,
        bench: Bench,
        settings: Mapping[str, str] = DEFAULTS,
    ) -> None:
        """Prepares the call, and the no-op that is its limit."""
        self._bench = bench
        self._server = bench.server(settings)
        self._call = make_call(bench, self._server)
        self._no_op = no_op(bench, self._server)

    def measure(self) -> Figures:
        """Measures the call beside the no-op."""
        clients = self._bench.sizes.clients
        return beside(self._bench, self._server, self._no_op, self._call, clients)


def no_op(_: Bench, to: Server) -> Call:
    """Returns the no-op of REST."""
    return load.http(to.stack.base_url.removesuffix("/v1") + server.PATH)


def get_assistant(_: Bench, server: Server) -> Call:
    """Returns the call that gets an assistant, which it makes."""
    id = server.post("/assistants", ASSISTANT)["id"]
    return load.http(server.url(f"/assistants/{id}"), key=server.key)


def _create_thread(_: Bench, server: Server) -> Call:
    return load.http(server.url("/threads"), {"metadata": {"kind": "bench"}})


def create_message(bench: Bench, server: Server) -> Call:
    """Returns the call that adds a message to threads, which it makes."""
    threads = [server.post("/threads", {})["id"] for _ in range(bench.sizes.threads)]
    call = load.http("", {"role": "user", "content": TEXT})
    return Call(tuple(server.url(f"/threads/{each}/messages") for each in threads), call.bodies)


def _list(limit: int, bench: Bench, server: Server) -> Call:
    return load.http(server.url(f"/threads/{_listed(bench, server)}/messages?limit={limit}"))


def _listed(bench: Bench, server: Server) -> str:
    thread = str(server.post("/threads", {})["id"])
    for number in range(bench.sizes.listed):
        message = {"role": ("user", "assistant")[number % 2], "content": TEXT}
        server.post(f"/threads/{thread}/messages", message)
    return thread


def _grpc(service: str, method: str, server: Server, *requests: Message) -> Call:
    messages = [request.SerializeToString() for request in requests]
    return load.grpc(server.stack.grpc_address, f"assistants.v1.{service}/{method}", *messages)


def _typed_no_op(_: Bench, to: Server) -> Call:
    request = assistants_pb2.GetAssistantRequest(assistant_id="asst_none")
    return load.grpc(to.stack.grpc_address, server.TYPED, request.SerializeToString())


def _grpc_get_assistant(_: Bench, server: Server) -> Call:
    id = server.post("/assistants", ASSISTANT)["id"]
    request = assistants_pb2.GetAssistantRequest(assistant_id=id)
    return _grpc("AssistantsService", "GetAssistant", server, request)


def _grpc_create_thread(_: Bench, server: Server) -> Call:
    request = threads_pb2.CreateThreadRequest(metadata={"kind": "bench"})
    return _grpc("ThreadsService", "CreateThread", server, request)


def _grpc_create_message(bench: Bench, server: Server) -> Call:
    text = messages_pb2.MessageContent(text=messages_pb2.MessageContent.Text(value=TEXT))
    requests = [
        messages_pb2.CreateMessageRequest(
            thread_id=server.post("/threads", {})["id"], role="user", parts=[text]
        )
        for _ in range(min(BODIES, bench.sizes.clients))
    ]
    return _grpc("MessagesService", "CreateMessage", server, *requests)


def _grpc_list(limit: int, bench: Bench, server: Server) -> Call:
    thread = _listed(bench, server)
    request = messages_pb2.ListMessagesRequest(thread_id=thread, limit=limit)
    return _grpc("MessagesService", "ListMessages", server, request)


_REST: Final[dict[str, MakeCall]] = {
    "get-assistant": get_assistant,
    "create-thread": _create_thread,
    "create-message": create_message,
    "list-20": partial(_list, 20),
    "list-100": partial(_list, 100),
}
_GRPC: Final[dict[str, MakeCall]] = {
    "grpc-get-assistant": _grpc_get_assistant,
    "grpc-create-thread": _grpc_create_thread,
    "grpc-create-message": _grpc_create_message,
    "grpc-list-20": partial(_grpc_list, 20),
    "grpc-list-100": partial(_grpc_list, 100),
}
CASES: Final[dict[str, Callable[[Bench], Any]]] = {
    **{name: partial(CallCase, no_op, make) for name, make in _REST.items()},
    "keyed-get-assistant": partial(CallCase, no_op, get_assistant, settings=KEYED),
    **{name: partial(CallCase, _typed_no_op, make) for name, make in _GRPC.items()},
}
