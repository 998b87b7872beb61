"""`assistants chat` and `assistants demo` with a key, which no command line shows."""

import os
import subprocess
from pathlib import Path

from tests.access.conftest import Both
from tests.support.access.keyed import Key
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.serve.processes import marked
from tests.support.stack import COMMAND, Stack
from tests.support.waiting import until


def chat(stack: Stack, *options: str, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [COMMAND, "chat", "--address", stack.grpc_address, *options],
        env=os.environ | env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assistant(both: Both, own: Key, model: str) -> str:
    request = {"model": model, "name": "Ann"}
    answer = both.by(own)["grpc"]("CreateAssistant", request).text
    return answer.split('"id": "')[1].split('"')[0]


async def test_a_conversation_with_a_key(
    keyed: Stack, both: Both, models: ModelServer, own: Key
) -> None:
    held = Hold(Answer("Hello there"), after="He")
    name = assistant(both, own, models.script(held))
    mark = {"TEST_CHAT": own.id}
    with chat(keyed, "--assistant", name, "--api-key", own.text, **mark) as process:
        assert process.stdin
        process.stdin.write("Hi\n")
        process.stdin.flush()
        await until(held.held.is_set)
        running = marked(f"TEST_CHAT={own.id}")
        assert running
        for pid in running:
            assert own.text.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        held.release()
        shown, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "Hello there" in shown
    command = shown.rpartition("To go on: ")[2]
    assert "--thread" in command
    assert own.text not in shown


def test_the_key_of_the_environment(keyed: Stack, own: Key) -> None:
    for options, env, code in (
        ((), {"ASSISTANTS_API_KEY": own.text}, 0),
        ((f"--api-key={own.text}",), {"ASSISTANTS_API_KEY": "wrong"}, 0),
        ((), {}, 2),
        (("--api-key", "wrong"), {}, 2),
        (("--api-key",), {}, 2),
    ):
        with chat(keyed, *options, **env) as process:
            _, errors = process.communicate("", timeout=60)
        assert process.returncode == code, errors
        assert own.text not in errors


def test_a_demo_with_a_key() -> None:
    key = f"sk-{'d' * 43}"
    done = subprocess.run(
        [COMMAND, "demo"],
        env=os.environ | {"ASSISTANTS_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert key not in done.stdout
    assert "The same thread, read over gRPC" in done.stdout
