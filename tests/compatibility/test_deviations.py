"""What docs/compatibility.md says is different: each claim, shown."""

import json
import re
from typing import Any

import httpx2
import openai
import pytest

from tests.support.compatibility.cases import RUN
from tests.support.compatibility.errors import over_rest
from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls, Fail
from tests.support.stack import Stack


def assistant(server: Stack, given: Any) -> Any:
    """Creates an assistant and returns it."""
    body = given if isinstance(given, str) else {"model": "m"} | given
    status, answer = over_rest(server.base_url, "POST /assistants", body)
    assert status == 200, answer
    return answer


def refused(server: Stack, request: str, body: Any) -> tuple[str | None, str | None]:
    """Returns param and code of a request that is a 400."""
    status, answer = over_rest(server.base_url, request, body)
    assert status == 400, answer
    return answer["error"]["param"], answer["error"]["code"]


def parameters(server: Stack, text: str) -> str:
    """Returns the parameters of a function as they come back."""
    tool = f'{{"type": "function", "function": {{"name": "f", "parameters": {text}}}}}'
    made = assistant(server, f'{{"model": "m", "tools": [{tool}]}}')
    return json.dumps(made["tools"][0]["function"]["parameters"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{"a": 1.0, "b": 1e2, "c": 0.5}', '{"a": 1, "b": 100, "c": 0.5}'),
        ('{"a": -0, "b": -0.0, "c": 1e-400}', '{"a": 0, "b": 0, "c": 0}'),
        ('{"a": 9007199254740992}', '{"a": 9007199254740992}'),
        ('{"a": 9007199254740993}', '{"a": 9007199254740992}'),
    ],
)
def test_numbers_of_schemas_are_doubles(server: Stack, given: str, expected: str) -> None:
    assert parameters(server, given) == expected


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
def test_schemas_nest_30_levels(server: Stack, opening: str, closing: str) -> None:
    def nested(levels: int) -> str:
        inner = f"{opening * levels}1{closing * levels}"
        return f'{{"a": {inner}}}'

    assert json.loads(parameters(server, nested(29))) == json.loads(nested(29))
    tool = '{"type": "function", "function": {"name": "f", "parameters": %s}}'
    for levels, code in ((30, "invalid_value"), (60, "invalid_type"), (200, None)):
        body = f'{{"model": "m", "tools": [{tool % nested(levels)}]}}'
        param, found = refused(server, "POST /assistants", body)
        assert found == code
        assert (param or "").startswith("tools[0]" if levels == 30 else "")


def test_values_are_read_as_protobuf_reads_them(server: Stack) -> None:
    made = assistant(server, {"temperature": "0.5", "metadata": {"a": None}})
    assert (made["temperature"], made["metadata"]) == (0.5, {"a": ""})
    # A single object is an array of one.
    made = assistant(server, {"tools": {"type": "code_interpreter"}})
    assert made["tools"] == [{"type": "code_interpreter"}]
    # In an array of objects, null and an empty array are nothing.
    tools = [None, [], {"type": "code_interpreter"}, [{"type": "file_search"}]]
    made = assistant(server, {"tools": tools})
    assert made["tools"] == [{"type": "code_interpreter"}, {"type": "file_search"}]
    # In one of ids, null would be one that got lost.
    assert refused(server, "POST /vector_stores", {"file_ids": ["file-1", None]}) == (
        "file_ids[1]",
        "invalid_type",
    )
    status, page = over_rest(server.base_url, "GET /assistants?limit=1&order=desc", None)
    assert (status, page["data"]) == (200, [made])
    # What has no schema of ours is kept.
    assert parameters(server, '{"a": [null, []]}') == '{"a": [null, []]}'


