"""`assistants demo`: a server of its own, and one conversation over both transports."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import openai
from assistants.v1 import messages_pb2, messages_pb2_grpc
from openai import AssistantEventHandler
from openai.types.beta.threads import Text, TextDelta
from rich.console import Console

from gateway.terminal.bearer import with_key
from service.errors import SettingsError
from service.process.child import dying_with_parent

DOCUMENT = """\
# Harbour Street Library: house rules

## Opening hours
The library is open from nine to six on weekdays. On Saturdays it closes at one. On Sundays and on
public holidays it stays closed.

## Loans
Books may be kept for three weeks, films for one. Late returns cost twenty cents for each day.

## The garden
The library has a garden with fig trees. Food is welcome there, and nowhere else.
"""
QUESTION = "When does the library close on Saturdays?"
"""What is asked about a document that no model has read."""

STARTUP = 120
"""Seconds that the server may take to start."""


class Printer(AssistantEventHandler):
    """Prints an answer as it streams."""

    def __init__(self, console: Console) -> None:
        """Prints on `console`."""
        super().__init__()
        self._console = console

    def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        """Prints a piece of the answer."""
        self._console.print(
            delta.value or "", end="", markup=False, highlight=False, soft_wrap=True
        )


def run_demo(console: Console, api_key: str) -> None:
    """Holds the conversation, with a key if there is one.

    Raises SettingsError where the server does not start.
    """
    # As Ctrl-C does: not before the server has ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _server(console, api_key) as (base_url, grpc_address):
        # The openai package as it is: all that it needs is the address, and some key.
        with openai.OpenAI(base_url=base_url, api_key=api_key or "none") as client:
            thread_id = _converse(client.beta, console)
            _ask_document(client, console)
        _title(console, "The same thread, read over gRPC: MessagesService.ListMessages")
        with grpc.insecure_channel(grpc_address) as plain:
            channel = with_key(plain, api_key)
            request = messages_pb2.ListMessagesRequest(thread_id=thread_id, order="asc")
            page = messages_pb2_grpc.MessagesServiceStub(channel).ListMessages(request)
        for message in page.data:
            role = messages_pb2.Message.Role.Name(message.role)
            _line(console, f"{message.id} {role}: {message.content[0].text.value[:60]!r}")


def _converse(beta: Any, console: Console) -> str:
    _title(console, "REST: an assistant, a thread, a message")
    assistant = beta.assistants.create(
        model="SmolLM2-135M-Instruct",
        name="Helper",
        instructions="You are a helpful assistant. Answer in one short sentence.",
        temperature=0.2,
    )
    thread = beta.threads.create()
    _line(console, f"{assistant.id} {thread.id}")

    _say(beta, thread.id, "Why is the sky blue?", console)
    run = beta.threads.runs.create_and_poll(
        thread_id=thread.id,
        assistant_id=assistant.id,
        max_completion_tokens=500,
        poll_interval_ms=200,
    )
    answer = beta.threads.messages.list(thread_id=thread.id, run_id=run.id).data[0]
    _title(console, f"create_and_poll: {run.status}, {run.usage.total_tokens} tokens")
    _line(console, answer.content[0].text.value)

    _say(beta, thread.id, "What do bees make?", console)
    _title(console, "stream, with an AssistantEventHandler")
    with beta.threads.runs.stream(
        thread_id=thread.id,
        assistant_id=assistant.id,
        max_completion_tokens=500,
        event_handler=Printer(console),
    ) as stream:
        stream.until_done()
        last = stream.current_run
    console.print()

    _title(console, "messages.list")
    for message in beta.threads.messages.list(thread_id=thread.id, order="asc"):
        _line(console, f"{message.role}: {message.content[0].text.value}")
    _title(console, "runs.steps.list")
    for step in beta.threads.runs.steps.list(thread_id=thread.id, run_id=last.id):
        _line(console, f"{step.id} {step.type} {step.status}")
    return str(thread.id)


def _ask_document(client: openai.OpenAI, console: Console) -> None:
    _title(console, "file_search: a document, a question, an answer with a citation")
    file = client.files.create(
        file=("library.md", DOCUMENT.encode()), purpose="assistants", timeout=STARTUP
    )
    store = client.vector_stores.create(name="Library")
    indexed = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
    _line(console, f"{file.id} {file.filename}, in {store.id}: {indexed.status}")
    assistant = client.beta.assistants.create(
        model="SmolLM2-135M-Instruct",
        instructions="You are a helpful assistant. Answer in one short sentence.",
        temperature=0.0,
        tools=[{"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [store.id]}},
    )
    thread = client.beta.threads.create(messages=[{"role": "user", "content": QUESTION}])
    _title(console, "you")
    _line(console, QUESTION)
    _title(console, "stream")
    with client.beta.threads.runs.stream(
        thread_id=thread.id,
        assistant_id=assistant.id,
        max_completion_tokens=500,
        event_handler=Printer(console),
    ) as stream:
        stream.until_done()
        [message] = stream.get_final_messages()
    console.print()
    for part in message.content:
        for annotation in part.text.annotations if part.type == "text" else []:
            _line(console, f"{annotation.text}: from {file.filename}, {file.id}")


def _say(beta: Any, thread_id: str, text: str, console: Console) -> None:
    _title(console, "you")
    _line(console, text)
    beta.threads.messages.create(thread_id=thread_id, role="user", content=text)


def _title(console: Console, text: str) -> None:
    console.print(f"\n── {text}", style="bold cyan", markup=False, highlight=False)


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _server(console: Console, api_key: str) -> Iterator[tuple[str, str]]:
    """Gives the base URL and the gRPC address of a server with an empty database."""
    http_address, grpc_address = _free_address(), _free_address()
    with tempfile.TemporaryDirectory(prefix="assistants-") as directory:
        log = Path(directory) / "log"
        environment = {
            "ASSISTANTS_HTTP_ADDRESS": http_address,
            "ASSISTANTS_GRPC_ADDRESS": grpc_address,
            "ASSISTANTS_DATA_DIR": directory,
        }
        if api_key:
            environment |= {"ASSISTANTS_AUTH": "keys", "ASSISTANTS_BOOTSTRAP_KEY": api_key}
        _line(console, "Starting the server: gRPC, Envoy, SQLite and the embedded model ...")
        with log.open("wb") as output:
            process = subprocess.Popen(
                dying_with_parent([sys.executable, "-m", "gateway.cli", "serve"]),
                # Nothing of the user's: least of all a database.
                env={k: v for k, v in os.environ.items() if not k.startswith("ASSISTANTS_")}
                | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _await_ready(process, http_address, log)
            yield f"http://{http_address}/v1", grpc_address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"http://{address}/healthz", timeout=1).close()
            return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines() or ["it does not answer"]
    raise SettingsError(f"the server did not start: {lines[-1]}")


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"
