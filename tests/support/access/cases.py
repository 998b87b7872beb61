"""A request for every method of the API, which names an object of each kind that it can.

`{thread}` is the id of a thread, and so on: of another project's, the call finds nothing.
`~message` is an id that a call may give without there being such an object, such as a cursor.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Final

from tests.support.access import vector_store_cases

MESSAGE: Final[dict[str, Any]] = {"role": "user", "content": "stolen"}
METADATA: Final[dict[str, Any]] = {"metadata": {"stolen": "1"}}
IN_THREAD: Final = {"thread_id": "{thread}"}
IN_RUN: Final = IN_THREAD | {"run_id": "{run}"}
NEW_RUN: Final[dict[str, Any]] = {"assistant_id": "{assistant}", "when_active": "queue"}
IN_UPLOAD: Final = {"upload_id": "{upload}"}
NEW_FILE: Final[dict[str, Any]] = {"filename": "a.txt", "purpose": "assistants", "bytes": 0}
OUTPUTS: Final[dict[str, Any]] = {"tool_outputs": [{"tool_call_id": "~call", "output": "stolen"}]}

CASES: Final[dict[str, dict[str, Any]]] = {
    "CreateAssistant": {"model": "m"},
    "ListAssistants": {"after": "~assistant"},
    "GetAssistant": {"assistant_id": "{assistant}"},
    "ModifyAssistant": {"assistant_id": "{assistant}", "name": "stolen"},
    "DeleteAssistant": {"assistant_id": "{assistant}"},
    "ListModels": {},
    "GetModel": {"model": "org/scripted"},
    "CreateThread": {"messages": [MESSAGE]},
    "GetThread": IN_THREAD,
    "ModifyThread": IN_THREAD | METADATA,
    "DeleteThread": IN_THREAD,
    "ListThreads": {"after": "~thread"},
    "CopyThread": IN_THREAD | {"up_to_message_id": "{message}"},
    "CreateMessage": IN_THREAD | MESSAGE | {"when_active": "queue"},
    "ListMessages": IN_THREAD | {"after": "~message", "run_id": "~run"},
    "GetMessage": IN_THREAD | {"message_id": "{message}"},
    "ModifyMessage": IN_THREAD | {"message_id": "{message}"} | METADATA,
    "DeleteMessage": IN_THREAD | {"message_id": "{message}"},
    "CreateRun": IN_THREAD | NEW_RUN,
    "StreamRun": IN_THREAD | NEW_RUN,
    "CreateThreadAndRun": {"assistant_id": "{assistant}"},
    "StreamThreadAndRun": {"assistant_id": "{assistant}"},
    "ListRuns": IN_THREAD | {"after": "~run"},
    "GetRun": IN_RUN,
    "ModifyRun": IN_RUN | METADATA,
    "CancelRun": IN_RUN,
    "SubmitToolOutputs": IN_RUN | OUTPUTS,
    "StreamToolOutputs": IN_RUN | OUTPUTS,
    "StreamRunEvents": IN_RUN,
    "ListRunSteps": IN_RUN | {"after": "~step"},
    "GetRunStep": IN_RUN | {"step_id": "{step}"},
    **vector_store_cases.CASES,
    "UploadFile": NEW_FILE,
    "ListFiles": {"after": "~file"},
    "GetFile": {"file_id": "{file}"},
    "DeleteFile": {"file_id": "{file}"},
    "DownloadFile": {"file_id": "{file}"},
    "CreateUpload": NEW_FILE | {"mime_type": "text/plain"},
    "AddUploadPart": IN_UPLOAD | {"bytes": 0},
    "CompleteUpload": IN_UPLOAD | {"part_ids": ["{part}"]},
    "CancelUpload": IN_UPLOAD,
}
"""By the methods' names."""

_NAME = re.compile(r"[{~](\w+)}?")


def named(fields: Any) -> dict[str, bool]:
    """Returns the kinds of objects that a request names, and whether there must be such a one."""
    found: dict[str, bool] = {}

    def note(match: re.Match[str]) -> str:
        found[match[1]] = match[0].startswith("{")
        return ""

    _replaced(fields, note)
    return found


def filled(fields: Any, ids: Mapping[str, str]) -> Any:
    """Returns a request with these ids."""
    return _replaced(fields, lambda match: ids[match[1]])


def mixes(kinds: list[str]) -> Iterator[frozenset[str]]:
    """Returns every choice of some of the kinds."""
    for size in range(1, len(kinds) + 1):
        yield from map(frozenset, combinations(kinds, size))


def _replaced(value: Any, replace: Any) -> Any:
    match value:
        case str():
            return replace(found) if (found := _NAME.fullmatch(value)) else value
        case dict():
            return {key: _replaced(item, replace) for key, item in value.items()}
        case list():
            return [_replaced(item, replace) for item in value]
    return value