def test_stream_may_be_a_word(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    scene = Scene.create(client, models.script(Answer("So.")))
    body = {"assistant_id": scene.assistant_id, "stream": "yes"}
    client.post(f"/threads/{scene.thread_id}/runs", body=body, cast_to=object)
    assert wire.last.streams


def test_unknown_keys_are_refused_unless_they_are_null(server: Stack) -> None:
    called: Any = {"name": "f", "foo": None}
    tools = [{"type": "function", "function": called}]
    made = assistant(server, {"tools": tools, "foo": None})
    assert made["tools"][0]["function"] == {"name": "f", "strict": False}
    called["foo"] = 1
    assert refused(server, "POST /assistants", {"model": "m", "tools": tools}) == (
        "tools[0].function.foo",
        "unknown_parameter",
    )
    # An empty key is unknown too, but a key like others where keys are the caller's.
    body = {"model": "m", "tools": [{"type": "code_interpreter", "": 1}]}
    assert refused(server, "POST /assistants", body) == ("tools[0].", "unknown_parameter")
    assert assistant(server, {"metadata": {"": "a"}})["metadata"] == {"": "a"}


def test_keys_of_maps_are_given_once(server: Stack) -> None:
    function = '{"name": "f", "parameters": {"q": {"a": 1, "a": 2}}}'
    for body, param in (
        ('{"model": "m", "metadata": {"a": "1", "a": "2"}}', "metadata.a"),
        (f'{{"model": "m", "tools": [{{"type": "function", "function": {function}}}]}}', "a"),
    ):
        assert refused(server, "POST /assistants", body) == (param, "duplicate_parameter")


def test_empty_texts_are_missing_where_one_must_be(server: Stack) -> None:
    missing = "missing_required_parameter"
    assert refused(server, "POST /assistants", {"model": ""}) == ("model", missing)
    assert refused(server, "POST /threads/runs", {"assistant_id": ""}) == ("assistant_id", missing)


@pytest.mark.parametrize("value", ['"NaN"', '"Infinity"', '"-Infinity"'])
def test_numbers_are_finite(server: Stack, value: str) -> None:
    body = f'{{"model": "m", "temperature": {value}}}'
    assert refused(server, "POST /assistants", body) == ("temperature", "invalid_value")


def test_the_nul_character_is_refused(server: Stack) -> None:
    for field in ("name", "instructions"):
        assert refused(server, "POST /assistants", {"model": "m", field: "a\0b"}) == (
            field,
            "invalid_value",
        )


def test_limits_that_openai_does_not_state(server: Stack) -> None:
    output = [{"tool_call_id": "call_x", "output": "x" * (512 * 1024 + 1)}]
    path = "POST /threads/t/runs/r/submit_tool_outputs"
    assert refused(server, path, {"tool_outputs": output}) == (
        "tool_outputs[0].output",
        "string_above_max_length",
    )
    urls = [
        "ftp://example.com/a.png",
        "a.png",
        "://",
        "file:///a",
        "http",
        "ht tp://[",
        "\u2100://x",
    ]
    for url in urls:
        assert refused(server, "POST /threads", image(url)) == (
            "messages[0].content[0].image_url.url",
            "invalid_value",
        )
    # Whether there is an image, the model's server finds out.
    for url in ("HTTP://[", "http://[::1", "https://a]b", "http://\u2100.com", "data:,"):
        status, _ = over_rest(server.base_url, "POST /threads", image(url))
        assert status == 200, url


def image(url: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"messages": [{"role": "user", "content": [part]}]}


def test_a_slash_at_the_end_of_a_path_is_ignored(server: Stack) -> None:
    status, thread = over_rest(server.base_url, "POST /threads/", {})
    assert status == 200
    assert over_rest(server.base_url, f"GET /threads/{thread['id']}/", None) == (200, thread)


@pytest.mark.parametrize(
    "request_line",
    ["PUT /threads", "PATCH /assistants", "OPTIONS /threads", "GET /threads/runs/x"],
)
def test_a_wrong_method_is_an_unknown_url(server: Stack, request_line: str) -> None:
    verb, _, path = request_line.partition(" ")
    status, answer = over_rest(server.base_url, request_line, {})
    message = f"Invalid URL ({verb} /v1{path})"
    assert (status, answer["error"]["message"]) == (404, message)


def test_browsers_keep_other_origins_out(server: Stack) -> None:
    asked = {"origin": "http://example.com", "access-control-request-method": "POST"}
    with httpx2.Client(base_url=server.base_url) as client:
        for answer in (
            client.options("/threads", headers=asked),
            client.get("/assistants", headers=asked),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_metadata_comes_back_sorted(server: Stack) -> None:
    made = assistant(server, {"metadata": {"b": "1", "a": "2", "B": "3"}})
    assert list(made["metadata"]) == ["B", "a", "b"]


def test_null_has_its_default(server: Stack) -> None:
    schema: Any = {"name": "n", "strict": None, "description": None, "schema": {}}
    made = assistant(
        server,
        {
            "tools": [{"type": "function", "function": {"name": "f", "strict": None}}],
            "response_format": {"type": "json_schema", "json_schema": schema},
            "tool_resources": None,
            "metadata": None,
        },
    )
    assert made["tools"][0]["function"] == {"name": "f", "strict": False}
    assert made["response_format"]["json_schema"] == {"name": "n", "schema": {}}
    assert (made["tool_resources"], made["metadata"]) == ({}, {})


def test_ids_are_longer(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Calls(("look", {}))), tools=[function("look")])
    run = scene.run()
    [step], [message] = scene.steps(run), scene.messages()
    [given] = outputs(run, "x")
    found = [scene.assistant_id, scene.thread_id, message.id, run.id, step.id]
    for prefix, id in zip(
        ("asst", "thread", "msg", "run", "step", "call"),
        [*found, given["tool_call_id"]],
        strict=True,
    ):
        assert re.fullmatch(rf"{prefix}_[0-9A-Z]{{26}}", id)
    client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)


