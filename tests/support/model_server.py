"""The scripted OpenAI-compatible model server: the only stand-in that the tests use.

A test asks for a model that plays its script, points the server under test at `base_url`, and looks
at what the model was asked afterwards:

    model = models.script(Calls(("get_weather", {"city": "Paris"})), Answer("Sunny."))
    ...
    first, second = models.requests(model)
"""

import asyncio
import contextlib
import itertools
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from tests.support.script import Delta, Drop, Hold, Pause, Refuses, Reply, Step, Wait, error

Headers = Mapping[str, str]

Choose = Callable[[Mapping[str, Any]], Step]
"""Returns the step that a request plays."""

Tokenizer = Literal["llama.cpp", "vllm"]
"""Whose form of `POST /tokenize` a model has. A token is a word and the space around it."""


@dataclass
class _Script:
    steps: deque[Step] | Choose
    tokenizer: Tokenizer | None
    refuses: Refuses | None
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    tokenized: list[str] = field(default_factory=list)


class ModelServer:
    """`POST /v1/chat/completions` and `GET /v1/models`, in a thread, on a free loopback port.

    Models that are scripted with a tokenizer have `POST /tokenize` as well.
    """

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._scripts: dict[str, _Script] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-server")
        self.base_url = ""
        self.problems: list[str] = []
        """Requests that no script provides for. The `models` fixture fails a test that has any."""

    def start(self) -> Self:
        """Listens; `base_url` is known from here on, up to and with `/v1`."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result()
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def stop(self) -> None:
        """Ends every connection and the thread."""
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def script(
        self, *steps: Step, tokenizer: Tokenizer | None = None, refuses: Refuses | None = None
    ) -> str:
        """Returns the name of a new model, whose requests play one step each, in order.

        What it refuses plays none.
        """
        model = f"scripted-{next(self._numbers)}"
        self._scripts[model] = _Script(deque(steps), tokenizer, refuses)
        return model

    def model(self, choose: Choose) -> str:
        """Returns the name of a new model, whose requests play what `choose` says, and go."""
        model = f"scripted-{next(self._numbers)}"
        self._scripts[model] = _Script(choose, None, None)
        return model

    def requests(self, model: str) -> list[dict[str, Any]]:
        """The bodies of the requests that the model has had so far."""
        return list(self._scripts[model].requests)

    def headers(self, model: str) -> list[dict[str, str]]:
        """The headers of these requests, by their names in lower case."""
        return list(self._scripts[model].headers)

    def tokenized(self, model: str) -> list[str]:
        """The texts that the model's tokenizer was asked about so far."""
        return list(self._scripts[model].tokenized)

    async def _shut_down(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        try:
            while (request := await connection.read_request()) is not None:
                await self._answer(connection, *request)
        except ConnectionError:
            pass  # The client went away: its step knows.
        finally:
            writer.close()

    async def _answer(self, connection: "_Connection", target: str, body: bytes) -> None:
        if target == "GET /v1/models":
            names = ["org/scripted", *self._scripts]
            data = [{"id": name, "object": "model", "created": 0} for name in names]
            await connection.send_json(200, {"object": "list", "data": data})
        elif target == "POST /v1/chat/completions":
            await self._complete(connection, json.loads(body))
        elif target == "POST /tokenize":
            await self._tokenize(connection, json.loads(body))
        else:
            await self._refuse(connection, 404, f"unknown path: {target}")

    async def _complete(self, connection: "_Connection", request: dict[str, Any]) -> None:
        model = request.get("model")
        script = self._scripts.get(str(model))
        if script is None:
            return await self._refuse(connection, 404, f"unknown model: {model}")
        if callable(script.steps):
            return await _play(connection, script.steps(request), request)
        script.requests.append(request)
        script.headers.append(connection.headers)
        if not request.get("stream"):
            return await self._refuse(connection, 400, "only streams are served")
        if script.refuses is not None and (refusal := script.refuses(request)):
            return await _play(connection, refusal, request)
        if not script.steps:
            return await self._refuse(connection, 500, f"the script of {model} has ended")
        step = script.steps.popleft()
        step.started.set()
        async with connection.watch(step):
            return await _play(connection, step, request)

    async def _tokenize(self, connection: "_Connection", request: dict[str, Any]) -> None:
        script = self._scripts.get(str(request.get("model")))
        if script is None or script.tokenizer is None:
            # No problem: whether there is one, callers find out by asking.
            return await connection.send_json(404, error("Not Found", None))
        text = request["content" if script.tokenizer == "llama.cpp" else "prompt"]
        script.tokenized.append(text)
        tokens = list(range(len(text.split())))
        answer: dict[str, Any] = {"tokens": tokens}
        if script.tokenizer == "vllm":
            answer |= {"count": len(tokens), "max_model_len": 4096}
        return await connection.send_json(200, answer)

    async def _refuse(self, connection: "_Connection", status: int, message: str) -> None:
        self.problems.append(message)
        await connection.send_json(status, error(f"Scripted model server: {message}", None))


async def _play(connection: "_Connection", step: Step, request: dict[str, Any]) -> None:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000}
    head |= {"model": request["model"]}
    for act in step.acts():
        match act:
            case Wait():
                assert isinstance(step, Hold)
                step.held.set()
                await connection.wait_for(step.released)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Reply(status, body, headers):
                return await connection.send_json(status, body, headers)
            case Drop(politely=True):
                return await connection.end_stream()
            case Drop():
                return connection.drop()
            case _:
                await connection.send_event(head | {"choices": [_choice(act)]})
    options = request.get("stream_options") or {}
    if options.get("include_usage") and step.usage is not None:
        await connection.send_event(head | {"choices": [], "usage": step.usage})
    await connection.send_event("[DONE]")
    return await connection.end_stream()


