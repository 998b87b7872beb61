"""Two servers behind one Envoy, as `assistants serve --processes 2` has them."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import openai

from tests.support.grpc.client import connect
from tests.support.serve.processes import processes_of
from tests.support.stack import COMMAND, Stack
from tests.support.waiting import SECONDS

CALLED = ("CreateThread", "CreateAssistant")
"""Over REST and over gRPC: Envoy finds the servers for each."""


@contextmanager
def two_processes(env: Mapping[str, str]) -> Iterator[Stack]:
    """Starts them, and ends them in good order: no process is left, and no traceback was seen."""
    with Stack(dict(env), (COMMAND, "serve", "--processes", "2")) as stack:
        stack.start()
        _await_both(stack)
        yield stack
        assert stack.terminate() == 0, stack.printed()
        assert "Traceback" not in stack.printed()
        assert processes_of(stack) == {}


def servers_of(stack: Stack, method: str, since: int = 0) -> set[str]:
    """Returns the numbers of the servers that have logged a call of a method.

    `since` so many characters had been printed.
    """
    lines = [line for line in stack.printed()[since:].splitlines() if f" method={method} " in line]
    return {found[1] for line in lines if (found := re.search(r"\bserver=(\d)\b", line))}


def _await_both(stack: Stack) -> None:
    """Calls until both have been called: Envoy serves as soon as it has found one of them."""
    deadline = time.monotonic() + SECONDS
    client = openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0)
    with client, connect(stack.grpc_address) as stubs:
        while any(servers_of(stack, each) != {"0", "1"} for each in CALLED):
            assert time.monotonic() < deadline, stack.printed()
            client.beta.threads.create()
            stubs.assistant("m")
