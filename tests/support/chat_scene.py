"""A conversation of `assistants chat`: its user's terminal, and the server at its channel's end."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import grpc
import grpc_testing
from assistants.v1 import assistants_pb2, events_pb2, runs_pb2, threads_pb2
from rich.console import Console

from gateway.terminal.chat import Chat

T = TypeVar("T")
SECONDS = 60
METHODS = {
    method.name: method
    for module in (assistants_pb2, threads_pb2, runs_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

Typed = str | type[BaseException]
"""What a user types: a line, or Ctrl-C or Ctrl-D as Python raises them."""


class Terminal(Console):
    """A terminal whose user types what the test says, and Ctrl-C when `interrupt_at` is shown."""

    def __init__(self, *typed: Typed, interrupt_at: str = "") -> None:
        super().__init__(width=200, force_terminal=False, record=True, quiet=True)
        self._typed = deque(typed)
        self._interrupt_at = interrupt_at
        self.shown = ""

    def input(self, prompt: Any = "", **_: Any) -> str:
        self.shown += str(prompt)
        match self._typed.popleft():
            case str() as text:
                return text
            case leaving:
                raise leaving

    def print(self, *objects: Any, end: str = "\n", **_: Any) -> None:
        text = "".join(map(str, objects))
        self.shown += text + end
        if self._interrupt_at and self._interrupt_at in text:
            self._interrupt_at = ""
            raise KeyboardInterrupt


class Scene:
    """A chat in a thread of its own, and the server's part of it."""

    def __init__(self, terminal: Terminal) -> None:
        services = [method.containing_service for method in METHODS.values()]
        self._channel: Any = grpc_testing.channel(services, grpc_testing.strict_real_time())
        self.terminal = terminal
        self.chat: Future[None] | None = None

    def hold(
        self, assistant: str | None = None, thread: str | None = None, model: str | None = None
    ) -> None:
        """Begins the conversation."""
        chat = Chat(self._channel, self.terminal, "bin/assistants chat")
        self.chat = in_background(lambda: chat.hold(assistant, thread, model))

    def answer(self, method: str, response: Any = None, code: Any = grpc.StatusCode.OK) -> Any:
        """Answers the next call of a unary method; returns its request."""
        _, request, rpc = self._take("take_unary_unary", method)
        rpc.terminate(response, (), code, "It is so.")
        return request

    def stream(
        self, method: str, *events: events_pb2.RunEvent, code: Any = grpc.StatusCode.OK
    ) -> Any:
        """Answers the next call of a streaming method; returns its request."""
        request, rpc = self.begin(method, *events)
        rpc.terminate((), code, "It is so.")
        return request

    def begin(self, method: str, *events: events_pb2.RunEvent) -> tuple[Any, Any]:
        """Begins to answer; returns the request and what goes on with the answer."""
        _, request, rpc = self._take("take_unary_stream", method)
        for event in events:
            rpc.send_response(event)
        return request, rpc

    def ended(self) -> str:
        """Waits for the end of the conversation; returns what the terminal has shown."""
        assert self.chat is not None
        self.chat.result(SECONDS)
        return self.terminal.shown

    def _take(self, how: str, method: str) -> Any:
        # It waits for ever by itself.
        return in_background(lambda: getattr(self._channel, how)(METHODS[method])).result(SECONDS)


def in_background(work: Callable[[], T]) -> Future[T]:
    """Runs work in a thread that does not keep the process alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
