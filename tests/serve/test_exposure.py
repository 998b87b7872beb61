"""Who may reach what: loopback without keys, no port that nobody asked for, no secret anywhere."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

import grpc
import openai
import pytest
from assistants.v1 import threads_pb2
from openai.types.beta.thread_create_and_run_params import ThreadMessage

from tests.serve.test_failures import MODEL, refusal
from tests.support.grpc.client import connect
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.script import Fail
from tests.support.secret import check_text, new_secret
from tests.support.serve.processes import processes_of
from tests.support.stack import COMMAND, Stack, free_address, serving

LISTEN = "0A"
USER: Final[ThreadMessage] = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("ASSISTANTS_HTTP_ADDRESS", "0.0.0.0"),
        ("ASSISTANTS_GRPC_ADDRESS", "[::]"),
        ("ASSISTANTS_METRICS_ADDRESS", "192.0.2.1"),
    ],
)
def test_without_keys_addresses_are_loopback(name: str, host: str) -> None:
    address = f"{host}:{free_address().rpartition(':')[2]}"
    assert refusal(MODEL | {name: address}) == (
        f"{name}: {address} is not loopback, and without keys whoever reaches it may "
        "do everything: ASSISTANTS_AUTH=keys asks for keys, `--insecure` for none"
    )


def test_insecure_on_purpose(model_server: ModelServer) -> None:
    port = free_address().rpartition(":")[2]
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_HTTP_ADDRESS": f"0.0.0.0:{port}",
    }
    with Stack(settings, (COMMAND, "serve", "--insecure")) as stack:
        stack.start()
        assert f"0.0.0.0:{port}" in _listening(stack)
        assert stack.terminate() == 0, stack.printed()


def test_files_are_for_the_servers_user_alone(model_server: ModelServer) -> None:
    """Whatever mask the server is started with: the database's, and the sockets'."""
    settings = {"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}
    with Stack(settings, ("sh", "-c", f"umask 0 && exec {COMMAND} serve")) as stack:
        stack.start()
        data = Path(stack.env["ASSISTANTS_DATA_DIR"])
        modes = {path.name: path.stat().st_mode & 0o077 for path in (data, *data.rglob("*"))}
        assert {"data", "assistants.db", "edge.sock", "grpc.sock"} <= modes.keys()
        # Sessions of the code interpreter have users of their own, who pass through.
        assert modes.pop("threads", 0o011) == 0o011
        assert not any(modes.values()), modes
        assert stack.terminate() == 0, stack.printed()


def test_no_other_port_is_open(model_server: ModelServer) -> None:
    """Not Envoy's admin interface, least of all."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_METRICS_ADDRESS": free_address(),
    }
    with Stack(settings) as stack:
        stack.start()
        addresses = {value for name, value in stack.env.items() if name.endswith("_ADDRESS")}
        assert len(addresses) == 3
        assert _listening(stack) == addresses
        assert stack.terminate() == 0, stack.printed()


def _listening(stack: Stack) -> set[str]:
    """Returns the addresses that processes of a stack listen on."""
    sockets = {
        target
        for pid in processes_of(stack)
        for file in Path(f"/proc/{pid}/fd").iterdir()
        if (target := _target(file)).startswith("socket:")
    }
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTEN and f"socket:[{rest[5]}]" in sockets:
                host, port = local.split(":")
                place = _host(family, host).removeprefix("::ffff:")
                found.add(f"{place}:{int(port, 16)}")
    return found


def _host(family: int, digits: str) -> str:
    # In words of 32 bits, each in this machine's own order.
    words = struct.unpack(f">{len(digits) // 8}I", bytes.fromhex(digits))
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))


def _target(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:
        return ""


async def test_secrets_are_nowhere(model_server: ModelServer, postgres: Postgres) -> None:
    """Not even where the model server repeats its key, and the database refuses the password.

    What a server writes, its metrics too, is searched at the end of every test
    (tests/support/secret.py).
    """
    key = new_secret()
    name = postgres.create_database()
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_API_KEY": key,
        "ASSISTANTS_MODEL_RETRIES": "0",
        "ASSISTANTS_METRICS_ADDRESS": free_address(),
        "ASSISTANTS_DATABASE_URL": postgres.url(name),
        "ASSISTANTS_LOG_LEVEL": "debug",
        "ASSISTANTS_AUTH": "keys",
        "ASSISTANTS_BOOTSTRAP_KEY": (own := new_secret()),
    }
    wrong = new_secret()
    refusals = [Fail(status, f"Incorrect API key provided: {key}.") for status in (400, 401, 500)]
    with serving(settings) as stack:
        with openai.OpenAI(base_url=stack.base_url, api_key=own, max_retries=0) as client:
            for refused in refusals:
                assistant = client.beta.assistants.create(model=model_server.script(refused))
                events = client.beta.threads.create_and_run(
                    assistant_id=assistant.id, thread={"messages": [USER]}, stream=True
                )
                shown = [event.model_dump_json() for event in events]
                assert "thread.run.failed" in "".join(shown)
                check_text("".join(shown))
            with pytest.raises(openai.AuthenticationError) as refused_key:
                client.with_options(api_key=wrong).beta.threads.create()
            postgres.drop_database(name)
            with pytest.raises(openai.InternalServerError) as failed:
                client.beta.threads.create()
            for error in (failed.value, refused_key.value):
                check_text(error.response.text)
        with connect(stack.grpc_address) as stubs:
            for given in (own, wrong):
                with pytest.raises(grpc.RpcError) as ended:
                    stubs.threads.ListThreads(
                        threads_pb2.ListThreadsRequest(),
                        metadata=(("authorization", f"Bearer {given}"),),
                    )
                check_text(repr(ended.value))


def test_a_password_that_is_refused() -> None:
    password = new_secret("pw-")
    for url in (
        f"postgresql://nobody:{password}@127.0.0.1:1/x",
        f"postgresql://nobody:{password}@127.0.0.1:1/x?foo=1",
        f"mysql://nobody:{password}@127.0.0.1:1/x",
        f"//nobody:{password}@127.0.0.1:1/x",
    ):
        check_text(refusal(MODEL | {"ASSISTANTS_DATABASE_URL": url}))
