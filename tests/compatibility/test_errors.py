"""The table of errors, row by row, on both transports; and the document that lists its rows."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from service.errors import TABLE, Kind
from tests.rest.conftest import connect
from tests.support.compatibility.cases import CASES
from tests.support.compatibility.errors import Case, filled, over_grpc, over_rest
from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls, Hold
from tests.support.stack import Stack

NOT_BY_A_REQUEST = {
    Kind.rate_limit_exceeded,
    Kind.events_gone,
    Kind.unavailable,
    Kind.internal,
    Kind.missing_api_key,
    Kind.invalid_api_key,
    Kind.mismatched_project,
    Kind.too_large,
    Kind.range_not_satisfiable,
}
"""What takes more than a request: readers that lag, the server's end, a defect, keys, limits,
bytes of files."""


@pytest.fixture(scope="module")
def world(server: Stack, model_server: ModelServer) -> Iterator[dict[str, str]]:
    """Ids of an assistant, and of threads and their runs in several states, by their names."""
    wire, hold = Wire(), Hold(Answer("At last."))
    with connect(server, wire) as client:
        twice = Calls(("look", {}), ("look", {}))
        scripts = {"done": Answer("Done."), "waiting": twice, "stopping": twice, "busy": hold}
        found = {"assistant": client.beta.assistants.create(model="any").id}
        for name, step in scripts.items():
            model = model_server.script(step)
            scene = Scene.create(client, model, tools=[function("look")])
            run = scene.start() if step is hold else scene.run()
            found |= {name: scene.thread_id, f"{name}_run": run.id}
            if name == "waiting":
                assert run.required_action
                pending = run.required_action.submit_tool_outputs.tool_calls
                found |= {f"call_{index}": call.id for index, call in enumerate(pending)}
            if name == "stopping":
                client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
        wait(hold.held)
        found["idle"] = client.beta.threads.create().id
        found["store"] = client.vector_stores.create().id
        png = client.files.create(file=("a.png", b"x"), purpose="assistants").id
        client.vector_stores.files.create_and_poll(png, vector_store_id=found["store"])
        found["png"] = png
        found["txt"] = client.files.create(file=("a.txt", b"x"), purpose="assistants").id
        found["full"] = client.vector_stores.create().id
        _fill(server, found["full"])
        yield found
        hold.release()
        assert scene.end_of(run).status == "completed"
        wire.check()


def _fill(server: Stack, store_id: str) -> None:
    """Has a vector store count as many files as it may have: the others share the server."""
    path = server.database
    with closing(sqlite3.connect(path, timeout=60)) as database, database:
        text = "UPDATE vector_stores SET completed = 10000 WHERE id = ?"
        assert database.execute(text, [store_id]).rowcount == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_transports_refuse_in_the_same_words(
    server: Stack, channel: grpc.Channel, world: dict[str, str], case: Case
) -> None:
    request, body = filled(case.request, world), filled(case.body, world)
    message = filled(case.message, world)
    row = TABLE[case.kind] if case.kind else None
    status, answer = over_rest(server.base_url, request, body)
    assert status == (row.http if row else case.status)
    assert answer == {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": case.param,
            "code": row.code if row else None,
        }
    }
    if case.rest_only:
        return
    assert row
    assert case.kind
    refused = over_grpc(channel, request, body)
    assert (refused.status, refused.message) == (row.grpc, message)
    assert refused.reason == (row.code or case.kind.value)
    assert refused.metadata == ({} if case.param is None else {"param": case.param})


def test_every_kind_is_walked() -> None:
    assert {case.kind for case in CASES if case.kind} == set(Kind) - NOT_BY_A_REQUEST


DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"\| `(\w+)` \| (\d+) \| `(\w+)` \| `(\w+)` \| (`\w+`|null) \| `` ?(.+?) ?`` \|")


def _documented() -> dict[str, tuple[str, ...]]:
    rows = [match.groups() for match in ROW.finditer(DOCUMENT.read_text())]
    return {reason: tuple(row) for reason, *row in rows}


def test_the_document_lists_the_rows_of_the_table() -> None:
    documented = _documented()
    for kind, row in TABLE.items():
        code = f"`{row.code}`" if row.code else "null"
        expected = (str(row.http), row.grpc.name, row.type, code)
        assert documented[row.code or kind.value][:-1] == expected
    assert list(documented) == [row.code or kind.value for kind, row in TABLE.items()]


def test_the_documents_examples_are_messages_that_are_sent() -> None:
    sent = {_without_ids(case.message) for case in CASES}
    for kind in set(Kind) - NOT_BY_A_REQUEST:
        example = _documented()[kind.value][-1]
        assert _without_ids(example) in sent


def _without_ids(message: str) -> str:
    return re.sub(r"{\w+}|\b(?:thread|run|call)_\w+", "…", message)
