"""Queries that a model words anew: some at once, and not for ever."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from service.models import rewriting
from service.models.client import ChatModel
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Fail, Hold, Step
from tests.support.waiting import SECONDS, until

MOST = 16
"""Queries that a search may have."""


def query_of(request: Mapping[str, Any]) -> str:
    return str(request["messages"][-1]["content"])


async def test_queries_keep_their_order(models: ModelServer, model: ChatModel) -> None:
    def step(request: Mapping[str, Any]) -> Step:
        query = query_of(request)
        return Fail(500) if "fails" in query else Answer(f'"{query.upper()}"')

    rewritten = rewriting.rewriting(model, models.model(step))
    long = "x" * (rewriting.MAX_CHARACTERS + 1)
    assert await rewritten(["a", "fails", "b", long]) == ["A", "fails", "B", long]
    assert await rewriting.rewriting(model, None)(["a"]) == ["a"]


async def test_some_queries_are_worded_at_once(models: ModelServer, model: ChatModel) -> None:
    steps = [Hold(Answer("better")) for _ in range(MOST)]
    name = models.script(*steps)
    rewritten = rewriting.rewriting(model, name)
    work = asyncio.create_task(_list(rewritten, [f"query {n}" for n in range(MOST)]))
    await until(lambda: all(step.held.is_set() for step in steps[: rewriting.AT_ONCE]))
    assert len(models.requests(name)) == rewriting.AT_ONCE
    for step in steps:
        step.release()
    assert await work == ["better"] * MOST


async def test_queries_that_are_not_worded_in_time_stay(
    models: ModelServer, model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "PATIENCE", 0.2)
    steps = [Hold(Answer("better"), after="b") for _ in range(rewriting.AT_ONCE)]
    rewritten = rewriting.rewriting(model, models.script(*steps))
    # The last of them waits for its turn.
    queries = [f"query {n}" for n in range(rewriting.AT_ONCE + 1)]
    async with asyncio.timeout(SECONDS):
        assert await rewritten(queries) == queries


async def _list(rewritten: Any, queries: list[str]) -> list[str]:
    return [*await rewritten(queries)]
