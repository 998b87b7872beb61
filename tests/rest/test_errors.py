"""Errors as OpenAI's client raises them; tests/compatibility walks the whole table."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.support.rest.scene import expect


@pytest.mark.parametrize(
    ("call", "status", "message", "param", "code"),
    [
        (
            lambda c: c.beta.threads.retrieve("thread_x"),
            404,
            "No thread found with id 'thread_x'.",
            None,
            None,
        ),
        (
            lambda c: c.beta.threads.create_and_run(assistant_id="asst_x", stream=True),
            404,
            "No assistant found with id 'asst_x'.",
            None,
            None,
        ),
        (
            lambda c: c.beta.assistants.list(limit=101),
            400,
            "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 "
            "instead.",
            "limit",
            "integer_above_max_value",
        ),
        (
            lambda c: c.get("/nothing", cast_to=object),
            404,
            "Invalid URL (GET /v1/nothing)",
            None,
            None,
        ),
    ],
)
def test_the_client_raises(
    client: openai.OpenAI,
    call: Callable[[openai.OpenAI], Any],
    status: int,
    message: str,
    param: str | None,
    code: str | None,
) -> None:
    expect(client, call, status, message, param, code)
