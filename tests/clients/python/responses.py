"""What stands around the objects: raw and streamed responses, request ids, errors."""

import functools
import json
from collections.abc import Callable
from typing import Any

import openai

from tests.clients.python.harness import check, each, entered, folded, got, refused, same
from tests.clients.python.scene import ANSWER, BEGIN, HELLO, POLL, cancel, scene


@check
async def raw_responses(client: Any, model: str) -> None:
    beta = client.beta
    ids = await scene(client, model)
    run = await got(beta.threads.runs.create_and_poll(**ids, poll_interval_ms=POLL))
    at = {"thread_id": run.thread_id}
    calls: list[Callable[[], Any]] = [
        lambda: beta.assistants.with_raw_response.create(model=model),
        lambda: beta.assistants.with_raw_response.list(limit=1),
        lambda: beta.threads.with_raw_response.create(messages=[HELLO]),
        lambda: beta.threads.messages.with_raw_response.list(**at),
        lambda: beta.threads.runs.with_raw_response.retrieve(run.id, **at),
        lambda: beta.threads.runs.with_raw_response.list(**at),
        lambda: beta.threads.runs.steps.with_raw_response.list(run.id, **at),
        lambda: beta.threads.with_raw_response.delete(**at),
    ]
    for call in calls:
        raw = await got(call())
        same((raw.status_code, raw.headers["content-type"]), (200, "application/json"))
        _check_request_id(raw.headers["x-request-id"])
        parsed = raw.parse()
        same((raw.request_id, parsed._request_id), (raw.headers["x-request-id"],) * 2)
        # Nothing is lost or added on the way into the client's types, and out again.
        same(parsed.to_dict(), json.loads(raw.text))


def _check_request_id(request_id: Any) -> None:
    if not isinstance(request_id, str) or len(request_id) < 8:
        raise AssertionError(f"no request id: {request_id!r}")


@check
async def streamed_responses(client: Any, model: str) -> None:
    threads = client.beta.threads
    async with entered(threads.with_streaming_response.create(messages=[HELLO])) as response:
        thread = json.loads(b"".join(await each(response.iter_bytes())))
        same((response.status_code, thread["object"]), (200, "thread"))
        _check_request_id(response.request_id)
    async with entered(threads.with_streaming_response.retrieve(thread["id"])) as response:
        same((await got(response.parse())).to_dict(), thread)
    ids = await scene(client, model)
    streamed = threads.runs.with_streaming_response.create(**ids, stream=True)
    async with entered(streamed) as response:
        same(response.headers["content-type"].partition(";")[0], "text/event-stream")
        _check_request_id(response.request_id)
        lines = await each(response.iter_lines())
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    same(folded(names), [*BEGIN, *ANSWER, "done"])
    same([line for line in lines if line][-1], "data: [DONE]")


@check
async def errors(client: Any, model: str) -> None:
    beta = client.beta
    unknown = await refused(openai.NotFoundError, lambda: beta.assistants.retrieve("asst_x"))
    same(unknown.status_code, 404)
    _check_error(unknown, "No assistant found with id 'asst_x'.", None, None)
    wrong = await refused(openai.BadRequestError, lambda: beta.assistants.list(limit=101))
    message = (
        "Invalid 'limit': integer above maximum value. "
        "Expected a value <= 100, but got 101 instead."
    )
    _check_error(wrong, message, "limit", "integer_above_max_value")
    more = await refused(
        openai.BadRequestError,
        lambda: beta.assistants.create(model=model, extra_body={"foo": 1}),
    )
    _check_error(more, "Unknown parameter: 'foo'.", "foo", "unknown_parameter")
    mistyped = await refused(
        openai.BadRequestError,
        lambda: beta.assistants.create(model=model, temperature="warm"),
    )
    same((mistyped.param, mistyped.code), ("temperature", "invalid_type"))
    lost = await refused(openai.NotFoundError, lambda: client.fine_tuning.jobs.list())
    prefix = "/openai" if isinstance(client, openai.AzureOpenAI) else "/v1"
    _check_error(lost, f"Invalid URL (GET {prefix}/fine_tuning/jobs)", None, None)

    runs = beta.threads.runs
    ids = await scene(client, model)
    run = await got(runs.create(**ids))
    message = f"Thread {run.thread_id} already has an active run {run.id}."
    for call in (runs.create, functools.partial(runs.create, stream=True)):
        second = await refused(openai.BadRequestError, functools.partial(call, **ids))
        _check_error(second, message, None, None)
    await cancel(client, run)
    finished = await refused(
        openai.BadRequestError, lambda: runs.cancel(run.id, thread_id=run.thread_id)
    )
    _check_error(finished, "Cannot cancel run with status 'cancelled'.", None, None)


def _check_error(error: Any, message: str, param: str | None, code: str | None) -> None:
    body = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    same((error.body, error.response.json()), (body, {"error": body}))
    same((error.type, error.param, error.code), ("invalid_request_error", param, code))
    _check_request_id(error.request_id)