def _choice(act: Delta) -> dict[str, Any]:
    delta = {key: value for key, value in act.items() if key != "finish_reason"}
    return {"index": 0, "delta": delta, "finish_reason": act.get("finish_reason")}


class _Connection:
    """HTTP/1.1 with one client: as much of it as an OpenAI client needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._streaming = False
        self._gone: asyncio.Task[bytes] | None = None
        self.headers: dict[str, str] = {}
        """Those of the last request, by their names in lower case."""

    async def read_request(self) -> tuple[str, bytes] | None:
        """Returns `METHOD /path` and the body of the next request, None when there is none."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in map(_split, lines)}
        body = await self._reader.readexactly(int(self.headers.get("content-length", "0")))
        return first.removesuffix(" HTTP/1.1"), body

    @contextlib.asynccontextmanager
    async def watch(self, step: Step) -> AsyncIterator[None]:
        """Sets `step.disconnected` if the client goes away meanwhile; then ConnectionError."""
        # A client sends nothing while it waits for an answer: whatever is read is its end.
        self._gone = asyncio.create_task(self._reader.read(1))
        try:
            yield
        except ConnectionError:
            step.disconnected.set()
            raise
        finally:
            self._gone.cancel()
            await asyncio.gather(self._gone, return_exceptions=True)
            self._gone = None

    async def wait_for(self, event: threading.Event) -> None:
        """Waits for the event. Raises ConnectionError when the client goes away first."""
        assert self._gone is not None
        while not event.is_set():
            done, _ = await asyncio.wait({self._gone}, timeout=0.005)
            if done:
                raise ConnectionResetError("the client has gone")

    async def send_json(self, status: int, value: Any, headers: Headers | None = None) -> None:
        body = json.dumps(value).encode()
        length = {"content-length": str(len(body))}
        await self._send_head(status, "application/json", length | dict(headers or {}))
        await self._send(body)

    async def send_event(self, data: dict[str, Any] | str) -> None:
        """Sends one SSE event, ahead of the first one the head of the response."""
        if not self._streaming:
            self._streaming = True
            await self._send_head(200, "text/event-stream", {"transfer-encoding": "chunked"})
        text = data if isinstance(data, str) else json.dumps(data)
        await self._send_chunk(f"data: {text}\n\n".encode())

    async def end_stream(self) -> None:
        self._streaming = False
        await self._send_chunk(b"")

    def drop(self) -> None:
        """Cuts the connection, but not what was sent already."""
        self._writer.close()

    async def _send_head(self, status: int, content_type: str, headers: Headers) -> None:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = [f"HTTP/1.1 {status} Scripted", f"content-type: {content_type}", *lines, "", ""]
        await self._send("\r\n".join(head).encode())

    async def _send_chunk(self, data: bytes) -> None:
        await self._send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def _send(self, data: bytes) -> None:
        if self._gone is not None and self._gone.done():
            raise ConnectionResetError("the client has gone")
        self._writer.write(data)
        await self._writer.drain()


def _split(line: str) -> tuple[str, str, str]:
    return line.partition(":")
