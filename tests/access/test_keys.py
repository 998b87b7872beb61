"""Keys on a running server: made, used, revoked, expired; what answers say of them."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from assistants.v1 import runs_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.access import digest
from storage.database import Database
from storage.keys import Keys
from tests.access.conftest import Both
from tests.support.access.keyed import Key, command
from tests.support.access.transports import OK, UNAUTHENTICATED
from tests.support.grpc.stubs import Run, Stubs, last_run, whole
from tests.support.hostile.http1 import ask
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.rest.scene import Scene
from tests.support.script import Answer, Hold
from tests.support.serve.processes import processes_of
from tests.support.stack import Stack, StartFailed, serving
from tests.support.waiting import until

TRANSPORTS = pytest.mark.parametrize("transport", ["grpc", "rest"])
INCORRECT = re.compile(r"Incorrect API key provided: (\S+)\*\*\*(\S+)\.")
KEY = re.compile(r"sk-[\w-]{43}")


def test_the_command_line_prints_a_key_once(keyed: Stack) -> None:
    key = Key.create(keyed, "gamma", "--name", "ci", "--expires", "90d")
    assert KEY.fullmatch(key.text)
    listed = command(keyed, "keys", "list").stdout
    [line] = [line for line in listed.splitlines() if key.id in line]
    assert line.split()[1:3] == ["gamma", "ci"]
    assert line.endswith("valid")
    assert key.text not in listed
    names = [line.split()[1] for line in command(keyed, "projects", "list").stdout.splitlines()]
    assert {"default", "gamma"} <= {*names}
    data = Path(keyed.env["ASSISTANTS_DATA_DIR"])
    for file in data.glob("assistants.db*"):
        assert key.text.encode() not in file.read_bytes()
    assert "is revoked" in command(keyed, "keys", "revoke", key.id).stdout
    [line] = [each for each in command(keyed, "keys", "list").stdout.splitlines() if key.id in each]
    assert line.endswith("revoked")


@pytest.mark.parametrize(
    "argv",
    [
        ("keys", "create", "--project", "a b"),
        ("keys", "create", "--project", ""),
        ("keys", "create", "--project", "a", "--name", "a\nb"),
        ("keys", "create", "--project", "a", "--expires", "tomorrow"),
        ("keys", "revoke", "key_x"),
    ],
)
def test_what_the_command_line_refuses(keyed: Stack, argv: tuple[str, ...]) -> None:
    done = command(keyed, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("assistants: ")


def test_official_clients(keyed: Stack, own: Key) -> None:
    arguments: dict[str, Any] = {"api_key": own.text, "max_retries": 0}
    azure = openai.AzureOpenAI(
        azure_endpoint=keyed.base_url.removesuffix("/v1"), api_version="preview", **arguments
    )
    both = openai.OpenAI(base_url=keyed.base_url, organization="org-any", **arguments)
    thread = both.beta.threads.create()
    assert azure.beta.threads.retrieve(thread.id).id == thread.id
    wrong = openai.OpenAI(base_url=keyed.base_url, api_key=f"sk-{'x' * 43}", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        wrong.beta.threads.retrieve(thread.id)
    assert refused.value.body == {
        "message": "Incorrect API key provided: sk-***xx.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    for client in (azure, both, wrong):
        client.close()


@TRANSPORTS
def test_a_key_of_another_scheme_or_case(both: Both, own: Key, transport: str) -> None:
    for headers in (
        {"authorization": f"bearer {own.text}"},
        {"authorization": f"BEARER  {own.text}"},
        {"api-key": own.text},
        {"authorization": "Basic YTpi", "api-key": own.text},
        {"authorization": f"Bearer {own.text}", "api-key": "wrong"},
    ):
        assert both.of(headers)[transport]("ListThreads", {}).status == OK


@TRANSPORTS
@pytest.mark.parametrize("given", ["x", "sk-short", f"sk-{'x' * 5000}yz", "a b c d e f g"])
def test_at_most_five_characters_of_a_wrong_key_are_shown(
    both: Both, own: Key, transport: str, given: str
) -> None:
    outcome = both.of({"authorization": f"Bearer {given}"})[transport]("ListThreads", {})
    assert outcome.status == UNAUTHENTICATED
    assert "Incorrect API key provided: " in outcome.text
    if shown := INCORRECT.search(outcome.text):
        assert len("".join(shown.groups())) <= 5
    else:
        assert "provided: ***." in outcome.text


@pytest.mark.parametrize("data", ["ü".encode() * 30, b"\xff\xfe" * 30])
def test_a_key_of_other_bytes(keyed: Stack, data: bytes) -> None:
    for header in (("authorization", b"Bearer " + data), ("api-key", data)):
        answer = ask(keyed, "GET", "/v1/threads", headers=[header])
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    for text in ("ü" * 6, "\\xff", "Invalid encoding"):
        assert text not in keyed.printed()


@TRANSPORTS
def test_the_header_that_names_a_project(
    keyed: Stack, both: Both, own: Key, transport: str
) -> None:
    listed = command(keyed, "projects", "list").stdout.splitlines()
    ids = {line.split()[1]: line.split()[0] for line in listed}
    by_key = {"authorization": f"Bearer {own.text}"}
    for name in ("beta", ids["beta"], ""):
        headers = by_key | {"openai-project": name, "openai-organization": "org-any"}
        assert both.of(headers)[transport]("ListThreads", {}).status == OK
    for name in ("alpha", ids["default"], "proj_x"):
        outcome = both.of(by_key | {"openai-project": name})[transport]("ListThreads", {})
        assert outcome.status == UNAUTHENTICATED
        assert "OpenAI-Project header should match project for API key." in outcome.text
        if transport == "rest":
            assert json.loads(outcome.text)["error"]["code"] == "mismatched_project"


async def test_a_revoked_key_has_the_words_of_a_wrong_one(keyed: Stack, both: Both) -> None:
    key = Key.create(keyed, "gamma")
    calls = both.by(key)
    assert {call("ListThreads", {}).status for call in calls.values()} == {OK}
    command(keyed, "keys", "revoke", key.id)
    await until(lambda: calls["rest"]("ListThreads", {}).status == UNAUTHENTICATED)
    for call in calls.values():
        outcome = call("ListThreads", {})
        assert outcome.status == UNAUTHENTICATED
        assert f"Incorrect API key provided: sk-***{key.text[-2:]}." in outcome.text


async def test_an_expired_key(keyed: Stack, both: Both) -> None:
    key = Key("", f"sk-{'e' * 43}")
    path = keyed.database
    database = Database(f"sqlite:///{path}")
    await Keys(database).create("gamma", "short", digest(key.text), 3)
    await database.close()
    calls = both.by(key)
    assert calls["grpc"]("ListThreads", {}).status == OK
    await until(lambda: calls["grpc"]("ListThreads", {}).status == UNAUTHENTICATED)
    assert "Incorrect API key provided: sk-***ee." in calls["rest"]("ListThreads", {}).text


async def test_an_open_stream_of_a_revoked_key_goes_on_to_its_end(
    keyed: Stack, both: Both, models: ModelServer
) -> None:
    key = Key.create(keyed, "gamma")
    held = Hold(Answer("Once upon a time"), after="Once")
    with openai.OpenAI(base_url=keyed.base_url, api_key=key.text, max_retries=0) as client:
        scene = Scene.create(client, models.script(held))
    request = runs_pb2.CreateRunRequest(**scene.ids)
    metadata = [("authorization", f"Bearer {key.text}")]
    events = Stubs(both.channel).runs.StreamRun(request, metadata=metadata)
    await until(held.held.is_set)
    command(keyed, "keys", "revoke", key.id)
    await until(lambda: both.by(key)["grpc"]("ListThreads", {}).status == UNAUTHENTICATED)
    held.release()
    assert last_run(await asyncio.to_thread(whole, events)).status == Run.completed


def test_health_and_reflection_need_no_key(keyed: Stack, both: Both) -> None:
    assert keyed.healthy()
    health: Any = health_pb2_grpc.HealthStub(both.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert health.Check(health_pb2.HealthCheckRequest()).status == serving
    assert "assistants.v1.RunsService" in described(both.channel)


def described(channel: grpc.Channel) -> str:
    """Returns what reflection says of the services."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    [answer] = stub.ServerReflectionInfo(iter([request]))
    return str(answer)


