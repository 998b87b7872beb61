"""Runs leave nothing large to the garbage collector, which looks seldom: see service/server.py."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from assistants.v1 import assistants_pb2, runs_pb2, threads_pb2

from service.runner.attempt import Attempt
from storage.messages import NewMessage
from tests.support.grpc.stubs import user
from tests.support.model_server import ModelServer
from tests.support.script import Answer
from tests.support.served import served
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def kept() -> list[object]:
    """What is there of runs: what they read, and what they were to begin with."""
    return [each for each in gc.get_objects() if isinstance(each, Attempt | NewMessage)]


@pytest.mark.parametrize("known", [True, False])
async def test_what_a_run_read_goes_with_it(
    tmp_path: Path, migrated_file: Path, models: ModelServer, known: bool
) -> None:
    """Also when there is no run: its assistant is not there."""
    model = models.script(Answer("Hello."))
    gc.collect()
    async with served(tmp_path, f"sqlite:///{migrated_file}", models) as stubs:
        create = assistants_pb2.CreateAssistantRequest(model=model)
        assistant = await stubs.assistants.CreateAssistant(create)
        new = runs_pb2.CreateThreadAndRunRequest(
            assistant_id=assistant.id if known else "asst_1",
            thread=threads_pb2.NewThread(messages=[user("Hi")]),
            stream=True,
        )
        try:
            events = [event async for event in stubs.runs.StreamThreadAndRun(new)]
            assert known and events
        except grpc.aio.AioRpcError as error:
            assert not known and error.code() == grpc.StatusCode.NOT_FOUND
        # The thread that writes may hold the last of what it was given.
        await stubs.assistants.CreateAssistant(create)
        async with asyncio.timeout(10):
            await until(lambda: not kept())
