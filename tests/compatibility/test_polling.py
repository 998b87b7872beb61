"""What polling helpers of clients go by: the header that says when to look again."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Hold
from tests.support.stack import Stack
from tests.support.waiting import until


async def test_a_look_at_a_run_says_when_to_look_again(
    client: openai.OpenAI, models: ModelServer, wire: Wire
) -> None:
    hold = Hold(Answer("Done."))
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    with ThreadPoolExecutor() as threads:
        # Without an interval of its own: the client obeys the header.
        polled = threads.submit(client.beta.threads.runs.poll, run.id, thread_id=run.thread_id)
        await until(lambda: wire.last.operation == "getRun")
        hold.release()
        assert polled.result().status == "completed"
    assert scene.steps(run)
    for exchange in wire.exchanges:
        after = exchange.headers.get("openai-poll-after-ms")
        assert after == ("250" if exchange.operation == "getRun" else None)
    looks = [each for each in wire.exchanges if each.operation == "getRun"]
    assert looks[-1].body["status"] == "completed"


@pytest.mark.parametrize(("age", "expected"), [(-3600, "200"), (10, "1000")])
def test_a_look_at_a_file_of_a_vector_store_says_when_to_look_again(
    client: openai.OpenAI, server: Stack, wire: Wire, age: int, expected: str
) -> None:
    """Of what was made ten seconds ago, and of what is new, which the future is for long."""
    stores = client.vector_stores
    file = client.files.create(file=("a.txt", b"Hello."), purpose="assistants")
    store = stores.create()
    batch = stores.file_batches.create(store.id, file_ids=[file.id])
    created = int(time.time()) - age
    path = server.database
    with closing(sqlite3.connect(path, timeout=60)) as database, database:
        for table in ("vector_store_files", "vector_store_batches"):
            changed = database.execute(
                f"UPDATE {table} SET created_at = ? WHERE vector_store_id = ?", [created, store.id]
            )
            assert changed.rowcount == 1
    stores.files.retrieve(file.id, vector_store_id=store.id)
    stores.file_batches.retrieve(batch.id, vector_store_id=store.id)
    stores.files.list(store.id)
    after = {each.operation: each.headers.get("openai-poll-after-ms") for each in wire.exchanges}
    looks = dict.fromkeys(("getVectorStoreFile", "getVectorStoreFileBatch"), expected)
    assert after == dict.fromkeys(after) | looks
