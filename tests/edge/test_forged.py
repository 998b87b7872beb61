"""What a client sends in the edge's name, or the service's, reaches nobody."""

import http.client
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from service.process.probe import http_status
from service.settings import Settings
from tests.support.envoys import Recorder, recording
from tests.support.stack import Stack
from tests.support.waiting import run_until

FORGED = {
    "x-edge-body-keys": "v6d6f64656c",
    "x-edge-project": "proj_other",
    "x-edge-": "x",
    "openai-error": '{"error": {}}',
    "openai-status": "200",
    "x-envoy-original-path": "/v1/threads/other",
    "x-envoy-upstream-rq-timeout-ms": "1",
}
HARMLESS = {"x-request-id": "mine", "authorization": "Bearer sk-x", "openai-project": "proj_x"}


@pytest.fixture(scope="module")
def edge() -> Iterator[tuple[Settings, Recorder]]:
    # Short, as the path of a Unix socket in it must be.
    with (
        tempfile.TemporaryDirectory(prefix="as-") as directory,
        recording(Path(directory)) as (settings, recorder),
    ):
        run_until(lambda: http_status(settings.http_address, "/healthz"), 200)
        yield settings, recorder


def check(metadata: dict[str, str | bytes]) -> None:
    """Fails if anything of FORGED has come through, or HARMLESS has not."""
    assert {name: metadata.get(name) for name in HARMLESS} == HARMLESS
    assert [name for name, value in FORGED.items() if metadata.get(name) == value] == []
    # Where a caller is, the connection says.
    forwarded = str(metadata["x-forwarded-for"])
    assert forwarded.startswith("10.0.0.1,")
    assert forwarded != "10.0.0.1,"


def test_over_rest(edge: tuple[Settings, Recorder]) -> None:
    settings, recorder = edge
    connection = http.client.HTTPConnection(settings.http_address, timeout=60)
    headers = FORGED | HARMLESS | {"x-forwarded-for": "10.0.0.1", "grpc-timeout": "1n"}
    connection.request("POST", "/v1/threads", '{"metadata": {}}', headers)
    assert connection.getresponse().status == 200
    connection.close()
    method, metadata = recorder.calls[-1]
    assert method == "/assistants.v1.rest.ThreadsService/CreateThread"
    check(metadata)
    # The edge's own, of this body.
    assert metadata["x-edge-body-keys"] == f"v{b'metadata'.hex()}"


def test_over_grpc(edge: tuple[Settings, Recorder]) -> None:
    settings, recorder = edge
    with grpc.insecure_channel(settings.http_address) as channel:
        call: Any = channel.unary_unary("/assistants.v1.ThreadsService/CreateThread")
        given = FORGED | HARMLESS | {"x-forwarded-for": "10.0.0.1"}
        assert call(b"", metadata=tuple(given.items()), timeout=60) == b""
    check(recorder.calls[-1][1])


def test_other_users_cannot_speak_as_the_edge(server: Stack) -> None:
    data = Path(server.env["ASSISTANTS_DATA_DIR"])
    for name in ("edge.sock", "grpc.sock"):
        # To connect is to write.
        assert (data / name).stat().st_mode & 0o022 == 0


def test_methods_of_the_edge_are_not_public(server: Stack) -> None:
    for through in ("ASSISTANTS_HTTP_ADDRESS", "ASSISTANTS_GRPC_ADDRESS"):
        with grpc.insecure_channel(server.env[through]) as channel:
            call: Any = channel.unary_unary("/assistants.v1.rest.ThreadsService/CreateThread")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=60)
            assert isinstance(refused.value, grpc.Call)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
