"""One line of the log for each call that changes something: who, what, of which object, the end."""

import re

from tests.access.conftest import Both, one_of_each
from tests.support.access import vector_store_cases
from tests.support.access.cases import CASES, filled
from tests.support.access.keyed import Key, command
from tests.support.access.transports import METHODS, REST, UNARY
from tests.support.model_server import ModelServer
from tests.support.stack import Stack
from tests.support.waiting import until

PAIR = re.compile(r"(\w+)=(\S+)")
OBJECTS = {
    "CreateAssistant": "asst",
    "ModifyAssistant": "asst",
    "DeleteAssistant": "asst",
    "CreateThread": "thread",
    "ModifyThread": "thread",
    "DeleteThread": "thread",
    "CopyThread": "thread",
    "CreateMessage": "msg",
    "ModifyMessage": "msg",
    "DeleteMessage": "msg",
    "CreateRun": "run",
    "StreamRun": "run",
    "CreateThreadAndRun": "run",
    "StreamThreadAndRun": "run",
    "ModifyRun": "run",
    "CancelRun": "run",
    "SubmitToolOutputs": "run",
    "StreamToolOutputs": "run",
    **vector_store_cases.OBJECTS,
    "UploadFile": "file",
    "DeleteFile": "file",
    "CreateUpload": "upload",
    "AddUploadPart": "part",
    "CompleteUpload": "upload",
    "CancelUpload": "upload",
}
"""The prefix of the object that the line of each call names."""


def lines(stack: Stack, request_id: str) -> list[dict[str, str]]:
    """Returns what is logged of a request."""
    found = [dict(PAIR.findall(line)) for line in stack.printed().splitlines() if "] call " in line]
    return [pairs for pairs in found if pairs.get("request_id") == request_id]


async def test_each_call_that_changes_something(
    keyed: Stack, both: Both, models: ModelServer
) -> None:
    key = Key.create(keyed, "delta", "--name", "ci")
    listed = command(keyed, "projects", "list").stdout.splitlines()
    [project] = [line.split()[0] for line in listed if line.split()[1] == "delta"]
    reads = {name for name, rule in REST.items() if rule.verb == "GET"}
    for method in METHODS:
        ids = one_of_each(keyed, models, key)
        for transport in ("grpc", "rest"):
            request_id = f"{transport}-{method}"
            headers = {"authorization": f"Bearer {key.text}", "x-request-id": request_id}
            both.of(headers)[transport](method, filled(CASES[method], ids))
            if method in reads:
                continue
            await until(lambda asked=request_id: lines(keyed, asked))  # type: ignore[misc]
            [line] = lines(keyed, request_id)
            called = method if transport == "grpc" else UNARY.get(method, method)
            assert (line["project"], line["key"], line["method"]) == (project, "ci", called)
            assert line["status"] != "UNAUTHENTICATED"
            # What was deleted over gRPC is not there over REST; its id is named all the same.
            [kind] = re.findall("^[a-z]+", line["object"])
            assert kind == OBJECTS[method] or line["status"] == "NOT_FOUND", line
    assert not [name for name in reads if lines(keyed, f"grpc-{name}")]


async def test_what_is_refused(keyed: Stack, both: Both, own: Key) -> None:
    by_key = {"authorization": f"Bearer {own.text}"}
    for number, (headers, id, expected) in enumerate(
        [
            (by_key, "thread_x", {"status": "NOT_FOUND", "object": "thread_x", "key": "key"}),
            (by_key, "a\nb=c", {"status": "NOT_FOUND", "object": "None", "key": "key"}),
            (by_key, "x" * 200, {"status": "NOT_FOUND", "object": "None", "key": "key"}),
            ({}, "thread_x", {"status": "UNAUTHENTICATED", "project": "None", "key": "None"}),
        ]
    ):
        request_id = f"refused-{number}"
        both.of(headers | {"x-request-id": request_id})["grpc"]("DeleteThread", {"thread_id": id})
        await until(lambda asked=request_id: lines(keyed, asked))  # type: ignore[misc]
        [line] = lines(keyed, request_id)
        assert expected.items() <= line.items()


async def test_a_request_id_that_would_look_like_more_of_the_line(keyed: Stack, both: Both) -> None:
    given = "mine key=root project='x'"
    both.of({"x-request-id": given})["grpc"]("DeleteThread", {"thread_id": "thread_x"})
    await until(lambda: f"request_id={given!r}" in keyed.printed())
