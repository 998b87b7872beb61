"""What polling helpers of clients go by: the header that says when to look again."""

from concurrent.futures import ThreadPoolExecutor

import openai

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Hold
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


def test_a_look_at_a_file_of_a_vector_store_says_when_to_look_again(
    client: openai.OpenAI, wire: Wire
) -> None:
    stores = client.vector_stores
    store = stores.create()
    entry = stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", b"Hello."))
    stores.file_batches.create_and_poll(store.id, file_ids=[entry.id])
    polled = {"getVectorStoreFile", "getVectorStoreFileBatch"}
    looks = [each for each in wire.exchanges if each.operation in polled]
    assert {each.operation for each in looks} == polled
    for exchange in wire.exchanges:
        after = exchange.headers.get("openai-poll-after-ms")
        assert after in (("200", "1000") if exchange in looks else (None,))
    assert looks[0].headers["openai-poll-after-ms"] == "200"