async def test_keys_on_two_servers(
    postgres: Postgres, model_server: ModelServer, tmp_path: Path
) -> None:
    name = postgres.create_database()
    bootstrap = "a-key-that-somebody-chose"
    env = {
        "ASSISTANTS_AUTH": "keys",
        "ASSISTANTS_BOOTSTRAP_KEY": bootstrap,
        "ASSISTANTS_DATABASE_URL": postgres.url(name),
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_REFLECTION": "false",
    }
    with serving(env) as one, serving(env) as other:
        channels = [grpc.insecure_channel(stack.grpc_address) for stack in (one, other)]

        def statuses(text: str) -> set[str]:
            calls = [Both(channel, None).by(Key("", text))["grpc"] for channel in channels]  # type: ignore[arg-type]
            return {call("ListThreads", {}).status for call in calls}

        assert statuses(bootstrap) == {OK}
        key = Key.create(one, "alpha")
        # At once, as what a server does not know it looks up.
        assert statuses(key.text) == {OK}
        command(one, "keys", "revoke", key.id)
        await until(lambda: statuses(key.text) == {UNAUTHENTICATED})

        listed = command(other, "keys", "list").stdout.splitlines()
        [first] = [line.split()[0] for line in listed if " bootstrap " in line]
        command(other, "keys", "revoke", first)
        await until(lambda: statuses(bootstrap) == {UNAUTHENTICATED})
        assert other.terminate() == 0
        # The same setting does not bring back what was revoked.
        other.start()
        await until(lambda: statuses(bootstrap) == {UNAUTHENTICATED})

        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            described(channels[0])
        for stack in (one, other):
            printed = stack.printed()
            assert not [text for text in (bootstrap, key.text) if text in printed]
            for pid in processes_of(stack):
                assert bootstrap.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        for channel in channels:
            channel.close()
    postgres.drop_database(name)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"ASSISTANTS_BOOTSTRAP_KEY": "x" * 30}, "there are no keys: ASSISTANTS_AUTH=keys"),
        (
            {"ASSISTANTS_AUTH": "keys", "ASSISTANTS_BOOTSTRAP_KEY": "too-short"},
            "expected at least 20 ASCII characters",
        ),
    ],
)
def test_settings_that_are_refused(env: dict[str, str], line: str) -> None:
    with Stack(env) as stack:
        with pytest.raises(StartFailed, match=f"ASSISTANTS_BOOTSTRAP_KEY: {line}"):
            stack.start()
        assert env["ASSISTANTS_BOOTSTRAP_KEY"] not in stack.printed()
