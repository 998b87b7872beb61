"""`assistants demo`, which `make demo` runs: with the real embedded model."""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.serve.processes import marked
from tests.support.stack import COMMAND
from tests.support.waiting import until


@contextmanager
def demo() -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """A demo, and the mark that all its processes bear."""
    name, value = "TEST_DEMO", uuid.uuid4().hex
    process = subprocess.Popen(
        [COMMAND, "demo"],
        env=os.environ | {name: value, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process, f"{name}={value}"
        finally:
            process.kill()


def test_a_conversation_over_both_transports() -> None:
    with demo() as (process, mark):
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
        assert marked(mark) == {}
    titles = [line.removeprefix("── ") for line in shown.splitlines() if line.startswith("── ")]
    assert titles[0] == "REST: an assistant, a thread, a message"
    [polled] = [title for title in titles if title.startswith("create_and_poll: ")]
    assert polled.startswith(("create_and_poll: completed", "create_and_poll: incomplete"))
    assert titles[-1] == "The same thread, read over gRPC: MessagesService.ListMessages"
    last = shown.rpartition(titles[-1])[2].split("\n")
    assert [line.split()[1] for line in last if line] == ["user:", "assistant:"] * 2
    assert "message_creation completed" in shown
    # The embedded model calls no functions: what was found is given to it, and the mark is ours.
    assert "【1:0†library.md】: from library.md, file-" in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_demo_that_is_ended_leaves_no_process(number: signal.Signals) -> None:
    with demo() as (process, mark):
        await until(lambda: "envoy" in marked(mark).values())
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode != 0
        await until(lambda: marked(mark) == {})