def test_headers(client: openai.OpenAI, wire: Wire) -> None:
    client.beta.threads.create()
    assert set(wire.last.headers) - {"content-length", "transfer-encoding"} == {
        "content-type",
        "date",
        "server",
        "x-request-id",
    }


def test_neither_key_nor_beta_header_is_needed(server: Stack) -> None:
    # `over_rest` sends none of them; OpenAI's clients, in all other tests, send both.
    assert over_rest(server.base_url, "POST /threads", {})[0] == 200


@pytest.mark.parametrize("path", ["images", "responses", "batches", "chat/completions"])
def test_there_is_nothing_but_assistants_and_threads(server: Stack, path: str) -> None:
    status, answer = over_rest(server.base_url, f"GET /{path}", None)
    assert (status, answer["error"]["message"]) == (404, f"Invalid URL (GET /v1/{path})")


def test_models_are_not_checked_before_they_run(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Fail(404, "There is no such model.")))
    run = scene.run()
    assert run.last_error
    assert (run.status, run.last_error.code, run.last_error.message) == (
        "failed",
        "server_error",
        "Sorry, something went wrong. The model server said: There is no such model.",
    )


def test_an_unknown_assistant_is_refused_first(server: Stack) -> None:
    body = RUN | {"assistant_id": "asst_x", "tools": [{"type": "x"}], "tool_choice": 5}
    status, answer = over_rest(server.base_url, "POST /threads/thread_x/runs", body)
    assert (status, answer["error"]["message"]) == (404, "No assistant found with id 'asst_x'.")


def test_deltas_say_no_role_and_outputs_come_with_their_step(
    client: openai.OpenAI, models: ModelServer, wire: Wire
) -> None:
    model = models.script(Calls(("look", {})), Answer("Seen."))
    scene = Scene.create(client, model, tools=[function("look")])
    run = scene.run()
    with client.beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "seen")
    ) as stream:
        stream.until_done()
    name, step = wire.last.events[0]
    assert name == "thread.run.step.completed"
    assert step["step_details"]["tool_calls"][0]["function"]["output"] == "seen"
    assert "thread.run.step.delta" not in wire.event_names
    deltas = [data["delta"] for name, data in wire.last.events if name == "thread.message.delta"]
    assert deltas
    assert [set(delta) for delta in deltas] == [{"content"}] * len(deltas)


def test_a_run_keeps_all_tools_of_its_assistant(server: Stack, models: ModelServer) -> None:
    tools = [{"type": "function", "function": {"name": f"f{n}"}} for n in range(21)]
    model = models.script(Answer("So."))
    body = {"assistant_id": assistant(server, {"model": model, "tools": tools})["id"]}
    status, run = over_rest(server.base_url, "POST /threads/runs", body)
    assert (status, len(run["tools"])) == (200, 21)
